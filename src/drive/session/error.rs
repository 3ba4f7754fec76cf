//! Why a session cannot do what it was asked for.

use super::MAX_ENTRY_BYTES;
use crate::drive::DriveError;
use crate::ledger::LedgerError;

/// Why a session cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The session is broken: messages cannot be moved any more.
    #[error(transparent)]
    Broken(#[from] DriveError),
    /// Outcomes fill the memory that they may take: those of some bundle have to be taken first, or the bundle dropped.
    #[error("{bytes} bytes of outcomes wait to be taken, and no more are taken up: take them, or drop their bundles")]
    Unread {
        /// How many.
        bytes: u64,
    },
    /// The bundle was closed.
    #[error("the bundle is closed: no tasks can be added to it")]
    Closed,
    /// The session broke before.
    #[error("the session is broken, as an earlier call said")]
    Ended,
    /// A task is larger than any that can be sent.
    #[error("a task of {bytes} bytes: {MAX_ENTRY_BYTES} is the most")]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// There is no such function.
    #[error("no function {name:?} is registered; register it on every rank before entering")]
    NoFunction {
        /// The name.
        name: String,
    },
    /// Processes cannot be started.
    #[error("processes cannot be started: prepare has to be called on every rank before MPI_Init")]
    NotPrepared,
    /// No rank has as much as a task takes.
    #[error("a task takes {what}, and no rank has as much")]
    Unfit {
        /// How much.
        what: String,
    },
    /// An argument that cannot be sent, or a process that can be none; why.
    #[error("{0}")]
    Argument(String),
    /// The session is gone on with, and this task is another one than that which was submitted under its number before.
    #[error(
        "task {task} of bundle {bundle} is not the one that lies in the session's DIR: go on with the same tasks, in the \
             same order, or in another DIR"
    )]
    Differs {
        /// The number of the bundle: the first that was opened has 0.
        bundle: usize,
        /// The number of the task in it.
        task: u64,
    },
    /// Someone asked the session to stop (`myriarch stop`): no more tasks are started. It can be gone on with.
    #[error("the session was asked to stop; it can be gone on with in its DIR")]
    Stopped,
    /// The DIR cannot be written or read; what and why. No more tasks are started.
    #[error("{0}")]
    Dir(String),
}

impl From<LedgerError> for SessionError {
    fn from(error: LedgerError) -> Self {
        SessionError::Dir(error.to_string())
    }
}
