//! A test for each defect that was found in the scheduler.

use super::{rank, settings};
use crate::schedule::{
    AttemptEnd, Capacity, Down, FailedAttempt, Manager, ManagerAction, Policy, Report, Section, Settings, Shapes,
    SubAction, SubManager, Unstarted, Up, Verdict, Work, WorkRange, Worker, WorkerAction,
};
use crate::task::{
    BundleId, EndedBy, EndedRun, Extent, IndexRange, NodeId, OutcomeClass, RangeSet, Rank, Resources,
    Shape as TaskShape,
};
use std::sync::Arc;

fn hello(cores: u32, gpus: u32, node: u32) -> Up {
    let total = Resources { cores, gpus };
    let capacity = Capacity { total, widest: total, node: Some(NodeId(node)), horizon_us: 0, workers: 1, nodes: 1 };
    Up::Hello { epoch: 1, capacity }
}

fn hello_under(epoch: u32) -> Up {
    match hello(1, 0, 0) {
        Up::Hello { capacity, .. } => Up::Hello { epoch, capacity },
        other => other,
    }
}

fn handed_to(out: &[ManagerAction], to: u32) -> Vec<WorkRange> {
    let ranges = |action: &ManagerAction| match action {
        ManagerAction::ToChild(child, Down::Hand { ranges, .. }) if *child == rank(to) => ranges.clone(),
        _ => Vec::new(),
    };
    out.iter().flat_map(ranges).collect()
}

fn tasks(ranges: &[WorkRange]) -> u64 {
    ranges.iter().map(|given| given.range.len()).sum()
}

fn manager_of_two(settings: Settings, tasks: u64, shapes: Arc<dyn Shapes>) -> Manager {
    let mut manager = Manager::new(Policy::default(), settings, &[rank(1), rank(2)]);
    manager.add_bundle(BundleId(0), tasks, RangeSet::new(), shapes);
    manager.open(0, &mut Vec::new());
    manager
}

#[test]
fn a_task_is_tried_again_where_it_failed_when_it_fits_nowhere_else() {
    let eight = TaskShape { resources: Resources { cores: 8, gpus: 0 }, retries: 1, calls: false };
    let mut manager = manager_of_two(Settings { nodes: 2, ..settings() }, 1, Arc::new(eight));
    let mut out = Vec::new();
    manager.on_child(1, rank(1), hello(8, 0, 0), &mut out);
    manager.on_child(1, rank(2), hello(4, 0, 1), &mut out);
    let task = handed_to(&out, 1)[0];
    out.clear();
    let failed = vec![FailedAttempt { task, node: Some(NodeId(0)), crashed: false }];
    let report = Report { failed, attempts: 1, attempt_cores: 8, busy_core_us: 8, ..Report::default() };
    manager.on_child(2, rank(1), Up::Report { epoch: 1, report }, &mut out);
    assert_eq!(tasks(&handed_to(&out, 1)), 1, "{out:?}");
}

#[test]
fn the_limit_of_running_tasks_counts_tasks_and_not_cores() {
    let four = TaskShape { resources: Resources { cores: 4, gpus: 0 }, ..TaskShape::PROCESS };
    let mut manager = manager_of_two(Settings { max_running: Some(8), ..settings() }, 100, Arc::new(four));
    let mut out = Vec::new();
    manager.on_child(1, rank(1), hello(32, 0, 0), &mut out);
    assert_eq!(tasks(&handed_to(&out, 1)), 8);
}

/// A hundred tasks that take a GPU, before all others.
struct GpuFirst;
impl Shapes for GpuFirst {
    fn run_at(&self, range: IndexRange) -> (u64, TaskShape) {
        let resources = Resources { cores: 1, gpus: 1 };
        match range.start {
            0..100 => (100.min(range.end), TaskShape { resources, ..TaskShape::PROCESS }),
            _ => (range.end, TaskShape::PROCESS),
        }
    }
}

