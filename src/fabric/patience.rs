//! A bound for what cannot be waited for with an eye on the others: the collective calls of the start, which hang for ever when
//! a rank has died before them.

use super::system::leave;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long ranks wait for each other at the start; `MYRIARCH_START_PATIENCE`, in seconds, says otherwise.
const START: Duration = Duration::from_secs(900);
/// For rank 0's first word they wait without a bound: it reads its input before, perhaps from a program that goes on for hours.
/// Where the variable is set, so many times as long.
const FOR_RANK_0: u32 = 6;
/// The status of a process that gives up: tasks are left.
const STATUS: i32 = 3;

/// Ends the process if it is not dropped in time.
pub(super) struct Patience {
    done: Option<Sender<()>>,
    watcher: Option<JoinHandle<()>>,
}

impl Patience {
    /// With the others at the start. Who `tells` says why it gives up: rank 0, and the next, since rank 0 may be gone.
    pub(super) fn at_start(with_rank_0: bool, tells: bool) -> Self {
        let seconds = std::env::var("MYRIARCH_START_PATIENCE").ok().and_then(|text| text.trim().parse().ok());
        let said: Option<Duration> = seconds.map(Duration::from_secs);
        let patience = match (with_rank_0, said) {
            (true, None) => return Self { done: None, watcher: None },
            (true, Some(said)) => said.saturating_mul(FOR_RANK_0),
            (false, said) => said.unwrap_or(START),
        };
        let (done, end) = channel::<()>();
        let watch = move || {
            if end.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                if tells {
                    let waited = patience.as_secs();
                    eprintln!(
                        "myriarch: some rank did not take part in the start within {waited} s: it may have died; start again \
                         (with --resume, where the folder is there)"
                    );
                }
                leave(STATUS);
            }
        };
        // Where no thread can be had there is no bound.
        let watcher = std::thread::Builder::new().name("patience".to_owned()).spawn(watch).ok();
        Self { done: Some(done), watcher }
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}
