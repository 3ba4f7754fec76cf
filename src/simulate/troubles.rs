//! Faults at work in the machine room: ranks that stall, die or are given up, and what rank 0 does about the end of a start.
//!
//! Who is silent is known here by looking, not by heartbeats: what is simulated is what parents do once they know.

use super::Nanos;
use super::account::Account;
use super::cluster::{BUNDLE, Cluster, Event};
use super::draws::Draws;
use super::faults::{Fault, Faults, GIVEN_UP, LOSSES, STALLS};
use super::losses::Begun;
use super::roles::Machine;
use super::turns::{NEVER, RankState, Turn, micros};
use crate::schedule::{Manager, ManagerAction, Micros, TaskRun, Up, Violation};
use crate::task::{EndedBy, IndexRange, RangeSet, Rank};

/// How long a drain may last beyond its grace, until the manager ends the start: for tasks that have to be killed; and then
/// for ranks to say goodbye, or for all of it when the disk is full. As in `drive/manager.rs`.
const WITH_TASKS: Nanos = 60_000_000_000;
const WITH_RANKS: Nanos = 10_000_000_000;
/// How long it may be that no rank can start tasks, until the run stops.
const CHORES: Nanos = 100_000_000;

/// What a start with faults has besides.
pub(super) struct Troubles {
    pub(super) faults: Faults,
    pub(super) draws: Draws,
    /// Of each role; none where they are not kept.
    pub(super) accounts: Vec<Account>,
    pub(super) begun: Begun,
    /// Tasks that some attempt ended well.
    pub(super) ran_well: RangeSet,
    /// Tasks that had an outcome on disk before this start.
    pub(super) before: RangeSet,
    pub(super) submitted: u64,
    /// The disk is full: the drain is ended by force at this time.
    force_at: Option<Nanos>,
    /// When the grace of a drain is over.
    grace_ends: Option<Nanos>,
    /// The end was forced: who does not say goodbye by then is not waited for.
    over_at: Option<Nanos>,
    no_cores_since: Option<Nanos>,
    /// Faults that came to pass.
    pub(super) happened: u64,
}

impl Troubles {
    pub(super) fn new(faults: Faults, accounts: Vec<Account>, before: RangeSet, tasks: u64) -> Self {
        let submitted = faults.submitted.unwrap_or(tasks);
        Self {
            draws: Draws::new(faults.seed),
            faults,
            accounts,
            begun: Begun::default(),
            ran_well: RangeSet::new(),
            before,
            submitted,
            force_at: None,
            grace_ends: None,
            over_at: None,
            no_cores_since: None,
            happened: 0,
        }
    }

    /// A worker starts something.
    pub(super) fn started(&mut self, role: usize, run: &TaskRun) -> Result<(), Violation> {
        if let Some(range) = self.before.overlapping(run.range).next() {
            return Err(Violation(format!("starts {range:?}, which had ended before this start")));
        }
        self.begun.started(run);
        self.accounts.get_mut(role).map_or(Ok(()), |account| account.started(run))
    }

    /// How late a message is that goes off now.
    pub(super) fn late(&mut self) -> Nanos {
        match self.faults.late {
            Some((one_in, most)) if self.draws.one_in(one_in) => self.draws.below(most),
            _ => 0,
        }
    }
}

/// How a start ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartEnd {
    /// As the manager says.
    Ended(EndedBy),
    /// Everything died.
    Crashed,
    /// Some rank did not say goodbye.
    Forced,
}

