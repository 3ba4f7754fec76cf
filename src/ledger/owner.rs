//! Who owns a run's folder: exactly one process, proven without file locks, which parallel file systems may lack.
//!
//! Each owner has a generation, and its record is the file `owner.<generation>`, which is made by linking a finished
//! file to that name: whoever succeeds has it. The next generation may only be taken when the present one gave the
//! folder back, when its process is dead (same host and boot), or when its beat has stood still for a while (another
//! host, or another boot). An owner that finds its successor's record has lost the folder. Nothing has ever to be
//! removed by hand.

use super::dir::RunDir;
use super::files::beside;
use super::host::{ProcessIdentity, host_name, job_id};
use crate::task::io_cause;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A record is padded to a multiple of this, so that a beat overwrites it in place: that works on a full disk too.
const PAD_BYTES: usize = 512;
/// Records of so many earlier owners are kept.
const KEPT: u32 = 4;
/// How often a record that may be changing is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What an owner says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnerRecord {
    /// Its number, from 1.
    pub generation: u32,
    /// Where it runs.
    pub host: String,
    /// Its process there.
    #[serde(flatten)]
    pub process: ProcessIdentity,
    /// The batch job, where there is one.
    pub job: Option<String>,
    /// Counts up while it lives.
    pub beat: u64,
    /// When it last counted, seconds since the Unix epoch by its clock. For people; never compared.
    pub beat_unix: u64,
    /// It has given the folder back.
    pub released: bool,
}

impl fmt::Display for OwnerRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}, process {}", self.host, self.process.pid)?;
        if let Some(job) = &self.job {
            write!(f, ", job {job}")?;
        }
        let ago = unix_seconds().saturating_sub(self.beat_unix);
        write!(f, ", last beat {ago} s ago")
    }
}

impl OwnerRecord {
    fn of_this_process(generation: u32) -> Self {
        Self {
            generation,
            host: host_name().to_owned(),
            process: ProcessIdentity::of_this_process(),
            job: job_id(),
            beat: 0,
            beat_unix: unix_seconds(),
            released: false,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        // Plain data: writing it to memory cannot fail.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        let len = (bytes.len() + 1).next_multiple_of(PAD_BYTES);
        bytes.resize(len - 1, b' ');
        bytes.push(b'\n');
        bytes
    }
}

/// The run's folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// Someone else has it and lives.
    #[error(
        "{0} belongs to a running job ({owner}): `myriarch status {0}` shows it, `myriarch stop {0}` stops it",
        dir.display()
    )]
    Running {
        /// The folder.
        dir: PathBuf,
        /// Who has it.
        owner: String,
    },
    /// It was taken by a later start, which must have taken this one for dead.
    #[error("{} was taken over by a later start (generation {generation}): this one ends", dir.display())]
    Superseded {
        /// The folder.
        dir: PathBuf,
        /// The successor.
        generation: u32,
    },
    /// A file operation failed.
    #[error("{}: cannot {what}: {}", path.display(), io_cause(source))]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OwnerError {
    let path = path.to_owned();
    move |source| OwnerError::Io { what, path, source }
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// An owner that cannot be asked is dead when its beat has stood still for so long.
    pub stale_after: Duration,
    /// How often an owner beats; well below `stale_after`.
    pub beat_every: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { stale_after: Duration::from_secs(10), beat_every: Duration::from_secs(2) }
    }
}

/// What can be told about the owner of a folder without being it.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnerState {
    /// There never was one.
    None,
    /// It gave the folder back.
    Released(OwnerRecord),
    /// Its process runs on this host.
    Alive(OwnerRecord),
    /// Its process ran on this host and is gone.
    Dead(OwnerRecord),
    /// It is on another host, or its record cannot be read: only its beat can tell.
    Unknown(Option<OwnerRecord>),
}

impl OwnerState {
    /// Looks at the newest record, and does not wait.
    pub fn look(dir: &RunDir) -> Result<Self, OwnerError> {
        Ok(newest(dir)?.map_or(Self::None, |found| found.state))
    }

    /// As [`look`](Self::look); an owner of which only its beat can tell is watched until the beat moves, or for so
    /// long that it counts as dead.
    pub fn watch(dir: &RunDir, stale_after: Duration) -> Result<Self, OwnerError> {
        let Some(found) = newest(dir)? else { return Ok(Self::None) };
        let OwnerState::Unknown(record) = &found.state else { return Ok(found.state) };
        let moved = moves(dir, &found, stale_after)?;
        Ok(match record {
            Some(record) if moved => Self::Alive(record.clone()),
            Some(record) => Self::Dead(record.clone()),
            None => found.state,
        })
    }
}

