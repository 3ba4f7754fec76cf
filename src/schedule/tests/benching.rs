//! Nodes where nearly everything fails: what they cost, and whom that must not hit.

use super::{depth, layout, on_slingshot, one_core, rank, settings};
use crate::schedule::{Capacity, Down, FailedAttempt, Manager, ManagerAction, Policy, Report, Settings, Up, WorkRange};
use crate::simulate::testing::{Behaviour, Ended, Room};
use crate::simulate::{Drawn, Durations, Fault, Layout, OnBadNodes};
use crate::task::{BundleId, IndexRange, NodeId, RangeSet, Resources, Shape as TaskShape, Status};
use std::sync::Arc;

/// What starts on these nodes fails after 1 ms; elsewhere it takes so long and ends well.
fn fails_on(layout: Layout, nodes: &'static [u32], us: u64) -> Behaviour {
    Box::new(move |_, _, rank| match nodes.contains(&layout.node_of(rank).0) {
        true => (1_000, Status::Exit(1)),
        false => (us, Status::Ok),
    })
}

fn failed_attempts(done: &Ended, tasks: u64) -> u64 {
    done.attempts.values().map(|attempts| u64::from(*attempts)).sum::<u64>() - tasks
}

#[test]
fn a_bad_node_is_benched_and_costs_few_attempts() {
    // Four cores on each node: 16 attempts tell, and those that are under way meanwhile; then the trials.
    for levels in 2..=3 {
        for (bad, us) in [(&[1_u32], 10_000), (&[1], 1_000_000), (&[0], 100_000), (&[3], 100_000)] {
            let done = Room::new(depth(levels), settings()).run(400, one_core(3), fails_on(depth(levels), bad, us));
            let done = done.all_ended_once();
            assert_eq!((&done.benched[..], done.outcomes.failed.len()), (&bad[..], 0), "{us} µs, depth {levels}");
            let failed = failed_attempts(&done, 400);
            assert!(failed < 40, "{failed} attempts failed at depth {levels}, {us} µs");
        }
    }
}

#[test]
fn one_bad_node_of_many_costs_fewer_than_three_attempts_for_each_of_its_cores() {
    let shape = TaskShape { resources: Resources::ONE_CORE, retries: 3, calls: true };
    for duration in ["10ms", "100ms", "1s"] {
        let layout = Layout { nodes: 64, ranks_per_node: 32, slots: 1, fan_out: 16, dedicated_manager: false };
        let tasks = 10 * layout.all_slots().expect("so many there are");
        let durations = Durations::parse(duration).expect("a duration");
        let drawn = Drawn { tasks, shape, durations, seed: 1 };
        let figures = on_slingshot(layout, &OnBadNodes { drawn, layout, nodes: vec![40] });
        assert_eq!((figures.failed_tasks, &figures.benched_nodes[..]), (0, &[40][..]), "{duration}");
        assert!(figures.failed_attempts < 96, "{} failed attempts, {duration}", figures.failed_attempts);
        assert!(figures.utilisation > 0.8, "{} for {duration}", figures.utilisation);
    }
}

#[test]
fn several_bad_nodes_cost_no_more_than_each_by_itself() {
    let shape = TaskShape { resources: Resources::ONE_CORE, retries: 3, calls: true };
    for (nodes, bad) in [(16, &[3, 6][..]), (64, &[3, 6]), (64, &[2, 3, 4, 5, 40, 41, 62, 63])] {
        for duration in ["100ms", "1s"] {
            let layout = Layout { nodes, ranks_per_node: 32, slots: 1, fan_out: 64, dedicated_manager: false };
            let tasks = 10 * layout.all_slots().expect("so many there are");
            let durations = Durations::parse(duration).expect("a duration");
            let drawn = Drawn { tasks, shape, durations, seed: 1 };
            let figures = on_slingshot(layout, &OnBadNodes { drawn, layout, nodes: bad.to_vec() });
            let mut benched = figures.benched_nodes.clone();
            benched.sort_unstable();
            assert_eq!((figures.failed_tasks, &benched[..]), (0, bad), "{duration}, {nodes} nodes");
            let each = figures.failed_attempts / bad.len() as u64;
            assert!(each < 128, "{each} failed attempts for each, {duration}, {nodes} nodes");
        }
    }
}

