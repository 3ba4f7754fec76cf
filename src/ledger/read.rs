//! Reading a run: one outcome quickly, or all in task order in bounded memory. Works while the run goes on, and
//! without MPI.

use super::block::{RecordView, StreamView, read_block};
use super::dir::RunDir;
use super::error::LedgerError;
use super::journal::Tail;
use super::load::replay_journal;
use super::parts::Row;
use super::replay::{Location, Replay};
use super::segment::{SegmentFile, segment_path};
use super::state::{Counts, LedgerState};
use crate::task::{Captured, Extent, IndexRange, Outcome, OutcomeClass, Status};
use std::collections::{BTreeMap, HashMap};

/// Tasks of the first window; it doubles up to the next.
const FIRST_WINDOW_TASKS: u64 = 1024;
/// Tasks of the largest window.
const LARGEST_WINDOW_TASKS: u64 = 128 * 1024;
/// Output that a window holds in memory; what goes beyond is read when its turn comes.
const WINDOW_BYTES: u64 = 64 * 1024 * 1024;

/// Which streams are wanted; the others come back empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Streams {
    /// Neither.
    pub const NONE: Streams = Streams { stdout: false, stderr: false };
    /// Standard output alone.
    pub const STDOUT: Streams = Streams { stdout: true, stderr: false };
    /// Standard error alone.
    pub const STDERR: Streams = Streams { stdout: false, stderr: true };
    /// Both.
    pub const BOTH: Streams = Streams { stdout: true, stderr: true };
}

/// Which tasks are wanted, by how they ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Those that ended well.
    pub ok: bool,
    /// Those that failed.
    pub failed: bool,
    /// Those that were cancelled.
    pub cancelled: bool,
}

impl Selection {
    /// All that ended.
    pub const ALL: Selection = Selection { ok: true, failed: true, cancelled: true };
    /// Those that failed.
    pub const FAILED: Selection = Selection { ok: false, failed: true, cancelled: false };

    fn holds(self, class: OutcomeClass) -> bool {
        match class {
            OutcomeClass::Ok => self.ok,
            OutcomeClass::Failed => self.failed,
            OutcomeClass::Cancelled => self.cancelled,
        }
    }
}

/// A run as its journal says at the moment of opening.
#[derive(Debug)]
pub struct Reader {
    dir: RunDir,
    replay: Replay,
    damage: Option<String>,
    nodes: Vec<String>,
    /// For each start: its table of nodes as positions in `nodes`.
    node_tables: HashMap<u32, Vec<u32>>,
}

impl Reader {
    /// Reads the journal. What a running start has not finished writing is left out.
    pub fn open(dir: &RunDir) -> Result<Self, LedgerError> {
        let (mut replay, tail, generation) = replay_journal(dir)?;
        replay.sort();
        let damage = match tail {
            Tail::Clean | Tail::Torn { .. } => None,
            Tail::Damaged { offset, what } => {
                let path = dir.journal(generation.unwrap_or_default());
                Some(LedgerError::Damaged { path, offset, what: what.to_owned() }.to_string())
            }
        };
        let mut nodes = Vec::new();
        let mut positions: HashMap<&str, u32> = HashMap::new();
        let mut node_tables = HashMap::new();
        for start in &replay.state.starts {
            let table = start.nodes.iter().map(|name| {
                *positions.entry(name).or_insert_with(|| {
                    nodes.push(name.clone());
                    nodes.len() as u32 - 1
                })
            });
            node_tables.insert(start.generation, table.collect());
        }
        Ok(Self { dir: dir.clone(), replay, damage, nodes, node_tables })
    }

    /// The account.
    pub fn state(&self) -> &LedgerState {
        &self.replay.state
    }

    /// How many tasks have ended.
    pub fn counts(&self) -> Counts {
        self.replay.state.counts()
    }

    /// Tasks of the bundle.
    pub fn tasks(&self) -> u64 {
        self.replay.state.tasks
    }

    /// What a program submitted, where this is a session.
    pub fn row(&self) -> &Row {
        &self.replay.row
    }

