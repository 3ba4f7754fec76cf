//! Ranks that are threads of one process: queues in memory, and a pipe per rank to wake it. Knows nothing
//! of MPI, and works without it.

use super::{Fabric, FabricError, Listen, MAX_MESSAGE_BYTES, Received, Woken, system};
use crate::task::Rank;
use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a rank that waits looks for a message before it sleeps.
const SPIN: Duration = Duration::from_micros(5);

/// One rank of a group of threads.
#[derive(Debug)]
pub struct ThreadFabric {
    rank: Rank,
    shared: Arc<Shared>,
    /// Holds one byte for each time that somebody found this rank asleep.
    wake: PipeReader,
    /// The level that `receive` looks at first.
    next_level: usize,
    /// For each rank and level, the parent of its family; empty until `connect`.
    families: Vec<Levels>,
}

/// The parents of a rank's families, one per level.
type Levels = Arc<[Option<Rank>]>;

#[derive(Debug)]
struct Shared {
    places: Vec<Place>,
    meeting: Mutex<Meeting>,
    changed: Condvar,
}

/// What the others see of a rank.
#[derive(Debug)]
struct Place {
    inbox: Mutex<Inbox>,
    /// Messages in the inbox: lets its owner look without taking the lock.
    arrived: AtomicUsize,
    /// The owner sleeps, or is about to: whoever brings a message wakes it.
    asleep: AtomicBool,
    wake: PipeWriter,
    /// For each rank, the bytes of this rank's messages that are still in its inbox.
    unsent: Vec<AtomicU64>,
}

#[derive(Debug, Default)]
struct Inbox {
    levels: Vec<VecDeque<(Rank, Vec<u8>)>>,
}

/// What the collective calls share.
#[derive(Debug)]
struct Meeting {
    /// For each rank, what it gave to gathers that rank 0 has not read yet.
    gathered: Vec<VecDeque<Vec<u8>>>,
    /// For each rank, what was broadcast and it has not read yet.
    broadcast: Vec<VecDeque<Vec<u8>>>,
    /// For each rank, the parents of its families.
    families: Vec<Option<Levels>>,
    /// Ranks that have ended.
    gone: Vec<bool>,
}

