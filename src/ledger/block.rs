//! Blocks: final outcomes as bytes, made by a worker, carried up with its report, kept in a segment.
//!
//! A block is a header and a payload. The payload is flat records of varying length: a head of 16 bytes that
//! suffices for a task that ended well without output, then what the head's flags announce. All numbers are little
//! endian. Nothing here knows of files.

use super::error::LedgerError;
use crate::task::{Captured, IndexRange, Outcome, PackedCalls, Status, UnpackedCall, take_call};
use zerocopy::little_endian::{I32, U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

const MAGIC: [u8; 4] = *b"MyB1";
/// Longest text kept of a status (why a task did not start, what a panic said).
const STATUS_TEXT_BYTES: usize = 64 * 1024;

/// Fields that did not fit the head follow.
const WIDE: u8 = 1;
/// A status number, a status text or output follow.
const BODY: u8 = 2;
/// A stream was cut; where and how much follows.
const CUT: u8 = 4;
/// The head is that of the first of several consecutive tasks that ended well: their number and packed calls follow, or
/// no bytes at all where durations were not recorded.
const RUN: u8 = 8;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 4],
    /// Over all that follows in the header.
    header_crc: U32,
    payload_crc: U32,
    count: U32,
    payload_len: U64,
    start: U32,
    round: U32,
    bundle: U32,
    rank: U32,
    node: U32,
    unused: U32,
    base_index: U64,
    base_started: U64,
    lowest: U64,
    highest: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct Head {
    flags: u8,
    status: u8,
    attempts: U16,
    /// Against the header's base.
    index_delta: I32,
    /// Microseconds against the header's base.
    started_delta: I32,
    duration_us: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct Wide {
    index: U64,
    started_unix_us: U64,
    duration_us: U64,
    attempts: U32,
    rank: U32,
    node: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct Body {
    code: I32,
    text_len: U32,
    stdout_len: U64,
    stderr_len: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct Run {
    count: U32,
    packed_len: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct Cut {
    stdout_head: U64,
    stdout_dropped: U64,
    stderr_head: U64,
    stderr_dropped: U64,
}

/// What the header of a block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Records in the block; at least one.
    pub count: u32,
    /// Bytes after the header.
    pub payload_bytes: u64,
    /// Generation of the start that wrote it; its table of nodes is the one that the records mean.
    pub start: u32,
    /// Round in which the tasks ended.
    pub round: u32,
    /// The bundle of the tasks.
    pub bundle: u32,
    /// Lowest position among the records.
    pub lowest: u64,
    /// Highest position among the records.
    pub highest: u64,
    payload_crc: u32,
    rank: u32,
    node: u32,
    base_index: u64,
    base_started: u64,
}

impl BlockHeader {
    /// Bytes of a header.
    pub const BYTES: usize = size_of::<RawHeader>();

    /// Reads and checks a header at the start of `bytes`. Its `payload_bytes` can be trusted to be what was written.
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        let (raw, _) = RawHeader::read_from_prefix(bytes).map_err(|_| LedgerError::Block("header cut off"))?;
        if raw.magic != MAGIC {
            return Err(LedgerError::Block("no block begins here"));
        }
        if crc32c::crc32c(&raw.as_bytes()[8..]) != raw.header_crc.get() {
            return Err(LedgerError::Block("header checksum does not match"));
        }
        Ok(Self {
            count: raw.count.get(),
            payload_bytes: raw.payload_len.get(),
            start: raw.start.get(),
            round: raw.round.get(),
            bundle: raw.bundle.get(),
            lowest: raw.lowest.get(),
            highest: raw.highest.get(),
            payload_crc: raw.payload_crc.get(),
            rank: raw.rank.get(),
            node: raw.node.get(),
            base_index: raw.base_index.get(),
            base_started: raw.base_started.get(),
        })
    }

    /// Header and payload together.
    pub fn total_bytes(&self) -> u64 {
        self.payload_bytes.saturating_add(Self::BYTES as u64)
    }

    /// Checks the payload against this header and gives its records.
    pub fn records<'a>(&self, payload: &'a [u8]) -> Result<Records<'a>, LedgerError> {
        if payload.len() as u64 != self.payload_bytes {
            return Err(LedgerError::Block("payload cut off"));
        }
        if crc32c::crc32c(payload) != self.payload_crc {
            return Err(LedgerError::Block("payload checksum does not match"));
        }
        let records = Records { header: *self, rest: payload, left: self.count, run: None };
        let mut walk = records.clone();
        while walk.left > 0 {
            let record = walk.take_record()?;
            if record.index < self.lowest || record.index > self.highest {
                return Err(LedgerError::Block("a record lies outside of its block"));
            }
        }
        if !walk.rest.is_empty() || walk.run.is_some() {
            return Err(LedgerError::Block("something is left over behind the last record"));
        }
        Ok(records)
    }
}