    /// Damage in the journal, with its place: what follows there is not seen.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// The name of a node as outcomes of this reader give it: positions are of a table over all starts.
    pub fn node_name(&self, node: u32) -> &str {
        self.nodes.get(node as usize).map_or("?", String::as_str)
    }

    /// How one task ended; none while it has no outcome. Reads only the extent that holds it.
    pub fn outcome(&self, index: u64) -> Result<Option<Outcome>, LedgerError> {
        let Some((location, _)) = self.replay.find(index) else { return Ok(None) };
        let piece = Location { range: IndexRange::one(index), ..location };
        Outcomes::new(self, vec![piece], Streams::BOTH).next().transpose()
    }

    /// How the tasks ended, in task order, those that are wanted. A task whose record cannot be read gives an error,
    /// and the rest goes on.
    pub fn outcomes(&self, selection: Selection, streams: Streams) -> Outcomes<'_> {
        self.outcomes_within(IndexRange::new(0, u64::MAX), selection, streams)
    }

    /// As [`outcomes`](Self::outcomes), of these tasks alone.
    pub fn outcomes_within(&self, range: IndexRange, selection: Selection, streams: Streams) -> Outcomes<'_> {
        let wanted = self.replay.locations.iter().filter_map(|location| {
            let (start, end) = (location.range.start.max(range.start), location.range.end.min(range.end));
            (start < end && selection.holds(location.class))
                .then(|| Location { range: IndexRange::new(start, end), ..*location })
        });
        Outcomes::new(self, wanted.collect(), streams)
    }

    fn node_of(&self, start: u32, node: u32) -> u32 {
        let table = self.node_tables.get(&start);
        table.and_then(|table| table.get(node as usize)).copied().unwrap_or(u32::MAX)
    }
}

/// Bytes of a segment.
#[derive(Clone, Copy, Debug)]
struct Span {
    offset: u64,
    len: usize,
}

/// One task of a window.
#[derive(Debug)]
enum Slot {
    Empty,
    Whole(Outcome),
    /// Its output is read when its turn comes.
    Far {
        outcome: Outcome,
        segment: u32,
        stdout: Span,
        stderr: Span,
    },
    Failed(LedgerError),
}

/// Outcomes in task order.
///
/// Tasks end in another order than they are listed, so their records lie scattered. A window of tasks is filled by
/// reading each extent that holds some of them once, in the order of the files; then it is emptied in task order.
#[derive(Debug)]
pub struct Outcomes<'a> {
    reader: &'a Reader,
    streams: Streams,
    /// Those that are wanted, in task order; the first ones already taken.
    locations: std::vec::IntoIter<Location>,
    /// What is left of a location that did not fit a window.
    left: Option<Location>,
    window_tasks: u64,
    ready: std::vec::IntoIter<Slot>,
    open: Option<(u32, SegmentFile)>,
}

impl<'a> Outcomes<'a> {
    fn new(reader: &'a Reader, locations: Vec<Location>, streams: Streams) -> Self {
        Self {
            reader,
            streams,
            locations: locations.into_iter(),
            left: None,
            window_tasks: FIRST_WINDOW_TASKS,
            ready: Vec::new().into_iter(),
            open: None,
        }
    }

    /// The next tasks, as pieces of locations, no more than fit a window.
    fn next_pieces(&mut self) -> Vec<Location> {
        let mut pieces = Vec::new();
        let mut room = self.window_tasks;
        while room > 0 {
            let Some(mut location) = self.left.take().or_else(|| self.locations.next()) else { break };
            let taken = location.range.len().min(room);
            let middle = location.range.start + taken;
            if middle < location.range.end {
                self.left = Some(Location { range: IndexRange::new(middle, location.range.end), ..location });
                location.range.end = middle;
            }
            room -= taken;
            pieces.push(location);
        }
        self.window_tasks = (self.window_tasks * 2).min(LARGEST_WINDOW_TASKS);
        pieces
    }

