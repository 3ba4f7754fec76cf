//! What the tasks of a batch left behind, read from the memory that a call process shares with its rank.

use super::super::slots::{Batch, FailedCall, OkCalls};
use super::area::Area;
use super::wire::Record;
use crate::task::{IndexRange, PackedCalls, Status};
use std::time::Instant;

/// When an order began.
pub(super) struct Began {
    pub(super) unix_us: u64,
    pub(super) clock: Instant,
}

/// What a batch leaves behind.
pub(super) struct Leavings {
    batch: Batch,
    /// Tasks that ended well, the last of them just now.
    open: Option<OkCalls>,
    pub(super) kept_bytes: usize,
    /// Each task has a record.
    records: bool,
}

impl Leavings {
    /// Nothing yet. `records`: each task has a record.
    pub(super) fn new(batch: Batch, records: bool) -> Leavings {
        Leavings { batch, open: None, kept_bytes: 0, records }
    }

    /// The batch, which has ended but for this rest.
    pub(super) fn finish(mut self, rest: Option<IndexRange>) -> Batch {
        self.batch.ok.extend(self.open);
        self.batch.rest = rest;
        self.batch
    }

    /// Takes up the results of these tasks. Returns how many could be read: all, unless the results are damaged.
    pub(super) fn take(&mut self, mut results: &[u8], range: IndexRange, began: &Began) -> u32 {
        let (mut index, mut clock_ns) = (range.start, 0);
        let read = |index: u64| (index - range.start) as u32;
        while index < range.end {
            if !self.records && results.is_empty() {
                self.ok(IndexRange::new(index, range.end), began.unix_us);
                return read(range.end);
            }
            let Ok(Record { duration_ns, value, failure }) = Record::take(&mut results) else { break };
            let Some(failure) = failure else {
                if !self.records {
                    break;
                }
                self.ok(IndexRange::one(index), began.unix_us + clock_ns / 1000);
                if let Some(open) = &mut self.open {
                    open.calls.push(duration_ns, value);
                }
                self.kept_bytes += value.len();
                clock_ns += duration_ns;
                index += 1;
                continue;
            };
            let failed = range.start + u64::from(failure.place);
            if failed < index || failed >= range.end || (self.records && failed != index) {
                break;
            }
            self.ok(IndexRange::new(index, failed), began.unix_us);
            let started_unix_us = began.unix_us.saturating_add(failure.start_ns / 1000);
            self.failed(FailedCall {
                index: failed,
                status: failure.status,
                started_unix_us,
                duration_us: duration_ns / 1000,
                value: value.to_vec(),
            });
            clock_ns += duration_ns;
            index = failed + 1;
        }
        read(index)
    }

    /// These tasks ended well.
    fn ok(&mut self, range: IndexRange, started_unix_us: u64) {
        if range.is_empty() {
            return;
        }
        let open = self.open.get_or_insert_with(|| OkCalls {
            range: IndexRange::new(range.start, range.start),
            started_unix_us,
            calls: PackedCalls::default(),
        });
        open.range.end = range.end;
    }

    fn failed(&mut self, failed: FailedCall) {
        self.batch.ok.extend(self.open.take());
        self.kept_bytes += size_of::<FailedCall>() + failed.value.len();
        self.batch.failed.push(failed);
    }

