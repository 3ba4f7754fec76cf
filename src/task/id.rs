//! Names of things: small newtypes, so that a rank is never taken for a node.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One MPI process (or one thread that plays its part), numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rank(pub u32);

impl Rank {
    /// Rank 0, which hosts the manager.
    pub const MANAGER: Rank = Rank(0);

    /// The rank as a position in a table of ranks.
    pub fn position(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A node: the ranks that share memory. Numbers are positions in the run's table of node names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

/// A bundle of this run. `myriarch run` has exactly one, number 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BundleId(pub u32);

/// Consecutive task positions of one bundle, `start..end`, half open. Positions count from 0; what a user reads as
/// the index of an array task is `Bundle::label` of the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct IndexRange {
    /// First position.
    pub start: u64,
    /// One past the last position.
    pub end: u64,
}

/// A range as it was read: from a message or a file, and not to be trusted.
#[derive(Deserialize)]
struct Unchecked {
    start: u64,
    end: u64,
}

impl TryFrom<Unchecked> for IndexRange {
    type Error = String;

    fn try_from(Unchecked { start, end }: Unchecked) -> Result<Self, String> {
        if start <= end { Ok(Self { start, end }) } else { Err(format!("range {start}..{end} runs backwards")) }
    }
}

impl IndexRange {
    /// `start..end`. Panics when it runs backwards.
    pub fn new(start: u64, end: u64) -> Self {
        assert!(start <= end, "range {start}..{end} runs backwards");
        Self { start, end }
    }

    /// The range of one task.
    pub fn one(index: u64) -> Self {
        Self { start: index, end: index + 1 }
    }

    /// How many tasks.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether the position lies within.
    pub fn contains(self, index: u64) -> bool {
        self.start <= index && index < self.end
    }
}

/// What a task takes, or a worker has: a small vector. Every task takes at least one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Cores; one slot is one core.
    pub cores: u32,
    /// GPUs.
    pub gpus: u32,
}

impl Resources {
    /// One core and nothing else.
    pub const ONE_CORE: Resources = Resources { cores: 1, gpus: 0 };

    /// Whether a place with `self` free can host a task that takes `need`.
    pub fn fits(self, need: Resources) -> bool {
        need.cores <= self.cores && need.gpus <= self.gpus
    }
}
