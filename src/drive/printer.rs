//! Prints tasks' outputs to stdout as they become durable, from a thread of its own: whoever reads them may be a pager,
//! and rank 0 waits for nobody.

use crate::ledger::{RunDir, read_extent};
use crate::observe::text::write_stream;
use crate::task::{EndedRun, Extent};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the printer is asked for: the tasks of these runs, in order of their indexes, whose records lie there. What waits for a slow reader
/// is only this, never the outputs.
type Asked = (Extent, Vec<EndedRun>);

/// Most that may wait; beyond it outputs stay in DIR alone.
const MOST_WAITING: usize = 1 << 16;
/// How often the end looks whether it is waited for any longer.
const LOOK: Duration = Duration::from_millis(20);

/// The near end of the thread.
#[derive(Debug)]
pub(super) struct Printer {
    queue: Sender<Asked>,
    waiting: Arc<AtomicUsize>,
    troubles: Receiver<String>,
    tell: Sender<String>,
    thread: JoinHandle<()>,
    passed_over: bool,
}

impl Printer {
    /// Starts the thread.
    pub(super) fn start(dir: RunDir) -> std::io::Result<Self> {
        let (queue, asked) = unbounded();
        let (tell, troubles) = unbounded();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (left, told) = (waiting.clone(), tell.clone());
        let work = move || {
            print_all(&dir, &asked, &left, &told, &mut std::io::stdout());
            left.store(0, Ordering::Release);
        };
        let thread = std::thread::Builder::new().name("printer".to_owned()).spawn(work)?;
        Ok(Self { queue, waiting, troubles, tell, thread, passed_over: false })
    }

    /// Queues outputs. Never waits.
    pub(super) fn print(&mut self, extent: Extent, mut runs: Vec<EndedRun>) {
        runs.sort_unstable_by_key(|run| run.range.start);
        if self.waiting.load(Ordering::Acquire) > MOST_WAITING {
            if !std::mem::replace(&mut self.passed_over, true) {
                let _ = self.tell.send("standard output is read too slowly: some outputs are in DIR alone".to_owned());
            }
            return;
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        // A thread that is gone had a reader that is gone.
        if self.queue.send((extent, runs)).is_err() {
            self.waiting.store(0, Ordering::Release);
        }
    }

    /// Whether outputs are still to be printed.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// What went wrong since the last call.
    pub(super) fn troubles(&self) -> Vec<String> {
        self.troubles.try_iter().collect()
    }

    /// Waits until all is printed, nobody reads any more, or the caller gives up; says what went wrong.
    pub(super) fn finish_unless(self, gives_up: impl Fn() -> bool) -> Vec<String> {
        drop(self.queue);
        while !self.thread.is_finished() && !gives_up() {
            std::thread::sleep(LOOK);
        }
        self.troubles.try_iter().collect()
    }
}

fn print_all(dir: &RunDir, asked: &Receiver<Asked>, waiting: &AtomicUsize, tell: &Sender<String>, out: &mut dyn Write) {
    for (extent, runs) in asked {
        match read_extent(dir, extent) {
            Ok(outcomes) => {
                let is_asked = |index: u64| {
                    let at = runs.partition_point(|run| run.range.end <= index);
                    runs.get(at).is_some_and(|run| run.range.contains(index))
                };
                for outcome in outcomes.iter().filter(|outcome| is_asked(outcome.index)) {
                    if write_stream(&outcome.stdout, out).and_then(|()| out.flush()).is_err() {
                        // Whoever read it has gone; the outputs are in DIR.
                        return;
                    }
                }
            }
            Err(error) => {
                let _ = tell.send(format!("an output cannot be shown: {error}"));
            }
        }
        waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