#[test]
fn tasks_that_fit_no_idle_node_do_not_hold_up_those_behind_them() {
    let mut manager = manager_of_two(settings(), 1_000, Arc::new(GpuFirst));
    let mut out = Vec::new();
    manager.on_child(1, rank(1), hello(8, 4, 0), &mut out);
    manager.on_child(1, rank(2), hello(8, 0, 1), &mut out);
    assert!(tasks(&handed_to(&out, 2)) > 0, "the node without GPUs has work");
}

#[test]
fn however_many_ask_for_the_end_each_child_is_told_once() {
    let one = TaskShape::PROCESS;
    let mut manager = manager_of_two(settings(), 100, Arc::new(one));
    let mut out = Vec::new();
    manager.on_child(1, rank(1), hello(8, 0, 0), &mut out);
    manager.on_child(1, rank(2), hello(8, 0, 0), &mut out);
    out.clear();
    (0..100).for_each(|_| manager.drain(2, EndedBy::Signal, 20_000_000, &mut out));
    assert_eq!(out.len(), 2, "{out:?}");
    manager.drain(3, EndedBy::Signal, 0, &mut out);
    assert_eq!(out.len(), 4, "less time is news");
}

#[test]
fn what_of_a_run_was_not_held_does_not_take_the_rest_with_it() {
    let one = TaskShape::PROCESS;
    let mut manager = manager_of_two(settings(), 8, Arc::new(one));
    let mut out = Vec::new();
    manager.on_child(1, rank(1), hello(4, 0, 0), &mut out);
    let mut report = Report::default();
    report.ended(BundleId(0), IndexRange::new(2, 6), OutcomeClass::Ok);
    manager.on_child(2, rank(1), Up::Report { epoch: 1, report }, &mut out);
    assert_eq!(manager.ended_tasks(), 2, "tasks 2 and 3 were held and have ended");
}

#[test]
fn tasks_that_take_gpus_are_spread_by_gpus_and_not_by_cores() {
    let gpu = TaskShape { resources: Resources { cores: 1, gpus: 1 }, ..TaskShape::PROCESS };
    let mut manager = manager_of_two(settings(), 64, Arc::new(gpu));
    let mut out = Vec::new();
    manager.on_child(1, rank(1), hello(64, 4, 0), &mut out);
    manager.on_child(1, rank(2), hello(64, 4, 1), &mut out);
    assert_eq!((tasks(&handed_to(&out, 1)), tasks(&handed_to(&out, 2))), (4, 4));
}

#[test]
fn tasks_that_take_gpus_leave_room_for_those_that_do_not() {
    let mut manager = manager_of_two(settings(), 200, Arc::new(GpuFirst));
    let mut out = Vec::new();
    manager.on_child(1, rank(1), hello(8, 4, 0), &mut out);
    let handed = handed_to(&out, 1);
    let with_gpu: u64 =
        handed.iter().filter(|given| given.work.resources.gpus > 0).map(|given| given.range.len()).sum();
    assert_eq!((with_gpu, tasks(&handed)), (4, 8), "{handed:?}");
}

#[test]
fn work_that_crosses_a_report_can_be_asked_back() {
    let one = TaskShape::PROCESS;
    let mut manager = manager_of_two(settings(), 8, Arc::new(one));
    let mut out = Vec::new();
    manager.on_child(1, rank(1), hello(4, 0, 0), &mut out);
    let ended = |start, end, hands| {
        let cores = end - start;
        let mut report = Report {
            attempts: cores,
            attempt_cores: cores,
            busy_core_us: cores * 1_000_000,
            hands,
            ..Report::default()
        };
        report.ended(BundleId(0), IndexRange::new(start, end), OutcomeClass::Ok);
        Up::Report { epoch: 1, report }
    };
    manager.on_child(1_000_000, rank(1), ended(0, 2, 1), &mut out);
    assert_eq!(tasks(&handed_to(&out, 1)), 8, "all that there is");
    // It had not seen the second hand-out when it said this.
    manager.on_child(1_000_010, rank(1), ended(2, 3, 1), &mut out);
    out.clear();
    manager.on_child(1_000_020, rank(2), hello(4, 0, 1), &mut out);
    let recalled = |action: &ManagerAction| matches!(action, ManagerAction::ToChild(_, Down::Recall { .. }));
    assert!(out.iter().any(recalled), "{out:?}");
}

