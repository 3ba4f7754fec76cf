//! The spawner: a small process, forked before MPI starts, from which the slot processes and call processes are forked.
//!
//! It holds nothing of the rank's but one socket, and an end of the socket of each call process, over which it tells how
//! that one ended. When the rank goes, or a process of a slot dies, it kills what is left.

use super::environment::BaseEnvironment;
use super::functions::isolate;
use super::leftovers;
use super::slot;
use super::sys::{self, Child, Received, Wait, check};
use super::{ExecuteError, system};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long slot processes may take to clean up behind their tasks before the spawner does it: so long after its rank a task may
/// still live.
pub const SLOT_PATIENCE: Duration = Duration::from_secs(4);

/// How long call processes may take to end by themselves: one that calls a function does not see that its rank is gone.
const CALL_PATIENCE: Duration = Duration::from_secs(1);

/// How long the spawner may take to end in all before its rank gives it up.
const SPAWNER_PATIENCE: Duration = Duration::from_secs(8);

/// A rank's hold on its spawner process. Dropping the last one ends the spawner, its slot processes and all tasks.
#[derive(Clone, Debug)]
pub struct Spawner {
    process: Arc<SpawnerProcess>,
}

#[derive(Debug)]
struct SpawnerProcess {
    pid: libc::pid_t,
    socket: OwnedFd,
}

impl Spawner {
    /// Forks the spawner process. To be called first of all: before MPI_Init, so that it inherits nothing of MPI's, and
    /// best before there are threads. (With threads it works where `malloc` does after a fork, as in the GNU C library.)
    ///
    /// The environment of the tasks is that of this moment.
    pub fn prepare() -> Result<Spawner, ExecuteError> {
        let base = BaseEnvironment::of_this_process();
        let (ours, theirs) = UnixStream::pair().map_err(system("make a socket for the spawner process"))?;
        let (ours, theirs) = (OwnedFd::from(ours), OwnedFd::from(theirs));
        // SAFETY: getpid has no conditions.
        let rank = unsafe { libc::getpid() };
        // SAFETY: the child uses what it inherited only in `be_spawner`: memory, `theirs`, and system calls. It takes
        // no lock but malloc's, and never returns.
        let pid = check(unsafe { libc::fork() }).map_err(system("fork the spawner process"))?;
        if pid == 0 {
            never_return(|| be_spawner(theirs, rank, base));
        }
        drop(theirs);
        let process = SpawnerProcess { pid, socket: ours };
        let mut errno = [0u8; 4];
        let told =
            sys::receive(process.socket.as_fd(), &mut errno, true).map_err(system("hear the spawner process"))?;
        match (told, i32::from_le_bytes(errno)) {
            (4, 0) => Ok(Spawner { process: Arc::new(process) }),
            (4, errno) => Err(system("set up the spawner process")(io::Error::from_raw_os_error(errno))),
            _ => Err(ExecuteError::SpawnerGone),
        }
    }

    /// The number of its process, which outlives this one until nothing of its tasks is left.
    pub fn pid(&self) -> u32 {
        self.process.pid as u32
    }

    /// Has a slot process forked, and returns the rank's end of its socket. Does not wait for it.
    pub(super) fn fork_slot(&self) -> io::Result<OwnedFd> {
        self.fork(Request::Slot)
    }

    /// The same for a call process, which goes by this number from then on.
    pub(super) fn fork_call(&self, number: u32) -> io::Result<OwnedFd> {
        self.fork(Request::Call { number })
    }

    fn fork(&self, request: Request) -> io::Result<OwnedFd> {
        let (ours, theirs) = UnixStream::pair()?;
        sys::send_descriptor(self.process.socket.as_fd(), &request.to_bytes(), theirs.as_fd())?;
        Ok(ours.into())
    }

    /// Has a signal sent to the call process of that number, unless it has ended.
    pub(super) fn signal_call(&self, number: u32, signal: libc::c_int) {
        let request = Request::Signal { number, signal: signal as u8 };
        // A spawner that is gone has taken its processes along.
        let _ = sys::send(self.process.socket.as_fd(), &request.to_bytes(), true);
    }
}