    fn fill(&mut self) {
        let pieces = self.next_pieces();
        let mut window = Window::new(self.reader, self.streams, &pieces);
        let mut by_extent: BTreeMap<(Extent, u32), Vec<usize>> = BTreeMap::new();
        for (at, piece) in pieces.iter().enumerate() {
            let report = self.reader.replay.reports[piece.report as usize];
            match report.extent {
                Some(extent) => by_extent.entry((extent, report.round)).or_default().push(at),
                None => window.fill_bare(at),
            }
        }
        for ((extent, round), members) in by_extent {
            let read = open_segment(&mut self.open, &self.reader.dir, extent.segment)
                .and_then(|file| window.read_extent(file, extent, round, &members));
            window.fail_empty(&members, extent, read.err(), &self.reader.dir);
        }
        self.ready = window.slots.into_iter();
    }
}

impl Iterator for Outcomes<'_> {
    type Item = Result<Outcome, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.len() == 0 {
            self.fill();
        }
        Some(match self.ready.next()? {
            Slot::Whole(outcome) => Ok(outcome),
            Slot::Failed(error) => Err(error),
            Slot::Far { mut outcome, segment, stdout, stderr } => {
                let file = match open_segment(&mut self.open, &self.reader.dir, segment) {
                    Ok(file) => file,
                    Err(e) => return Some(Err(e)),
                };
                let read = |span: Span| file.bytes(span.offset, span.len);
                match (read(stdout), read(stderr)) {
                    (Ok(stdout), Ok(stderr)) => {
                        outcome.stdout.bytes = stdout;
                        outcome.stderr.bytes = stderr;
                        Ok(outcome)
                    }
                    (Err(e), _) | (_, Err(e)) => Err(e),
                }
            }
            // Every slot was filled or has failed.
            Slot::Empty => return None,
        })
    }
}

fn open_segment<'f>(
    open: &'f mut Option<(u32, SegmentFile)>,
    dir: &RunDir,
    segment: u32,
) -> Result<&'f SegmentFile, LedgerError> {
    if open.as_ref().is_none_or(|(number, _)| *number != segment) {
        *open = None;
        let file = SegmentFile::open(&dir.segments(), segment)?;
        return Ok(&open.insert((segment, file)).1);
    }
    match open {
        Some((_, file)) => Ok(file),
        None => Err(LedgerError::Block("no segment is open")),
    }
}

struct Window<'a> {
    reader: &'a Reader,
    streams: Streams,
    pieces: &'a [Location],
    /// For each piece, the slot of its first task.
    bases: Vec<usize>,
    slots: Vec<Slot>,
    room_bytes: u64,
}

impl<'a> Window<'a> {
    fn new(reader: &'a Reader, streams: Streams, pieces: &'a [Location]) -> Self {
        let mut bases = Vec::with_capacity(pieces.len());
        let mut count = 0;
        for piece in pieces {
            bases.push(count);
            count += piece.range.len() as usize;
        }
        let slots = std::iter::repeat_with(|| Slot::Empty).take(count).collect();
        Self { reader, streams, pieces, bases, slots, room_bytes: WINDOW_BYTES }
    }

    /// Tasks of which only their class was kept.
    fn fill_bare(&mut self, at: usize) {
        let piece = self.pieces[at];
        let (status, attempts) = match piece.class {
            OutcomeClass::Ok => (Status::Ok, 1),
            OutcomeClass::Failed => (Status::Lost, 1),
            OutcomeClass::Cancelled => (Status::Cancelled, 0),
        };
        for index in piece.range.start..piece.range.end {
            let slot = self.bases[at] + (index - piece.range.start) as usize;
            self.slots[slot] = Slot::Whole(Outcome {
                index,
                status: status.clone(),
                attempts,
                started_unix_us: 0,
                duration_us: 0,
                rank: u32::MAX,
                node: u32::MAX,
                stdout: Captured::default(),
                stderr: Captured::default(),
            });
        }
    }

