//! After a session that ended without some ranks. MPI cannot be finalised without them, and a launcher may end a job of which a
//! process is gone without that; so the other ranks wait in the session until the program of rank 0 ends, too.

use super::super::memory::MemoryManager;
use super::super::rank::RankLoop;
use super::super::stage::Stage;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

/// What rank 0 holds on to. The understudy, where there is one, tells the others that rank 0 is there.
static HELD: Mutex<Option<Stage<RankLoop<MemoryManager>>>> = Mutex::new(None);

/// Some rank does not answer: set once.
static WITHOUT_ALL: AtomicBool = AtomicBool::new(false);

/// What `end_program` was told.
static STATUS: AtomicI32 = AtomicI32::new(0);

/// Holds on to a session that is settled.
pub(super) fn hold(stage: Stage<RankLoop<MemoryManager>>) {
    *HELD.lock().unwrap_or_else(PoisonError::into_inner) = Some(stage);
    // A program that just ends lets the others go, too.
    extern "C" fn at_exit() {
        say_farewell();
    }
    // SAFETY: a function that lives as long as the program.
    unsafe { libc::atexit(at_exit) };
    end_at_finalize();
}

/// When the program calls MPI_Finalize, it ends there: some rank will not take part in that.
pub(super) fn end_at_finalize() {
    WITHOUT_ALL.store(true, Ordering::Relaxed);
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

/// Whether ranks were gone at the end of a session of this process: no call of MPI that all ranks make comes to its end any
/// more, no other session can be entered, and the program is to end by [`end_program`].
pub fn is_without_all() -> bool {
    WITHOUT_ALL.load(Ordering::Relaxed)
}

/// Ends this process with that status, in place of MPI_Finalize and the end of `main`, and as any rank may: MPI is finalised, or,
/// where a session ended without some ranks, the others are let go. What C and Rust have buffered for their streams is written;
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
    // A launcher that ends the job with the first of the others finds all written.
    crate::fabric::write_streams();
    say_farewell();
    crate::fabric::leave(status)
}

/// Lets the others go, where some wait.
fn say_farewell() {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(stage) = held else { return };
    let farewell = stage.enter().farewell();
    let (_, mut fabric) = stage.close().finish();
    farewell.say(&mut *fabric);
    fabric.finish(true);
}