/// The newest record.
struct Found {
    generation: u32,
    bytes: Vec<u8>,
    state: OwnerState,
}

/// Finds it by name, too: a listing may be stale on a network file system.
fn newest(dir: &RunDir) -> Result<Option<Found>, OwnerError> {
    let listed = dir.owner_generations().map_err(failed("list", dir.path()))?;
    let mut generation = listed.into_iter().max().unwrap_or(0);
    while generation < u32::MAX && dir.owner(generation + 1).exists() {
        generation += 1;
    }
    if generation == 0 {
        return Ok(None);
    }
    let path = dir.owner(generation);
    let bytes = std::fs::read(&path).map_err(failed("read", &path))?;
    let state = serde_json::from_slice(&bytes).map_or(OwnerState::Unknown(None), judge);
    Ok(Some(Found { generation, bytes, state }))
}

fn judge(record: OwnerRecord) -> OwnerState {
    if record.released {
        return OwnerState::Released(record);
    }
    match record.process.lives() {
        None => OwnerState::Unknown(Some(record)),
        Some(true) => OwnerState::Alive(record),
        Some(false) => OwnerState::Dead(record),
    }
}

/// Whether the owner beats, or gives way to another, within this time.
fn moves(dir: &RunDir, found: &Found, within: Duration) -> Result<bool, OwnerError> {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        std::thread::sleep(LOOK_EVERY.min(within));
        match newest(dir)? {
            Some(now) if now.generation == found.generation && now.bytes == found.bytes => {}
            Some(now) => return Ok(!matches!(now.state, OwnerState::Released(_))),
            None => return Ok(false),
        }
    }
    Ok(false)
}

