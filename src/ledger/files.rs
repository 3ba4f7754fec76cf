//! Small files that are always whole: written beside their place and renamed into it.

use super::error::LedgerError;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Replaces a file with these bytes, so that whoever reads sees the old ones or the new ones whole. Not synced: it
/// survives the process, not the node.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), LedgerError> {
    write_with(path, |file| file.write_all(bytes))
}

/// As [`write_atomically`], with what `fill` writes.
pub(crate) fn write_with(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<(), LedgerError> {
    let temporary = beside(path);
    let filled = File::create(&temporary).and_then(|mut file| fill(&mut file));
    let renamed = filled.and_then(|()| std::fs::rename(&temporary, path));
    renamed.map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        LedgerError::io("write", path)(e)
    })
}

/// A name in the same folder that nobody else uses.
pub(crate) fn beside(path: &Path) -> std::path::PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.{}.{count}.tmp", super::owner::host_name(), std::process::id()));
    path.with_file_name(name)
}

/// Makes renames and new files in a folder survive the node.
pub(crate) fn sync_folder(path: &Path) -> Result<(), LedgerError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(LedgerError::io("sync", path))
}