    /// Fills the slots of these pieces from their extent. A block with a damaged payload is passed over and is the
    /// error in the end.
    fn read_extent(
        &mut self,
        file: &SegmentFile,
        extent: Extent,
        round: u32,
        members: &[usize],
    ) -> Result<(), LedgerError> {
        let (Some(first), Some(last)) = (members.first(), members.last()) else { return Ok(()) };
        let (lowest, highest) = (self.pieces[*first].range.start, self.pieces[*last].range.end);
        let mut damage = None;
        let mut payload = Vec::new();
        let mut at = extent.offset;
        while at < extent.end() {
            let header = file.header(at, extent.end())?;
            if header.round == round && header.lowest < highest && lowest <= header.highest {
                file.payload(&header, at, &mut payload)?;
                match header.records(&payload) {
                    Ok(records) => {
                        let base = at + super::block::BlockHeader::BYTES as u64;
                        records.for_each(|record| {
                            self.put(&record, header.start, members, extent.segment, base, &payload)
                        });
                    }
                    Err(e) => damage = damage.or(Some(e.at(&file.path, at))),
                }
            }
            at += header.total_bytes();
        }
        damage.map_or(Ok(()), Err)
    }

    fn put(&mut self, record: &RecordView<'_>, start: u32, members: &[usize], segment: u32, base: u64, payload: &[u8]) {
        let Some(slot) = self.slot_of(record.index, members) else { return };
        // The first record of a task is the one that counts.
        if !matches!(self.slots[slot], Slot::Empty) {
            return;
        }
        let wanted = |stream: StreamView<'_>, want: bool| if want { stream.bytes.len() } else { 0 };
        let (out, err) = (wanted(record.stdout, self.streams.stdout), wanted(record.stderr, self.streams.stderr));
        let size = (out + err) as u64;
        let is_near = size <= self.room_bytes;
        let copy = |stream: StreamView<'_>, len: usize| match len {
            0 => Captured::default(),
            _ if is_near => stream.to_captured(),
            _ => Captured { bytes: Vec::new(), head: stream.head, dropped: stream.dropped },
        };
        let mut outcome = record.without_output(copy(record.stdout, out), copy(record.stderr, err));
        outcome.node = self.reader.node_of(start, record.node);
        self.slots[slot] = if is_near {
            self.room_bytes -= size;
            Slot::Whole(outcome)
        } else {
            let span = |stream: StreamView<'_>, len: usize| {
                let within = stream.bytes.as_ptr().addr() - payload.as_ptr().addr();
                Span { offset: base + within as u64, len }
            };
            Slot::Far { outcome, segment, stdout: span(record.stdout, out), stderr: span(record.stderr, err) }
        };
    }

    fn slot_of(&self, index: u64, members: &[usize]) -> Option<usize> {
        let at = members.partition_point(|at| self.pieces[*at].range.end <= index);
        let at = *members.get(at)?;
        let range = self.pieces[at].range;
        range.contains(index).then(|| self.bases[at] + (index - range.start) as usize)
    }

    /// Slots for which no record was found: the first gets the cause.
    fn fail_empty(&mut self, members: &[usize], extent: Extent, mut cause: Option<LedgerError>, dir: &RunDir) {
        for at in members {
            let range = self.pieces[*at].range;
            for index in range.start..range.end {
                let slot = &mut self.slots[self.bases[*at] + (index - range.start) as usize];
                if matches!(slot, Slot::Empty) {
                    let path = segment_path(&dir.segments(), extent.segment);
                    let missing = LedgerError::RecordMissing { index, path, offset: extent.offset };
                    *slot = Slot::Failed(cause.take().unwrap_or(missing));
                }
            }
        }
    }
}

/// All outcomes in an extent, with their outputs: what a running manager has just been told of.
///
/// # Errors
/// The segment cannot be read, or is damaged there.
pub fn read_extent(dir: &RunDir, extent: Extent) -> Result<Vec<Outcome>, LedgerError> {
    let file = SegmentFile::open(&dir.segments(), extent.segment)?;
    let outside = || LedgerError::Block("extent beyond the file").at(&file.path, extent.offset);
    if extent.end() > file.len {
        return Err(outside());
    }
    let bytes = file.bytes(extent.offset, usize::try_from(extent.len).map_err(|_| outside())?)?;
    let (mut outcomes, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let (_, records, used) = read_block(&bytes[at..]).map_err(|e| e.at(&file.path, extent.offset + at as u64))?;
        outcomes.extend(records);
        at += used;
    }
    Ok(outcomes)
}
