//! What a rank knows of the tasks themselves: the parts of the run's bundle that lie on it. A run of the command has one
//! part, read from the bundle file where the rank sees it; an embedding program adds parts while others run. A rank that
//! lacks a part is sent slices of it.
//!
//! Positions in the run count through all parts.

use crate::execute::functions::{Calls, Function};
use crate::task::{Bundle, IndexRange};
use std::collections::VecDeque;
use std::sync::Arc;

/// Where a part stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PartPlace {
    /// The run's position of the part's position 0.
    pub(super) base: u64,
    /// Added to what the part calls a task, for what the user calls it.
    pub(super) first: u64,
}

/// Bytes before a slice that travels: place and length.
const PARCEL_HEAD_BYTES: usize = 24;

/// Appends a slice for another rank.
pub(super) fn put_parcel(to: &mut Vec<u8>, place: PartPlace, slice: &[u8]) {
    to.reserve(PARCEL_HEAD_BYTES + slice.len());
    for number in [place.base, place.first, slice.len() as u64] {
        to.extend_from_slice(&number.to_le_bytes());
    }
    to.extend_from_slice(slice);
}

/// Finds functions by the names that bundles give.
pub(super) type FindFunction = Arc<dyn Fn(&str) -> Function + Send + Sync>;

/// Tasks that lie on this rank.
#[derive(Debug)]
pub(super) struct Part {
    place: PartPlace,
    /// The positions in the run that it holds.
    pub(super) held: IndexRange,
    pub(super) bundle: Arc<Bundle>,
    /// Where some tasks are functions.
    pub(super) calls: Option<Arc<Calls>>,
}

impl Part {
    /// Whether it is an array or a grid: all of it, then.
    fn is_symbolic(&self) -> bool {
        self.bundle.is_symbolic() && self.bundle.held().len() == self.bundle.len()
    }

    /// The position within its bundle.
    pub(super) fn within(&self, index: u64) -> u64 {
        index - self.place.base
    }
}

/// The parts and slices that lie on one rank.
pub(super) struct Parts {
    /// Kept until they are taken away, in order.
    own: VecDeque<Arc<Part>>,
    /// Sent by others, the latest last; only so many are kept.
    slices: VecDeque<Arc<Part>>,
    slice_bytes: u64,
    /// How many of them are arrays or grids.
    symbolic_slices: usize,
    find: FindFunction,
    /// Nothing ever has to be asked for.
    complete: bool,
}

impl Parts {
    /// Slices kept; one that was dropped too soon is asked for again.
    const SLICES: usize = 256;
    /// Bytes of slices kept, but for the last one.
    const SLICES_BYTES: u64 = 32 << 20;
    /// Tasks of a slice, at most.
    pub(super) const SLICE_TASKS: u64 = 16_384;
    /// Bytes of a slice, but for its first task.
    const SLICE_BYTES: u64 = if cfg!(test) { 40_000 } else { 512 << 10 };

    /// Nothing so far. `complete`: all parts will be added before they are needed.
    pub(super) fn new(find: FindFunction, complete: bool) -> Self {
        Self { own: VecDeque::new(), slices: VecDeque::new(), slice_bytes: 0, symbolic_slices: 0, find, complete }
    }

    /// Whether nothing ever has to be asked for.
    pub(super) fn are_complete(&self) -> bool {
        self.complete
    }

    /// Behind another, perhaps, that may have the same template.
    fn part(&self, place: PartPlace, bundle: Bundle, before: Option<&Arc<Part>>) -> Arc<Part> {
        let bundle = Arc::new(bundle);
        let held = bundle.held();
        let held = IndexRange::new(place.base + held.start, place.base + held.end);
        let known = before.filter(|before| before.bundle.shares_template(&bundle));
        let functions: Arc<[Function]> = match known.and_then(|known| known.calls.as_ref()) {
            Some(calls) => calls.functions.clone(),
            None => bundle.functions().iter().map(|name| (self.find)(name)).collect(),
        };
        let calls = || Arc::new(Calls { bundle: bundle.clone(), base: place.base, first: place.first, functions });
        let calls = (!bundle.functions().is_empty()).then(calls);
        Arc::new(Part { place, held, bundle, calls })
    }

