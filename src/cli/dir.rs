//! What the commands share that read the folder of a run or of a session: finding it, what users call its tasks, and writing
//! to standard output when nobody reads on.

use crate::ledger::{Reader, RowTasks, RunDir};
use crate::observe::text::{one_line, shorten};
use crate::task::{Bundle, IndexRange};
use anyhow::Context;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::str::FromStr;

/// The run to look at.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DirArg {
    /// The run's folder [default: the latest run, ./myriarch-runs/last]
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

impl DirArg {
    /// The run's folder; it must hold a run.
    pub fn find(self) -> anyhow::Result<RunDir> {
        Ok(RunDir::default_or_last(self.dir)?)
    }

    /// The run, opened for reading. Damage in its journal is told on standard error.
    pub fn open(self) -> anyhow::Result<OpenRun> {
        let dir = self.find()?;
        let reader = Reader::open(&dir)?;
        if let Some(damage) = reader.damage() {
            eprintln!("myriarch: {damage}; what follows there is not shown (run --resume recovers it)");
        }
        let names = Names::open(&dir, &reader)?;
        Ok(OpenRun { dir, reader, names })
    }
}

/// A run that is read.
#[derive(Debug)]
pub struct OpenRun {
    /// Its folder.
    pub dir: RunDir,
    /// Its outcomes.
    pub reader: Reader,
    /// What users call its tasks.
    pub names: Names,
}

/// Tasks that users ask for: the first and the last; in a session also their bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels {
    /// The program's number of their bundle.
    pub bundle: Option<u64>,
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl FromStr for Labels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse::<u64>().ok()).flatten()
        };
        let (bundle, labels) = match text.split_once(':') {
            Some((bundle, labels)) => (Some(number(bundle)), labels),
            None => (None, text),
        };
        let (first, last) = labels.split_once('-').unwrap_or((labels, labels));
        match (bundle, number(first), number(last)) {
            (Some(None), ..) => Err("before the colon stands no number of a bundle".to_owned()),
            (bundle, Some(first), Some(last)) if first <= last => Ok(Labels { bundle: bundle.flatten(), first, last }),
            (_, Some(first), Some(last)) => Err(format!("{first} is larger than {last}")),
            _ if text.contains(',') => Err("give --task once for each index or range".to_owned()),
            _ => Err("this is no index such as 7 and no range such as 7-9".to_owned()),
        }
    }
}

/// What users call the tasks of a run or of a session: positions are for the inside.
#[derive(Debug)]
pub enum Names {
    /// Those of a run are in its bundle.
    Run(Bundle),
    /// Those of a session are in the parts that its program submitted.
    Session(RowTasks),
}

impl Names {
    /// The names of the tasks in this folder.
    pub fn open(dir: &RunDir, reader: &Reader) -> anyhow::Result<Self> {
        if dir.is_session() {
            return Ok(Self::Session(RowTasks::new(dir, reader.row())));
        }
        Ok(Self::Run(Bundle::open(&dir.bundle())?))
    }

    /// The index that users know.
    pub fn index(&self, position: u64) -> u64 {
        match self {
            Self::Run(bundle) => bundle.label(position),
            Self::Session(tasks) => tasks.label(position).1,
        }
    }

    /// In a session: the program's number of the task's bundle.
    pub fn bundle(&self, position: u64) -> Option<u64> {
        match self {
            Self::Run(_) => None,
            Self::Session(tasks) => Some(tasks.label(position).0),
        }
    }

    /// As users ask for it: `17`, or in a session `2:17`.
    pub fn label(&self, position: u64) -> String {
        match self.bundle(position) {
            Some(bundle) => format!("{bundle}:{}", self.index(position)),
            None => self.index(position).to_string(),
        }
    }

