//! Rank 0's handle.

use super::bundle::{Bundle, RawBundle, TaskError};
use super::process::Processes;
use super::program::{OnlySession, TaskFunction};
use crate::drive::{self, SessionError};
use crate::ledger::LostRank;
use crate::task::{self, Resources, Shape};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

/// Rank 0's handle on a session. Bundles are opened on it, several at once if need be. Dropped, it ends the session without
/// waiting for what has not started.
pub struct Session {
    pub(super) inner: drive::Session,
    /// Bundles of [`call`](Self::call), by function.
    calls: RefCell<HashMap<String, usize>>,
    /// Dropped after the session is over.
    _only: Option<OnlySession>,
}

/// What the tasks of a bundle take, and how often each is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskOptions {
    /// Cores of one worker rank.
    pub cores: u32,
    /// GPUs; only processes can be given them.
    pub gpus: u32,
    /// Further attempts after a failed one.
    pub retries: u32,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self { cores: 1, gpus: 0, retries: 0 }
    }
}

impl TaskOptions {
    fn shape(self, calls: bool) -> Shape {
        Shape { resources: Resources { cores: self.cores.max(1), gpus: self.gpus }, retries: self.retries, calls }
    }
}

/// Why a single call gave no value.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The session cannot run it.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// It failed.
    #[error(transparent)]
    Task(#[from] TaskError),
}

impl Session {
    pub(super) fn new(inner: drive::Session, only: Option<OnlySession>) -> Self {
        Self { inner, calls: RefCell::default(), _only: only }
    }

    /// What is below: bundles are known by their numbers there. See [`RawBundle::into_number`].
    pub fn by_number(&self) -> &drive::Session {
        &self.inner
    }

    /// All slots of the session.
    pub fn slots(&self) -> u64 {
        self.inner.slots()
    }

    /// All ranks of the session.
    pub fn ranks(&self) -> u32 {
        self.inner.ranks()
    }

    /// Time that the tasks so far kept slots busy, all slots together, in seconds.
    pub fn busy_core_seconds(&self) -> f64 {
        self.inner.busy_core_us() as f64 / 1e6
    }

    /// The name of a node, by its number in an outcome.
    pub fn node_name(&self, node: u32) -> String {
        self.inner.node_name(node)
    }

    /// Ranks of which nothing was heard for longer than [`Settings::lost_after`](super::Settings::lost_after), and those that are
    /// gone with them; what they had runs elsewhere. One that was only slow is there again.
    pub fn lost(&self) -> Vec<LostRank> {
        self.inner.lost()
    }

    /// Whether rank 0 answers the other ranks while the program does something else than calling this session.
    pub fn talks_on(&self) -> bool {
        self.inner.talks_on()
    }

    /// Talks to the other ranks without waiting: to be called now and then, where nobody [talks on](Self::talks_on), by a
    /// program that does something else for longer than some milliseconds. Until then no task is handed out.
    ///
    /// # Errors
    /// The session is broken.
    pub fn progress(&self) -> Result<(), SessionError> {
        self.inner.progress()
    }

