//! A file that grows at its end, written by a thread of its own: what journal and segments have in common.
//!
//! While nobody waits for it, what comes is gathered for some milliseconds. The thread takes all that has gathered, writes
//! it, and syncs at most once per sync interval; with an interval of zero every group is synced before it counts as durable.
//! It knows nothing of what the bytes mean.

use super::error::LedgerError;
use crate::task::io_cause;
use crate::wake::Wake;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
// Not crossbeam's: it yields for a while before it sleeps, and each time the tasks beside it lose their core.
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Pieces below this size are joined into one write.
const JOIN_BYTES: usize = 256 * 1024;
/// A group is not let grow beyond this before it is made durable.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// How long pieces are gathered while nobody waits for them, or until something else happens after that: a thread that is
/// woken for each takes its time from the tasks.
const GATHER: Duration = Duration::from_millis(25);

/// An opened file and the folders whose entries must be synced with it, innermost first.
pub(crate) struct Opened {
    pub file: File,
    pub folders: Vec<PathBuf>,
}

type Opener = Box<dyn FnOnce() -> std::io::Result<Opened> + Send>;

#[derive(Debug, Default)]
struct Shared {
    /// Bytes taken off the queue, written or given up.
    taken: AtomicU64,
    durable: AtomicU64,
    synced: AtomicU64,
    error: OnceLock<String>,
}

/// The near end: hands bytes to the thread.
#[derive(Debug)]
pub(crate) struct Appender {
    queue: Option<Sender<Vec<u8>>>,
    shared: Arc<Shared>,
    queued_to: u64,
    /// Pieces that the thread has not been given, and since when the first of them waits.
    gathered: Vec<u8>,
    gathering_since: Instant,
    /// Muffled while nobody waits.
    wake: Wake,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Appender {
    /// Starts the thread. The file is opened at the first append; it is `base` bytes long then, all of them durable.
    pub fn new(name: &str, path: &Path, base: u64, sync: Duration, wake: Wake, open: Opener) -> Self {
        let (queue, pieces) = channel();
        let shared = Arc::new(Shared::default());
        for counter in [&shared.taken, &shared.durable, &shared.synced] {
            counter.store(base, Ordering::Relaxed);
        }
        let path = path.to_owned();
        let file =
            Writer { path, file: None, open: Some(open), folders: Vec::new(), buffer: Vec::new(), written: base };
        let (thread_shared, thread_wake) = (Arc::clone(&shared), wake.clone());
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            Worker { writer: file, shared: thread_shared, wake: thread_wake, sync, dirty_since: None }.run(&pieces);
        });
        let thread = match spawned {
            Ok(thread) => Some(thread),
            Err(e) => {
                let _ = shared.error.set(format!("cannot start the thread {name}: {}", io_cause(&e)));
                None
            }
        };
        let (gathered, gathering_since) = (Vec::new(), Instant::now());
        Self {
            queue: Some(queue),
            shared,
            queued_to: base,
            gathered,
            gathering_since,
            wake,
            thread: Mutex::new(thread),
        }
    }

    /// Queues bytes; returns the offset behind them. Never blocks.
    pub fn append(&mut self, bytes: Vec<u8>) -> u64 {
        self.queued_to += bytes.len() as u64;
        if bytes.len() >= JOIN_BYTES {
            self.send_gathered();
        }
        if self.gathered.is_empty() {
            self.gathering_since = Instant::now();
            self.gathered = bytes;
        } else {
            self.gathered.extend_from_slice(&bytes);
        }
        self.pass_on();
        self.queued_to
    }

    /// Gives the thread what was gathered, unless that can wait. To be called now and then, and when the bell is not
    /// muffled any more.
    pub fn pass_on(&mut self) {
        let may_wait = || self.gathered.len() < JOIN_BYTES && self.gathering_since.elapsed() < GATHER;
        if self.gathered.is_empty() || (self.wake.is_muffled() && may_wait()) {
            return;
        }
        self.send_gathered();
    }

    fn send_gathered(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        if let Some(queue) = self.queue.as_ref().filter(|_| !gathered.is_empty()) {
            // The other end is gone only when the thread is, and then the error is set.
            let _ = queue.send(gathered);
        }
    }

    /// The offset behind all that was queued.
    pub fn queued_to(&self) -> u64 {
        self.queued_to
    }

    /// Bytes that wait in memory.
    pub fn queued_bytes(&self) -> u64 {
        if self.error().is_some() {
            return 0;
        }
        self.queued_to - self.shared.taken.load(Ordering::Acquire).min(self.queued_to)
    }

    /// The offset up to which others may be told.
    pub fn durable(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// The offset up to which a sync has succeeded.
    pub fn synced(&self) -> u64 {
        self.shared.synced.load(Ordering::Acquire)
    }

    /// The first error. After it nothing more becomes durable.
    pub fn error(&self) -> Option<String> {
        self.shared.error.get().cloned()
    }

    /// Gives up, as after an error of the file's own.
    pub fn fail(&self, error: String) {
        let _ = self.shared.error.set(error);
    }

    /// Writes and syncs what is queued and ends the thread.
    pub fn finish(mut self) -> Result<(), LedgerError> {
        self.join();
        match self.error() {
            Some(error) => Err(LedgerError::Writer(error)),
            None => Ok(()),
        }
    }

    fn join(&mut self) {
        self.send_gathered();
        self.queue = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            let _ = self.shared.error.set("the writer thread panicked".to_owned());
        }
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.join();
    }
}

