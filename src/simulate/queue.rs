//! What happens when: events in the order of their times, and of those at one moment in the order in which they were added.
//!
//! Of half a million slots as many events are to come at any moment, far more than a processor's cache holds: in one heap each
//! costs a miss for every level. So what comes soon lies in buckets of a few microseconds (a calendar queue: Brown,
//! Communications of the ACM, 1988), and only the events of one bucket are put in order.

use super::Nanos;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A bucket's time is two to the power of this, in nanoseconds; with so many of them the tasks of tens of milliseconds fit.
const BUCKET_BITS: u32 = 12;
const BUCKETS: usize = 8192;

struct Entry<E> {
    at: Nanos,
    sequence: u64,
    event: E,
}

impl<E> Entry<E> {
    fn key(&self) -> (Nanos, u64) {
        (self.at, self.sequence)
    }

    /// The number of its bucket, from the beginning of time.
    fn bucket(&self) -> u64 {
        self.at >> BUCKET_BITS
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// Events that are still to come.
pub(super) struct Queue<E> {
    /// Those before bucket `next`.
    near: BinaryHeap<Reverse<Entry<E>>>,
    next: u64,
    /// Those of the buckets from `next` on, by number modulo how many there are; how many events they hold together.
    buckets: Vec<Vec<Reverse<Entry<E>>>>,
    in_buckets: usize,
    /// Those that were too far away for a bucket when they were added.
    far: BinaryHeap<Reverse<Entry<E>>>,
    sequence: u64,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        let buckets = (0..BUCKETS).map(|_| Vec::new()).collect();
        Self { near: BinaryHeap::new(), next: 0, buckets, in_buckets: 0, far: BinaryHeap::new(), sequence: 0 }
    }

    pub(super) fn push(&mut self, at: Nanos, event: E) {
        self.sequence += 1;
        let entry = Entry { at, sequence: self.sequence, event };
        let bucket = entry.bucket();
        if bucket < self.next {
            self.near.push(Reverse(entry));
        } else if bucket - self.next < BUCKETS as u64 {
            self.buckets[bucket as usize % BUCKETS].push(Reverse(entry));
            self.in_buckets += 1;
        } else {
            self.far.push(Reverse(entry));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.near.is_empty() && self.in_buckets == 0 && self.far.is_empty()
    }

    /// The next event and its time.
    pub(super) fn pop(&mut self) -> Option<(Nanos, E)> {
        loop {
            if let Some(Reverse(entry)) = self.near.pop() {
                return Some((entry.at, entry.event));
            }
            if self.in_buckets == 0 {
                // Nothing is to be found bucket by bucket.
                self.next = self.far.peek()?.0.bucket();
            }
            self.open_next();
        }
    }

    /// Puts the events of the next bucket in order.
    fn open_next(&mut self) {
        let emptied = std::mem::take(&mut self.near).into_vec();
        let bucket = std::mem::replace(&mut self.buckets[self.next as usize % BUCKETS], emptied);
        self.in_buckets -= bucket.len();
        self.near = BinaryHeap::from(bucket);
        while self.far.peek().is_some_and(|Reverse(entry)| entry.bucket() <= self.next) {
            self.near.extend(self.far.pop());
        }
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn events_come_in_the_order_of_their_times_then_as_they_were_added() {
        let mut queue = Queue::new();
        [(5, 'b'), (3, 'a'), (5, 'c'), (9, 'd')].into_iter().for_each(|(at, event)| queue.push(at, event));
        let all: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(all, [(3, 'a'), (5, 'b'), (5, 'c'), (9, 'd')]);
        assert!(queue.is_empty());
    }

    proptest! {
        #[test]
        fn near_and_far_ones_come_as_out_of_one_heap(
            steps in prop::collection::vec(
                (prop_oneof![0..100_u64, 0..100_000_u64, 0..1_u64 << 26, 0..1_u64 << 40], 0..3_u8),
                1..300,
            )
        ) {
            let (mut queue, mut model, mut now) = (Queue::new(), BinaryHeap::new(), 0);
            for (number, (after, pops)) in steps.into_iter().enumerate() {
                queue.push(now + after, number);
                model.push(Reverse((now + after, number)));
                for _ in 0..pops {
                    let expected = model.pop().map(|Reverse(next)| next);
                    prop_assert_eq!(queue.pop(), expected);
                    now = expected.map_or(now, |(at, _)| at);
                }
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
            while let Some(Reverse(next)) = model.pop() {
                prop_assert_eq!(queue.pop(), Some(next));
            }
            prop_assert_eq!(queue.pop(), None);
        }
    }
}
