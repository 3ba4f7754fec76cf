//! What one child holds: the parent's account of every task that it handed down and has not heard the end of.

use super::message::{Amount, Work, WorkRange};
use crate::task::{BundleId, IndexRange};
use std::collections::BTreeMap;

/// Tasks handed to one child, by bundle and position.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    runs: BTreeMap<(BundleId, u64), (u64, Work)>,
    amount: Amount,
}

impl Held {
    /// All of it.
    pub(super) fn amount(&self) -> Amount {
        self.amount
    }

    pub(super) fn insert(&mut self, given: WorkRange) {
        self.amount += given.amount();
        let bundle = given.work.bundle;
        let mut range = given.range;
        // Join with the run before, so that steady supply does not grow the map.
        if let Some((&(b, start), &(end, work))) = self.runs.range(..(bundle, range.start)).next_back()
            && b == bundle
            && end == range.start
            && work == given.work
        {
            range.start = start;
        }
        let before = self.runs.insert((bundle, range.start), (range.end, given.work));
        debug_assert!(before.is_none_or(|(end, _)| end == given.range.start), "a task was handed down twice");
    }

    /// Takes the parts of the range that are held, with their work, in order; what is not held is left out.
    pub(super) fn take(&mut self, bundle: BundleId, range: IndexRange) -> Vec<WorkRange> {
        if range.is_empty() {
            return Vec::new();
        }
        let first = match self.runs.range(..=(bundle, range.start)).next_back() {
            Some((&(b, start), &(end, _))) if b == bundle && end > range.start => start,
            _ => range.start,
        };
        let overlapping: Vec<_> = self
            .runs
            .range((bundle, first)..(bundle, range.end))
            .map(|(&(_, start), &(end, work))| (start, end, work))
            .collect();
        let mut taken = Vec::with_capacity(overlapping.len());
        for (start, end, work) in overlapping {
            let part = IndexRange::new(start.max(range.start), end.min(range.end));
            self.runs.remove(&(bundle, start));
            for (from, to) in [(start, part.start), (part.end, end)] {
                if from < to {
                    self.runs.insert((bundle, from), (to, work));
                }
            }
            let part = WorkRange { work, range: part };
            self.amount -= part.amount();
            taken.push(part);
        }
        taken
    }

    /// Takes everything, in order.
    pub(super) fn take_all(&mut self) -> Vec<WorkRange> {
        let runs = std::mem::take(&mut self.runs);
        self.amount = Amount::default();
        runs.into_iter()
            .map(|((_, start), (end, work))| WorkRange { work, range: IndexRange::new(start, end) })
            .collect()
    }

    /// Everything, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = WorkRange> + '_ {
        self.runs.iter().map(|(&(_, start), &(end, work))| WorkRange { work, range: IndexRange::new(start, end) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Resources;
    use proptest::prelude::*;
    use std::collections::BTreeMap as Map;

    fn work(attempt: u32) -> Work {
        Work {
            bundle: BundleId(0),
            resources: Resources::ONE_CORE,
            retries: 0,
            calls: false,
            attempt,
            crashes: 0,
            avoid: None,
        }
    }

    proptest! {
        #[test]
        fn it_gives_back_what_was_handed_in_and_nothing_else(
            steps in prop::collection::vec((any::<bool>(), 0u64..80, 1u64..20, 0u32..2), 1..60)
        ) {
            let mut held = Held::default();
            let mut model: Map<u64, u32> = Map::new();
            for (give, start, len, attempt) in steps {
                let range = IndexRange::new(start, start + len);
                if give {
                    // Only what is not held may be handed down.
                    for index in range.start..range.end {
                        if let std::collections::btree_map::Entry::Vacant(free) = model.entry(index) {
                            free.insert(attempt);
                            held.insert(WorkRange { work: work(attempt), range: IndexRange::one(index) });
                        }
                    }
                } else {
                    let got: Vec<(u64, u32)> = held
                        .take(BundleId(0), range)
                        .iter()
                        .flat_map(|w| (w.range.start..w.range.end).map(|i| (i, w.work.attempt)))
                        .collect();
                    let expected: Vec<(u64, u32)> =
                        (range.start..range.end).filter_map(|i| model.remove(&i).map(|a| (i, a))).collect();
                    prop_assert_eq!(got, expected);
                }
                prop_assert_eq!(held.amount().tasks, model.len() as u64);
                prop_assert_eq!(held.amount().cores, model.len() as u64);
                prop_assert_eq!(held.iter().map(|w| w.amount()).sum::<Amount>(), held.amount());
            }
            prop_assert_eq!(held.take_all().iter().map(|w| w.range.len()).sum::<u64>(), model.len() as u64);
        }
    }
}
