//! What one child holds: the parent's account of every task that it handed down and has not heard the end of.

use super::message::{Amount, Work, WorkRange};
use crate::task::{BundleId, IndexRange};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Tasks handed to one child, by bundle and position.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// By bundle and end: tasks mostly end in order, and to take the first of a run changes no key then.
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
        let WorkRange { work, range: IndexRange { mut start, end } } = given;
        // Join with the run before, so that steady supply does not grow the map.
        if let Entry::Occupied(before) = self.runs.entry((work.bundle, start))
            && before.get().1 == work
        {
            start = before.remove().0;
        }
        let known = self.runs.insert((work.bundle, end), (start, work));
        debug_assert!(known.is_none(), "a task was handed down twice");
    }

    /// Takes the parts of the range that are held and gives each with its work, in order; what is not held is left out.
    pub(super) fn take(&mut self, bundle: BundleId, range: IndexRange, mut each: impl FnMut(WorkRange)) {
        let mut at = range.start;
        while at < range.end {
            let Some((&key, run)) = self.runs.range_mut((bundle, at + 1)..).next() else { return };
            let (end, (start, work)) = (key.1, *run);
            if key.0 != bundle || start >= range.end {
                return;
            }
            let part = IndexRange::new(start.max(at), end.min(range.end));
            if part.end < end {
                run.0 = part.end;
            } else {
                self.runs.remove(&key);
            }
            if start < part.start {
                self.runs.insert((bundle, part.start), (start, work));
            }
            let part = WorkRange { work, range: part };
            self.amount -= part.amount();
            at = part.range.end;
            each(part);
        }
    }

    /// Takes everything, in order.
    pub(super) fn take_all(&mut self) -> Vec<WorkRange> {
        let runs = std::mem::take(&mut self.runs);
        self.amount = Amount::default();
        runs.into_iter()
            .map(|((_, end), (start, work))| WorkRange { work, range: IndexRange::new(start, end) })
            .collect()
    }

    /// Everything, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = WorkRange> + '_ {
        self.runs.iter().map(|(&(_, end), &(start, work))| WorkRange { work, range: IndexRange::new(start, end) })
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
            apart: false,
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
                        if let Entry::Vacant(free) = model.entry(index) {
                            free.insert(attempt);
                            held.insert(WorkRange { work: work(attempt), range: IndexRange::one(index) });
                        }
                    }
                } else {
                    let mut got: Vec<(u64, u32)> = Vec::new();
                    held.take(BundleId(0), range, |w| {
                        got.extend((w.range.start..w.range.end).map(|i| (i, w.work.attempt)));
                    });
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