/// The right to write in a run's folder. Beats on a thread of its own while it lives; dropping it gives the folder
/// back.
#[derive(Debug)]
pub struct Owner {
    dir: RunDir,
    generation: u32,
    lost: Arc<AtomicBool>,
    beats: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Owner {
    /// Takes the folder, with the usual [`Patience`]; that it waits goes to the log.
    pub fn acquire(dir: &RunDir) -> Result<Self, OwnerError> {
        Self::acquire_with(dir, Patience::default(), |what| tracing::warn!("{what}"))
    }

    /// Takes the folder. Where only waiting can tell whether its last owner lives, `notice` is told so first.
    pub fn acquire_with(dir: &RunDir, patience: Patience, mut notice: impl FnMut(&str)) -> Result<Self, OwnerError> {
        loop {
            let found = newest(dir)?;
            let next = match &found {
                None => 1,
                Some(found) => {
                    refuse_living(dir, found, patience, &mut notice)?;
                    found.generation.saturating_add(1)
                }
            };
            let record = OwnerRecord::of_this_process(next);
            let Some(file) = take_generation(dir, &record)? else { continue };
            // One who was held up since it looked may have taken a generation of long ago again.
            let listed = dir.owner_generations().map_err(failed("list", dir.path()))?;
            if listed.iter().any(|generation| *generation > next) {
                let _ = std::fs::remove_file(dir.owner(next));
                continue;
            }
            for old in listed.into_iter().filter(|generation| generation.saturating_add(KEPT) <= next) {
                let _ = std::fs::remove_file(dir.owner(old));
            }
            return Self::begin(dir, record, file, patience);
        }
    }

    fn begin(dir: &RunDir, record: OwnerRecord, file: File, patience: Patience) -> Result<Self, OwnerError> {
        let lost = Arc::new(AtomicBool::new(false));
        let (beats, asked) = bounded(1);
        let generation = record.generation;
        let successor = dir.owner(generation.saturating_add(1));
        let heart = Heart { record, file, successor, lost: Arc::clone(&lost), every: patience.beat_every };
        let thread = std::thread::Builder::new()
            .name("myr-owner".to_owned())
            .spawn(move || heart.run(&asked))
            .map_err(failed("start the thread that beats for it", dir.path()))?;
        Ok(Self { dir: dir.clone(), generation, lost, beats: Some(beats), thread: Some(thread) })
    }

    /// This owner's generation: higher than that of all owners before.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Asks for a beat now, and for a look whether the folder was lost; neither is waited for. The owner beats by
    /// itself too.
    pub fn beat(&self) {
        if let Some(beats) = &self.beats {
            let _ = beats.try_send(());
        }
    }

    /// For how long at least the owner of an earlier generation has given no sign of life, by the clock of the file system, which
    /// hosts may have in common where they have no other; none where it gave the folder back.
    ///
    /// # Errors
    /// The present record cannot be looked at.
    pub fn silence_of(&self, earlier: u32) -> Result<Option<Duration>, OwnerError> {
        let record = std::fs::read(self.dir.owner(earlier)).ok();
        let record = record.and_then(|bytes| serde_json::from_slice::<OwnerRecord>(&bytes).ok());
        if record.is_some_and(|record| record.released) {
            return Ok(None);
        }
        let modified = |generation| {
            let path = self.dir.owner(generation);
            path.metadata().and_then(|file| file.modified()).map_err(failed("look at", &path))
        };
        let now = modified(self.generation)?;
        // Records of long ago are taken away; those that follow were not written while it lived.
        let last = (earlier..self.generation).find_map(|generation| modified(generation).ok()).unwrap_or(now);
        // It may have died just before its next beat.
        let beat_every = Patience::default().beat_every;
        Ok(Some(now.duration_since(last).unwrap_or_default().saturating_sub(beat_every)))
    }

    /// Whether the folder is still ours, by the last look. Costs no system call.
    pub fn check(&self) -> Result<(), OwnerError> {
        if self.lost.load(Ordering::Acquire) {
            let generation = self.generation.saturating_add(1);
            return Err(OwnerError::Superseded { dir: self.dir.path().to_owned(), generation });
        }
        Ok(())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.beats = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn refuse_living(
    dir: &RunDir,
    found: &Found,
    patience: Patience,
    notice: &mut impl FnMut(&str),
) -> Result<(), OwnerError> {
    let running = |record: Option<&OwnerRecord>| OwnerError::Running {
        dir: dir.path().to_owned(),
        owner: record.map_or_else(|| "its record cannot be read".to_owned(), ToString::to_string),
    };
    match &found.state {
        OwnerState::None | OwnerState::Released(_) | OwnerState::Dead(_) => Ok(()),
        OwnerState::Alive(record) => Err(running(Some(record))),
        OwnerState::Unknown(record) => {
            let who = record.as_ref().map_or_else(|| "an unknown process".to_owned(), ToString::to_string);
            notice(&format!(
                "{} was last owned by {who}; waiting {} s to see whether it still lives",
                dir.path().display(),
                patience.stale_after.as_secs_f64()
            ));
            if moves(dir, found, patience.stale_after)? { Err(running(record.as_ref())) } else { Ok(()) }
        }
    }
}

/// Makes the record's file; none when someone else has.
fn take_generation(dir: &RunDir, record: &OwnerRecord) -> Result<Option<File>, OwnerError> {
    let path = dir.owner(record.generation);
    let temporary = beside(&path);
    let mut file = File::create_new(&temporary).map_err(failed("create", &temporary))?;
    let written = file.write_all(&record.to_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| match std::fs::hard_link(&temporary, &path) {
        // A lost answer on a network file system: the link count knows better.
        Err(_) if file.metadata()?.nlink() > 1 => Ok(()),
        other => other,
    });
    let _ = std::fs::remove_file(&temporary);
    match linked {
        Ok(()) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {
            // A file system without hard links: exclusive, if not finished at once.
            match File::create_new(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
                Err(e) => Err(failed("create", &path)(e)),
                Ok(mut file) => {
                    file.write_all(&record.to_bytes()).map_err(failed("write", &path))?;
                    Ok(Some(file))
                }
            }
        }
        Err(e) => Err(failed("create", &path)(e)),
    }
}

/// What beats, on its thread.
struct Heart {
    record: OwnerRecord,
    file: File,
    successor: PathBuf,
    lost: Arc<AtomicBool>,
    every: Duration,
}

impl Heart {
    fn run(mut self, asked: &Receiver<()>) {
        loop {
            let ended = asked.recv_timeout(self.every) == Err(RecvTimeoutError::Disconnected);
            if self.successor.exists() {
                self.lost.store(true, Ordering::Release);
            }
            if !self.lost.load(Ordering::Acquire) {
                self.record.beat += 1;
                self.record.beat_unix = unix_seconds();
                self.record.released = ended;
                // A beat that cannot be written is missed by those who watch; the next one may succeed.
                let _ = self.file.write_all_at(&self.record.to_bytes(), 0);
                // Other hosts of a network file system see it only then.
                let _ = self.file.sync_data();
            }
            if ended {
                return;
            }
        }
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests;