    /// The positions of the tasks that users mean.
    pub fn positions(&self, asked: Labels) -> anyhow::Result<Vec<IndexRange>> {
        let Labels { bundle, first, last } = asked;
        match (self, bundle) {
            (Self::Run(tasks), None) => {
                anyhow::ensure!(!tasks.is_empty(), "the run has no tasks");
                let (lowest, highest) = (self.index(0), self.index(tasks.len() - 1));
                let position = |label: u64| {
                    let missing = || format!("there is no task {label}: the tasks are {lowest} to {highest}");
                    tasks.position_of_label(label).with_context(missing)
                };
                Ok(vec![IndexRange::new(position(first)?, position(last)? + 1)])
            }
            (Self::Run(_), Some(_)) => anyhow::bail!("the tasks of a run have no bundles: say --task {first}"),
            (Self::Session(_), None) => anyhow::bail!("in a session, say whose task: --task BUNDLE:{first}"),
            (Self::Session(tasks), Some(bundle)) => {
                let ranges = tasks.positions(bundle, first, last);
                let found: u64 = ranges.iter().map(|range| range.len()).sum();
                anyhow::ensure!(found == last - first + 1, "bundle {bundle} has no such task, or not all of them");
                Ok(ranges)
            }
        }
    }

    /// The task's line in its source.
    pub fn line(&self, position: u64) -> Option<u64> {
        match self {
            Self::Run(bundle) => bundle.line(position),
            Self::Session(_) => None,
        }
    }

    /// The keys of a task list that say this task.
    pub fn task_json(&self, position: u64) -> Map<String, Value> {
        match self {
            Self::Run(bundle) => bundle.task_json(position),
            Self::Session(tasks) => tasks.json(position),
        }
    }

    /// What the task runs, as one could type it into a shell: the program alone, behind what `out` holds.
    pub fn put_command(&self, position: u64, out: &mut Vec<u8>) {
        match self {
            Self::Run(bundle) => bundle.put_command(position, out),
            Self::Session(tasks) => tasks.put_command(position, out),
        }
    }

    /// The same for a listing, on one line and not longer than this.
    pub fn short_command(&self, position: u64, most_chars: usize) -> String {
        let mut text = Vec::new();
        self.put_command(position, &mut text);
        short(&text, most_chars)
    }

    /// The task with its place, as messages name it: `task 8123 (tasks.txt:8124)`, or in a session `task 2:17`.
    pub fn describe(&self, position: u64) -> String {
        let label = self.label(position);
        match (self, self.line(position)) {
            (Self::Run(bundle), Some(line)) => format!("task {label} ({}:{line})", bundle.source()),
            _ => format!("task {label}"),
        }
    }
}

/// Writes to standard output, buffered. Whoever reads it may stop reading, as `head` does: that is no error.
pub fn print(write: impl FnOnce(&mut dyn Write) -> anyhow::Result<i32>) -> anyhow::Result<i32> {
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    let written = write(&mut out).and_then(|status| {
        out.flush()?;
        Ok(status)
    });
    match written {
        Err(e) if is_closed_pipe(&e) => {
            // What is left in the buffer has no reader either.
            let _ = out.into_parts();
            Ok(super::EXIT_OK)
        }
        other => other,
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}

/// What is no text is shown as `\xNN`, and so is a control character other than the end of a line and a tab.
pub fn readable(bytes: &[u8]) -> Cow<'_, str> {
    let is_text = |c: char| !c.is_control() || c == '\n' || c == '\t';
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(is_text) => Cow::Borrowed(text),
        _ => {
            let mut text = String::new();
            for chunk in bytes.utf8_chunks() {
                for c in chunk.valid().chars() {
                    if is_text(c) {
                        text.push(c)
                    } else {
                        text.extend(c.to_string().bytes().map(|b| format!("\\x{b:02x}")))
                    }
                }
                text.extend(chunk.invalid().iter().map(|b| format!("\\x{b:02x}")));
            }
            Cow::Owned(text)
        }
    }
}

