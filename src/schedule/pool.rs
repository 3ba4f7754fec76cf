//! Work that waits at a parent, in order, and how a child is picked its share.

use super::message::{Amount, Work, WorkRange};
use crate::task::{BundleId, IndexRange, NodeId, Resources};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What the tasks of a line have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// What each takes.
    pub(super) shape: Resources,
    /// The node that they avoid.
    pub(super) avoid: Option<NodeId>,
    /// They are functions, and may have taken a rank with them.
    pub(super) crashed: bool,
    /// They run apart from each other.
    pub(super) apart: bool,
}

impl Kind {
    /// Before all others in order.
    const FIRST: Kind = Kind { shape: Resources { cores: 0, gpus: 0 }, avoid: None, crashed: false, apart: false };
}

/// Ranges, each with its place in the order of all.
type Line = VecDeque<(i64, WorkRange)>;

/// How much may be taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) tasks: u64,
    pub(super) cores: u64,
    pub(super) gpus: u64,
    /// Of tasks that run apart.
    pub(super) apart: u64,
}

impl Share {
    /// How many tasks of this kind it has room for: at least one while none of what they take is used up.
    fn room_for(&self, kind: Kind) -> u64 {
        let each = kind.shape;
        let room = |have: u64, need: u32| match need {
            0 => u64::MAX,
            _ if have == 0 => 0,
            need => (have / u64::from(need)).max(1),
        };
        let tasks = if kind.apart { self.tasks.min(self.apart) } else { self.tasks };
        tasks.min(room(self.cores, each.cores.max(1))).min(room(self.gpus, each.gpus))
    }

    fn use_up(&mut self, part: Amount) {
        self.tasks -= part.tasks;
        self.cores = self.cores.saturating_sub(part.cores);
        self.gpus = self.gpus.saturating_sub(part.gpus);
        self.apart = self.apart.saturating_sub(part.apart);
    }
}

/// Work that waits. Tasks of one shape that avoid the same node stand in one line, and the lines' heads in order: the
/// next task for a child is found by passing over no more than the lines that do not fit it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    lines: BTreeMap<Kind, Line>,
    heads: BTreeSet<(i64, Kind)>,
    front: i64,
    back: i64,
    amount: Amount,
}

