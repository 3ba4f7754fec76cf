//! What the tasks of a batch left behind, read from the memory that a call process shares with its rank.

use super::super::slots::{Batch, FailedCall, OkCalls, unix_us};
use super::area::Area;
use super::wire::Record;
use crate::task::{IndexRange, PackedCalls, Status};
use std::time::Instant;

/// When an order began, and how much of its results was taken up.
pub(super) struct Reading {
    pub(super) unix_us: u64,
    pub(super) clock: Instant,
    tasks: u32,
    bytes: usize,
    ns: u64,
}

impl Reading {
    /// Of an order that begins now.
    pub(super) fn begin() -> Reading {
        Reading { unix_us: unix_us(), clock: Instant::now(), tasks: 0, bytes: 0, ns: 0 }
    }
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

    /// What was taken up by now, if there is any: the batch goes on.
    pub(super) fn part(&mut self) -> Option<Batch> {
        self.batch.ok.extend(self.open.take());
        if self.batch.ok.is_empty() && self.batch.failed.is_empty() {
            return None;
        }
        self.kept_bytes = 0;
        let next = Batch::new(self.batch.slot, self.batch.attempt);
        Some(Batch { is_over: false, ..std::mem::replace(&mut self.batch, next) })
    }

    /// The batch, which has ended but for this rest.
    pub(super) fn finish(mut self, rest: Option<IndexRange>) -> Batch {
        self.batch.ok.extend(self.open);
        self.batch.rest = rest;
        self.batch
    }

    /// Takes up the results of these tasks, the first of an order, but for what was taken up before: `results` are those of
    /// the order from its beginning. Returns how many could be read by now: all, unless the results are damaged.
    pub(super) fn take(&mut self, results: &[u8], range: IndexRange, reading: &mut Reading) -> u32 {
        // There were more when they were looked at last: that is damage too.
        let Some(mut left) = results.get(reading.bytes..) else { return reading.tasks };
        loop {
            let index = range.start + u64::from(reading.tasks);
            if index >= range.end {
                break;
            }
            if !self.records && left.is_empty() {
                self.ok(IndexRange::new(index, range.end), reading.unix_us);
                reading.tasks = range.len() as u32;
                break;
            }
            let Ok(Record { duration_ns, value, failure }) = Record::take(&mut left) else { break };
            if let Some(failure) = failure {
                let failed = range.start + u64::from(failure.place);
                if failed < index || failed >= range.end || (self.records && failed != index) {
                    break;
                }
                self.ok(IndexRange::new(index, failed), reading.unix_us);
                self.failed(FailedCall {
                    index: failed,
                    status: failure.status,
                    started_unix_us: reading.unix_us.saturating_add(failure.start_ns / 1000),
                    duration_us: duration_ns / 1000,
                    value: value.to_vec(),
                });
                reading.tasks = failure.place + 1;
            } else if self.records {
                self.ok(IndexRange::one(index), reading.unix_us + reading.ns / 1000);
                if let Some(open) = &mut self.open {
                    open.calls.push(duration_ns, value);
                }
                self.kept_bytes += value.len();
                reading.tasks += 1;
            } else {
                break;
            }
            reading.ns += duration_ns;
            reading.bytes = results.len() - left.len();
        }
        reading.tasks
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
    pub(super) fn fail(&mut self, index: u64, status: Status, text: &str, area: &Area, began: &Reading) {
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
        Leavings::new(Batch::new(0, 1), records)
    }

    fn began() -> Reading {
        Reading { unix_us: 1_000_000, ..Reading::begin() }
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
        assert_eq!(left.take(&results, IndexRange::new(10, 14), &mut began()), 4);
        assert_eq!(left.take(&ended_well(b"e"), IndexRange::new(14, 15), &mut began()), 1);
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
    fn what_was_taken_up_and_told_before_the_end_of_an_order_is_not_taken_again() {
        for records in [true, false] {
            let results = match records {
                true => [ended_well(b"a"), failed(1), ended_well(b"c"), ended_well(b"d"), failed(4)].concat(),
                false => [failed(1), failed(4)].concat(),
            };
            let whole = |tasks: u64| IndexRange::new(10, 10 + tasks);
            let (mut left, mut reading) = (leavings(records), began());
            assert!(left.part().is_none(), "nothing has ended");
            // What is there when two, three and all five have ended.
            let [two, three] = match records {
                true => [2, 3].map(|tasks| {
                    let mut rest = &results[..];
                    (0..tasks).for_each(|_| drop(Record::take(&mut rest).unwrap()));
                    results.len() - rest.len()
                }),
                false => [failed(1).len(); 2],
            };
            let mut seen = Vec::new();
            for (bytes, tasks, ok, failed) in
                [(two, 2, vec![10], vec![11]), (three, 3, vec![12], vec![]), (results.len(), 5, vec![13], vec![14])]
            {
                assert_eq!(u64::from(left.take(&results[..bytes], whole(tasks), &mut reading)), tasks);
                let part = left.part().expect("something has ended");
                assert!(!part.is_over);
                assert_eq!(indexes(&part), (ok, failed));
                seen.extend(part.ok.iter().map(|run| run.started_unix_us));
            }
            let starts = if records { [1_000_000, 1_000_004, 1_000_006] } else { [1_000_000; 3] };
            assert_eq!(seen, starts);
            let last = left.finish(None);
            assert!(last.is_over && indexes(&last) == (vec![], vec![]));
        }
    }

    #[test]
    fn where_only_failures_are_recorded_the_others_ended_well() {
        let results = [failed(0), failed(3)].concat();
        let mut left = leavings(false);
        assert_eq!(left.take(&results, IndexRange::new(10, 15), &mut began()), 5);
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
            assert_eq!(left.take(&results, IndexRange::new(10, 15), &mut began()), read, "{results:?}");
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
            let read = left.take(&results, IndexRange::new(7, 7 + tasks), &mut began());
            let (mut all, failed) = indexes(&left.finish(None));
            all.extend(failed);
            all.sort_unstable();
            prop_assert_eq!(all, (7..7 + u64::from(read)).collect::<Vec<_>>());
        }
    }
}
