//! The journal: rank 0's file of what has ended and where the records of it lie.
//!
//! It grows with reports, not with tasks. Each record is framed by its length and a checksum. Every start writes a
//! journal of its own, `journal.<generation>`, which begins with all that counts of the one before, in its shortest
//! form: a start that was given up and still writes cannot touch the journal of its successor.

use super::appender::{Appender, Opened};
use super::dir::RunDir;
use super::error::LedgerError;
use super::files::{beside, sync_folder};
use super::load::Loaded;
use super::parts::SubmittedPart;
use crate::task::IndexRange;
use crate::task::{EndedBy, EndedRun, Extent};
use crate::wake::Wake;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

/// The first bytes of a journal.
pub(crate) const MAGIC: &[u8; 8] = b"MYRJRN1\n";
/// Length, its own checksum, and that of the record. Without its own a damaged length would look like a record that was
/// cut off at the end of the file.
const FRAME_BYTES: usize = 12;
/// Largest record.
const RECORD_BYTES: usize = 64 * 1024 * 1024;
/// Ranges or runs in one record; more are spread over several.
pub(crate) const RANGES_PER_RECORD: usize = 64 * 1024;

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A start of the run.
    Start {
        /// Its generation, from its owner record.
        generation: u32,
        /// When, microseconds since the Unix epoch.
        started_unix_us: u64,
        /// Tasks of the bundle.
        tasks: u64,
        /// Names of its nodes; `Outcome::node` of its records is a position in this table.
        nodes: Vec<String>,
        /// Its segments have the numbers from this one on …
        first_segment: u32,
        /// … so many, whether or not all of them get written.
        segments: u32,
    },
    /// Tasks that have ended.
    Ended {
        /// The round in which they ended.
        round: u32,
        /// Where their records lie; none where there is nothing to say but their class.
        extent: Option<Extent>,
        /// Which tasks.
        runs: Vec<EndedRun>,
    },
    /// Tasks put back; from here on this is the round.
    Round {
        /// The new round.
        round: u32,
        /// The tasks.
        reopened: Vec<IndexRange>,
    },
    /// The start ended in order.
    End {
        /// Why.
        ended_by: EndedBy,
        /// When, microseconds since the Unix epoch.
        ended_unix_us: u64,
    },
    /// Tasks that a program submitted to its session: the next of the row.
    Submitted(SubmittedPart),
}

impl Record {
    /// The same as records of bounded size. A crash between them leaves the first ones in force, which is as good as
    /// a crash between two reports.
    pub(crate) fn pieces(&self) -> Vec<Cow<'_, Record>> {
        match self {
            Record::Ended { round, extent, runs } if runs.len() > RANGES_PER_RECORD => {
                let piece = |runs: &[EndedRun]| Record::Ended { round: *round, extent: *extent, runs: runs.to_vec() };
                runs.chunks(RANGES_PER_RECORD).map(|runs| Cow::Owned(piece(runs))).collect()
            }
            Record::Round { round, reopened } if reopened.len() > RANGES_PER_RECORD => {
                let piece = |ranges: &[IndexRange]| Record::Round { round: *round, reopened: ranges.to_vec() };
                reopened.chunks(RANGES_PER_RECORD).map(|ranges| Cow::Owned(piece(ranges))).collect()
            }
            whole => vec![Cow::Borrowed(whole)],
        }
    }
}

/// The frame of a record.
fn frame(payload: &[u8]) -> [u8; FRAME_BYTES] {
    let len = (payload.len() as u32).to_le_bytes();
    let of_len = crc32c::crc32c(&len);
    let of_all = crc32c::crc32c_append(of_len, payload);
    let mut frame = [0; FRAME_BYTES];
    frame[..4].copy_from_slice(&len);
    frame[4..8].copy_from_slice(&of_len.to_le_bytes());
    frame[8..].copy_from_slice(&of_all.to_le_bytes());
    frame
}

