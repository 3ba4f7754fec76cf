//! What a rank plays: its roles, what a word does to them, and what they want done.

use super::Nanos;
use super::cluster::{BUNDLE, Cluster, Event};
use super::files::{Appender, FileServer};
use super::network::{Message, Word};
use super::slots::{LONG, Slots, StartCosts};
use super::tasks::Tasks;
use super::troubles::StartEnd;
use super::turns::{Turn, micros};
use crate::schedule::{
    Down, Manager, ManagerAction, Place, Policy, Role, Section, Settings, SubAction, SubManager, Up, Violation, Worker,
    WorkerAction,
};
use crate::task::{EndedBy, EndedRun, Extent, IndexRange, NodeId, OutcomeClass, RangeSet, Rank, Resources};

/// The segment of a node, which its sub-manager keeps.
pub(super) struct Keeper {
    pub(super) segment: u32,
    pub(super) file: Appender,
    /// What its machine knows to be written of it.
    pub(super) told: u64,
    /// Bytes of outcomes that it may still pass on in place of keeping them.
    may_pass: u64,
    /// It cannot write.
    has_failed: bool,
}

/// A keeper makes its segment when more has come than this; what comes before goes up. As in `src/drive/roles.rs`.
pub(super) const PASSED_FIRST: u64 = 16 << 10;

impl Keeper {
    fn new(segment: u32, may_pass: u64) -> Self {
        Self { segment, file: Appender::default(), told: 0, may_pass, has_failed: false }
    }

    /// Itself where it keeps these outcomes, and none where it passes them on.
    fn keeping(&mut self, blocks: u64) -> Option<&mut Self> {
        let passes = blocks <= self.may_pass;
        self.may_pass = if passes { self.may_pass - blocks } else { 0 };
        (!passes).then_some(self)
    }

    /// Appends outcomes, and writes their place into the report that brought them. Returns whether that has failed for the
    /// first time.
    fn keep(&mut self, word: &mut Up, blocks: u64, at: Nanos, server: &mut FileServer) -> bool {
        let offset = self.file.bytes();
        let fails = self.has_failed || server.is_full(at);
        if !fails {
            self.file.append(at, blocks, server);
        }
        self.point(word, offset, blocks);
        fails && !std::mem::replace(&mut self.has_failed, true)
    }

    fn point(&self, word: &mut Up, offset: u64, blocks: u64) {
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
    /// It was told to end, and it has.
    pub(super) is_ending: bool,
    pub(super) is_done: bool,
}

impl Machine {
    /// The manager. `ended` and `submitted`: what it knows of the bundle; the latter where more tasks will come.
    pub(super) fn root(
        settings: Settings,
        policy: Policy,
        tasks: &dyn Tasks,
        place: &Place,
        (ended, submitted): (&RangeSet, Option<u64>),
    ) -> Self {
        let mut manager = Manager::new(policy, settings, &place.children);
        match submitted {
            None => manager.add_bundle(BUNDLE, tasks.count(), ended.clone(), tasks.shapes()),
            Some(0) => manager.open_bundle(BUNDLE),
            Some(known) => manager.resume_bundle(BUNDLE, known, ended.clone(), tasks.shapes()),
        }
        Machine::Manager(Box::new(manager))
    }

