//! The folder of a run: the names of all files in it, how it is made and found.

use crate::task::io_cause;
use std::io;
use std::path::{Path, PathBuf};

/// Where runs go that were given no folder.
const RUNS: &str = "myriarch-runs";
/// The link to the latest of them.
const LAST: &str = "last";

/// The folder of a run could not be made or found.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// It holds a run already.
    #[error("{} holds a run already", .0.display())]
    HoldsRun(PathBuf),
    /// It is a file, or the like.
    #[error("{}: it is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// It holds no run.
    #[error("{} holds no run", .0.display())]
    NoRun(PathBuf),
    /// No folder was given and there is no latest run.
    #[error("no DIR was given, and there is no {} here", .0.display())]
    NoLast(PathBuf),
    /// A file operation failed.
    #[error("{}: cannot {what}: {}", path.display(), io_cause(source))]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// What a request to stop leaves the running tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopRequest {
    /// Their grace time.
    WithGrace,
    /// Nothing.
    Now,
}

/// The first line of a request to stop at once.
const NOW: &str = "now";

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunDirError {
    let path = path.to_owned();
    move |source| {
        let is_other = path.metadata().is_ok_and(|it| !it.is_dir());
        let wants_folder = matches!(source.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory);
        if is_other && wants_folder { RunDirError::NotAFolder(path) } else { RunDirError::Io { what, path, source } }
    }
}

/// A run's folder, called DIR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
    /// The folder itself was made by [`create`](Self::create).
    made: bool,
    /// What the link `last` meant before it was set to this run.
    last_before: Option<PathBuf>,
}

impl RunDir {
    /// Makes the folder of a new run: `path`, or without one the next free `./myriarch-runs/N`, to which the link
    /// `last` then points. Safe under starts at the same moment: a number is taken once. A `path` that exists is
    /// taken when it holds no run; who of two owns it then is for the [`Owner`](super::Owner) to say.
    pub fn create(path: Option<&Path>) -> Result<Self, RunDirError> {
        match path {
            Some(path) => Self::create_at(path),
            None => Self::create_in(Path::new(RUNS)),
        }
    }

