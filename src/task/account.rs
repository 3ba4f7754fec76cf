//! How the ledger speaks of tasks that have ended: in runs, with the place of their records; and why a start ended.

use super::{IndexRange, OutcomeClass};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where blocks lie: consecutive bytes of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// Number of the segment, unique in DIR.
    pub segment: u32,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Extent {
    /// One past the last byte. Saturates, so that a damaged extent lies outside of every file.
    pub fn end(self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    /// Both as one, where `next` begins where `self` ends.
    pub fn join(self, next: Extent) -> Option<Extent> {
        (self.segment == next.segment && self.end() == next.offset)
            .then(|| Extent { len: self.len.saturating_add(next.len), ..self })
    }
}

/// Consecutive tasks that ended alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedRun {
    /// Their positions.
    pub range: IndexRange,
    /// How they ended.
    pub class: OutcomeClass,
}

/// Why a start of a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// Every task has an outcome.
    Complete,
    /// The walltime ran out.
    Walltime,
    /// A signal asked for it.
    Signal,
    /// `myriarch stop` asked for it.
    Stop,
    /// Too many tasks failed.
    MaxFails,
    /// A file could not be written, mostly for lack of room.
    Disk,
}

impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EndedBy::Complete => "complete",
            EndedBy::Walltime => "walltime",
            EndedBy::Signal => "signal",
            EndedBy::Stop => "stop",
            EndedBy::MaxFails => "max-fails",
            EndedBy::Disk => "disk",
        })
    }
}
