//! What a worker needs of whatever runs its attempts: processes, or nothing at all where only the rest is measured.

use crate::execute::{Ended, Executor};
use crate::task::{Captured, Command, Status};
use std::time::Duration;

/// Runs attempts on the slots of a rank.
pub(super) trait Slots: Send {
    /// Starts a command; its end comes with a later [`poll`](Self::poll).
    fn start(&mut self, slots: &[u32], command: &Command, attempt: u32);

    /// Ends what runs on the slot.
    fn kill(&mut self, slot: u32, grace: Duration);

    /// Adds what ended since the last call. Does not wait.
    fn poll(&mut self, ended: &mut Vec<Ended>);

    /// Whether `poll` has something to do without a descriptor to say so.
    fn is_due(&self) -> bool;

    /// Whether nothing can be started any more.
    fn is_broken(&self) -> bool;

    /// Whether outcomes are to be recorded.
    fn records(&self) -> bool;

    /// What to sleep on: readable when `poll` has something to do.
    fn wait_descriptors(&self, into: &mut Vec<libc::pollfd>);

    /// Ends everything.
    fn shutdown(self: Box<Self>);
}

impl Slots for Executor {
    fn start(&mut self, slots: &[u32], command: &Command, attempt: u32) {
        Executor::start(self, slots, command, attempt);
    }

    fn kill(&mut self, slot: u32, grace: Duration) {
        Executor::kill(self, slot, grace);
    }

    fn poll(&mut self, ended: &mut Vec<Ended>) {
        Executor::poll(self, ended);
    }

    fn is_due(&self) -> bool {
        false
    }

    fn is_broken(&self) -> bool {
        self.broken().is_some()
    }

    fn records(&self) -> bool {
        true
    }

    fn wait_descriptors(&self, into: &mut Vec<libc::pollfd>) {
        Executor::wait_descriptors(self, into);
    }

    fn shutdown(self: Box<Self>) {
        Executor::shutdown(*self);
    }
}

/// Slots on which every attempt ends well as soon as it is started.
#[derive(Debug, Default)]
pub(super) struct NullSlots {
    ended: Vec<Ended>,
}

impl Slots for NullSlots {
    fn start(&mut self, slots: &[u32], _: &Command, _: u32) {
        self.ended.push(Ended {
            slot: slots[0],
            status: Status::Ok,
            killed: false,
            crashed: false,
            started_unix_us: 0,
            duration_us: 0,
            stdout: Captured::default(),
            stderr: Captured::default(),
        });
    }

    fn kill(&mut self, _: u32, _: Duration) {}

    fn poll(&mut self, ended: &mut Vec<Ended>) {
        ended.append(&mut self.ended);
    }

    fn is_due(&self) -> bool {
        !self.ended.is_empty()
    }

    fn is_broken(&self) -> bool {
        false
    }

    fn records(&self) -> bool {
        false
    }

    fn wait_descriptors(&self, _: &mut Vec<libc::pollfd>) {}

    fn shutdown(self: Box<Self>) {}
}
