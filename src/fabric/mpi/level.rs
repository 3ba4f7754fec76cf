//! The family that a rank belongs to at one level of the tree: its communicator, what waits to be sent to each
//! relative, and what is being received. Knows nothing of other levels.

use super::calls::{Comm, Transfer};
use crate::fabric::FabricError;
use crate::task::Rank;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Sends under way to one relative; the rest waits its turn. A relative that is gone holds no more than these.
const MAX_UNDER_WAY: usize = 16;
/// Receives under way at a level, and their bytes: more is not matched until some are done.
const MAX_RECEIVING: usize = 64;
const MAX_RECEIVING_BYTES: usize = 128 << 20;
/// How long after its last progress a transfer counts as one that goes on, rather than one whose peer is gone.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(1);

/// What all levels of a rank share: how much is on its way.
#[derive(Debug)]
pub(super) struct Traffic {
    /// Transfers that were started and are not done.
    open: usize,
    /// Last time that one was started or done.
    moved: Instant,
}

impl Traffic {
    pub(super) fn none() -> Self {
        Self { open: 0, moved: Instant::now() }
    }

    fn opened(&mut self) {
        self.open += 1;
        self.moved = Instant::now();
    }

    fn closed(&mut self) {
        self.open -= 1;
        self.moved = Instant::now();
    }

    /// Whether a message is in mid-transfer with a peer that takes part. Both sides have to look after it.
    pub(super) fn goes_on(&self, now: Instant) -> bool {
        self.open > 0 && now.saturating_duration_since(self.moved) < TRANSFER_PATIENCE
    }
}

/// One family, seen from one member.
#[derive(Debug)]
pub(super) struct Level {
    comm: Comm,
    relatives: Vec<Relative>,
    places: HashMap<Rank, usize>,
    /// Relatives with something to send, by place.
    busy: Vec<usize>,
    receiving: VecDeque<Receiving>,
    receiving_bytes: usize,
    /// Whether this rank ever sent anything here.
    has_sent: bool,
    /// After MPI refused a wildcard (as a fault-tolerant MPI does when a peer is lost) each relative is asked in turn.
    ask_each: Option<usize>,
}

#[derive(Debug)]
struct Relative {
    rank: Rank,
    waiting: VecDeque<Vec<u8>>,
    under_way: VecDeque<Sending>,
    /// Bytes of both.
    unsent_bytes: u64,
    /// Nobody waits for it.
    is_abandoned: bool,
}

#[derive(Debug)]
struct Sending {
    transfer: Transfer,
    /// What it counts for in its relative's `unsent_bytes`.
    counted: u64,
}

#[derive(Debug)]
struct Receiving {
    from: usize,
    bytes: usize,
    transfer: Transfer,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    UnderWay,
    Done,
    /// Its sender went away in mid-transfer.
    Broken,
}

impl Level {
    /// Joins a family, or none. Collective over all ranks.
    pub(super) fn join(all: &Comm, parent: Option<Rank>, me: Rank) -> Result<Option<Level>, FabricError> {
        let Some(comm) = all.split(parent.map(|rank| rank.0), me.0)? else { return Ok(None) };
        let ranks = comm.all_gather(me.0)?;
        let places = ranks.iter().enumerate().map(|(place, rank)| (Rank(*rank), place)).collect();
        let relative = |rank| Relative {
            rank: Rank(rank),
            waiting: VecDeque::new(),
            under_way: VecDeque::new(),
            unsent_bytes: 0,
            is_abandoned: false,
        };
        let relatives = ranks.into_iter().map(relative).collect();
        let (busy, receiving) = (Vec::new(), VecDeque::new());
        Ok(Some(Level {
            comm,
            relatives,
            places,
            busy,
            receiving,
            receiving_bytes: 0,
            has_sent: false,
            ask_each: None,
        }))
    }

    /// Gives the communicator back. Collective over the family, before MPI_Finalize.
    pub(super) fn free(self) -> Result<(), FabricError> {
        self.comm.free()
    }

    /// Sends, or keeps for later. `None`: `to` is no relative.
    pub(super) fn send(&mut self, to: Rank, message: Vec<u8>, traffic: &mut Traffic) -> Option<()> {
        let place = *self.places.get(&to)?;
        self.has_sent = true;
        let relative = &mut self.relatives[place];
        relative.unsent_bytes += message.len() as u64;
        relative.waiting.push_back(message);
        if !self.push_relative(place, traffic) && !self.busy.contains(&place) {
            self.busy.push(place);
        }
        Some(())
    }