fn range_of(start: u64, end: u64, gpus: u32) -> WorkRange {
    let resources = Resources { cores: 1, gpus };
    let work = Work {
        bundle: BundleId(0),
        resources,
        retries: 0,
        calls: false,
        attempt: 0,
        crashes: 0,
        apart: false,
        avoid: None,
    };
    WorkRange { work, range: IndexRange::new(start, end) }
}

/// A worker that was handed these ranges, and what it wanted done.
fn worker_with(cores: u32, gpus: u32, ranges: Vec<WorkRange>) -> (Worker, Vec<WorkerAction>) {
    let mut worker = Worker::new(NodeId(0), Resources { cores, gpus }, 5);
    let mut out = Vec::new();
    worker.on_message(0, Down::Welcome { epoch: 1, pace_us: 1_000 }, &mut out);
    worker.on_message(0, Down::Hand { epoch: 1, ranges }, &mut out);
    worker.check().unwrap();
    (worker, out)
}

fn returned(out: &[WorkerAction]) -> Vec<WorkRange> {
    let ranges = |action: &WorkerAction| match action {
        WorkerAction::ToParent(Up::Report { report, .. }) => report.returned.clone(),
        _ => Vec::new(),
    };
    out.iter().flat_map(ranges).collect()
}

#[test]
fn tasks_that_wait_for_gpus_do_not_keep_others_from_free_cores() {
    let (_, out) = worker_with(8, 4, vec![range_of(0, 8, 1), range_of(8, 20, 0)]);
    let started = |action: &WorkerAction| match action {
        WorkerAction::Start(run) => Some(run.range.start),
        _ => None,
    };
    assert_eq!(out.iter().filter_map(started).collect::<Vec<_>>(), [0, 1, 2, 3, 8, 9, 10, 11]);
}

#[test]
fn what_takes_gpus_is_not_given_back_to_who_has_none() {
    let (mut worker, mut out) = worker_with(4, 4, vec![range_of(0, 10, 0), range_of(10, 14, 1)]);
    out.clear();
    worker.on_message(1, Down::Recall { epoch: 1, cores: 4, gpus: false }, &mut out);
    assert_eq!(returned(&out), [range_of(6, 10, 0)]);
    out.clear();
    worker.on_message(2, Down::Recall { epoch: 1, cores: 3, gpus: true }, &mut out);
    assert_eq!(returned(&out), [range_of(11, 14, 1)]);
    worker.check().unwrap();
}

#[test]
fn a_child_that_says_what_cannot_be_is_believed_no_further_than_it_holds() {
    let one = TaskShape::PROCESS;
    let mut manager = manager_of_two(settings(), 8, Arc::new(one));
    let mut out = Vec::new();
    manager.on_child(1, rank(1), hello(4, 0, 0), &mut out);
    manager.on_child(1, rank(2), hello(4, 0, 1), &mut out);
    for (cores, gpu_cores) in [(1, 2), (u64::MAX, 0), (u64::MAX, u64::MAX), (0, u64::MAX)] {
        for hands in [0, 1, u32::MAX] {
            let report =
                Report { unstarted: Unstarted { cores, gpu_cores }, hands, recall_answered: true, ..Report::default() };
            manager.on_child(2, rank(1), Up::Report { epoch: 1, report }, &mut out);
            manager.check().unwrap();
        }
    }
}

#[test]
fn a_task_that_ends_well_because_it_was_told_to_end_has_not_done_its_work() {
    let (mut worker, mut out) = worker_with(1, 0, vec![range_of(0, 1, 0)]);
    out.clear();
    worker.on_message(1, Down::Drain { epoch: 1, grace_us: 0 }, &mut out);
    assert!(out.contains(&WorkerAction::Kill { slot: 0 }));
    let end = AttemptEnd { status: &crate::task::Status::Ok, killed: true, crashed: false };
    assert_eq!(worker.on_ended(2, 0, end), Verdict::NotFinal);
    out.clear();
    worker.step(3, &mut out);
    assert_eq!(returned(&out), [range_of(0, 1, 0)]);
}