/// The far end's file.
struct Writer {
    path: PathBuf,
    file: Option<File>,
    open: Option<Opener>,
    folders: Vec<PathBuf>,
    buffer: Vec<u8>,
    written: u64,
}

impl Writer {
    fn file(&mut self) -> Result<&mut File, String> {
        if let Some(open) = self.open.take() {
            let opened = open().map_err(|e| self.failed("create", &e))?;
            self.folders = opened.folders;
            self.file = Some(opened.file);
        }
        self.file.as_mut().ok_or_else(|| "the file could not be opened".to_owned())
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> String {
        format!("{}: cannot {what}: {}", self.path.display(), io_cause(error))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() < JOIN_BYTES {
            self.buffer.extend_from_slice(bytes);
            return if self.buffer.len() >= JOIN_BYTES { self.flush() } else { Ok(()) };
        }
        self.flush()?;
        self.write(bytes)
    }

    fn flush(&mut self) -> Result<(), String> {
        let buffer = std::mem::take(&mut self.buffer);
        if !buffer.is_empty() {
            self.write(&buffer)?;
        }
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let result = self.file()?.write_all(bytes);
        result.map_err(|e| self.failed("write", &e))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), String> {
        let result = self.file()?.sync_data();
        result.map_err(|e| self.failed("sync", &e))?;
        for folder in std::mem::take(&mut self.folders) {
            let synced = File::open(&folder).and_then(|f| f.sync_all());
            synced.map_err(|e| format!("{}: cannot sync: {}", folder.display(), io_cause(&e)))?;
        }
        Ok(())
    }
}

struct Worker {
    writer: Writer,
    shared: Arc<Shared>,
    wake: Wake,
    sync: Duration,
    /// When the oldest bytes that are not synced were written.
    dirty_since: Option<Instant>,
}

impl Worker {
    #[inline(never)] // `scripts/show/instructions.sh` counts by its name.
    fn run(mut self, pieces: &Receiver<Vec<u8>>) {
        if let Err(error) = self.serve(pieces) {
            let _ = self.shared.error.set(error);
            self.wake.alarm();
        }
        // After an error the queue is emptied, so that it takes no memory, until the near end closes it.
        while pieces.recv().is_ok() {}
    }

    fn serve(&mut self, pieces: &Receiver<Vec<u8>>) -> Result<(), String> {
        loop {
            let piece = match self.dirty_since {
                None => pieces.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => pieces.recv_timeout(self.sync.saturating_sub(since.elapsed())),
            };
            match piece {
                Ok(first) => self.write_group(first, pieces)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.sync_now(),
            }
            if self.dirty_since.is_some_and(|since| since.elapsed() >= self.sync) {
                self.sync_now()?;
            }
        }
    }

