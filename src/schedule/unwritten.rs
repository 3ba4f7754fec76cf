//! What a keeper has heard of and may not tell yet: tasks that have ended whose records are still to be written.

use super::message::{Amount, Section, Work, WorkRange};
use crate::task::{FailureDigest, IndexRange, Resources};
use std::collections::VecDeque;

/// Tasks that ended below, as they came in one report.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) sections: Vec<Section>,
    /// What those tasks are.
    pub(super) work: Amount,
    pub(super) digest: FailureDigest,
}

impl Ended {
    /// Where the records end, of those that lie in this segment.
    fn ends_at(&self, segment: u32) -> Option<u64> {
        let extents = self.sections.iter().filter_map(|section| section.extent);
        extents.filter(|extent| extent.segment == segment).map(|extent| extent.end()).max()
    }
}

/// Ended tasks in the order of their records, which lie in the segment of this very role.
#[derive(Debug)]
pub(super) struct Unwritten {
    segment: u32,
    waiting: VecDeque<(u64, Ended)>,
    work: Amount,
    written: u64,
    /// Nothing more will be written.
    is_unwritable: bool,
}

impl Unwritten {
    pub(super) fn new(segment: u32) -> Self {
        Self { segment, waiting: VecDeque::new(), work: Amount::default(), written: 0, is_unwritable: false }
    }

    /// The link's epoch is over: nothing of it is told any more.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.work = Amount::default();
    }

    /// Takes what may not be told yet; gives back what may be.
    pub(super) fn hold_back(&mut self, ended: Ended) -> Option<Ended> {
        let Some(end) = ended.ends_at(self.segment).filter(|end| *end > self.written) else { return Some(ended) };
        self.work += ended.work;
        self.waiting.push_back((end, ended));
        None
    }

    /// The segment is written up to there.
    pub(super) fn set_written(&mut self, end: u64) {
        self.written = self.written.max(end);
    }

    /// Nothing more will be written.
    pub(super) fn set_unwritable(&mut self) {
        self.is_unwritable = true;
    }

    /// The next that is written by now.
    pub(super) fn pop_written(&mut self) -> Option<Ended> {
        let written = self.written;
        self.pop_if(|end| end <= written)
    }

    /// The next that will never be written.
    pub(super) fn pop_unwritable(&mut self) -> Option<Ended> {
        let is_unwritable = self.is_unwritable;
        self.pop_if(|_| is_unwritable)
    }

    fn pop_if(&mut self, is_next: impl FnOnce(u64) -> bool) -> Option<Ended> {
        let (_, ended) = self.waiting.pop_front_if(|(end, _)| is_next(*end))?;
        self.work -= ended.work;
        Some(ended)
    }

    /// How much work has ended and waits.
    pub(super) fn work(&self) -> Amount {
        self.work
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Which tasks wait, for the checks.
    pub(super) fn tasks(&self) -> impl Iterator<Item = IndexRange> + '_ {
        self.waiting
            .iter()
            .flat_map(|(_, ended)| &ended.sections)
            .flat_map(|section| &section.runs)
            .map(|run| run.range)
    }
}

/// What ended is given back as if it had not run, where nobody may hear of it. Of work that is given back the parent takes
/// only the place; it noted the rest itself.
pub(super) fn as_not_run(sections: Vec<Section>) -> impl Iterator<Item = WorkRange> {
    let given = |Section { bundle, runs, .. }: Section| {
        let (resources, avoid) = (Resources::ONE_CORE, None);
        let work = Work { bundle, resources, retries: 0, calls: false, attempt: 0, crashes: 0, apart: false, avoid };
        runs.into_iter().map(move |run| WorkRange { work, range: run.range })
    };
    sections.into_iter().flat_map(given)
}
