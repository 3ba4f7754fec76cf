//! Tasks that are processes.

use super::bundle::{RawBundle, RawOutcome};
use crate::drive::SessionError;
use crate::ledger::Counts;
use crate::task::{Program, process_entry};
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// A process to run: a program with its arguments, or a shell line.
#[derive(Clone, Debug)]
pub struct Process {
    program: Program,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    cwd: Option<Vec<u8>>,
    stdin: Option<Vec<u8>>,
    timeout: Option<Duration>,
}

impl Process {
    /// A program and its arguments, without a shell.
    pub fn new<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Self {
        Self::of(Program::Argv(words.into_iter().map(|word| word.as_ref().as_bytes().to_vec()).collect()))
    }

    /// A line with the meaning that `sh -c LINE` gives it.
    pub fn shell(line: impl AsRef<OsStr>) -> Self {
        Self::of(Program::Shell(line.as_ref().as_bytes().to_vec()))
    }

    fn of(program: Program) -> Self {
        Self { program, env: Vec::new(), cwd: None, stdin: None, timeout: None }
    }

    /// Sets a variable on top of its rank's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().as_bytes().to_vec(), value.as_ref().as_bytes().to_vec()));
        self
    }

    /// Where it runs; created when missing. Without one, where its rank runs.
    pub fn cwd(mut self, folder: impl AsRef<Path>) -> Self {
        self.cwd = Some(folder.as_ref().as_os_str().as_bytes().to_vec());
        self
    }

    /// The file that it reads as standard input; `/dev/null` without one.
    pub fn stdin(mut self, file: impl AsRef<Path>) -> Self {
        self.stdin = Some(file.as_ref().as_os_str().as_bytes().to_vec());
        self
    }

    /// Its time limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// As a task of a bundle of processes that is known by its number.
    ///
    /// # Errors
    /// There can be no such process.
    pub fn entry(&self) -> Result<Vec<u8>, SessionError> {
        let Process { program, env, cwd, stdin, timeout } = self.clone();
        process_entry(program, env, cwd, stdin, timeout).map_err(SessionError::Argument)
    }
}

/// A bundle of processes. As [`RawBundle`]; outcomes hold standard output and standard error.
pub struct Processes<'a>(RawBundle<'a>);

impl<'a> Processes<'a> {
    pub(super) fn new(raw: RawBundle<'a>) -> Self {
        Self(raw)
    }

    /// See [`RawBundle::into_number`].
    pub fn into_number(self) -> usize {
        self.0.into_number()
    }

    /// The bundle for [`Session::wait_any`](super::Session::wait_any).
    pub fn raw(&self) -> &RawBundle<'a> {
        &self.0
    }

    /// Adds a process. See [`RawBundle::submit`].
    ///
    /// # Errors
    /// As there, or there can be no such process.
    pub fn submit(&mut self, process: &Process) -> Result<u64, SessionError> {
        self.0.submit(&process.entry()?)
    }

    /// See [`RawBundle::close`].
    pub fn close(&mut self) {
        self.0.close();
    }

    /// See [`RawBundle::next`].
    ///
    /// # Errors
    /// As there.
    // An iterator could not tell errors apart from outcomes.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<RawOutcome>, SessionError> {
        self.0.next()
    }

    /// See [`RawBundle::try_next`].
    ///
    /// # Errors
    /// As there.
    pub fn try_next(&mut self) -> Result<Option<RawOutcome>, SessionError> {
        self.0.try_next()
    }

    /// See [`RawBundle::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(&mut self) -> Result<Counts, SessionError> {
        self.0.wait()
    }

    /// See [`RawBundle::cancel`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn cancel(&mut self, numbers: Range<u64>) -> Result<(), SessionError> {
        self.0.cancel(numbers)
    }
}