    /// Looks after sends under way and starts those that have their turn.
    pub(super) fn push_sends(&mut self, traffic: &mut Traffic) {
        let mut at = 0;
        while at < self.busy.len() {
            if self.push_relative(self.busy[at], traffic) {
                self.busy.swap_remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// Whether nothing is left to send to that relative.
    fn push_relative(&mut self, place: usize, traffic: &mut Traffic) -> bool {
        let relative = &mut self.relatives[place];
        while let Some(first) = relative.under_way.front_mut() {
            match first.transfer.test() {
                Ok(false) => break,
                Ok(true) => {}
                Err(error) => tracing::debug!(rank = %relative.rank, %error, "a send came to nothing"),
            }
            relative.unsent_bytes -= first.counted;
            traffic.closed();
            relative.under_way.pop_front();
        }
        while relative.under_way.len() < MAX_UNDER_WAY {
            let Some(message) = relative.waiting.pop_front() else { break };
            let counted = message.len() as u64;
            let started = self.comm.send(place, message).and_then(|mut transfer| Ok((transfer.test()?, transfer)));
            match started {
                Ok((false, transfer)) => {
                    traffic.opened();
                    relative.under_way.push_back(Sending { transfer, counted });
                }
                Ok((true, _)) => relative.unsent_bytes -= counted,
                Err(error) => {
                    // Only a peer that is gone is refused; the tree notices its silence.
                    tracing::debug!(rank = %relative.rank, %error, "a message was not sent");
                    relative.unsent_bytes -= counted;
                }
            }
        }
        relative.under_way.is_empty() && relative.waiting.is_empty()
    }

    /// Drops what waits for a relative and counts what is under way no longer.
    pub(super) fn abandon(&mut self, peer: Rank) {
        let Some(place) = self.places.get(&peer) else { return };
        let relative = &mut self.relatives[*place];
        relative.is_abandoned = true;
        relative.waiting.clear();
        relative.under_way.iter_mut().for_each(|sending| sending.counted = 0);
        relative.unsent_bytes = 0;
    }

    /// Bytes sent to that relative, if it is one, and not taken up yet.
    pub(super) fn unsent_to(&self, peer: Rank) -> u64 {
        self.places.get(&peer).map_or(0, |place| self.relatives[*place].unsent_bytes)
    }

    /// Whether something that was sent to a relative was not taken up, those apart that were abandoned at some time.
    pub(super) fn has_unsent(&self) -> bool {
        self.relatives.iter().any(|relative| relative.unsent_bytes > 0 && !relative.is_abandoned)
    }

    /// Whether everything was taken up.
    pub(super) fn has_sent_all(&self) -> bool {
        self.busy.is_empty()
    }

    /// The next message, if one is complete. Messages of one sender come in their order, though a later one may be
    /// complete sooner.
    pub(super) fn receive(&mut self, traffic: &mut Traffic) -> Result<Option<(Rank, Vec<u8>)>, FabricError> {
        if self.relatives.len() == 1 && !self.has_sent {
            // Nobody is there who could have sent anything.
            return Ok(None);
        }
        if let Some(message) = self.first_received(traffic) {
            return Ok(Some(message));
        }
        while self.receiving.len() < MAX_RECEIVING && self.receiving_bytes < MAX_RECEIVING_BYTES {
            let Some(arrived) = self.match_one() else { return Ok(None) };
            let (from, bytes) = (arrived.from, arrived.bytes);
            let mut transfer = match arrived.receive() {
                Ok(transfer) => transfer,
                Err(error @ FabricError::Memory(_)) => return Err(error),
                Err(error) => {
                    tracing::debug!(rank = %self.relatives[from].rank, %error, "a message could not be received");
                    continue;
                }
            };
            let state = state_of(transfer.test());
            if state == State::Broken {
                continue;
            }
            if state == State::Done && !self.receiving.iter().any(|earlier| earlier.from == from) {
                return Ok(Some((self.relatives[from].rank, transfer.into_buffer())));
            }
            traffic.opened();
            self.receiving_bytes += bytes;
            self.receiving.push_back(Receiving { from, bytes, transfer, state });
        }
        Ok(None)
    }

    /// Tests all receives under way, and takes out the first that is done and has none of its sender's before it.
    fn first_received(&mut self, traffic: &mut Traffic) -> Option<(Rank, Vec<u8>)> {
        for receiving in &mut self.receiving {
            if receiving.state == State::UnderWay {
                receiving.state = state_of(receiving.transfer.test());
            }
        }
        let mut at = 0;
        while at < self.receiving.len() {
            let Receiving { from, state, .. } = self.receiving[at];
            let is_first = !self.receiving.iter().take(at).any(|earlier| earlier.from == from);
            if state == State::UnderWay || !is_first {
                at += 1;
                continue;
            }
            let over = self.receiving.remove(at)?;
            traffic.closed();
            self.receiving_bytes -= over.bytes;
            if state == State::Done {
                return Some((self.relatives[from].rank, over.transfer.into_buffer()));
            }
        }
        None
    }

    /// Matches a message that is there.
    fn match_one(&mut self) -> Option<super::calls::Arrived> {
        if self.ask_each.is_none() {
            match self.comm.look(None) {
                Ok(arrived) => return arrived,
                Err(error) => {
                    tracing::debug!(%error, "no more wildcards at this level");
                    self.ask_each = Some(0);
                }
            }
        }
        let start = self.ask_each.unwrap_or(0);
        let count = self.relatives.len();
        for place in (start..count).chain(0..start) {
            // An error is that of a relative that is gone: the others go on.
            if let Ok(Some(arrived)) = self.comm.look(Some(place)) {
                self.ask_each = Some((place + 1) % count);
                return Some(arrived);
            }
        }
        None
    }

    /// From now on asks each relative in turn.
    pub(super) fn ask_each(&mut self) {
        self.ask_each = Some(0);
    }
}

fn state_of(tested: Result<bool, FabricError>) -> State {
    match tested {
        Ok(true) => State::Done,
        Ok(false) => State::UnderWay,
        Err(_) => State::Broken,
    }
}