/// A text for a listing: on one line, and not longer than this.
pub fn short(text: &[u8], most_chars: usize) -> String {
    // What lies behind cannot be seen; a character has at most four bytes.
    let start = readable(&text[..text.len().min(4 * (most_chars + 1))]);
    shorten(&one_line(start.trim_ascii()), most_chars)
}

/// A moment as people and programs read it: `2026-11-21T09:42:11.123456Z`.
///
/// Days to dates as in Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
pub fn utc(unix_us: u64) -> String {
    let (seconds, us) = (unix_us / 1_000_000, unix_us % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z")
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::ledger::{BlockBuilder, JournalWriter, Record, SegmentWriter, load};
    use crate::task::{Captured, IndexRange, Outcome, Source, Status, TemplateOptions, write_bundle};
    use crate::task::{EndedRun, Extent};
    use crate::wake::Wake;
    use std::time::Duration;

    /// A run of which these tasks have ended, in this order.
    pub fn run_with(tasks: u64, outcomes: &[Outcome]) -> (tempfile::TempDir, RunDir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(Some(&folder.path().join("run"))).unwrap();
        let source = Source::Array { first: 0, last: tasks - 1, step: 1, command: vec![b"true".to_vec()] };
        write_bundle(&source, &TemplateOptions::default(), &dir.bundle()).unwrap();
        let loaded = load(&dir).unwrap();
        let wake = Wake::new().unwrap();
        let sync = Duration::from_secs(3600);
        let mut segment = SegmentWriter::new(&dir.segments(), 0, sync, wake.clone());
        let mut block = BlockBuilder::new(1, 0);
        outcomes.iter().for_each(|o| block.push(o));
        let extent: Option<Extent> = (!block.is_empty()).then(|| segment.append(block.finish()));
        segment.finish().unwrap();
        let mut journal = JournalWriter::start(&dir, 1, &loaded, sync, wake).unwrap();
        let nodes = vec!["n0".to_owned(), "n1".to_owned()];
        let start = Record::Start { generation: 1, started_unix_us: 0, tasks, nodes, first_segment: 0, segments: 1 };
        journal.append(&start);
        let runs = outcomes.iter().map(|o| EndedRun { range: IndexRange::one(o.index), class: o.status.class() });
        journal.append(&Record::Ended { round: 0, extent, runs: runs.collect() });
        journal.finish().unwrap();
        (folder, dir)
    }

    /// One outcome.
    pub fn outcome(index: u64, status: Status, stdout: &[u8], stderr: &[u8]) -> Outcome {
        Outcome {
            index,
            status,
            attempts: 2,
            started_unix_us: 1_795_254_131_250_000,
            duration_us: 1_500_000,
            rank: 3,
            node: 1,
            stdout: Captured::whole(stdout.to_vec()),
            stderr: Captured::whole(stderr.to_vec()),
        }
    }

    /// The run as commands see it.
    pub fn open(dir: &RunDir) -> OpenRun {
        DirArg { dir: Some(dir.path().to_owned()) }.open().unwrap()
    }

    /// What a command writes, and its exit status.
    pub fn written(write: impl FnOnce(&mut dyn Write) -> anyhow::Result<i32>) -> (String, i32) {
        let mut out = Vec::new();
        let status = write(&mut out).unwrap();
        (String::from_utf8(out).unwrap(), status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(utc(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(utc(1_795_254_131_250_000), "2026-11-21T09:42:11.250000Z");
        assert_eq!(utc(4_107_542_399_999_999), "2100-02-28T23:59:59.999999Z");
    }

    #[test]
    fn a_reader_that_stops_reading_is_no_error() {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(print(|_| Err(closed().into())).unwrap(), super::super::EXIT_OK);
        assert_eq!(print(|_| Err(anyhow::Error::from(serde_json::Error::io(closed())))).unwrap(), 0);
        assert!(print(|_| anyhow::bail!("something else")).is_err());
    }
}
