//! The keeper's side of a role: outcomes go into a segment, and what points to them waits until they are durable.

use crate::ledger::SegmentWriter;
use crate::schedule::Report;
use crate::task::Extent;
use crate::wake::Wake;
use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

/// A segment, and words that wait for it.
#[derive(Debug)]
pub(super) struct Keeper<T> {
    segment: SegmentWriter,
    appended: u64,
    waiting: VecDeque<(u64, T)>,
    failed: bool,
}

impl<T> Keeper<T> {
    pub(super) fn new(segments: &Path, number: u32, sync: Duration, wake: Wake) -> Self {
        let segment = SegmentWriter::new(segments, number, sync, wake);
        Self { segment, appended: 0, waiting: VecDeque::new(), failed: false }
    }

    /// Appends blocks.
    pub(super) fn keep(&mut self, blocks: Vec<u8>) -> Extent {
        let extent = self.segment.append(blocks);
        self.appended = extent.end();
        extent
    }

    /// Has what was gathered written, unless that can wait.
    pub(super) fn pass_on(&mut self) {
        self.segment.pass_on();
    }

    /// Appends the blocks that came with a report and writes their place into it.
    pub(super) fn keep_report(&mut self, report: &mut Report, blocks: Vec<u8>) {
        if blocks.is_empty() {
            return;
        }
        let extent = self.keep(blocks);
        for section in report.sections.iter_mut().filter(|section| section.extent.is_none()) {
            section.extent = Some(extent);
        }
    }

    /// Queues a word behind everything appended so far.
    pub(super) fn push(&mut self, word: T) {
        self.waiting.push_back((self.appended, word));
    }

    /// The next word whose records are durable.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.pop_if(|_| true)
    }

    /// The same, where nothing else is waited for.
    pub(super) fn pop_if(&mut self, is_ready: impl FnOnce(&T) -> bool) -> Option<T> {
        let (needs, word) = self.waiting.front()?;
        if *needs > self.segment.durable() || !is_ready(word) {
            return None;
        }
        self.waiting.pop_front().map(|(_, word)| word)
    }

    /// The error that keeps the segment from being written, the first time it is asked for.
    pub(super) fn new_error(&mut self) -> Option<String> {
        let error = self.segment.error().filter(|_| !self.failed)?;
        self.failed = true;
        Some(error)
    }

    /// After an error: the words that will never be durable.
    pub(super) fn give_up_waiting(&mut self) -> impl Iterator<Item = T> + '_ {
        self.waiting.drain(..).map(|(_, word)| word)
    }

    /// Whether writing failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Bytes not yet written.
    pub(super) fn queued_bytes(&self) -> u64 {
        self.segment.queued_bytes()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Writes and syncs what is left.
    pub(super) fn finish(self) -> Result<(), crate::ledger::LedgerError> {
        self.segment.finish()
    }
}
