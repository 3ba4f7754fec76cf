//! What a task is: its identity, its template, the bundle that holds it, and how it ended.
//!
//! Nothing here knows of ranks that talk, of files in a run directory, or of processes.

mod id;
mod outcome;
mod ranges;

pub use id::{BundleId, IndexRange, NodeId, Rank, Resources};
pub use outcome::{Captured, FailureDigest, FailureGroup, Outcome, OutcomeClass, Status, StatusParseError};
pub use ranges::RangeSet;