    /// Any other role. `dies_ns`: how long a process goes on that is told to end; `may_pass`: see [`PASSED_FIRST`].
    pub(super) fn below(
        node: NodeId,
        (settings, policy): (Settings, Policy),
        place: &Place,
        rank: Rank,
        (total, calls): (Resources, bool),
        (dies_ns, may_pass): (Nanos, u64),
    ) -> Self {
        if place.role == Role::SubManager {
            let machine = SubManager::new(policy, &place.children);
            let machine = Box::new(if place.keeper { machine.keeping(rank.0) } else { machine });
            let keeper = place.keeper.then(|| Box::new(Keeper::new(rank.0, may_pass)));
            return Machine::Sub { machine, keeper, passing: 0 };
        }
        let worker = Worker::new(node, total, settings.crash_limit);
        let worker = if calls { worker.with_calls() } else { worker };
        Machine::Worker(Box::new(Slots::new(worker, total.cores, dies_ns)), 0)
    }
}

impl RoleState {
    pub(super) fn new(place: &Place, machine: Machine) -> Self {
        let Place { depth, parent, .. } = *place;
        Self { depth, parent, machine, down_arrives: 0, up_arrives: 0, is_done: false, is_ending: false }
    }
}

impl Cluster<'_> {
    /// A role takes up a word.
    pub(super) fn handle(&mut self, message: Box<Message>, turn: &mut Turn) {
        let Message { from, level, blocks, word, .. } = *message;
        let takes = self.numbers.rank.handle_ns + word.ranges() * self.numbers.rank.range_ns;
        turn.at += takes * self.ranks[turn.rank.position()].slowness;
        let now = micros(turn.at);
        match word {
            Word::Down(word) => {
                let role = self.role_at(turn.rank, level + 1);
                self.on_account(role, |account, _| account.heard_down(&word));
                match word {
                    Down::Welcome { .. } => {
                        (self.roles[role].is_ending, self.roles[role].is_done) = (false, false);
                    }
                    Down::End { .. } => self.roles[role].is_ending = true,
                    _ => {}
                }
                match &mut self.roles[role].machine {
                    Machine::Sub { machine, passing, .. } => {
                        let (mut out, epoch) = (Vec::new(), machine.epoch());
                        machine.on_parent(now, word, &mut out);
                        *passing = if machine.epoch() == epoch { *passing } else { 0 };
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
                self.on_account(role, |account, is_root| account.heard_up(from, &word, is_root));
                if role == 0 && self.troubles.is_some() {
                    self.note(outcomes_come_along(&word, blocks, self.record_bytes), role);
                }
                match &mut self.roles[role].machine {
                    Machine::Manager(manager) => {
                        let mut out = Vec::new();
                        manager.on_child(now, from, word, &mut out);
                        self.manager_acts(role, out, turn);
                    }
                    Machine::Sub { machine, keeper, passing } => {
                        let keeps = keeper.as_mut().filter(|_| blocks > 0).and_then(|keeper| keeper.keeping(blocks));
                        let fails = match keeps {
                            Some(keeper) => keeper.keep(&mut word, blocks, turn.at, &mut self.server),
                            None => {
                                *passing += blocks;
                                false
                            }
                        };
                        let mut out = Vec::new();
                        machine.on_child(now, from, word, &mut out);
                        self.sub_acts(role, out, turn);
                        if fails {
                            self.cannot_keep(role, turn);
                        }
                    }
                    Machine::Worker(..) => panic!("a worker has no children"),
                }
            }
            Word::Stop(why) => match level {
                0 => self.events.push(turn.at, Event::Stop(why)),
                _ => self.send_stop(self.role_at(turn.rank, level), why, turn),
            },
        }
    }

    /// A keeper that cannot write any more: what is not written is not told, and the run has to stop.
    fn cannot_keep(&mut self, role: usize, turn: &mut Turn) {
        self.send_stop(role, EndedBy::Disk, turn);
        let Machine::Sub { machine, keeper: Some(keeper), .. } = &mut self.roles[role].machine else { return };
        let (now, mut out) = (micros(turn.at), Vec::new());
        machine.on_written(now, keeper.file.written(turn.at), &mut out);
        machine.on_unwritable(now, &mut out);
        self.sub_acts(role, out, turn);
    }

    pub(super) fn manager_acts(&mut self, role: usize, actions: Vec<ManagerAction>, turn: &mut Turn) {
        for action in actions {
            match action {
                ManagerAction::ToChild(to, word) => {
                    if matches!(word, Down::Hand { .. }) {
                        self.first_hand.get_or_insert(turn.at);
                    }
                    self.say_down(role, to, word, turn);
                }
                ManagerAction::Record(section) => self.record(&section, turn.at),
                ManagerAction::RecordOwn { range, class, .. } => {
                    let cancelled = class == OutcomeClass::Cancelled;
                    self.on_account(role, |account, _| account.recorded_own(range, cancelled));
                    self.journal(&[EndedRun { range, class }], turn.at);
                }
                ManagerAction::Failures(_) | ManagerAction::Lost(_) | ManagerAction::Back(_) => {}
                ManagerAction::Benched(node) => self.benched(node),
                ManagerAction::Done => self.is_over(),
            }
        }
    }

    /// The manager says that a node gets no more work.
    fn benched(&mut self, node: NodeId) {
        self.benched.push(node.0);
        self.on_account(0, |account, _| {
            account.benched([node]);
            Ok(())
        });
    }

    /// What was reported goes into the journal.
    fn record(&mut self, section: &Section, at: Nanos) {
        for run in &section.runs {
            self.on_account(0, |account, _| account.recorded(run.range));
        }
        if self.troubles.is_some() && self.tally.down.len() > 1 {
            // What points nowhere the manager keeps itself, together with the journal.
            let written = section.extent.is_none_or(|extent| self.is_written(extent, at));
            let told = || Violation(format!("{:?} is told before it is written", section.runs));
            self.note(if written { Ok(()) } else { Err(told()) }, 0);
        }
        self.journal(&section.runs, at);
    }

    /// The journal says that tasks have ended.
    fn journal(&mut self, runs: &[EndedRun], at: Nanos) {
        for run in runs {
            self.failed_tasks += if run.class == OutcomeClass::Failed { run.range.len() } else { 0 };
            self.note(self.check_recorded(run), 0);
        }
        match self.ledger.record(runs, at, &mut self.server) {
            Ok(false) => {}
            Ok(true) => self.events.push(at, Event::Stop(EndedBy::Disk)),
            Err(violation) => self.note(Err(violation), 0),
        }
    }

    /// The manager has ended.
    fn is_over(&mut self) {
        if let Machine::Manager(manager) = &self.roles[0].machine {
            self.end = manager.ending().map(StartEnd::Ended);
        }
    }

    /// A parent tells a child.
    fn say_down(&mut self, role: usize, to: Rank, word: Down, turn: &mut Turn) {
        if self.troubles.is_some() {
            let (tasks, settings) = (self.tasks, self.settings);
            let widest = u64::from(self.layout.slots);
            let cores = |range| cores_of(tasks, range);
            self.on_account(role, |account, is_root| {
                account.said_down(to, &word, (cores, widest), is_root.then_some(&settings))
            });
            if let (Down::Hand { ranges, .. }, Some(troubles)) = (&word, &self.troubles) {
                let again = ranges.iter().find(|given| troubles.before.overlapping(given.range).next().is_some());
                let again = again.map(|given| Violation(format!("{:?} had ended before this start", given.range)));
                self.note(again.map_or(Ok(()), Err), role);
            }
            if !matches!(word, Down::Hand { .. } | Down::Welcome { .. }) {
                self.at_a_bad_time(turn.rank, to);
            }
        }
        self.send_down(role, to, word, turn);
    }

    pub(super) fn sub_acts(&mut self, role: usize, actions: Vec<SubAction>, turn: &mut Turn) {
        for action in actions {
            match action {
                SubAction::ToChild(to, word) => self.say_down(role, to, word, turn),
                SubAction::ToParent(word) => {
                    self.on_account(role, |account, _| account.said_up(&word));
                    let Machine::Sub { passing, .. } = &mut self.roles[role].machine else { continue };
                    let reports = matches!(&word, Up::Report { report, .. } if report.tells_of_ended());
                    let blocks = if reports { std::mem::take(passing) } else { 0 };
                    self.send_up(role, word, blocks, turn);
                }
                SubAction::Done => self.roles[role].is_done = true,
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
                    if let Some(troubles) = &mut self.troubles {
                        let checked = troubles.started(role, &run);
                        if self.broken.is_none() {
                            self.broken = checked.err();
                        }
                    }
                    let (number, slot) = (self.runs, run.slots[0]);
                    let ends = slots.start(turn.at, number, &run, turn.rank, self.tasks, costs);
                    self.events.push(ends, Event::Ended { rank, slot, run: number });
                    if run.range.len() > 1 && ends > turn.at + LONG {
                        self.events.push(turn.at + LONG, Event::Long { rank, slot, run: number });
                    }
                }
                WorkerAction::Kill { slot } => {
                    if let Some((ends, rest)) = slots.kill(turn.at, slot, turn.rank, self.tasks, costs.call)
                        && let Some(run) = slots.number_on(slot)
                    {
                        self.was_cut(role, slot, rest);
                        self.events.push(ends.max(turn.at), Event::Ended { rank, slot, run });
                        self.look_at(rank, turn.at);
                    }
                }
                WorkerAction::ToParent(word) => {
                    let reports = matches!(word, Up::Report { .. });
                    let blocks = if reports { std::mem::take(blocks) } else { 0 };
                    self.on_account(role, |account, _| account.said_up(&word));
                    self.send_up(role, word, blocks, turn);
                }
                WorkerAction::Done => self.roles[role].is_done = true,
            }
        }
    }
}

/// What points to no segment has its outcomes with it.
fn outcomes_come_along(word: &Up, blocks: u64, record_bytes: u64) -> Result<(), Violation> {
    let Up::Report { report, .. } = word else { return Ok(()) };
    let alone = report.sections.iter().filter(|section| section.extent.is_none());
    let tasks: u64 = alone.flat_map(|section| &section.runs).map(|run| run.range.len()).sum();
    if tasks * record_bytes > blocks {
        return Err(Violation(format!("{tasks} tasks are told with {blocks} bytes of outcomes")));
    }
    Ok(())
}

/// Cores that these tasks would take at once.
fn cores_of(tasks: &dyn Tasks, range: IndexRange) -> u64 {
    let (shapes, mut at, mut cores) = (tasks.shapes(), range.start, 0);
    while at < range.end {
        let (end, shape) = shapes.run_at(IndexRange::new(at, range.end));
        cores += (end - at) * u64::from(shape.resources.cores);
        at = end;
    }
    cores
}
