//! Every error that bad input gets, as people read it: file, line, cause. The caller ends with exit status 2.

use super::bundle::BundleError;
use super::cause::io_cause;
use super::grid::GridError;
use super::scan::{MAX_FUNCTIONS, MAX_LINE_BYTES};
use std::io;
use std::path::PathBuf;

/// What is wrong with one line of a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// Longer than `MAX_LINE_BYTES`.
    #[error("the line is longer than {} MiB", MAX_LINE_BYTES >> 20)]
    TooLong,
    /// A NUL byte in a shell line.
    #[error("the line holds a NUL byte; is this a text file?")]
    Nul,
    /// A NUL byte in an entry.
    #[error("the line holds a NUL byte (did you mean -0?)")]
    NulInEntry,
    /// Too many lines that are no tasks.
    #[error("more than four billion lines of the file are no tasks")]
    TooManySkipped,
    /// More functions than a list may call.
    #[error("a list calls at most {MAX_FUNCTIONS} different functions, and this is one more")]
    TooManyFunctions,
    /// A JSON task that is wrong.
    #[error("{0}")]
    Task(String),
    /// A row of a table that is wrong.
    #[error("{0}")]
    Row(String),
}

/// Input that cannot be run. Nothing has been started, and no file is left behind: exit status 2.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The source is missing or cannot be read.
    #[error("{file}: {}", io_cause(source))]
    Unreadable {
        /// As the user wrote it.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// One line is wrong; the first one in the file.
    #[error("{file}:{line}: {cause}")]
    Line {
        /// As the user wrote it.
        file: String,
        /// From 1.
        line: u64,
        /// What is wrong.
        cause: LineFault,
    },
    /// The value of an option is wrong.
    #[error("{option}: {cause}")]
    Option {
        /// The option as the user writes it.
        option: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// Options do not fit together, or one is missing.
    #[error("{0}")]
    Usage(String),
    /// The bundle file cannot be written.
    #[error("cannot write {}: {}", path.display(), io_cause(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bundle that was written cannot be read back.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl From<GridError> for InputError {
    fn from(error: GridError) -> Self {
        InputError::Option { option: "--grid", cause: error.to_string() }
    }
}
