//! The bytes of a message between ranks: a control part, and with reports the blocks of outcomes that go to the keeper.

use crate::schedule::{Down, Up, decode, encode_after};
use crate::task::{EndedBy, IndexRange, Rank};
use serde::{Deserialize, Serialize};

/// What travels on a link besides the scheduler's own words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Control {
    /// Scheduler, downwards; slices of what is handed out may be attached.
    Down(Down),
    /// Scheduler, upwards; blocks may be attached.
    Up(Up),
    /// Upwards: this rank cannot see the bundle file and needs these tasks; the ranks that passed it on, last first.
    Fetch {
        /// Which.
        range: IndexRange,
        /// The way back.
        path: Vec<Rank>,
    },
    /// Downwards: the slice is attached; the ranks that it still passes, next last.
    Slice {
        /// The way.
        path: Vec<Rank>,
        /// What was asked for; the slice may be less.
        asked: IndexRange,
    },
    /// Upwards: the run should end.
    Stop {
        /// Why.
        why: EndedBy,
        /// For the log and the screen.
        what: String,
    },
    /// Upwards: the tasks that run longest.
    Longest(Vec<LongRun>),
    /// Downwards: the parent is there.
    Beat {
        /// But nobody may be there for it: see [`Watch::is_cut_off`](crate::schedule::Watch::is_cut_off).
        is_cut_off: bool,
    },
    /// Downwards: all is over. Whoever hears it passes it on and leaves.
    Leave {
        /// Some rank is gone or does not answer: nothing that needs all of them can be done any more.
        without_all: bool,
    },
}

impl Control {
    /// Whether it goes from parent to child.
    pub(super) fn is_down(&self) -> bool {
        matches!(self, Control::Down(_) | Control::Slice { .. } | Control::Beat { .. } | Control::Leave { .. })
    }
}

/// A task that has been running for long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct LongRun {
    /// Position.
    pub(super) index: u64,
    /// Node.
    pub(super) node: u32,
    /// So far.
    pub(super) seconds: f32,
}

/// A message that does not have the form of one: never trusted.
#[derive(Debug, thiserror::Error)]
#[error("rank {from} sent {len} bytes that are no message")]
pub(super) struct BadMessage {
    from: Rank,
    len: usize,
}

const LENGTH_BYTES: usize = 4;
/// Room for the length and the control part: most are shorter.
const HEAD_BYTES: usize = 512;

/// The bytes of a message.
pub(super) fn pack(control: &Control, attached: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + attached.len());
    bytes.extend_from_slice(&[0; LENGTH_BYTES]);
    let mut bytes = encode_after(control, bytes);
    let head = (bytes.len() - LENGTH_BYTES) as u32;
    bytes[..LENGTH_BYTES].copy_from_slice(&head.to_le_bytes());
    bytes.extend_from_slice(attached);
    bytes
}

/// The message in the bytes, and what is attached.
pub(super) fn unpack(from: Rank, mut bytes: Vec<u8>) -> Result<(Control, Vec<u8>), BadMessage> {
    let bad = BadMessage { from, len: bytes.len() };
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else { return Err(bad) };
    let end = LENGTH_BYTES + u32::from_le_bytes(*length) as usize;
    let Some(head) = bytes.get(LENGTH_BYTES..end) else { return Err(bad) };
    let Ok(control) = decode::<Control>(head) else { return Err(bad) };
    if bytes.len() == end {
        return Ok((control, Vec::new()));
    }
    bytes.drain(..end);
    Ok((control, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_back_and_a_damaged_one_is_not() {
        let control = Control::Longest(vec![LongRun { index: 3, node: 1, seconds: 2.5 }]);
        let bytes = pack(&control, b"blocks");
        assert_eq!(unpack(Rank(1), bytes.clone()).expect("it is whole"), (control, b"blocks".to_vec()));
        for cut in 0..bytes.len() - 6 {
            assert!(unpack(Rank(1), bytes[..cut].to_vec()).is_err(), "cut to {cut} bytes");
        }
        assert!(unpack(Rank(1), vec![0xff; 40]).is_err());
    }
}
