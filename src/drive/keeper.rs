//! The segment of a node, or of rank 0: outcomes go into it, and reports learn where they lie.

use crate::ledger::{LedgerError, SegmentWriter};
use crate::schedule::Report;
use crate::task::Extent;
use crate::wake::Wake;
use std::path::Path;
use std::time::Duration;

/// A segment that reports point to.
#[derive(Debug)]
pub(super) struct Keeper {
    segment: SegmentWriter,
    failed: bool,
}

impl Keeper {
    pub(super) fn new(segments: &Path, number: u32, sync: Duration, wake: Wake) -> Self {
        Self { segment: SegmentWriter::new(segments, number, sync, wake), failed: false }
    }

    /// Appends blocks.
    pub(super) fn keep(&mut self, blocks: Vec<u8>) -> Extent {
        self.segment.append(blocks)
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

    /// Where the next block will lie.
    pub(super) fn end(&self) -> u64 {
        self.segment.end()
    }

    /// Up to where the records are durable.
    pub(super) fn durable(&self) -> u64 {
        self.segment.durable()
    }

    /// The error that keeps the segment from being written, the first time it is asked for. What is not durable by then
    /// never will be.
    pub(super) fn new_error(&mut self) -> Option<String> {
        let error = self.segment.error().filter(|_| !self.failed)?;
        self.failed = true;
        Some(error)
    }

    /// Bytes not yet written.
    pub(super) fn queued_bytes(&self) -> u64 {
        self.segment.queued_bytes()
    }

    /// Whether an error was told.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Writes and syncs what is left.
    pub(super) fn finish(self) -> Result<(), LedgerError> {
        self.segment.finish()
    }
}
