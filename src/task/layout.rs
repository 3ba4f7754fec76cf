//! The bytes of a bundle file: one header, then payload, index, shape runs and template, each with its length and
//! checksum in the header. All numbers are little-endian and unaligned, so that a mapped file and a slice that came
//! in a message read alike. Knows nothing of what a template says.
//!
//! ```text
//! | header | payload: the tasks' own bytes | index: Entry per task | runs: RunRecord per run of equal shape | template |
//! ```

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub(super) const MAGIC: [u8; 8] = *b"MYRIBNDL";
pub(super) const VERSION: u32 = 3;

/// First bytes of the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub(super) magic: [u8; 8],
    pub(super) version: U32,
    /// Over the header with this field zero.
    pub(super) header_crc: U32,
    /// Content identity of the whole bundle, in a slice too.
    pub(super) id: U64,
    /// Tasks of the whole bundle.
    pub(super) len: U64,
    /// First position held here.
    pub(super) start: U64,
    /// One past the last position held here.
    pub(super) end: U64,
    pub(super) payload_bytes: U64,
    pub(super) entries: U64,
    pub(super) runs: U64,
    pub(super) template_bytes: U64,
    pub(super) payload_crc: U32,
    pub(super) entries_crc: U32,
    pub(super) runs_crc: U32,
    pub(super) template_crc: U32,
    pub(super) max_cores: U32,
    pub(super) max_gpus: U32,
}

/// Where a task's text lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Entry {
    /// From the start of the payload.
    pub(super) offset: U64,
    pub(super) length: U32,
    /// Lines of the source up to this one that are no tasks: line = position + 1 + skipped.
    pub(super) skipped: U32,
}

/// Consecutive tasks of one shape, up to `end` (exclusive) from where the run before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RunRecord {
    pub(super) end: U64,
    pub(super) cores: U32,
    pub(super) gpus: U32,
    pub(super) retries: U32,
    /// 1 where the tasks are functions, 0 where they are processes.
    pub(super) calls: U32,
}

pub(super) const HEADER_BYTES: usize = size_of::<Header>();

/// What can be wrong with the bytes of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// No bundle at all.
    #[error("this is no bundle file")]
    NoBundle,
    /// Another version of the format.
    #[error("the bundle has format version {0}, this program reads version {VERSION}")]
    Version(u32),
    /// Shorter or longer than the header says.
    #[error("the bundle is {found} bytes long, its header says {expected}")]
    Length {
        /// Bytes there are.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// The checksum of a section does not fit.
    #[error("the {section} of the bundle is damaged (bytes {start} to {end}: wrong checksum)")]
    Checksum {
        /// Which section.
        section: &'static str,
        /// Its first byte.
        start: u64,
        /// One past its last byte.
        end: u64,
    },
    /// The checksums fit, and yet the content makes no sense.
    #[error("the {section} of the bundle contradicts itself: {why}")]
    Content {
        /// Which section.
        section: &'static str,
        /// What is wrong.
        why: &'static str,
    },
}

/// The sections of a checked bundle, as positions in its bytes.
#[derive(Clone, Debug)]
pub(super) struct Sections {
    pub(super) header: Header,
    pub(super) payload: std::ops::Range<usize>,
    pub(super) entries: std::ops::Range<usize>,
    pub(super) runs: std::ops::Range<usize>,
    pub(super) template: std::ops::Range<usize>,
}

impl Header {
    /// The checksum that belongs in `header_crc`.
    pub(super) fn checksum(&self) -> u32 {
        crc32c::crc32c(Header { header_crc: U32::ZERO, ..*self }.as_bytes())
    }

    /// Lengths of the four sections and of the whole; `None` when they overflow.
    fn section_bytes(&self) -> Option<([u64; 4], u64)> {
        let entries = self.entries.get().checked_mul(size_of::<Entry>() as u64)?;
        let runs = self.runs.get().checked_mul(size_of::<RunRecord>() as u64)?;
        let sections = [self.payload_bytes.get(), entries, runs, self.template_bytes.get()];
        let total = sections.iter().try_fold(HEADER_BYTES as u64, |sum, bytes| sum.checked_add(*bytes))?;
        Some((sections, total))
    }
}

