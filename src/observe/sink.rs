//! Where text for people goes: standard error, without ever holding up the caller. A terminal that was stopped (^S) or
//! a reader that does not read would otherwise silence rank 0 until the other ranks give it up, and so would a file on a file
//! system that stands still. Knows no progress.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
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

    /// Standard error; where it is a pipe or a terminal, opened anew, so that only this opening of it does not block. A file
    /// cannot be opened like that, and is written by a thread.
    pub(super) fn stderr() -> Self {
        let can_stall = |kind: std::fs::FileType| kind.is_fifo() || kind.is_char_device();
        let path = "/proc/self/fd/2";
        let is_stalling = std::fs::metadata(path).is_ok_and(|found| can_stall(found.file_type()));
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Ok(file) if is_stalling => Self::new(Box::new(file)),
            _ => match Aside::new(Box::new(io::stderr())) {
                Ok(aside) => Self::new(Box::new(aside)),
                Err(_) => Self::new(Box::new(io::stderr())),
            },
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
        !matches!(self.out.flush(), Err(e) if e.kind() == ErrorKind::WouldBlock)
    }

    /// Sends all, unless the reader stalls for so long.
    pub(super) fn drain(&mut self, patience: Duration) {
        let start = Instant::now();
        while !self.pump() && start.elapsed() < patience {
            std::thread::sleep(TRY_EVERY);
        }
    }
}

/// Has a thread write, one piece at a time: until it has done so nothing more is taken.
struct Aside {
    pieces: Sender<Vec<u8>>,
    is_writing: Arc<AtomicBool>,
}

impl Aside {
    fn new(out: Box<dyn Write + Send>) -> io::Result<Self> {
        let (pieces, given) = channel();
        let is_writing = Arc::new(AtomicBool::new(false));
        let writing = is_writing.clone();
        let thread = std::thread::Builder::new().name("stderr".to_owned());
        // Nobody waits for it: it may be in a call that does not return.
        thread.spawn(move || write_pieces(out, &given, &writing))?;
        Ok(Self { pieces, is_writing })
    }

    fn ready(&self) -> io::Result<()> {
        if self.is_writing.load(Ordering::Acquire) { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.ready()?;
        self.is_writing.store(true, Ordering::Release);
        // Without the thread nothing is under way.
        self.pieces.send(bytes.to_vec()).map_err(|_| {
            self.is_writing.store(false, Ordering::Release);
            ErrorKind::BrokenPipe
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ready()
    }
}

fn write_pieces(mut out: Box<dyn Write + Send>, pieces: &Receiver<Vec<u8>>, is_writing: &AtomicBool) {
    for piece in pieces {
        // There is nobody to tell that it cannot be written.
        let _ = out.write_all(&piece).and_then(|()| out.flush());
        is_writing.store(false, Ordering::Release);
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

    /// A file that stands still until somebody lets it go on.
    struct Still {
        go_on: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Still {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go_on.recv();
            self.written.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_file_that_stands_still_holds_nobody_up_and_gets_all_in_order_later() {
        let ((let_go, go_on), (written, all)) = (channel(), channel());
        let mut sink = Sink::new(Box::new(Aside::new(Box::new(Still { go_on, written })).unwrap()));
        for line in ["one\n", "two\n", "three\n"] {
            sink.queue(line);
            assert!(!sink.pump(), "nothing is written yet");
        }
        sink.drain(Duration::from_millis(20));
        assert!(all.try_recv().is_err());
        drop(let_go);
        sink.drain(Duration::from_secs(20));
        assert!(sink.pump(), "all is written when it says so");
        assert_eq!(all.try_iter().collect::<Vec<_>>().concat(), b"one\ntwo\nthree\n");
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
