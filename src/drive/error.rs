//! What can go wrong with a rank as a whole.

use crate::execute::ExecuteError;
use crate::fabric::FabricError;
use crate::ledger::LedgerError;
use crate::task::io_cause;

/// Why a rank could not take part, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The tasks do not fit the machine; nothing ran.
    #[error("{0}")]
    Unfit(String),
    /// This process has a session already.
    #[error("a session is open in this process: it has to be finished before another can be entered")]
    Open,
    /// Ranks are gone since an earlier session.
    #[error("ranks were lost in an earlier session of this process: no other can be entered without them")]
    Lost,
    /// Messages cannot be moved.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// Processes cannot be started.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// The ledger cannot be begun.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The system refused something small.
    #[error("cannot set up the rank: {}", io_cause(.0))]
    System(#[from] std::io::Error),
    /// The manager's words make no sense: another version runs there.
    #[error("rank 0 sent a plan that this rank cannot read; do all ranks run the same program?")]
    Plan,
}
