//! Losses, drains, cancels and late words, each by itself; all of them together are in `simulate/`.

use super::{depth, each_takes, layout, one_core, rank, settings};
use crate::schedule::{Capacity, Down, Manager, ManagerAction, Policy, Report, Settings, SubAction, SubManager, Up};
use crate::simulate::Fault;
use crate::simulate::testing::Room;
use crate::task::{BundleId, EndedBy, IndexRange, NodeId, OutcomeClass, RangeSet, Rank, Resources, Shape as TaskShape};
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
    let capacity = Capacity { total, widest: total, node: Some(NodeId(0)), horizon_us: 0, workers: 1, nodes: 1 };
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

/// Workers that call functions of which one ends its rank, each time; the rank is back at once.
struct Deadly {
    manager: Manager,
    out: Vec<ManagerAction>,
    epochs: Vec<u32>,
    bad: u64,
    now: u64,
    losses: u32,
    ok: RangeSet,
}

impl Deadly {
    const WORKERS: u32 = 3;

    fn new(tasks: u64, bad: u64, crash_limit: u32) -> Self {
        let settings = Settings { crash_limit, nodes: Self::WORKERS, ..settings() };
        let children: Vec<_> = (0..Self::WORKERS).map(rank).collect();
        let mut manager = Manager::new(Policy::default(), settings, &children);
        manager.add_bundle(BundleId(0), tasks, RangeSet::new(), Arc::new(TaskShape::CALL));
        let mut out = Vec::new();
        manager.open(0, &mut out);
        let epochs = vec![1; children.len()];
        let mut deadly = Self { manager, out, epochs, bad, now: 0, losses: 0, ok: RangeSet::new() };
        children.iter().for_each(|child| deadly.joins(*child));
        deadly
    }

    fn joins(&mut self, child: Rank) {
        let total = Resources { cores: 2, gpus: 0 };
        let node = Some(NodeId(child.0));
        let capacity = Capacity { total, widest: total, node, horizon_us: 0, workers: 1, nodes: 1 };
        let epoch = self.epochs[child.position()];
        self.manager.on_child(self.now, child, Up::Hello { epoch, capacity }, &mut self.out);
    }

    /// All that was handed out is run, in order, until there is nothing more; who was lost.
    fn run(&mut self) -> Vec<Rank> {
        let mut lost = Vec::new();
        for _ in 0..10_000 {
            self.now += 100_000;
            self.manager.step(self.now, &mut self.out);
            self.manager.check().expect("every rule holds");
            let actions = std::mem::take(&mut self.out);
            if self.manager.ending().is_some() {
                self.out = actions;
                return lost;
            }
            for action in actions {
                match action {
                    ManagerAction::ToChild(child, Down::Hand { epoch, ranges })
                        if epoch == self.epochs[child.position()] =>
                    {
                        let apart: u64 = ranges.iter().filter(|given| given.work.apart).map(|w| w.range.len()).sum();
                        assert!(apart <= 1, "{ranges:?}");
                        if self.ends(child, &ranges) {
                            lost.push(child);
                        }
                    }
                    ManagerAction::RecordOwn { .. } => self.out.push(action),
                    _ => {}
                }
            }
        }
        panic!("it does not end");
    }

    /// Whether the child is lost to one of these.
    fn ends(&mut self, child: Rank, ranges: &[crate::schedule::WorkRange]) -> bool {
        let epoch = self.epochs[child.position()];
        if ranges.iter().any(|given| (given.range.start..given.range.end).contains(&self.bad)) {
            self.losses += 1;
            self.manager.on_lost(self.now, child, &mut self.out);
            self.epochs[child.position()] += 1;
            self.joins(child);
            return true;
        }
        let all: u64 = ranges.iter().map(|given| given.range.len()).sum();
        let mut report = Report { attempts: all, attempt_cores: all, busy_core_us: 10 * all, ..Report::default() };
        report.hands = u32::MAX;
        for given in ranges {
            report.ended(BundleId(0), given.range, OutcomeClass::Ok);
            self.ok.insert(given.range);
        }
        self.manager.on_child(self.now, child, Up::Report { epoch, report }, &mut self.out);
        false
    }
}

#[test]
fn a_function_that_ends_rank_after_rank_is_told_apart_from_its_neighbours() {
    for (crash_limit, bad) in [(2, 0), (3, 700), (5, 0), (5, 1_999), (9, 1_000)] {
        let mut deadly = Deadly::new(2_000, bad, crash_limit);
        let lost = deadly.run();
        let own: Vec<_> = deadly.out.iter().filter(|a| matches!(a, ManagerAction::RecordOwn { .. })).collect();
        let [ManagerAction::RecordOwn { range, class, attempts, node: Some(_), .. }] = &own[..] else {
            panic!("{own:?}");
        };
        assert_eq!((*range, *class, *attempts), (IndexRange::one(bad), OutcomeClass::Failed, crash_limit));
        assert_eq!(deadly.ok.len(), 1_999, "limit {crash_limit}");
        assert_eq!(deadly.losses, crash_limit);
        assert!(
            lost.iter().skip(1).all(|child| child.0 != 0),
            "rank 0 is spared once something may be deadly: {lost:?}"
        );
    }
}

#[test]
fn a_lost_first_rank_costs_what_its_node_does() {
    // 32 nodes of 8 ranks, 64 tasks of 100 ms for each slot: what adopting the workers of a lost sub-manager would save.
    let shape = layout(32, 8, 1, 64);
    let run = |lost: Option<Fault>| {
        let room = Room::new(shape, settings());
        let room = lost.into_iter().fold(room, |room, fault| room.at(1_050_000, fault));
        room.run(256 * 64, one_core(0), each_takes(100_000)).all_ended_once().last_end_us as f64
    };
    let (all, node, worker) = (run(None), run(Some(Fault::LoseNode(rank(8)))), run(Some(Fault::Lose(rank(9)))));
    println!("{:.4} with the node lost, {:.4} with one worker lost", node / all, worker / all);
    // A thirty-second of the slots is gone; and what was under way there runs again.
    assert!(worker / all < 1.03 && node / all < 1.06, "{node} and {worker} for {all}");
}

#[test]
fn a_sub_manager_that_is_welcomed_anew_tells_who_was_lost_and_is_there() {
    let mut sub = SubManager::new(Policy::default(), &[rank(2), rank(3)]);
    let mut out = Vec::new();
    sub.open(&mut out);
    sub.on_parent(0, Down::Welcome { epoch: 1, pace_us: 10_000 }, &mut out);
    for child in [2, 3] {
        sub.on_child(0, rank(child), hello(1), &mut out);
    }
    let told = |out: &mut Vec<SubAction>| -> Vec<(u32, bool)> {
        let told = out.iter().filter_map(|action| match action {
            SubAction::ToParent(Up::Rank { rank, is_there, .. }) => Some((rank.0, *is_there)),
            _ => None,
        });
        let told = told.collect();
        out.clear();
        told
    };
    sub.on_lost(1, rank(3), &mut out);
    assert_eq!(told(&mut out), [(3, false)]);
    // It comes back, and nobody hears of it: the sub-manager was given up meanwhile.
    sub.on_child(2, rank(3), hello(2), &mut out);
    assert_eq!(told(&mut out), [(3, true)]);
    sub.on_parent(3, Down::Welcome { epoch: 2, pace_us: 10_000 }, &mut out);
    for (child, epoch) in [(2, 2), (3, 3)] {
        sub.on_child(4, rank(child), hello(epoch), &mut out);
    }
    assert_eq!(told(&mut out), [(3, true)]);
}
