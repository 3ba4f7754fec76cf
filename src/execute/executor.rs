//! The rank's side of running processes: start, kill, hear of ends. No call waits for a task or for a slot process.
//!
//! It knows slots and commands; which task a slot runs is its caller's business.

use super::gpus::{GpuPool, Gpus};
use super::sys;
use super::wire::{self, ReplyReader, Setup};
use super::{ExecuteError, Spawner, system};
use crate::task::{Captured, Command, Status};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The processing units that a slot is bound to, none where it is not.
pub type SlotCores = Option<Vec<u32>>;

/// The cores of a task that takes several slots, where all are bound; none for one slot, whose process or thread is bound
/// to its own already.
pub(super) fn cores_together<'a>(slots: impl ExactSizeIterator<Item = &'a SlotCores>) -> SlotCores {
    if slots.len() == 1 {
        return None;
    }
    let mut union = Vec::new();
    for cores in slots {
        union.extend_from_slice(cores.as_ref()?);
    }
    union.sort_unstable();
    union.dedup();
    Some(union)
}

/// What holds for all tasks of a rank.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes kept of each of a task's two streams: half of them from its start, half from its end.
    pub max_output: u64,
    /// Whether standard output is kept; otherwise it is `/dev/null`.
    pub keep_stdout: bool,
    /// Time between SIGTERM and SIGKILL when a task's time limit has run out.
    pub kill_grace: Duration,
    /// What tasks find as MYRIARCH_OUT.
    pub out_dir: Option<PathBuf>,
    /// Where tasks run that name no folder, and what relative names are relative to; none where the rank is.
    pub folder: Option<PathBuf>,
    /// Number of slot 0 among the slots of the node.
    pub first_slot: u32,
    /// GPUs that tasks may be given.
    pub gpus: Gpus,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_output: 64 << 20,
            keep_stdout: true,
            kill_grace: Duration::from_secs(5),
            out_dir: None,
            folder: None,
            first_slot: 0,
            gpus: Gpus::default(),
        }
    }
}

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The slot that is free again: the first of those it was started on.
    pub slot: u32,
    /// How.
    pub status: Status,
    /// It was ended from outside: [`Executor::kill`] reached it while it ran, or a SIGTERM that its slot process got too.
    pub killed: bool,
    /// The slot process died under it, or could not be made; `status` is [`Status::Lost`].
    pub crashed: bool,
    /// Start, microseconds since the Unix epoch. For people; never compared.
    pub started_unix_us: u64,
    /// Length, microseconds.
    pub duration_us: u64,
    /// Standard output.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
}

/// Runs commands in the slots of one rank.
#[derive(Debug)]
pub struct Executor {
    // Dropped in this order: the slot processes first see their sockets close, then the spawner sees its own.
    slots: Vec<Slot>,
    spawner: Spawner,
    settings: Settings,
    gpus: GpuPool,
    epoll: OwnedFd,
    /// Makes `epoll` ready while `at_once` holds something.
    wake: OwnedFd,
    /// Ends that no slot process reports.
    at_once: Vec<Ended>,
    events: Vec<libc::epoll_event>,
    scratch: Vec<u8>,
    spawner_gone: bool,
}

#[derive(Debug)]
struct Slot {
    cores: SlotCores,
    /// None until its first task, and after a crash.
    process: Option<SlotProcess>,
    running: Option<Running>,
    /// Attempts so far.
    count: u64,
}

#[derive(Debug)]
struct SlotProcess {
    socket: OwnedFd,
    replies: ReplyReader,
    /// What the socket had no room for.
    outbox: Vec<u8>,
    waits_for_room: bool,
}

#[derive(Debug)]
struct Running {
    started: Instant,
    started_unix_us: u64,
    gpus: Vec<usize>,
}

/// Bytes taken from a slot process's socket at once.
const READ_BYTES: usize = 64 << 10;

/// Reads from one slot process before the next has its turn.
const MAX_READS: usize = 16;

/// The number of `wake` among the events; slots have theirs.
const WAKE: u64 = u64::MAX;

impl Executor {
    /// An executor for these slots. Slot processes are made when they are first needed.
    pub fn new(spawner: Spawner, slots: &[SlotCores], settings: Settings) -> Result<Executor, ExecuteError> {
        // SAFETY: epoll_create1 and eventfd take plain numbers and return a descriptor that is nobody else's.
        let (epoll, wake) = unsafe {
            let epoll = sys::check(libc::epoll_create1(libc::EPOLL_CLOEXEC)).map_err(system("make an epoll set"))?;
            let epoll = OwnedFd::from_raw_fd(epoll);
            let wake = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            (epoll, OwnedFd::from_raw_fd(sys::check(wake).map_err(system("make an eventfd"))?))
        };
        watch(&epoll, libc::EPOLL_CTL_ADD, &wake, libc::EPOLLIN, WAKE).map_err(system("watch an eventfd"))?;
        let slot = |cores: &SlotCores| Slot { cores: cores.clone(), process: None, running: None, count: 0 };
        Ok(Executor {
            slots: slots.iter().map(slot).collect(),
            spawner,
            gpus: GpuPool::new(settings.gpus.clone()),
            settings,
            epoll,
            wake,
            at_once: Vec::new(),
            events: vec![libc::epoll_event { events: 0, u64: 0 }; slots.len() + 1],
            scratch: vec![0; READ_BYTES],
            spawner_gone: false,
        })
    }

