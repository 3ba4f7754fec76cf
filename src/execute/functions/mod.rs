//! Tasks that are functions: called in the worker's own process, millions a second.
//!
//! `function` is what is called and what it sees; `builtin` the functions that are always there; `plugin` those of a shared
//! object; `slots` the threads that call them, a batch of tasks at a time, and `notes` what those have done; `isolate` the
//! processes that do so in their place, where a crash is to cost no more than a task; `pool` threads for tasks that take
//! several cores.

mod builtin;
mod function;
pub(in crate::execute) mod isolate;
mod notes;
mod plugin;
mod pool;
mod slots;

pub use function::{Call, Function, FunctionError, MAX_VALUE_BYTES, find_builtin, load_function, missing};
pub use isolate::Isolation;
pub use plugin::{RawFunction, RawTask, raw_function};
pub use pool::cores_pool;
pub use slots::{Batch, BatchOrder, Calls, FailedCall, FunctionSlots, InlineCaller, OkCalls, Recording, is_calling};