impl Cluster<'_> {
    /// What was planned comes to pass.
    pub(super) fn happen(&mut self, at: usize) {
        let Some(troubles) = &mut self.troubles else { return };
        troubles.happened += 1;
        let fault = troubles.faults.events[at].1.clone();
        match fault {
            Fault::Stall(rank, long) => self.stall(rank, long),
            Fault::Lose(rank) => self.lose(rank),
            Fault::LoseNode(first) => {
                (first.0..first.0 + self.layout.ranks_per_node).for_each(|rank| self.lose(Rank(rank)));
            }
            Fault::GiveUp(rank) => self.suspect(rank, 0, true),
            Fault::Break(rank) => self.break_slots(rank),
            Fault::HoldBack(rank, long) => {
                self.hold_back(rank, true);
                self.events.push(self.now + long, Event::LetGo(rank));
            }
            Fault::Cancel(range) => self.cancel(range),
            Fault::Drain(why, grace) => self.drain(why, grace),
            Fault::FullDisk => self.server.fill(self.now),
            Fault::Crash => self.end = Some(StartEnd::Crashed),
            Fault::Submit(end) => self.submit(end),
        }
    }

    fn is_there(&self, rank: Rank) -> bool {
        let state = &self.ranks[rank.position()];
        state.is_alive && state.roles > 0
    }

    /// Tasks that were submitted.
    pub(super) fn submitted(&self) -> u64 {
        self.troubles.as_ref().map_or(0, |troubles| troubles.submitted)
    }

    /// Faults that came to pass.
    pub(super) fn happened(&self) -> u64 {
        self.troubles.as_ref().map_or(0, |troubles| troubles.happened)
    }

    /// Why the start has not ended.
    pub(super) fn stands_still(&self) -> String {
        let ended = self.ledger.ended.len();
        match self.events.is_empty() {
            true => format!("nothing more happens, and the start has not ended: {ended} tasks have"),
            false => format!("the start does not end: {ended} tasks have after {} events", self.steps),
        }
    }

    fn stall(&mut self, rank: Rank, long: Nanos) {
        let state = &mut self.ranks[rank.position()];
        state.busy_until = state.busy_until.max(self.now) + long;
        if self.is_there(rank) {
            self.suspect(rank, self.patience(), false);
        }
    }

    fn patience(&self) -> Nanos {
        self.troubles.as_ref().map_or(0, |troubles| troubles.faults.patience)
    }

    fn lose(&mut self, rank: Rank) {
        if !self.is_there(rank) {
            return;
        }
        let state = &mut self.ranks[rank.position()];
        state.is_alive = false;
        state.inbox.clear();
        self.forget_uncalled(rank);
        self.suspect(rank, self.patience(), false);
    }

    /// What the rank's batches have not called by now was never begun.
    fn forget_uncalled(&mut self, rank: Rank) {
        let call = self.numbers.rank.call_ns;
        let machine = self.roles_of(rank).last().map(|role| &self.roles[role].machine);
        if let (Some(Machine::Worker(slots, _)), Some(troubles)) = (machine, &mut self.troubles) {
            slots.not_begun(self.now, rank, self.tasks, call).for_each(|rest| troubles.begun.cut(rest));
        }
    }

    /// This was taken from a batch, which had not called it.
    pub(super) fn was_cut(&mut self, role: usize, slot: u32, rest: IndexRange) {
        if let Some(troubles) = &mut self.troubles {
            troubles.begun.cut(rest);
        }
        self.on_account(role, |account, _| {
            account.cut(slot, rest);
            Ok(())
        });
    }

    /// The parent of the rank's highest role gives it up after a while, if it is silent then, or in any case.
    pub(super) fn suspect(&mut self, rank: Rank, after: Nanos, in_any_case: bool) {
        let Some(role) = self.roles_of(rank).next() else { return };
        let Some(parent) = self.roles[role].parent else { return };
        self.events.push(self.now + after, Event::GiveUp { parent, child: rank, in_any_case });
    }

    /// A parent gives up a child.
    pub(super) fn give_up(&mut self, parent: Rank, child: Rank, in_any_case: bool) {
        if !self.is_there(parent) {
            return;
        }
        let busy_until = self.ranks[parent.position()].busy_until;
        if busy_until > self.now {
            // It has to look first.
            return self.events.push(busy_until, Event::GiveUp { parent, child, in_any_case });
        }
        let RankState { busy_until: silent_until, is_alive, has_left, .. } = self.ranks[child.position()];
        let is_silent = !has_left && (!is_alive || silent_until > self.now);
        if !is_silent && !in_any_case {
            return;
        }
        let depth = self.roles[self.roles_of(child).start].depth;
        let role = self.role_at(parent, depth - 1);
        let turn = &mut Turn::new(parent, self.now);
        let now = micros(self.now);
        self.on_account(role, |account, is_root| {
            account.lost(child, is_root);
            Ok(())
        });
        let held = self.held_by(role, child);
        if let Some(troubles) = &mut self.troubles {
            troubles.begun.requeued(held);
        }
        match &mut self.roles[role].machine {
            Machine::Manager(manager) => {
                let mut out = Vec::new();
                manager.on_lost(now, child, &mut out);
                self.manager_acts(role, out, turn);
            }
            Machine::Sub { machine, .. } => {
                let mut out = Vec::new();
                machine.on_lost(now, child, &mut out);
                self.sub_acts(role, out, turn);
            }
            Machine::Worker(..) => {}
        }
        self.handle_local(turn);
        self.settle(self.now, turn);
        if self.is_there(child) {
            // It goes on under its old epoch, and sooner or later it is heard.
            let after = self.troubles.as_mut().map_or(0, |troubles| troubles.draws.below(troubles.faults.patience));
            self.events.push(silent_until.max(self.now) + after, Event::Beat(child));
        }
    }

    /// Tasks that a role's child holds.
    fn held_by(&self, role: usize, child: Rank) -> u64 {
        match &self.roles[role].machine {
            Machine::Manager(manager) => manager.held_by(child).map(IndexRange::len).sum(),
            Machine::Sub { machine, .. } => machine.held_by(child).map(IndexRange::len).sum(),
            Machine::Worker(..) => 0,
        }
    }

    /// A rank that was given up is heard again, under no epoch that counts.
    pub(super) fn beat(&mut self, rank: Rank) {
        let busy_until = self.ranks[rank.position()].busy_until;
        if !self.is_there(rank) {
            return;
        }
        if busy_until > self.now {
            return self.events.push(busy_until, Event::Beat(rank));
        }
        let role = self.roles_of(rank).start;
        let turn = &mut Turn::new(rank, self.now);
        self.send_up(role, Up::Beat { epoch: 0 }, 0, turn);
        self.settle(self.now, turn);
    }

    /// A parent tells a child something that it does not say often: a moment for the child to stall, to die or to be given up,
    /// where there are such faults.
    pub(super) fn at_a_bad_time(&mut self, parent: Rank, child: Rank) {
        const ONE_IN: u64 = 8;
        let Some(troubles) = &mut self.troubles else { return };
        let Troubles { faults, draws, .. } = troubles;
        let patience = faults.patience;
        let there_are = |kind: &&str| faults.kinds.contains(kind);
        let kinds: Vec<&str> = [GIVEN_UP, GIVEN_UP, STALLS, LOSSES].into_iter().filter(there_are).collect();
        if parent == child || kinds.is_empty() || !draws.one_in(ONE_IN) {
            return;
        }
        let fault = match draws.pick(&kinds) {
            GIVEN_UP => Fault::GiveUp(child),
            STALLS => Fault::Stall(child, draws.below(3 * patience)),
            _ => Fault::Lose(child),
        };
        let at = self.now + draws.below(patience / 10);
        self.events.push(at, Event::Fault(faults.events.len()));
        faults.events.push((at, fault));
    }

    fn break_slots(&mut self, rank: Rank) {
        let role = self.roles_of(rank).end.wrapping_sub(1);
        if self.is_there(rank)
            && let Machine::Worker(slots, _) = &mut self.roles[role].machine
        {
            slots.machine.disable();
            for (slot, run) in slots.crash_all(self.now) {
                self.events.push(self.now, Event::Ended { rank, slot, run });
            }
            self.look_at(rank, self.now);
        }
    }

    pub(super) fn hold_back(&mut self, rank: Rank, held: bool) {
        let role = self.roles_of(rank).end.wrapping_sub(1);
        if self.is_there(rank)
            && let Machine::Worker(slots, _) = &mut self.roles[role].machine
        {
            slots.machine.pause(held);
            slots.is_restless = true;
            self.look_at(rank, self.now);
        }
    }

    /// Rank 0 does something about the run.
    fn at_manager(&mut self, act: impl FnOnce(&mut Manager, Micros, &mut Vec<ManagerAction>)) {
        let turn = &mut Turn::new(Rank::MANAGER, self.now.max(self.ranks[0].busy_until));
        let mut out = Vec::new();
        if let Machine::Manager(manager) = &mut self.roles[0].machine {
            act(manager, micros(turn.at), &mut out);
        }
        self.manager_acts(0, out, turn);
        self.handle_local(turn);
        self.settle(self.now, turn);
    }

    fn cancel(&mut self, range: IndexRange) {
        let submitted = self.troubles.as_ref().map_or(0, |troubles| troubles.submitted);
        let range = IndexRange { start: range.start, end: range.end.min(submitted) };
        if range.start >= range.end {
            return;
        }
        self.on_account(0, |account, _| {
            account.cancelled(range);
            Ok(())
        });
        self.at_manager(|manager, now, out| manager.cancel(now, BUNDLE, range, out));
    }

    /// The run is to stop.
    pub(super) fn drain(&mut self, why: EndedBy, grace: Nanos) {
        let ends = self.now + grace;
        let Some(troubles) = &mut self.troubles else { return };
        let ends = troubles.grace_ends.map_or(ends, |earlier| earlier.min(ends));
        troubles.grace_ends = Some(ends);
        let mut gives_up = ends + WITH_TASKS;
        if why == EndedBy::Disk {
            gives_up = *troubles.force_at.get_or_insert(ends + WITH_RANKS);
        }
        self.events.push(gives_up, Event::Chore);
        self.on_account(0, |account, _| {
            account.stopped();
            Ok(())
        });
        self.at_manager(|manager, now, out| manager.drain(now, why, grace / 1000, out));
    }

    fn submit(&mut self, end: u64) {
        let Some(troubles) = &mut self.troubles else { return };
        let new = IndexRange::new(troubles.submitted, end.max(troubles.submitted));
        troubles.submitted = new.end;
        let (all, shapes) = (self.tasks.count(), self.tasks.shapes());
        self.on_account(0, |account, _| {
            account.add([new].into_iter().filter(|range| !range.is_empty()));
            Ok(())
        });
        self.at_manager(|manager, now, out| {
            manager.extend(BUNDLE, new.len(), shapes);
            manager.step(now, out);
            if new.end == all {
                manager.close(now, BUNDLE, out);
            }
        });
    }

    /// Rank 0 looks whether the start can go on, as `drive/manager.rs` does.
    pub(super) fn chores(&mut self) {
        let Some(troubles) = &mut self.troubles else { return };
        let gives_up = troubles.force_at.or(troubles.grace_ends.map(|at| at + WITH_TASKS));
        if troubles.over_at.is_some_and(|at| self.now >= at) {
            self.end = Some(StartEnd::Forced);
        } else if gives_up.is_some_and(|at| self.now >= at) && troubles.over_at.is_none() {
            let is_full = troubles.force_at.is_some();
            troubles.over_at = Some(self.now + WITH_RANKS);
            self.events.push(self.now + WITH_RANKS, Event::Chore);
            if !is_full {
                self.note(Err(Violation("a drain has not come to its end a minute after its grace".to_owned())), 0);
            }
            self.at_manager(|manager, now, out| manager.end_now(now, EndedBy::Stop, out));
        }
        self.look_for_cores();
    }

    /// Where no rank can start tasks any more, the run stops.
    pub(super) fn look_for_cores(&mut self) {
        let Machine::Manager(manager) = &self.roles[0].machine else { return };
        let none = manager.is_without_cores() && manager.draining().is_none() && manager.ending().is_none();
        let Some(troubles) = &mut self.troubles else { return };
        match troubles.no_cores_since {
            _ if !none => troubles.no_cores_since = None,
            None => {
                troubles.no_cores_since = Some(self.now);
                self.events.push(self.now + CHORES, Event::Chore);
            }
            Some(since) if self.now >= since + CHORES => self.drain(EndedBy::Stop, 0),
            Some(_) => {}
        }
    }

    /// A rank all of whose roles are over hears nothing any more.
    pub(super) fn leave_if_over(&mut self, rank: Rank) {
        let is_over = self.roles_of(rank).all(|role| self.roles[role].is_done);
        if is_over {
            let state = &mut self.ranks[rank.position()];
            (state.is_alive, state.has_left, state.looks) = (false, true, NEVER);
        }
    }
}
