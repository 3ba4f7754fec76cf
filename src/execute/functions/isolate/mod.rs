//! Functions in processes of their own, one per slot and kept from task to task: a crash costs the task that runs, and a
//! call that does not return can be killed.
//!
//! A slot's thread sends its call process an order: some thousand tasks with their payloads, over a socket. The process
//! claims them one by one and leaves their results in memory that both share, a count of what has ended beside them; then
//! it says that it is done. So neither side makes a system call per task, and when the process dies, whatever ended before
//! is there, and the task that was claimed and has not ended is the one that it died of. The spawner, whose child it is,
//! tells the thread how it died.
//!
//! Nothing that comes from a call process is trusted: the function may have written anywhere. Which tasks are the
//! thread's is kept in the rank alone; what does not read as results of those costs one task, and the process.
//!
//! | file | what it does |
//! |---|---|
//! | `driver` | a slot's thread: a batch as orders, and what becomes of it when the process dies |
//! | `lead` | which tasks of a batch are the thread's, and which were cut off |
//! | `leavings` | from results to outcomes |
//! | `process` | the rank's end of one call process: starts it, sends orders, hears of ends, kills |
//! | `serve` | the life of a call process |
//! | `area` | the memory that both share |
//! | `wire` | the bytes of orders, results and notices |

mod area;
mod driver;
mod lead;
mod leavings;
mod process;
mod serve;
mod wire;

pub(super) use driver::Driver;
pub use driver::Isolation;
pub(super) use lead::Lead;
pub(in crate::execute) use serve::serve_calls;

/// What the spawner says over the socket of a call process that has ended.
pub(in crate::execute) fn ended_notice(status: libc::c_int) -> [u8; wire::Notice::BYTES] {
    wire::Notice::Ended(status).to_bytes()
}
