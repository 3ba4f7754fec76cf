//! What a rank does when: it looks around, takes up what has come and does what is due, and is busy meanwhile.

use super::Nanos;
use super::cluster::{Cluster, Event};
use super::network::{Message, Word};
use super::roles::Machine;
use super::waiting::Listening;
use crate::schedule::{BATCH_US, Down, Micros};
use crate::task::{IndexRange, Rank};
use std::collections::VecDeque;

/// For a rank whose only thread calls functions, another one goes on talking when a batch takes longer than this.
const PATIENCE: Nanos = 1000 * BATCH_US;
/// How long a rank with children may sleep while its own slots are busy.
const PARENTS_WAIT: Nanos = 10_000_000;
const BIG_PARENTS_WAIT: Nanos = 1_000_000;
/// For so long after its start no rank sleeps for longer than this.
const STARTING: Nanos = 200_000_000;
const STARTING_WAIT: Nanos = 1_000_000;
pub(super) const NEVER: Nanos = Nanos::MAX;

/// What a rank's clock shows.
pub(super) fn micros(at: Nanos) -> Micros {
    at / 1000
}

pub(super) struct RankState {
    /// Its first role among all, and how many it has, from the root downwards.
    pub(super) first_role: u32,
    pub(super) roles: u8,
    pub(super) inbox: VecDeque<Box<Message>>,
    pub(super) busy_until: Nanos,
    pub(super) busy: Nanos,
    /// When it began to wait.
    pub(super) since: Nanos,
    /// When it looks around next.
    pub(super) looks: Nanos,
    pub(super) messages: u64,
    /// How many times as long its own work takes.
    pub(super) slowness: u64,
    /// It has not died, and not left because all its roles are over.
    pub(super) is_alive: bool,
    pub(super) has_left: bool,
    /// How long it may sleep while its own slots are busy, where it has children.
    pub(super) parents_wait: Nanos,
}

/// By the number of children; as in `src/drive/rank.rs`.
pub(super) fn parents_wait(children: usize) -> Nanos {
    (2 * PARENTS_WAIT / children.max(2) as u64).max(BIG_PARENTS_WAIT)
}

/// A rank at work: until when so far, and the words between its own roles that it has yet to take up.
pub(super) struct Turn {
    pub(super) rank: Rank,
    pub(super) at: Nanos,
    pub(super) local: VecDeque<Box<Message>>,
}

impl Turn {
    pub(super) fn new(rank: Rank, at: Nanos) -> Self {
        Self { rank, at, local: VecDeque::new() }
    }
}

