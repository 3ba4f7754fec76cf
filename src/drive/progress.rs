//! Writes `progress.json` from a thread of its own: a file system that takes its time holds up neither rank 0 nor the
//! tasks that wait for it.

use crate::ledger::{Progress, RunDir};
use crossbeam_channel::{Sender, bounded};
use std::thread::JoinHandle;

/// The near end of the thread.
#[derive(Debug)]
pub(super) struct ProgressWriter {
    queue: Sender<Progress>,
    thread: Option<JoinHandle<()>>,
}

impl ProgressWriter {
    /// How often it is written: with the looks of `status --follow`, what is shown is never older than a second.
    pub(super) const EVERY_US: u64 = 500_000;

    /// Starts the thread. Without one only the last word is written.
    pub(super) fn start(dir: RunDir) -> Self {
        let (queue, asked) = bounded::<Progress>(1);
        let work = move || asked.into_iter().for_each(|progress| write(&progress, &dir));
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(work);
        let thread = thread.inspect_err(|error| tracing::warn!("no thread to write progress: {error}")).ok();
        Self { queue, thread }
    }

    /// Has it written. Never waits: what comes while two others are to be written is left out, newer will come.
    pub(super) fn write(&self, progress: Progress) {
        let _ = self.queue.try_send(progress);
    }

    /// Ends the thread, then writes the last word.
    pub(super) fn finish(self, last: &Progress, dir: &RunDir) {
        drop(self.queue);
        let _ = self.thread.map(JoinHandle::join);
        write(last, dir);
    }
}

fn write(progress: &Progress, dir: &RunDir) {
    if let Err(error) = progress.write(dir) {
        tracing::warn!("{error}");
    }
}
