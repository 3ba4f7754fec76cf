//! Who runs what, and when: manager, sub-manager and worker as plain state machines.
//!
//! A message or a tick comes in with a timestamp, actions go out. Nothing here does I/O, reads a clock, spawns a
//! thread or draws a random number. `README.md` beside this file is the protocol: messages, rules, reasons.

mod family;
mod held;
mod manager;
mod message;
mod policy;
mod pool;
mod submanager;
#[cfg(test)]
mod tests;
mod tree;
mod unwritten;
mod uplink;
mod watch;
mod worker;

pub use family::Violation;
pub use manager::{Manager, ManagerAction, Settings, Shapes};
pub use message::{
    Capacity, Down, FailedAttempt, Report, Section, Tried, Unstarted, Up, Work, WorkRange, decode, encode, encode_after,
};
pub use policy::Policy;
pub use submanager::{SubAction, SubManager};
pub use tree::{FAN_OUT, NodeRanks, Place, Role, Tree};
pub(crate) use watch::PATIENCE_WITH_PARENTS;
pub use watch::{Pulse, Watch};
pub use worker::{AttemptEnd, BATCH_US, BatchEnd, TaskRun, Verdict, Worker, WorkerAction};

/// A moment on one rank's own clock, in microseconds from a start of its choosing. Never compared across ranks.
pub type Micros = u64;