    fn create_at(path: &Path) -> Result<Self, RunDirError> {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(failed("create", parent))?;
        }
        let made = match std::fs::create_dir(path) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => false,
            Err(e) => return Err(failed("create", path)(e)),
        };
        if !made && Self::holds_run(path) {
            return Err(RunDirError::HoldsRun(path.to_owned()));
        }
        let dir = Self { path: path.to_owned(), made, last_before: None };
        dir.check_writable()?;
        Ok(dir)
    }

    /// Makes the next free number in `runs` and sets the link `last` there.
    pub(crate) fn create_in(runs: &Path) -> Result<Self, RunDirError> {
        std::fs::create_dir_all(runs).map_err(failed("create", runs))?;
        let mut number = numbers(runs).map_err(failed("list", runs))?.into_iter().max().unwrap_or(0) + 1;
        let path = loop {
            let path = runs.join(number.to_string());
            match std::fs::create_dir(&path) {
                Ok(()) => break path,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(e) => return Err(failed("create", &path)(e)),
            }
        };
        let last = runs.join(LAST);
        let last_before = std::fs::read_link(&last).ok();
        link_to(&last, Path::new(&number.to_string()))?;
        Ok(Self { path, made: true, last_before })
    }

    fn check_writable(&self) -> Result<(), RunDirError> {
        let probe = super::files::beside(&self.path.join("probe"));
        std::fs::write(&probe, b"").map_err(failed("write to it", &self.path))?;
        std::fs::remove_file(&probe).map_err(failed("write to it", &self.path))
    }

    /// The folder of a run that exists.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        // A folder that cannot be read is not one without a run.
        std::fs::read_dir(path).map_err(failed("open", path))?;
        if !Self::holds_run(path) {
            return Err(RunDirError::NoRun(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), made: false, last_before: None })
    }

    /// This folder, or without one the latest run of the present folder.
    pub fn default_or_last(path: Option<PathBuf>) -> Result<Self, RunDirError> {
        let last = Path::new(RUNS).join(LAST);
        match path {
            Some(path) => Self::open(&path),
            // Resolved at once: the link may move on while we read.
            None => match std::fs::read_link(&last) {
                Ok(target) => Self::open(&Path::new(RUNS).join(target)),
                Err(_) => Err(RunDirError::NoLast(last)),
            },
        }
    }

    /// Whether a run was begun there.
    pub fn holds_run(path: &Path) -> bool {
        let begun =
            |name: &str| name == "bundle" || numbered(name, "journal.").is_some() || numbered(name, "owner.").is_some();
        std::fs::read_dir(path)
            .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(begun)))
    }

    /// Takes a new run away again that nothing has run of: the folder if it was made for it, and the link. Only for
    /// a folder that was just created; files that are not the run's stay.
    pub fn discard(self) -> Result<(), RunDirError> {
        for file in [
            self.bundle(),
            self.options(),
            self.launch(),
            self.session(),
            self.progress(),
            self.summary(),
            self.failed(),
            self.stop(),
            self.log(),
        ] {
            remove_if_there(&file)?;
        }
        for (prefix, generations) in ["journal.", "owner.", "parts."].map(|prefix| (prefix, self.generations(prefix))) {
            for generation in generations.map_err(failed("list", &self.path))? {
                remove_if_there(&self.path.join(format!("{prefix}{generation}")))?;
            }
        }
        if !self.made {
            return Ok(());
        }
        std::fs::remove_dir(&self.path).map_err(failed("remove", &self.path))?;
        let Some(last) = self.path.parent().map(|runs| runs.join(LAST)) else { return Ok(()) };
        let is_ours = std::fs::read_link(&last).is_ok_and(|to| Some(to.as_os_str()) == self.path.file_name());
        match self.last_before {
            Some(before) if is_ours => link_to(&last, &before),
            None if is_ours => {
                remove_if_there(&last)?;
                // The folder of runs goes too when this was the first: it is empty then, and stays otherwise.
                let _ = last.parent().map(std::fs::remove_dir);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's own copy of its tasks.
    pub fn bundle(&self) -> PathBuf {
        self.path.join("bundle")
    }

    /// The journal that a start of this generation writes.
    pub fn journal(&self, generation: u32) -> PathBuf {
        self.path.join(format!("journal.{generation}"))
    }

    /// Generations whose journals are there; the highest counts.
    pub(crate) fn journal_generations(&self) -> Result<Vec<u32>, super::LedgerError> {
        self.generations("journal.").map_err(super::LedgerError::io("list", &self.path))
    }

    /// The parts that a start of this generation keeps of a session.
    pub fn parts(&self, generation: u32) -> PathBuf {
        self.path.join(format!("parts.{generation}"))
    }

    /// What is known of the program whose session this is. Runs of the command have no such file.
    pub fn session(&self) -> PathBuf {
        self.path.join("session.json")
    }

    /// Whether this is the folder of a session: a program goes on with it, not the command.
    pub fn is_session(&self) -> bool {
        self.session().exists()
    }

    /// The folder of the segments.
    pub fn segments(&self) -> PathBuf {
        self.path.join("segments")
    }

    /// The record of the owner of this generation.
    pub fn owner(&self, generation: u32) -> PathBuf {
        self.path.join(format!("owner.{generation}"))
    }

    /// Generations whose owner records are there; the highest counts.
    pub(crate) fn owner_generations(&self) -> io::Result<Vec<u32>> {
        self.generations("owner.")
    }

    /// The run's own copy of its options.
    pub fn options(&self) -> PathBuf {
        self.path.join("options.json")
    }

    /// What is known of the ranks of the last start.
    pub fn launch(&self) -> PathBuf {
        self.path.join("launch.json")
    }

    /// How the last start ended.
    pub fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// How the present start goes on.
    pub fn progress(&self) -> PathBuf {
        self.path.join("progress.json")
    }

    /// One object per failed task.
    pub fn failed(&self) -> PathBuf {
        self.path.join("failed.jsonl")
    }

    /// The request to stop: the run looks for this file.
    pub fn stop(&self) -> PathBuf {
        self.path.join("stop")
    }

    /// The run's log.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Asks the run to stop; `reason` is for people.
    pub fn request_stop(&self, request: StopRequest, reason: &str) -> Result<(), super::LedgerError> {
        let text = match request {
            StopRequest::WithGrace => format!("{reason}\n"),
            StopRequest::Now => format!("{NOW}\n{reason}\n"),
        };
        super::write_atomically(&self.stop(), text.as_bytes())
    }

    /// Whether someone asked the run to stop, and how. A file of any other content, or that cannot be read, asks for
    /// the usual stop.
    pub fn stop_requested(&self) -> Option<StopRequest> {
        match std::fs::read(self.stop()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Ok(text) if text.split(|byte| *byte == b'\n').next() == Some(NOW.as_bytes()) => Some(StopRequest::Now),
            _ => Some(StopRequest::WithGrace),
        }
    }

    /// Takes away what an earlier start left that would mislead (its request to stop, its summary, its progress and
    /// list of failed tasks) and files that it had not finished. To be called by the owner, before the journal is
    /// begun.
    pub fn begin(&self) -> Result<(), RunDirError> {
        for file in [self.stop(), self.summary(), self.progress(), self.failed()] {
            remove_if_there(&file)?;
        }
        for entry in std::fs::read_dir(&self.path).map_err(failed("list", &self.path))? {
            let name = entry.map_err(failed("list", &self.path))?.file_name();
            // What a killed start was about to rename. Owner records may be those of starts that try right now.
            let is_left_over = |name: &str| {
                name.starts_with('.') && name.ends_with(super::files::TEMPORARY) && !name.starts_with(".owner.")
            };
            if name.to_str().is_some_and(is_left_over) {
                remove_if_there(&self.path.join(name))?;
            }
        }
        Ok(())
    }

    fn generations(&self, prefix: &str) -> io::Result<Vec<u32>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            found.extend(entry?.file_name().to_str().and_then(|name| numbered(name, prefix)));
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// The number behind the prefix, written as we write it.
fn numbered(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    digits.parse().ok().filter(|number: &u32| number.to_string() == digits)
}

fn numbers(runs: &Path) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(runs)? {
        found.extend(entry?.file_name().to_str().and_then(|name| numbered(name, "")));
    }
    Ok(found)
}

fn link_to(link: &Path, target: &Path) -> Result<(), RunDirError> {
    let temporary = super::files::beside(link);
    std::os::unix::fs::symlink(target, &temporary).map_err(failed("link", link))?;
    std::fs::rename(&temporary, link).map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        failed("link", link)(e)
    })
}

