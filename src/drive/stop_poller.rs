//! Polls DIR for requests to stop, from a thread of its own: a file system that stands still holds up that thread, and neither
//! rank 0 nor the ranks that end when they hear nothing of it.

use crate::ledger::{RunDir, StopRequest};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(500);

/// The near end of the thread.
#[derive(Debug)]
pub(super) struct StopPoller {
    found: Receiver<StopRequest>,
    /// Ends the thread when it is dropped. Nobody waits for that: it may be in a call that does not return.
    _end: Sender<()>,
}

impl StopPoller {
    /// Starts the thread. Without one requests to stop are not seen; signals are.
    pub(super) fn start(dir: RunDir) -> Self {
        Self::polling(EVERY, move || dir.stop_requested())
    }

    fn polling(every: Duration, look: impl FnMut() -> Option<StopRequest> + Send + 'static) -> Self {
        let (tell, found) = channel();
        let (end, ended) = channel();
        let work = move || poll(every, look, &tell, &ended);
        let thread = std::thread::Builder::new().name("stop-poller".to_owned()).spawn(work);
        if let Err(error) = thread {
            tracing::warn!("no thread to look for requests to stop: {error}");
        }
        Self { found, _end: end }
    }

    /// The latest request that is news. Never waits.
    pub(super) fn news(&self) -> Option<StopRequest> {
        self.found.try_iter().last()
    }
}

fn poll(
    every: Duration,
    mut look: impl FnMut() -> Option<StopRequest>,
    tell: &Sender<StopRequest>,
    ended: &Receiver<()>,
) {
    let mut told = None;
    loop {
        let found = look();
        if let Some(request) = found.filter(|_| found != told) {
            told = found;
            if tell.send(request).is_err() {
                return;
            }
        }
        if ended.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::eventually_for_tests as eventually;

    #[test]
    fn a_request_is_news_once_and_again_when_it_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(Some(folder.path())).unwrap();
        let at = dir.clone();
        let poller = StopPoller::polling(Duration::from_millis(1), move || at.stop_requested());
        assert_eq!(poller.news(), None);
        for request in [StopRequest::WithGrace, StopRequest::Now] {
            dir.request_stop(request, "for a test").unwrap();
            eventually("the request is seen", || poller.news() == Some(request));
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(poller.news(), None);
        }
    }

    #[test]
    fn a_look_that_does_not_return_holds_up_nobody_and_one_that_does_is_the_last() {
        let (go_on, held) = channel::<()>();
        let (tell, looked) = channel();
        let poller = StopPoller::polling(Duration::ZERO, move || {
            tell.send(()).unwrap();
            let _ = held.recv();
            Some(StopRequest::Now)
        });
        looked.recv().unwrap();
        assert_eq!(poller.news(), None);
        drop(poller);
        drop(go_on);
        assert!(looked.recv().is_err(), "the thread has ended");
    }
}