/// What a rank asks of its spawner. Each travels whole: threads of the rank may ask at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// Fork a slot process, which gets the socket that comes along.
    Slot,
    /// The same for a call process.
    Call { number: u32 },
    /// Send a signal to a call process.
    Signal { number: u32, signal: u8 },
}

impl Request {
    const BYTES: usize = 6;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let (kind, signal, number) = match self {
            Request::Slot => (0, 0, 0),
            Request::Call { number } => (1, 0, number),
            Request::Signal { number, signal } => (2, signal, number),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [kind, signal, a, b, c, d]
    }

    fn of_bytes([kind, signal, number @ ..]: [u8; Self::BYTES]) -> Option<Self> {
        let number = u32::from_le_bytes(number);
        match kind {
            0 => Some(Request::Slot),
            1 => Some(Request::Call { number }),
            2 => Some(Request::Signal { number, signal }),
            _ => None,
        }
    }
}

impl Drop for SpawnerProcess {
    fn drop(&mut self) {
        // SAFETY: shutdown takes plain numbers.
        unsafe { libc::shutdown(self.socket.as_raw_fd(), libc::SHUT_WR) };
        let give_up = Instant::now() + SPAWNER_PATIENCE;
        // Its end of the socket closes when it ends.
        while !sys::until(give_up).is_zero() {
            let mut entry = [sys::readable(self.socket.as_fd())];
            let _ = sys::poll(&mut entry, Some(sys::until(give_up)));
            if entry[0].revents != 0 {
                break;
            }
        }
        while matches!(sys::reap(self.pid), Wait::AllRun) {
            if sys::until(give_up).is_zero() {
                sys::kill(self.pid, libc::SIGKILL);
                // SAFETY: a null status is allowed.
                unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Runs a forked process's whole life, and ends it without a word of the parent's: no unwinding, no exit handlers.
fn never_return(life: impl FnOnce()) -> ! {
    let status = if catch_unwind(AssertUnwindSafe(life)).is_ok() { 0 } else { 101 };
    // SAFETY: _exit has no conditions.
    unsafe { libc::_exit(status) }
}

/// Where the socket is put, so that all above it can be closed at once.
const SOCKET_FD: RawFd = 3;

fn be_spawner(socket: OwnedFd, rank: libc::pid_t, base: BaseEnvironment) {
    let raw = socket.as_raw_fd();
    match isolate(socket, rank) {
        Ok((socket, signals)) => {
            let ready = 0i32.to_le_bytes();
            if sys::send(socket.as_fd(), &ready, true).is_ok() {
                Service { socket, signals, rank, slots: Vec::new(), calls: Vec::new(), stuck: Vec::new() }.serve(&base);
            }
        }
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EIO).to_le_bytes();
            for descriptor in [SOCKET_FD, raw] {
                // SAFETY: send on a descriptor that may be closed is an error and no more; this process ends next.
                unsafe { libc::send(descriptor, errno.as_ptr().cast(), errno.len(), libc::MSG_NOSIGNAL) };
            }
        }
    }
}

/// Cuts the ties to the rank and to its launcher: descriptors, session, signals.
fn isolate(socket: OwnedFd, rank: libc::pid_t) -> io::Result<(OwnedFd, OwnedFd)> {
    let socket = keep_only(socket)?;
    sys::reset_dispositions();
    let signals = sys::take_signals()?;
    // A session of its own: a launcher that signals the rank's group does not hit the tasks, which may have to be given
    // their grace time, and no task can be stopped by reading from a terminal.
    // SAFETY: setsid has no conditions.
    check(unsafe { libc::setsid() })?;
    be_subreaper(c"myriarch-spawn")?;
    // A backstop for a socket that lives on in some other child of the rank's. It also comes when merely the thread
    // that forked this process ends, hence a signal that makes it look rather than one that kills.
    // SAFETY: prctl and getppid take plain numbers.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM))?;
        if libc::getppid() != rank {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
    }
    Ok((socket, signals))
}

/// Makes orphans below this process its children, and names it for `ps`.
fn be_subreaper(name: &CStr) -> io::Result<()> {
    // SAFETY: prctl takes plain numbers here, and a NUL-terminated name of at most 16 bytes.
    unsafe {
        check(libc::prctl(libc::PR_SET_NAME, name.as_ptr()))?;
        check(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1)).map(drop)
    }
}

/// Closes every descriptor but the socket; 0, 1 and 2 become `/dev/null`, so that no pipe of a launcher stays open.
fn keep_only(socket: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::IntoRawFd;
    let null = OwnedFd::from(std::fs::File::options().read(true).write(true).open("/dev/null")?);
    // Duplicates above the numbers to be filled, so that nothing is overwritten that is still needed.
    let above = |descriptor: OwnedFd| -> io::Result<RawFd> {
        // SAFETY: fcntl with F_DUPFD_CLOEXEC takes plain numbers.
        check(unsafe { libc::fcntl(descriptor.into_raw_fd(), libc::F_DUPFD_CLOEXEC, SOCKET_FD + 1) })
    };
    let (null, socket) = (above(null)?, above(socket)?);
    // SAFETY: dup2 and dup3 take plain numbers. What they close belongs to the rank, whose copies stay open; nothing in
    // this process refers to any of it.
    unsafe {
        for standard in 0..SOCKET_FD {
            check(libc::dup2(null, standard))?;
        }
        check(libc::dup3(socket, SOCKET_FD, libc::O_CLOEXEC))?;
    }
    close_from(SOCKET_FD + 1);
    // SAFETY: the descriptor was made above and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(SOCKET_FD) })
}

/// Closes all descriptors from this number on.
fn close_from(first: RawFd) {
    // SAFETY: closes descriptors that nothing in this process refers to; kernels before 5.9 refuse, with an error.
    if unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) } == 0 {
        return;
    }
    let open: Vec<RawFd> = match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect(),
        // SAFETY: sysconf takes a plain number.
        Err(_) => (first..unsafe { libc::sysconf(libc::_SC_OPEN_MAX) }.clamp(1024, 1 << 20) as RawFd).collect(),
    };
    for descriptor in open.into_iter().filter(|&descriptor| descriptor >= first) {
        // SAFETY: as above; one that is closed already is an error and no more.
        unsafe { libc::close(descriptor) };
    }
}

