//! The log of a run: one file, written by rank 0, a line for each thing that happens to the run as a whole and none for
//! a task. Other ranks tell errors on standard error. It knows nothing of what is logged.
//!
//! A thread of its own writes the file, so that a file system that stalls does not hold a rank up.

use crossbeam_channel::{Receiver, Sender, bounded};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The variable that says what is logged, as `tracing` filters are written: `debug`, `myriarch::ledger=trace`.
pub const VARIABLE: &str = "MYRIARCH_LOG";
/// Lines that may wait for a file system that stalls; what comes on top is dropped.
const WAITING_LINES: usize = 4096;
/// How long the end may be held up by it.
const LAST_WORDS: Duration = Duration::from_secs(3);

enum Word {
    Line(Vec<u8>),
    /// Answered once all lines before it are in the file.
    Flush(Sender<()>),
}

/// To the thread that writes the file.
static WRITER: OnceLock<Sender<Word>> = OnceLock::new();

/// From now on the events of this process go to the file, behind what is there. A second call changes nothing.
///
/// # Errors
/// The file cannot be opened, or there is no thread to be had.
pub fn to_file(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let (sender, receiver) = bounded(WAITING_LINES);
    std::thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(file, &receiver))?;
    if WRITER.set(sender.clone()).is_err() {
        return Ok(());
    }
    let (filter, complaint) = filter(std::env::var(VARIABLE).ok().as_deref());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Lines(sender));
    // A program that embeds this one and logs by itself goes on doing so.
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
    Ok(())
}

/// From now on the errors of this process go to standard error, with its rank.
pub fn errors_to_stderr(rank: u32) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::ERROR)
        .with_ansi(false)
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_writer(move || Prefixed(rank));
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
}

/// Waits until what was logged is in the file, but not for long.
pub fn flush() {
    let Some(writer) = WRITER.get() else { return };
    let (done, written) = bounded(1);
    if writer.send_timeout(Word::Flush(done), LAST_WORDS).is_ok() {
        let _ = written.recv_timeout(LAST_WORDS);
    }
}

/// What is logged, and what is wrong with how that was said.
fn filter(said: Option<&str>) -> (EnvFilter, Option<String>) {
    let usual = || EnvFilter::new("info");
    match said {
        None | Some("") => (usual(), None),
        Some(said) => match EnvFilter::try_new(said) {
            Ok(filter) => (filter, None),
            Err(error) => (usual(), Some(format!("{VARIABLE}={said} is no filter ({error}); \"info\" is used"))),
        },
    }
}

fn write_lines(mut file: File, words: &Receiver<Word>) {
    for word in words {
        match word {
            // There is nowhere to tell that the log cannot be written.
            Word::Line(line) => drop(file.write_all(&line)),
            Word::Flush(done) => drop(done.send(())),
        }
    }
}

/// Hands lines to the thread that writes them.
#[derive(Clone)]
struct Lines(Sender<Word>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(Word::Line(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error, each line with the rank that it comes from.
struct Prefixed(u32);

impl Write for Prefixed {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let whole = [format!("myriarch (rank {}): ", self.0).as_bytes(), line].concat();
        io::stderr().write_all(&whole).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_level_is_info_and_a_filter_that_is_none_is_told() {
        for said in [None, Some("")] {
            let (filter, complaint) = filter(said);
            assert_eq!((filter.max_level_hint(), complaint), (Some(LevelFilter::INFO), None));
        }
        assert_eq!(filter(Some("debug")).0.max_level_hint(), Some(LevelFilter::DEBUG));
        let (used, complaint) = filter(Some("myriarch=loud"));
        assert_eq!(used.max_level_hint(), Some(LevelFilter::INFO));
        assert!(complaint.expect("it is told").starts_with("MYRIARCH_LOG=myriarch=loud is no filter"));
    }

    #[test]
    fn lines_are_appended_and_a_flush_is_answered_after_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "before\n").unwrap();
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        let (sender, receiver) = bounded(8);
        let thread = std::thread::spawn(move || write_lines(file, &receiver));
        Lines(sender.clone()).write_all(b"one\n").unwrap();
        let (done, written) = bounded(1);
        sender.send(Word::Flush(done)).unwrap();
        written.recv_timeout(Duration::from_secs(60)).expect("the flush is answered");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\none\n");
        drop(sender);
        thread.join().unwrap();
    }
}
