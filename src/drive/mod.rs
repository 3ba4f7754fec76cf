//! What joins scheduler, fabric, executor and ledger on one rank.
//!
//! Every rank calls [`run`]: `plan` gathers what each rank has and tells all what rank 0 decided; `functions` loads what
//! tasks call; `rank` is the loop; `roles` and `worker` hold the state machines that the rank plays and turn their actions
//! into messages, processes and records; `parts` is what a rank knows of the tasks themselves; `keeper` writes a node's
//! segment and holds reports back until their records are durable; `manager` is rank 0's ledger, deadlines and what the
//! user sees. `null` plays the same loop without processes and ledger, to measure it.

mod functions;
mod keeper;
mod longest;
mod manager;
mod memory;
mod null;
mod parts;
mod plan;
mod printer;
mod progress;
mod rank;
mod roles;
mod root;
mod session;
mod signals;
mod slots;
mod stage;
#[cfg(test)]
mod tests;
mod wire;
mod worker;

pub use manager::{DrainPatience, Job, RunEnd};
pub use null::{NullFigures, NullRun, run_null};
pub use plan::{Keep, RankReport};
pub use rank::{DriveError, run};
pub use session::{Entered, MAX_ENTRY_BYTES, Session, SessionError, SessionSettings, enter};
pub use signals::survive_file_limits;
