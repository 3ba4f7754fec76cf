//! Whole simulations: small ones, whose figures can be told beforehand, and what must hold of all.

use super::run::simulate_checked;
use super::{
    Drawn, Durations, Figures, Given, Layout, Losses, Model, Nanos, SimulateError, Simulation, Trial, simulate,
};
use crate::schedule::Policy;
use crate::task::{Resources, Shape};
use proptest::prelude::*;

fn layout(nodes: u32, ranks_per_node: u32, slots: u32) -> Layout {
    Layout { nodes, ranks_per_node, slots, fan_out: 8, dedicated_manager: false }
}

fn drawn(tasks: u64, durations: &str, calls: bool) -> Drawn {
    let shape = Shape { resources: Resources::ONE_CORE, retries: 0, calls };
    Drawn { tasks, shape, durations: Durations::parse(durations).expect("it is a duration"), seed: 1 }
}

fn run(layout: Layout, tasks: &Drawn) -> Figures {
    let numbers = Model::named("local").expect("it is built in").numbers();
    let until = 1_000_000_000_000_000;
    simulate(&Simulation { layout, numbers, policy: Policy::default(), records: true, losses: None, until }, tasks)
        .expect("it ends")
}

#[test]
fn long_tasks_take_as_long_as_list_scheduling_says() {
    for (layout, calls) in [(layout(1, 2, 1), true), (layout(2, 2, 2), false), (layout(20, 4, 1), true)] {
        let slots = u64::from(layout.ranks() * layout.slots);
        let figures = run(layout, &drawn(10 * slots, "1s", calls));
        assert_eq!((figures.tasks, figures.slots), (10 * slots, slots));
        let makespan = figures.makespan_seconds;
        assert!((10.0..10.3).contains(&makespan), "{makespan} s on {layout:?}");
        assert!(figures.utilisation > 0.97, "{} on {layout:?}", figures.utilisation);
    }
}

