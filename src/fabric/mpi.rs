//! Ranks that are MPI processes. Every family of every level has a small communicator of its own, so that a wildcard
//! probe walks a parent and its children, not all ranks of the job. No call of this file blocks while others may still
//! work: sends and receives are started and looked after, and waiting sleeps.
//!
//! MPI does not tell that a peer is gone: its sends just never end. So few messages per peer are under way at a time
//! (`MAX_UNDER_WAY`); the rest waits here.

mod calls;
mod environment;
mod level;

pub use calls::{finalize, instead_of_finalizing};
pub use environment::{MpiEnvironment, MpiLibrary, ThreadLevel, environment};

use super::error::{check_levels, check_size};
use super::idle::{Idle, Step};
use super::launcher::{Environment, Launcher};
use super::patience::Patience;
use super::{Fabric, FabricError, Listen, MAX_MESSAGE_BYTES, Received, StartError, Woken, system};
use crate::task::Rank;
use calls::{Comm, Transfer};
use level::{Level, Traffic};
use mpi::environment::{Threading, Universe};
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

/// How long `finish` waits for the others before it leaves without MPI_Finalize.
const FINISH_PATIENCE: Duration = Duration::from_secs(60);
/// How long `finish` looks after what was said last, where some are gone.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// This process as a rank of an MPI job.
pub struct MpiFabric {
    rank: Rank,
    size: u32,
    all: Comm,
    levels: Vec<Option<Level>>,
    connected: bool,
    /// See [`MpiFabric::start_bounded`].
    bounded: bool,
    /// Rank 0 has told all something.
    has_heard_rank_0: bool,
    /// The level that `receive` looks at first.
    next_level: usize,
    /// Found by `wait`, not yet fetched.
    ready: Option<Received>,
    traffic: Traffic,
    idle: Idle,
    /// Dropping it is MPI_Finalize, which may hang when a rank is lost: only `finish` does so. None where the program
    /// around this library started MPI, and ends it.
    universe: Option<ManuallyDrop<Universe>>,
    threading: Threading,
    _timers: system::SharpTimers,
}

// SAFETY: handles of MPI are numbers or pointers that any thread may use, one at a time, where MPI was started with
// MPI_THREAD_SERIALIZED or more. Where it was not, `may_change_threads` says so, and no caller takes the fabric to a thread
// other than the one that made it.
unsafe impl Send for MpiFabric {}

impl MpiFabric {
    /// Starts MPI. See [`Fabric::may_change_threads`].
    ///
    /// # Errors
    /// The launcher belongs to another MPI ([`StartError::WrongLauncher`]): nothing must run then. MPI was started
    /// before, or refuses.
    pub fn start() -> Result<MpiFabric, StartError> {
        let launched = Environment::of_this_process();
        let (universe, _) =
            mpi::environment::initialize_with_threading(Threading::Serialized).ok_or(StartError::StartedBefore)?;
        let universe = ManuallyDrop::new(universe);
        let world = Comm::world();
        world.return_errors()?;
        // Hydra closes the survivors' output when a rank dies, and signals them with SIGUSR1.
        calls::ignore_signal(libc::SIGPIPE);
        if let Launcher::Hydra { .. } = launched.launcher() {
            calls::ignore_signal(libc::SIGUSR1);
        }
        let fabric = Self::over(&world, Some(universe))?;
        let size = fabric.size;
        if let Some(promise) = launched.broken_promise(size) {
            if size == 1 {
                Box::new(fabric).finish(false);
            }
            return Err(promise.broken(size, environment::short_version(&calls::library_version())));
        }
        Ok(fabric)
    }

