//! Sets of task positions, kept as disjoint ranges.

use super::IndexRange;
use std::collections::BTreeMap;

/// Positions as disjoint, never touching ranges: small where tasks end in runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// start → end
    ranges: BTreeMap<u64, u64>,
    positions: u64,
}

impl RangeSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a range.
    pub fn insert(&mut self, range: IndexRange) {
        self.insert_new(range);
    }

    /// Adds a range and returns the parts of it that were not in before.
    pub fn insert_new(&mut self, range: IndexRange) -> Vec<IndexRange> {
        let mut fresh = Vec::new();
        if range.is_empty() {
            return fresh;
        }
        let (mut start, mut end, mut at) = (range.start, range.end, range.start);
        if let Some((&s, &e)) = self.ranges.range(..=range.start).next_back()
            && e >= range.start
        {
            start = s;
            at = at.max(e);
            end = end.max(e);
            self.ranges.remove(&s);
        }
        while let Some((&s, &e)) = self.ranges.range(range.start..=range.end).next() {
            if s > at {
                fresh.push(IndexRange::new(at, s));
            }
            at = at.max(e);
            end = end.max(e);
            self.ranges.remove(&s);
        }
        if at < range.end {
            fresh.push(IndexRange::new(at, range.end));
        }
        self.ranges.insert(start, end);
        self.positions += fresh.iter().map(|r| r.len()).sum::<u64>();
        fresh
    }

    /// Takes a range out.
    pub fn remove(&mut self, range: IndexRange) {
        let touched: Vec<(u64, u64)> = self
            .ranges
            .range(..range.end)
            .rev()
            .take_while(|(_, e)| **e > range.start)
            .map(|(s, e)| (*s, *e))
            .collect();
        for (s, e) in touched {
            self.ranges.remove(&s);
            self.positions -= e.min(range.end) - s.max(range.start);
            if s < range.start {
                self.ranges.insert(s, range.start);
            }
            if e > range.end {
                self.ranges.insert(range.end, e);
            }
        }
    }

    /// Whether the position is in.
    pub fn contains(&self, index: u64) -> bool {
        self.ranges.range(..=index).next_back().is_some_and(|(_, &e)| e > index)
    }

    /// How many positions are in.
    pub fn len(&self) -> u64 {
        self.positions
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = IndexRange> + '_ {
        self.ranges.iter().map(|(&s, &e)| IndexRange::new(s, e))
    }
}
