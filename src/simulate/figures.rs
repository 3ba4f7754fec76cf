//! What is counted while the machine room is at work.

use serde::Serialize;

/// Messages on the links of one level: between a depth and the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Counts by level.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Downwards and upwards, between ranks; by level.
    pub(super) down: Vec<Traffic>,
    pub(super) up: Vec<Traffic>,
    /// The most messages that waited at a rank whose highest role has this depth.
    pub(super) queue_peaks: Vec<usize>,
}

impl Tally {
    pub(super) fn new(levels: u8) -> Self {
        let levels = usize::from(levels);
        Self {
            down: vec![Traffic::default(); levels],
            up: vec![Traffic::default(); levels],
            queue_peaks: vec![0; levels + 1],
        }
    }

    /// A message was sent on a level; one within a rank costs no network.
    pub(super) fn sent(&mut self, level: u8, down: bool, bytes: u64, within_rank: bool) {
        if within_rank {
            return;
        }
        let traffic = &mut if down { &mut self.down } else { &mut self.up }[usize::from(level)];
        traffic.messages += 1;
        traffic.bytes += bytes;
    }

    pub(super) fn queued(&mut self, depth: u8, waiting: usize) {
        let peak = &mut self.queue_peaks[usize::from(depth)];
        *peak = (*peak).max(waiting);
    }
}
