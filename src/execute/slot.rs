//! The slot process: runs one task at a time, so that every other child it has was left behind by that task.
//!
//! It has one thread, blocks every signal, and ends when its rank's socket closes, killing what runs first. It knows
//! nothing of bundles or of other slots.

use super::capture::Capture;
use super::environment::BaseEnvironment;
use super::leftovers;
use super::prepare::{Preparation, Started};
use super::sys::{self, CpuSet, Wait};
use super::wire::{self, Attempt, Damaged, Request, Setup};
use crate::task::{Status, io_cause};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The rank closed its socket, or is out of its mind: there is nobody to work for.
pub(super) struct RankGone;

impl From<io::Error> for RankGone {
    fn from(_: io::Error) -> Self {
        RankGone
    }
}

impl From<Damaged> for RankGone {
    fn from(_: Damaged) -> Self {
        RankGone
    }
}

/// Bytes taken from a pipe or from the rank at once: a pipe's usual size.
const READ_BYTES: usize = 64 << 10;

/// How a shell says that SIGTERM ended what it ran.
const SHELL_TERMINATED: i32 = 128 + libc::SIGTERM;

/// How long after a task that died of SIGTERM this process may get one too.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// How often a group that was told to end is looked at, once its first process has ended.
const GROUP_PAUSE: Duration = Duration::from_millis(20);

/// Most reads that empty a pipe once nobody should write to it any more.
const MAX_LAST_READS: usize = 256;

/// Serves the rank at the other end of the socket until it goes.
pub(super) fn run(rank: OwnedFd, base: BaseEnvironment) {
    let Ok(signals) = sys::take_signals() else { return };
    let mut slot = Slot {
        rank,
        signals,
        setup: Setup::default(),
        astray: None,
        preparation: Preparation::new(base),
        inbox: Vec::new(),
        stdout: Capture::default(),
        stderr: Capture::default(),
        scratch: vec![0; READ_BYTES],
        stuck: Vec::new(),
    };
    while slot.serve_one().is_ok() {}
    leftovers::end_all(slot.signals.as_fd(), |_| false, &mut slot.stuck, |_| {});
}

struct Slot {
    rank: OwnedFd,
    signals: OwnedFd,
    setup: Setup,
    /// Why the folder of the tasks cannot be entered: in another one none of them may run.
    astray: Option<String>,
    preparation: Preparation,
    /// What has arrived from the rank and was not yet taken.
    inbox: Vec<u8>,
    stdout: Capture,
    stderr: Capture,
    scratch: Vec<u8>,
    /// Processes that did not die of SIGKILL.
    stuck: Vec<libc::pid_t>,
}

/// A running task.
struct Watch {
    started: Started,
    number: u64,
    deadline: Option<Instant>,
    /// When SIGTERM turns into SIGKILL; set once SIGTERM was sent.
    kill_at: Option<Instant>,
    timed_out: bool,
    /// Ended from outside: by its rank, or by who sent SIGTERM to this process too.
    killed: bool,
    /// Its status, once it was reaped.
    ended: Option<libc::c_int>,
}

impl Slot {
    /// Waits for the next request and serves it.
    fn serve_one(&mut self) -> Result<(), RankGone> {
        match self.next_request(true)? {
            Some(Request::Setup(setup)) => {
                if let Some(cores) = &setup.cores {
                    // Binding is for speed: where the machine refuses it, tasks run unbound.
                    let _ = CpuSet::of(cores).bind();
                }
                self.astray = setup.folder.as_deref().and_then(|folder| enter(folder).err());
                self.setup = setup;
                Ok(())
            }
            Some(Request::Run(attempt)) => self.run_attempt(*attempt),
            // A kill that came too late, for an attempt that has ended.
            Some(Request::Kill { .. }) | None => Ok(()),
        }
    }

    /// The next request; without `wait` none if no whole one has arrived.
    fn next_request(&mut self, wait: bool) -> Result<Option<Request>, RankGone> {
        loop {
            if let Some((request, length)) = wire::take_request(&self.inbox)? {
                self.inbox.drain(..length);
                self.inbox.shrink_to(READ_BYTES);
                return Ok(Some(request));
            }
            match sys::unless_blocked(sys::receive(self.rank.as_fd(), &mut self.scratch, wait))? {
                None => return Ok(None),
                Some(0) => return Err(RankGone),
                Some(length) => self.inbox.extend_from_slice(&self.scratch[..length]),
            }
        }
    }