    /// Adds a part, to be kept; it stands behind all others.
    pub(super) fn add(&mut self, place: PartPlace, bundle: Bundle) {
        let part = self.part(place, bundle, self.own.back());
        self.own.push_back(part);
    }

    /// Adds slices that were sent, for as long as there is room.
    pub(super) fn add_parcels(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_first_chunk::<PARCEL_HEAD_BYTES>().ok_or("it is cut off")?;
            let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| head[8 * at + byte]));
            let (base, first, length) = (number(0), number(1), usize::try_from(number(2)).unwrap_or(usize::MAX));
            let (slice, rest) = rest.split_at_checked(length).ok_or("it is cut off")?;
            bytes = rest;
            let is_known = |known: &Arc<Part>| {
                known.place.base == base && known.bundle.bytes_len() == length as u64 && known.is_symbolic()
            };
            if self.symbolic_slices > 0 && self.slices.iter().any(is_known) {
                // An array comes along with each of its ranges.
                continue;
            }
            let before = self.slices.back();
            let bundle = Bundle::from_bytes_after(slice.to_vec(), before.map(|part| &*part.bundle));
            let slice = bundle.map_err(|error| error.to_string())?;
            if base.checked_add(slice.len()).and_then(|end| end.checked_add(first)).is_none() {
                return Err("its place is none".to_owned());
            }
            let part = self.part(PartPlace { base, first }, slice, before);
            self.slice_bytes += part.bundle.bytes_len();
            self.symbolic_slices += usize::from(part.is_symbolic());
            self.slices.push_back(part);
            while self.slices.len() > Self::SLICES || (self.slices.len() > 1 && self.slice_bytes > Self::SLICES_BYTES) {
                let Some(dropped) = self.slices.pop_front() else { break };
                self.slice_bytes -= dropped.bundle.bytes_len();
                self.symbolic_slices -= usize::from(dropped.is_symbolic());
            }
        }
        Ok(())
    }

    /// Takes a part away, all of whose tasks have ended.
    pub(super) fn remove(&mut self, base: u64) {
        if let Ok(at) = self.own.binary_search_by_key(&base, |part| part.place.base) {
            self.own.remove(at);
        }
    }

    /// The part that holds this task, if it is here.
    pub(super) fn part_of(&self, index: u64) -> Option<&Arc<Part>> {
        let behind = self.own.partition_point(|part| part.held.start <= index);
        let own = behind.checked_sub(1).and_then(|at| self.own.get(at)).filter(|part| part.held.contains(index));
        own.or_else(|| self.slices.iter().rev().find(|part| part.held.contains(index)))
    }

    /// The first tasks of the range as one slice, with the range that it covers; none where they are not here, or where no
    /// slice of at most about so many bytes would hold the first.
    pub(super) fn extract_within(&self, range: IndexRange, bytes: u64) -> Option<(PartPlace, IndexRange, Vec<u8>)> {
        let part = self.part_of(range.start)?;
        (part.bundle.least_slice_bytes(part.within(range.start)) <= bytes).then(|| self.extract_up_to(range, bytes))?
    }

    /// The first tasks of the range as one slice, with the range that it covers; none where they are not here.
    pub(super) fn extract(&self, range: IndexRange) -> Option<(PartPlace, IndexRange, Vec<u8>)> {
        self.extract_up_to(range, Self::SLICE_BYTES)
    }

    fn extract_up_to(&self, range: IndexRange, bytes: u64) -> Option<(PartPlace, IndexRange, Vec<u8>)> {
        let part = self.part_of(range.start)?;
        let covered = IndexRange::new(range.start, range.end.min(part.held.end));
        let own = IndexRange::new(part.within(covered.start), part.within(covered.end));
        let own = part.bundle.first_of(own, bytes);
        let covered = IndexRange::new(covered.start, part.place.base + own.end);
        Some((part.place, covered, part.bundle.extract(own)))
    }
}

