//! The ledger: the durable account of which tasks have ended, and how.
//!
//! Workers put outcomes into *blocks*; the keeper of a node appends them to its *segment*; rank 0 writes into its
//! *journal* which runs of tasks have ended and which extent of which segment holds their records. A record counts
//! only if the journal points to it. A start reads the journal of the start before it, adopts whole blocks that it
//! does not point to yet, and begins a journal of its own.
//!
//! The tasks of a run are a bundle file; those of a session come while others run and lie in *parts*, to which the journal
//! points as well.
//!
//! Nothing here knows of ranks that talk, of the scheduler, or of processes.

mod appender;
mod block;
mod dir;
mod error;
mod extents;
mod failed;
mod files;
mod host;
mod journal;
mod launch;
mod load;
mod owner;
mod parts;
mod read;
mod replay;
mod row_tasks;
mod segment;
mod state;
mod summary;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub(crate) use block::cut_text;
pub use block::{BlockBuilder, BlockHeader, RecordView, StreamView, read_block};
pub use dir::{RunDir, RunDirError, StopRequest};
pub use error::LedgerError;
pub use extents::ExtentReader;
pub use failed::{STDERR_TAIL_BYTES, last_line, stderr_tail, write_failed_jsonl, write_failed_to};
pub use files::write_atomically;
pub use host::ProcessIdentity;
pub use journal::{JournalWriter, Record};
pub use launch::{LaunchRecord, Orphans};
pub use load::{Loaded, load};
pub use owner::{Owner, OwnerError, OwnerRecord, OwnerState, Patience};
pub use parts::{PartsWriter, Row, SubmittedPart};
pub use read::{Outcomes, Reader, Selection, Streams, read_extent};
pub use row_tasks::RowTasks;
pub use segment::SegmentWriter;
pub use state::{Counts, LedgerState, StartInfo};
pub(crate) use summary::read_json;
pub use summary::{LongTask, LostRank, Progress, RunState, SessionInfo, Summary};
#[cfg(test)]
pub(crate) use testing::eventually as eventually_for_tests;