    fn run_attempt(&mut self, attempt: Attempt) -> Result<(), RankGone> {
        self.stdout.reset(self.setup.max_output);
        self.stderr.reset(self.setup.max_output);
        let started_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = Instant::now();
        // A signal of before does not mean this attempt.
        sys::clear_signals(self.signals.as_fd());
        let started = match &self.astray {
            Some(why) => Err(why.clone()),
            None => self.preparation.start(&attempt, &self.setup),
        };
        let (status, killed, duration) = match started {
            Err(why) => (Status::NotStarted(why), false, clock.elapsed()),
            Ok(started) => {
                let mut watch = Watch {
                    started,
                    number: attempt.number,
                    deadline: attempt.command.timeout.and_then(|timeout| clock.checked_add(timeout)),
                    kill_at: None,
                    timed_out: false,
                    killed: false,
                    ended: None,
                };
                let status = self.watch(&mut watch)?;
                let duration = clock.elapsed();
                self.hear_of_the_end(&mut watch, &status);
                self.end(&watch);
                let status = if watch.timed_out { Status::Timeout } else { status };
                (status, watch.killed, duration)
            }
        };
        let microseconds = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let lengths = |capture: &Capture| [capture.len() as u64, capture.cut() as u64, capture.dropped()];
        let streams = [lengths(&self.stdout), lengths(&self.stderr)];
        let (started, took) = (microseconds(started_unix), microseconds(duration));
        let header = wire::reply_header(attempt.number, &status, killed, started, took, streams);
        let [a, b, c] = self.stdout.pieces();
        let [d, e, f] = self.stderr.pieces();
        Ok(sys::send_all_slices(self.rank.as_fd(), &[&header, a, b, c, d, e, f])?)
    }

    /// Waits for the task's process to end, or, where it was told to end, for its whole group.
    fn watch(&mut self, watch: &mut Watch) -> Result<Status, RankGone> {
        loop {
            // The signals come first: what a process wrote before it ended is there when its end is seen.
            let mut entries = [
                sys::readable(self.signals.as_fd()),
                sys::readable(self.rank.as_fd()),
                sys::readable(watch.started.stderr.0.as_fd()),
                sys::readable(watch.started.stdout.as_ref().map_or(self.rank.as_fd(), |pipe| pipe.0.as_fd())),
            ];
            let entries = &mut entries[..3 + usize::from(watch.started.stdout.is_some())];
            if let Err(error) = sys::poll(entries, watch.limit()) {
                watch.abandon();
                return Err(error.into());
            }
            let ready = |at: usize| entries.get(at).is_some_and(|entry| entry.revents != 0);
            if ready(2) {
                self.read_once(&watch.started, true);
            }
            if ready(3) {
                self.read_once(&watch.started, false);
            }
            if ready(1)
                && let Err(gone) = self.hear_rank(watch)
            {
                watch.abandon();
                return Err(gone);
            }
            if ready(0) {
                // A batch system that ends a job signals all its processes, and the task did not fail.
                watch.killed |= sys::clear_signals(self.signals.as_fd());
                watch.reap(&mut self.stuck);
            }
            watch.keep_time(self.setup.kill_grace);
            if let Some(status) = watch.ended
                && (watch.kill_at.is_none() || !sys::group_exists(watch.started.pid))
            {
                return Ok(status_of(status));
            }
        }
    }

    /// A task that died of SIGTERM may only have been the first of all processes of the job to get it.
    fn hear_of_the_end(&mut self, watch: &mut Watch, status: &Status) {
        let is_terminated = matches!(status, Status::Signal(libc::SIGTERM) | Status::Exit(SHELL_TERMINATED));
        let give_up = Instant::now() + SAME_SIGNAL;
        while is_terminated && !watch.killed && !watch.timed_out && !sys::until(give_up).is_zero() {
            let _ = sys::poll(&mut [sys::readable(self.signals.as_fd())], Some(sys::until(give_up)));
            watch.killed = sys::clear_signals(self.signals.as_fd());
        }
    }

    /// Ends what is left of the task and takes the last of its output.
    fn end(&mut self, watch: &Watch) {
        leftovers::end_all(self.signals.as_fd(), |_| false, &mut self.stuck, |_| {});
        let started = &watch.started;
        for _ in 0..MAX_LAST_READS {
            let mut entries = [sys::readable(started.stderr.0.as_fd()); 2];
            if let Some(pipe) = &started.stdout {
                entries[1] = sys::readable(pipe.0.as_fd());
            }
            if !sys::poll(&mut entries, Some(Duration::ZERO)).is_ok_and(|ready| ready > 0) {
                return;
            }
            if entries[0].revents != 0 {
                self.read_once(started, true);
            }
            if entries[1].revents != 0 && started.stdout.is_some() {
                self.read_once(started, false);
            }
        }
    }

