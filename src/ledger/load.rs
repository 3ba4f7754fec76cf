//! Taking a run up: what the newest journal says, checked against the segments, and what they hold beyond it.
//!
//! Nothing on disk is changed here; the journal of the new start is begun from what was loaded.

use super::dir::RunDir;
use super::error::LedgerError;
use super::journal::{Record, Scan, Tail};
use super::parts::Row;
use super::replay::{Location, Replay};
use super::segment::{SegmentFile, list_segments};
use super::state::LedgerState;
use crate::task::{EndedRun, Extent};
use crate::task::{IndexRange, OutcomeClass, RangeSet};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// After a start that did not end in order, so many bytes of what the journal points to at the end of each segment
/// are read and checked: the part that a dying node may not have brought to the disk.
const CHECKED_BYTES: u64 = 16 * 1024 * 1024;

/// What a run's folder says about the tasks that have ended.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The account.
    pub state: LedgerState,
    /// Tasks whose records lay whole in a segment without the journal knowing; now it does.
    pub adopted: u64,
    /// Tasks that had ended, but whose records did not survive: they run again.
    pub lost: u64,
    /// Bytes at the journal's end that a crash had left half written, and that do not count.
    pub torn_bytes: u64,
    /// Damage in the journal that no crash explains, with its place. The file is kept aside.
    pub damage: Option<String>,
    /// The lowest segment number that was never set aside in this DIR.
    pub next_segment: u32,
    replay: Replay,
}

impl Loaded {
    /// What is worth telling the user, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(damage) = &self.damage {
            notes.push(format!("{damage}; what follows there does not count, the file is kept"));
        }
        if self.torn_bytes > 0 {
            notes.push(format!("the journal ended in {} half-written bytes, which do not count", self.torn_bytes));
        }
        if self.adopted > 0 {
            notes.push(format!("{} outcomes were kept that the journal did not know yet", self.adopted));
        }
        if self.lost > 0 {
            notes.push(format!("the outcomes of {} tasks did not survive; these tasks run again", self.lost));
        }
        notes
    }

    /// What a program submitted, where this is a session.
    pub fn row(&self) -> &Row {
        &self.replay.row
    }

    /// The tasks that have ended, with the round and the place of their records, in the order in which they were kept.
    pub fn ends(&self) -> impl Iterator<Item = (EndedRun, Option<Extent>, u32)> + '_ {
        let mut order: Vec<&Location> = self.replay.locations.iter().collect();
        order.sort_by_key(|location| (location.report, location.range.start));
        order.into_iter().map(|location| {
            let report = self.replay.reports[location.report as usize];
            (EndedRun { range: location.range, class: location.class }, report.extent, report.round)
        })
    }

    /// The records with which the next journal begins.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Record> + '_ {
        self.replay.snapshot()
    }

    /// Takes the journals of earlier starts away; a damaged one is kept under another name.
    pub(crate) fn retire_older_journals(&self, dir: &RunDir, generation: u32) {
        for older in dir.journal_generations().unwrap_or_default().into_iter().filter(|g| *g < generation) {
            let path = dir.journal(older);
            // What cannot be taken away is only in the way: the newest journal is the one that counts.
            let _ = if self.damage.is_some() {
                std::fs::rename(&path, path.with_extension(format!("{older}.damaged")))
            } else {
                std::fs::remove_file(&path)
            };
        }
    }
}

/// Reads the newest journal of the run, or says that there is none. A journal is replaced while others read: where it
/// is gone, the next newer is there.
pub(crate) fn replay_journal(dir: &RunDir) -> Result<(Replay, Tail, Option<u32>), LedgerError> {
    let mut gone = None;
    for _ in 0..100 {
        let Some(newest) = dir.journal_generations()?.into_iter().max() else { break };
        let path = dir.journal(newest);
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                gone = Some(LedgerError::io("read", &path)(e));
                continue;
            }
            other => other.map_err(LedgerError::io("read", &path))?,
        };
        let mut replay = Replay::default();
        let mut scan = Scan::new(&bytes);
        for record in scan.by_ref() {
            replay.apply(&record);
        }
        return Ok((replay, scan.tail(), Some(newest)));
    }
    gone.map_or_else(|| Ok((Replay::default(), Tail::Clean, None)), Err)
}

