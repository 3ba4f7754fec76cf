//! Signals that ask for the run's end: counted by the handler, looked at by the loop. And one that must not end it.

use crate::fabric::{Launcher, launcher};
use std::sync::atomic::{AtomicU32, Ordering};

static ASKED: AtomicU32 = AtomicU32::new(0);

extern "C" fn note(_: libc::c_int) {
    ASKED.fetch_add(1, Ordering::Relaxed);
}

/// Makes SIGTERM, SIGINT and, where the launcher does not use it itself, SIGUSR1 ask for the end. After `MPI_Init`,
/// which may set handlers of its own.
pub(super) fn listen() {
    // Hydra sends SIGUSR1 to all when a rank dies; it asks for nothing then.
    let usr1 = !matches!(launcher(), Launcher::Hydra { .. });
    let signals = [libc::SIGTERM, libc::SIGINT].into_iter().chain(usr1.then_some(libc::SIGUSR1));
    for signal in signals {
        // SAFETY: the handler touches one atomic and nothing else; the zeroed struct is a valid sigaction.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as *const () as usize;
            // The threads of slots block no signal: a process that a function starts would inherit that and be deaf to
            // SIGTERM, and nothing hooks into posix_spawn or system to give it back. Linux hands a signal to the main
            // thread, a rank's own, wherever that can take it (complete_signal in kernel/signal.c). Should another
            // thread be chosen, the handler counts there just as well, no rank sleeps longer than a second, and the
            // system call that a function is in goes on by this flag.
            action.sa_flags = libc::SA_RESTART;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Lets a write beyond the limit of a file's size (`ulimit -f`) fail as on a full disk, where it would end the process.
pub fn survive_file_limits() {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// How often the end was asked for so far.
pub(super) fn asked() -> u32 {
    ASKED.load(Ordering::Relaxed)
}