    /// Takes what a pipe holds. It is called when there is something, so that it does not wait.
    fn read_once(&mut self, started: &Started, stderr: bool) {
        let (pipe, capture) = match (&started.stdout, stderr) {
            (_, true) => (&started.stderr.0, &mut self.stderr),
            (Some(pipe), false) => (&pipe.0, &mut self.stdout),
            (None, false) => return,
        };
        if let Ok(length) = sys::read(pipe.as_fd(), &mut self.scratch) {
            capture.push(&self.scratch[..length]);
        }
    }

    /// Serves what the rank says while a task runs: nothing but to end it.
    fn hear_rank(&mut self, watch: &mut Watch) -> Result<(), RankGone> {
        while let Some(request) = self.next_request(false)? {
            match request {
                Request::Kill { number, grace } if number == watch.number => {
                    watch.killed = true;
                    watch.terminate(grace);
                }
                Request::Kill { .. } => {}
                Request::Setup(_) | Request::Run(_) => return Err(RankGone),
            }
        }
        Ok(())
    }
}

impl Watch {
    /// How long nothing needs doing unless something happens.
    fn limit(&self) -> Option<Duration> {
        let next = self.kill_at.or(self.deadline).map(sys::until);
        // Once its process has ended, the rest of a group that was told to end may be nobody's child here.
        let group = self.ended.map(|_| GROUP_PAUSE);
        [next, group].into_iter().flatten().min()
    }

    /// Asks the group to end, and sets the time after which it is made to.
    fn terminate(&mut self, grace: Duration) {
        let kill_at = Instant::now().checked_add(grace);
        if self.kill_at.is_none() {
            sys::kill(-self.started.pid, libc::SIGTERM);
            // A stopped process hears nothing else.
            sys::kill(-self.started.pid, libc::SIGCONT);
        }
        self.kill_at = self.kill_at.into_iter().chain(kill_at).min();
        self.deadline = None;
    }

    /// Does what the clock asks for.
    fn keep_time(&mut self, grace: Duration) {
        let is_past = |moment: Option<Instant>| moment.is_some_and(|moment| sys::until(moment).is_zero());
        if is_past(self.deadline) && self.ended.is_none() {
            self.timed_out = true;
            self.terminate(grace);
        }
        if is_past(self.kill_at) {
            self.abandon();
            // What is left hangs in the kernel or has left the group: not to be waited for as a group.
            if self.ended.is_some() {
                self.kill_at = None;
            } else {
                self.kill_at = Instant::now().checked_add(GROUP_PAUSE);
            }
        }
    }

    /// Kills the group at once.
    fn abandon(&self) {
        sys::kill(-self.started.pid, libc::SIGKILL);
        if self.ended.is_none() {
            // It may have changed its group.
            sys::kill(self.started.pid, libc::SIGKILL);
        }
    }

    /// Takes note of children that have ended: the task's own process, and orphans that came to this one.
    fn reap(&mut self, stuck: &mut Vec<libc::pid_t>) {
        while let Wait::Ended(child) = sys::peek_ended() {
            let is_task = child.pid == self.started.pid && self.ended.is_none();
            if is_task && self.kill_at.is_none() {
                // While it is not reaped, no other group can have its number.
                sys::kill(-child.pid, libc::SIGKILL);
            }
            let Wait::Ended(child) = sys::reap(child.pid) else { return };
            stuck.retain(|&pid| pid != child.pid);
            if is_task {
                self.ended = Some(child.status);
            }
        }
    }
}

/// Makes this folder the one that relative names and tasks without a folder of their own mean.
fn enter(folder: &[u8]) -> Result<(), String> {
    let folder = Path::new(OsStr::from_bytes(folder));
    std::env::set_current_dir(folder)
        .map_err(|error| format!("the folder of the run, {}: {}", folder.display(), io_cause(&error)))
}

/// The words for a process's status.
pub(super) fn status_of(status: libc::c_int) -> Status {
    if libc::WIFSIGNALED(status) {
        Status::Signal(libc::WTERMSIG(status))
    } else {
        match libc::WEXITSTATUS(status) {
            0 => Status::Ok,
            code => Status::Exit(code),
        }
    }
}