/// What a worker has asked for, and what has not come yet.
#[derive(Debug, Default)]
pub(super) struct Asked(Vec<IndexRange>);

impl Asked {
    /// The parts of the range to ask for: those that neither are here nor have been asked for. Looks at no more `pieces`,
    /// here or not, than so many, and takes them off.
    pub(super) fn ask_for(&mut self, parts: &Parts, range: IndexRange, pieces: &mut usize) -> Vec<IndexRange> {
        let mut missing = Vec::new();
        let mut start = range.start;
        while start < range.end && *pieces > 0 {
            *pieces -= 1;
            let known = parts.part_of(start).map(|part| part.held.end);
            let known = known.or_else(|| self.0.iter().find(|asked| asked.contains(start)).map(|asked| asked.end));
            let end = known.unwrap_or(start + Parts::SLICE_TASKS).min(range.end);
            if known.is_none() {
                missing.push(IndexRange::new(start, end));
            }
            start = end;
        }
        self.0.extend(&missing);
        missing
    }

    /// This was answered, perhaps with less than all of it.
    pub(super) fn answered(&mut self, asked: IndexRange) {
        self.0.retain(|waiting| *waiting != asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Input, Source, TemplateOptions, write_bundle};

    fn bundle_of(tasks: u64) -> Bundle {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        std::fs::write(&list, "echo\n".repeat(tasks as usize)).unwrap();
        let source = Source::Lines(Input::new(&list));
        write_bundle(&source, &TemplateOptions::default(), &folder.path().join("bundle")).unwrap().bundle
    }

    fn parts() -> Parts {
        Parts::new(Arc::new(|_| Arc::new(|_| 0)), false)
    }

    #[test]
    fn a_parcel_is_read_back_and_a_damaged_one_is_not() {
        let (mut here, mut there) = (parts(), parts());
        for base in [0, 10] {
            here.add(PartPlace { base, first: base }, bundle_of(10));
        }
        let mut bytes = Vec::new();
        let (place, covered, slice) = here.extract(IndexRange::new(12, 30)).expect("it is here");
        assert_eq!(covered, IndexRange::new(12, 20), "the part ends there");
        put_parcel(&mut bytes, place, &slice);
        let (place, _, slice) = here.extract(IndexRange::new(3, 5)).expect("it is here");
        put_parcel(&mut bytes, place, &slice);
        there.add_parcels(&bytes).expect("they are whole");
        let known: Vec<u64> = (0..20).filter(|index| there.part_of(*index).is_some()).collect();
        assert_eq!(known, [3, 4, 12, 13, 14, 15, 16, 17, 18, 19]);
        assert!(there.part_of(13).is_some_and(|part| part.within(13) == 3));
        for cut in 1..bytes.len() {
            let read = parts().add_parcels(&bytes[..cut]);
            assert!(read.is_err() || cut == bytes.len() - slice.len() - PARCEL_HEAD_BYTES, "cut to {cut} bytes");
        }
        here.remove(0);
        assert!(here.part_of(3).is_none() && here.part_of(13).is_some());
    }

    #[test]
    fn a_slice_is_bounded_in_bytes_but_holds_a_task() {
        let mut here = parts();
        let tasks = 3 * Parts::SLICE_BYTES / 5;
        here.add(PartPlace::default(), bundle_of(tasks));
        let (_, covered, _) = here.extract(IndexRange::new(100, tasks)).expect("it is here");
        assert_eq!(covered, IndexRange::new(100, 100 + Parts::SLICE_BYTES / 5));
    }
}
