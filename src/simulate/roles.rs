//! What a rank plays: its roles, what a word does to them, and what they want done.

use super::Nanos;
use super::cluster::{BUNDLE, Cluster, Event};
use super::files::{Appender, FileServer};
use super::layout::Layout;
use super::network::{Message, Word};
use super::slots::{LONG, Slots, StartCosts};
use super::tasks::Tasks;
use super::turns::{Turn, micros};
use crate::schedule::{
    Down, Manager, ManagerAction, Place, Policy, Role, Settings, SubAction, SubManager, Up, Worker, WorkerAction,
};
use crate::task::{EndedRun, Extent, RangeSet, Rank, Resources};
use std::collections::VecDeque;
use std::sync::Arc;

/// A sub-manager that keeps its node's segment: words for the parent wait until what they point to is written.
pub(super) struct Keeper {
    pub(super) segment: u32,
    pub(super) file: Appender,
    pub(super) waiting: VecDeque<(Nanos, Up)>,
}

impl Keeper {
    /// Appends outcomes, and writes their place into the report that brought them.
    fn keep(&mut self, word: &mut Up, blocks: u64, at: Nanos, server: &mut FileServer) {
        let offset = self.file.bytes();
        self.file.append(at, blocks, server);
        let Up::Report { report, .. } = word else { return };
        for section in report.sections.iter_mut().filter(|section| section.extent.is_none()) {
            section.extent = Some(Extent { segment: self.segment, offset, len: blocks });
        }
    }
}

pub(super) enum Machine {
    Manager(Box<Manager>),
    Sub { machine: Box<SubManager>, keeper: Option<Box<Keeper>>, passing: u64 },
    Worker(Box<Slots>, /* Bytes of outcomes that its next report takes along. */ u64),
}

pub(super) struct RoleState {
    pub(super) depth: u8,
    pub(super) parent: Option<Rank>,
    pub(super) machine: Machine,
    /// When the last message down to this role, and up from it, arrives: none may overtake another.
    pub(super) down_arrives: Nanos,
    pub(super) up_arrives: Nanos,
}

