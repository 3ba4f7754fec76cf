//! The bytes between a rank and its call processes. Both are the same program on the same machine; but a function may have
//! written anywhere, so whatever comes back is checked.
//!
//! An order is a fixed head, the processing units of its tasks, and for each task the number of its function (u32, or
//! `NONE`), its index (u64), the length of its payload (u32, or `SAME` where it is that of the task before) and the payload. Results are records, for each task in
//! order where all are recorded and else for those that failed: a byte `MARK`; `duration in ns × 4 + 2 (it failed) + 1 (it
//! has a value)` as LEB128; where it failed its place in the order and its start, the same way, and its status; the value's length,
//! the same way, and the value. A notice has five bytes.

use super::super::function::MAX_VALUE_BYTES;
use super::super::slots::Recording;
use crate::execute::SlotCores;
use crate::execute::wire::Damaged;
use crate::task::{Status, put_number, take_number};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Longest text of a status.
const MAX_TEXT_BYTES: usize = 4096;
/// More than any record takes.
pub(super) const MAX_RECORD_BYTES: usize = MAX_VALUE_BYTES + MAX_TEXT_BYTES + 128;

/// What a call process is told first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setup {
    /// Functions by their names; tasks name them by their numbers here.
    pub(super) functions: Vec<String>,
    /// The slot, unique on the node.
    pub(super) slot: u32,
    /// What it binds itself to.
    pub(super) units: SlotCores,
    pub(super) recording: Recording,
}

/// Stands for a function that there is not.
const NONE: u32 = u32::MAX;
/// Stands for the length of a payload that is that of the task before.
const SAME: u32 = u32::MAX;

/// Writes an order, task by task.
#[derive(Debug, Default)]
pub(super) struct OrderWriter {
    bytes: Vec<u8>,
    tasks: u32,
    /// Where the payload of the last task lies.
    last: Range<usize>,
}

impl OrderWriter {
    /// Begins anew. `number`: what the notice of its end says. `units`: what its tasks are bound to, where that is not the
    /// slot's own.
    pub(super) fn begin(&mut self, number: u32, attempt: u32, cores: u32, units: Option<&[u32]>) {
        self.bytes.clear();
        (self.tasks, self.last) = (0, 0..0);
        self.bytes.resize(OrderHead::BYTES - 16, 0);
        for number in [number, attempt, cores, units.unwrap_or_default().len() as u32] {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        units.unwrap_or_default().iter().for_each(|unit| self.bytes.extend_from_slice(&unit.to_le_bytes()));
    }

    /// Adds a task.
    pub(super) fn push(&mut self, function: Option<u32>, index: u64, payload: &[u8]) {
        self.bytes.extend_from_slice(&function.unwrap_or(NONE).to_le_bytes());
        self.bytes.extend_from_slice(&index.to_le_bytes());
        if !payload.is_empty() && self.bytes[self.last.clone()] == *payload {
            self.bytes.extend_from_slice(&SAME.to_le_bytes());
        } else {
            self.bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            self.bytes.extend_from_slice(payload);
            self.last = self.bytes.len() - payload.len()..self.bytes.len();
        }
        self.tasks += 1;
    }

    pub(super) fn tasks(&self) -> u32 {
        self.tasks
    }

    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The whole order.
    pub(super) fn finish(&mut self) -> &[u8] {
        let body = (self.bytes.len() - OrderHead::BYTES) as u64;
        self.bytes[..8].copy_from_slice(&body.to_le_bytes());
        self.bytes[8..12].copy_from_slice(&self.tasks.to_le_bytes());
        &self.bytes
    }
}

/// The beginning of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OrderHead {
    /// Bytes that follow.
    pub(super) body: u64,
    pub(super) tasks: u32,
    pub(super) number: u32,
    pub(super) attempt: u32,
    pub(super) cores: u32,
    units: u32,
}

impl OrderHead {
    pub(super) const BYTES: usize = 28;

    pub(super) fn read(bytes: &[u8; Self::BYTES]) -> OrderHead {
        let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let body = u64::from(number(0)) | u64::from(number(4)) << 32;
        let (tasks, attempt, cores, units) = (number(8), number(16), number(20), number(24));
        OrderHead { body, tasks, number: number(12), attempt, cores, units }
    }

