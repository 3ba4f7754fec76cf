//! Running a task: the processes that start processes, the environment, the cores.
//!
//! A rank holds an [`Executor`]; it speaks to one slot process per slot, which runs one task at a time. Slot processes
//! are forked by the [`Spawner`], which was forked before MPI started. Nothing here knows of bundles, ranges or ranks
//! that talk.
//!
//! | file | what it does |
//! |---|---|
//! | `executor` | the rank's side: start, kill, hear of ends |
//! | `spawner` | forks slot processes and call processes; kills what is left when its rank dies |
//! | `slot` | the life of a slot process: one task after the other, time limits, output |
//! | `prepare`, `launch` | from an attempt to a process |
//! | `line` | which shell lines need no shell; finding programs |
//! | `environment` | what a task sees of the rank's environment |
//! | `capture` | output in bounded memory |
//! | `leftovers` | killing every descendant |
//! | `functions` | tasks that are no processes |
//! | `wire` | messages between rank and slot process |
//! | `cores`, `topology`, `gpus` | who runs where |
//! | `bench` | how fast processes can be started, with and without all this |

pub mod bench;
mod capture;
pub mod cores;
mod environment;
mod executor;
pub mod functions;
mod gpus;
mod launch;
mod leftovers;
mod line;
mod prepare;
mod slot;
mod spawner;
mod sys;
mod topology;
mod wire;

#[cfg(test)]
mod tests;

pub use cores::{Pin, RankCores, RankPlan, plan_node};
pub use executor::{Ended, Executor, Settings, SlotCores};
pub use gpus::Gpus;
pub use spawner::{SLOT_PATIENCE, Spawner};

use crate::task::io_cause;
use std::io;

/// Why tasks cannot be run on this rank.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// A system call failed.
    #[error("could not {doing}: {}", io_cause(source))]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The spawner process has ended, so that no slot process can be made.
    #[error("this rank's spawner process has ended; the rank can start no more tasks and must be started anew")]
    SpawnerGone,
}

/// Names what was being done when a system call failed.
fn system(doing: &'static str) -> impl FnOnce(io::Error) -> ExecuteError {
    move |source| ExecuteError::System { doing, source }
}
