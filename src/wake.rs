//! Waking a rank that sleeps: a descriptor that becomes readable when a writer thread has news.
//!
//! A connected pair of sockets does what an eventfd does without a system call of our own, so that no unsafe code
//! is needed here.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A cheap, cloneable bell. Any thread rings it with [`wake`](Wake::wake); the rank polls its descriptor, calls
/// [`clear`](Wake::clear) and only then looks at what may have changed, so that no ring is lost. Ringing a bell that
/// rings, and clearing one that does not, cost no system call.
#[derive(Clone, Debug)]
pub struct Wake {
    bell: Arc<Bell>,
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
        Ok(Self { bell: Arc::new(Bell { rings: AtomicBool::new(false), rung, heard }) })
    }

    /// Rings. Never waits: there are no more bytes under way than there are threads.
    pub fn wake(&self) {
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