/// Checks magic, version, lengths and all checksums, in this order, before anything is believed.
pub(super) fn check(bytes: &[u8]) -> Result<Sections, Damage> {
    let Ok((header, _)) = Header::read_from_prefix(bytes) else { return Err(Damage::NoBundle) };
    if header.magic != MAGIC {
        return Err(Damage::NoBundle);
    }
    if header.version.get() != VERSION {
        return Err(Damage::Version(header.version.get()));
    }
    if header.checksum() != header.header_crc.get() {
        return Err(Damage::Checksum { section: "header", start: 0, end: HEADER_BYTES as u64 });
    }
    let found = bytes.len() as u64;
    let (lengths, expected) = header.section_bytes().ok_or(Damage::Length { found, expected: u64::MAX })?;
    if found != expected {
        return Err(Damage::Length { found, expected });
    }
    let crcs = [header.payload_crc, header.entries_crc, header.runs_crc, header.template_crc];
    let mut start = HEADER_BYTES;
    let mut ranges = [(); 4].map(|()| 0..0);
    for (at, section) in ["payload", "index", "shapes", "template"].into_iter().enumerate() {
        // The sum equals the length of a slice in memory, so each part fits a usize.
        let end = start + lengths[at] as usize;
        if crc32c::crc32c(&bytes[start..end]) != crcs[at].get() {
            return Err(Damage::Checksum { section, start: start as u64, end: end as u64 });
        }
        ranges[at] = start..end;
        start = end;
    }
    let [payload, entries, runs, template] = ranges;
    let sections = Sections { header, payload, entries, runs, template };
    check_counts(bytes, &sections)?;
    Ok(sections)
}

fn check_counts(bytes: &[u8], sections: &Sections) -> Result<(), Damage> {
    let header = &sections.header;
    let (start, end, len) = (header.start.get(), header.end.get(), header.len.get());
    if start > end || end > len {
        return Err(Damage::Content { section: "header", why: "its range of tasks runs out of the bundle" });
    }
    if header.entries.get() != 0 && header.entries.get() != end - start {
        return Err(Damage::Content { section: "index", why: "it has not one entry per task" });
    }
    let mut last = start;
    for run in run_records(&bytes[sections.runs.clone()]) {
        if run.end.get() <= last {
            return Err(Damage::Content { section: "shapes", why: "a run of equal shape has no task" });
        }
        last = run.end.get();
    }
    if last != end {
        return Err(Damage::Content { section: "shapes", why: "they do not cover the tasks" });
    }
    Ok(())
}

/// The runs in a section's bytes.
pub(super) fn run_records(bytes: &[u8]) -> &[RunRecord] {
    <[RunRecord]>::ref_from_bytes(bytes).unwrap_or(&[])
}

/// The index entries in a section's bytes.
pub(super) fn entries(bytes: &[u8]) -> &[Entry] {
    <[Entry]>::ref_from_bytes(bytes).unwrap_or(&[])
}

/// The bytes of a small bundle, put together in memory. Counts and checksums of the header are set here.
pub(super) fn assemble(
    mut header: Header,
    payload: &[u8],
    entries: &[Entry],
    runs: &[RunRecord],
    template: &[u8],
) -> Vec<u8> {
    header.payload_bytes.set(payload.len() as u64);
    header.entries.set(entries.len() as u64);
    header.runs.set(runs.len() as u64);
    header.template_bytes.set(template.len() as u64);
    header.payload_crc.set(crc32c::crc32c(payload));
    header.entries_crc.set(crc32c::crc32c(entries.as_bytes()));
    header.runs_crc.set(crc32c::crc32c(runs.as_bytes()));
    header.template_crc.set(crc32c::crc32c(template));
    header.header_crc.set(header.checksum());
    [header.as_bytes(), payload, entries.as_bytes(), runs.as_bytes(), template].concat()
}
