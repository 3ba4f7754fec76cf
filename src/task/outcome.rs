//! How a task ended, after its last attempt.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How an attempt, or a task after its last attempt, ended. Written as in `failed.jsonl`: `ok`, `exit:3`, `signal:9`,
/// `timeout`, `not-started: …`, `panic: …`, `lost`, `cancelled`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// The process ended with 0, the function returned 0.
    Ok,
    /// The process ended with a status other than 0.
    Exit(i32),
    /// A signal ended the process.
    Signal(i32),
    /// The task's time limit ran out.
    Timeout,
    /// The process could not be started; why.
    NotStarted(String),
    /// The function panicked; its message.
    Panic(String),
    /// The ranks that ran it died, as often as the crash limit allows.
    Lost,
    /// Taken back by the user before it ended.
    Cancelled,
}

impl Status {
    /// The class that the ledger counts.
    pub fn class(&self) -> OutcomeClass {
        match self {
            Status::Ok => OutcomeClass::Ok,
            Status::Cancelled => OutcomeClass::Cancelled,
            _ => OutcomeClass::Failed,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Ok => f.write_str("ok"),
            Status::Exit(code) => write!(f, "exit:{code}"),
            Status::Signal(number) => write!(f, "signal:{number}"),
            Status::Timeout => f.write_str("timeout"),
            Status::NotStarted(why) => write!(f, "not-started: {why}"),
            Status::Panic(what) => write!(f, "panic: {what}"),
            Status::Lost => f.write_str("lost"),
            Status::Cancelled => f.write_str("cancelled"),
        }
    }
}

/// The text is no status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no task status")]
pub struct StatusParseError(pub String);

impl FromStr for Status {
    type Err = StatusParseError;

    fn from_str(text: &str) -> Result<Self, StatusParseError> {
        let wrong = || StatusParseError(text.to_owned());
        Ok(match text {
            "ok" => Status::Ok,
            "timeout" => Status::Timeout,
            "lost" => Status::Lost,
            "cancelled" => Status::Cancelled,
            _ => {
                let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
                match kind {
                    "exit" => Status::Exit(rest.parse().map_err(|_| wrong())?),
                    "signal" => Status::Signal(rest.parse().map_err(|_| wrong())?),
                    "not-started" => Status::NotStarted(rest.trim_start().to_owned()),
                    "panic" => Status::Panic(rest.trim_start().to_owned()),
                    _ => return Err(wrong()),
                }
            }
        })
    }
}

/// What the ledger counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OutcomeClass {
    /// Ended well.
    Ok,
    /// Failed for good.
    Failed,
    /// Cancelled.
    Cancelled,
}

/// One captured stream: the bytes that were kept. Where `dropped > 0`, that many bytes were left out after the first
/// `head` of `bytes`; the rest of `bytes` is the stream's tail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// Head and tail, adjoining.
    pub bytes: Vec<u8>,
    /// Bytes before the cut; equals `bytes.len()` when nothing was dropped.
    pub head: u64,
    /// Bytes left out.
    pub dropped: u64,
}

impl Captured {
    /// A stream that was kept whole.
    pub fn whole(bytes: Vec<u8>) -> Self {
        Self { head: bytes.len() as u64, bytes, dropped: 0 }
    }
}

/// How one task ended, after its last attempt, with what it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Position in the bundle.
    pub index: u64,
    /// How it ended.
    pub status: Status,
    /// Attempts made, the last included; at least 1, but 0 for a task cancelled before any.
    pub attempts: u32,
    /// Start of the last attempt, microseconds since the Unix epoch by the worker's clock. For people; never compared.
    pub started_unix_us: u64,
    /// Length of the last attempt, microseconds.
    pub duration_us: u64,
    /// The rank that ran it.
    pub rank: u32,
    /// The node that ran it, a position in the run's table of node names.
    pub node: u32,
    /// Standard output.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
}

/// Failures that look alike: the same status and the same last line of standard error, whatever numbers stand in them.
/// An exit status or a signal is no such number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureGroup {
    /// How that one of them ended.
    pub status: String,
    /// Its last non-empty line of standard error, cut to `FailureDigest::LINE_BYTES`.
    pub last_line: String,
    /// How many.
    pub count: u64,
    /// Position of that one (the first that was heard of).
    pub example: u64,
    /// Node where that one ran.
    pub node: u32,
}

impl FailureGroup {
    fn looks_like(&self, other: &FailureGroup) -> bool {
        // What stands behind a colon and a blank is text: `not-started: …`, `panic: …`.
        let same_status =
            self.status == other.status || (self.status.contains(": ") && are_alike(&self.status, &other.status));
        same_status && are_alike(&self.last_line, &other.last_line)
    }
}

