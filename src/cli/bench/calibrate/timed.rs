//! A fabric that measures how long its rank is at work between its calls: what a rank's own loop takes, without messages
//! and without waiting.

use crate::fabric::{Fabric, FabricError, Listen, Received, Woken};
use crate::task::Rank;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was measured from the first message that a rank received to the last, but for a warm-up: time outside of the fabric,
/// less what measuring it takes.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    /// From each message to the next, nanoseconds.
    pub(super) by_message: Vec<f64>,
    /// All of it.
    pub(super) outside: Duration,
}

#[derive(Debug, Default)]
struct Clocks {
    /// Messages that come first and are not measured.
    warm_up: u64,
    received: u64,
    /// When the last one came.
    last: Option<Instant>,
    /// Time inside of the fabric since then, and calls of it.
    inside: Duration,
    calls: u32,
    work: Work,
}

/// Reads what was measured, during and after it.
#[derive(Clone, Debug)]
pub(super) struct Meter(Arc<Mutex<Clocks>>);

impl Meter {
    pub(super) fn read(&self) -> Work {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).work.clone()
    }
}

/// The fabric.
pub(super) struct Timed {
    inner: Box<dyn Fabric>,
    clocks: Arc<Mutex<Clocks>>,
    /// What one look at the clock takes.
    look: Duration,
}

impl Timed {
    /// Around another. The first `warm_up` messages are not measured.
    pub(super) fn new(inner: Box<dyn Fabric>, warm_up: u64) -> (Self, Meter) {
        let clocks = Arc::new(Mutex::new(Clocks { warm_up, ..Clocks::default() }));
        (Self { inner, clocks: clocks.clone(), look: look() }, Meter(clocks))
    }

    fn inside<T>(&mut self, call: impl FnOnce(&mut dyn Fabric) -> T, received: impl FnOnce(&T) -> bool) -> T {
        let start = Instant::now();
        let done = call(&mut *self.inner);
        let end = Instant::now();
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.inside += end - start;
        clocks.calls += 1;
        if received(&done) {
            clocks.received += 1;
            if let Some(last) = clocks.last {
                let outside = (end - last).saturating_sub(clocks.inside + self.look * clocks.calls);
                clocks.work.by_message.push(outside.as_nanos() as f64);
                clocks.work.outside += outside;
            }
            if clocks.received > clocks.warm_up {
                clocks.last = Some(end);
                (clocks.inside, clocks.calls) = (Duration::ZERO, 0);
            }
        }
        done
    }
}

/// What one look at the clock, and the lock beside it, takes.
fn look() -> Duration {
    const LOOKS: u32 = 10_000;
    let lock = Mutex::new(());
    let start = Instant::now();
    for _ in 0..LOOKS {
        std::hint::black_box(Instant::now());
        drop(std::hint::black_box(lock.lock()));
    }
    start.elapsed() / LOOKS
}

impl Fabric for Timed {
    fn rank(&self) -> Rank {
        self.inner.rank()
    }

    fn size(&self) -> u32 {
        self.inner.size()
    }

    fn may_change_threads(&self) -> bool {
        self.inner.may_change_threads()
    }

    fn may_be_shared(&self) -> bool {
        self.inner.may_be_shared()
    }

    fn is_own_process(&self) -> bool {
        self.inner.is_own_process()
    }

    fn gather(&mut self, mine: Vec<u8>) -> Result<Option<Vec<Vec<u8>>>, FabricError> {
        self.inner.gather(mine)
    }

    fn broadcast(&mut self, from_manager: Option<Vec<u8>>) -> Result<Vec<u8>, FabricError> {
        self.inner.broadcast(from_manager)
    }

    fn connect(&mut self, levels: &[Option<Rank>]) -> Result<(), FabricError> {
        self.inner.connect(levels)
    }

    fn send(&mut self, level: u8, to: Rank, message: Vec<u8>) {
        self.inside(|fabric| fabric.send(level, to, message), |()| false);
    }

    fn receive(&mut self) -> Result<Option<Received>, FabricError> {
        self.inside(|fabric| fabric.receive(), |received| matches!(received, Ok(Some(_))))
    }

    fn unsent_to(&self, peer: Rank) -> u64 {
        self.inner.unsent_to(peer)
    }

    fn abandon(&mut self, peer: Rank) {
        self.inner.abandon(peer);
    }

    fn wait(
        &mut self,
        descriptors: &mut Vec<libc::pollfd>,
        at_most: Duration,
        listen: Listen,
    ) -> Result<Woken, FabricError> {
        self.inside(|fabric| fabric.wait(descriptors, at_most, listen), |_| false)
    }

    fn finish(self: Box<Self>, lost: bool) -> bool {
        self.inner.finish(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::ThreadFabric;

    #[test]
    fn time_between_calls_counts_and_time_in_them_does_not() {
        let mut fabrics = ThreadFabric::group(2).expect("two ranks");
        let (other, mine) = (fabrics.remove(1), fabrics.remove(0));
        let (mut mine, meter) = Timed::new(Box::new(mine), 1);
        let pause = Duration::from_millis(3);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut other = other;
                other.connect(&[Some(Rank(0))]).expect("a family");
                for _ in 0..4 {
                    other.send(0, Rank(0), vec![1]);
                }
                assert!(Box::new(other).finish(false));
            });
            mine.connect(&[Some(Rank(0))]).expect("a family");
            let mut received = 0;
            while received < 4 {
                mine.wait(&mut Vec::new(), Duration::from_secs(1), Listen::Eagerly).expect("it waits");
                if mine.receive().expect("it receives").is_some() {
                    received += 1;
                    std::thread::sleep(pause);
                }
            }
            assert!(Box::new(mine).finish(false));
        });
        let work = meter.read();
        assert_eq!(work.by_message.len(), 2, "from the second to the fourth");
        assert!(work.outside >= 2 * pause - Duration::from_millis(1), "{work:?}");
    }
}