/// A call process that has not been reaped.
struct CallProcess {
    pid: libc::pid_t,
    number: u32,
    /// A copy of its end of the socket.
    socket: OwnedFd,
}

struct Service {
    socket: OwnedFd,
    signals: OwnedFd,
    rank: libc::pid_t,
    slots: Vec<libc::pid_t>,
    calls: Vec<CallProcess>,
    stuck: Vec<libc::pid_t>,
}

impl Service {
    fn serve(mut self, base: &BaseEnvironment) {
        loop {
            let mut entries = [sys::readable(self.signals.as_fd()), sys::readable(self.socket.as_fd())];
            if sys::poll(&mut entries, None).is_err() {
                break;
            }
            if entries[0].revents != 0 {
                sys::clear_signals(self.signals.as_fd());
                // SAFETY: getppid has no conditions.
                if unsafe { libc::getppid() } != self.rank {
                    break;
                }
                self.end_leftovers();
            }
            if entries[1].revents != 0 {
                let mut request = [0; Request::BYTES];
                let received = sys::receive_descriptor(self.socket.as_fd(), &mut request);
                match (received, Request::of_bytes(request)) {
                    (Ok(Received::Descriptor(rank)), Some(Request::Slot)) => self.fork_slot(rank, base),
                    (Ok(Received::Descriptor(rank)), Some(Request::Call { number })) => {
                        self.fork_call(rank, number, base)
                    }
                    (Ok(Received::Nothing), Some(Request::Signal { number, signal })) => self.signal(number, signal),
                    _ => break,
                }
            }
        }
        self.end();
    }

