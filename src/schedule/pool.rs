//! Work that waits at a parent, in order, and how a child is picked its share.

use super::message::{Work, WorkRange};
use crate::task::{BundleId, IndexRange, NodeId, Resources};
use std::collections::{BTreeMap, VecDeque};

/// What the tasks of a line have in common: what they take, and the node that they avoid.
type LineKey = (Resources, Option<NodeId>);

/// Ranges, each with its place in the order of all.
type Line = VecDeque<(i64, WorkRange)>;

/// Work that waits. Tasks of one shape that avoid the same node stand in one line; lines are few, so that finding the
/// next task for a child is cheap however many wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    lines: BTreeMap<LineKey, Line>,
    front: i64,
    back: i64,
    tasks: u64,
    cores: u64,
}

impl Pool {
    #[cfg(test)]
    pub(super) fn tasks(&self) -> u64 {
        self.tasks
    }

    pub(super) fn cores(&self) -> u64 {
        self.cores
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks == 0
    }

    /// Ranges that wait: what the pool costs.
    pub(super) fn ranges(&self) -> usize {
        self.lines.values().map(VecDeque::len).sum()
    }

    /// Puts work behind all that waits.
    pub(super) fn push_back(&mut self, given: WorkRange) {
        self.count(&given);
        let line = self.line(&given.work);
        if let Some((_, last)) = line.back_mut()
            && last.work == given.work
            && last.range.end == given.range.start
        {
            last.range.end = given.range.end;
            return;
        }
        self.back += 1;
        let order = self.back;
        self.line(&given.work).push_back((order, given));
    }

    /// Puts work before all that waits: it waited before.
    pub(super) fn push_front(&mut self, given: WorkRange) {
        self.count(&given);
        let line = self.line(&given.work);
        if let Some((_, first)) = line.front_mut()
            && first.work == given.work
            && given.range.end == first.range.start
        {
            first.range.start = given.range.start;
            return;
        }
        self.front -= 1;
        let order = self.front;
        self.line(&given.work).push_front((order, given));
    }

    fn count(&mut self, given: &WorkRange) {
        self.tasks += given.range.len();
        self.cores += given.cores();
    }

    fn line(&mut self, work: &Work) -> &mut Line {
        self.lines.entry((work.resources, work.avoid)).or_default()
    }

    /// Takes the next tasks in order, up to so many cores (at least one task when `cores > 0`) and at most so many
    /// tasks, of those that `fits` admits by shape and avoided node.
    pub(super) fn take(
        &mut self,
        mut cores: u64,
        mut most: u64,
        fits: impl Fn(Resources, Option<NodeId>) -> bool,
    ) -> Vec<WorkRange> {
        let mut taken = Vec::new();
        while cores > 0 && most > 0 {
            let next = self
                .lines
                .iter()
                .filter(|((shape, avoid), _)| fits(*shape, *avoid))
                .filter_map(|(key, line)| line.front().map(|(order, _)| (*order, *key)))
                .min_by_key(|(order, _)| *order);
            let Some((_, key)) = next else { break };
            let line = self.lines.get_mut(&key).expect("the line was just found");
            let (_, first) = line.front_mut().expect("the line has a front");
            let each = u64::from(key.0.cores.max(1));
            let count = (cores / each).clamp(1, first.range.len()).min(most);
            let part =
                WorkRange { work: first.work, range: IndexRange::new(first.range.start, first.range.start + count) };
            first.range.start += count;
            if first.range.is_empty() {
                line.pop_front();
            }
            if line.is_empty() {
                self.lines.remove(&key);
            }
            self.tasks -= count;
            self.cores -= part.cores();
            cores = cores.saturating_sub(part.cores());
            most -= count;
            taken.push(part);
        }
        taken
    }

