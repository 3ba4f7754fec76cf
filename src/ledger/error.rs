//! What can go wrong in the ledger, said for people.

use crate::task::io_cause;
use std::io;
use std::path::{Path, PathBuf};

/// The ledger could not be written, read or trusted.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A file operation failed.
    #[error("{}: cannot {what}: {}", path.display(), io_cause(source))]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A block does not stand up to its checks. Its place is added where it is known.
    #[error("damaged block: {0}")]
    Block(&'static str),
    /// A file does not stand up to its checks at this place.
    #[error("{path}: damaged at byte {offset}: {what}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What does not fit.
        what: String,
    },
    /// The journal says that a task ended, but its record is not where the journal points to.
    #[error("task at position {index}: its record is not in {path} at byte {offset}", path = path.display())]
    RecordMissing {
        /// Position of the task.
        index: u64,
        /// The segment.
        path: PathBuf,
        /// Where its extent begins.
        offset: u64,
    },
    /// A writer gave up earlier; its first error.
    #[error("{0}")]
    Writer(String),
    /// A record is too large to be journaled.
    #[error("a journal record of {0} bytes is larger than the largest allowed")]
    RecordTooLarge(usize),
}

impl LedgerError {
    /// Wraps a failed file operation.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// Adds the place to a damaged block.
    pub(crate) fn at(self, path: &Path, offset: u64) -> Self {
        match self {
            Self::Block(what) => Self::Damaged { path: path.to_owned(), offset, what: what.to_owned() },
            other => other,
        }
    }
}
