//! Parts: the tasks that a program submitted to a session with a DIR, kept so that it can be gone on with.
//!
//! All tasks of a session have positions in one row, in the order in which they came. A part is a run of that row: the bytes
//! of a bundle, appended to the file `parts.<generation>` of the start that took it, and a record of the journal that says
//! where they lie. As with journals, a start that was given up and still writes cannot touch the file of its successor; the
//! files of all starts are kept.

use super::appender::{Appender, Opened};
use super::dir::RunDir;
use super::error::LedgerError;
use crate::task::{Bundle, IndexRange, Shape};
use crate::wake::Wake;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// A part, as the journal names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmittedPart {
    /// The start whose file holds it.
    pub generation: u32,
    /// Its first byte there.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// The program's number of its bundle.
    pub bundle: u64,
    /// What the program calls its first task; it counts on from there.
    pub first: u64,
    /// What its tasks call; none where they are processes.
    pub function: Option<String>,
    /// What each of its tasks takes.
    pub shape: Shape,
    /// Its positions in the row.
    pub range: IndexRange,
}

impl SubmittedPart {
    /// What the program calls the task at this position.
    pub fn label(&self, position: u64) -> u64 {
        self.first.wrapping_add(position.wrapping_sub(self.range.start))
    }

    /// The position of what the program calls a task, where it is one of these.
    pub fn position(&self, label: u64) -> Option<u64> {
        let within = label.checked_sub(self.first).filter(|within| *within < self.range.len())?;
        Some(self.range.start + within)
    }

    /// Reads and checks its tasks.
    ///
    /// # Errors
    /// They cannot be read, or are damaged.
    pub fn read(&self, dir: &RunDir) -> Result<Bundle, LedgerError> {
        let path = dir.parts(self.generation);
        let damaged = |what: String| LedgerError::Damaged { path: path.clone(), offset: self.offset, what };
        let file = File::open(&path).map_err(LedgerError::io("open", &path))?;
        let size = file.metadata().map_err(LedgerError::io("look at", &path))?.len();
        let len = usize::try_from(self.len).ok().filter(|_| self.offset.saturating_add(self.len) <= size);
        let mut bytes = vec![0; len.ok_or_else(|| damaged("a part is cut off".to_owned()))?];
        file.read_exact_at(&mut bytes, self.offset).map_err(LedgerError::io("read", &path))?;
        let bundle = Bundle::from_bytes(bytes).map_err(|error| damaged(error.to_string()))?;
        if bundle.len() != self.range.len() || bundle.held().len() != bundle.len() {
            return Err(damaged("a part has another number of tasks than the journal says".to_owned()));
        }
        Ok(bundle)
    }
}

/// The parts of a row, in its order.
#[derive(Clone, Debug, Default)]
pub struct Row(Vec<SubmittedPart>);

impl Row {
    /// All of them.
    pub fn parts(&self) -> &[SubmittedPart] {
        &self.0
    }

    /// Positions of the row.
    pub fn len(&self) -> u64 {
        self.0.last().map_or(0, |last| last.range.end)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The part at a position, by its place in the row.
    pub fn part_at(&self, position: u64) -> Option<usize> {
        let at = self.0.partition_point(|part| part.range.end <= position);
        (at < self.0.len()).then_some(at)
    }

    /// Adds a part; one that does not stand behind all others is none.
    pub(super) fn push(&mut self, part: &SubmittedPart) {
        if part.range.start == self.len() && !part.range.is_empty() {
            self.0.push(part.clone());
        }
    }

    /// Takes off what stands behind the first so many parts.
    pub(super) fn truncate(&mut self, parts: usize) {
        self.0.truncate(parts);
    }

    /// Whether a start of this generation can have run the task: not before it was submitted. Positions that the journal
    /// never knew are given away again.
    pub(super) fn may_have_run(&self, position: u64, generation: u32) -> bool {
        self.is_empty() || self.part_at(position).is_some_and(|at| self.0[at].generation <= generation)
    }

    /// How many of the first parts survive. Those in the last bytes of their file, so many of them, are read, for a dying
    /// node may not have brought them to the disk.
    pub(super) fn whole(&self, dir: &RunDir, checked_bytes: u64) -> usize {
        let mut ends = std::collections::HashMap::new();
        for part in &self.0 {
            ends.insert(part.generation, part.offset.saturating_add(part.len));
        }
        let sizes: std::collections::HashMap<u32, u64> = ends
            .keys()
            .map(|generation| (*generation, dir.parts(*generation).metadata().map_or(0, |file| file.len())))
            .collect();
        let survives = |part: &SubmittedPart| {
            let end = part.offset.saturating_add(part.len);
            let is_recent = end.saturating_add(checked_bytes) > ends[&part.generation];
            end <= sizes[&part.generation] && (!is_recent || part.read(dir).is_ok())
        };
        self.0.iter().position(|part| !survives(part)).unwrap_or(self.0.len())
    }
}

/// Appends to the parts of this start, on a thread of its own.
#[derive(Debug)]
pub struct PartsWriter {
    generation: u32,
    appender: Appender,
}

impl PartsWriter {
    /// The file is made at the first append. `sync` and `wake` as for a segment.
    pub fn new(dir: &RunDir, generation: u32, sync: Duration, wake: Wake) -> Self {
        let path = dir.parts(generation);
        let (at, folder) = (path.clone(), dir.path().to_owned());
        let open = Box::new(move || Ok(Opened { file: File::create_new(at)?, folders: vec![folder] }));
        Self { generation, appender: Appender::new("myr-parts", &path, 0, sync, wake, open) }
    }

    /// Queues a part; its generation, its first byte and its length. Never blocks on the file system.
    pub fn append(&mut self, bytes: Vec<u8>) -> (u32, u64, u64) {
        let (offset, len) = (self.appender.queued_to(), bytes.len() as u64);
        self.appender.append(bytes);
        (self.generation, offset, len)
    }

    /// Parts that end at or below this may be journaled.
    pub fn durable(&self) -> u64 {
        self.appender.durable()
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> u64 {
        self.appender.queued_bytes()
    }

    /// The first error, a full disk for instance. After it nothing more becomes durable.
    pub fn error(&self) -> Option<String> {
        self.appender.error()
    }

    /// Writes and syncs all that is queued, and ends the thread.
    ///
    /// # Errors
    /// The first that there was.
    pub fn finish(self) -> Result<(), LedgerError> {
        self.appender.finish()
    }
}