    /// As [`start`](Self::start); but this process ends when others do not take part in that, or in a collective call later, for
    /// minutes: one that died before is waited for in vain, and MPI does not tell.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_bounded() -> Result<MpiFabric, StartError> {
        let _patience = Patience::at_start(false, super::launcher::is_among_the_first());
        Self::start().map(|fabric| Self { bounded: true, ..fabric })
    }

    /// Enters with a communicator of a program that has started MPI; a duplicate of it is used. Collective over it. MPI is
    /// left as it is when the fabric ends.
    ///
    /// # Errors
    /// MPI was not started, or has ended; or a launcher of another MPI started this process and others, each of which takes
    /// itself for the only one.
    ///
    /// # Safety
    /// The communicator is valid, and an intra-communicator.
    pub unsafe fn enter(communicator: ::mpi::ffi::MPI_Comm) -> Result<MpiFabric, FabricError> {
        if !::mpi::environment::is_initialized() || ::mpi::environment::is_finalized() {
            return Err(FabricError::Misuse("MPI is not running: call MPI_Init before, and MPI_Finalize after"));
        }
        let world = Comm::world().size()?;
        let broken = Environment::of_this_process().broken_promise(world).filter(|_| world == 1);
        if let Some(promise) = broken {
            return Err(FabricError::Launcher(Box::new(
                promise.broken(world, environment::short_version(&calls::library_version())),
            )));
        }
        // As in `start`. Upon SIGUSR1 MPICH asks Hydra who is gone, and Hydra ends the job when it cannot answer one who is.
        if let Launcher::Hydra { .. } = Environment::of_this_process().launcher() {
            calls::ignore_but_for_the_program(libc::SIGPIPE);
            calls::ignore_but_for_the_program(libc::SIGUSR1);
        }
        Self::over(&Comm::of(communicator), None)
    }

    /// A fabric of those ranks that take part, in the same order and numbered from 0; none for the others. Collective over
    /// all ranks. MPI ends with this fabric, not with that.
    ///
    /// # Errors
    /// MPI refuses, or a rank is gone.
    pub fn part(&self, takes_part: bool) -> Result<Option<MpiFabric>, FabricError> {
        let Some(part) = self.all.split(takes_part.then_some(0), self.rank.0)? else { return Ok(None) };
        let fabric = Self::over(&part, None)?;
        part.free()?;
        Ok(Some(fabric))
    }

    fn over(communicator: &Comm, universe: Option<ManuallyDrop<Universe>>) -> Result<MpiFabric, FabricError> {
        let all = communicator.duplicate()?;
        Ok(MpiFabric {
            rank: Rank(all.place()?),
            size: all.size()?,
            all,
            levels: Vec::new(),
            connected: false,
            bounded: false,
            has_heard_rank_0: false,
            next_level: 0,
            ready: None,
            traffic: Traffic::none(),
            idle: Idle::default(),
            universe,
            threading: ::mpi::environment::threading_support(),
            _timers: system::SharpTimers::new(),
        })
    }

    /// Waits for a collective transfer, asleep for most of the time.
    fn complete(&mut self, mut transfer: Transfer) -> Result<Transfer, FabricError> {
        self.idle.reset();
        while !transfer.test()? {
            self.push_sends();
            self.pause(Instant::now(), &mut [], Duration::MAX, Listen::Eagerly)?;
        }
        Ok(transfer)
    }

    fn push_sends(&mut self) {
        for level in self.levels.iter_mut().flatten() {
            level.push_sends(&mut self.traffic);
        }
    }

    /// Looks after sends, and for a message: level after level, from the one after the last that had something.
    fn look(&mut self) -> Result<Option<Received>, FabricError> {
        self.push_sends();
        let count = self.levels.len();
        for step in 0..count {
            let number = (self.next_level + step) % count;
            let Some(level) = &mut self.levels[number] else { continue };
            if let Some((from, message)) = level.receive(&mut self.traffic)? {
                self.next_level = (number + 1) % count;
                self.idle.reset();
                return Ok(Some((number as u8, from, message)));
            }
        }
        Ok(None)
    }

    /// One step of idling: spins, yields, or sleeps with an eye on the descriptors. Says whether one has something.
    fn pause(
        &mut self,
        now: Instant,
        descriptors: &mut [libc::pollfd],
        at_most: Duration,
        listen: Listen,
    ) -> Result<bool, FabricError> {
        match self.idle.next(now, self.traffic.goes_on(now), listen) {
            Step::Spin => std::hint::spin_loop(),
            Step::Yield => {
                std::thread::yield_now();
                return Ok(!descriptors.is_empty() && system::poll(descriptors, Duration::ZERO)?);
            }
            Step::Sleep(pause) => return Ok(system::poll(descriptors, pause.min(at_most))?),
        }
        Ok(false)
    }
}

