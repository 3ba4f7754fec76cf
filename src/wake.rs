//! Waking a rank that sleeps: a descriptor that becomes readable when a writer thread has news.
//!
//! A connected pair of sockets does what an eventfd does without a system call of our own, so that no unsafe code
//! is needed here.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// A cheap, cloneable bell. Any thread rings it with [`wake`](Wake::wake); the rank polls its descriptor, calls
/// [`clear`](Wake::clear) and only then looks at what may have changed, so that no ring is lost. Ringing a bell that
/// rings, and clearing one that does not, cost no system call.
#[derive(Clone, Debug)]
pub struct Wake {
    bell: Arc<Bell>,
    muffle: Option<Muffle>,
}

/// Keeps a bell silent while nobody waits for its news: waking a rank costs its slots some 50 µs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Muffle(Arc<AtomicBool>);

impl Muffle {
    /// Says whether the bell is to be silent. What happened before it was told to ring again is to be looked at after this.
    pub(crate) fn set(&self, silent: bool) {
        self.0.store(silent, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Bell {
    /// Whoever sets it writes a byte, whoever takes it back reads one.
    rings: AtomicBool,
    rung: UnixStream,
    heard: UnixStream,
}

impl Wake {
    /// A bell that nobody has rung. Fails when the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        let (rung, heard) = UnixStream::pair()?;
        Ok(Self { bell: Arc::new(Bell { rings: AtomicBool::new(false), rung, heard }), muffle: None })
    }

    /// The same bell for others, and what keeps it silent for them.
    pub(crate) fn muffled(&self) -> (Self, Muffle) {
        let muffle = Muffle::default();
        (Self { bell: self.bell.clone(), muffle: Some(muffle.clone()) }, muffle)
    }

    /// Rings, unless it is muffled.
    pub fn wake(&self) {
        // What is to be seen was done before: whoever takes the muffle away sees it, or is woken.
        fence(Ordering::SeqCst);
        if !self.is_muffled() {
            self.alarm();
        }
    }

    /// Whether nobody waits for its news.
    pub(crate) fn is_muffled(&self) -> bool {
        self.muffle.as_ref().is_some_and(|muffle| muffle.0.load(Ordering::SeqCst))
    }

    /// Rings in any case. Never waits: there are no more bytes under way than there are threads.
    pub(crate) fn alarm(&self) {
        if !self.bell.rings.swap(true, Ordering::SeqCst) {
            // The other end lives as long as this one.
            let _ = (&self.bell.rung).write_all(&[1]);
        }
    }

    /// Takes back all rings so far; whether there was one.
    pub fn clear(&self) -> bool {
        let rang = self.bell.rings.swap(false, Ordering::SeqCst);
        if rang {
            // The byte is there, or will be in a moment: whoever set the flag is about to write it.
            let _ = (&self.bell.heard).read_exact(&mut [0]);
        }
        rang
    }
}

impl AsFd for Wake {
    /// The descriptor to poll for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.heard.as_fd()
    }
}

impl AsRawFd for Wake {
    /// The descriptor to poll for reading.
    fn as_raw_fd(&self) -> RawFd {
        self.bell.heard.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_muffled_bell_rings_for_an_alarm_alone() {
        let wake = Wake::new().unwrap();
        let (others, muffle) = wake.muffled();
        muffle.set(true);
        others.wake();
        assert!(!wake.clear());
        others.alarm();
        assert!(wake.clear());
        muffle.set(false);
        others.wake();
        assert!(wake.clear());
    }

    #[test]
    fn rings_are_heard_once_however_many_there_were() {
        let wake = Wake::new().unwrap();
        assert!(!wake.clear());
        for _ in 0..100_000 {
            wake.clone().wake();
        }
        assert!(wake.clear());
        assert!(!wake.clear());
    }

    #[test]
    fn what_a_ring_announces_is_seen_whenever_it_comes() {
        use std::sync::atomic::AtomicU64;
        const LAST: u64 = 20_000;
        let (wake, news) = (Wake::new().unwrap(), Arc::new(AtomicU64::new(0)));
        let (ringer, told) = (wake.clone(), news.clone());
        let ringing = std::thread::spawn(move || {
            for n in 1..=LAST {
                told.store(n, Ordering::Release);
                ringer.wake();
            }
        });
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let mut seen = 0;
        while seen < LAST {
            assert!(std::time::Instant::now() < deadline, "a ring was lost after {seen}");
            if wake.clear() {
                seen = news.load(Ordering::Acquire);
            }
        }
        ringing.join().unwrap();
    }
}
