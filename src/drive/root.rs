//! What the loop of rank 0 needs of the role at the root of the tree, whether it keeps a ledger or only measures.

use super::manager::{ManagerRole, RunEnd};
use super::parts::Parts;
use super::roles::Outbox;
use super::wire::LongRun;
use crate::schedule::Up;
use crate::task::{EndedBy, Rank};

/// The role at the root of the tree.
pub(super) trait Root {
    /// How it ended, for the caller.
    type End;

    /// Opens the links to the children.
    fn open(&mut self, now: u64, out: &mut Outbox);

    /// A child's word; blocks of outcomes may come with it.
    fn on_child(&mut self, now: u64, from: Rank, message: Up, blocks: Vec<u8>, out: &mut Outbox);

    /// A child is given up.
    fn on_lost(&mut self, now: u64, child: Rank, out: &mut Outbox);

    /// Whether some rank was given up and is not there again.
    fn has_lost(&self) -> bool;

    /// A rank asks for the end.
    fn on_stop(&mut self, now: u64, why: EndedBy, what: &str, out: &mut Outbox);

    /// The tasks that run longest somewhere.
    fn on_longest(&mut self, _now: u64, _from: Rank, _long: Vec<LongRun>) {}

    /// What the ledger and the clock ask for, done once in each turn of the loop.
    fn turn(&mut self, now: u64, parts: &mut Parts, out: &mut Outbox);

    /// When `turn` should be called next, if nothing else happens; `None` for never.
    fn next_tick(&self) -> Option<u64>;

    /// Whether the end of a task is no hurry: the next one of its slot lies ready.
    fn has_reserve(&self) -> bool;

    /// Whether the role is over and nothing of it waits.
    fn is_over(&self) -> bool;

    /// Whether the run is ended without those that do not answer. It is asked often, and looks at the clock only where it
    /// must.
    fn is_forced(&self, _now: &dyn Fn() -> u64) -> bool {
        false
    }

    /// Bytes not yet written.
    fn queued_bytes(&self) -> u64 {
        0
    }

    /// Everything has ended.
    fn finish(self, now: u64) -> Self::End;
}

impl Root for ManagerRole {
    type End = RunEnd;

    fn open(&mut self, now: u64, out: &mut Outbox) {
        ManagerRole::open(self, now, out);
    }

    fn on_child(&mut self, now: u64, from: Rank, message: Up, blocks: Vec<u8>, out: &mut Outbox) {
        ManagerRole::on_child(self, now, from, message, blocks, out);
    }

    fn on_lost(&mut self, now: u64, child: Rank, out: &mut Outbox) {
        ManagerRole::on_lost(self, now, child, out);
    }

    fn has_lost(&self) -> bool {
        self.machine.has_lost()
    }

    fn on_stop(&mut self, now: u64, why: EndedBy, what: &str, out: &mut Outbox) {
        ManagerRole::on_stop(self, now, why, what, out);
    }

    fn on_longest(&mut self, now: u64, from: Rank, long: Vec<LongRun>) {
        ManagerRole::on_longest(self, now, from, long);
    }

    fn turn(&mut self, now: u64, _: &mut Parts, out: &mut Outbox) {
        self.release(now, out);
        self.step(now, out);
        self.chores(now, out);
    }

    fn next_tick(&self) -> Option<u64> {
        Some(ManagerRole::next_tick(self))
    }

    fn has_reserve(&self) -> bool {
        self.machine.has_reserve()
    }

    fn is_over(&self) -> bool {
        ManagerRole::is_over(self)
    }

    fn is_forced(&self, now: &dyn Fn() -> u64) -> bool {
        ManagerRole::is_forced(self, now)
    }

    fn queued_bytes(&self) -> u64 {
        ManagerRole::queued_bytes(self)
    }

    fn finish(self, now: u64) -> RunEnd {
        ManagerRole::finish(self, now)
    }
}