#[test]
fn a_bad_node_is_benched_however_slow_its_files_are() {
    for slow_ms in [0, 20, 1_000, 3_000] {
        let shape = layout(8, 4, 4, 64);
        let behaviour = Box::new(move |index: u64, _, rank| match index >= 8_000 && shape.node_of(rank).0 == 2 {
            true => (1_000, Status::Exit(1)),
            false => (10_000, Status::Ok),
        });
        let mut room = Room::new(shape, settings());
        room.faults.slow_files = slow_ms * 1_000_000;
        let done = room.run(60_000, one_core(0), behaviour);
        assert_eq!(done.benched, [2], "writes of {slow_ms} ms");
        let failed = done.outcomes.failed.len();
        assert!(failed < 400, "{failed} tasks failed where writes take {slow_ms} ms");
    }
}

#[test]
fn however_slow_files_are_a_run_stops_when_too_many_fail() {
    for slow_ms in [0, 1_000, 5_000] {
        let settings = Settings { max_fails: Some(10), grace_us: 0, ..settings() };
        let mut room = Room::new(layout(8, 4, 4, 64), settings);
        room.faults.slow_files = slow_ms * 1_000_000;
        room.faults.passed_first = 0;
        let behaviour = Box::new(|index, _, _| (10_000, if index < 30_000 { Status::Ok } else { Status::Exit(1) }));
        let failed = room.run(60_000, one_core(0), behaviour).outcomes.failed.len();
        assert!((11..2_000).contains(&failed), "{failed} tasks failed where writes take {slow_ms} ms");
    }
}

#[test]
fn a_node_that_turns_bad_is_benched() {
    let bad = |index: u64, node: u32| index >= 2_000 && node == 2;
    let behaviour = Box::new(move |index, _, rank| match bad(index, depth(2).node_of(rank).0) {
        true => (1_000, Status::Exit(1)),
        false => (10_000, Status::Ok),
    });
    let done = Room::new(depth(2), settings()).run(10_000, one_core(3), behaviour).all_ended_once();
    assert_eq!((&done.benched[..], done.outcomes.failed.len()), (&[2][..], 0));
    let failed = failed_attempts(&done, 10_000);
    assert!(failed < 120, "{failed} attempts failed");
}

#[test]
fn where_everything_fails_nobody_is_benched_nor_waits() {
    for levels in 2..=3 {
        for (us, tasks) in [(1_000, 16_000), (100_000, 160)] {
            let room = || Room::new(depth(levels), settings());
            let fails = room().run(tasks, one_core(0), Box::new(move |_, _, _| (us, Status::Exit(1)))).all_ended_once();
            let well = room().run(tasks, one_core(0), Box::new(move |_, _, _| (us, Status::Ok))).all_ended_once();
            assert_eq!(fails.benched, Vec::<u32>::new());
            let ratio = fails.last_end_us as f64 / well.last_end_us as f64;
            assert!(ratio < 1.1, "{ratio} times as long, {us} µs at depth {levels}");
        }
    }
}

#[test]
fn tasks_that_fail_everywhere_bench_nobody_though_they_are_neighbours() {
    for levels in 2..=3 {
        for (bad, us) in [(0..40, 100_000), (0..40, 5_000), (500..800, 5_000), (500..540, 100_000), (300..2_000, 1_000)]
        {
            let behaviour = Box::new(move |index, _, _| match bad.contains(&index) {
                true => (1_000, Status::Exit(1)),
                false => (us, Status::Ok),
            });
            for retries in [0, 2] {
                let room = Room::new(depth(levels), settings());
                let done = room.run(3_000, one_core(retries), behaviour.clone()).all_ended_once();
                assert_eq!(done.benched, Vec::<u32>::new(), "{us} µs, {retries} retries, depth {levels}");
            }
        }
    }
}