    fn write_group(&mut self, first: Vec<u8>, pieces: &Receiver<Vec<u8>>) -> Result<(), String> {
        let mut size = 0;
        let mut next = Some(first);
        while let Some(piece) = next {
            size += piece.len();
            self.writer.put(&piece)?;
            self.shared.taken.fetch_add(piece.len() as u64, Ordering::AcqRel);
            next = if size < GROUP_BYTES { pieces.try_recv().ok() } else { None };
        }
        self.writer.flush()?;
        self.dirty_since.get_or_insert_with(Instant::now);
        if !self.sync.is_zero() {
            self.shared.durable.store(self.writer.written, Ordering::Release);
            self.wake.wake();
        }
        Ok(())
    }

    fn sync_now(&mut self) -> Result<(), String> {
        if self.dirty_since.take().is_none() {
            return Ok(());
        }
        self.writer.sync()?;
        self.shared.synced.store(self.writer.written, Ordering::Release);
        self.shared.durable.store(self.writer.written, Ordering::Release);
        self.wake.wake();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::eventually;
    use super::*;

    fn appender(path: &Path, sync: Duration, wake: &Wake) -> Appender {
        let at = path.to_owned();
        let open = Box::new(move || Ok(Opened { file: File::create_new(&at)?, folders: Vec::new() }));
        Appender::new("test", path, 0, sync, wake.clone(), open)
    }

    #[test]
    fn the_file_appears_at_the_first_append_and_holds_all_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let wake = Wake::new().unwrap();
        let mut appender = appender(&path, Duration::from_secs(3600), &wake);
        assert!(!path.exists());
        let mut expected = Vec::new();
        for n in 0..200usize {
            let piece = vec![n as u8; if n % 50 == 0 { JOIN_BYTES + n } else { n * 7 }];
            expected.extend_from_slice(&piece);
            assert_eq!(appender.append(piece), expected.len() as u64);
        }
        eventually("written", || appender.durable() == expected.len() as u64);
        assert_eq!(appender.queued_bytes(), 0);
        assert_eq!(appender.synced(), 0, "written is told before it is synced");
        assert!(wake.clear());
        appender.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }

    #[test]
    fn without_a_sync_interval_only_synced_bytes_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let wake = Wake::new().unwrap();
        let mut good = appender(&dir.path().join("f"), Duration::ZERO, &wake);
        good.append(vec![1; 10]);
        eventually("durable", || good.durable() == 10);
        assert_eq!(good.synced(), 10);
        // Takes every write and cannot be synced.
        let open = || Ok(Opened { file: File::options().write(true).open("/dev/null")?, folders: Vec::new() });
        let mut bad = Appender::new("test", Path::new("/dev/null"), 0, Duration::ZERO, wake, Box::new(open));
        bad.append(vec![1; 10]);
        eventually("the error", || bad.error().is_some());
        assert_eq!(bad.durable(), 0);
    }

    #[test]
    fn a_sync_follows_within_the_interval_without_further_appends() {
        let dir = tempfile::tempdir().unwrap();
        let wake = Wake::new().unwrap();
        let mut appender = appender(&dir.path().join("f"), Duration::from_millis(20), &wake);
        appender.append(vec![1; 10]);
        eventually("synced", || appender.synced() == 10);
    }

    #[test]
    fn a_full_disk_is_told_wakes_and_sticks() {
        let wake = Wake::new().unwrap();
        let open = Box::new(|| {
            let file = File::options().write(true).open("/dev/full")?;
            Ok(Opened { file, folders: Vec::new() })
        });
        let mut appender = Appender::new("test", Path::new("/dev/full"), 0, Duration::from_secs(1), wake.clone(), open);
        appender.append(vec![1; 10]);
        eventually("the error", || appender.error().is_some());
        assert!(wake.clear());
        assert!(appender.error().unwrap().contains("No space left"));
        for _ in 0..10 {
            appender.append(vec![0; 1 << 20]);
        }
        assert_eq!((appender.durable(), appender.queued_bytes()), (0, 0));
        assert!(matches!(appender.finish(), Err(LedgerError::Writer(e)) if e.contains("/dev/full")));
    }

    #[test]
    fn a_file_that_cannot_be_made_is_told() {
        let wake = Wake::new().unwrap();
        let mut appender = appender(Path::new("/nonexistent/folder/f"), Duration::ZERO, &wake);
        appender.append(vec![1]);
        eventually("the error", || appender.error().is_some());
        assert!(appender.error().unwrap().contains("/nonexistent/folder/f"));
    }
}