    /// The units that its tasks are bound to, and the tasks.
    pub(super) fn split(self, body: &[u8]) -> Result<(SlotCores, OrderTasks<'_>), Damaged> {
        let (units, tasks) = body.split_at_checked(self.units as usize * 4).ok_or(Damaged)?;
        let unit = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).map_err(|_| Damaged);
        let units: Vec<u32> = units.chunks_exact(4).map(unit).collect::<Result<_, _>>()?;
        Ok(((!units.is_empty()).then_some(units), OrderTasks { bytes: tasks, last: &[] }))
    }
}

/// The tasks of an order, one after the other.
pub(super) struct OrderTasks<'a> {
    bytes: &'a [u8],
    last: &'a [u8],
}

impl<'a> OrderTasks<'a> {
    /// Number of the function, index and payload of the next.
    pub(super) fn take(&mut self) -> Result<(u32, u64, &'a [u8]), Damaged> {
        let (function, rest) = self.bytes.split_first_chunk().ok_or(Damaged)?;
        let (index, rest) = rest.split_first_chunk().ok_or(Damaged)?;
        let (length, rest) = rest.split_first_chunk().ok_or(Damaged)?;
        let length = u32::from_le_bytes(*length);
        let own = if length == SAME { 0 } else { length as usize };
        let (payload, rest) = rest.split_at_checked(own).ok_or(Damaged)?;
        if length != SAME {
            self.last = payload;
        }
        self.bytes = rest;
        Ok((u32::from_le_bytes(*function), u64::from_le_bytes(*index), self.last))
    }
}

/// What a task left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) duration_ns: u64,
    pub(super) value: &'a [u8],
    /// Where it did not end well.
    pub(super) failure: Option<Failure>,
}

/// How a task failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// Its place in the order.
    pub(super) place: u32,
    /// From the start of the order.
    pub(super) start_ns: u64,
    /// A status, a panic, or why nothing was called.
    pub(super) status: Status,
}

/// Begins a record: what was written over, with zeros above all, is none.
const MARK: u8 = 0xa7;
const EXIT: u8 = 0;
const PANIC: u8 = 1;
const NOT_STARTED: u8 = 2;

impl<'a> Record<'a> {
    /// Appends it. Durations above 146 years are cut, texts and values at their limits.
    pub(super) fn put(&self, to: &mut Vec<u8>) {
        let value = &self.value[..self.value.len().min(MAX_VALUE_BYTES)];
        let duration_ns = self.duration_ns.min(u64::MAX >> 2);
        to.push(MARK);
        put_number(to, duration_ns << 2 | u64::from(self.failure.is_some()) << 1 | u64::from(!value.is_empty()));
        if let Some(Failure { place, start_ns, status }) = &self.failure {
            put_number(to, u64::from(*place));
            put_number(to, *start_ns);
            match status {
                Status::Exit(code) => {
                    to.push(EXIT);
                    to.extend_from_slice(&code.to_le_bytes());
                }
                other => {
                    let (kind, text) = match other {
                        Status::Panic(text) => (PANIC, text.clone()),
                        Status::NotStarted(why) => (NOT_STARTED, why.clone()),
                        other => (PANIC, other.to_string()),
                    };
                    let text = &text.as_bytes()[..text.floor_char_boundary(MAX_TEXT_BYTES)];
                    to.push(kind);
                    put_number(to, text.len() as u64);
                    to.extend_from_slice(text);
                }
            }
        }
        if !value.is_empty() {
            put_number(to, value.len() as u64);
            to.extend_from_slice(value);
        }
    }

    /// Takes one off the front.
    pub(super) fn take(bytes: &mut &'a [u8]) -> Result<Record<'a>, Damaged> {
        let (_, rest) = bytes.split_first().filter(|(mark, _)| **mark == MARK).ok_or(Damaged)?;
        *bytes = rest;
        let number = take_number(bytes).ok_or(Damaged)?;
        let failure = if number & 2 == 0 { None } else { Some(take_failure(bytes)?) };
        let value = if number & 1 == 0 { &[] } else { take_bytes(bytes, MAX_VALUE_BYTES)? };
        Ok(Record { duration_ns: number >> 2, value, failure })
    }
}

fn take_failure(bytes: &mut &[u8]) -> Result<Failure, Damaged> {
    let place = take_number(bytes).and_then(|place| u32::try_from(place).ok()).ok_or(Damaged)?;
    let start_ns = take_number(bytes).ok_or(Damaged)?;
    let (kind, rest) = bytes.split_first().ok_or(Damaged)?;
    *bytes = rest;
    let status = match *kind {
        EXIT => {
            let (code, rest) = bytes.split_first_chunk().ok_or(Damaged)?;
            *bytes = rest;
            // What ended well has not failed.
            Some(i32::from_le_bytes(*code)).filter(|code| *code != 0).map(Status::Exit).ok_or(Damaged)?
        }
        PANIC | NOT_STARTED => {
            let text = std::str::from_utf8(take_bytes(bytes, MAX_TEXT_BYTES)?).map_err(|_| Damaged)?.to_owned();
            if *kind == PANIC { Status::Panic(text) } else { Status::NotStarted(text) }
        }
        _ => return Err(Damaged),
    };
    Ok(Failure { place, start_ns, status })
}

/// A length and so many bytes.
fn take_bytes<'a>(bytes: &mut &'a [u8], most: usize) -> Result<&'a [u8], Damaged> {
    let length = take_number(bytes).and_then(|length| usize::try_from(length).ok()).ok_or(Damaged)?;
    let (taken, rest) = bytes.split_at_checked(length).filter(|_| length <= most).ok_or(Damaged)?;
    *bytes = rest;
    Ok(taken)
}