/// Loads the run: to be called by its owner before anything is handed out. A run without a journal loads as empty.
pub fn load(dir: &RunDir) -> Result<Loaded, LedgerError> {
    let (mut replay, tail, generation) = replay_journal(dir)?;
    let mut loaded = Loaded::default();
    match tail {
        Tail::Clean => {}
        Tail::Torn { bytes } => loaded.torn_bytes = bytes,
        Tail::Damaged { offset, what } => {
            let path = dir.journal(generation.unwrap_or_default());
            loaded.damage = Some(LedgerError::Damaged { path, offset, what: what.to_owned() }.to_string());
        }
    }
    let whole = replay.row.whole(dir, if replay.state.ended_by.is_some() { 0 } else { CHECKED_BYTES });
    if whole < replay.row.parts().len() {
        loaded.lost = replay.cut_row(whole);
    }
    let segments = list_segments(&dir.segments())?;
    let lost = each_segment(dir, &segments, &replay, lost_extents)?;
    let lost: BTreeSet<Extent> = lost.into_iter().flatten().collect();
    if !lost.is_empty() {
        loaded.lost += replay.retain(|report| report.extent.is_none_or(|extent| !lost.contains(&extent)));
    }
    for record in each_segment(dir, &segments, &replay, unknown_blocks)?.iter().flatten() {
        loaded.adopted += replay.apply(record);
    }
    // Blocks that were whole in a lost extent have just been adopted.
    loaded.lost = loaded.lost.saturating_sub(loaded.adopted);
    loaded.next_segment = replay.next_segment.max(segments.last().map_or(0, |last| last.saturating_add(1)));
    replay.next_segment = loaded.next_segment;
    // What an earlier start refused is no news of this one.
    replay.state.refused = 0;
    loaded.state = replay.state.clone();
    loaded.replay = replay;
    Ok(loaded)
}

/// The extents to which the journal points, by segment, ascending.
fn known_extents(replay: &Replay) -> BTreeMap<u32, Vec<Extent>> {
    let used: BTreeSet<u32> = replay.locations.iter().map(|location| location.report).collect();
    let mut known: BTreeMap<u32, Vec<Extent>> = BTreeMap::new();
    for extent in used.iter().filter_map(|report| replay.reports[*report as usize].extent) {
        known.entry(extent.segment).or_default().push(extent);
    }
    for extents in known.values_mut() {
        extents.sort_unstable();
        extents.dedup();
    }
    known
}

/// One segment with all that is needed to judge it.
struct Segment<'a> {
    number: u32,
    /// None: the file is not there.
    file: Option<SegmentFile>,
    /// The extents to which the journal points, ascending.
    known: &'a [Extent],
    state: &'a LedgerState,
    row: &'a Row,
}

