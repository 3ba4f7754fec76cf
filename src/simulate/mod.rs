//! The scheduler at any scale, on a virtual machine: the production state machines of [`schedule`](crate::schedule) under a
//! virtual clock, with messages, processors and files that cost what a model says.
//!
//! | file | what it is |
//! |---|---|
//! | `model.rs`, `models/` | what the parts of a machine take; each number names its source |
//! | `workload.rs`, `normal.rs` | how long tasks take |
//! | `tasks.rs`, `slots.rs` | what is run, and what runs |
//! | `queue.rs`, `waiting.rs`, `files.rs` | events, sleeping ranks, the file system |
//! | `layout.rs` | how many ranks there are, and where |
//! | `cluster.rs` | the machine room: ranks under a virtual clock |
//! | `turns.rs`, `roles.rs`, `network.rs` | what a rank does when; what its roles do; words on their way |
//! | `run.rs`, `figures.rs`, `ends.rs` | one simulation and its figures |
//! | `star.rs` | what Myriarch is not: one hub that speaks to every worker, to compare with |
//! | `faults.rs`, `troubles.rs` | what goes wrong, and what comes of it |
//! | `losses.rs` | nodes that are lost in an ordinary run, and what that costs |
//! | `account.rs`, `checks.rs`, `ledger.rs` | what must hold, and what survives |
//! | `trial.rs`, `draws.rs`, `trace.rs` | a run with faults, all of it drawn from a seed, and the number that stands for it |
//!
//! Knows `schedule/` and `task/`, and neither MPI nor processes nor the files of a run. Time is a number of nanoseconds.

mod account;
mod checks;
mod cluster;
mod draws;
mod ends;
mod faults;
mod figures;
mod files;
mod layout;
mod ledger;
mod losses;
mod model;
mod network;
mod normal;
mod queue;
mod roles;
mod run;
mod slots;
mod star;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod trace;
mod trial;
mod troubles;
mod turns;
mod waiting;
mod workload;

#[cfg(test)]
pub(crate) use draws::Draws;
pub use faults::{Fault, Faults};
pub use figures::Traffic;
pub use layout::Layout;
pub use losses::Losses;
pub use model::{Figure, Files, IdlePauses, Link, Model, ModelError, Network, Numbers, RankCosts};
pub use run::{Figures, LevelFigures, SimulateError, Simulation, simulate};
pub use star::{Star, StarFigures, simulate_star};
pub use tasks::{Drawn, OnBadNodes, Tasks};
pub use trial::{Failed, Given, Passed, Trial};
pub use workload::{Durations, WorkloadError, list_scheduling_makespan_ns};

/// Virtual time, in nanoseconds.
pub type Nanos = u64;