impl ThreadFabric {
    /// `n` ranks that can reach each other, in order; each is moved to a thread of its own.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn group(n: u32) -> io::Result<Vec<ThreadFabric>> {
        let size = n as usize;
        let mut places = Vec::with_capacity(size);
        let mut readers = Vec::with_capacity(size);
        for _ in 0..size {
            let (reader, writer) = io::pipe()?;
            readers.push(reader);
            places.push(Place {
                inbox: Mutex::default(),
                arrived: AtomicUsize::new(0),
                asleep: AtomicBool::new(false),
                wake: writer,
                unsent: (0..n).map(|_| AtomicU64::new(0)).collect(),
            });
        }
        let meeting = Meeting {
            gathered: vec![VecDeque::new(); size],
            broadcast: vec![VecDeque::new(); size],
            families: vec![None; size],
            gone: vec![false; size],
        };
        let shared = Arc::new(Shared { places, meeting: Mutex::new(meeting), changed: Condvar::new() });
        let rank = |(position, wake)| ThreadFabric {
            rank: Rank(position),
            shared: shared.clone(),
            wake,
            next_level: 0,
            families: Vec::new(),
        };
        Ok((0..n).zip(readers).map(rank).collect())
    }

    fn place(&self) -> &Place {
        &self.shared.places[self.rank.position()]
    }

    fn parent_at(&self, rank: Rank, level: u8) -> Option<Rank> {
        *self.families.get(rank.position())?.get(usize::from(level))?
    }

    /// Waits until `look` finds something in the meeting; it may name the rank that it waits for.
    fn meet<T>(&self, mut look: impl FnMut(&mut Meeting) -> Result<T, Rank>) -> Result<T, FabricError> {
        let mut meeting = locked(&self.shared.meeting);
        loop {
            match look(&mut meeting) {
                Ok(found) => return Ok(found),
                Err(missing) if meeting.gone[missing.position()] => return Err(FabricError::Gone(missing)),
                Err(_) => {
                    meeting = self.shared.changed.wait(meeting).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Place {
    fn put(&self, level: u8, from: Rank, message: Vec<u8>) {
        let mut inbox = locked(&self.inbox);
        let level = usize::from(level);
        if inbox.levels.len() <= level {
            inbox.levels.resize_with(level + 1, VecDeque::new);
        }
        inbox.levels[level].push_back((from, message));
        self.arrived.fetch_add(1, Ordering::SeqCst);
        drop(inbox);
        // The one that takes the flag down writes the byte that the sleeper will read.
        if self.asleep.swap(false, Ordering::SeqCst) {
            // The sleeper holds the other end, and at most one byte is ever in the pipe: this cannot fail or block.
            let _ = (&self.wake).write_all(&[1]);
        }
    }

    fn has_message(&self) -> bool {
        self.arrived.load(Ordering::SeqCst) > 0
    }
}

impl Fabric for ThreadFabric {
    fn rank(&self) -> Rank {
        self.rank
    }

    fn size(&self) -> u32 {
        self.shared.places.len() as u32
    }

    fn may_change_threads(&self) -> bool {
        true
    }

    fn may_be_shared(&self) -> bool {
        true
    }

    fn is_own_process(&self) -> bool {
        false
    }

    fn gather(&mut self, mine: Vec<u8>) -> Result<Option<Vec<Vec<u8>>>, FabricError> {
        locked(&self.shared.meeting).gathered[self.rank.position()].push_back(mine);
        self.shared.changed.notify_all();
        if self.rank != Rank::MANAGER {
            return Ok(None);
        }
        self.meet(|meeting| {
            if let Some(missing) = meeting.gathered.iter().position(VecDeque::is_empty) {
                return Err(Rank(missing as u32));
            }
            Ok(Some(meeting.gathered.iter_mut().filter_map(VecDeque::pop_front).collect()))
        })
    }

    fn broadcast(&mut self, from_manager: Option<Vec<u8>>) -> Result<Vec<u8>, FabricError> {
        let me = self.rank.position();
        if self.rank == Rank::MANAGER {
            let message = from_manager.ok_or(FabricError::Misuse("rank 0 has nothing to broadcast"))?;
            super::error::check_size("a broadcast", message.len() as u64)?;
            let mut meeting = locked(&self.shared.meeting);
            for queue in meeting.broadcast.iter_mut().skip(1) {
                queue.push_back(message.clone());
            }
            drop(meeting);
            self.shared.changed.notify_all();
            return Ok(message);
        }
        self.meet(|meeting| meeting.broadcast[me].pop_front().ok_or(Rank::MANAGER))
    }

    fn connect(&mut self, levels: &[Option<Rank>]) -> Result<(), FabricError> {
        super::error::check_levels(levels, self.size(), !self.families.is_empty())?;
        locked(&self.shared.meeting).families[self.rank.position()] = Some(levels.into());
        self.shared.changed.notify_all();
        self.families = self.meet(|meeting| {
            let row = |(rank, row): (usize, &Option<Levels>)| row.clone().ok_or(Rank(rank as u32));
            meeting.families.iter().enumerate().map(row).collect()
        })?;
        Ok(())
    }

    fn send(&mut self, level: u8, to: Rank, message: Vec<u8>) {
        let family = self.parent_at(self.rank, level);
        assert!(family.is_some() && family == self.parent_at(to, level), "rank {to} is no relative at level {level}");
        assert!(message.len() <= MAX_MESSAGE_BYTES, "a message of {} bytes", message.len());
        self.place().unsent[to.position()].fetch_add(message.len() as u64, Ordering::SeqCst);
        self.shared.places[to.position()].put(level, self.rank, message);
    }

    fn receive(&mut self) -> Result<Option<Received>, FabricError> {
        let place = self.place();
        if !place.has_message() {
            return Ok(None);
        }
        let mut inbox = locked(&place.inbox);
        let count = inbox.levels.len();
        for step in 0..count {
            let level = (self.next_level + step) % count;
            if let Some((from, message)) = inbox.levels[level].pop_front() {
                place.arrived.fetch_sub(1, Ordering::SeqCst);
                drop(inbox);
                let sender = &self.shared.places[from.position()];
                sender.unsent[self.rank.position()].fetch_sub(message.len() as u64, Ordering::SeqCst);
                self.next_level = (level + 1) % count;
                return Ok(Some((level as u8, from, message)));
            }
        }
        Ok(None)
    }

    fn unsent_to(&self, peer: Rank) -> u64 {
        self.place().unsent[peer.position()].load(Ordering::SeqCst)
    }

    fn abandon(&mut self, peer: Rank) {
        let place = &self.shared.places[peer.position()];
        let mut inbox = locked(&place.inbox);
        for queue in &mut inbox.levels {
            queue.retain(|(from, message)| {
                let keep = *from != self.rank;
                if !keep {
                    place.arrived.fetch_sub(1, Ordering::SeqCst);
                    self.place().unsent[peer.position()].fetch_sub(message.len() as u64, Ordering::SeqCst);
                }
                keep
            });
        }
    }

    fn wait(
        &mut self,
        descriptors: &mut Vec<libc::pollfd>,
        at_most: Duration,
        listen: Listen,
    ) -> Result<Woken, FabricError> {
        system::clear(descriptors);
        if listen == Listen::No {
            let woken = system::poll(descriptors, at_most)?;
            return Ok(if woken { Woken::Descriptor } else { Woken::TimeUp });
        }
        let place = self.place();
        let start = Instant::now();
        loop {
            if place.has_message() {
                return Ok(Woken::Message);
            }
            if matches!(listen, Listen::Lazily(_)) || start.elapsed() >= SPIN.min(at_most) {
                break;
            }
            std::hint::spin_loop();
        }
        place.asleep.store(true, Ordering::SeqCst);
        // A message that came before the flag was up has woken nobody.
        let sleep_for = if place.has_message() { Duration::ZERO } else { at_most.saturating_sub(start.elapsed()) };
        descriptors.push(libc::pollfd { fd: self.wake.as_raw_fd(), events: libc::POLLIN, revents: 0 });
        let polled = system::poll(descriptors, sleep_for);
        descriptors.pop();
        if !place.asleep.swap(false, Ordering::SeqCst) {
            // Somebody took the flag down: its byte is in the pipe, or will be in a moment.
            (&self.wake).read_exact(&mut [0])?;
        }
        polled?;
        Ok(if place.has_message() {
            Woken::Message
        } else if descriptors.iter().any(|descriptor| descriptor.revents != 0) {
            Woken::Descriptor
        } else {
            Woken::TimeUp
        })
    }

    fn finish(self: Box<Self>, _lost: bool) -> bool {
        // What was sent lies in the receivers' inboxes, which live as long as the group.
        true
    }
}

impl Drop for ThreadFabric {
    fn drop(&mut self) {
        locked(&self.shared.meeting).gone[self.rank.position()] = true;
        self.shared.changed.notify_all();
    }
}

/// The lock, even where another rank panicked while it held it: every change under these locks is a single step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