/// One captured stream within a block.
#[derive(Clone, Copy, Debug)]
pub struct StreamView<'a> {
    /// See [`Captured::bytes`].
    pub bytes: &'a [u8],
    /// See [`Captured::head`].
    pub head: u64,
    /// See [`Captured::dropped`].
    pub dropped: u64,
}

impl StreamView<'_> {
    /// A copy that owns its bytes.
    pub fn to_captured(self) -> Captured {
        Captured { bytes: self.bytes.to_vec(), head: self.head, dropped: self.dropped }
    }
}

/// One outcome within a block, its output not copied. Fields as in [`Outcome`].
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct RecordView<'a> {
    pub index: u64,
    pub status: Status,
    pub attempts: u32,
    pub started_unix_us: u64,
    pub duration_us: u64,
    pub rank: u32,
    pub node: u32,
    pub stdout: StreamView<'a>,
    pub stderr: StreamView<'a>,
}

impl RecordView<'_> {
    /// The whole outcome.
    pub fn to_outcome(&self) -> Outcome {
        self.without_output(self.stdout.to_captured(), self.stderr.to_captured())
    }

    /// The outcome with these streams instead of its own.
    pub(crate) fn without_output(&self, stdout: Captured, stderr: Captured) -> Outcome {
        Outcome {
            index: self.index,
            status: self.status.clone(),
            attempts: self.attempts,
            started_unix_us: self.started_unix_us,
            duration_us: self.duration_us,
            rank: self.rank,
            node: self.node,
            stdout,
            stderr,
        }
    }
}

/// The records of one checked block.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    header: BlockHeader,
    rest: &'a [u8],
    left: u32,
    run: Option<OpenRun<'a>>,
}

/// Tasks of a run that were not given out yet.
#[derive(Clone, Debug)]
struct OpenRun<'a> {
    /// Of the next of them; its duration is not known yet.
    next: Wide,
    left: u32,
    /// Empty from the start where nothing of the calls was recorded.
    packed: Option<&'a [u8]>,
    /// Nanoseconds since the start of the first.
    since_first_ns: u64,
    first_started: u64,
}

fn take<T: FromBytes>(rest: &mut &[u8]) -> Result<T, LedgerError> {
    let (value, after) = T::read_from_prefix(rest).map_err(|_| LedgerError::Block("a record is cut off"))?;
    *rest = after;
    Ok(value)
}

fn take_bytes<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], LedgerError> {
    let len = usize::try_from(len).map_err(|_| LedgerError::Block("a record is cut off"))?;
    let (bytes, after) = rest.split_at_checked(len).ok_or(LedgerError::Block("a record is cut off"))?;
    *rest = after;
    Ok(bytes)
}

fn stream(bytes: &[u8], head: u64, dropped: u64) -> Result<StreamView<'_>, LedgerError> {
    if head > bytes.len() as u64 {
        return Err(LedgerError::Block("a stream is cut behind its end"));
    }
    Ok(StreamView { bytes, head, dropped })
}