impl Fabric for MpiFabric {
    fn rank(&self) -> Rank {
        self.rank
    }

    fn size(&self) -> u32 {
        self.size
    }

    fn may_change_threads(&self) -> bool {
        self.threading >= Threading::Serialized
    }

    fn may_be_shared(&self) -> bool {
        self.threading >= Threading::Multiple
    }

    fn is_own_process(&self) -> bool {
        true
    }

    fn bound_the_start(&mut self) {
        self.bounded = true;
    }

    fn gather(&mut self, mine: Vec<u8>) -> Result<Option<Vec<Vec<u8>>>, FabricError> {
        let _patience = self.patience();
        let is_root = self.rank == Rank::MANAGER;
        let eight = if is_root { vec![8; self.size as usize] } else { Vec::new() };
        let lengths = self.all.gather((mine.len() as u64).to_le_bytes().to_vec(), &eight)?;
        let lengths: Vec<u64> = self.complete(lengths)?.into_parts().iter().map(|part| number(part)).collect();
        // All must agree whether it goes on: rank 0 knows the sum.
        let total = self.tell_all(is_root.then(|| lengths.iter().sum::<u64>().to_le_bytes().to_vec()))?;
        check_size("what the ranks tell rank 0", number(&total))?;
        let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();
        let parts = self.all.gather(mine, &lengths)?;
        let parts = self.complete(parts)?.into_parts();
        Ok(is_root.then_some(parts))
    }

    fn broadcast(&mut self, from_manager: Option<Vec<u8>>) -> Result<Vec<u8>, FabricError> {
        let _patience = self.patience();
        self.tell_all(from_manager)
    }

    fn connect(&mut self, levels: &[Option<Rank>]) -> Result<(), FabricError> {
        check_levels(levels, self.size, self.connected)?;
        // Ranks at the bottom may know of fewer levels; the split is collective over all.
        let counts = self.gather(vec![levels.len() as u8])?;
        let most = counts.map(|counts| vec![counts.iter().flatten().copied().max().unwrap_or(0)]);
        let count = self.broadcast(most)?.first().copied().unwrap_or(0);
        let _patience = self.patience();
        for number in 0..usize::from(count) {
            let parent = levels.get(number).copied().flatten();
            self.levels.push(Level::join(&self.all, parent, self.rank)?);
        }
        self.connected = true;
        Ok(())
    }

    fn send(&mut self, level: u8, to: Rank, message: Vec<u8>) {
        assert!(message.len() <= MAX_MESSAGE_BYTES, "a message of {} bytes", message.len());
        let family = self.levels.get_mut(usize::from(level)).and_then(Option::as_mut);
        let sent = family.and_then(|family| family.send(to, message, &mut self.traffic));
        assert!(sent.is_some(), "rank {to} is no relative at level {level}");
    }

    fn receive(&mut self) -> Result<Option<Received>, FabricError> {
        match self.ready.take() {
            Some(message) => Ok(Some(message)),
            None => self.look(),
        }
    }

    fn unsent_to(&self, peer: Rank) -> u64 {
        self.levels.iter().flatten().map(|level| level.unsent_to(peer)).sum()
    }

    fn abandon(&mut self, peer: Rank) {
        for level in self.levels.iter_mut().flatten() {
            level.abandon(peer);
        }
    }

    fn wait(
        &mut self,
        descriptors: &mut Vec<libc::pollfd>,
        at_most: Duration,
        listen: Listen,
    ) -> Result<Woken, FabricError> {
        system::clear(descriptors);
        let start = Instant::now();
        loop {
            if listen == Listen::No {
                self.push_sends();
            } else if self.ready.is_none() {
                self.ready = self.look()?;
            }
            if listen != Listen::No && self.ready.is_some() {
                return Ok(Woken::Message);
            }
            let now = Instant::now();
            let left = at_most.saturating_sub(now.duration_since(start));
            let woken = if left.is_zero() {
                system::poll(descriptors, Duration::ZERO)?
            } else {
                self.pause(now, descriptors, left, listen)?
            };
            if woken {
                self.idle.reset();
                return Ok(Woken::Descriptor);
            }
            if left.is_zero() {
                return Ok(Woken::TimeUp);
            }
        }
    }

