//! What rank 0 decides of a session.

use crate::execute::Pin;
use crate::execute::functions::Recording;
use std::path::PathBuf;
use std::time::Duration;

/// What rank 0 decides of a session.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// Slots on each node, where the program says.
    pub slots_per_node: Option<u32>,
    /// Width of a node by hand.
    pub ranks_per_node: Option<u32>,
    /// Rank 0's node runs no tasks; where there is one node, rank 0 alone runs none.
    pub dedicated_manager: bool,
    /// What slots are bound to.
    pub pin: Pin,
    /// Most children of a rank.
    pub fan_out: u32,
    /// Ranks that a task may take with it.
    pub crash_limit: u32,
    /// A rank of which nothing was heard for so long is given up, and what it had runs elsewhere; at least half a second. None:
    /// nobody is. Whether a job outlives a rank at all is for its launcher to say.
    pub lost_after: Option<Duration>,
    /// Where nobody [talks on](super::Session::talks_on) for rank 0: the longest time that the program stays outside of the
    /// session's methods. When rank 0 is silent for longer, and than three times `lost_after`, the others end.
    pub longest_absence: Duration,
    /// What is recorded of calls.
    pub recording: Recording,
    /// Bytes kept of each stream of a process.
    pub max_output: u64,
    /// Bytes of outcomes that nobody has taken, above which no more are taken up. With a DIR they wait there, without limit.
    pub max_unread_bytes: u64,
    /// Bytes of tasks that have not ended, above which [`Session::submit`](super::Session::submit) waits.
    pub max_waiting_bytes: u64,
    /// With `MPI_THREAD_SERIALIZED`: another thread may talk for rank 0 while the program does something else. The program
    /// makes no calls of MPI on rank 0 then as long as the session is open, or, where it ended without some ranks, but for
    /// MPI_Finalize until the program ends. (With `MPI_THREAD_MULTIPLE` it may, and need not
    /// ask; with less than `SERIALIZED` nobody talks for it.)
    pub talks_on: bool,
    /// The folder in which tasks and outcomes are kept, so that a later start of the program can go on with them. Without one
    /// they are in memory only.
    pub dir: Option<PathBuf>,
    /// Goes on with what lies in [`dir`](Self::dir), when the ranks of the last start are gone; without it, a folder that holds a session is an error. Where nothing was
    /// begun, the session starts.
    pub resume: bool,
    /// With `resume`: tasks that failed are put back and run again.
    pub retry_failed: bool,
    /// With a DIR: most time between an outcome being written, which is when the program is told, and being synced, so that
    /// it survives the node as well. Zero: it is synced before the program is told.
    pub sync: Duration,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            slots_per_node: None,
            ranks_per_node: None,
            dedicated_manager: false,
            pin: Pin::Core,
            fan_out: crate::schedule::FAN_OUT,
            crash_limit: 5,
            lost_after: Some(Duration::from_secs(30)),
            longest_absence: Duration::from_secs(3600),
            recording: Recording::All,
            max_output: 64 << 20,
            max_unread_bytes: 1 << 30,
            max_waiting_bytes: 256 << 20,
            talks_on: false,
            dir: None,
            resume: false,
            retry_failed: false,
            sync: Duration::from_secs(1),
        }
    }
}
