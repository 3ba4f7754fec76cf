//! One task as it is to be run, placeholders filled in.
//!
//! Knows nothing of processes: `execute` turns it into one.

use super::Resources;
use std::time::Duration;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program and its arguments; no shell.
    Argv(Vec<Vec<u8>>),
    /// A line for `sh -c`.
    Shell(Vec<u8>),
}

/// One task, ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What to run.
    pub program: Program,
    /// Variables added to the environment, or put in place of those there.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Working directory; made when missing. None: that of the rank.
    pub cwd: Option<Vec<u8>>,
    /// File for standard input. None: `/dev/null`.
    pub stdin: Option<Vec<u8>>,
    /// Time limit.
    pub timeout: Option<Duration>,
    /// What it takes.
    pub resources: Resources,
    /// The line, row or point of the grid that the task was made from.
    pub entry: Option<Vec<u8>>,
    /// The index as the user reads it.
    pub label: u64,
}
