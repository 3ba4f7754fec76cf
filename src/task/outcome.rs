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

/// Failures that look alike: the same status and the same last line of standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureGroup {
    /// How they ended.
    pub status: String,
    /// Last non-empty line of standard error, cut to `FailureDigest::LINE_BYTES`.
    pub last_line: String,
    /// How many.
    pub count: u64,
    /// Position of one of them (the first that was heard of).
    pub example: u64,
    /// Node where that one ran.
    pub node: u32,
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

    /// Adds a group, to a like one where there is one.
    pub fn add(&mut self, group: FailureGroup) {
        let like = |g: &FailureGroup| g.status == group.status && g.last_line == group.last_line;
        if let Some(at) = self.groups.iter().position(like) {
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

    #[test]
    fn a_digest_stays_bounded_and_counts_all() {
        let mut digest = FailureDigest::default();
        for n in 0..1000u64 {
            digest.add(FailureGroup {
                status: "exit:1".into(),
                last_line: format!("line {}", n % 100),
                count: 1,
                example: n,
                node: 0,
            });
        }
        assert_eq!(digest.groups.len(), FailureDigest::MAX_GROUPS);
        assert_eq!(digest.groups.iter().map(|g| g.count).sum::<u64>() + digest.others, 1000);
    }
}
