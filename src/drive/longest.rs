//! The tasks that run longest below a role: workers tell them now and then, and each level passes on the longest of all
//! that it was told, at the same pace, so that a parent hears little however many workers there are.

use super::wire::LongRun;
use crate::task::Rank;
use std::collections::BTreeMap;

/// What the children of a role told.
#[derive(Debug, Default)]
pub(super) struct Longest {
    told: BTreeMap<Rank, (u64, Vec<LongRun>)>,
    next_us: u64,
}

impl Longest {
    /// Tasks that run longer than this are told of, this often. Microseconds.
    pub(super) const EVERY_US: u64 = 5_000_000;
    /// What was told this long ago holds no longer.
    const HOLDS_US: u64 = 12_000_000;

    /// A child told of its longest; none, where those that it told of have ended.
    pub(super) fn note(&mut self, now: u64, from: Rank, long: Vec<LongRun>) {
        self.told.remove(&from);
        if !long.is_empty() {
            self.told.insert(from, (now, long));
        }
    }

    /// The longest of all, up to so many, longest first.
    pub(super) fn top(&self, now: u64, most: usize) -> Vec<LongRun> {
        let fresh = self.told.values().filter(|(told, _)| now.saturating_sub(*told) < Self::HOLDS_US);
        let mut all: Vec<LongRun> = fresh
            .flat_map(|(told, long)| {
                let since = now.saturating_sub(*told) as f32 / 1e6;
                long.iter().map(move |run| LongRun { seconds: run.seconds + since, ..*run })
            })
            .collect();
        keep_longest(&mut all, most);
        all
    }

    /// The same, where it is time to pass them on.
    pub(super) fn due(&mut self, now: u64, most: usize) -> Option<Vec<LongRun>> {
        if now < self.next_us {
            return None;
        }
        self.next_us = now + Self::EVERY_US;
        Some(self.top(now, most))
    }
}

/// Keeps the longest, up to so many, longest first.
pub(super) fn keep_longest(all: &mut Vec<LongRun>, most: usize) {
    all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    all.truncate(most);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(index: u64, seconds: f32) -> LongRun {
        LongRun { index, node: 0, seconds }
    }

    #[test]
    fn the_longest_of_all_children_are_passed_on_once_in_a_while() {
        let mut longest = Longest::default();
        longest.note(1_000_000, Rank(1), vec![run(1, 7.0), run(2, 5.0)]);
        assert_eq!(longest.due(1_000_000, 2), Some(vec![run(1, 7.0), run(2, 5.0)]));
        longest.note(2_000_000, Rank(2), vec![run(3, 30.0)]);
        assert_eq!(longest.due(2_000_000, 2), None, "it is too soon");
        assert_eq!(longest.due(6_000_000, 2), Some(vec![run(3, 34.0), run(1, 12.0)]));
        assert_eq!(longest.top(13_500_000, 9), vec![run(3, 41.5)], "the others have not been heard of for long");
    }
}
