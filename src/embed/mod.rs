//! What an embedding program sees: its ranks become manager and workers for a while.
//!
//! A program registers its functions in a [`Program`], the same on every rank, and enters with a communicator. On rank 0 it
//! gets a [`Session`], on which it submits bundles of tasks and takes their outcomes as they come; the other ranks run tasks
//! until rank 0 is done. Then the program goes on with MPI, and may enter again.
//!
//! | file | what it holds |
//! |---|---|
//! | `program` | registering functions, entering |
//! | `session` | rank 0's handle: opening bundles, calling one function |
//! | `bundle` | submitting tasks, taking outcomes |
//! | `process` | tasks that are processes |
//! | `prepare` | spawners for them, from before MPI was started |
//!
//! Ranks that are threads of this process need no MPI:
//!
//! ```
//! use myriarch::embed::{Program, Settings};
//!
//! let mut program = Program::new();
//! let square = program.function("square", |_, x: f64| x * x);
//! let sum = program.on_threads(2, &Settings::default(), |session| {
//!     let mut squares = session.map(&square, (1..=10).map(f64::from))?;
//!     let mut sum = 0.0;
//!     while let Some(outcome) = squares.next()? {
//!         sum += outcome.value()?;
//!     }
//!     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(sum)
//! });
//! assert_eq!(sum.unwrap().unwrap(), 385.0);
//! ```

mod bundle;
#[cfg(test)]
mod dir_tests;
mod prepare;
mod process;
mod program;
mod session;
#[cfg(test)]
mod tests;

pub use crate::drive::{
    DriveError as EnterError, MAX_ENTRY_BYTES, SessionError, SessionSettings as Settings, end_program, is_without_all,
};
pub use crate::execute::Pin;
pub use crate::execute::functions::{Call, MAX_VALUE_BYTES, RawFunction, RawTask, Recording};
pub use crate::ledger::{Counts, LostRank};
pub use crate::task::Status;
pub use bundle::{Bundle, Outcome, RawBundle, RawOutcome, TaskError};
pub use prepare::{PrepareError, prepare};
pub use process::{Process, Processes};
pub use program::{Program, Task, TaskFunction};
pub use session::{CallError, Session, TaskOptions};
