//! After a session that ended without some ranks. MPI cannot be finalised without them, and a launcher may end a job of which a
//! process is gone without that; so the other ranks wait in the session until the program of rank 0 ends, too.

use super::super::memory::MemoryManager;
use super::super::rank::RankLoop;
use super::super::stage::Stage;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

/// What rank 0 holds on to. The understudy, where there is one, tells the others that rank 0 is there.
static HELD: Mutex<Option<Stage<RankLoop<MemoryManager>>>> = Mutex::new(None);

/// What `end_program` was told.
static STATUS: AtomicI32 = AtomicI32::new(0);

/// Holds on to a session that is settled.
pub(super) fn hold(stage: Stage<RankLoop<MemoryManager>>) {
    *HELD.lock().unwrap_or_else(PoisonError::into_inner) = Some(stage);
    end_at_finalize();
}

/// When the program calls MPI_Finalize, it ends there: some rank will not take part in that.
pub(super) fn end_at_finalize() {
    #[cfg(feature = "mpi")]
    if let Err(error) = crate::fabric::instead_of_finalizing(end_here) {
        tracing::warn!(%error, "MPI_Finalize will wait for ranks that are gone");
    }
}

#[cfg(feature = "mpi")]
fn end_here() {
    /// As Rust ends a process whose `main` panicked.
    const PANICKED: i32 = 101;
    let asked = STATUS.load(Ordering::Relaxed);
    end_without_mpi(if asked == 0 && std::thread::panicking() { PANICKED } else { asked });
}

/// Whether ranks of an earlier session are gone: none of the calls of MPI that all ranks make comes to its end any more.
pub fn is_without_all() -> bool {
    HELD.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// Ends this process with that status, in place of MPI_Finalize and the end of `main`, and as any rank may: MPI is finalised, or,
/// where a session ended without some ranks, the others end first. What C and Rust have buffered for their streams is written;
/// what else happens at an exit does not. To be called where MPI_Finalize may be.
pub fn end_program(status: i32) -> ! {
    STATUS.store(status, Ordering::Relaxed);
    #[cfg(feature = "mpi")]
    if !is_without_all() {
        crate::fabric::finalize();
    }
    end_without_mpi(status)
}

fn end_without_mpi(status: i32) -> ! {
    if let Some(stage) = HELD.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let farewell = stage.enter().farewell();
        let (_, mut fabric) = stage.close().finish();
        farewell.say(&mut *fabric);
        fabric.finish(true);
    }
    crate::fabric::leave_written(status)
}
