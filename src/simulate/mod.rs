//! A virtual machine for the state machines of [`schedule`](crate::schedule): what its parts take, and how long its tasks
//! run.
//!
//! Knows nothing of MPI, processes or clocks: time is a number of nanoseconds, and every number of a machine names its
//! source. `models/` holds the machines that are built in.

mod model;
mod normal;
mod workload;

pub use model::{Figure, Files, IdlePauses, Link, Model, ModelError, Network, Numbers, RankCosts};
pub use workload::{Durations, WorkloadError, list_scheduling_makespan_ns};
