//! A set of task positions, kept as runs: small as long as what it holds is mostly consecutive.

use super::IndexRange;
use std::collections::BTreeMap;

/// A set of task positions as disjoint, non-adjacent runs. Every operation costs O(log runs) plus the runs it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Start to end of each run.
    runs: BTreeMap<u64, u64>,
    /// Positions in all runs.
    len: u64,
}

impl RangeSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many positions.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// How many runs: what the set costs.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the position is in the set.
    pub fn contains(&self, index: u64) -> bool {
        self.run_at(index).is_some()
    }

    /// Whether every position of the range is in the set.
    pub fn contains_range(&self, range: IndexRange) -> bool {
        range.is_empty() || self.run_at(range.start).is_some_and(|run| range.end <= run.end)
    }

    fn run_at(&self, index: u64) -> Option<IndexRange> {
        let (&start, &end) = self.runs.range(..=index).next_back()?;
        (index < end).then(|| IndexRange::new(start, end))
    }

    /// Adds a range; what was in already stays in.
    pub fn insert(&mut self, range: IndexRange) {
        self.insert_new(range, |_| ());
    }

    /// Adds a range and gives the parts of it that were not in before, in order.
    pub fn insert_new(&mut self, range: IndexRange, mut each: impl FnMut(IndexRange)) {
        if range.is_empty() {
            return;
        }
        let mut new = |set_len: &mut u64, start: u64, end: u64| {
            *set_len += end - start;
            each(IndexRange::new(start, end));
        };
        // The last run that may touch it: mostly none does, or one that ends where it starts and grows in place.
        match self.runs.range_mut(..=range.end).next_back() {
            Some((&start, end)) if start <= range.start && *end >= range.start => {
                if *end < range.end {
                    new(&mut self.len, *end, range.end);
                    *end = range.end;
                }
                return;
            }
            Some((_, end)) if *end >= range.start => {}
            _ => {
                self.runs.insert(range.start, range.end);
                return new(&mut self.len, range.start, range.end);
            }
        }
        // Some run starts within it or where it ends: all of those become one, with the one before if it touches.
        let before = self.runs.range(..=range.start).next_back().filter(|(_, end)| **end >= range.start);
        let (start, mut at) = before.map_or((range.start, range.start), |(&start, &end)| (start, end));
        let mut end = range.end;
        while let Some((&next, &next_end)) = self.runs.range(range.start + 1..=range.end).next() {
            if at < next {
                new(&mut self.len, at, next);
            }
            (at, end) = (next_end, end.max(next_end));
            self.runs.remove(&next);
            if next_end >= range.end {
                break;
            }
        }
        if at < range.end {
            new(&mut self.len, at, range.end);
        }
        self.runs.insert(start, end);
    }

    /// The parts of a range that are not in the set, in order.
    pub fn missing(&self, range: IndexRange) -> Vec<IndexRange> {
        let mut missing = Vec::new();
        let mut at = range.start;
        for run in self.overlapping(range) {
            if at < run.start {
                missing.push(IndexRange::new(at, run.start));
            }
            at = run.end;
        }
        if at < range.end {
            missing.push(IndexRange::new(at, range.end));
        }
        missing
    }

    /// The parts of a range that are in the set, in order.
    pub fn overlapping(&self, range: IndexRange) -> impl Iterator<Item = IndexRange> + '_ {
        let first = self.run_at(range.start).map_or(range.start, |run| run.start);
        let runs = (!range.is_empty()).then(|| self.runs.range(first..range.end)).into_iter().flatten();
        runs.map(move |(&start, &end)| IndexRange::new(start.max(range.start), end.min(range.end)))
    }

    /// Takes a range out; what was not in stays out.
    pub fn remove(&mut self, range: IndexRange) {
        let gone: Vec<IndexRange> = self.overlapping(range).collect();
        for part in gone {
            let run = self.run_at(part.start).expect("the part was found in a run");
            self.runs.remove(&run.start);
            if run.start < part.start {
                self.runs.insert(run.start, part.start);
            }
            if part.end < run.end {
                self.runs.insert(part.end, run.end);
            }
            self.len -= part.len();
        }
    }

    /// The runs in order.
    pub fn iter(&self) -> impl Iterator<Item = IndexRange> + '_ {
        self.runs.iter().map(|(&start, &end)| IndexRange::new(start, end))
    }
}

impl FromIterator<IndexRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = IndexRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_behaves_like_a_set_of_positions(steps in prop::collection::vec((any::<bool>(), 0u64..60, 0u64..20), 1..60)) {
            let mut runs = RangeSet::new();
            let mut model = BTreeSet::new();
            for (add, start, len) in steps {
                let range = IndexRange::new(start, start + len);
                if add {
                    let mut new: Vec<u64> = Vec::new();
                    runs.insert_new(range, |part| {
                        assert!(!part.is_empty());
                        new.extend(part.start..part.end);
                    });
                    let expected: Vec<u64> = (range.start..range.end).filter(|i| model.insert(*i)).collect();
                    prop_assert_eq!(new, expected);
                } else {
                    runs.remove(range);
                    (range.start..range.end).for_each(|i| { model.remove(&i); });
                }
                prop_assert_eq!(runs.len(), model.len() as u64);
                let flat: Vec<u64> = runs.iter().flat_map(|r| r.start..r.end).collect();
                prop_assert_eq!(flat, model.iter().copied().collect::<Vec<_>>());
                let ends: Vec<IndexRange> = runs.iter().collect();
                prop_assert!(ends.windows(2).all(|w| w[0].end < w[1].start), "runs that touch are one run");
                prop_assert!((0..90).all(|i| runs.contains(i) == model.contains(&i)));
            }
        }
    }
}