impl Cluster<'_> {
    /// The rank's roles open their links.
    pub(super) fn open(&mut self, rank: Rank) {
        let turn = &mut Turn::new(rank, self.now);
        for role in self.roles_of(rank) {
            match &mut self.roles[role].machine {
                Machine::Manager(manager) => {
                    let mut out = Vec::new();
                    manager.open(0, &mut out);
                    self.manager_acts(role, out, turn);
                }
                Machine::Sub { machine, .. } => {
                    let mut out = Vec::new();
                    machine.open(&mut out);
                    self.sub_acts(role, out, turn);
                }
                Machine::Worker(..) => {}
            }
        }
        self.handle_local(turn);
        self.settle(self.now, turn);
    }

    pub(super) fn look_at(&mut self, rank: Rank, at: Nanos) {
        let state = &mut self.ranks[rank.position()];
        let at = at.max(state.busy_until).max(self.now);
        if at < state.looks {
            state.looks = at;
            self.events.push(at, Event::Look(rank));
        }
    }

    pub(super) fn arrive(&mut self, message: Box<Message>) {
        let rank = message.to;
        if !self.ranks[rank.position()].is_alive {
            // Whoever welcomes a rank that is gone will not hear of it.
            if let Word::Down(Down::Welcome { .. }) = message.word {
                let (parent, child) = (message.from, rank);
                let after = self.troubles.as_ref().map_or(0, |troubles| troubles.faults.patience);
                self.events.push(self.now + after, Event::GiveUp { parent, child, in_any_case: true });
            }
            return;
        }
        let notices = self.notices(rank);
        let state = &mut self.ranks[rank.position()];
        state.inbox.push_back(message);
        let (messages, waiting) = (&mut state.messages, state.inbox.len());
        *messages += 1;
        self.tally.queued(self.roles[state.first_role as usize].depth, waiting);
        self.look_at(rank, notices);
    }

    /// When a rank notices what has just come.
    fn notices(&self, rank: Rank) -> Nanos {
        let RankState { since, parents_wait, .. } = self.ranks[rank.position()];
        let waits = |since: Nanos, listening| {
            let noticed = self.looks.notices(since, self.now, listening);
            let starting = since + self.now.saturating_sub(since).next_multiple_of(STARTING_WAIT);
            if self.now < STARTING { noticed.min(starting) } else { noticed }
        };
        let roles = self.roles_of(rank);
        let Machine::Worker(slots, _) = &self.roles[roles.end - 1].machine else {
            return waits(since, Listening::Eagerly);
        };
        let is_leaf = roles.len() == 1;
        match slots.only_run().filter(|_| is_leaf && self.tasks.calls()) {
            // The thread that calls hears nobody; another one does after a while.
            Some(run) => waits((since + PATIENCE).max(self.now), Listening::Lazily(NEVER)).min(run.ends),
            None if slots.any_runs() && self.has_reserve(rank) => {
                waits(since, Listening::Lazily(if is_leaf { NEVER } else { parents_wait }))
            }
            None => waits(since, Listening::Eagerly),
        }
    }

    /// Whether the end of a task below this rank is no hurry.
    fn has_reserve(&self, rank: Rank) -> bool {
        self.roles[self.roles_of(rank)].iter().all(|role| match &role.machine {
            Machine::Manager(machine) => machine.has_reserve(),
            Machine::Sub { machine, .. } => machine.has_reserve(),
            Machine::Worker(..) => true,
        })
    }

    pub(super) fn run_may_have_ended(&mut self, rank: Rank, slot: u32, run: u64) {
        if !self.ranks[rank.position()].is_alive {
            return;
        }
        let role = self.roles_of(rank).end - 1;
        let Machine::Worker(slots, _) = &mut self.roles[role].machine else { return };
        let Some(ends) = slots.run(slot, run).map(|run| run.ends) else { return };
        if ends > self.now {
            self.events.push(ends, Event::Ended { rank, slot, run });
            return;
        }
        slots.note_end(slot);
        self.look_at(rank, self.now + self.numbers.rank.batch_ns);
    }

    pub(super) fn cut_long(&mut self, rank: Rank, slot: u32, run: u64) {
        if !self.ranks[rank.position()].is_alive {
            return;
        }
        let role = self.roles_of(rank).end - 1;
        let (now, call) = (self.now, self.numbers.rank.call_ns);
        let Machine::Worker(slots, _) = &mut self.roles[role].machine else { return };
        let Some(ends) = slots.run(slot, run).map(|run| run.ends) else { return };
        if ends > now && slots.run(slot, run).is_some_and(|run| run.range.len() > 1) {
            let (ends, rest) = slots.cut(now, slot, rank, self.tasks, call).unwrap_or((now, IndexRange::new(0, 0)));
            self.touched = Some(rank);
            self.was_cut(role, slot, rest);
            self.events.push(ends.max(now), Event::Ended { rank, slot, run });
            self.look_at(rank, now);
        }
    }

    /// The rank takes up what has come and does what is due.
    pub(super) fn look_around(&mut self, rank: Rank) {
        let turn = &mut Turn::new(rank, self.now);
        let state = &mut self.ranks[rank.position()];
        state.looks = NEVER;
        if !state.is_alive {
            return;
        }
        if state.busy_until > self.now {
            return self.look_at(rank, self.now);
        }
        while let Some(message) = self.ranks[rank.position()].inbox.pop_front() {
            turn.at += self.link(message.from, rank).receive_ns * self.ranks[rank.position()].slowness;
            self.handle(message, turn);
            self.handle_local(turn);
        }
        for role in self.roles_of(rank) {
            self.do_what_is_due(role, turn);
        }
        self.handle_local(turn);
        self.settle(self.now, turn);
    }

    /// Notes that the rank was at work, and when it looks around next.
    pub(super) fn settle(&mut self, start: Nanos, turn: &Turn) {
        let (rank, at) = (turn.rank, turn.at);
        let state = &mut self.ranks[rank.position()];
        state.busy += at - start;
        state.busy_until = at;
        if at > start {
            state.since = at;
        }
        self.touched = Some(rank);
        self.leave_if_over(rank);
        if !self.ranks[rank.position()].is_alive {
            return;
        }
        let mut next = NEVER;
        for role in self.roles_of(rank) {
            let (tick, own) = match &self.roles[role].machine {
                Machine::Manager(manager) => (manager.next_tick(), NEVER),
                Machine::Sub { machine, keeper, .. } => {
                    let written = keeper.as_ref().and_then(|keeper| keeper.file.written_beyond(keeper.told));
                    (machine.next_tick(), written.unwrap_or(NEVER))
                }
                Machine::Worker(slots, _) => (slots.machine.next_tick(), NEVER),
            };
            // Its clock shows whole microseconds: a tick that is due now is not looked for before the next one.
            let tick = tick.map_or(NEVER, |us| (us * 1000).max(at + 1000));
            next = next.min(tick).min(own);
        }
        if next < NEVER {
            self.look_at(rank, next);
        }
    }

    pub(super) fn handle_local(&mut self, turn: &mut Turn) {
        while let Some(message) = turn.local.pop_front() {
            self.handle(message, turn);
        }
    }

    /// What time, slots and files ask for.
    fn do_what_is_due(&mut self, role: usize, turn: &mut Turn) {
        let now = micros(turn.at);
        match &mut self.roles[role].machine {
            Machine::Manager(manager) => {
                if manager.next_tick().is_some_and(|due| due <= now) {
                    let mut out = Vec::new();
                    manager.step(now, &mut out);
                    self.manager_acts(role, out, turn);
                }
            }
            Machine::Sub { machine, keeper, .. } => {
                let mut out = Vec::new();
                if machine.next_tick().is_some_and(|due| due <= now) {
                    machine.step(now, &mut out);
                }
                if let Some(keeper) = keeper {
                    keeper.told = keeper.file.written(turn.at);
                    machine.on_written(now, keeper.told, &mut out);
                }
                if !out.is_empty() {
                    self.sub_acts(role, out, turn);
                }
            }
            Machine::Worker(slots, blocks) => {
                let ran_well = self.troubles.as_mut().map(|troubles| &mut troubles.ran_well);
                let (ended, tasks) = slots.take_ended(now, turn.rank, self.tasks, ran_well, &mut self.ends);
                *blocks += tasks * self.record_bytes;
                let restless = std::mem::take(&mut slots.is_restless);
                if ended > 0 || restless || slots.machine.next_tick().is_some_and(|due| due <= now) {
                    let slowness = self.ranks[turn.rank.position()].slowness;
                    turn.at += ended as u64 * self.numbers.rank.handle_ns * slowness;
                    let mut out = Vec::new();
                    slots.machine.step(now, &mut out);
                    self.worker_acts(role, out, turn);
                }
            }
        }
    }
}
