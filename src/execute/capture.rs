//! One captured stream in bounded memory: its head and its tail.
//!
//! Knows nothing of where the bytes come from.

/// Keeps the first half and the last half of a limit; memory grows only as bytes come.
#[derive(Debug, Default)]
pub(super) struct Capture {
    head: Vec<u8>,
    /// A ring once it has reached `tail_limit`; `oldest` is then where it starts.
    tail: Vec<u8>,
    oldest: usize,
    head_limit: usize,
    tail_limit: usize,
    dropped: u64,
}

/// Buffers above this are given back after a task that printed much.
const KEPT_CAPACITY: usize = 256 << 10;

impl Capture {
    /// Forgets what was kept and sets the limit in bytes.
    pub(super) fn reset(&mut self, limit: u64) {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.head_limit = limit.div_ceil(2);
        self.tail_limit = limit / 2;
        self.oldest = 0;
        self.dropped = 0;
        for buffer in [&mut self.head, &mut self.tail] {
            buffer.clear();
            buffer.shrink_to(KEPT_CAPACITY);
        }
    }

    /// Takes the next bytes of the stream.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        let room = self.head_limit - self.head.len();
        if room > 0 {
            let (fits, rest) = bytes.split_at(room.min(bytes.len()));
            self.head.extend_from_slice(fits);
            bytes = rest;
        }
        if bytes.len() > self.tail_limit {
            // All that the tail holds now goes, and the front of what comes.
            let (gone, rest) = bytes.split_at(bytes.len() - self.tail_limit);
            self.dropped += (gone.len() + self.tail.len()) as u64;
            self.tail.clear();
            self.oldest = 0;
            bytes = rest;
        }
        let (grows, over) = bytes.split_at((self.tail_limit - self.tail.len()).min(bytes.len()));
        self.tail.extend_from_slice(grows);
        self.dropped += over.len() as u64;
        self.overwrite(over);
    }

    /// Puts bytes in place of the oldest of a full ring; there are at most as many as it holds.
    fn overwrite(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let to_end = (self.tail.len() - self.oldest).min(bytes.len());
        let (first, second) = bytes.split_at(to_end);
        self.tail[self.oldest..self.oldest + to_end].copy_from_slice(first);
        self.tail[..second.len()].copy_from_slice(second);
        self.oldest = (self.oldest + bytes.len()) % self.tail.len();
    }

    /// What was kept, in order: the head, then the tail in two pieces.
    pub(super) fn pieces(&self) -> [&[u8]; 3] {
        let (newer, older) = self.tail.split_at(self.oldest);
        [&self.head, older, newer]
    }

    /// Bytes kept.
    pub(super) fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Where the cut is: the length of the head, or of all when nothing was dropped.
    pub(super) fn cut(&self) -> usize {
        if self.dropped > 0 { self.head.len() } else { self.len() }
    }

    /// Bytes left out.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn head_and_tail_are_those_of_the_stream(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            limit in 0u64..100,
        ) {
            let mut capture = Capture::default();
            capture.reset(limit);
            pieces.iter().for_each(|piece| capture.push(piece));
            let stream = pieces.concat();
            let kept = capture.pieces().concat();
            let limit = limit as usize;
            if stream.len() <= limit {
                prop_assert_eq!(&kept, &stream);
                prop_assert_eq!((capture.cut(), capture.dropped()), (stream.len(), 0));
            } else {
                let (head, tail) = (limit.div_ceil(2), limit / 2);
                prop_assert_eq!(&kept[..head], &stream[..head]);
                prop_assert_eq!(&kept[head..], &stream[stream.len() - tail..]);
                prop_assert_eq!((capture.cut(), capture.dropped()), (head, (stream.len() - limit) as u64));
            }
        }
    }

    #[test]
    fn memory_does_not_grow_with_the_stream_and_is_given_back() {
        let mut capture = Capture::default();
        capture.reset(1 << 20);
        for _ in 0..200 {
            capture.push(&[7; 100_000]);
        }
        assert_eq!(capture.len(), 1 << 20);
        assert!(capture.head.capacity() + capture.tail.capacity() <= 4 << 20);
        capture.reset(1 << 20);
        assert!(capture.head.capacity() + capture.tail.capacity() <= 2 * KEPT_CAPACITY);
    }
}
