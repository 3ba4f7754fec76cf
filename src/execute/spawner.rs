//! The spawner: a small process, forked before MPI starts, from which the slot processes are forked.
//!
//! It holds nothing of the rank's but one socket. When the rank goes, or a slot process dies, it kills what is left.

use super::environment::BaseEnvironment;
use super::leftovers;
use super::slot;
use super::sys::{self, Received, Wait, check};
use super::{ExecuteError, system};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How long slot processes may take to clean up behind their tasks before the spawner does it.
const SLOT_PATIENCE: Duration = Duration::from_secs(4);

/// How long the spawner may take to end in all before its rank gives it up.
const SPAWNER_PATIENCE: Duration = Duration::from_secs(8);

/// A rank's hold on its spawner process. Dropping it ends the spawner, its slot processes and all tasks.
#[derive(Debug)]
pub struct Spawner {
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
        let spawner = Spawner { pid, socket: ours };
        let mut errno = [0u8; 4];
        let told =
            sys::receive(spawner.socket.as_fd(), &mut errno, true).map_err(system("hear the spawner process"))?;
        match (told, i32::from_le_bytes(errno)) {
            (4, 0) => Ok(spawner),
            (4, errno) => Err(system("set up the spawner process")(io::Error::from_raw_os_error(errno))),
            _ => Err(ExecuteError::SpawnerGone),
        }
    }

    /// Has a slot process forked, and returns the rank's end of its socket. Does not wait for it.
    pub(super) fn fork_slot(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = UnixStream::pair()?;
        sys::send_descriptor(self.socket.as_fd(), theirs.as_fd())?;
        Ok(ours.into())
    }
}

impl Drop for Spawner {
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
                Service { socket, signals, rank, slots: Vec::new(), stuck: Vec::new() }.serve(&base);
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

struct Service {
    socket: OwnedFd,
    signals: OwnedFd,
    rank: libc::pid_t,
    slots: Vec<libc::pid_t>,
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
                match sys::receive_descriptor(self.socket.as_fd()) {
                    Ok(Received::Descriptor(rank)) => self.fork_slot(rank, base),
                    Ok(Received::Nothing) => {}
                    Ok(Received::Closed) | Err(_) => break,
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
                }
                if be_subreaper(c"myriarch-slot").is_ok() {
                    slot::run(rank, base.clone());
                }
            }),
            pid if pid > 0 => self.slots.push(pid),
            _ => {}
        }
    }

    /// Kills what dead slot processes left: every child that is no slot process.
    fn end_leftovers(&mut self) {
        let slots = self.slots.clone();
        let gone = &mut self.slots;
        let spared = |pid| slots.contains(&pid);
        let signals = self.signals.as_fd();
        leftovers::end_all(signals, spared, &mut self.stuck, |child| gone.retain(|&slot| slot != child.pid));
    }

    /// The rank is gone: the slot processes see that for themselves and clean up; what they do not manage is done here.
    fn end(mut self) {
        let give_up = Instant::now() + SLOT_PATIENCE;
        while !self.slots.is_empty() && !sys::until(give_up).is_zero() {
            match sys::reap(-1) {
                Wait::Ended(child) => self.slots.retain(|&slot| slot != child.pid),
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