/// The record, framed.
pub(crate) fn encode(record: &Record) -> Result<Vec<u8>, LedgerError> {
    let mut bytes = vec![0; FRAME_BYTES];
    // A record is plain data: writing it to memory cannot fail.
    bytes = postcard::to_extend(record, bytes).map_err(|_| LedgerError::RecordTooLarge(usize::MAX))?;
    let payload = bytes.len() - FRAME_BYTES;
    if payload > RECORD_BYTES {
        return Err(LedgerError::RecordTooLarge(payload));
    }
    let frame = frame(&bytes[FRAME_BYTES..]);
    bytes[..FRAME_BYTES].copy_from_slice(&frame);
    Ok(bytes)
}

/// What comes behind the last sound record of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing.
    Clean,
    /// The beginning of a record, or room that was never filled: what a crash while writing leaves.
    Torn {
        /// Bytes that do not count.
        bytes: u64,
    },
    /// Something else.
    Damaged {
        /// Where.
        offset: u64,
        /// What does not fit.
        what: &'static str,
    },
}

/// Reads the records of a journal up to the first that is not sound.
pub(crate) struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    tail: Tail,
}

impl<'a> Scan<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        if bytes.starts_with(MAGIC) {
            return Self { bytes, at: MAGIC.len(), tail: Tail::Clean };
        }
        let torn = MAGIC.starts_with(bytes) || bytes.iter().all(|b| *b == 0);
        let tail = match bytes.len() as u64 {
            0 => Tail::Clean,
            len if torn => Tail::Torn { bytes: len },
            _ => Tail::Damaged { offset: 0, what: "this is no journal" },
        };
        Self { bytes: &[], at: 0, tail }
    }

    /// What came behind the last record. To be asked when there are no more.
    pub fn tail(self) -> Tail {
        self.tail
    }

    fn take(&mut self) -> Result<Option<Record>, &'static str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let torn = Tail::Torn { bytes: rest.len() as u64 };
        let Some((head, behind)) = rest.split_first_chunk::<FRAME_BYTES>() else {
            self.tail = torn;
            return Ok(None);
        };
        if rest.iter().all(|b| *b == 0) {
            self.tail = torn;
            return Ok(None);
        }
        let [l0, l1, l2, l3, c0, c1, c2, c3, ..] = *head;
        let len = [l0, l1, l2, l3];
        if crc32c::crc32c(&len) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err("the checksum of a record's length does not match");
        }
        let payload_bytes = u32::from_le_bytes(len) as usize;
        if payload_bytes > RECORD_BYTES {
            return Err("a record's length is out of bounds");
        }
        let Some(payload) = behind.get(..payload_bytes) else {
            self.tail = torn;
            return Ok(None);
        };
        if frame(payload) != *head {
            return Err("a record's checksum does not match");
        }
        let (record, left) = postcard::take_from_bytes::<Record>(payload).map_err(|_| "a record does not decode")?;
        if !left.is_empty() {
            return Err("a record makes no sense");
        }
        self.at += FRAME_BYTES + payload_bytes;
        Ok(Some(record))
    }
}

impl Iterator for Scan<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let taken = self.take().unwrap_or_else(|what| {
            self.tail = Tail::Damaged { offset: self.at as u64, what };
            None
        });
        if taken.is_none() {
            self.bytes = &[];
        }
        taken
    }
}

/// Appends to the journal of this start, on a thread of its own.
#[derive(Debug)]
pub struct JournalWriter {
    appender: Appender,
}

impl JournalWriter {
    /// Begins the journal of this start with all that `loaded` says, synced and renamed into place before this
    /// returns, and takes the older journals away. From here on `sync` and `wake` work as for a segment.
    pub fn start(
        dir: &RunDir,
        generation: u32,
        loaded: &Loaded,
        sync: Duration,
        wake: Wake,
    ) -> Result<Self, LedgerError> {
        let path = dir.journal(generation);
        let temporary = beside(&path);
        let (file, len) = write_snapshot(&temporary, loaded)?;
        std::fs::rename(&temporary, &path).map_err(LedgerError::io("rename to it", &path))?;
        sync_folder(dir.path())?;
        loaded.retire_older_journals(dir, generation);
        let open = Box::new(move || Ok(Opened { file, folders: Vec::new() }));
        Ok(Self { appender: Appender::new("myr-journal", &path, len, sync, wake, open) })
    }

