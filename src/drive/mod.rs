//! What joins scheduler, fabric, executor and ledger on one rank.
//!
//! | file | what it does |
//! |---|---|
//! | `run` | a run of the command: every rank calls it |
//! | `plan` | what each rank has, and what rank 0 makes of it |
//! | `functions` | loads what tasks call, on every rank |
//! | `rank` | the loop |
//! | `stage` | which thread plays the loop |
//! | `roles`, `worker` | the state machines that a rank plays; turn their actions into messages, processes and records |
//! | `orphans` | ranks that outlive rank 0, and the next start, which waits for them |
//! | `parts` | what a rank knows of the tasks themselves |
//! | `keeper` | writes a segment, and tells reports where in it their records lie |
//! | `durable` | rank 0's ledger in a DIR |
//! | `stop_poller` | looks for requests to stop there |
//! | `figures` | what progress and summary say of a start |
//! | `losses` | the names of lost ranks |
//! | `manager` | rank 0's ledger, deadlines and what the user sees |
//! | `session`, `memory` | the same for programs that bring their own `main`: tasks while others run, outcomes in memory or in a DIR |
//! | `null` | the loop without processes and ledger, to measure it |

mod durable;
mod error;
mod figures;
mod functions;
mod keeper;
mod longest;
mod losses;
mod manager;
mod memory;
mod null;
mod orphans;
mod parts;
mod plan;
mod printer;
mod progress;
mod rank;
mod roles;
mod root;
mod run;
mod session;
mod signals;
mod slots;
mod stage;
mod stop_poller;
#[cfg(test)]
mod tests;
mod wire;
mod worker;

pub use error::DriveError;
pub use manager::{DrainPatience, Job, RunEnd};
pub use null::{NullFigures, NullRun, run_null};
pub use orphans::{WaitError, wait_for_orphans};
pub use plan::{Keep, RankReport, SHORTEST_LOST_AFTER};
pub use run::run;
pub use session::{
    Entered, MAX_ENTRY_BYTES, Session, SessionError, SessionSettings, end_program, enter, is_without_all,
};
pub use signals::survive_file_limits;
