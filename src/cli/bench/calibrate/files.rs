//! What files take: appending to one, syncing it, and making many.

use super::{sampled, undisturbed};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is appended at a time: records of some tens of tasks.
const APPENDED_BYTES: usize = 4096;
/// Most files that a rank makes: a folder that grows large is another matter.
const MOST_FILES: u64 = 2_000;
/// A file is begun anew when it has grown to this.
const MOST_BYTES: u64 = 64 << 20;

/// Nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FileTimes {
    pub(super) write: f64,
    pub(super) sync: f64,
}

/// A folder that goes away with what is in it.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// A new one in this one.
    pub(super) fn make(place: &Path) -> io::Result<Self> {
        let path = place.join(format!("myriarch-calibrate-{}", std::process::id()));
        fs::create_dir(&path)?;
        // Ranks may run in folders of their own.
        Ok(Folder(path.canonicalize()?))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Appends for half of the time, and appends and syncs for the other.
pub(super) fn measure(folder: &Path, length: Duration) -> io::Result<FileTimes> {
    let path = folder.join("appended");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let bytes = [b'x'; APPENDED_BYTES];
    let mut written = 0;
    let write = sampled(length / 2, || {
        if written >= MOST_BYTES {
            file.set_len(0)?;
            written = 0;
        }
        written += bytes.len() as u64;
        let start = Instant::now();
        file.write_all(&bytes)?;
        nanoseconds(start)
    })?;
    // What was written so far is not the next one's to sync.
    file.sync_data()?;
    let sync = sampled(length / 2, || {
        file.write_all(&bytes)?;
        let start = Instant::now();
        file.sync_data()?;
        nanoseconds(start)
    })?;
    Ok(FileTimes { write, sync })
}

/// Makes files for so long, or as many as it may: what one takes. Those of other ranks have other
/// names.
pub(super) fn make_many(folder: &Path, rank: u32, length: Duration) -> io::Result<f64> {
    let (began, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || ((times.len() as u64) < MOST_FILES && began.elapsed() < length) {
        let path = folder.join(format!("{rank}-{}", times.len()));
        let start = Instant::now();
        File::create_new(&path)?;
        times.push(nanoseconds(start)?);
    }
    Ok(undisturbed(times))
}

fn nanoseconds(since: Instant) -> io::Result<f64> {
    Ok(since.elapsed().as_nanos() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_measured_and_nothing_is_left() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::make(place.path()).expect("a folder in it");
        let times = measure(folder.path(), Duration::from_millis(10)).expect("it measures");
        assert!(times.write > 0.0 && times.sync > 0.0, "{times:?}");
        let each = make_many(folder.path(), 7, Duration::from_millis(5)).expect("it makes files");
        assert!(each > 0.0, "{each}");
        drop(folder);
        assert_eq!(fs::read_dir(place.path()).expect("it is there").count(), 0);
    }

    #[test]
    fn a_place_that_is_not_there_is_an_error() {
        assert!(Folder::make(Path::new("/nonexistent")).is_err());
    }
}
