//! A number that stands for all that happened in a simulation: the same events, in the same order, at the same times.

use super::Nanos;
use std::fmt;

/// A hash over events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trace(u64);

impl Trace {
    fn add(&mut self, word: u64) {
        // A multiplication and a rotation for each word: quick, and any change changes all that follows.
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    /// An event.
    pub(super) fn note(&mut self, at: Nanos, kind: u64, what: u64) {
        self.add(at);
        self.add(kind << 56 ^ what);
    }

    /// A message.
    pub(super) fn note_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    /// What another part of the simulation did.
    pub(super) fn join(&mut self, other: Trace) {
        self.add(other.0);
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
