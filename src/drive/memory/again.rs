//! What earlier starts of a session left: the program submits these tasks again, and is told what they are by now. It is
//! compared with what was submitted then.

use crate::drive::SessionError;
use crate::ledger::{LedgerError, Loaded, Row, RunDir};
use crate::task::{Bundle, EndedRun, Extent, IndexRange, OutcomeClass, RangeSet, Shape};
use std::collections::{BTreeMap, HashMap};

/// Where the records of some tasks lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Counts up as outcomes are kept.
    pub(super) order: u64,
    pub(super) extent: Extent,
    pub(super) round: u32,
}

/// A program's bundle, as it is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present<'a> {
    pub(super) number: usize,
    pub(super) function: Option<&'a str>,
    pub(super) shape: Shape,
}

/// The tasks that earlier starts knew.
#[derive(Debug)]
pub(super) struct Again {
    dir: RunDir,
    row: Row,
    /// Places in the row, by bundle and what the program calls the first task of the part.
    places: BTreeMap<(u64, u64), usize>,
    /// Positions that the program has not submitted again.
    awaited: RangeSet,
    /// How many of them each bundle has.
    awaited_of: HashMap<usize, u64>,
    /// Those of them that have ended, by the first of each run.
    ended: BTreeMap<u64, (EndedRun, Place)>,
    /// Parts of which some tasks were submitted again and others not yet, by bundle.
    begun: HashMap<usize, (usize, Bundle)>,
}

impl Again {
    /// `reopened`: failed tasks were put back. The second value counts on from the places that are known.
    pub(super) fn new(dir: &RunDir, loaded: &Loaded, reopened: bool) -> (Self, u64) {
        let row = loaded.row().clone();
        let places = row.parts().iter().enumerate().map(|(at, part)| ((part.bundle, part.first), at)).collect();
        let mut awaited = RangeSet::new();
        awaited.insert(IndexRange::new(0, row.len()));
        let mut awaited_of = HashMap::new();
        for part in row.parts() {
            *awaited_of.entry(part.bundle as usize).or_default() += part.range.len();
        }
        let (mut ended, mut order, mut last) = (BTreeMap::new(), 0, None);
        for (run, extent, round) in loaded.ends() {
            let Some(extent) = extent.filter(|_| !(reopened && run.class == OutcomeClass::Failed)) else { continue };
            if last.replace((extent, round)).is_some_and(|last| last != (extent, round)) {
                order += 1;
            }
            ended.insert(run.range.start, (run, Place { order, extent, round }));
        }
        (Self { dir: dir.clone(), row, places, awaited, awaited_of, ended, begun: HashMap::new() }, order + 1)
    }

    /// Whether the program has submitted all of a bundle again.
    pub(super) fn is_over(&self, bundle: usize) -> bool {
        !self.awaited_of.contains_key(&bundle)
    }

    fn note_submitted(&mut self, bundle: usize, range: IndexRange) {
        self.awaited.remove(range);
        if let Some(left) = self.awaited_of.get_mut(&bundle) {
            *left = left.saturating_sub(range.len());
            if *left == 0 {
                self.awaited_of.remove(&bundle);
            }
        }
    }

    pub(super) fn row(&self) -> &Row {
        &self.row
    }

    /// The part of the row that holds what a program calls a task.
    fn part_of(&self, bundle: usize, label: u64) -> Option<usize> {
        let bundle = bundle as u64;
        let (_, &at) = self.places.range((bundle, 0)..=(bundle, label)).next_back()?;
        self.row.parts()[at].position(label).map(|_| at)
    }

    /// Whether earlier starts knew tasks of this bundle that stand there or behind.
    pub(super) fn knows(&self, bundle: usize, label: u64) -> bool {
        let of_bundle = (bundle as u64, 0)..=(bundle as u64, u64::MAX);
        let last = self.places.range(of_bundle).next_back().map(|(_, at)| &self.row.parts()[*at]);
        last.is_some_and(|last| label - label.min(last.first) < last.range.len())
    }

    /// A task that is known is submitted again; its position.
    ///
    /// # Errors
    /// It is another one, or what it was cannot be read.
    pub(super) fn submit(&mut self, now: Present<'_>, label: u64, entry: &[u8]) -> Result<u64, SessionError> {
        let differs = || SessionError::Differs { bundle: now.number, task: label };
        let at = self.part_of(now.number, label).ok_or_else(differs)?;
        let part = &self.row.parts()[at];
        if (part.function.as_deref(), part.shape) != (now.function, now.shape) {
            return Err(differs());
        }
        let position = part.position(label).ok_or_else(differs)?;
        if self.begun.get(&now.number).is_none_or(|(begun, _)| *begun != at) {
            let tasks = part.read(&self.dir)?;
            self.begun.insert(now.number, (at, tasks));
        }
        let known = self.begun.get(&now.number).and_then(|(_, tasks)| tasks.entry(position - part.range.start));
        if known != Some(entry) {
            return Err(differs());
        }
        if position + 1 == part.range.end {
            self.begun.remove(&now.number);
        }
        self.note_submitted(now.number, IndexRange::one(position));
        Ok(position)
    }

    /// An array that is known is submitted again; its positions.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub(super) fn submit_array(
        &mut self,
        now: Present<'_>,
        first: u64,
        array: &Bundle,
    ) -> Result<IndexRange, SessionError> {
        let differs = || SessionError::Differs { bundle: now.number, task: first };
        let at = self.part_of(now.number, first).ok_or_else(differs)?;
        let part = &self.row.parts()[at];
        let whole = |bundle: &Bundle| bundle.extract(bundle.held());
        // An array is a few hundred bytes, which say all that there is to it.
        if part.len != array.bytes_len() || whole(&part.read(&self.dir)?) != whole(array) {
            return Err(differs());
        }
        let range = part.range;
        self.note_submitted(now.number, range);
        Ok(range)
    }

    /// Those of these tasks that have ended, as far as it is known here, with the places of their records.
    pub(super) fn ended(&self, range: IndexRange) -> Vec<(EndedRun, Place)> {
        let first = self.ended.range(..=range.start).next_back().map_or(range.start, |(first, _)| *first);
        let within = |(run, place): &(EndedRun, Place)| {
            let (start, end) = (run.range.start.max(range.start), run.range.end.min(range.end));
            (start < end).then(|| (EndedRun { range: IndexRange::new(start, end), ..*run }, *place))
        };
        self.ended.range(first..range.end).filter_map(|(_, ended)| within(ended)).collect()
    }

    /// Tasks ended just now. Gives those that the program has submitted; the others are remembered until it does.
    pub(super) fn note_ended(&mut self, run: EndedRun, place: Place) -> Vec<EndedRun> {
        if self.awaited.is_empty() {
            return vec![run];
        }
        for range in self.awaited.overlapping(run.range) {
            self.ended.insert(range.start, (EndedRun { range, ..run }, place));
        }
        let submitted = self.awaited.missing(run.range).into_iter();
        submitted.map(|range| EndedRun { range, ..run }).collect()
    }

    /// The parts of which some task has not ended.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(super) fn unfinished(&self, ended: &RangeSet) -> Result<Vec<(usize, Bundle)>, LedgerError> {
        let parts = self.row.parts().iter().enumerate();
        let unfinished = parts.filter(|(_, part)| !ended.contains_range(part.range));
        unfinished.map(|(at, part)| Ok((at, part.read(&self.dir)?))).collect()
    }
}