    /// Where it fails, the rank sees the socket close.
    fn fork_slot(&mut self, rank: OwnedFd, base: &BaseEnvironment) {
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            0 => never_return(|| {
                // SAFETY: they are closed once, in this process, which never returns to their owner.
                unsafe {
                    libc::close(self.socket.as_raw_fd());
                    libc::close(self.signals.as_raw_fd());
                    for call in &self.calls {
                        libc::close(call.socket.as_raw_fd());
                    }
                }
                if be_subreaper(c"myriarch-slot").is_ok() {
                    slot::run(rank, base.clone());
                }
            }),
            pid if pid > 0 => self.slots.push(pid),
            _ => {}
        }
    }

    fn fork_call(&mut self, rank: OwnedFd, number: u32, base: &BaseEnvironment) {
        // SAFETY: getpid has no conditions.
        let spawner = unsafe { libc::getpid() };
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            0 => never_return(|| {
                // Nothing in this process refers to the descriptors that this closes.
                if let Ok(rank) = keep_only(rank)
                    && be_subreaper(c"myriarch-call").is_ok()
                    && end_with(spawner).is_ok()
                    && sys::unblock_signals().is_ok()
                {
                    base.adopt();
                    isolate::serve_calls(rank);
                }
            }),
            pid if pid > 0 => self.calls.push(CallProcess { pid, number, socket: rank }),
            _ => {}
        }
    }

    fn signal(&self, number: u32, signal: u8) {
        // It is not reaped, so that its number stays its own.
        if let Some(call) = self.calls.iter().find(|call| call.number == number) {
            sys::kill(call.pid, signal.into());
        }
    }

    /// Kills what dead processes of slots left: every child that is no such process.
    fn end_leftovers(&mut self) {
        let ours: Vec<_> = self.slots.iter().copied().chain(self.calls.iter().map(|call| call.pid)).collect();
        let (slots, calls) = (&mut self.slots, &mut self.calls);
        let spared = |pid| ours.contains(&pid);
        leftovers::end_all(self.signals.as_fd(), spared, &mut self.stuck, |child| note_end(slots, calls, child));
    }

    /// The rank is gone: its processes see that for themselves and clean up; what they do not manage is done here.
    fn end(mut self) {
        let began = Instant::now();
        let (slots_until, calls_until) = (began + SLOT_PATIENCE, began + CALL_PATIENCE);
        loop {
            if sys::until(calls_until).is_zero() {
                self.calls.drain(..).for_each(|call| sys::kill(call.pid, libc::SIGKILL));
            }
            let waits = !self.slots.is_empty() || !self.calls.is_empty();
            if !waits || sys::until(slots_until).is_zero() {
                break;
            }
            match sys::reap(-1) {
                Wait::Ended(child) => note_end(&mut self.slots, &mut self.calls, child),
                Wait::AllRun => {
                    let _ = sys::poll(&mut [sys::readable(self.signals.as_fd())], Some(Duration::from_millis(50)));
                    sys::clear_signals(self.signals.as_fd());
                }
                Wait::NoChild => break,
            }
        }
        leftovers::end_all(self.signals.as_fd(), |_| false, &mut self.stuck, |_| {});
    }
}

/// A child was reaped. How a call process ended is told over its own socket, behind all that it said itself.
fn note_end(slots: &mut Vec<libc::pid_t>, calls: &mut Vec<CallProcess>, child: Child) {
    slots.retain(|&slot| slot != child.pid);
    if let Some(at) = calls.iter().position(|call| call.pid == child.pid) {
        let call = calls.swap_remove(at);
        // One that nobody listens to any more.
        let _ = sys::send(call.socket.as_fd(), &isolate::ended_notice(child.status), false);
    }
}

/// Has this process killed when its parent ends.
fn end_with(parent: libc::pid_t) -> io::Result<()> {
    // SAFETY: prctl and getppid take plain numbers.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        if libc::getppid() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_back_as_they_were_made_and_others_refused() {
        let numbers = [0, 1, u32::MAX];
        let with = |number| [Request::Call { number }, Request::Signal { number, signal: 15 }];
        for request in numbers.into_iter().flat_map(with).chain([Request::Slot]) {
            assert_eq!(Request::of_bytes(request.to_bytes()), Some(request));
        }
        assert_eq!(Request::of_bytes([3, 0, 0, 0, 0, 0]), None);
    }
}