/// Looks at all segments, those that exist and those that the journal means, several at a time.
fn each_segment<T: Send>(
    dir: &RunDir,
    existing: &[u32],
    replay: &Replay,
    look: impl Fn(&Segment<'_>) -> Result<Vec<T>, LedgerError> + Sync,
) -> Result<Vec<Vec<T>>, LedgerError> {
    let folder = dir.segments();
    let known = known_extents(replay);
    let numbers: BTreeSet<u32> = existing.iter().chain(known.keys()).copied().collect();
    let numbers: Vec<u32> = numbers.into_iter().collect();
    let look_at = |number: &u32| {
        let file = match SegmentFile::open(&folder, *number) {
            Err(LedgerError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        let known = known.get(number).map(Vec::as_slice).unwrap_or_default();
        look(&Segment { number: *number, file, known, state: &replay.state, row: &replay.row })
    };
    numbers.par_iter().map(look_at).collect()
}

/// Known extents that are not whole: out of the file's bounds, or, at its end after a crash, damaged.
fn lost_extents(segment: &Segment<'_>) -> Result<Vec<Extent>, LedgerError> {
    let Some(file) = &segment.file else { return Ok(segment.known.to_vec()) };
    let in_order = segment.state.ended_by.is_some();
    let end = segment.known.last().map_or(0, |last| last.end());
    let mut lost = Vec::new();
    for extent in segment.known {
        let recent = !in_order && extent.end().saturating_add(CHECKED_BYTES) > end;
        if extent.end() > file.len || (recent && !is_whole(file, *extent)?) {
            lost.push(*extent);
        }
    }
    Ok(lost)
}

/// Whether the extent is blocks that stand up to their checks. An error only where reading itself fails.
fn is_whole(file: &SegmentFile, extent: Extent) -> Result<bool, LedgerError> {
    let mut at = extent.offset;
    let mut payload = Vec::new();
    while at < extent.end() {
        let header = match file.header(at, extent.end()) {
            Ok(header) => header,
            Err(LedgerError::Damaged { .. }) => return Ok(false),
            Err(e) => return Err(e),
        };
        file.payload(&header, at, &mut payload)?;
        if header.records(&payload).is_err() {
            return Ok(false);
        }
        at += header.total_bytes();
    }
    Ok(true)
}

/// Whole blocks between the known extents and behind them. One with a damaged payload is passed over; behind a
/// damaged header nothing more is looked for, since where the next block begins is not known.
fn unknown_blocks(segment: &Segment<'_>) -> Result<Vec<Record>, LedgerError> {
    let (Some(file), state) = (&segment.file, segment.state) else { return Ok(Vec::new()) };
    let mut covered = RangeSet::new();
    for extent in segment.known {
        covered.insert(IndexRange::new(extent.offset, extent.end()));
    }
    let mut gaps = Vec::new();
    let mut at = 0;
    for range in covered.iter().take_while(|r| r.start < file.len) {
        gaps.push((at, range.start));
        at = range.end;
    }
    gaps.push((at, file.len));
    let mut records = Vec::new();
    let mut payload = Vec::new();
    for (mut at, end) in gaps {
        while at < end {
            let header = match file.header(at, end) {
                Ok(header) => header,
                Err(LedgerError::Damaged { .. }) => break,
                Err(e) => return Err(e),
            };
            let extent = Extent { segment: segment.number, offset: at, len: header.total_bytes() };
            at = extent.end();
            if header.round != state.round || header.bundle != 0 {
                continue;
            }
            file.payload(&header, extent.offset, &mut payload)?;
            let Ok(block) = header.records(&payload) else { continue };
            let own = block.filter(|record| segment.row.may_have_run(record.index, header.start));
            let runs = runs_of(own.map(|r| (r.index, r.status.class())), state);
            if !runs.is_empty() {
                records.push(Record::Ended { round: header.round, extent: Some(extent), runs });
            }
        }
    }
    Ok(records)
}

/// The tasks of a block that have not ended yet and belong to the bundle, as runs.
fn runs_of(tasks: impl Iterator<Item = (u64, OutcomeClass)>, state: &LedgerState) -> Vec<EndedRun> {
    let mut tasks: Vec<_> = tasks.filter(|(index, _)| *index < state.tasks && !state.ended.contains(*index)).collect();
    // Stable, and by position alone: the first record of a task is the one that counts.
    tasks.sort_by_key(|(index, _)| *index);
    tasks.dedup_by_key(|(index, _)| *index);
    let mut runs: Vec<EndedRun> = Vec::new();
    for (index, class) in tasks {
        match runs.last_mut() {
            Some(last) if last.class == class && last.range.end == index => last.range.end = index + 1,
            _ => runs.push(EndedRun { range: IndexRange::one(index), class }),
        }
    }
    runs
}