    /// Starts a command in the first of these slots, on the cores of all of them. What goes wrong comes back as an
    /// `Ended`.
    ///
    /// # Panics
    /// Where there is no slot, no such slot, or the first is taken.
    pub fn start(&mut self, slots: &[u32], command: &Command, attempt: u32) {
        let first = slots[0] as usize;
        assert!(self.slots[first].running.is_none(), "slot {first} already runs a task");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_unix_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let mut running = Running { started: Instant::now(), started_unix_us, gpus: Vec::new() };
        let wanted = command.resources.gpus;
        if wanted > 0 {
            let Some(taken) = self.gpus.take(wanted) else {
                let why = format!("too few GPUs of its worker are free: it takes {wanted} of {}", self.gpus.len());
                return self.end_at_once(first, running, Status::NotStarted(why), false);
            };
            running.gpus = taken;
        }
        let cores = cores_together(slots.iter().map(|slot| &self.slots[*slot as usize].cores));
        self.slots[first].count += 1;
        match self.hand_over(first, cores.as_deref(), &running.gpus, command, attempt) {
            Ok(true) => self.slots[first].running = Some(running),
            Ok(false) => {
                let why = "the command is larger than any system takes".to_owned();
                self.end_at_once(first, running, Status::NotStarted(why), false);
            }
            Err(_) => {
                self.slots[first].process = None;
                self.end_at_once(first, running, Status::Lost, true);
            }
        }
    }

    /// Sends a command to the slot's process, which is made if there is none. False where it is too large to send.
    fn hand_over(
        &mut self,
        slot: usize,
        cores: Option<&[u32]>,
        gpus: &[usize],
        command: &Command,
        attempt: u32,
    ) -> io::Result<bool> {
        if self.slots[slot].process.is_none() {
            self.make_process(slot)?;
        }
        let mask = (!gpus.is_empty()).then(|| self.gpus.mask(gpus));
        let mask = mask.as_ref().map(|(name, value)| (&name[..], &value[..]));
        let Slot { process, count, .. } = &mut self.slots[slot];
        let Some(process) = process else { return Err(io::ErrorKind::NotConnected.into()) };
        if wire::put_run(&mut process.outbox, *count, attempt, cores, mask, command).is_err() {
            return Ok(false);
        }
        process.flush(&self.epoll, slot)?;
        Ok(true)
    }