impl Pool {
    /// All of it.
    pub(super) fn amount(&self) -> Amount {
        self.amount
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What the first of it have in common.
    pub(super) fn first(&self) -> Option<Work> {
        let (_, key) = self.heads.first()?;
        self.lines[key].front().map(|(_, given)| given.work)
    }

    /// Ranges that wait: what the pool costs.
    pub(super) fn ranges(&self) -> usize {
        self.lines.values().map(VecDeque::len).sum()
    }

    /// Puts work behind all that waits.
    pub(super) fn push_back(&mut self, given: WorkRange) {
        self.amount += given.amount();
        let key = Self::key(&given.work);
        let line = self.lines.entry(key).or_default();
        if let Some((_, last)) = line.back_mut()
            && last.work == given.work
            && last.range.end == given.range.start
        {
            last.range.end = given.range.end;
            return;
        }
        self.back += 1;
        if line.is_empty() {
            self.heads.insert((self.back, key));
        }
        line.push_back((self.back, given));
    }

    /// Puts work before all that waits: it waited before.
    pub(super) fn push_front(&mut self, given: WorkRange) {
        self.amount += given.amount();
        let key = Self::key(&given.work);
        let line = self.lines.entry(key).or_default();
        if let Some((order, first)) = line.front_mut() {
            if first.work == given.work && given.range.end == first.range.start {
                first.range.start = given.range.start;
                return;
            }
            self.heads.remove(&(*order, key));
        }
        self.front -= 1;
        self.heads.insert((self.front, key));
        line.push_front((self.front, given));
    }

    fn key(work: &Work) -> Kind {
        Kind { shape: work.resources, avoid: work.avoid, crashed: work.calls && work.crashes > 0, apart: work.apart }
    }

    /// Takes the next tasks in order, as many as there is room for, of the kinds that `fits` admits.
    pub(super) fn take(&mut self, mut share: Share, fits: impl Fn(Kind) -> bool) -> Vec<WorkRange> {
        let mut taken = Vec::new();
        // What was passed over does not fit later either: the share only shrinks.
        let mut from = i64::MIN;
        loop {
            let fit = |(_, kind): &&(i64, Kind)| share.room_for(*kind) > 0 && fits(*kind);
            let Some(&(order, key)) = self.heads.range((from, Kind::FIRST)..).find(fit) else { break };
            let line = self.lines.get_mut(&key).expect("a head belongs to a line");
            let (_, first) = line.front_mut().expect("a line is not empty");
            let end = first.range.start + share.room_for(key).min(first.range.len());
            let part = WorkRange { work: first.work, range: IndexRange::new(first.range.start, end) };
            first.range.start = end;
            if first.range.is_empty() {
                line.pop_front();
                self.heads.remove(&(order, key));
                match line.front() {
                    Some((next, _)) => drop(self.heads.insert((*next, key))),
                    None => drop(self.lines.remove(&key)),
                }
            }
            self.amount -= part.amount();
            share.use_up(part.amount());
            taken.push(part);
            if share.tasks == 0 || share.cores == 0 {
                break;
            }
            from = order;
        }
        taken
    }

    /// As [`take`](Self::take), but from the end: the last that is admitted first.
    pub(super) fn take_from_end(&mut self, mut share: Share, fits: impl Fn(Kind) -> bool) -> Vec<WorkRange> {
        let mut taken = Vec::new();
        while share.tasks > 0 && share.cores > 0 {
            let fit = |kind: &Kind| share.room_for(*kind) > 0 && fits(*kind);
            let Some(key) = self.last_line(fit) else { break };
            let part = self.take_back(key, share.room_for(key).saturating_mul(u64::from(key.shape.cores.max(1))));
            share.use_up(part.amount());
            taken.push(part);
        }
        taken
    }

    /// Which of these lines goes on longest.
    fn last_line(&self, fits: impl Fn(&Kind) -> bool) -> Option<Kind> {
        let lines = self.lines.iter().filter(|(key, _)| fits(key));
        lines.max_by_key(|(_, line)| line.back().map(|(order, _)| *order)).map(|(key, _)| *key)
    }

    /// Takes the last tasks of a line, up to so many cores.
    fn take_back(&mut self, key: Kind, cores: u64) -> WorkRange {
        let line = self.lines.get_mut(&key).expect("the line was just found");
        let (order, last) = line.back_mut().expect("a line is not empty");
        let order = *order;
        let part = last.split_last(cores);
        if last.range.is_empty() {
            line.pop_back();
            if line.is_empty() {
                self.heads.remove(&(order, key));
                self.lines.remove(&key);
            }
        }
        self.amount -= part.amount();
        part
    }

    /// Takes the last tasks, up to so many cores (at least one task when `cores > 0`): what is given back is what would
    /// have waited longest. Tasks that take GPUs stay unless `gpus` is set.
    pub(super) fn take_last(&mut self, mut cores: u64, gpus: bool) -> Vec<WorkRange> {
        let mut taken = Vec::new();
        while cores > 0 {
            let Some(key) = self.last_line(|kind| gpus || kind.shape.gpus == 0) else { break };
            let part = self.take_back(key, cores);
            cores = cores.saturating_sub(part.cores());
            taken.push(part);
        }
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
        let mut all: Vec<(i64, WorkRange)> = std::mem::take(self).lines.into_values().flatten().collect();
        all.sort_by_key(|(order, _)| *order);
        all.into_iter().map(|(_, waiting)| waiting).collect()
    }

    /// Everything, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = WorkRange> + '_ {
        self.lines.values().flatten().map(|(_, waiting)| *waiting)
    }