    /// Queues a record. It may be told of once [`durable`](Self::durable) has reached the number returned. Never
    /// blocks on the file system. An extent may only be journaled once its segment says that it is durable: where
    /// the journal points, the records must be.
    pub fn append(&mut self, record: &Record) -> u64 {
        for piece in record.pieces() {
            match encode(&piece) {
                Ok(bytes) => {
                    self.appender.append(bytes);
                }
                Err(e) => self.appender.fail(e.to_string()),
            }
        }
        self.appender.queued_to()
    }

    /// Records whose number is at or below this may be told: they are written, or synced when the sync interval is
    /// zero.
    pub fn durable(&self) -> u64 {
        self.appender.durable()
    }

    /// Records whose number is at or below this survive the node.
    pub fn synced(&self) -> u64 {
        self.appender.synced()
    }

    /// Has what was gathered written, unless that can wait. To be called now and then.
    pub fn pass_on(&mut self) {
        self.appender.pass_on();
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> u64 {
        self.appender.queued_bytes()
    }

    /// The first error, a full disk for instance. After it nothing more becomes durable.
    pub fn error(&self) -> Option<String> {
        self.appender.error()
    }

    /// Writes and syncs all that is queued, and ends the thread.
    pub fn finish(self) -> Result<(), LedgerError> {
        self.appender.finish()
    }
}

/// Writes and syncs what counts; the file stands at its end.
fn write_snapshot(path: &Path, loaded: &Loaded) -> Result<(File, u64), LedgerError> {
    let file = File::create(path).map_err(LedgerError::io("create", path))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut len = MAGIC.len() as u64;
    out.write_all(MAGIC).map_err(LedgerError::io("write", path))?;
    for record in loaded.snapshot() {
        let bytes = encode(&record)?;
        len += bytes.len() as u64;
        out.write_all(&bytes).map_err(LedgerError::io("write", path))?;
    }
    let file = out.into_inner().map_err(|e| LedgerError::io("write", path)(e.into_error()))?;
    file.sync_all().map_err(LedgerError::io("sync", path))?;
    Ok((file, len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::OutcomeClass;
    use proptest::prelude::*;

    pub(crate) fn any_record() -> impl Strategy<Value = Record> {
        let class = prop_oneof![Just(OutcomeClass::Ok), Just(OutcomeClass::Failed), Just(OutcomeClass::Cancelled)];
        let range = || (0..1u64 << 40, 0..500u64).prop_map(|(start, len)| IndexRange::new(start, start + len));
        let run = (range(), class).prop_map(|(range, class)| EndedRun { range, class });
        let extent = (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(segment, offset, len)| Extent {
            segment,
            offset,
            len,
        });
        prop_oneof![
            (any::<u32>(), any::<u64>(), prop::collection::vec("[a-z0-9]{0,9}", 0..5)).prop_map(
                |(generation, tasks, nodes)| Record::Start {
                    generation,
                    started_unix_us: 1,
                    tasks,
                    nodes,
                    first_segment: 7,
                    segments: 3
                }
            ),
            (any::<u32>(), prop::option::of(extent), prop::collection::vec(run, 0..6))
                .prop_map(|(round, extent, runs)| Record::Ended { round, extent, runs }),
            (any::<u32>(), prop::collection::vec(range(), 0..6))
                .prop_map(|(round, reopened)| Record::Round { round, reopened }),
            any::<u64>().prop_map(|ended_unix_us| Record::End { ended_by: EndedBy::Stop, ended_unix_us }),
            (any::<u64>(), prop::option::of("[a-z]{0,9}"), range()).prop_map(|(bundle, function, range)| {
                let (shape, first) = (crate::task::Shape::CALL, bundle / 2);
                Record::Submitted(SubmittedPart {
                    generation: 1,
                    offset: 2,
                    len: 3,
                    bundle,
                    first,
                    function,
                    shape,
                    range,
                })
            }),
        ]
    }

    /// A journal and the offset behind each record.
    fn journal(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = MAGIC.to_vec();
        let mut ends = Vec::new();
        for record in records {
            bytes.extend(encode(record).unwrap());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn scan(bytes: &[u8]) -> (Vec<Record>, Tail) {
        let mut scan = Scan::new(bytes);
        let records = scan.by_ref().collect();
        (records, scan.tail())
    }

    #[test]
    fn a_report_takes_a_few_bytes_however_many_tasks_it_covers() {
        let runs = vec![EndedRun { range: IndexRange::new(1_000_000, 9_000_000), class: OutcomeClass::Ok }];
        let extent = Some(Extent { segment: 8000, offset: 1 << 30, len: 1 << 20 });
        assert!(encode(&Record::Ended { round: 0, extent, runs }).unwrap().len() <= 40);
    }

    #[test]
    fn a_range_that_runs_backwards_is_damage() {
        let backwards = Record::Round { round: 1, reopened: vec![IndexRange { start: 5, end: 4 }] };
        let (records, tail) = scan(&journal(&[backwards]).0);
        assert!(records.is_empty());
        assert_eq!(tail, Tail::Damaged { offset: 8, what: "a record does not decode" });
    }

    #[test]
    fn room_that_a_crash_left_unfilled_is_a_torn_tail() {
        let record = Record::Round { round: 1, reopened: Vec::new() };
        let (mut bytes, _) = journal(std::slice::from_ref(&record));
        bytes.extend([0; 100]);
        assert_eq!(scan(&bytes), (vec![record], Tail::Torn { bytes: 100 }));
        assert_eq!(scan(&[0; 40]).1, Tail::Torn { bytes: 40 });
        assert_eq!(scan(b"MYR").1, Tail::Torn { bytes: 3 });
        assert!(matches!(scan(b"something else").1, Tail::Damaged { offset: 0, .. }));
    }

    #[test]
    fn a_record_of_very_many_ranges_is_spread_over_several() {
        let many = RANGES_PER_RECORD as u64 * 2 + 1;
        let reopened: Vec<IndexRange> = (0..many).map(|i| IndexRange::one(i * 2)).collect();
        let runs = reopened.iter().map(|range| EndedRun { range: *range, class: OutcomeClass::Failed }).collect();
        let ended = Record::Ended { round: 0, extent: None, runs };
        let round = Record::Round { round: 1, reopened };
        let mut state = super::super::LedgerState::new();
        assert_eq!(ended.pieces().len(), 3);
        ended.pieces().iter().for_each(|piece| {
            state.apply(piece);
        });
        assert_eq!((state.counts().failed, state.refused), (many, 0));
        round.pieces().iter().for_each(|piece| {
            state.apply(piece);
        });
        assert_eq!((state.counts().failed, state.round), (0, 1));
    }

    proptest! {
        #[test]
        fn a_journal_cut_anywhere_gives_the_records_before_the_cut(
            records in prop::collection::vec(any_record(), 0..8),
            place in any::<prop::sample::Index>(),
        ) {
            let (bytes, ends) = journal(&records);
            prop_assert_eq!(scan(&bytes), (records.clone(), Tail::Clean));
            let cut = place.index(bytes.len());
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let (read, tail) = scan(&bytes[..cut]);
            prop_assert_eq!(&read[..], &records[..whole]);
            let last = if whole > 0 { ends[whole - 1] } else { MAGIC.len().min(cut) };
            let rest = if whole == 0 && cut < MAGIC.len() { cut } else { cut - last };
            let expected = if rest == 0 { Tail::Clean } else { Tail::Torn { bytes: rest as u64 } };
            prop_assert_eq!(tail, expected);
        }

        #[test]
        fn a_flipped_bit_is_noticed_and_the_records_before_it_survive(
            records in prop::collection::vec(any_record(), 1..8),
            place in any::<prop::sample::Index>(),
            bit in 0..8u8,
        ) {
            let (mut bytes, ends) = journal(&records);
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let whole = if at < MAGIC.len() { 0 } else { ends.iter().filter(|end| **end <= at).count() };
            let (read, tail) = scan(&bytes);
            prop_assert_eq!(&read[..], &records[..whole]);
            prop_assert!(matches!(tail, Tail::Damaged { .. }), "{:?}", tail);
        }

        #[test]
        fn any_bytes_at_all_are_read_without_a_panic(garbage in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend(garbage);
            let _ = scan(&bytes);
        }
    }
}
