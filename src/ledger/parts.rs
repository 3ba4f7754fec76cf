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

#[cfg(test)]
mod tests {
    use super::super::testing::{eventually, ok};
    use super::super::{BlockBuilder, JournalWriter, Record, SegmentWriter, load, read_extent};
    use super::*;
    use crate::task::{EndedRun, OutcomeClass, PartBuilder};

    const SYNC: Duration = Duration::from_secs(3600);

    /// One start of a session that submits parts of ten tasks; those that are to have ended have.
    struct Start {
        generation: u32,
        row_len: u64,
        parts: PartsWriter,
        journal: JournalWriter,
        segment: SegmentWriter,
    }

    impl Start {
        fn new(dir: &RunDir, generation: u32) -> Self {
            let loaded = load(dir).unwrap();
            let wake = Wake::new().unwrap();
            let mut journal = JournalWriter::start(dir, generation, &loaded, SYNC, wake.clone()).unwrap();
            let (row_len, first_segment) = (loaded.row().len(), loaded.next_segment);
            journal.append(&Record::Start {
                generation,
                started_unix_us: 1,
                tasks: row_len,
                nodes: Vec::new(),
                first_segment,
                segments: 1,
            });
            let segment = SegmentWriter::new(&dir.segments(), first_segment, SYNC, wake.clone());
            Self { generation, row_len, parts: PartsWriter::new(dir, generation, SYNC, wake), journal, segment }
        }

        fn submit(&mut self, bundle: u64, first: u64, is_journaled: bool) -> IndexRange {
            let mut builder = PartBuilder::default();
            (first..first + 10).for_each(|label| builder.push(label.to_string().as_bytes()));
            let tasks = builder.finish(Some("f"), Shape::CALL);
            let (generation, offset, len) = self.parts.append(tasks.extract(tasks.held()));
            let range = IndexRange::new(self.row_len, self.row_len + 10);
            self.row_len = range.end;
            let (function, shape) = (Some("f".to_owned()), Shape::CALL);
            let part = SubmittedPart { generation, offset, len, bundle, first, function, shape, range };
            if is_journaled {
                self.journal.append(&Record::Submitted(part));
            }
            range
        }

        /// These tasks end; the journal may not know yet.
        fn end(&mut self, range: IndexRange, is_journaled: bool) {
            let mut block = BlockBuilder::new(self.generation, 0);
            (range.start..range.end).for_each(|index| block.push(&ok(index)));
            let extent = Some(self.segment.append(block.finish()));
            if is_journaled {
                let runs = vec![EndedRun { range, class: OutcomeClass::Ok }];
                self.journal.append(&Record::Ended { round: 0, extent, runs });
            }
        }

        /// All of it is written, and the process is killed.
        fn die(self) {
            eventually("written", || self.parts.queued_bytes() + self.journal.queued_bytes() == 0);
            self.parts.finish().unwrap();
            self.segment.finish().unwrap();
            self.journal.finish().unwrap();
        }
    }

    fn dir() -> (tempfile::TempDir, RunDir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(Some(&folder.path().join("session"))).unwrap();
        (folder, dir)
    }

    #[test]
    fn a_row_goes_on_over_any_number_of_starts() {
        let (_folder, dir) = dir();
        for generation in 1..=4 {
            let mut start = Start::new(&dir, generation);
            let range = start.submit(u64::from(generation) % 2, 10 * u64::from(generation / 2), true);
            start.end(IndexRange::new(range.start, range.start + 4), generation % 2 == 0);
            start.die();
        }
        let loaded = load(&dir).unwrap();
        assert_eq!((loaded.row().len(), loaded.state.tasks, loaded.state.ended.len()), (40, 40, 16));
        for part in loaded.row().parts() {
            let tasks = part.read(&dir).unwrap();
            let label = part.label(part.range.start + 3);
            assert_eq!(tasks.entry(3), Some(label.to_string().as_bytes()));
            assert_eq!((part.position(label), part.position(part.first + 10)), (Some(part.range.start + 3), None));
        }
        let order: Vec<u64> = loaded.ends().map(|(run, ..)| run.range.start).collect();
        assert_eq!(order, [0, 10, 20, 30], "as they were kept");
    }

    #[test]
    fn positions_that_the_journal_never_knew_are_given_away_again_without_their_outcomes() {
        let (_folder, dir) = dir();
        let mut start = Start::new(&dir, 1);
        start.submit(0, 0, true);
        let unknown = start.submit(0, 10, false);
        start.end(unknown, false);
        start.die();
        for generation in 2..=3 {
            let mut start = Start::new(&dir, generation);
            let range = start.submit(1, 10 * u64::from(generation - 2), true);
            assert_eq!(range.start, unknown.start + 10 * u64::from(generation - 2));
            start.die();
            assert!(load(&dir).unwrap().state.ended.is_empty(), "it was another task that ended there");
        }
    }

    #[test]
    fn a_part_that_did_not_survive_takes_the_rest_of_the_row_along() {
        let (_folder, dir) = dir();
        let mut start = Start::new(&dir, 1);
        let ranges = [0, 10, 20].map(|first| start.submit(0, first, true));
        ranges.into_iter().for_each(|range| start.end(range, true));
        start.die();
        let path = dir.parts(1);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let loaded = load(&dir).unwrap();
        assert_eq!((loaded.row().len(), loaded.state.tasks, loaded.state.ended.len()), (10, 10, 10));
        assert_eq!(loaded.lost, 20);
        let mut again = Start::new(&dir, 2);
        assert_eq!(again.submit(0, 10, true), ranges[1]);
        again.die();
        assert_eq!(load(&dir).unwrap().state.ended.len(), 10, "what was lost runs again");
    }

    #[test]
    fn a_session_cut_anywhere_loads_as_it_was_at_some_moment() {
        let (_folder, whole) = dir();
        let mut start = Start::new(&whole, 1);
        for first in (0..80).step_by(10) {
            let range = start.submit(first / 40, first % 40, true);
            start.end(range, first != 30);
        }
        start.die();
        let files = ["parts.1", "journal.1", "segments/00/00000000.seg"];
        let sizes = files.map(|file| whole.path().join(file).metadata().unwrap().len());
        for cut in 0..40 {
            for (at, file) in files.iter().enumerate() {
                let (_folder, dir) = dir();
                std::fs::create_dir_all(dir.path().join("segments/00")).unwrap();
                for file in files {
                    std::fs::copy(whole.path().join(file), dir.path().join(file)).unwrap();
                }
                let cut_file = std::fs::File::options().write(true).open(dir.path().join(file)).unwrap();
                cut_file.set_len(sizes[at] * cut / 40).unwrap();
                let loaded = load(&dir).unwrap();
                let row_len = loaded.row().len();
                assert_eq!(loaded.state.tasks, row_len, "{file} cut to {cut} of 40 parts");
                assert!(loaded.state.ended.iter().all(|range| range.end <= row_len));
                assert!(loaded.row().parts().iter().all(|part| part.read(&dir).is_ok()));
                for (run, extent, _) in loaded.ends() {
                    let outcomes = read_extent(&dir, extent.unwrap()).unwrap();
                    assert!((run.range.start..run.range.end).all(|index| outcomes.iter().any(|o| o.index == index)));
                }
            }
        }
    }
}