/// What a call process tells its rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// It has its function.
    Ready,
    /// It has none; so many bytes that say why follow. Each call fails.
    Unable(u32),
    /// The order of this number has ended: what is left of it was cut off, or had no room for its results.
    Done(u32),
    /// Of the spawner: the process has ended, with the status that `waitpid` gave.
    Ended(libc::c_int),
}

impl Notice {
    pub(super) const BYTES: usize = 5;
    /// Most bytes that say why there is no function.
    pub(super) const MAX_WHY_BYTES: usize = 64 << 10;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let (kind, number) = match self {
            Notice::Ready => (b'r', 0),
            Notice::Unable(length) => (b'u', length),
            Notice::Done(order) => (b'd', order),
            Notice::Ended(status) => (b'e', status.cast_unsigned()),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [kind, a, b, c, d]
    }

    /// The first of what has arrived; none while it is not all there.
    pub(super) fn take(arrived: &[u8]) -> Result<Option<Notice>, Damaged> {
        let Some((kind, rest)) = arrived.split_first() else { return Ok(None) };
        if !b"rude".contains(kind) {
            return Err(Damaged);
        }
        let Some(number) = rest.first_chunk() else { return Ok(None) };
        let number = u32::from_le_bytes(*number);
        match *kind {
            b'r' if number == 0 => Ok(Some(Notice::Ready)),
            b'd' => Ok(Some(Notice::Done(number))),
            b'e' => Ok(Some(Notice::Ended(number.cast_signed()))),
            b'u' if number as usize <= Self::MAX_WHY_BYTES => {
                let all = Self::BYTES + number as usize;
                Ok((arrived.len() >= all).then_some(Notice::Unable(number)))
            }
            _ => Err(Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn status() -> impl Strategy<Value = Status> {
        let code = any::<i32>().prop_filter("it failed", |code| *code != 0);
        let text = ".{0,60}";
        prop_oneof![code.prop_map(Status::Exit), text.prop_map(Status::Panic), text.prop_map(Status::NotStarted)]
    }

    fn failure() -> impl Strategy<Value = Failure> {
        (any::<u32>(), any::<u64>(), status()).prop_map(|(place, start_ns, status)| Failure { place, start_ns, status })
    }

    fn left() -> impl Strategy<Value = (u64, Vec<u8>, Option<Failure>)> {
        (0..u64::MAX >> 2, prop::collection::vec(any::<u8>(), 0..300), prop::option::of(failure()))
    }

    fn written(all: &[(u64, Vec<u8>, Option<Failure>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (duration_ns, value, failure) in all {
            Record { duration_ns: *duration_ns, value, failure: failure.clone() }.put(&mut bytes);
        }
        bytes
    }

    fn order_of(tasks: &[(Option<u32>, u64, Vec<u8>)], units: Option<&[u32]>) -> Vec<u8> {
        let mut order = OrderWriter::default();
        order.begin(9, 7, 3, units);
        tasks.iter().for_each(|(function, index, payload)| order.push(*function, *index, payload));
        assert_eq!(order.tasks(), tasks.len() as u32);
        order.finish().to_vec()
    }

    proptest! {
        #[test]
        fn results_are_read_back_as_they_were_written(all in prop::collection::vec(left(), 0..30)) {
            let bytes = written(&all);
            let mut rest = &bytes[..];
            for (duration_ns, value, failure) in &all {
                let record = Record { duration_ns: *duration_ns, value, failure: failure.clone() };
                prop_assert_eq!(Record::take(&mut rest), Ok(record));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn results_that_are_cut_off_are_refused(one in left(), cut in any::<prop::sample::Index>()) {
            let bytes = written(&[one]);
            let mut rest = &bytes[..cut.index(bytes.len())];
            prop_assert_eq!(Record::take(&mut rest), Err(Damaged));
        }

        #[test]
        fn any_bytes_are_results_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            while Record::take(&mut rest).is_ok() {}
        }

        #[test]
        fn an_order_is_read_back_as_it_was_written(
            tasks in prop::collection::vec(
                (prop::option::of(0..1000u32), any::<u64>(), prop::collection::vec(any::<u8>(), 0..300)), 0..30),
            units in prop::option::of(prop::collection::vec(any::<u32>(), 1..5)),
        ) {
            let order = order_of(&tasks, units.as_deref());
            let (head, body) = order.split_first_chunk().unwrap();
            let head = OrderHead::read(head);
            prop_assert_eq!((head.body, head.tasks), (body.len() as u64, tasks.len() as u32));
            prop_assert_eq!((head.number, head.attempt, head.cores), (9, 7, 3));
            let (own_units, mut left) = head.split(body).unwrap();
            prop_assert_eq!(own_units, units);
            for (function, index, payload) in &tasks {
                prop_assert_eq!(left.take(), Ok((function.unwrap_or(NONE), *index, &payload[..])));
            }
            prop_assert_eq!(left.take(), Err(Damaged));
        }

        #[test]
        fn any_bytes_are_notices_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(Some(notice)) = Notice::take(&bytes) {
                prop_assert_eq!(&notice.to_bytes()[..], &bytes[..Notice::BYTES]);
            }
        }
    }

    #[test]
    fn a_payload_that_tasks_share_travels_once() {
        let (shared, mut order) = (vec![b'x'; 1000], OrderWriter::default());
        order.begin(1, 1, 1, None);
        (0..100).for_each(|index| order.push(Some(1), index, &shared));
        assert!(order.len_bytes() < 1000 + 100 * 16 + 100);
        let (head, body) = order.finish().split_first_chunk().unwrap();
        let (_, mut tasks) = OrderHead::read(head).split(body).unwrap();
        assert!((0..100).all(|index| tasks.take() == Ok((1, index, &shared[..]))));
    }

    #[test]
    fn the_largest_record_has_its_room() {
        let status = Status::Panic("ä".repeat(100_000));
        let failure = Failure { place: u32::MAX, start_ns: u64::MAX, status };
        let value = vec![0; 2 * MAX_VALUE_BYTES];
        let mut bytes = Vec::new();
        Record { duration_ns: u64::MAX, value: &value, failure: Some(failure) }.put(&mut bytes);
        assert!(bytes.len() < MAX_RECORD_BYTES);
        let record = Record::take(&mut &bytes[..]).unwrap();
        assert_eq!((record.value.len(), record.duration_ns), (MAX_VALUE_BYTES, u64::MAX >> 2));
    }

    #[test]
    fn a_failure_that_ended_well_and_a_value_without_end_are_refused() {
        let failed = |code: i32| [&[MARK, 2, 0, 0, EXIT][..], &code.to_le_bytes()].concat();
        assert!(Record::take(&mut &failed(1)[..]).is_ok());
        assert_eq!(Record::take(&mut &failed(0)[..]), Err(Damaged));
        let too_long = [&[MARK, 1, 0x81, 0x80, 0x04][..], &vec![0; MAX_VALUE_BYTES + 1]].concat();
        assert_eq!(Record::take(&mut &too_long[..]), Err(Damaged));
    }

    #[test]
    fn a_notice_is_taken_when_all_of_it_is_there() {
        for notice in [Notice::Ready, Notice::Done(1 << 20), Notice::Ended(139), Notice::Unable(2)] {
            let bytes = [&notice.to_bytes()[..], b"no"].concat();
            let all = if notice == Notice::Unable(2) { bytes.len() } else { Notice::BYTES };
            assert!((0..all).all(|length| Notice::take(&bytes[..length]) == Ok(None)), "{notice:?}");
            assert_eq!(Notice::take(&bytes), Ok(Some(notice)));
        }
        let too_long = Notice::Unable(Notice::MAX_WHY_BYTES as u32 + 1).to_bytes();
        for damaged in [&b"what"[..], &too_long, &[b'r', 1, 0, 0, 0]] {
            assert_eq!(Notice::take(damaged), Err(Damaged));
        }
    }
}