    /// Takes the last tasks, up to so many cores: what is given back is what would have waited longest.
    pub(super) fn take_last(&mut self, mut cores: u64) -> Vec<WorkRange> {
        let mut all = self.take_all();
        let mut taken = Vec::new();
        while cores > 0 {
            let Some(last) = all.last_mut() else { break };
            let each = u64::from(last.work.resources.cores.max(1));
            let count = (cores / each).clamp(1, last.range.len());
            last.range.end -= count;
            let part = WorkRange { work: last.work, range: IndexRange::new(last.range.end, last.range.end + count) };
            if last.range.is_empty() {
                all.pop();
            }
            cores = cores.saturating_sub(part.cores());
            taken.push(part);
        }
        all.into_iter().for_each(|waiting| self.push_back(waiting));
        taken
    }

    /// Takes what waits of the given tasks.
    pub(super) fn take_range(&mut self, bundle: BundleId, range: IndexRange) -> Vec<WorkRange> {
        let all = self.take_all();
        let mut taken = Vec::new();
        for waiting in all {
            let overlap =
                IndexRange { start: waiting.range.start.max(range.start), end: waiting.range.end.min(range.end) };
            if waiting.work.bundle != bundle || overlap.start >= overlap.end {
                self.push_back(waiting);
                continue;
            }
            for (start, end) in [(waiting.range.start, overlap.start), (overlap.end, waiting.range.end)] {
                if start < end {
                    self.push_back(WorkRange { work: waiting.work, range: IndexRange::new(start, end) });
                }
            }
            taken.push(WorkRange { work: waiting.work, range: overlap });
        }
        taken
    }

    /// Takes everything, in order.
    pub(super) fn take_all(&mut self) -> Vec<WorkRange> {
        let mut all: Vec<(i64, WorkRange)> = std::mem::take(&mut self.lines).into_values().flatten().collect();
        all.sort_by_key(|(order, _)| *order);
        (self.tasks, self.cores) = (0, 0);
        all.into_iter().map(|(_, waiting)| waiting).collect()
    }

    /// Everything, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = WorkRange> + '_ {
        self.lines.values().flatten().map(|(_, waiting)| *waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64, cores: u32, avoid: Option<NodeId>) -> WorkRange {
        let resources = Resources { cores, gpus: 0 };
        let work = Work { bundle: BundleId(0), resources, retries: 0, attempt: 0, crashes: 0, avoid };
        WorkRange { work, range: IndexRange::new(start, end) }
    }

    #[test]
    fn tasks_leave_in_order_and_returned_ones_go_first() {
        let mut pool = Pool::default();
        pool.push_back(range(10, 20, 1, None));
        pool.push_front(range(5, 10, 1, None));
        assert_eq!(pool.take(7, u64::MAX, |_, _| true), vec![range(5, 12, 1, None)]);
        assert_eq!(pool.tasks(), 8);
    }

    #[test]
    fn a_task_that_avoids_a_node_lets_others_pass() {
        let mut pool = Pool::default();
        pool.push_back(range(0, 1, 1, Some(NodeId(3))));
        pool.push_back(range(1, 3, 1, None));
        let not_node_3 = |_: Resources, avoid: Option<NodeId>| avoid != Some(NodeId(3));
        assert_eq!(pool.take(1, u64::MAX, not_node_3), vec![range(1, 2, 1, None)]);
        assert_eq!(pool.take(1, u64::MAX, |_, _| true), vec![range(0, 1, 1, Some(NodeId(3)))]);
    }

    #[test]
    fn cancelled_tasks_leave_and_the_others_keep_their_order() {
        let mut pool = Pool::default();
        pool.push_back(range(0, 10, 1, None));
        assert_eq!(pool.take_range(BundleId(0), IndexRange::new(3, 5)), vec![range(3, 5, 1, None)]);
        assert_eq!(pool.take(100, u64::MAX, |_, _| true), vec![range(0, 3, 1, None), range(5, 10, 1, None)]);
        assert!(pool.is_empty() && pool.cores() == 0);
    }
}
