//! The ledger of a simulated run: which tasks have ended, and from when on the journal says so on disk.

use super::Nanos;
use super::files::{Appender, FileServer};
use crate::schedule::Violation;
use crate::task::{EndedRun, OutcomeClass, RangeSet};
use std::collections::VecDeque;

/// What the journal holds on disk: one outcome at most for each task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) ended: RangeSet,
    pub(crate) failed: RangeSet,
    pub(crate) cancelled: RangeSet,
}

impl Outcomes {
    /// Takes in what a start leaves; a second outcome is a violation.
    pub(super) fn add(&mut self, runs: &[EndedRun]) -> Result<(), Violation> {
        for run in runs {
            let before = self.ended.len();
            self.ended.insert(run.range);
            if self.ended.len() - before != run.range.len() {
                return Err(Violation(format!("the journal has two outcomes for tasks of {:?}", run.range)));
            }
            match run.class {
                OutcomeClass::Ok => {}
                OutcomeClass::Failed => self.failed.insert(run.range),
                OutcomeClass::Cancelled => self.cancelled.insert(run.range),
            }
        }
        Ok(())
    }

    /// Puts the tasks that failed back, for another round; how many.
    pub(super) fn reopen_failed(&mut self) -> u64 {
        let failed = std::mem::take(&mut self.failed);
        failed.iter().for_each(|range| self.ended.remove(range));
        failed.len()
    }
}

/// The journal of one start.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    journal: Appender,
    /// Tasks with an outcome, of this start and those before.
    pub(super) ended: RangeSet,
    /// When the last record is written.
    pub(super) last: Nanos,
    /// Records and when they are written, where it matters what survives.
    records: Option<VecDeque<(Nanos, Vec<EndedRun>)>>,
    /// It could not be written: nothing more is told.
    has_failed: bool,
}

impl Ledger {
    /// After those that have ended before. `remembers`: it will be asked what survives.
    pub(super) fn new(ended: RangeSet, remembers: bool) -> Self {
        Self { ended, records: remembers.then(VecDeque::new), ..Self::default() }
    }

    /// The journal says that tasks have ended. Returns whether it could not be written for the first time.
    pub(super) fn record(&mut self, runs: &[EndedRun], at: Nanos, server: &mut FileServer) -> Result<bool, Violation> {
        for run in runs {
            let before = self.ended.len();
            self.ended.insert(run.range);
            if self.ended.len() - before != run.range.len() {
                return Err(Violation(format!("tasks of {:?} have two outcomes", run.range)));
            }
        }
        if self.has_failed || server.is_full(at) {
            return Ok(!std::mem::replace(&mut self.has_failed, true));
        }
        let written = self.journal.append(at, 16 + 6 * runs.len() as u64, server);
        self.last = self.last.max(written);
        if let Some(records) = &mut self.records {
            records.push_back((written, runs.to_vec()));
        }
        Ok(false)
    }

    /// What is on disk when everything dies at this time: all that is written, and of the rest the first so many records
    /// that `survive` picks.
    pub(super) fn dies(&mut self, at: Nanos, survive: impl FnOnce(u64) -> u64) -> Vec<EndedRun> {
        let records = self.records.take().unwrap_or_default();
        let written = records.partition_point(|(written, _)| *written <= at);
        let torn = survive((records.len() - written) as u64) as usize;
        records.into_iter().take(written + torn).flat_map(|(_, runs)| runs).collect()
    }

    /// What is on disk when the start ends in order: all that could be written.
    pub(super) fn closes(&mut self) -> Vec<EndedRun> {
        self.dies(Nanos::MAX, |_| 0)
    }
}