#[test]
fn that_nobody_has_cores_is_known_before_anything_was_handed_out() {
    let mut manager = manager_of_two(settings(), 8, Arc::new(TaskShape::PROCESS));
    let mut out = Vec::new();
    manager.on_child(1, rank(1), hello(0, 0, 0), &mut out);
    assert!(!manager.is_without_cores(), "another child may have some");
    manager.on_lost(2, rank(2), &mut out);
    assert!(manager.is_without_cores());
}

#[test]
fn a_worker_that_has_ended_and_is_welcomed_anew_ends_again() {
    let (mut worker, mut out) = worker_with(1, 0, Vec::new());
    for epoch in 1..=2 {
        worker.on_message(1, Down::Welcome { epoch, pace_us: 1_000 }, &mut out);
        out.clear();
        worker.on_message(2, Down::End { epoch }, &mut out);
        assert!(out.contains(&WorkerAction::ToParent(Up::Bye { epoch })), "{out:?} under epoch {epoch}");
    }
}

#[test]
fn a_sub_manager_that_has_ended_and_is_welcomed_anew_ends_again() {
    let mut sub = SubManager::new(Policy::default(), &[rank(1)]);
    let mut out = Vec::new();
    sub.open(&mut out);
    for epoch in 1..=2 {
        sub.on_parent(1, Down::Welcome { epoch, pace_us: 1_000 }, &mut out);
        sub.on_child(2, rank(1), hello_under(epoch), &mut out);
        sub.on_parent(3, Down::End { epoch }, &mut out);
        out.clear();
        sub.on_child(4, rank(1), Up::Bye { epoch }, &mut out);
        assert!(out.contains(&SubAction::ToParent(Up::Bye { epoch })), "{out:?} under epoch {epoch}");
    }
}

#[test]
fn idle_cores_do_not_keep_back_what_waits_for_gpus() {
    let mut sub = SubManager::new(Policy::default(), &[rank(1)]);
    let mut out = Vec::new();
    sub.open(&mut out);
    sub.on_parent(1, Down::Welcome { epoch: 1, pace_us: 1_000 }, &mut out);
    sub.on_child(2, rank(1), hello(16, 4, 0), &mut out);
    sub.on_parent(3, Down::Hand { epoch: 1, ranges: vec![range_of(0, 8, 1)] }, &mut out);
    out.clear();
    // Four run on the GPUs, twelve cores are idle; four wait, and another node has idle GPUs.
    sub.on_parent(4, Down::Recall { epoch: 1, cores: 4, gpus: true }, &mut out);
    let given = out.iter().filter_map(|action| match action {
        SubAction::ToParent(Up::Report { report, .. }) if report.recall_answered => Some(tasks(&report.returned)),
        _ => None,
    });
    assert_eq!(given.collect::<Vec<_>>(), [4], "{out:?}");
}

/// A sub-manager that keeps segment 7 and holds ten tasks, of which the first two have ended; the second has its record at
/// the bytes from 10 on. What it says first.
fn keeper() -> (SubManager, Vec<Report>) {
    let mut sub = SubManager::new(Policy::default(), &[rank(1)]).keeping(7);
    let mut out = Vec::new();
    sub.open(&mut out);
    sub.on_parent(1, Down::Welcome { epoch: 1, pace_us: 1_000 }, &mut out);
    sub.on_child(2, rank(1), hello(2, 0, 0), &mut out);
    sub.on_parent(3, Down::Hand { epoch: 1, ranges: vec![range_of(0, 10, 0)] }, &mut out);
    out.clear();
    for index in 0..2 {
        let extent = Some(Extent { segment: 7, offset: index * 10, len: 10 });
        let runs = vec![EndedRun { range: IndexRange::one(index), class: OutcomeClass::Ok }];
        let sections = vec![Section { bundle: BundleId(0), extent, runs }];
        let report = Report { sections, attempts: 1, attempt_cores: 1, busy_core_us: 100, ..Report::default() };
        sub.on_child(10_000 * (1 + index), rank(1), Up::Report { epoch: 1, report }, &mut out);
    }
    (sub, reports(&out))
}

