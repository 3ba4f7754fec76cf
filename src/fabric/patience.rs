//! A bound for what cannot be waited for with an eye on the others: the collective calls of the start, which hang for ever when
//! a rank has died before them.

use super::system::leave;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long ranks wait for each other at the start; `MYRIARCH_START_PATIENCE`, in seconds, says otherwise.
const START: Duration = Duration::from_secs(300);
/// So many times as long they wait for rank 0, which reads its input before.
const FOR_RANK_0: u32 = 6;
/// The status of a process that gives up: tasks are left.
const STATUS: i32 = 3;

/// Ends the process if it is not dropped in time.
pub(super) struct Patience {
    done: Option<Sender<()>>,
    watcher: Option<JoinHandle<()>>,
}

impl Patience {
    /// With the others at the start. Rank 0 `tells` when it gives up.
    pub(super) fn at_start(with_rank_0: bool, tells: bool) -> Self {
        let seconds = std::env::var("MYRIARCH_START_PATIENCE").ok().and_then(|text| text.trim().parse().ok());
        let patience = seconds.map_or(START, Duration::from_secs) * if with_rank_0 { FOR_RANK_0 } else { 1 };
        let (done, end) = channel::<()>();
        let watch = move || {
            if end.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                if tells {
                    let waited = patience.as_secs();
                    eprintln!("myriarch: some rank did not take part in the start within {waited} s: it may have died");
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