/// Whether two texts are equal but for runs of digits. Where they were cut, what is left may have slipped by digits, so
/// there the end of one is enough.
fn are_alike(one: &str, other: &str) -> bool {
    /// A cut may take the rest of a character too.
    const NEARLY_CUT: usize = FailureDigest::LINE_BYTES - 3;
    let (mut left, mut right) = (but_for_digits(one), but_for_digits(other));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (None, Some(_)) => return one.len() >= NEARLY_CUT,
            (Some(_), None) => return other.len() >= NEARLY_CUT,
            (a, b) if a != b => return false,
            _ => {}
        }
    }
}

/// The bytes of a text, a single 0 for each run of digits.
fn but_for_digits(text: &str) -> impl Iterator<Item = u8> + '_ {
    let mut in_digits = false;
    text.bytes().filter_map(move |byte| {
        let is_digit = byte.is_ascii_digit();
        let goes_on = std::mem::replace(&mut in_digits, is_digit) && is_digit;
        (!goes_on).then_some(if is_digit { b'0' } else { byte })
    })
}

/// Failures grouped, in bounded memory: it travels up the tree with the reports and is merged at every level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureDigest {
    /// In order of first appearance, at most `MAX_GROUPS`.
    pub groups: Vec<FailureGroup>,
    /// Failures that found no place in a group.
    pub others: u64,
}

impl FailureDigest {
    /// Groups kept.
    pub const MAX_GROUPS: usize = 64;
    /// Bytes kept of a last line.
    pub const LINE_BYTES: usize = 160;

    /// A last line, cut to what a group keeps.
    pub fn line(text: &str) -> String {
        let mut end = text.len().min(Self::LINE_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text[..end].to_owned()
    }

    /// Whether it holds no failure.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.others == 0
    }

    /// Adds a group, to one that looks alike where there is one; that one's example stays.
    pub fn add(&mut self, group: FailureGroup) {
        if let Some(at) = self.groups.iter().position(|known| known.looks_like(&group)) {
            self.groups[at].count += group.count;
        } else if self.groups.len() < Self::MAX_GROUPS {
            self.groups.push(group);
        } else {
            self.others += group.count;
        }
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: FailureDigest) {
        self.others += other.others;
        for group in other.groups {
            self.add(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_back_as_it_was_written() {
        for status in [
            Status::Ok,
            Status::Exit(3),
            Status::Signal(9),
            Status::Timeout,
            Status::NotStarted("No such file: x".into()),
            Status::Panic("a: b".into()),
            Status::Lost,
            Status::Cancelled,
        ] {
            assert_eq!(status.to_string().parse::<Status>(), Ok(status));
        }
        assert!("exit:x".parse::<Status>().is_err());
    }

    fn group(status: &str, last_line: String, example: u64) -> FailureGroup {
        FailureGroup { status: status.into(), last_line, count: 1, example, node: 0 }
    }

    fn counts(digest: &FailureDigest) -> Vec<u64> {
        digest.groups.iter().map(|group| group.count).collect()
    }

    #[test]
    fn lines_that_are_equal_but_for_numbers_are_one_group_with_the_first_ones_own_line() {
        let mut digest = FailureDigest::default();
        for n in 7..200 {
            digest.add(group("exit:1", format!("err in case {n}: 0.{n} s"), n));
        }
        assert_eq!(counts(&digest), [193]);
        assert_eq!((digest.groups[0].last_line.as_str(), digest.groups[0].example), ("err in case 7: 0.7 s", 7));
        for (status, line) in
            [("exit:2", "err in case 7: 0.7 s"), ("exit:1", "err in case x: 0.7 s"), ("exit:1", "err in case 7: 0.")]
        {
            digest.add(group(status, line.into(), 0));
        }
        assert_eq!(counts(&digest), [193, 1, 1, 1], "another status, word or end is another group");
        for n in 0..3 {
            digest.add(group(&format!("not-started: ./prog-{n}: No such file"), String::new(), n));
        }
        assert_eq!(counts(&digest)[4..], [3]);
    }

    #[test]
    fn lines_that_were_cut_at_other_places_because_of_their_numbers_are_one_group() {
        let mut digest = FailureDigest::default();
        let rest = "ä x ".repeat(100);
        for n in [9, 10, 123_456, 7] {
            digest.add(group("exit:1", FailureDigest::line(&format!("case {n} {rest}")), n));
        }
        assert_eq!(counts(&digest), [4]);
    }

    #[test]
    fn a_digest_stays_bounded_and_counts_all() {
        let mut digest = FailureDigest::default();
        for n in 0..1000u64 {
            digest.add(group("exit:1", format!("line {}", "x".repeat(n as usize % 100)), n));
        }
        assert_eq!(digest.groups.len(), FailureDigest::MAX_GROUPS);
        assert_eq!(digest.groups.iter().map(|g| g.count).sum::<u64>() + digest.others, 1000);
    }
}