#[test]
fn the_same_seed_gives_the_same_figures_and_another_one_others() {
    let tasks = drawn(5_000, "exp:3ms", true);
    let other = Drawn { seed: 2, ..tasks.clone() };
    let [first, again, other] = [&tasks, &tasks, &other].map(|tasks| run(layout(6, 4, 1), tasks));
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn messages_count_ranges_and_not_tasks() {
    let few = run(layout(4, 4, 1), &drawn(100_000, "10us", true));
    let many = run(layout(4, 4, 1), &drawn(1_000_000, "10us", true));
    assert!(many.manager_messages < 10 * few.manager_messages);
    assert!(many.manager_messages < 10_000, "{} messages", many.manager_messages);
    assert_eq!(many.messages_by_level.len(), 2);
}

#[test]
fn a_run_that_may_not_last_long_enough_is_given_up() {
    let numbers = Model::named("local").expect("it is built in").numbers();
    let policy = Policy::default();
    let what =
        Simulation { layout: layout(1, 2, 1), numbers, policy, records: true, losses: None, until: 1_000_000_000 };
    let error = simulate(&what, &drawn(10, "1s", true)).expect_err("five seconds are needed");
    assert!(error.to_string().starts_with("0 of 10 tasks have ended after"), "{error}");
}

const MILLI: Nanos = 1_000_000;

fn losing(layout: Layout, nodes: &[u32], at: Nanos, patience: Nanos) -> Simulation {
    let numbers = Model::named("local").expect("it is built in").numbers();
    let losses = Some(Losses { nodes: nodes.to_vec(), at, patience });
    Simulation { layout, numbers, policy: Policy::default(), records: true, losses, until: 1_000_000 * 1_000 * MILLI }
}

/// The figures of a run that loses nodes; every event is checked, which changes nothing.
fn run_losing(what: &Simulation, tasks: &Drawn) -> Figures {
    let checked = simulate_checked(what, tasks).expect("it ends, and every rule holds");
    assert_eq!(checked, simulate(what, tasks).expect("it ends"));
    assert_eq!(checked.tasks, tasks.tasks);
    checked
}

#[test]
fn a_lost_node_takes_its_own_slots_along_and_what_it_had_runs_elsewhere() {
    for calls in [true, false] {
        let what = losing(layout(6, 4, 1), &[2], 1_050 * MILLI, 500 * MILLI);
        let figures = run_losing(&what, &drawn(24 * 30, "100ms", calls));
        assert_eq!((&figures.lost_nodes[..], figures.lost_slots, figures.orphaned_slots), (&[2][..], 4, 0));
        // One ran on each of its slots, and its last report may not have been taken up.
        let Figures { rerun_tasks, requeued_tasks, makespan_seconds, .. } = figures;
        assert!((4..=8).contains(&rerun_tasks), "{rerun_tasks} run again");
        assert!((rerun_tasks..=24).contains(&requeued_tasks), "{requeued_tasks} put back");
        // 720 tasks, of which four slots of 24 ran ten each.
        assert!((3.4..3.7).contains(&makespan_seconds), "{makespan_seconds} s");
    }
}

#[test]
fn the_first_node_of_a_group_takes_the_group_along_for_good() {
    // Nine nodes in groups of three; node 3 speaks for 4 and 5.
    let layout = Layout { fan_out: 3, ..layout(9, 2, 1) };
    let what = losing(layout, &[3, 3], 3_050 * MILLI, 1_000 * MILLI);
    let figures = run_losing(&what, &drawn(18 * 100, "100ms", true));
    assert_eq!((&figures.lost_nodes[..], figures.lost_slots, figures.orphaned_slots), (&[3][..], 6, 4));
    let Figures { rerun_tasks, requeued_tasks, makespan_seconds, .. } = figures;
    assert!(rerun_tasks >= 6 && rerun_tasks <= requeued_tasks, "{rerun_tasks} of {requeued_tasks} run again");
    // 180 s of work, of which the group told about 17 s: the other twelve slots have the rest.
    assert!((13.5..13.9).contains(&makespan_seconds), "{makespan_seconds} s");
}

#[test]
fn a_loss_after_the_end_is_none() {
    let tasks = drawn(5_000, "exp:3ms", true);
    let figures = run_losing(&losing(layout(6, 4, 1), &[1, 2], 3_600_000 * MILLI, MILLI), &tasks);
    assert_eq!(figures, run(layout(6, 4, 1), &tasks));
}

#[test]
fn a_run_that_loses_its_last_slots_says_so() {
    let layout = Layout { dedicated_manager: true, ..layout(3, 2, 1) };
    let error = simulate_checked(&losing(layout, &[1, 2], 50 * MILLI, 20 * MILLI), &drawn(100, "10ms", true));
    assert!(matches!(error, Err(SimulateError::NoSlots { ended: 1..100, tasks: 100 })), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_run_ends_and_takes_no_less_than_its_tasks(
        nodes in 1u32..7, ranks in 1u32..5, slots in 1u32..4, tasks in 1u64..2_000, kind in 0usize..5, calls in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let durations = ["0", "30us", "exp:2ms", "lognormal:20ms,1", "bimodal:1ms,2s,0.01"][kind];
        let tasks = Drawn { seed, ..drawn(tasks, durations, calls) };
        let layout = layout(nodes, ranks, slots);
        let figures = run(layout, &tasks);
        prop_assert_eq!(figures.tasks, tasks.tasks);
        // No schedule is shorter than the work divided by the slots, nor than the longest task.
        let each = || (0..tasks.tasks).map(|index| tasks.durations.duration_ns(seed, index));
        let slots = u64::from(layout.ranks() * layout.slots);
        let least = (each().sum::<u64>() / slots).max(each().max().unwrap_or(0));
        prop_assert!(figures.makespan_seconds * 1e9 + 1.0 >= least as f64);
        prop_assert!(figures.utilisation <= 1.0);
    }

    #[test]
    fn any_run_that_loses_nodes_ends_with_every_task(
        nodes in 2u32..12, ranks in 1u32..4, slots in 1u32..3, fan_out in 2u32..5, tasks in 1u64..1_000, kind in 0usize..4,
        calls in any::<bool>(), picks in prop::collection::vec(any::<prop::sample::Index>(), 1..4), at in 0..2_000 * MILLI,
        patience in MILLI..1_000 * MILLI,
    ) {
        let lost: Vec<u32> = picks.iter().map(|pick| 1 + pick.index(nodes as usize - 1) as u32).collect();
        let durations = ["30us", "exp:2ms", "lognormal:20ms,1", "300ms"][kind];
        let layout = Layout { fan_out, ..layout(nodes, ranks, slots) };
        let figures = run_losing(&losing(layout, &lost, at, patience), &drawn(tasks, durations, calls));
        prop_assert!(figures.rerun_tasks <= figures.requeued_tasks);
        prop_assert!(figures.lost_slots >= figures.orphaned_slots + figures.lost_nodes.len() as u64);
        prop_assert!(figures.lost_slots < figures.slots, "those of rank 0's node are left");
    }
}

/// Runs the trial of a seed.
fn trial(seed: u64) -> super::Passed {
    let trial = Trial::draw(seed, &Given::default()).expect("nothing is given");
    trial.run().unwrap_or_else(|failed| panic!("{failed}; again: myriarch simulate --faults {seed}"))
}

#[test]
fn runs_with_faults_of_fixed_seeds_break_no_rule_and_end() {
    let faults: u64 = (0..300).map(|seed| trial(seed).happened).sum();
    assert!(faults > 1_000, "{faults} faults came to pass");
}

#[test]
fn runs_with_faults_of_fresh_seeds_break_no_rule_and_end() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    let first = now.as_nanos() as u64;
    println!("seeds from {first} on");
    (first..first + 150).for_each(|seed| drop(trial(seed)));
}

#[test]
fn the_same_seed_does_the_same_and_another_one_something_else() {
    for seed in [1, 5, 7] {
        assert_eq!(trial(seed), trial(seed));
        assert_ne!(trial(seed).trace, trial(seed + 1).trace);
    }
}