impl Cluster<'_> {
    pub(super) fn machine(
        layout: &Layout,
        settings: Settings,
        policy: Policy,
        tasks: &dyn Tasks,
        place: &Place,
        rank: Rank,
        calls: bool,
    ) -> Machine {
        match place.role {
            Role::Manager => {
                let mut manager = Manager::new(policy, settings, &place.children);
                manager.add_bundle(BUNDLE, tasks.count(), RangeSet::new(), Arc::new(tasks.shape()));
                Machine::Manager(Box::new(manager))
            }
            Role::SubManager => {
                let keeper = Keeper { segment: rank.0, file: Appender::default(), waiting: VecDeque::new() };
                Machine::Sub {
                    machine: Box::new(SubManager::new(policy, &place.children)),
                    keeper: place.keeper.then(|| Box::new(keeper)),
                    passing: 0,
                }
            }
            Role::Worker => {
                let total = Resources { cores: layout.slots, gpus: 0 };
                let worker = Worker::new(layout.node_of(rank), total, settings.crash_limit);
                let worker = if calls { worker.with_calls() } else { worker };
                Machine::Worker(Box::new(Slots::new(worker, layout.slots)), 0)
            }
        }
    }

    /// A role takes up a word.
    pub(super) fn handle(&mut self, message: Box<Message>, turn: &mut Turn) {
        let Message { from, level, blocks, word, .. } = *message;
        turn.at += self.numbers.rank.handle_ns + word.ranges() * self.numbers.rank.range_ns;
        let now = micros(turn.at);
        match word {
            Word::Down(word) => {
                let role = self.role_at(turn.rank, level + 1);
                match &mut self.roles[role].machine {
                    Machine::Sub { machine, .. } => {
                        let mut out = Vec::new();
                        machine.on_parent(now, word, &mut out);
                        self.sub_acts(role, out, turn);
                    }
                    Machine::Worker(slots, _) => {
                        let mut out = Vec::new();
                        slots.machine.on_message(now, word, &mut out);
                        self.worker_acts(role, out, turn);
                    }
                    Machine::Manager(_) => panic!("the manager has no parent"),
                }
            }
            Word::Up(mut word) => {
                let role = self.role_at(turn.rank, level);
                match &mut self.roles[role].machine {
                    Machine::Manager(manager) => {
                        let mut out = Vec::new();
                        manager.on_child(now, from, word, &mut out);
                        self.manager_acts(role, out, turn);
                    }
                    Machine::Sub { machine, keeper, passing } => {
                        match keeper {
                            Some(keeper) if blocks > 0 => keeper.keep(&mut word, blocks, turn.at, &mut self.server),
                            _ => *passing += blocks,
                        }
                        let mut out = Vec::new();
                        machine.on_child(now, from, word, &mut out);
                        self.sub_acts(role, out, turn);
                    }
                    Machine::Worker(..) => panic!("a worker has no children"),
                }
            }
        }
    }

    pub(super) fn manager_acts(&mut self, role: usize, actions: Vec<ManagerAction>, turn: &mut Turn) {
        for action in actions {
            match action {
                ManagerAction::ToChild(to, word) => {
                    if matches!(word, Down::Hand { .. }) {
                        self.first_hand.get_or_insert(turn.at);
                    }
                    self.send_down(role, to, word, turn);
                }
                ManagerAction::Record(section) => self.record(&section.runs, turn.at),
                ManagerAction::RecordOwn { range, class, .. } => self.record(&[EndedRun { range, class }], turn.at),
                ManagerAction::Failures(_) => {}
                ManagerAction::Done => self.done = true,
            }
        }
    }

    /// The journal says that tasks have ended.
    fn record(&mut self, runs: &[EndedRun], at: Nanos) {
        for run in runs {
            let new: u64 = self.ended.insert_new(run.range).iter().map(|range| range.len()).sum();
            assert_eq!(new, run.range.len(), "a task of {:?} has two outcomes", run.range);
        }
        let written = self.journal.append(at, 16 + 6 * runs.len() as u64, &mut self.server);
        self.last_record = self.last_record.max(written);
    }

    pub(super) fn sub_acts(&mut self, role: usize, actions: Vec<SubAction>, turn: &mut Turn) {
        for action in actions {
            match action {
                SubAction::ToChild(to, word) => self.send_down(role, to, word, turn),
                SubAction::ToParent(word) => {
                    let Machine::Sub { keeper, passing, .. } = &mut self.roles[role].machine else { continue };
                    match keeper {
                        Some(keeper) if keeper.file.written_at() > turn.at || !keeper.waiting.is_empty() => {
                            let written = keeper.file.written_at();
                            keeper.waiting.push_back((written, word));
                        }
                        _ => {
                            let reports = matches!(word, Up::Report { .. });
                            let blocks = if reports { std::mem::take(passing) } else { 0 };
                            self.send_up(role, word, blocks, turn);
                        }
                    }
                }
                SubAction::Done => {}
            }
        }
    }

    pub(super) fn worker_acts(&mut self, role: usize, actions: Vec<WorkerAction>, turn: &mut Turn) {
        let rank = turn.rank;
        let costs = StartCosts {
            spawn: self.numbers.rank.spawn_ns,
            process: self.numbers.rank.process_ns,
            call: self.numbers.rank.call_ns,
        };
        for action in actions {
            let Machine::Worker(slots, blocks) = &mut self.roles[role].machine else { continue };
            match action {
                WorkerAction::Start(run) => {
                    self.runs += 1;
                    let (number, slot) = (self.runs, run.slots[0]);
                    let ends = slots.start(turn.at, number, &run, turn.rank, self.tasks, costs);
                    self.events.push(ends, Event::Ended { rank, slot, run: number });
                    if run.range.len() > 1 && ends > turn.at + LONG {
                        self.events.push(turn.at + LONG, Event::Long { rank, slot, run: number });
                    }
                }
                WorkerAction::Kill { slot } => {
                    if let Some(ends) = slots.kill(turn.at, slot, turn.rank, self.tasks, costs.call)
                        && let Some(run) = slots.number_on(slot)
                    {
                        self.events.push(ends.max(turn.at), Event::Ended { rank, slot, run });
                    }
                }
                WorkerAction::ToParent(word) => {
                    let reports = matches!(word, Up::Report { .. });
                    let blocks = if reports { std::mem::take(blocks) } else { 0 };
                    self.send_up(role, word, blocks, turn);
                }
                WorkerAction::Done => {}
            }
        }
    }
}
