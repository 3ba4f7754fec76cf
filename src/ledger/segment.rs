//! Segments: the append-only files in which keepers put the blocks of the ranks under them.
//!
//! A segment is blocks and nothing else. Which of them count is for the journal to say.

use super::appender::{Appender, Opened};
use super::block::BlockHeader;
use super::error::LedgerError;
use crate::task::Extent;
use crate::wake::Wake;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Subfolders over which segments are spread.
const FOLDERS: u32 = 100;

/// Where a segment lies below the folder of segments.
pub(crate) fn segment_path(segments: &Path, segment: u32) -> PathBuf {
    segments.join(format!("{:02}", segment % FOLDERS)).join(format!("{segment:08}.seg"))
}

/// The number in a segment's file name.
fn segment_number(name: &str) -> Option<u32> {
    name.strip_suffix(".seg")?.parse().ok()
}

/// Numbers of all segments, ascending. None when the folder is absent.
pub(crate) fn list_segments(segments: &Path) -> Result<Vec<u32>, LedgerError> {
    let mut numbers = Vec::new();
    let folders = match std::fs::read_dir(segments) {
        Ok(folders) => folders,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(numbers),
        Err(e) => return Err(LedgerError::io("list", segments)(e)),
    };
    for folder in folders {
        let folder = folder.map_err(LedgerError::io("list", segments))?.path();
        if !folder.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&folder).map_err(LedgerError::io("list", &folder))? {
            let name = file.map_err(LedgerError::io("list", &folder))?.file_name();
            numbers.extend(name.to_str().and_then(segment_number));
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Appends blocks to one segment, on a thread of its own.
#[derive(Debug)]
pub struct SegmentWriter {
    segment: u32,
    appender: Appender,
}

impl SegmentWriter {
    /// A writer of segment `segment` below `dir`, the run's folder of segments. The number must not have been used
    /// in this DIR; the file is made at the first append. `sync`: at most so long after it was written a block is
    /// synced; zero: before it counts as durable. `wake` rings when [`durable`](Self::durable) or
    /// [`error`](Self::error) moved.
    pub fn new(dir: &Path, segment: u32, sync: Duration, wake: Wake) -> Self {
        let path = segment_path(dir, segment);
        let (at, segments) = (path.clone(), dir.to_owned());
        let open = Box::new(move || create(&at, &segments));
        Self { segment, appender: Appender::new("myr-segment", &path, 0, sync, wake, open) }
    }

    /// Queues a block and says where it will lie: right behind the one before. Never blocks on the file system.
    pub fn append(&mut self, block: Vec<u8>) -> Extent {
        let (offset, len) = (self.appender.queued_to(), block.len() as u64);
        self.appender.append(block);
        Extent { segment: self.segment, offset, len }
    }

    /// Where the next block will lie.
    pub fn end(&self) -> u64 {
        self.appender.queued_to()
    }

    /// Has what was gathered written, unless that can wait. To be called now and then.
    pub fn pass_on(&mut self) {
        self.appender.pass_on();
    }

    /// Bytes that wait to be written: what back-pressure goes by.
    pub fn queued_bytes(&self) -> u64 {
        self.appender.queued_bytes()
    }

    /// Extents that end at or below this may be told: they are written, or synced when the sync interval is zero.
    pub fn durable(&self) -> u64 {
        self.appender.durable()
    }

    /// Extents that end at or below this survive the node.
    pub fn synced(&self) -> u64 {
        self.appender.synced()
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

fn create(path: &Path, segments: &Path) -> io::Result<Opened> {
    let folder = path.parent().unwrap_or(segments);
    // Tried first without the folder's creation: most segments find it there.
    let file = match File::create_new(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(folder)?;
            File::create_new(path)?
        }
        other => other?,
    };
    let mut folders = vec![folder.to_owned(), segments.to_owned()];
    folders.extend(segments.parent().map(Path::to_owned));
    Ok(Opened { file, folders })
}

/// A segment opened for reading.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub path: PathBuf,
    pub len: u64,
    file: File,
}

impl SegmentFile {
    /// Opens segment `segment` below the folder `segments`.
    pub fn open(segments: &Path, segment: u32) -> Result<Self, LedgerError> {
        let path = segment_path(segments, segment);
        let file = File::open(&path).map_err(LedgerError::io("open", &path))?;
        let len = file.metadata().map_err(LedgerError::io("look at", &path))?.len();
        Ok(Self { path, len, file })
    }

    /// The header at `offset` of a block that ends at or before `limit`.
    pub fn header(&self, offset: u64, limit: u64) -> Result<BlockHeader, LedgerError> {
        let limit = limit.min(self.len);
        if limit < offset || limit - offset < BlockHeader::BYTES as u64 {
            return Err(LedgerError::Block("header cut off").at(&self.path, offset));
        }
        let mut bytes = [0u8; BlockHeader::BYTES];
        self.file.read_exact_at(&mut bytes, offset).map_err(LedgerError::io("read", &self.path))?;
        let header = BlockHeader::parse(&bytes).map_err(|e| e.at(&self.path, offset))?;
        if header.total_bytes() > limit - offset {
            return Err(LedgerError::Block("payload cut off").at(&self.path, offset));
        }
        Ok(header)
    }

    /// The payload of the block at `offset` whose header [`header`](Self::header) gave; not checked yet.
    pub fn payload(&self, header: &BlockHeader, offset: u64, into: &mut Vec<u8>) -> Result<(), LedgerError> {
        let len = usize::try_from(header.payload_bytes)
            .map_err(|_| LedgerError::Block("payload larger than memory").at(&self.path, offset))?;
        into.clear();
        into.resize(len, 0);
        let at = offset + BlockHeader::BYTES as u64;
        self.file.read_exact_at(into, at).map_err(LedgerError::io("read", &self.path))
    }

    /// These bytes.
    pub fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>, LedgerError> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).map_err(LedgerError::io("read", &self.path))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::{BlockBuilder, read_block};
    use super::super::testing::{eventually, ok};
    use super::*;

    fn block(index: u64) -> Vec<u8> {
        let mut builder = BlockBuilder::new(1, 0);
        builder.push(&ok(index));
        builder.finish()
    }

    #[test]
    fn consecutive_blocks_join_to_one_extent_that_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::new(dir.path(), 207, Duration::from_secs(1), Wake::new().unwrap());
        assert_eq!(list_segments(dir.path()).unwrap(), Vec::<u32>::new());
        let first = writer.append(block(1));
        let both = first.join(writer.append(block(2))).unwrap();
        eventually("durable", || writer.durable() == both.end());
        writer.finish().unwrap();
        assert_eq!(list_segments(dir.path()).unwrap(), [207]);
        assert!(dir.path().join("07/00000207.seg").exists());
        let file = SegmentFile::open(dir.path(), 207).unwrap();
        let bytes = file.bytes(both.offset, both.len as usize).unwrap();
        let (_, _, consumed) = read_block(&bytes).unwrap();
        assert_eq!(read_block(&bytes[consumed..]).unwrap().1.next(), Some(ok(2)));
        assert_eq!(file.header(first.end(), both.end()).unwrap().lowest, 2);
    }

    #[test]
    fn a_segment_number_is_never_used_twice() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..2 {
            let mut writer = SegmentWriter::new(dir.path(), 1, Duration::ZERO, Wake::new().unwrap());
            writer.append(block(round));
            assert_eq!(writer.finish().is_ok(), round == 0);
        }
    }
}