/// Which of a million this index is, the same each time: for what is to look random.
fn of_a_million(index: u64, salt: u64) -> u64 {
    let mixed = (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (salt << 32);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 33) & 0xF_FFFF
}

#[test]
fn failures_that_are_spread_over_time_bench_nobody() {
    for (stretch, most_us) in [(100, 100_000), (400, 100_000), (400, 1_000_000)] {
        let behaviour: Behaviour = Box::new(move |index, _, _| match index < stretch {
            true => (1_000 + of_a_million(index, 3) * most_us / 1_048_576, Status::Exit(1)),
            false => (most_us / 20 + of_a_million(index, 5) * most_us / 10_485_760, Status::Ok),
        });
        let done = Room::new(layout(16, 1, 16, 128), settings()).run(8_000, one_core(0), behaviour).all_ended_once();
        assert_eq!(done.benched, Vec::<u32>::new(), "{stretch} tasks of {most_us} µs at the most");
    }
}

#[test]
fn long_tasks_beside_others_that_all_fail_hold_nobody_back() {
    // Whoever runs the long ones has ended nothing but good ones so far.
    for long in [8, 16, 24] {
        let run = |fails: bool| {
            let behaviour: Behaviour = Box::new(move |index, _, _| match index {
                0..2_000 => (1_000, Status::Ok),
                _ if index < 2_000 + long => (10_000_000, Status::Ok),
                _ if fails && index < 20_000 => (1_000, Status::Exit(1)),
                _ => (1_000, Status::Ok),
            });
            Room::new(layout(8, 1, 4, 64), settings()).run(24_000, one_core(0), behaviour).all_ended_once()
        };
        let (fails, well) = (run(true), run(false));
        assert_eq!(fails.benched, Vec::<u32>::new(), "{long} long tasks");
        let ratio = fails.last_end_us as f64 / well.last_end_us as f64;
        assert!(ratio < 1.1, "{ratio} times as long with {long} long tasks");
    }
}

#[test]
fn where_most_fails_everywhere_nobody_waits_for_long() {
    for us in [1_000, 10_000] {
        let run = |of_a_hundred: u64| {
            let behaviour: Behaviour =
                Box::new(move |index, _, _| match of_a_million(index, 7) < of_a_hundred * 10_486 {
                    true => (us, Status::Exit(1)),
                    false => (us, Status::Ok),
                });
            Room::new(layout(16, 2, 8, 64), settings()).run(20_000, one_core(0), behaviour).all_ended_once()
        };
        let (fails, well) = (run(85), run(0));
        assert_eq!(fails.benched, Vec::<u32>::new());
        assert!((15_000..19_000).contains(&fails.outcomes.failed.len()), "{} failed", fails.outcomes.failed.len());
        let ratio = fails.last_end_us as f64 / well.last_end_us as f64;
        assert!(ratio < 1.15, "{ratio} times as long, {us} µs");
    }
}

#[test]
fn the_last_node_is_never_benched() {
    // Node 0 is bad; node 1 is lost when that is known.
    let shape = layout(2, 2, 2, 64);
    let room = Room::new(shape, settings()).at(2_000_000, Fault::LoseNode(rank(2)));
    let done = room.run(400, one_core(3), fails_on(shape, &[0], 100_000)).all_ended_once();
    assert_eq!(done.benched, [0]);
    assert!(done.outcomes.failed.len() > 100, "{} failed", done.outcomes.failed.len());
}

/// A manager of two workers on nodes of their own.
struct Two {
    manager: Manager,
    out: Vec<ManagerAction>,
    now: u64,
}

