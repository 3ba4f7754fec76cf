//! The spawner of this process for sessions: forked before MPI was started, for one session after the other.

use crate::execute::{ExecuteError, Spawner};
use std::sync::{Mutex, PoisonError};

static SPAWNER: Mutex<Option<Spawner>> = Mutex::new(None);

/// Why processes cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// MPI is running: what is forked now would inherit what belongs to it.
    #[error("prepare() comes before MPI_Init: processes that are forked now would inherit what belongs to MPI")]
    TooLate,
    /// No process can be forked.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

/// Makes it possible for sessions to run tasks that are processes: forks the small process from which they will be started.
/// To be called on every rank, before MPI_Init and best before there are threads. A second call does nothing. Functions need
/// no preparation.
///
/// # Errors
/// MPI was started already, or no process can be forked.
pub fn prepare() -> Result<(), PrepareError> {
    #[cfg(feature = "mpi")]
    if mpi::environment::is_initialized() {
        return Err(PrepareError::TooLate);
    }
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if spawner.is_none() {
        *spawner = Some(Spawner::prepare()?);
    }
    Ok(())
}

/// The spawner, if there is one: it serves one session after the other, or several.
pub(super) fn spawner() -> Option<Spawner> {
    SPAWNER.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