impl<'a> Records<'a> {
    fn take_record(&mut self) -> Result<RecordView<'a>, LedgerError> {
        if let Some(run) = self.run.take() {
            return self.take_of_run(run);
        }
        let head: Head = take(&mut self.rest)?;
        if head.flags & !(WIDE | BODY | CUT | RUN) != 0 {
            return Err(LedgerError::Block("a record has unknown flags"));
        }
        let wide = if head.flags & WIDE != 0 { take(&mut self.rest)? } else { self.narrow(&head) };
        if head.flags & RUN != 0 {
            let Run { count, packed_len } = take(&mut self.rest)?;
            let packed = take_bytes(&mut self.rest, packed_len.get())?;
            let first_started = wide.started_unix_us.get();
            let packed = Some(packed).filter(|packed| !packed.is_empty());
            let run = OpenRun { next: wide, left: count.get(), packed, since_first_ns: 0, first_started };
            return self.take_of_run(run);
        }
        let body: Option<Body> = if head.flags & BODY != 0 { Some(take(&mut self.rest)?) } else { None };
        let cut: Option<Cut> = if head.flags & CUT != 0 { Some(take(&mut self.rest)?) } else { None };
        let (code, text_len, stdout_len, stderr_len) =
            body.map_or((0, 0, 0, 0), |b| (b.code.get(), b.text_len.get(), b.stdout_len.get(), b.stderr_len.get()));
        let text = take_bytes(&mut self.rest, text_len.into())?;
        let stdout = take_bytes(&mut self.rest, stdout_len)?;
        let stderr = take_bytes(&mut self.rest, stderr_len)?;
        let (stdout, stderr) = match cut {
            Some(c) => (
                stream(stdout, c.stdout_head.get(), c.stdout_dropped.get())?,
                stream(stderr, c.stderr_head.get(), c.stderr_dropped.get())?,
            ),
            None => (stream(stdout, stdout_len, 0)?, stream(stderr, stderr_len, 0)?),
        };
        self.left -= 1;
        Ok(RecordView {
            index: wide.index.get(),
            status: decode_status(head.status, code, text)?,
            attempts: wide.attempts.get(),
            started_unix_us: wide.started_unix_us.get(),
            duration_us: wide.duration_us.get(),
            rank: wide.rank.get(),
            node: wide.node.get(),
            stdout,
            stderr,
        })
    }

    /// The next task of a run of calls.
    fn take_of_run(&mut self, mut run: OpenRun<'a>) -> Result<RecordView<'a>, LedgerError> {
        if run.left == 0 || self.left == 0 {
            return Err(LedgerError::Block("a run has another length than it says"));
        }
        let call = match &mut run.packed {
            Some(packed) => take_call(packed).ok_or(LedgerError::Block("a run is cut off"))?,
            None => UnpackedCall { duration_ns: 0, value: &[] },
        };
        let index = run.next.index.get();
        let started = run.first_started.wrapping_add(run.since_first_ns / 1000);
        run.next.index = index.wrapping_add(1).into();
        run.since_first_ns = run.since_first_ns.wrapping_add(call.duration_ns);
        run.left -= 1;
        self.left -= 1;
        let (attempts, rank, node) = (run.next.attempts.get(), run.next.rank.get(), run.next.node.get());
        if run.left > 0 {
            self.run = Some(run);
        } else if run.packed.is_some_and(|packed| !packed.is_empty()) {
            return Err(LedgerError::Block("bytes left over behind a run"));
        }
        Ok(RecordView {
            index,
            status: Status::Ok,
            attempts,
            started_unix_us: started,
            duration_us: call.duration_ns / 1000,
            rank,
            node,
            stdout: stream(call.value, call.value.len() as u64, 0)?,
            stderr: stream(&[], 0, 0)?,
        })
    }

    fn narrow(&self, head: &Head) -> Wide {
        Wide {
            index: self.header.base_index.wrapping_add_signed(head.index_delta.get().into()).into(),
            started_unix_us: self.header.base_started.wrapping_add_signed(head.started_delta.get().into()).into(),
            duration_us: u64::from(head.duration_us.get()).into(),
            attempts: u32::from(head.attempts.get()).into(),
            rank: self.header.rank.into(),
            node: self.header.node.into(),
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = RecordView<'a>;

    fn next(&mut self) -> Option<RecordView<'a>> {
        // All records were walked when the block was checked.
        if self.left == 0 { None } else { self.take_record().ok() }
    }
}

fn decode_status(kind: u8, code: i32, text: &[u8]) -> Result<Status, LedgerError> {
    let text =
        || std::str::from_utf8(text).map(str::to_owned).map_err(|_| LedgerError::Block("a status text is not UTF-8"));
    Ok(match kind {
        0 => Status::Ok,
        1 => Status::Exit(code),
        2 => Status::Signal(code),
        3 => Status::Timeout,
        4 => Status::NotStarted(text()?),
        5 => Status::Panic(text()?),
        6 => Status::Lost,
        7 => Status::Cancelled,
        _ => return Err(LedgerError::Block("a record has an unknown status")),
    })
}

fn encode_status(status: &Status) -> (u8, i32, &str) {
    match status {
        Status::Ok => (0, 0, ""),
        Status::Exit(code) => (1, *code, ""),
        Status::Signal(number) => (2, *number, ""),
        Status::Timeout => (3, 0, ""),
        Status::NotStarted(why) => (4, 0, why),
        Status::Panic(what) => (5, 0, what),
        Status::Lost => (6, 0, ""),
        Status::Cancelled => (7, 0, ""),
    }
}

/// Gathers outcomes into one block.
#[derive(Debug)]
pub struct BlockBuilder {
    header: RawHeader,
    /// Room for the header, then the records.
    bytes: Vec<u8>,
}

impl BlockBuilder {
    /// An empty block of this start (its generation) and round.
    pub fn new(start: u32, round: u32) -> Self {
        let mut header = RawHeader::new_zeroed();
        header.magic = MAGIC;
        header.start = start.into();
        header.round = round.into();
        header.lowest = u64::MAX.into();
        Self { header, bytes: Vec::new() }
    }

    /// Bytes that [`finish`](Self::finish) would give now.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn begin(&mut self, first: &Outcome) {
        if self.bytes.is_empty() {
            self.bytes.resize(BlockHeader::BYTES, 0);
            self.header.base_index = first.index.into();
            self.header.base_started = first.started_unix_us.into();
            self.header.rank = first.rank.into();
            self.header.node = first.node.into();
        }
    }

    fn count(&mut self, tasks: IndexRange) {
        self.header.count = (self.header.count.get() + tasks.len() as u32).into();
        self.header.lowest = self.header.lowest.get().min(tasks.start).into();
        self.header.highest = self.header.highest.get().max(tasks.end - 1).into();
    }

    /// Adds consecutive tasks that ended well; `first` is the outcome of the first of them, without duration and value.
    /// `calls` is empty where nothing of them was recorded.
    ///
    /// # Panics
    /// Where there is none, or more than 2³² − 1 in the block.
    pub fn push_run(&mut self, first: &Outcome, tasks: u32, calls: &PackedCalls) {
        assert!(tasks > 0 && self.header.count.get().checked_add(tasks).is_some(), "{tasks} tasks in a run");
        self.begin(first);
        let narrow = self.narrow(first, 0);
        let mut head = narrow.unwrap_or(Head { flags: WIDE, ..Head::new_zeroed() });
        head.flags |= RUN;
        self.bytes.extend_from_slice(head.as_bytes());
        if narrow.is_none() {
            self.bytes.extend_from_slice(wide(first).as_bytes());
        }
        let run = Run { count: tasks.into(), packed_len: (calls.bytes().len() as u64).into() };
        self.bytes.extend_from_slice(run.as_bytes());
        self.bytes.extend_from_slice(calls.bytes());
        self.count(IndexRange::new(first.index, first.index + u64::from(tasks)));
    }

    /// Adds an outcome.
    pub fn push(&mut self, outcome: &Outcome) {
        self.begin(outcome);
        let (kind, code, text) = encode_status(&outcome.status);
        let text = cut_text(text, STATUS_TEXT_BYTES);
        let narrow = self.narrow(outcome, kind);
        let mut head = narrow.unwrap_or(Head { flags: WIDE, status: kind, ..Head::new_zeroed() });
        let (out, err) = (&outcome.stdout, &outcome.stderr);
        let whole = |c: &Captured| c.dropped == 0 && c.head == c.bytes.len() as u64;
        let is_cut = !whole(out) || !whole(err);
        let has_body = code != 0 || !text.is_empty() || !out.bytes.is_empty() || !err.bytes.is_empty();
        head.flags |= (if has_body { BODY } else { 0 }) | (if is_cut { CUT } else { 0 });
        self.bytes.extend_from_slice(head.as_bytes());
        if narrow.is_none() {
            self.bytes.extend_from_slice(wide(outcome).as_bytes());
        }
        if has_body {
            let body = Body {
                code: code.into(),
                text_len: (text.len() as u32).into(),
                stdout_len: (out.bytes.len() as u64).into(),
                stderr_len: (err.bytes.len() as u64).into(),
            };
            self.bytes.extend_from_slice(body.as_bytes());
        }
        if is_cut {
            self.bytes.extend_from_slice(cut(out, err).as_bytes());
        }
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.extend_from_slice(&out.bytes);
        self.bytes.extend_from_slice(&err.bytes);
        self.count(IndexRange::one(outcome.index));
    }

    /// The head alone, where it can say everything but status and output.
    fn narrow(&self, outcome: &Outcome, status: u8) -> Option<Head> {
        let delta = |value: u64, base: u64| i32::try_from(i128::from(value) - i128::from(base)).ok();
        if outcome.rank != self.header.rank.get() || outcome.node != self.header.node.get() {
            return None;
        }
        Some(Head {
            flags: 0,
            status,
            attempts: u16::try_from(outcome.attempts).ok()?.into(),
            index_delta: delta(outcome.index, self.header.base_index.get())?.into(),
            started_delta: delta(outcome.started_unix_us, self.header.base_started.get())?.into(),
            duration_us: u32::try_from(outcome.duration_us).ok()?.into(),
        })
    }

    /// The block's bytes; the builder is empty again, for the same start and round. An empty one gives no bytes.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        let (start, round) = (self.header.start.get(), self.header.round.get());
        let mut header = std::mem::replace(&mut self.header, Self::new(start, round).header);
        if let Some((room, payload)) = bytes.split_at_mut_checked(BlockHeader::BYTES) {
            header.payload_len = (payload.len() as u64).into();
            header.payload_crc = crc32c::crc32c(payload).into();
            header.header_crc = crc32c::crc32c(&header.as_bytes()[8..]).into();
            room.copy_from_slice(header.as_bytes());
        }
        bytes
    }
}