impl Two {
    fn new(cores: [u32; 2]) -> Self {
        let mut manager = Manager::new(Policy::default(), Settings { nodes: 2, ..settings() }, &[rank(1), rank(2)]);
        let shape = TaskShape { retries: 9, ..TaskShape::PROCESS };
        manager.add_bundle(BundleId(0), 100_000, RangeSet::new(), Arc::new(shape));
        let mut out = Vec::new();
        manager.open(0, &mut out);
        for (child, cores) in (1..).zip(cores) {
            let total = Resources { cores, gpus: 0 };
            let node = Some(NodeId(child));
            let capacity = Capacity { total, widest: total, node, horizon_us: 0, workers: 1, nodes: 1 };
            manager.on_child(0, rank(child), Up::Hello { epoch: 1, capacity }, &mut out);
        }
        Self { manager, out, now: 0 }
    }

    /// What was handed to the child since this was asked last.
    fn handed(&mut self, to: u32) -> Vec<WorkRange> {
        let (mut handed, mut rest) = (Vec::new(), Vec::new());
        for action in std::mem::take(&mut self.out) {
            match action {
                ManagerAction::ToChild(child, Down::Hand { ranges, .. }) if child == rank(to) => handed.extend(ranges),
                other => rest.push(other),
            }
        }
        self.out = rest;
        handed
    }

    /// All that was handed to the child fails, or ends well, after 10 ms; how many tasks that is.
    fn ends(&mut self, child: u32, well: bool) -> u64 {
        let ranges = self.handed(child);
        self.now += 10_000;
        let all: u64 = ranges.iter().map(|given| given.range.len()).sum();
        let mut report = Report { attempts: all, attempt_cores: all, busy_core_us: 10_000 * all, ..Report::default() };
        report.hands = u32::MAX;
        for WorkRange { work, range } in ranges {
            if well {
                report.ended(work.bundle, range, crate::task::OutcomeClass::Ok);
                continue;
            }
            let each = (range.start..range.end).map(|index| WorkRange { work, range: IndexRange::one(index) });
            let node = Some(NodeId(child));
            report.failed.extend(each.map(|task| FailedAttempt { task, node, crashed: false }));
        }
        self.manager.on_child(self.now, rank(child), Up::Report { epoch: 1, report }, &mut self.out);
        self.manager.check().expect("every rule holds");
        all
    }

    /// Rounds of it; how many tasks the first child got, and whether it is benched.
    fn rounds(&mut self, rounds: u32, well: [bool; 2]) -> (u64, bool) {
        let mut got = 0;
        for _ in 0..rounds {
            got += self.ends(1, well[0]);
            self.ends(2, well[1]);
            self.now += 10_000;
            self.manager.step(self.now, &mut self.out);
        }
        (got, !self.manager.benched().is_empty())
    }
}

#[test]
fn a_child_where_all_fails_gets_trials_and_then_nothing() {
    let mut two = Two::new([16, 16]);
    let (got, benched) = two.rounds(200, [false, true]);
    assert!(benched && got < 40, "{got}, benched: {benched}");
    assert_eq!(two.rounds(200, [false, true]).0, 0, "it stays benched");
    let told = two.out.iter().filter(|action| matches!(action, ManagerAction::Benched(NodeId(1)))).count();
    assert_eq!(told, 1, "that is said once");
}

#[test]
fn a_suspect_whose_trials_end_well_gets_as_much_as_before() {
    let mut two = Two::new([16, 16]);
    let (few, _) = two.rounds(3, [false, true]);
    let (many, benched) = two.rounds(40, [true, true]);
    assert!(!benched && few < 40 && many > 400, "{few}, then {many}");
}

#[test]
fn a_child_that_alone_can_host_wide_tasks_is_not_benched() {
    assert!(!Two::new([16, 8]).rounds(200, [false, true]).1);
    assert!(Two::new([8, 16]).rounds(200, [false, true]).1);
}
