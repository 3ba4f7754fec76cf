//! Losses, drains, cancels and late words, each by itself; all of them together are in `simulate/`.

use super::{depth, each_takes, one_core, rank, settings};
use crate::schedule::{Capacity, Down, Manager, ManagerAction, Policy, Report, Up};
use crate::simulate::Fault;
use crate::simulate::testing::Room;
use crate::task::{BundleId, EndedBy, IndexRange, NodeId, OutcomeClass, RangeSet, Resources, Shape as TaskShape};
use std::sync::Arc;

#[test]
fn a_drain_gives_back_what_did_not_run_and_fails_nothing() {
    for levels in 1..=3 {
        let room = Room::new(depth(levels), settings()).at(350_000, Fault::Drain(EndedBy::Stop, 20_000_000));
        let done = room.run(1_000, one_core(0), each_takes(100_000));
        assert_eq!(done.ended_by, EndedBy::Stop);
        assert_eq!(done.outcomes.failed.len(), 0);
        let ended = done.outcomes.ended.len();
        assert!((32..=64).contains(&ended), "{ended} tasks ended at depth {levels}");
        assert!(done.now_us < 400_000, "the grace time was kept");
    }
}

#[test]
fn running_tasks_end_within_a_long_grace() {
    let room = Room::new(depth(1), settings()).at(350_000, Fault::Drain(EndedBy::Stop, 1_000_000_000));
    let done = room.run(1_000, one_core(0), each_takes(100_000));
    assert_eq!(done.outcomes.ended.len(), 64, "four rounds of 16 slots");
}

#[test]
fn cancelled_tasks_end_as_cancelled_once() {
    for levels in 1..=3 {
        let room = Room::new(depth(levels), settings()).at(105_000, Fault::Cancel(IndexRange::new(100, 600)));
        let cancelled = room.run(1_000, one_core(0), each_takes(10_000)).all_ended_once().outcomes.cancelled.len();
        assert!((400..=500).contains(&cancelled), "{cancelled} cancelled at depth {levels}");
    }
}

fn manager_of_one(tasks: u64) -> (Manager, Vec<ManagerAction>) {
    let mut manager = Manager::new(Policy::default(), settings(), &[rank(1)]);
    let uniform = TaskShape::PROCESS;
    manager.add_bundle(BundleId(0), tasks, RangeSet::new(), Arc::new(uniform));
    let mut out = Vec::new();
    manager.open(0, &mut out);
    (manager, out)
}

fn hello(epoch: u32) -> Up {
    let total = Resources { cores: 4, gpus: 0 };
    let capacity = Capacity { total, widest: total, node: Some(NodeId(0)), horizon_us: 0, workers: 1 };
    Up::Hello { epoch, capacity }
}

#[test]
fn a_late_word_of_a_child_given_up_changes_nothing_and_is_answered() {
    let (mut manager, mut out) = manager_of_one(8);
    manager.on_child(1, rank(1), hello(1), &mut out);
    let handed = out.iter().any(|a| matches!(a, ManagerAction::ToChild(_, Down::Hand { epoch: 1, .. })));
    assert!(handed);
    manager.on_lost(2, rank(1), &mut out);
    assert!(out.contains(&ManagerAction::Lost(rank(1))) && manager.has_lost());
    out.clear();
    let mut report = Report { attempts: 1, attempt_cores: 1, busy_core_us: 1, ..Report::default() };
    report.ended(BundleId(0), IndexRange::one(0), OutcomeClass::Ok);
    for _ in 0..2 {
        manager.on_child(3, rank(1), Up::Report { epoch: 1, report: report.clone() }, &mut out);
    }
    assert!(matches!(&out[..], [ManagerAction::ToChild(_, Down::Welcome { epoch: 2, .. })]), "{out:?}");
    assert_eq!(manager.ended_tasks(), 0);
    out.clear();
    manager.on_child(4, rank(1), hello(2), &mut out);
    let [ManagerAction::Back(back), ManagerAction::ToChild(_, Down::Hand { epoch: 2, .. })] = &out[..] else {
        panic!("it does not work again: {out:?}");
    };
    assert_eq!((*back, manager.has_lost()), (rank(1), false));
    manager.check().expect("nothing was lost");
}

#[test]
fn a_report_of_tasks_that_the_child_does_not_hold_is_not_believed() {
    let (mut manager, mut out) = manager_of_one(8);
    manager.on_child(1, rank(1), hello(1), &mut out);
    out.clear();
    let mut report = Report::default();
    report.ended(BundleId(0), IndexRange::new(6, 8), OutcomeClass::Ok);
    manager.on_child(2, rank(1), Up::Report { epoch: 1, report }, &mut out);
    assert_eq!(manager.ended_tasks(), 0);
    assert!(manager.check().is_err(), "the checker names it");
}

#[test]
fn a_task_that_takes_rank_after_rank_with_it_is_lost_at_the_limit() {
    let (mut manager, mut out) = manager_of_one(1);
    for epoch in 1..=5 {
        manager.on_child(u64::from(epoch), rank(1), hello(epoch), &mut out);
        manager.on_lost(u64::from(epoch), rank(1), &mut out);
        manager.on_child(u64::from(epoch), rank(1), Up::Bye { epoch: 0 }, &mut out);
    }
    assert_eq!(manager.ended_tasks(), 1);
    assert!(out.iter().any(|a| matches!(a, ManagerAction::RecordOwn { class: OutcomeClass::Failed, attempts: 5, .. })));
}

#[test]
fn a_resumed_bundle_has_what_has_not_ended_and_takes_more() {
    let mut manager = Manager::new(Policy::default(), settings(), &[rank(1)]);
    let ended = RangeSet::from_iter([IndexRange::new(0, 4), IndexRange::new(6, 7)]);
    manager.resume_bundle(BundleId(0), 10, ended, Arc::new(TaskShape::PROCESS));
    assert_eq!((manager.tasks(), manager.ended_tasks(), manager.unfed_tasks()), (10, 5, 5));
    assert_eq!(manager.extend(BundleId(0), 5, Arc::new(TaskShape::CALL)), Some(IndexRange::new(10, 15)));
    manager.check().unwrap();
    assert_eq!((manager.tasks(), manager.unfed_tasks()), (15, 10));
}
