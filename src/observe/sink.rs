//! Where text for people goes: standard error, without ever holding up the caller. A terminal that was stopped (^S) or
//! a reader that does not read would otherwise silence rank 0 until the other ranks give it up. Knows no progress.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::{Duration, Instant};

/// Most that is kept for a reader that does not read; what comes later is dropped.
const BACKLOG_BYTES: usize = 64 * 1024;
/// How often a stalled reader is tried again at the end.
const TRY_EVERY: Duration = Duration::from_millis(5);

/// Text on its way out.
pub(super) struct Sink {
    out: Box<dyn Write + Send>,
    backlog: Vec<u8>,
}

impl Sink {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, backlog: Vec::new() }
    }

    /// Standard error; where it is a pipe or a terminal, opened anew, so that only this opening of it does not block.
    pub(super) fn stderr() -> Self {
        let can_stall = |kind: std::fs::FileType| kind.is_fifo() || kind.is_char_device();
        let path = "/proc/self/fd/2";
        let is_stalling = std::fs::metadata(path).is_ok_and(|found| can_stall(found.file_type()));
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Ok(file) if is_stalling => Self::new(Box::new(file)),
            _ => Self::new(Box::new(io::stderr())),
        }
    }

    /// Adds text; `pump` sends it.
    pub(super) fn queue(&mut self, text: &str) {
        if self.backlog.len() + text.len() <= BACKLOG_BYTES {
            self.backlog.extend_from_slice(text.as_bytes());
        }
    }

    /// Sends what can be sent at once, and says whether that was all.
    pub(super) fn pump(&mut self) -> bool {
        while !self.backlog.is_empty() {
            match self.out.write(&self.backlog) {
                Ok(sent) if sent > 0 => drop(self.backlog.drain(..sent)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
                // Nobody reads any more: there is nobody to tell that either.
                _ => self.backlog.clear(),
            }
        }
        let _ = self.out.flush();
        true
    }

    /// Sends all, unless the reader stalls for so long.
    pub(super) fn drain(&mut self, patience: Duration) {
        let start = Instant::now();
        while !self.pump() && start.elapsed() < patience {
            std::thread::sleep(TRY_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_reader_that_stalls_holds_nobody_up_and_gets_whole_text_later() {
        let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut sink = Sink::new(Box::new(writer));
        let text = "x".repeat(1023) + "\n";
        let queued = (0..10_000).take_while(|_| {
            sink.queue(&text);
            sink.pump()
        });
        assert!(queued.count() < 10_000, "the reader stalls in the end");
        (0..1_000).for_each(|_| sink.queue(&text));
        assert!(sink.backlog.len() <= BACKLOG_BYTES);
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        sink.drain(Duration::from_secs(20));
        assert!(sink.backlog.is_empty());
        drop(sink);
        let all = String::from_utf8(reading.join().unwrap()).unwrap();
        assert!(all.ends_with('\n') && all.lines().all(|line| line.len() == 1023));
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error() {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(reader);
        let mut sink = Sink::new(Box::new(writer));
        sink.queue("unheard\n");
        assert!(sink.pump());
    }
}