fn reports(out: &[SubAction]) -> Vec<Report> {
    let report = |action: &SubAction| match action {
        SubAction::ToParent(Up::Report { report, .. }) => Some(report.clone()),
        _ => None,
    };
    out.iter().filter_map(report).collect()
}

fn told(reports: &[Report]) -> Vec<IndexRange> {
    reports.iter().flat_map(|report| &report.sections).flat_map(|section| &section.runs).map(|run| run.range).collect()
}

#[test]
fn that_tasks_have_ended_is_known_before_their_records_are_written_and_which_are_not() {
    let (mut sub, said) = keeper();
    assert_eq!(told(&said), []);
    assert_eq!(said.iter().map(|report| (report.attempts, report.untold.tasks)).collect::<Vec<_>>(), [(1, 1), (1, 2)]);
    let (mut out, second) = (Vec::new(), 1_000_000);
    sub.on_written(second, 19, &mut out);
    assert_eq!((told(&reports(&out)), reports(&out)[0].untold.tasks), (vec![IndexRange::one(0)], 1));
    out.clear();
    sub.on_written(2 * second, 19, &mut out);
    assert_eq!(out, [], "nothing new is written");
    sub.on_written(2 * second, 20, &mut out);
    assert_eq!((told(&reports(&out)), reports(&out)[0].untold.tasks), (vec![IndexRange::one(1)], 0));
}

#[test]
fn what_cannot_be_written_is_given_back_and_what_was_written_before_is_told() {
    let (mut sub, _) = keeper();
    let (mut out, second) = (Vec::new(), 1_000_000);
    sub.on_written(second, 10, &mut out);
    sub.on_unwritable(second, &mut out);
    let mut returned: Vec<_> = reports(&out).into_iter().flat_map(|report| report.returned).collect();
    let extent = Some(Extent { segment: 7, offset: 20, len: 10 });
    let runs = vec![EndedRun { range: IndexRange::one(2), class: OutcomeClass::Ok }];
    let report = Report { sections: vec![Section { bundle: BundleId(0), extent, runs }], ..Report::default() };
    let mut later = Vec::new();
    sub.on_child(2 * second, rank(1), Up::Report { epoch: 1, report }, &mut later);
    returned.extend(reports(&later).into_iter().flat_map(|report| report.returned));
    assert_eq!(told(&reports(&out)), [IndexRange::one(0)]);
    assert_eq!(returned.iter().map(|given| given.range).collect::<Vec<_>>(), [1, 2].map(IndexRange::one));
}

#[test]
fn a_keeper_ends_when_all_is_written_and_forgets_what_was_not_when_it_is_welcomed_anew() {
    for anew in [false, true] {
        let (mut sub, _) = keeper();
        let mut out = Vec::new();
        let epoch = 1 + u32::from(anew);
        if anew {
            sub.on_parent(100_000, Down::Welcome { epoch, pace_us: 1_000 }, &mut out);
            sub.on_child(100_001, rank(1), hello_under(epoch), &mut out);
        }
        sub.on_parent(200_000, Down::End { epoch }, &mut out);
        sub.on_child(300_000, rank(1), Up::Bye { epoch }, &mut out);
        let bye = SubAction::ToParent(Up::Bye { epoch });
        assert_eq!(out.contains(&bye), anew, "{out:?}");
        out.clear();
        sub.on_written(400_000, 20, &mut out);
        assert_eq!(told(&reports(&out)).into_iter().map(IndexRange::len).sum::<u64>(), if anew { 0 } else { 2 });
        assert_eq!(out.last() == Some(&SubAction::Done), !anew, "{out:?}");
    }
}

