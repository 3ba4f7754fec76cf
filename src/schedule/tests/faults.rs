//! Losses, drains, cancels and late words, in random trees with random durations.

use super::cluster::{Cluster, Shape};
use super::{Draws, depth, each_takes, one_core, rank, settings};
use crate::schedule::{Capacity, Down, Manager, ManagerAction, Policy, Report, Settings, Up};
use crate::task::{
    BundleId, EndedBy, IndexRange, NodeId, OutcomeClass, RangeSet, Rank, Resources, Shape as TaskShape, Status,
};
use proptest::prelude::*;
use std::sync::Arc;

#[test]
fn a_drain_gives_back_what_did_not_run_and_fails_nothing() {
    for levels in 1..=3 {
        let shape = depth(levels);
        let settings = Settings { nodes: shape.nodes, ..settings() };
        let mut cluster = Cluster::new(&shape, settings, 1_000, one_core(0), each_takes(100_000));
        cluster.drain_at(350_000, 20_000);
        let mut done = cluster.run(10_000_000);
        assert_eq!(done.manager().ending(), Some(EndedBy::Stop));
        assert_eq!(done.class_count(OutcomeClass::Failed), 0);
        let ended = done.outcomes.len();
        assert!((32..=64).contains(&ended), "{ended} tasks ended at depth {levels}");
        assert!(done.now < 400_000, "the grace time was kept");
    }
}

#[test]
fn running_tasks_end_within_a_long_grace() {
    let mut cluster = Cluster::new(&depth(1), settings(), 1_000, one_core(0), each_takes(100_000));
    cluster.drain_at(350_000, 1_000_000);
    let done = cluster.run(10_000_000);
    assert_eq!(done.outcomes.len(), 64, "four rounds of 16 slots");
}

#[test]
fn cancelled_tasks_end_as_cancelled_once() {
    for levels in 1..=3 {
        let shape = depth(levels);
        let settings = Settings { nodes: shape.nodes, ..settings() };
        let mut cluster = Cluster::new(&shape, settings, 1_000, one_core(0), each_takes(10_000));
        cluster.cancel_at(105_000, IndexRange::new(100, 600));
        let done = cluster.run(100_000_000).all_ended_once();
        let cancelled = done.class_count(OutcomeClass::Cancelled);
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
    assert!(matches!(&out[..], [ManagerAction::ToChild(_, Down::Hand { epoch: 2, .. })]), "it works again: {out:?}");
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

/// One random run: tree, durations, failures, and faults drawn from the seed.
fn random_run(seed: u64) {
    // Shown when the test fails.
    println!("seed {seed}");
    let mut draws = Draws(seed);
    let shape = Shape {
        nodes: 1 + draws.below(6) as u32,
        ranks_per_node: 1 + draws.below(4) as u32,
        slots: 1 + draws.below(3) as u32,
        fan_out: 2 + draws.below(4) as usize,
    };
    let ranks = shape.nodes * shape.ranks_per_node;
    let tasks = draws.below(400);
    let retries = draws.below(3) as u32;
    let scale = [10, 1_000, 50_000, 2_000_000][draws.below(4) as usize];
    let fails_of_ten = if draws.below(2) == 0 { 0 } else { draws.below(8) };
    let settings = Settings { crash_limit: 1_000, nodes: shape.nodes, ..settings() };
    let width = 1 + draws.below(u64::from(shape.slots)) as u32;
    let uniform = TaskShape { resources: Resources { cores: width, gpus: 0 }, retries, calls: draws.below(2) == 0 };
    let salt = draws.next();
    let behaviour = Box::new(move |index: u64, attempt: u32, rank: Rank| {
        let mut own = Draws(salt ^ (index << 20) ^ (u64::from(attempt) << 10) ^ u64::from(rank.0));
        let failed = own.below(10) < fails_of_ten;
        (own.below(scale), if failed { Status::Exit(1) } else { Status::Ok })
    });
    let mut jitter = draws.clone();
    let mut cluster = Cluster::new(&shape, settings, tasks, uniform, behaviour).latency(move || 1 + jitter.below(300));
    let span = 1 + scale * tasks / u64::from(ranks);
    // Rank 0 and its family's leaders stay, so that there is somebody left to finish.
    for _ in 0..draws.below(3).min(u64::from(ranks - 1)) {
        let lost = 1 + draws.below(u64::from(ranks - 1)) as u32;
        cluster.lose_at(draws.below(span), rank(lost));
    }
    if draws.below(4) == 0 {
        let start = draws.below(tasks);
        cluster.cancel_at(draws.below(span), IndexRange::new(start, start + draws.below(tasks - start + 1)));
    }
    let drained = draws.below(4) == 0;
    if drained {
        cluster.drain_at(draws.below(span), draws.below(scale));
    }
    let done = cluster.run(3_600_000_000);
    if !drained {
        done.all_ended_once();
    }
}

#[test]
fn fixed_seeds_end_with_one_outcome_for_each_task() {
    (0..400).for_each(random_run);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn any_seed_ends_with_one_outcome_for_each_task(seed in any::<u64>()) {
        random_run(seed);
    }
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