/// The text's beginning, no longer than so many bytes, without a half character.
pub(crate) fn cut_text(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

fn wide(outcome: &Outcome) -> Wide {
    Wide {
        index: outcome.index.into(),
        started_unix_us: outcome.started_unix_us.into(),
        duration_us: outcome.duration_us.into(),
        attempts: outcome.attempts.into(),
        rank: outcome.rank.into(),
        node: outcome.node.into(),
    }
}

fn cut(out: &Captured, err: &Captured) -> Cut {
    // The head is a part of the bytes: a caller's mistake is not written down, or the block could not be read.
    let head = |c: &Captured| c.head.min(c.bytes.len() as u64).into();
    Cut {
        stdout_head: head(out),
        stdout_dropped: out.dropped.into(),
        stderr_head: head(err),
        stderr_dropped: err.dropped.into(),
    }
}

/// Reads the block at the start of `bytes`: its header, its outcomes, and how many bytes it took. All lengths and
/// checksums are checked first; nothing is allocated on the word of a damaged block.
pub fn read_block(bytes: &[u8]) -> Result<(BlockHeader, impl Iterator<Item = Outcome> + '_, usize), LedgerError> {
    let header = BlockHeader::parse(bytes)?;
    let rest = &bytes[BlockHeader::BYTES..];
    let payload = usize::try_from(header.payload_bytes)
        .ok()
        .and_then(|len| rest.get(..len))
        .ok_or(LedgerError::Block("payload cut off"))?;
    let records = header.records(payload)?;
    Ok((header, records.map(|r| r.to_outcome()), BlockHeader::BYTES + payload.len()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{any_outcome, ok};
    use super::*;
    use proptest::prelude::*;

    fn build(outcomes: &[Outcome]) -> Vec<u8> {
        let mut builder = BlockBuilder::new(3, 1);
        outcomes.iter().for_each(|o| builder.push(o));
        let announced = builder.len_bytes();
        let bytes = builder.finish();
        assert_eq!(bytes.len(), announced);
        assert!(builder.is_empty());
        bytes
    }

    #[test]
    fn a_task_that_ended_well_without_output_takes_few_bytes() {
        let outcomes: Vec<Outcome> = (0..1000).map(ok).collect();
        assert!(build(&outcomes).len() <= 1000 * 17);
    }

    #[test]
    fn a_builder_can_be_used_again_for_the_next_block() {
        let mut builder = BlockBuilder::new(7, 2);
        assert!(builder.finish().is_empty());
        for index in [5, 9] {
            builder.push(&ok(index));
            let bytes = builder.finish();
            let (header, outcomes, _) = read_block(&bytes).unwrap();
            assert_eq!((header.start, header.round, header.lowest, header.highest), (7, 2, index, index));
            assert_eq!(outcomes.collect::<Vec<_>>(), [ok(index)]);
        }
    }

    #[test]
    fn a_length_that_lies_is_refused_before_memory_is_taken() {
        let mut bytes = build(&[ok(1)]);
        let mut header = RawHeader::read_from_prefix(&bytes).unwrap().0;
        header.payload_len = u64::MAX.into();
        header.header_crc = crc32c::crc32c(&header.as_bytes()[8..]).into();
        bytes[..BlockHeader::BYTES].copy_from_slice(header.as_bytes());
        assert!(read_block(&bytes).is_err());
    }

    #[test]
    fn a_run_that_says_another_length_is_refused() {
        let mut calls = PackedCalls::default();
        (0..3).for_each(|_| calls.push(5, b""));
        for told in [2, 4, 200] {
            let mut builder = BlockBuilder::new(3, 1);
            builder.push_run(&ok(7), told, &calls);
            assert!(read_block(&builder.finish()).is_err(), "{told} told");
        }
    }

    #[test]
    fn a_run_of_which_nothing_was_recorded_says_how_its_tasks_ended() {
        let mut builder = BlockBuilder::new(3, 1);
        builder.push_run(&ok(7), 1_000_000, &PackedCalls::default());
        let bytes = builder.finish();
        assert!(bytes.len() < 200);
        let (_, read, _) = read_block(&bytes).unwrap();
        let (mut count, mut next) = (0u64, 7);
        for outcome in read {
            assert_eq!((outcome.index, outcome.status, outcome.duration_us), (next, Status::Ok, 0));
            (count, next) = (count + 1, next + 1);
        }
        assert_eq!(count, 1_000_000);
    }

    proptest! {
        #[test]
        fn runs_of_calls_come_back_task_by_task_among_other_outcomes(
            runs in prop::collection::vec(
                (any_outcome(), prop::collection::vec((0..1u64 << 40, prop::collection::vec(any::<u8>(), 0..9)), 1..9)),
                1..9,
            ),
        ) {
            let mut builder = BlockBuilder::new(3, 1);
            let mut expected = Vec::new();
            for (other, calls) in &runs {
                builder.push(other);
                expected.push(other.clone());
                let first = Outcome {
                    index: other.index % (1 << 60),
                    status: Status::Ok,
                    started_unix_us: other.started_unix_us % (1 << 60),
                    duration_us: 0,
                    stdout: Captured::default(),
                    stderr: Captured::default(),
                    ..other.clone()
                };
                let (mut packed, mut since_ns) = (PackedCalls::default(), 0);
                for (place, (duration_ns, value)) in calls.iter().enumerate() {
                    packed.push(*duration_ns, value);
                    expected.push(Outcome {
                        index: first.index + place as u64,
                        started_unix_us: first.started_unix_us + since_ns / 1000,
                        duration_us: duration_ns / 1000,
                        stdout: Captured { head: value.len() as u64, dropped: 0, bytes: value.clone() },
                        ..first.clone()
                    });
                    since_ns += duration_ns;
                }
                builder.push_run(&first, calls.len() as u32, &packed);
            }
            let bytes = builder.finish();
            let (header, read, _) = read_block(&bytes).unwrap();
            prop_assert_eq!(header.count as usize, expected.len());
            prop_assert_eq!(Some(header.highest), expected.iter().map(|o| o.index).max());
            prop_assert_eq!(read.collect::<Vec<_>>(), expected);
        }

        #[test]
        fn outcomes_come_back_as_they_were_pushed(
            outcomes in prop::collection::vec(any_outcome(), 1..40),
            behind in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = build(&outcomes);
            let len = bytes.len();
            bytes.extend(behind);
            let (header, read, consumed) = read_block(&bytes).unwrap();
            prop_assert_eq!(read.collect::<Vec<_>>(), outcomes.clone());
            prop_assert_eq!(consumed, len);
            prop_assert_eq!(header.count as usize, outcomes.len());
            prop_assert_eq!(Some(header.lowest), outcomes.iter().map(|o| o.index).min());
            prop_assert_eq!(Some(header.highest), outcomes.iter().map(|o| o.index).max());
        }

        #[test]
        fn any_flipped_bit_and_any_truncation_is_noticed(
            outcomes in prop::collection::vec(any_outcome(), 1..8),
            place in any::<prop::sample::Index>(),
            bit in 0..8u8,
        ) {
            let bytes = build(&outcomes);
            let at = place.index(bytes.len());
            prop_assert!(read_block(&bytes[..at]).is_err());
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            prop_assert!(read_block(&flipped).is_err());
        }

        #[test]
        fn a_payload_whose_checksum_was_forged_is_an_error_and_no_panic(
            outcomes in prop::collection::vec(any_outcome(), 1..8),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut bytes = build(&outcomes);
            let (_, payload) = bytes.split_at_mut(BlockHeader::BYTES);
            for (place, value) in changes {
                payload[place.index(payload.len())] = value;
            }
            let crc = crc32c::crc32c(payload);
            let mut header = RawHeader::read_from_prefix(&bytes).unwrap().0;
            header.payload_crc = crc.into();
            header.header_crc = crc32c::crc32c(&header.as_bytes()[8..]).into();
            bytes[..BlockHeader::BYTES].copy_from_slice(header.as_bytes());
            if let Ok((header, read, _)) = read_block(&bytes) {
                prop_assert_eq!(read.count(), header.count as usize);
            }
        }
    }
}