fn remove_if_there(path: &Path) -> Result<(), RunDirError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn starts_at_the_same_moment_take_different_numbers_and_last_is_one_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let taken: BTreeSet<PathBuf> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..16).map(|_| scope.spawn(|| RunDir::create_in(&runs).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap().path).collect()
        });
        assert_eq!(taken.len(), 16);
        let last = std::fs::canonicalize(runs.join("last")).unwrap();
        assert!(taken.iter().any(|dir| std::fs::canonicalize(dir).unwrap() == last));
        assert_eq!(std::fs::read_dir(&runs).unwrap().count(), 17, "no temporary link is left");
    }

    #[test]
    fn a_folder_that_holds_a_run_is_refused_and_one_without_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let dir = RunDir::create(Some(&path)).unwrap();
        assert!(matches!(RunDir::open(&path), Err(RunDirError::NoRun(_))));
        assert!(RunDir::create(Some(&path)).is_ok());
        std::fs::write(dir.bundle(), b"x").unwrap();
        assert!(matches!(RunDir::create(Some(&path)), Err(RunDirError::HoldsRun(p)) if p == path));
        assert!(RunDir::open(&path).is_ok());
        assert!(matches!(RunDir::open(&folder.path().join("none")), Err(RunDirError::Io { .. })));
        std::fs::write(folder.path().join("file"), b"").unwrap();
        let file = folder.path().join("file");
        for refused in [RunDir::create(Some(&file)), RunDir::create(Some(&file.join("run"))), RunDir::open(&file)] {
            assert!(matches!(refused, Err(RunDirError::NotAFolder(path)) if path == file));
        }
    }

    #[test]
    fn a_discarded_run_leaves_no_folder_and_the_link_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let first = RunDir::create_in(&runs).unwrap();
        let second = RunDir::create_in(&runs).unwrap();
        std::fs::write(second.bundle(), b"x").unwrap();
        std::fs::write(second.owner(1), b"x").unwrap();
        let path = second.path().to_owned();
        second.discard().unwrap();
        assert!(!path.exists());
        assert_eq!(std::fs::read_link(runs.join("last")).unwrap(), Path::new("1"));
        first.discard().unwrap();
        assert!(!runs.exists(), "the folder of runs goes with the last of them");
    }

    #[test]
    fn a_start_begins_without_the_leavings_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(Some(folder.path())).unwrap();
        for file in
            [dir.stop(), dir.summary(), dir.failed(), super::super::files::beside(&dir.journal(3)), dir.bundle()]
        {
            std::fs::write(file, b"x").unwrap();
        }
        dir.begin().unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [dir.bundle()]);
    }

    #[test]
    fn a_request_to_stop_says_whether_tasks_get_their_grace() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(Some(folder.path())).unwrap();
        assert_eq!(dir.stop_requested(), None);
        for request in [StopRequest::WithGrace, StopRequest::Now] {
            dir.request_stop(request, "for a test").unwrap();
            assert_eq!(dir.stop_requested(), Some(request));
        }
        std::fs::write(dir.stop(), b"").unwrap();
        assert_eq!(dir.stop_requested(), Some(StopRequest::WithGrace), "whoever touches the file asks too");
    }

    #[test]
    fn discarding_keeps_what_others_put_into_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes"), b"mine").unwrap();
        let dir = RunDir::create(Some(folder.path())).unwrap();
        std::fs::write(dir.bundle(), b"x").unwrap();
        dir.discard().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