    fn finish(mut self: Box<Self>, lost: bool) -> bool {
        if lost {
            self.send_off();
            return false;
        }
        match self.leave_together() {
            Ok(true) => {
                let MpiFabric { all, universe, .. } = *self;
                if let Err(error) = all.free() {
                    tracing::debug!(%error, "a communicator was not given back");
                }
                if let Some(universe) = universe {
                    drop(ManuallyDrop::into_inner(universe));
                }
                true
            }
            Ok(false) => false,
            Err(error) => {
                tracing::debug!(%error, "MPI was left without MPI_Finalize");
                false
            }
        }
    }
}

impl MpiFabric {
    /// See [`Fabric::broadcast`].
    fn tell_all(&mut self, from_manager: Option<Vec<u8>>) -> Result<Vec<u8>, FabricError> {
        let message = if self.rank == Rank::MANAGER {
            let message = from_manager.ok_or(FabricError::Misuse("rank 0 has nothing to broadcast"));
            message.and_then(|message| check_size("a broadcast", message.len() as u64).map(|()| message))
        } else {
            Ok(Vec::new())
        };
        // The others learn of a refusal too, instead of waiting for ever.
        let announced = message.as_ref().map_or(u64::MAX, |message| message.len() as u64);
        let announced = self.all.broadcast(announced.to_le_bytes().to_vec())?;
        let bytes = number(&self.complete(announced)?.into_buffer());
        let mut message = message?;
        check_size("a broadcast", bytes)?;
        if self.rank != Rank::MANAGER {
            message.try_reserve_exact(bytes as usize).map_err(|_| FabricError::Memory(bytes as usize))?;
            message.resize(bytes as usize, 0);
        }
        let message = self.all.broadcast(message)?;
        let message = self.complete(message)?.into_buffer();
        self.has_heard_rank_0 = true;
        Ok(message)
    }

    /// A bound for waiting in a collective call.
    fn patience(&self) -> Option<Patience> {
        if !self.bounded {
            return None;
        }
        let with_rank_0 = self.rank != Rank::MANAGER && !self.has_heard_rank_0;
        Some(Patience::at_start(with_rank_0, self.rank.0 <= 1))
    }

    /// Looks after the last words to those that are there: who is gone would be waited for in vain.
    fn send_off(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        self.idle.reset();
        while self.levels.iter().flatten().any(Level::has_unsent) && Instant::now() < deadline {
            self.push_sends();
            let _ = self.pause(Instant::now(), &mut [], Duration::MAX, Listen::Eagerly);
        }
    }

    /// Waits until everybody's messages were taken up; says whether that came about in time.
    fn leave_together(&mut self) -> Result<bool, FabricError> {
        let deadline = Instant::now() + FINISH_PATIENCE;
        let mut barrier = None;
        self.idle.reset();
        loop {
            // Receiving what nobody will read any more lets its senders finish.
            while self.look()?.is_some() {}
            if barrier.is_none() && self.levels.iter().flatten().all(Level::has_sent_all) {
                barrier = Some(self.all.barrier()?);
            }
            if let Some(barrier) = &mut barrier
                && barrier.test()?
            {
                break;
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            self.pause(Instant::now(), &mut [], Duration::MAX, Listen::Eagerly)?;
        }
        for level in self.levels.drain(..).flatten() {
            level.free()?;
        }
        Ok(true)
    }

    /// Does without wildcards from now on, as it does by itself when MPI refuses them after the loss of a rank. For
    /// tests, since few MPI libraries do refuse.
    #[doc(hidden)]
    pub fn ask_each_peer(&mut self) {
        for level in self.levels.iter_mut().flatten() {
            level.ask_each();
        }
    }
}

/// Eight bytes as a number; fewer count as 0, which no rank sends.
fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}
