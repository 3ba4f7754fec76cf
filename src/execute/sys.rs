//! Thin, checked wrappers over the system calls that running processes takes and the standard library lacks.
//!
//! Knows nothing of tasks, slots or messages.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Turns -1 into the error that `errno` names.
pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Turns -1 into the error that `errno` names, for calls that return a length.
fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A result, or none where the call would have had to wait.
pub(super) fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Repeats a call that a signal interrupted.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Sends without raising SIGPIPE; waits only if `wait` is set.
pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8], wait: bool) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: the pointer and the length are those of one live slice.
    uninterrupted(|| check_len(unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) }))
}

/// Sends all of several slices, waiting for room; one call where they fit.
pub(super) fn send_all_slices(socket: BorrowedFd<'_>, slices: &[&[u8]]) -> io::Result<()> {
    let mut parts: Vec<libc::iovec> = slices
        .iter()
        .filter(|slice| !slice.is_empty())
        .map(|slice| libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() })
        .collect();
    let mut first = 0;
    while first < parts.len() {
        // SAFETY: msghdr is plain data for which zero is a valid value.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        message.msg_iov = parts[first..].as_mut_ptr();
        message.msg_iovlen = (parts.len() - first) as _;
        // SAFETY: every iovec points into a slice that outlives the call, which only reads them.
        let mut sent =
            uninterrupted(|| check_len(unsafe { libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL) }))?;
        while first < parts.len() && sent >= parts[first].iov_len {
            sent -= parts[first].iov_len;
            first += 1;
        }
        if let Some(part) = parts.get_mut(first) {
            part.iov_base = part.iov_base.wrapping_byte_add(sent);
            part.iov_len -= sent;
        }
    }
    Ok(())
}

/// Receives into the buffer; 0 means that the other end is closed. Waits only if `wait` is set.
pub(super) fn receive(socket: BorrowedFd<'_>, into: &mut [u8], wait: bool) -> io::Result<usize> {
    let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: the pointer and the length are those of one live slice that is borrowed mutably.
    uninterrupted(|| check_len(unsafe { libc::recv(socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), flags) }))
}

/// Reads from a descriptor; 0 means its end.
pub(super) fn read(from: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one live slice that is borrowed mutably.
    uninterrupted(|| check_len(unsafe { libc::read(from.as_raw_fd(), into.as_mut_ptr().cast(), into.len()) }))
}

/// Room for one descriptor in a control message, aligned as the kernel wants it.
#[repr(align(8))]
struct OneDescriptor([u8; 64]);

/// Sends a few bytes, at least one, and a descriptor; does not wait.
pub(super) fn send_descriptor(socket: BorrowedFd<'_>, bytes: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = OneDescriptor([0; 64]);
    let length = size_of::<RawFd>() as libc::c_uint;
    // SAFETY: msghdr is plain data for which zero is a valid value.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE computes a size; the control buffer is larger (64) and aligned, so the first header and its
    // data lie within it.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(length) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(length) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(descriptor.as_raw_fd());
    }
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: message, its one part, which is only read, and its control buffer are live and initialised.
    let sent = uninterrupted(|| check_len(unsafe { libc::sendmsg(socket.as_raw_fd(), &message, flags) }))?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// What `receive_descriptor` found.
pub(super) enum Received {
    /// A descriptor, close-on-exec.
    Descriptor(OwnedFd),
    /// Bytes without one.
    Nothing,
    /// The other end is closed.
    Closed,
}

/// Waits for bytes that may carry a descriptor, all of which were sent at once.
pub(super) fn receive_descriptor(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Received> {
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut control = OneDescriptor([0; 64]);
    // SAFETY: msghdr is plain data for which zero is a valid value.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // Room for exactly one: the kernel closes what does not fit.
    // SAFETY: CMSG_SPACE only computes a size.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as libc::c_uint) } as _;
    let flags = libc::MSG_CMSG_CLOEXEC;
    // SAFETY: message, its part and its control buffer are live and as large as it says.
    let count = uninterrupted(|| check_len(unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, flags) }))?;
    if count == 0 {
        return Ok(Received::Closed);
    }
    if count < into.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: the kernel filled in the control buffer; a header of this type holds one descriptor, which is ours now.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        if header.is_null() || (*header).cmsg_level != libc::SOL_SOCKET || (*header).cmsg_type != libc::SCM_RIGHTS {
            return Ok(Received::Nothing);
        }
        let descriptor = libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned();
        Ok(Received::Descriptor(OwnedFd::from_raw_fd(descriptor)))
    }
}