    /// Checks its accounts.
    pub(super) fn check(&self) -> Result<(), String> {
        let amount: Amount = self.iter().map(|waiting| waiting.amount()).sum();
        if amount != self.amount {
            return Err(format!("{:?} counted, {amount:?} wait", self.amount));
        }
        let heads = self.lines.iter().map(|(key, line)| line.front().map(|(order, _)| (*order, *key)));
        if heads.collect::<Option<BTreeSet<_>>>().as_ref() != Some(&self.heads) {
            return Err("the heads are not those of the lines".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64, resources: Resources, avoid: Option<NodeId>) -> WorkRange {
        let work = Work {
            bundle: BundleId(0),
            resources,
            retries: 0,
            calls: false,
            attempt: 0,
            crashes: 0,
            apart: false,
            avoid,
        };
        WorkRange { work, range: IndexRange::new(start, end) }
    }

    fn plain(start: u64, end: u64) -> WorkRange {
        range(start, end, Resources::ONE_CORE, None)
    }

    #[test]
    fn from_the_end_the_last_that_fits_is_taken_first() {
        let two = Resources { cores: 2, gpus: 0 };
        let mut pool = Pool::default();
        for given in [plain(0, 10), range(10, 20, two, None), plain(20, 22), range(22, 24, two, Some(NodeId(3)))] {
            pool.push_back(given);
        }
        let elsewhere = |kind: Kind| kind.avoid != Some(NodeId(3));
        let taken = pool.take_from_end(Share { tasks: 9, cores: 6, gpus: 0, apart: 0 }, elsewhere);
        let ranges: Vec<_> = taken.iter().map(|given| (given.range.start, given.range.end)).collect();
        assert_eq!(ranges, [(20, 22), (18, 20)]);
        pool.check().expect("its accounts are right");
        assert_eq!(pool.take_from_end(ALL, elsewhere).iter().map(|given| given.range.len()).sum::<u64>(), 18);
        pool.check().expect("its accounts are right");
        assert_eq!(pool.amount().tasks, 2);
    }

    const ALL: Share = Share { tasks: u64::MAX, cores: u64::MAX, gpus: u64::MAX, apart: u64::MAX };

    fn cores(cores: u64) -> Share {
        Share { cores, ..ALL }
    }

    #[test]
    fn tasks_leave_in_order_and_returned_ones_go_first() {
        let mut pool = Pool::default();
        pool.push_back(plain(10, 20));
        pool.push_front(plain(5, 10));
        assert_eq!(pool.take(cores(7), |_| true), vec![plain(5, 12)]);
        assert_eq!(pool.amount().tasks, 8);
    }

    #[test]
    fn a_task_that_avoids_a_node_lets_others_pass() {
        let mut pool = Pool::default();
        let picky = range(0, 1, Resources::ONE_CORE, Some(NodeId(3)));
        pool.push_back(picky);
        pool.push_back(plain(1, 3));
        let not_node_3 = |kind: Kind| kind.avoid != Some(NodeId(3));
        assert_eq!(pool.take(cores(1), not_node_3), vec![plain(1, 2)]);
        assert_eq!(pool.take(cores(1), |_| true), vec![picky]);
        pool.check().unwrap();
    }

    #[test]
    fn tasks_for_gpus_leave_as_there_are_gpus_and_let_others_pass() {
        let mut pool = Pool::default();
        let gpu = Resources { cores: 1, gpus: 1 };
        pool.push_back(range(0, 10, gpu, None));
        pool.push_back(plain(10, 20));
        let share = Share { gpus: 4, cores: 8, ..ALL };
        assert_eq!(pool.take(share, |_| true), vec![range(0, 4, gpu, None), plain(10, 14)]);
        let without = Share { gpus: 0, ..share };
        assert_eq!(pool.take(without, |_| true), vec![plain(14, 20)]);
        pool.check().unwrap();
    }

    #[test]
    fn tasks_that_run_apart_leave_one_by_one_and_let_others_pass() {
        let mut pool = Pool::default();
        let mut suspects = plain(0, 10);
        suspects.work.apart = true;
        pool.push_back(suspects);
        pool.push_back(plain(10, 20));
        let one = Share { cores: 4, apart: 1, ..ALL };
        let first = WorkRange { range: IndexRange::one(0), ..suspects };
        assert_eq!(pool.take(one, |_| true), vec![first, plain(10, 13)]);
        assert_eq!(pool.take(Share { apart: 0, ..one }, |_| true), vec![plain(13, 17)]);
        assert_eq!(pool.amount().apart, 9);
        pool.check().unwrap();
    }

    #[test]
    fn the_last_leave_from_the_far_end() {
        let mut pool = Pool::default();
        pool.push_back(plain(0, 4));
        let wide = range(4, 6, Resources { cores: 4, gpus: 0 }, None);
        pool.push_back(wide);
        assert_eq!(pool.take_last(5, true).len(), 2);
        pool.check().unwrap();
        assert_eq!(pool.take_last(2, true), vec![plain(2, 4)]);
        assert_eq!(pool.take_last(9, false), vec![plain(0, 2)]);
        assert!(pool.is_empty());
        pool.check().unwrap();
    }

    #[test]
    fn cancelled_tasks_leave_and_the_others_keep_their_order() {
        let mut pool = Pool::default();
        pool.push_back(plain(0, 10));
        assert_eq!(pool.take_range(BundleId(0), IndexRange::new(3, 5)), vec![plain(3, 5)]);
        assert_eq!(pool.take(ALL, |_| true), vec![plain(0, 3), plain(5, 10)]);
        assert!(pool.is_empty() && pool.amount() == Amount::default());
    }
}
