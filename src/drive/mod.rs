//! What joins scheduler, fabric, executor and ledger on one rank.
//!
//! Every rank calls [`run`]: `plan` gathers what each rank has and tells all what rank 0 decided; `rank` is the loop;
//! `roles` holds the state machines that the rank plays and turns their actions into messages, processes and records;
//! `keeper` writes a node's segment and holds reports back until their records are durable; `manager` is rank 0's
//! ledger, deadlines and what the user sees. `null` plays the same loop without processes and ledger, to measure it.

mod keeper;
mod longest;
mod manager;
mod null;
mod plan;
mod printer;
mod progress;
mod rank;
mod roles;
mod root;
mod signals;
mod slots;
#[cfg(test)]
mod tests;
mod wire;

pub use manager::{DrainPatience, Job, RunEnd};
pub use null::{NullFigures, NullRun, run_null};
pub use plan::{Keep, RankReport};
pub use rank::{DriveError, run};
pub use signals::survive_file_limits;