    /// An open bundle of calls: tasks are added one by one, while others run.
    ///
    /// # Errors
    /// No such function is registered.
    pub fn open<A, V>(&self, function: &TaskFunction<A, V>) -> Result<Bundle<'_, A, V>, SessionError> {
        self.open_with(function, TaskOptions::default())
    }

    /// As [`open`](Self::open), of tasks that take more than a core, or are tried again.
    ///
    /// # Errors
    /// No such function is registered, or no rank has so many cores.
    pub fn open_with<A, V>(
        &self,
        function: &TaskFunction<A, V>,
        options: TaskOptions,
    ) -> Result<Bundle<'_, A, V>, SessionError> {
        Ok(Bundle::new(self.open_raw(&function.name, options)?))
    }

    /// A bundle of one call for each argument. Where very many wait, it takes the next ones when others have ended.
    ///
    /// # Errors
    /// As [`open`](Self::open), or an argument cannot be sent.
    pub fn map<A: Serialize, V>(
        &self,
        function: &TaskFunction<A, V>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Bundle<'_, A, V>, SessionError> {
        let mut bundle = self.open(function)?;
        for argument in arguments {
            bundle.submit(&argument)?;
        }
        bundle.close();
        Ok(bundle)
    }

    /// A bundle of one call for each index, all with the same argument; the function finds its index in the
    /// [`Task`](super::Task). It takes a few bytes, however many indexes there are.
    ///
    /// # Errors
    /// As [`open`](Self::open), or the argument cannot be sent.
    ///
    /// # Panics
    /// Where the range has more indexes than a bundle holds.
    pub fn array<A: Serialize, V>(
        &self,
        function: &TaskFunction<A, V>,
        indexes: Range<u64>,
        argument: &A,
    ) -> Result<Bundle<'_, A, V>, SessionError> {
        let argument = super::bundle::encoded(argument)?;
        Ok(Bundle::new(self.array_raw(&function.name, indexes, &argument, TaskOptions::default())?))
    }

    /// An open bundle of calls of a function of bytes.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn open_raw(&self, function: &str, options: TaskOptions) -> Result<RawBundle<'_>, SessionError> {
        let number = self.inner.open_bundle(Some(function), options.shape(true))?;
        Ok(RawBundle::new(self, number))
    }

    /// As [`array`](Self::array), of a function of bytes.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    ///
    /// # Panics
    /// Where the range has more indexes than a bundle holds.
    pub fn array_raw(
        &self,
        function: &str,
        indexes: Range<u64>,
        argument: &[u8],
        options: TaskOptions,
    ) -> Result<RawBundle<'_>, SessionError> {
        if argument.len() > drive::MAX_ENTRY_BYTES {
            return Err(SessionError::TooLarge { bytes: argument.len() });
        }
        let bundle = self.open_raw(function, options)?;
        let tasks = indexes.end.saturating_sub(indexes.start);
        let array = task::array_of_calls(function, argument, indexes.start, tasks, options.shape(true));
        self.inner.submit_array(bundle.number(), indexes.start, array)?;
        Ok(bundle)
    }

    /// An open bundle of processes. Needs [`prepare`](super::prepare()) on every rank.
    ///
    /// # Errors
    /// Some rank is not prepared, or none has so many cores or GPUs.
    pub fn processes(&self, options: TaskOptions) -> Result<Processes<'_>, SessionError> {
        let number = self.inner.open_bundle(None, options.shape(false))?;
        Ok(Processes::new(RawBundle::new(self, number)))
    }

    /// Calls a function on some rank and waits for its value.
    ///
    /// # Errors
    /// As [`open`](Self::open), or the call failed.
    pub fn call<A: Serialize, V: DeserializeOwned>(
        &self,
        function: &TaskFunction<A, V>,
        argument: &A,
    ) -> Result<V, CallError> {
        let known = self.calls.borrow().get(&function.name).copied();
        let number = match known {
            Some(number) => number,
            None => {
                let number = self.inner.open_bundle(Some(&function.name), Shape::CALL)?;
                self.calls.borrow_mut().insert(function.name.clone(), number);
                number
            }
        };
        let index = self.inner.submit(number, &super::bundle::encoded(argument)?)?;
        loop {
            let outcomes = self.inner.take(number, true)?;
            if outcomes.is_empty() {
                return Err(SessionError::Ended.into());
            }
            // Calls before it may have been given up when the session could not wait for them.
            if let Some(outcome) = outcomes.into_iter().find(|outcome| outcome.index == index) {
                return Ok(super::bundle::Outcome::new(outcome).value()?);
            }
        }
    }

    /// Waits until outcomes of one of the bundles wait to be taken, or one of them has no task left that could give any; its
    /// place in the list. None where the list is empty.
    ///
    /// # Errors
    /// The session is broken.
    pub fn wait_any(&self, bundles: &[&RawBundle<'_>]) -> Result<Option<usize>, SessionError> {
        if let Some(at) = bundles.iter().position(|bundle| bundle.has_taken()) {
            return Ok(Some(at));
        }
        let numbers: Vec<usize> = bundles.iter().map(|bundle| bundle.number()).collect();
        self.inner.wait_any(&numbers)
    }

    /// Waits until all tasks of all bundles have ended, and ends the session; outcomes that nobody took are gone.
    ///
    /// Where ranks are missing at this end ([`is_without_all`](super::is_without_all) says so behind it), the program should say
    /// all that it has to, and then call [`end_program`](super::end_program) or MPI_Finalize.
    ///
    /// # Errors
    /// The session is broken.
    pub fn finish(self) -> Result<(), SessionError> {
        self.inner.finish(true)
    }

    /// Ends the session without waiting for tasks that have not started.
    ///
    /// # Errors
    /// The session is broken.
    pub fn leave(self) -> Result<(), SessionError> {
        self.inner.finish(false)
    }
}
