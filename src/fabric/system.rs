//! The system calls of the fabrics: waiting for file descriptors, and leaving. Knows nothing of messages.

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Waits until a descriptor has something or `at_most` is over, and says whether one has. A handled signal ends the
/// wait early, as if time were up.
pub(super) fn poll(descriptors: &mut [libc::pollfd], at_most: Duration) -> io::Result<bool> {
    let limit = libc::timespec {
        tv_sec: libc::time_t::try_from(at_most.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(at_most.subsec_nanos()),
    };
    // SAFETY: the pointer and the count describe one slice that is borrowed mutably for the whole call, `limit` lives
    // until it returns, and a null signal mask leaves the mask alone.
    let found = unsafe {
        libc::ppoll(descriptors.as_mut_ptr(), descriptors.len() as libc::nfds_t, &raw const limit, std::ptr::null())
    };
    if found >= 0 {
        return Ok(found > 0);
    }
    let error = io::Error::last_os_error();
    for descriptor in descriptors {
        descriptor.revents = 0;
    }
    if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) }
}

/// Pauses of a thread that end as exactly as the machine can; dropped, it has the slack back that it had, which is 50 µs as
/// a rule. A rank that looks for messages sleeps for less than that at first.
#[cfg(feature = "mpi")]
#[derive(Debug)]
pub(super) struct SharpTimers {
    before: Option<libc::c_ulong>,
}

#[cfg(feature = "mpi")]
impl SharpTimers {
    /// For this thread, and those that it starts from now on.
    pub(super) fn new() -> Self {
        // SAFETY: prctl takes plain numbers here.
        let before = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
        Self::set(1);
        Self { before: libc::c_ulong::try_from(before).ok() }
    }

    fn set(nanoseconds: libc::c_ulong) {
        // SAFETY: as above. Where it is refused, pauses last longer.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) };
    }
}

#[cfg(feature = "mpi")]
impl Drop for SharpTimers {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            Self::set(before);
        }
    }
}

/// Clears what an earlier poll found, so that a return for another reason leaves nothing stale.
pub(super) fn clear(descriptors: &mut [libc::pollfd]) {
    for descriptor in descriptors {
        descriptor.revents = 0;
    }
}

/// As [`leave`], but first what C and Rust have buffered for their streams is written, for a program that knows nothing of the end.
pub fn leave_written(status: i32) -> ! {
    write_streams();
    leave(status)
}

/// Writes what C and Rust have buffered for their streams. Of Rust that is a last line without an end. Where a thread does not let
/// go of a stream it is not waited for.
pub fn write_streams() {
    const PATIENCE: Duration = Duration::from_secs(3);
    // SAFETY: null stands for all streams.
    let of_c = || {
        unsafe { libc::fflush(std::ptr::null_mut()) };
    };
    let of_rust = || drop(io::Write::flush(&mut io::stdout()));
    let begun = [within_a_thread(of_c), within_a_thread(of_rust)];
    let until = Instant::now() + PATIENCE;
    for written in begun.into_iter().flatten() {
        let _ = written.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// Gives what tells the end; none where there is no thread to be had.
fn within_a_thread(work: fn()) -> Option<Receiver<()>> {
    let (tell, told) = channel();
    let work = move || {
        work();
        let _ = tell.send(());
    };
    std::thread::Builder::new().spawn(work).ok().map(|_| told)
}

/// Ends this process at once. No exit handler runs: an MPI library that waits there for a rank that is lost would hang.
/// What is buffered must have been written before.
pub fn leave(status: i32) -> ! {
    // SAFETY: `_exit` takes any number and touches no memory of this process.
    unsafe { libc::_exit(status) }
}