/// An entry for `poll`.
pub(super) fn readable(descriptor: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// Waits for one of the entries, for at most `limit` (none: for ever). A signal ends the wait early, with nothing ready.
pub(super) fn poll(entries: &mut [libc::pollfd], limit: Option<Duration>) -> io::Result<usize> {
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos() as _,
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the entries are one live slice; the time limit is null or live; the signal mask is left as it is.
    let ready = check(unsafe { libc::ppoll(entries.as_mut_ptr(), entries.len() as _, limit, std::ptr::null()) });
    match ready {
        Ok(count) => Ok(count as usize),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            entries.iter_mut().for_each(|entry| entry.revents = 0);
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// Time from now to the moment, zero when it is past.
pub(super) fn until(moment: Instant) -> Duration {
    moment.saturating_duration_since(Instant::now())
}

/// Blocks every signal and returns a descriptor that tells of SIGCHLD and SIGTERM instead.
pub(super) fn take_signals() -> io::Result<OwnedFd> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut told = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the sets are initialised by sigfillset and sigemptyset before they are used.
    unsafe {
        check(libc::sigfillset(all.as_mut_ptr()))?;
        check(libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut()))?;
        check(libc::sigemptyset(told.as_mut_ptr()))?;
        check(libc::sigaddset(told.as_mut_ptr(), libc::SIGCHLD))?;
        check(libc::sigaddset(told.as_mut_ptr(), libc::SIGTERM))?;
        let descriptor = check(libc::signalfd(-1, told.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// Takes what the signal descriptor holds, and says whether SIGTERM was among it. Signals of a kind merge, so of SIGCHLD
/// it is only known that something happened.
pub(super) fn clear_signals(signals: BorrowedFd<'_>) -> bool {
    const ONE: usize = size_of::<libc::signalfd_siginfo>();
    let mut buffer = [0u8; 4 * ONE];
    // Nothing to read is as good as something read.
    let length = read(signals, &mut buffer).unwrap_or(0);
    // The number of the signal is the first field.
    let number = |one: &[u8]| one.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    buffer[..length].chunks(ONE).any(|one| number(one) == Some(libc::SIGTERM.cast_unsigned()))
}

/// Lets every signal through again.
pub(super) fn unblock_signals() -> io::Result<()> {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        check(libc::sigemptyset(none.as_mut_ptr()))?;
        check(libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())).map(drop)
    }
}

/// Gives every signal its default disposition: what this process ignores, its children would ignore too.
pub(super) fn reset_dispositions() {
    for signal in 1..=64 {
        // SAFETY: no handler is installed; SIG_DFL is valid for every signal, and the kernel refuses the rest.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Sends a signal to a process (or, negative, to a group); one that is gone is no error.
pub(super) fn kill(pid: libc::pid_t, signal: libc::c_int) {
    // SAFETY: kill takes plain numbers. The callers only name children that they have not reaped, and their groups.
    unsafe { libc::kill(pid, signal) };
}

/// Whether the group has a member left.
pub(super) fn group_exists(group: libc::pid_t) -> bool {
    // SAFETY: signal 0 sends nothing.
    unsafe { libc::kill(-group, 0) == 0 }
}

/// A child that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    /// Its number.
    pub(super) pid: libc::pid_t,
    /// Its status, as `waitpid` gives it; 0 until it was reaped.
    pub(super) status: libc::c_int,
}

/// What a look for ended children found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// One that has ended.
    Ended(Child),
    /// There are children, and none has ended.
    AllRun,
    /// There is no child.
    NoChild,
}

/// Looks for an ended child and leaves it unreaped, so that its number stays taken.
pub(super) fn peek_ended() -> Wait {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: info is plain data that the kernel fills in; it stays zero when no child has ended, so si_pid is readable.
    let (result, pid) = unsafe {
        let result = libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags);
        (result, info.assume_init_ref().si_pid())
    };
    match (result, pid) {
        (0, 0) => Wait::AllRun,
        (0, pid) => Wait::Ended(Child { pid, status: 0 }),
        _ => Wait::NoChild,
    }
}

/// Reaps an ended child: `pid`, or any (-1).
pub(super) fn reap(pid: libc::pid_t) -> Wait {
    let mut status = 0;
    // SAFETY: status is a live integer.
    match unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } {
        0 => Wait::AllRun,
        pid if pid > 0 => Wait::Ended(Child { pid, status }),
        _ => Wait::NoChild,
    }
}

/// A set of processing units, of any size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CpuSet(Vec<libc::c_ulong>);

impl CpuSet {
    const BITS: usize = libc::c_ulong::BITS as usize;

    /// The set of these units.
    pub(super) fn of(units: &[u32]) -> Self {
        let words = units.iter().map(|&unit| unit as usize / Self::BITS + 1).max().unwrap_or(1);
        let mut set = vec![0; words];
        for &unit in units {
            set[unit as usize / Self::BITS] |= 1 << (unit as usize % Self::BITS);
        }
        Self(set)
    }

    /// The units that this thread may use, in order.
    pub(super) fn of_this_thread() -> io::Result<Vec<u32>> {
        // The kernel refuses a set smaller than its own; 1 MiB of bits is more than it can be built for.
        let mut words = 16;
        loop {
            let mut set: Vec<libc::c_ulong> = vec![0; words];
            let bytes = words * size_of::<libc::c_ulong>();
            // SAFETY: the set is a live buffer of `bytes` bytes; the kernel writes whole words.
            match check(unsafe { libc::sched_getaffinity(0, bytes, set.as_mut_ptr().cast()) }) {
                Ok(_) => {
                    let units = 0..(words * Self::BITS) as u32;
                    let has = |&unit: &u32| set[unit as usize / Self::BITS] >> (unit as usize % Self::BITS) & 1 == 1;
                    return Ok(units.filter(has).collect());
                }
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && words < 1 << 14 => words *= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// Binds this thread. Async-signal-safe.
    pub(super) fn bind(&self) -> io::Result<()> {
        let bytes = self.0.len() * size_of::<libc::c_ulong>();
        // SAFETY: the set is a live buffer of `bytes` bytes, which the kernel only reads.
        check(unsafe { libc::sched_setaffinity(0, bytes, self.0.as_ptr().cast()) }).map(drop)
    }
}
