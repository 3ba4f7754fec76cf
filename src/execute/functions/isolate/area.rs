//! The memory that a rank shares with one call process: which tasks of an order are claimed, how many have ended, and what
//! those left behind.

use super::super::slots::Window;
use crate::execute::sys::check;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the results begin; the counters lie before them, each in a cache line of its own.
const HEAD_BYTES: usize = 4096;
const WINDOW: usize = 0;
const ENDED: usize = 64;
const SINCE: usize = 128;
/// Room for results.
const RESULT_BYTES: usize = 512 << 10;

/// One side's view of it.
#[derive(Debug)]
pub(super) struct Area {
    map: MmapRaw,
}

impl Area {
    /// New memory, and what the other side opens it with. It cannot be made smaller, so that no access fails.
    pub(super) fn new() -> io::Result<(Area, OwnedFd)> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name ends with NUL; the descriptor that is returned is nobody else's.
        let file = unsafe { File::from_raw_fd(check(libc::memfd_create(c"myriarch-call".as_ptr(), flags))?) };
        file.set_len((HEAD_BYTES + RESULT_BYTES) as u64)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: fcntl takes plain numbers here.
        check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
        let file = OwnedFd::from(file);
        Ok((Self::open(&file)?, file))
    }

    /// The memory behind that descriptor.
    pub(super) fn open(file: &OwnedFd) -> io::Result<Area> {
        let map = MmapOptions::new().len(HEAD_BYTES + RESULT_BYTES).map_raw(file)?;
        Ok(Self { map })
    }

    fn counter(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the place lies in the map, which lives as long as the reference, and is aligned; both sides access it
        // as an atomic number and in no other way.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }

    /// The tasks of the order, by their places in it, that are not claimed.
    pub(super) fn window(&self) -> &Window {
        // SAFETY: a window is an atomic number.
        unsafe { &*std::ptr::from_ref(self.counter(WINDOW)).cast::<Window>() }
    }

    /// Begins an order of so many tasks.
    pub(super) fn begin(&self, tasks: u32) {
        self.counter(ENDED).store(0, Ordering::Relaxed);
        self.counter(SINCE).store(0, Ordering::Relaxed);
        self.window().open(tasks);
    }

    /// Says when the task began that runs, in nanoseconds from the start of the order.
    pub(super) fn note_start(&self, ns: u64) {
        self.counter(SINCE).store(ns, Ordering::Relaxed);
    }

    /// When the task began that was noted last.
    pub(super) fn last_start(&self) -> u64 {
        self.counter(SINCE).load(Ordering::Relaxed)
    }

    /// Whether there is room for another result behind so many bytes.
    pub(super) fn has_room(used: usize) -> bool {
        used + super::wire::MAX_RECORD_BYTES <= RESULT_BYTES
    }

    /// Leaves a result behind the `used` bytes of those before. It counts with the next [`note_ended`](Self::note_ended).
    ///
    /// # Panics
    /// Where there is no room.
    pub(super) fn put(&self, used: usize, record: &[u8]) {
        assert!(used + record.len() <= RESULT_BYTES, "there is room for a result");
        // SAFETY: the place lies in the map; the other side does not look at it before it is counted.
        unsafe {
            let to = self.map.as_mut_ptr().add(HEAD_BYTES + used);
            std::ptr::copy_nonoverlapping(record.as_ptr(), to, record.len());
        }
    }

    /// Says that so many tasks have ended, and have left so many bytes.
    pub(super) fn note_ended(&self, tasks: u32, bytes: usize) {
        self.counter(ENDED).store((bytes as u64) << 32 | u64::from(tasks), Ordering::Release);
    }

    /// How many tasks have ended. What they left is put into `results`: whoever runs there may write on.
    pub(super) fn ended(&self, results: &mut Vec<u8>) -> u32 {
        let state = self.counter(ENDED).load(Ordering::Acquire);
        let bytes = ((state >> 32) as usize).min(RESULT_BYTES);
        results.clear();
        results.reserve(bytes);
        // SAFETY: so many bytes lie in the map, and there is room for them. One that the other side writes at the same
        // time, against all rules, is some byte: the result is not trusted.
        unsafe {
            let from = self.map.as_ptr().add(HEAD_BYTES);
            std::ptr::copy_nonoverlapping(from, results.as_mut_ptr(), bytes);
            results.set_len(bytes);
        }
        state as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_leaves_the_other_finds() {
        let (ours, file) = Area::new().unwrap();
        let theirs = Area::open(&file).unwrap();
        ours.begin(3);
        assert_eq!((theirs.window().claim(), theirs.window().claim()), (Some(0), Some(1)));
        theirs.put(0, b"first");
        theirs.note_ended(1, 5);
        theirs.note_start(77);
        theirs.put(5, b"not counted");
        let mut results = Vec::new();
        assert_eq!((ours.ended(&mut results), &results[..]), (1, &b"first"[..]));
        assert_eq!((ours.window().claimed(), ours.last_start()), (2, 77));
        assert_eq!(ours.window().cut(), Some((2, 3)));
        assert_eq!((theirs.window().claim(), theirs.window().claimed()), (None, 2));
    }

    #[test]
    fn counters_that_were_written_over_name_no_bytes_that_are_not_there() {
        let (area, _) = Area::new().unwrap();
        area.note_ended(u32::MAX, usize::MAX >> 1);
        let mut results = Vec::new();
        assert_eq!((area.ended(&mut results), results.len()), (u32::MAX, RESULT_BYTES));
    }

    #[test]
    fn it_cannot_be_made_smaller() {
        let (_area, file) = Area::new().unwrap();
        assert!(File::from(file).set_len(0).is_err());
    }
}