    fn make_process(&mut self, slot: usize) -> io::Result<()> {
        let bytes = |path: &PathBuf| path.as_os_str().as_bytes().to_vec();
        let setup = Setup {
            max_output: self.settings.max_output,
            keep_stdout: self.settings.keep_stdout,
            kill_grace: self.settings.kill_grace,
            out_dir: self.settings.out_dir.as_ref().map(bytes),
            folder: self.settings.folder.as_ref().map(bytes),
            slot: self.settings.first_slot + slot as u32,
            cores: self.slots[slot].cores.clone(),
        };
        let socket = self.spawner.fork_slot().inspect_err(|error| {
            self.spawner_gone |= matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET));
        })?;
        watch(&self.epoll, libc::EPOLL_CTL_ADD, &socket, libc::EPOLLIN, slot as u64)?;
        let mut outbox = Vec::new();
        wire::put_setup(&mut outbox, &setup).map_err(io::Error::other)?;
        let replies = ReplyReader::new(self.settings.max_output);
        self.slots[slot].process = Some(SlotProcess { socket, replies, outbox, waits_for_room: false });
        Ok(())
    }

    /// Ends what the slot runs: SIGTERM to its group, and after `grace` SIGKILL to all its processes. Does nothing
    /// where it runs nothing. The end is reported as every other, with `killed` set unless it came sooner.
    pub fn kill(&mut self, slot: u32, grace: Duration) {
        let at = slot as usize;
        let Some(Slot { process: Some(process), running: Some(_), count, .. }) = self.slots.get_mut(at) else { return };
        let sent = wire::put_kill(&mut process.outbox, *count, grace).map_err(io::Error::other);
        // A socket that fails here reports the same to `poll`.
        let _ = sent.and_then(|()| process.flush(&self.epoll, at));
    }

    /// Adds what ended since the last call. Does not wait.
    pub fn poll(&mut self, ended: &mut Vec<Ended>) {
        if !self.at_once.is_empty() {
            ended.append(&mut self.at_once);
            // Nothing to read is as good as something read.
            let _ = sys::read(self.wake.as_fd(), &mut [0; 8]);
        }
        // SAFETY: the events are a live buffer of that length.
        let ready = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), self.events.len() as libc::c_int, 0)
        };
        for at in 0..usize::try_from(ready).unwrap_or(0) {
            let event = self.events[at];
            if event.u64 != WAKE {
                self.serve(event.u64 as usize, event.events, ended);
            }
        }
    }

    /// Exchanges what can be exchanged with one slot process.
    fn serve(&mut self, slot: usize, events: u32, ended: &mut Vec<Ended>) {
        let Some(process) = &mut self.slots[slot].process else { return };
        if events & libc::EPOLLOUT as u32 != 0 && process.flush(&self.epoll, slot).is_err() {
            return self.lose_process(slot, ended);
        }
        for _ in 0..MAX_READS {
            let Some(process) = &mut self.slots[slot].process else { return };
            match sys::unless_blocked(sys::receive(process.socket.as_fd(), &mut self.scratch, false)) {
                Ok(None) => return,
                Ok(Some(0)) | Err(_) => return self.lose_process(slot, ended),
                Ok(Some(length)) => {
                    let mut arrived = &self.scratch[..length];
                    let whole = length < READ_BYTES;
                    // A slot runs one task at a time: a reply is the last that arrives.
                    match process.replies.take(&mut arrived) {
                        Ok(Some(reply)) if arrived.is_empty() => self.report(slot, reply, ended),
                        Ok(None) => {}
                        Ok(Some(_)) | Err(_) => return self.lose_process(slot, ended),
                    }
                    if whole {
                        return;
                    }
                }
            }
        }
    }

    fn report(&mut self, slot: usize, reply: wire::Reply, ended: &mut Vec<Ended>) {
        let wire::Reply { number, status, killed, started_unix_us, duration_us, stdout, stderr } = reply;
        if number != self.slots[slot].count {
            return self.lose_process(slot, ended);
        }
        let Some(running) = self.slots[slot].running.take() else { return };
        self.gpus.give_back(&running.gpus);
        let (slot, crashed) = (slot as u32, false);
        ended.push(Ended { slot, status, killed, crashed, started_unix_us, duration_us, stdout, stderr });
    }

    /// The slot process has died, or is to be given up. The spawner kills what it leaves.
    fn lose_process(&mut self, slot: usize, ended: &mut Vec<Ended>) {
        self.slots[slot].process = None;
        if let Some(running) = self.slots[slot].running.take() {
            self.gpus.give_back(&running.gpus);
            ended.push(ended_here(slot, &running, Status::Lost, true));
        }
    }

    fn end_at_once(&mut self, slot: usize, running: Running, status: Status, crashed: bool) {
        self.gpus.give_back(&running.gpus);
        self.at_once.push(ended_here(slot, &running, status, crashed));
        let one = 1u64.to_ne_bytes();
        // SAFETY: writes eight live bytes. It fails only where the counter is full, and then `wake` is ready anyway.
        unsafe { libc::write(self.wake.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Why this executor can start nothing any more, once that is so. Every start is then reported as crashed.
    pub fn broken(&self) -> Option<ExecuteError> {
        self.spawner_gone.then_some(ExecuteError::SpawnerGone)
    }

    /// How many GPUs tasks can be given at once.
    pub fn gpus(&self) -> u32 {
        self.gpus.len() as u32
    }

    /// What to sleep on: readable when `poll` has something to do.
    pub fn wait_descriptors(&self, into: &mut Vec<libc::pollfd>) {
        into.push(sys::readable(self.epoll.as_fd()));
    }

    /// Kills what runs, ends the slot processes and reaps the spawner. Takes some seconds at most, and less than a
    /// hundredth of one where nothing runs. (Dropping does the same.)
    pub fn shutdown(self) {
        drop(self);
    }
}

/// The end of an attempt of which no slot process reports.
fn ended_here(slot: usize, running: &Running, status: Status, crashed: bool) -> Ended {
    Ended {
        slot: slot as u32,
        status,
        killed: false,
        crashed,
        started_unix_us: running.started_unix_us,
        duration_us: u64::try_from(running.started.elapsed().as_micros()).unwrap_or(u64::MAX),
        stdout: Captured::default(),
        stderr: Captured::default(),
    }
}

/// Adds a descriptor to the epoll set, or changes what is waited for.
fn watch(epoll: &OwnedFd, what: libc::c_int, descriptor: &OwnedFd, events: libc::c_int, number: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: number };
    // SAFETY: the event is live, and the kernel copies it.
    sys::check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), what, descriptor.as_raw_fd(), &mut event) }).map(drop)
}

impl SlotProcess {
    /// Sends as much as the socket takes, and has the rest wait for room.
    fn flush(&mut self, epoll: &OwnedFd, slot: usize) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.outbox.len() {
            match sys::unless_blocked(sys::send(self.socket.as_fd(), &self.outbox[sent..], false))? {
                Some(length) => sent += length,
                None => break,
            }
        }
        let waited = self.waits_for_room;
        self.outbox.drain(..sent);
        self.outbox.shrink_to(READ_BYTES);
        self.waits_for_room = !self.outbox.is_empty();
        if waited != self.waits_for_room {
            let events = if self.waits_for_room { libc::EPOLLIN | libc::EPOLLOUT } else { libc::EPOLLIN };
            watch(epoll, libc::EPOLL_CTL_MOD, &self.socket, events, slot as u64)?;
        }
        Ok(())
    }
}
