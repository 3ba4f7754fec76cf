//! Waking a rank that sleeps: a descriptor that becomes readable when a writer thread has news.
//!
//! A connected pair of sockets does what an eventfd does without a system call of our own, so that no unsafe code
//! is needed here.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// A cheap, cloneable bell. Any thread rings it with [`wake`](Wake::wake); the rank polls its descriptor, calls
/// [`clear`](Wake::clear) and only then looks at what may have changed, so that no ring is lost.
#[derive(Clone, Debug)]
pub struct Wake {
    ends: Arc<(UnixStream, UnixStream)>,
}

impl Wake {
    /// A bell that nobody has rung. Fails when the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        let (rung, heard) = UnixStream::pair()?;
        rung.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        Ok(Self { ends: Arc::new((rung, heard)) })
    }

    /// Rings. Never blocks: a full socket has been rung already.
    pub fn wake(&self) {
        let _ = (&self.ends.0).write(&[1]);
    }

    /// Takes back all rings so far; whether there was one.
    pub fn clear(&self) -> bool {
        let mut sink = [0u8; 256];
        let mut rung = false;
        loop {
            match (&self.ends.1).read(&mut sink) {
                Ok(n) if n > 0 => rung = true,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                _ => return rung,
            }
        }
    }
}

impl AsFd for Wake {
    /// The descriptor to poll for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ends.1.as_fd()
    }
}

impl AsRawFd for Wake {
    /// The descriptor to poll for reading.
    fn as_raw_fd(&self) -> RawFd {
        self.ends.1.as_raw_fd()
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
}