    /// This task failed and could not say so itself.
    pub(super) fn fail(&mut self, index: u64, status: Status, text: &str, area: &Area, began: &Began) {
        let took_us = began.clock.elapsed().as_micros() as u64;
        let start_us = (area.last_start() / 1000).min(took_us);
        self.failed(FailedCall {
            index,
            status,
            started_unix_us: began.unix_us + start_us,
            duration_us: took_us - start_us,
            value: text.as_bytes().to_vec(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Failure;
    use super::*;
    use crate::task::take_call;
    use proptest::prelude::*;

    fn leavings(records: bool) -> Leavings {
        let batch = Batch { slot: 0, attempt: 1, ok: Vec::new(), failed: Vec::new(), rest: None };
        Leavings::new(batch, records)
    }

    fn began() -> Began {
        Began { unix_us: 1_000_000, clock: Instant::now() }
    }

    fn ended_well(value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Record { duration_ns: 2_000, value, failure: None }.put(&mut bytes);
        bytes
    }

    fn failed(place: u32) -> Vec<u8> {
        let failure = Some(Failure { place, start_ns: 5_000, status: Status::Exit(3) });
        let mut bytes = Vec::new();
        Record { duration_ns: 2_000, value: b"no", failure }.put(&mut bytes);
        bytes
    }

    fn indexes(batch: &Batch) -> (Vec<u64>, Vec<u64>) {
        let ok = batch.ok.iter().flat_map(|run| run.range.start..run.range.end).collect();
        (ok, batch.failed.iter().map(|failed| failed.index).collect())
    }

    #[test]
    fn tasks_are_recorded_in_order_with_their_values_and_starts() {
        let results = [ended_well(b"a"), ended_well(b""), failed(2), ended_well(b"d")].concat();
        let mut left = leavings(true);
        assert_eq!(left.take(&results, IndexRange::new(10, 14), &began()), 4);
        assert_eq!(left.take(&ended_well(b"e"), IndexRange::new(14, 15), &began()), 1);
        let batch = left.finish(None);
        assert_eq!(indexes(&batch), (vec![10, 11, 13, 14], vec![12]));
        assert_eq!(batch.ok.len(), 2, "one run before the failure, and one behind it");
        assert_eq!((batch.failed[0].started_unix_us, batch.failed[0].duration_us), (1_000_005, 2));
        assert_eq!(batch.ok[1].started_unix_us, 1_000_006);
        let mut packed = batch.ok[1].calls.bytes();
        let values: Vec<_> = std::iter::from_fn(|| take_call(&mut packed)).map(|call| call.value.to_vec()).collect();
        assert_eq!(values, [b"d", b"e"]);
    }

    #[test]
    fn where_only_failures_are_recorded_the_others_ended_well() {
        let results = [failed(0), failed(3)].concat();
        let mut left = leavings(false);
        assert_eq!(left.take(&results, IndexRange::new(10, 15), &began()), 5);
        assert_eq!(indexes(&left.finish(None)), (vec![11, 12, 14], vec![10, 13]));
    }

    #[test]
    fn what_does_not_fit_the_order_ends_the_reading_and_all_before_it_counts() {
        let cut_off = &ended_well(b"value")[..3];
        for (records, results, read) in [
            (true, [&ended_well(b"a")[..], cut_off].concat(), 1),
            (true, ended_well(b"too few"), 1),
            (true, [ended_well(b"a"), failed(3)].concat(), 1),
            (false, ended_well(b"not to be recorded"), 0),
            (false, [failed(2), failed(2)].concat(), 3),
            (false, [failed(2), failed(1)].concat(), 3),
            (false, failed(5), 0),
        ] {
            let mut left = leavings(records);
            assert_eq!(left.take(&results, IndexRange::new(10, 15), &began()), read, "{results:?}");
            let (ok, failed) = indexes(&left.finish(None));
            assert_eq!((ok.len() + failed.len()) as u32, read);
        }
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_each_task_counts_once(
            results in prop::collection::vec(prop_oneof![0..6u8, Just(0xa7), any::<u8>()], 0..200),
            records in any::<bool>(),
            tasks in 0..50u64,
        ) {
            let mut left = leavings(records);
            let read = left.take(&results, IndexRange::new(7, 7 + tasks), &began());
            let (mut all, failed) = indexes(&left.finish(None));
            all.extend(failed);
            all.sort_unstable();
            prop_assert_eq!(all, (7..7 + u64::from(read)).collect::<Vec<_>>());
        }
    }
}
