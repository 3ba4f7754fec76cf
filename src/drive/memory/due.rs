//! Outcomes that were told and lie in the DIR until the program takes them.

use super::again::Place;
use crate::ledger::{ExtentReader, LedgerError};
use crate::task::{IndexRange, Outcome};

/// Outcomes of one bundle whose records lie in one extent.
#[derive(Debug)]
pub(in crate::drive) struct Due {
    place: Place,
    /// Positions, ascending, and what the program calls the first of them.
    tasks: Vec<(IndexRange, u64)>,
}

impl Due {
    pub(super) fn new(place: Place) -> Self {
        Self { place, tasks: Vec::new() }
    }

    pub(super) fn order(&self) -> u64 {
        self.place.order
    }

    /// Whether all of them were read.
    pub(in crate::drive) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn add(&mut self, range: IndexRange, first: u64) {
        let at = self.tasks.partition_point(|(known, _)| known.end <= range.start);
        match at.checked_sub(1).and_then(|before| self.tasks.get_mut(before)) {
            Some((last, label)) if last.end == range.start && *label + last.len() == first => last.end = range.end,
            _ => self.tasks.insert(at, (range, first)),
        }
    }

    fn find(&self, position: u64) -> Option<usize> {
        let at = self.tasks.partition_point(|(range, _)| range.end <= position);
        self.tasks.get(at).filter(|(range, _)| range.contains(position)).map(|_| at)
    }

    /// Takes a task out; what the program calls it.
    fn remove(&mut self, position: u64) -> Option<u64> {
        let at = self.find(position)?;
        let (range, first) = self.tasks[at];
        let label = first + (position - range.start);
        let before = (IndexRange::new(range.start, position), first);
        let behind = (IndexRange::new(position + 1, range.end), label + 1);
        self.tasks.splice(at..=at, [before, behind].into_iter().filter(|(range, _)| !range.is_empty()));
        Some(label)
    }

    /// Reads at most so many, those that were kept first.
    ///
    /// # Errors
    /// They cannot be read, or are not there.
    pub(in crate::drive) fn read(
        &mut self,
        most: usize,
        reader: &mut ExtentReader,
    ) -> Result<Vec<Outcome>, LedgerError> {
        let Place { extent, round, .. } = self.place;
        let mut outcomes = reader.read(extent, round, most, |position| self.find(position).is_some())?;
        if outcomes.is_empty() && !self.is_empty() {
            return Err(reader.missing(self.tasks[0].0.start, extent));
        }
        for outcome in &mut outcomes {
            outcome.index = self.remove(outcome.index).unwrap_or(outcome.index);
        }
        Ok(outcomes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Extent;

    #[test]
    fn tasks_are_taken_out_one_by_one_under_what_the_program_calls_them() {
        let place = Place { order: 0, extent: Extent { segment: 0, offset: 0, len: 1 }, round: 0 };
        let mut due = Due::new(place);
        due.add(IndexRange::new(20, 22), 7);
        due.add(IndexRange::new(10, 13), 0);
        due.add(IndexRange::new(13, 15), 3);
        assert_eq!(due.tasks, [(IndexRange::new(10, 15), 0), (IndexRange::new(20, 22), 7)]);
        assert_eq!([12, 12, 20, 16].map(|position| due.remove(position)), [Some(2), None, Some(7), None]);
        assert_eq!([10, 11, 13, 14, 21].map(|position| due.remove(position)), [0, 1, 3, 4, 8].map(Some));
        assert!(due.is_empty());
    }
}
