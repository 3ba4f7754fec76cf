//! What carries messages between ranks: MPI, or threads of one process. One trait, and both held to one conformance
//! suite (`tests/fabric_*.rs`), so that a caller never asks which one it has.
//!
//! Nothing here knows what a message says. A message is a string of bytes that goes from one rank to another within a
//! *family* of a *level* of the tree: a parent and its children. Messages of one pair and level keep their order.

mod error;
mod host;
#[cfg(feature = "mpi")]
mod idle;
mod launcher;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "mpi")]
mod patience;
mod system;
mod threads;

pub use error::{FabricError, StartError};
pub use host::{HostIdentity, host_identity};
#[cfg(feature = "mpi")]
pub use idle::{EagerPauses, eager_pauses};
pub use launcher::{
    Launcher, LossSurvival, Promise, is_first_of_launch, launcher, loss_survival, refuse_launcher, under_launcher,
};
#[cfg(feature = "mpi")]
pub use mpi::{MpiEnvironment, MpiFabric, MpiLibrary, ThreadLevel, environment, finalize, instead_of_finalizing};
pub use system::{leave, leave_written, write_streams};
pub use threads::ThreadFabric;

use crate::task::Rank;
use std::time::Duration;

/// The largest message, 1 GiB. More than that is a mistake of the sender: bulk data goes through files.
pub const MAX_MESSAGE_BYTES: usize = 1 << 30;

/// A message that has arrived: the level of the tree, the rank that sent it, and what it says.
pub type Received = (u8, Rank, Vec<u8>);

/// Why [`Fabric::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A message is there: `receive` returns it.
    Message,
    /// At least one of the descriptors has something; see its `revents`.
    Descriptor,
    /// Time is up, or a signal was handled meanwhile.
    TimeUp,
}

/// What a rank that waits expects of its relatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A message is what it waits for: it looks often at first.
    Eagerly,
    /// A descriptor will most likely come first, and the core is wanted for something better: it sleeps at once, and
    /// looks for messages after some milliseconds and then ever less often, but within this time.
    Lazily(Duration),
    /// It can take up no messages: they are left where they are, and do not end the wait. What was sent goes on.
    No,
}

/// Moves messages between the ranks of one run.
///
/// The collective calls (`gather`, `broadcast`, `connect`, `finish`) are made by every rank in the same order. The
/// first three belong to the start, when no rank may be missing yet. Waiting in them sleeps, as `wait` does.
pub trait Fabric: Send {
    /// This rank.
    fn rank(&self) -> Rank;

    /// How many ranks there are.
    fn size(&self) -> u32;

    /// Whether its calls may be made by one thread now and by another later, never by two at a time. Where not, all belong
    /// to the thread that made it.
    fn may_change_threads(&self) -> bool;

    /// Whether others in this process may use what lies under the fabric at the same time.
    fn may_be_shared(&self) -> bool;

    /// From now on this process ends when others do not take part in a collective call for minutes: what has to be begun together is
    /// under way, and a rank that dies in it is waited for in vain otherwise.
    fn bound_the_start(&mut self) {}

    /// Whether this rank is a process of its own.
    fn is_own_process(&self) -> bool;

    /// Collective: rank 0 gets what every rank gave, in the order of ranks; the others get `None`.
    ///
    /// # Errors
    /// All parts together exceed [`MAX_MESSAGE_BYTES`], or a rank is gone.
    fn gather(&mut self, mine: Vec<u8>) -> Result<Option<Vec<Vec<u8>>>, FabricError>;

    /// Collective: every rank gets what rank 0 gave. The others' `from_manager` is ignored.
    ///
    /// # Errors
    /// Rank 0 gave nothing, or more than [`MAX_MESSAGE_BYTES`]; or it is gone.
    fn broadcast(&mut self, from_manager: Option<Vec<u8>>) -> Result<Vec<u8>, FabricError>;

    /// Collective, once: joins the families. For each level of the tree, the parent whose family this rank belongs to
    /// at that level (a parent belongs to its own family), or `None` where it belongs to none.
    ///
    /// # Errors
    /// It was called before, there are more than 255 levels, or a rank is gone.
    fn connect(&mut self, levels: &[Option<Rank>]) -> Result<(), FabricError>;

    /// Sends a message to a rank of this rank's family at that level, itself included. Never blocks, and never fails
    /// for a peer that is gone: its messages are kept until [`Fabric::abandon`] or the end.
    ///
    /// # Panics
    /// The level has no such family, `to` is not in it, or the message exceeds [`MAX_MESSAGE_BYTES`]: the caller's
    /// mistakes.
    fn send(&mut self, level: u8, to: Rank, message: Vec<u8>);

    /// The next message, if there is one. Never blocks; fair among levels.
    ///
    /// # Errors
    /// Only what makes the fabric useless as a whole, never the loss of a peer.
    fn receive(&mut self) -> Result<Option<Received>, FabricError>;

    /// Bytes of messages that were sent to this peer, at all levels, and that its side has not taken up yet.
    fn unsent_to(&self, peer: Rank) -> u64;

    /// Gives a peer up, at all levels: what still waits for it is dropped, and what is under way no longer counts as
    /// unsent. Messages sent to it later are sent as ever, in case that it comes back.
    fn abandon(&mut self, peer: Rank);

    /// Sleeps until a message may be there, one of the descriptors has something (its `revents` says so; all
    /// `revents` are cleared first), or time is up. Costs next to nothing when ranks outnumber cores.
    ///
    /// # Errors
    /// As `receive`, or the descriptors cannot be polled.
    fn wait(
        &mut self,
        descriptors: &mut Vec<libc::pollfd>,
        at_most: Duration,
        listen: Listen,
    ) -> Result<Woken, FabricError>;

    /// Collective: ends it, after what was sent has been taken up; a message that its receiver has not fetched by then
    /// is dropped. When a rank was `lost` it returns at once. Says whether the process may end in the ordinary way; if
    /// not, the caller ends it with [`leave`], rank 0 last. MPI itself goes on where the program had started it.
    fn finish(self: Box<Self>, lost: bool) -> bool;
}
