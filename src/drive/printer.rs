//! Prints tasks' outputs to stdout as they become durable, from a thread of its own: whoever reads them may be a pager,
//! and rank 0 waits for nobody.

use crate::cli::output::write_stream;
use crate::ledger::{RunDir, read_extent};
use crate::task::{EndedRun, Extent};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::io::Write;
use std::thread::JoinHandle;

/// What the printer is asked for: the tasks of these runs, whose records lie there. What waits for a slow reader is
/// only this, never the outputs.
type Asked = (Extent, Vec<EndedRun>);

/// The near end of the thread.
#[derive(Debug)]
pub(super) struct Printer {
    queue: Sender<Asked>,
    troubles: Receiver<String>,
    thread: JoinHandle<()>,
}

impl Printer {
    /// Starts the thread.
    pub(super) fn start(dir: RunDir) -> std::io::Result<Self> {
        let (queue, asked) = unbounded();
        let (tell, troubles) = unbounded();
        let thread = std::thread::Builder::new()
            .name("printer".to_owned())
            .spawn(move || print_all(&dir, &asked, &tell, &mut std::io::stdout()))?;
        Ok(Self { queue, troubles, thread })
    }

    /// Queues outputs. Never waits.
    pub(super) fn print(&self, extent: Extent, runs: Vec<EndedRun>) {
        // A thread that is gone had a reader that is gone.
        let _ = self.queue.send((extent, runs));
    }

    /// What went wrong since the last call.
    pub(super) fn troubles(&self) -> impl Iterator<Item = String> + '_ {
        self.troubles.try_iter()
    }

    /// Waits until all is printed, or nobody reads any more; gives what went wrong.
    pub(super) fn finish(self) -> Vec<String> {
        drop(self.queue);
        let _ = self.thread.join();
        self.troubles.try_iter().collect()
    }
}

fn print_all(dir: &RunDir, asked: &Receiver<Asked>, tell: &Sender<String>, out: &mut dyn Write) {
    for (extent, runs) in asked {
        let outcomes = match read_extent(dir, extent) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let _ = tell.send(format!("an output cannot be shown: {error}"));
                continue;
            }
        };
        for outcome in outcomes.iter().filter(|o| runs.iter().any(|run| run.range.contains(o.index))) {
            if write_stream(&outcome.stdout, out).and_then(|()| out.flush()).is_err() {
                // Whoever read it has gone; the outputs are in DIR.
                return;
            }
        }
    }
}