#[test]
fn where_tasks_come_one_by_one_the_end_of_each_is_one_report_although_it_has_to_be_written() {
    let mut sub = SubManager::new(Policy::default(), &[rank(1)]).keeping(7);
    let (mut out, mut sent) = (Vec::new(), 0);
    sub.open(&mut out);
    sub.on_parent(1, Down::Welcome { epoch: 1, pace_us: 10_000 }, &mut out);
    sub.on_child(2, rank(1), hello(2, 0, 0), &mut out);
    for index in 0..100 {
        let now = 1_000_000 * (index + 1);
        sub.on_parent(now, Down::Hand { epoch: 1, ranges: vec![range_of(index, index + 1, 0)] }, &mut out);
        let extent = Some(Extent { segment: 7, offset: index * 10, len: 10 });
        let runs = vec![EndedRun { range: IndexRange::one(index), class: OutcomeClass::Ok }];
        let sections = vec![Section { bundle: BundleId(0), extent, runs }];
        let report = Report { sections, attempts: 1, attempt_cores: 1, busy_core_us: 100, ..Report::default() };
        out.clear();
        sub.on_child(now + 100_000, rank(1), Up::Report { epoch: 1, report }, &mut out);
        sub.on_written(now + 101_000, (index + 1) * 10, &mut out);
        assert_eq!(told(&reports(&out)), [IndexRange::one(index)], "when it is written it is told");
        sent += reports(&out).len();
    }
    // The very first tells at once how short tasks are.
    assert_eq!(sent, 101);
}

#[test]
fn tasks_of_unlike_shapes_do_not_flood_their_parent_at_the_start() {
    struct Alternating;
    impl Shapes for Alternating {
        fn run_at(&self, range: IndexRange) -> (u64, TaskShape) {
            let resources = Resources { cores: 1 + (range.start % 2) as u32, gpus: 0 };
            (range.start + 1, TaskShape { resources, retries: 0, calls: true })
        }
    }
    let mut manager = manager_of_two(settings(), 10_000_000, Arc::new(Alternating));
    let mut out = Vec::new();
    let capacity = |node| {
        let total = Resources { cores: 2_048, gpus: 0 };
        Capacity { total, widest: total, node: Some(NodeId(node)), horizon_us: 0, workers: 64, nodes: 1 }
    };
    manager.on_child(1, rank(1), Up::Hello { epoch: 1, capacity: capacity(0) }, &mut out);
    manager.on_child(2, rank(2), Up::Hello { epoch: 1, capacity: capacity(1) }, &mut out);
    let handed = handed_to(&out, 1).len() + handed_to(&out, 2).len();
    assert!(handed <= 2 * 2 * 2_048, "{handed} ranges");
}

#[test]
fn tasks_that_take_gpus_are_not_heaped_up_on_the_first_at_the_start() {
    struct GpusFirst;
    impl Shapes for GpusFirst {
        fn run_at(&self, range: IndexRange) -> (u64, TaskShape) {
            let gpus = u32::from(range.start < 1_000);
            let end = if gpus > 0 { 1_000 } else { (range.start / 100_000 + 1) * 100_000 };
            let retries = (range.start / 100_000) as u32;
            (end.min(range.end), TaskShape { resources: Resources { cores: 1, gpus }, retries, calls: true })
        }
    }
    let children: Vec<Rank> = (1..=10).map(rank).collect();
    let mut manager = Manager::new(Policy::default(), Settings { nodes: 10, ..settings() }, &children);
    manager.add_bundle(BundleId(0), 1_000_000, RangeSet::new(), Arc::new(GpusFirst));
    let mut out = Vec::new();
    manager.open(0, &mut out);
    for (node, child) in children.iter().enumerate() {
        let total = Resources { cores: 64, gpus: 4 };
        let capacity =
            Capacity { total, widest: total, node: Some(NodeId(node as u32)), horizon_us: 0, workers: 2, nodes: 1 };
        manager.on_child(1 + node as u64, *child, Up::Hello { epoch: 1, capacity }, &mut out);
    }
    for child in 1..=10 {
        let handed = handed_to(&out, child);
        let with_gpus = handed.iter().filter(|given| given.work.resources.gpus > 0);
        let gpus: u64 = with_gpus.map(|given| given.range.len()).sum();
        assert!((4..=16).contains(&gpus), "{gpus} for child {child}");
    }
}
