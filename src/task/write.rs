//! Writes a bundle file from start to end in bounded memory: the payload straight into the file, index and shape runs
//! into nameless files beside it until the payload is complete. The file gets its name only when it is whole and synced.

use super::bundle::Shape;
use super::layout::{Entry, HEADER_BYTES, Header, MAGIC, RunRecord, VERSION};
use super::template::Template;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use zerocopy::{FromZeros, IntoBytes};

/// Hash of a sequence of texts, that can be taken of parts of it in parallel and joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ContentHash {
    sum: u64,
    count: u64,
}

/// Base of the polynomial over the texts' hashes; odd, so that no position is lost.
const POSITION_BASE: u64 = 0x9E37_79B9_7F4A_7C15;
const WORD_KEY: u64 = 0xA076_1D64_78BD_642F;

fn fold_multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = WORD_KEY ^ bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = fold_multiply(hash ^ u64::from_le_bytes(word), POSITION_BASE) ^ WORD_KEY;
    }
    fold_multiply(hash, WORD_KEY) ^ hash
}

impl ContentHash {
    /// Adds one text.
    pub(super) fn push(&mut self, text: &[u8]) {
        self.append(ContentHash { sum: hash_bytes(text), count: 1 });
    }

    /// Adds the texts of a part that follows.
    pub(super) fn append(&mut self, next: ContentHash) {
        let mut shift = 1u64;
        let (mut power, mut exponent) = (POSITION_BASE, next.count);
        while exponent > 0 {
            if exponent & 1 == 1 {
                shift = shift.wrapping_mul(power);
            }
            power = power.wrapping_mul(power);
            exponent >>= 1;
        }
        self.sum = self.sum.wrapping_mul(shift).wrapping_add(next.sum);
        self.count += next.count;
    }
}

/// A nameless file of fixed-width records, with their checksum.
struct SideFile {
    file: BufWriter<File>,
    records: u64,
    crc: u32,
}

impl SideFile {
    fn new(beside: &Path, what: &str) -> io::Result<Self> {
        let path = with_suffix(beside, what);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(Self { file: BufWriter::with_capacity(1 << 20, file), records: 0, crc: 0 })
    }

    fn append(&mut self, bytes: &[u8], records: usize) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.records += records as u64;
        self.file.write_all(bytes)
    }

    fn move_to(self, target: &mut File) -> io::Result<()> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        io::copy(&mut file, target).map(drop)
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The name of an unfinished file; dropped, it leaves nothing behind.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing under this name, and elsewhere nobody is left to hear of a failure.
        let _ = fs::remove_file(&self.0);
    }
}

/// A bundle file on its way.
pub(super) struct BundleWriter {
    to: PathBuf,
    temporary: Temporary,
    file: File,
    payload_bytes: u64,
    payload_crc: u32,
    entries: SideFile,
    runs: SideFile,
    open_run: Option<(u64, Shape)>,
    max_cores: u32,
    max_gpus: u32,
    content: ContentHash,
}

impl BundleWriter {
    pub(super) fn new(to: &Path) -> io::Result<Self> {
        let temporary = Temporary(with_suffix(to, &format!(".{}.part", std::process::id())));
        let entries = SideFile::new(&temporary.0, ".index")?;
        let runs = SideFile::new(&temporary.0, ".shapes")?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary.0)?;
        file.write_all(&[0; HEADER_BYTES])?;
        Ok(Self {
            to: to.to_owned(),
            temporary,
            file,
            payload_bytes: 0,
            payload_crc: 0,
            entries,
            runs,
            open_run: None,
            max_cores: 0,
            max_gpus: 0,
            content: ContentHash::default(),
        })
    }

    /// Bytes of payload so far.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Tasks indexed so far.
    pub(super) fn tasks(&self) -> u64 {
        self.entries.records
    }

    pub(super) fn payload(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.payload_crc = crc32c::crc32c_append(self.payload_crc, bytes);
        self.payload_bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    pub(super) fn entries(&mut self, entries: &[Entry], content: ContentHash) -> io::Result<()> {
        self.content.append(content);
        self.entries.append(entries.as_bytes(), entries.len())
    }

    /// The next `count` tasks have this shape.
    pub(super) fn shape(&mut self, count: u64, shape: Shape) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let start = match self.open_run {
            Some((end, open)) if open == shape => {
                self.open_run = Some((end + count, open));
                return Ok(());
            }
            Some((end, _)) => end,
            None => 0,
        };
        self.close_run()?;
        self.open_run = Some((start + count, shape));
        self.max_cores = self.max_cores.max(shape.resources.cores);
        self.max_gpus = self.max_gpus.max(shape.resources.gpus);
        Ok(())
    }

    fn close_run(&mut self) -> io::Result<()> {
        match self.open_run.take() {
            Some((end, shape)) => self.runs.append(RunRecord::new(end, shape).as_bytes(), 1),
            None => Ok(()),
        }
    }

    /// Completes the file and gives it its name.
    pub(super) fn finish(mut self, template: &Template, source: &str, len: u64) -> io::Result<()> {
        self.close_run()?;
        let encode = |error: postcard::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let alone = postcard::to_stdvec(template).map_err(encode)?;
        let template = postcard::to_stdvec(&(source, template)).map_err(encode)?;

        let mut identity = ContentHash::default();
        identity.push(&alone);
        for part in [len, self.content.sum, self.runs.records, u64::from(self.runs.crc)] {
            identity.push(&part.to_le_bytes());
        }
        let mut header = Header::new_zeroed();
        header.magic = MAGIC;
        header.version.set(VERSION);
        header.id.set(identity.sum);
        header.len.set(len);
        header.end.set(len);
        header.payload_bytes.set(self.payload_bytes);
        header.entries.set(self.entries.records);
        header.runs.set(self.runs.records);
        header.template_bytes.set(template.len() as u64);
        header.payload_crc.set(self.payload_crc);
        header.entries_crc.set(self.entries.crc);
        header.runs_crc.set(self.runs.crc);
        header.template_crc.set(crc32c::crc32c(&template));
        header.max_cores.set(self.max_cores);
        header.max_gpus.set(self.max_gpus);
        header.header_crc.set(header.checksum());

        self.complete(header.as_bytes(), &template)
    }

    fn complete(self, header: &[u8], template: &[u8]) -> io::Result<()> {
        let mut file = self.file;
        self.entries.move_to(&mut file)?;
        self.runs.move_to(&mut file)?;
        file.write_all(template)?;
        file.rewind()?;
        file.write_all(header)?;
        file.sync_all()?;
        fs::rename(&self.temporary.0, &self.to)?;
        // The name is durable only when its folder is.
        let folder = self.to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}
