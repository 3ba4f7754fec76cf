//! What can go wrong between ranks, in words for people.

use crate::task::{Rank, io_cause};
use std::io;

/// The fabric as a whole is of no more use, or a collective call at the start could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// An MPI call said no.
    #[error("{call} failed with code {code}: {text}")]
    Mpi {
        /// The MPI function.
        call: &'static str,
        /// What it returned.
        code: i32,
        /// What the MPI library says that this means.
        text: String,
    },
    /// More bytes than a collective call moves.
    #[error("{what} comes to {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// What was to be moved.
        what: &'static str,
        /// How much it is.
        bytes: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// A rank ended before a collective call was complete.
    #[error("rank {0} ended while the others were still starting")]
    Gone(Rank),
    /// A message has arrived for which there is no memory.
    #[error("no memory for a message of {0} bytes")]
    Memory(usize),
    /// The launcher belongs to another MPI.
    #[error(transparent)]
    Launcher(Box<StartError>),
    /// The caller's mistake.
    #[error("{0}")]
    Misuse(&'static str),
    /// The operating system said no.
    #[error("cannot wait for file descriptors: {}", io_cause(.0))]
    Poll(#[from] io::Error),
}

/// Refuses what is too large for one collective call.
pub(super) fn check_size(what: &'static str, bytes: u64) -> Result<(), FabricError> {
    let limit = super::MAX_MESSAGE_BYTES as u64;
    if bytes > limit { Err(FabricError::TooLarge { what, bytes, limit }) } else { Ok(()) }
}

/// Refuses what `connect` cannot connect.
pub(super) fn check_levels(levels: &[Option<Rank>], size: u32, connected: bool) -> Result<(), FabricError> {
    if connected {
        return Err(FabricError::Misuse("the families were joined before"));
    }
    if levels.len() > usize::from(u8::MAX) {
        return Err(FabricError::Misuse("the tree has more than 255 levels"));
    }
    if levels.iter().flatten().any(|parent| parent.0 >= size) {
        return Err(FabricError::Misuse("a family has a parent that is no rank of this run"));
    }
    Ok(())
}

/// The ranks could not be brought together.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The launcher started more processes than MPI knows of: it belongs to another MPI than this program.
    #[error(
        "started by {launcher} as one of {promised} processes, but this program was built with {library}, which sees \
         {found}: {advice}, or build Myriarch with the MPI of this launcher (make MPI=openmpi or make MPI=mpich)"
    )]
    WrongLauncher {
        /// What started this process, and how that was recognised.
        launcher: String,
        /// How many processes the launcher's variables speak of.
        promised: u32,
        /// How many ranks MPI has.
        found: u32,
        /// The MPI library of this program.
        library: String,
        /// What to start it with instead.
        advice: &'static str,
        /// The number of this process by the launcher's count.
        number: Option<u32>,
    },
    /// MPI is running in this process already, or was.
    #[error("MPI was started in this process before")]
    StartedBefore,
    /// An MPI call of the start said no.
    #[error("cannot start MPI: {0}")]
    Fabric(#[from] FabricError),
}

impl StartError {
    /// Whether this process is the one that tells: every message comes once, not once per rank.
    pub fn is_ours_to_tell(&self) -> bool {
        match self {
            StartError::WrongLauncher { number, .. } => number.unwrap_or(0) == 0,
            _ => true,
        }
    }

    /// The status to exit with: 2 of the process that tells, 0 of the others. Open MPI kills the ranks that are still
    /// alive when one ends with another status than 0, so a silent one must not be the first to do so.
    pub fn exit_status(&self) -> i32 {
        if self.is_ours_to_tell() { crate::cli::EXIT_USAGE } else { 0 }
    }
}
