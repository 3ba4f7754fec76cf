//! Small files that are always whole: written beside their place and renamed into it.

use super::error::LedgerError;
use super::host::host_name;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How the names of files end that were not renamed into place yet.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Replaces a file with these bytes, so that whoever reads sees the old ones or the new ones whole. Not synced: it
/// survives the process, not the node.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), LedgerError> {
    let temporary = beside(path);
    let filled = File::create(&temporary).and_then(|mut file| file.write_all(bytes));
    let renamed = filled.and_then(|()| std::fs::rename(&temporary, path));
    renamed.map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        LedgerError::io("write", path)(e)
    })
}

/// A name in the same folder that nobody else uses: neither another process, nor one of another host or boot whose
/// leavings still lie there.
pub(crate) fn beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (count, pid) = (COUNT.fetch_add(1, Ordering::Relaxed), std::process::id());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.{pid}.{now}.{count}{TEMPORARY}", host_name()));
    path.with_file_name(name)
}

/// Makes renames and new files in a folder survive the node.
pub(crate) fn sync_folder(path: &Path) -> Result<(), LedgerError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(LedgerError::io("sync", path))
}
