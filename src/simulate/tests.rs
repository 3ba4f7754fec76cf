//! Whole simulations: small ones, whose figures can be told beforehand, and what must hold of all.

use super::{Drawn, Durations, Figures, Given, Layout, Model, Simulation, Trial, simulate};
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
    simulate(&Simulation { layout, numbers, policy: Policy::default(), records: true, until }, tasks).expect("it ends")
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
    let what = Simulation { layout: layout(1, 2, 1), numbers, policy, records: true, until: 1_000_000_000 };
    let error = simulate(&what, &drawn(10, "1s", true)).expect_err("five seconds are needed");
    assert!(error.to_string().starts_with("0 of 10 tasks have ended after"), "{error}");
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
