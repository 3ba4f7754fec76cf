//! What a batch has done so far, between the thread that calls its functions and the owner who may cut it.

use super::slots::{Batch, FailedCall, OkCalls, unix_us};
use crate::task::{IndexRange, PackedCalls};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What tasks of a batch have left behind, under a lock that is nearly always free, until the thread or its owner takes it.
/// Tasks of which nothing is recorded are not noted one by one.
#[derive(Default)]
pub(super) struct Notes(Mutex<Noted>);

#[derive(Default)]
pub(super) struct Noted {
    ok: Vec<OkCalls>,
    failed: Vec<FailedCall>,
    /// The last of `ok` may go on.
    is_open: bool,
    /// All tasks of the batch before this one are noted, or told.
    until: u64,
    pub(super) kept_bytes: usize,
    /// When the next run begins, microseconds since the Unix epoch; how long the tasks of the open one took that are
    /// recorded.
    next_unix_us: u64,
    open_ns: u64,
    /// There is no batch, or it is over.
    is_over: bool,
}

impl Noted {
    pub(super) fn begin(&mut self, first: u64, started_unix_us: u64) {
        (self.until, self.next_unix_us) = (first, started_unix_us);
    }

    /// All that are not noted before this task ended well.
    pub(super) fn ok_until(&mut self, end: u64) {
        if end <= self.until {
            return;
        }
        if !self.is_open {
            let range = IndexRange::new(self.until, self.until);
            self.ok.push(OkCalls { range, started_unix_us: self.next_unix_us, calls: PackedCalls::default() });
            (self.is_open, self.open_ns) = (true, 0);
        }
        self.until = end;
        self.ok.last_mut().expect("one was just made sure of").range.end = end;
    }

    pub(super) fn keep(&mut self, duration_ns: u64, value: &[u8]) {
        self.kept_bytes += value.len();
        self.open_ns += duration_ns;
        self.ok.last_mut().expect("the task was just noted").calls.push(duration_ns, value);
    }

    pub(super) fn failed(&mut self, failed: FailedCall) {
        self.ok_until(failed.index);
        self.is_open = false;
        self.until = failed.index + 1;
        self.next_unix_us = failed.started_unix_us + failed.duration_us;
        self.kept_bytes += size_of::<FailedCall>() + failed.value.len();
        self.failed.push(failed);
    }

    fn take(&mut self, into: &mut Batch) {
        if let Some(open) = self.ok.last().filter(|_| self.is_open) {
            self.next_unix_us = if self.open_ns > 0 { open.started_unix_us + self.open_ns / 1000 } else { unix_us() };
        }
        (into.ok, into.failed) = (std::mem::take(&mut self.ok), std::mem::take(&mut self.failed));
        (self.is_open, self.kept_bytes) = (false, 0);
    }
}

impl Notes {
    pub(super) fn lock(&self) -> MutexGuard<'_, Noted> {
        // No user's code runs under it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch is about to begin.
    pub(super) fn open(&self) {
        *self.lock() = Noted::default();
    }

    /// Takes what is noted of a batch that goes on, those before this task with it: they have ended. Whether there is any.
    pub(super) fn take_until(&self, before: u64, into: &mut Batch) -> bool {
        let mut noted = self.lock();
        if noted.is_over || noted.next_unix_us == 0 {
            return false;
        }
        noted.ok_until(before);
        noted.take(into);
        !(into.ok.is_empty() && into.failed.is_empty())
    }

    /// Takes all that is left of a batch whose tasks before this one have ended.
    pub(super) fn finish(&self, end: u64, into: &mut Batch) {
        let mut noted = self.lock();
        noted.ok_until(end);
        noted.take(into);
        noted.is_over = true;
    }
}
