//! Bundles: submitting tasks and taking outcomes as they come.

use super::session::Session;
use crate::drive::SessionError;
use crate::ledger::Counts;
use crate::task::{self, IndexRange, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::time::{Duration, SystemTime};

/// How one task ended: status, times, place, and its value or output as bytes.
pub type RawOutcome = task::Outcome;

/// Why a task gave no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// It did not end well.
    #[error("task {index}: {status}{}{said}", if said.is_empty() { "" } else { ": " })]
    Failed {
        /// Its number.
        index: u64,
        /// How it ended.
        status: Status,
        /// What its error said.
        said: String,
    },
    /// Its value is of another type.
    #[error("task {index} gave a value of another type: {why}")]
    Value {
        /// Its number.
        index: u64,
        /// What does not fit.
        why: String,
    },
}

/// How one call ended.
#[derive(Clone, Debug)]
pub struct Outcome<V> {
    raw: RawOutcome,
    types: PhantomData<fn() -> V>,
}

impl<V> Outcome<V> {
    pub(super) fn new(raw: RawOutcome) -> Self {
        Self { raw, types: PhantomData }
    }

    /// Its number in its bundle: what `submit` gave, or the index of the array.
    pub fn index(&self) -> u64 {
        self.raw.index
    }

    /// How it ended.
    pub fn status(&self) -> &Status {
        &self.raw.status
    }

    /// Attempts made, the last included.
    pub fn attempts(&self) -> u32 {
        self.raw.attempts
    }

    /// Length of the last attempt, where it was recorded.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.raw.duration_us)
    }

    /// Start of the last attempt by the clock of its node, where it was recorded.
    pub fn started(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.raw.started_unix_us)
    }

    /// The rank that ran it.
    pub fn rank(&self) -> u32 {
        self.raw.rank
    }

    /// The node that ran it; see [`Session::node_name`].
    pub fn node(&self) -> u32 {
        self.raw.node
    }

    /// As bytes.
    pub fn into_raw(self) -> RawOutcome {
        self.raw
    }
}

impl<V: DeserializeOwned> Outcome<V> {
    /// What the function gave.
    ///
    /// # Errors
    /// The task did not end well, or the value is of another type.
    pub fn value(&self) -> Result<V, TaskError> {
        let index = self.raw.index;
        if self.raw.status != Status::Ok {
            let said = String::from_utf8_lossy(&self.raw.stderr.bytes).trim_end().to_owned();
            return Err(TaskError::Failed { index, status: self.raw.status.clone(), said });
        }
        postcard::from_bytes(&self.raw.stdout.bytes).map_err(|error| TaskError::Value { index, why: error.to_string() })
    }
}

/// A bundle of tasks whose payloads and values are bytes. Dropped, it is closed, its outcomes are forgotten, and its tasks
/// run on.
pub struct RawBundle<'a> {
    session: &'a Session,
    number: usize,
    /// Taken from the session, and not yet by the program.
    taken: VecDeque<RawOutcome>,
}

impl<'a> RawBundle<'a> {
    pub(super) fn new(session: &'a Session, number: usize) -> Self {
        Self { session, number, taken: VecDeque::new() }
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Whether an outcome can be had without asking the session.
    pub(super) fn has_taken(&self) -> bool {
        !self.taken.is_empty()
    }

    /// Lets go of it: it stays open, and [`Session::by_number`] knows it by this number. For bindings to languages in which
    /// nothing borrows; to be called before outcomes are taken, those taken ahead are gone.
    pub fn into_number(self) -> usize {
        let mut kept = ManuallyDrop::new(self);
        kept.taken = VecDeque::new();
        kept.number
    }

    /// Adds a task; its number in the bundle, from 0. It may be sent on together with those that come next, but not later
    /// than the next call that takes outcomes or waits. Where very many tasks wait, it waits until some have ended.
    ///
    /// # Errors
    /// The bundle is closed, the payload too large, or the session broken.
    pub fn submit(&mut self, payload: &[u8]) -> Result<u64, SessionError> {
        self.session.inner.submit(self.number, payload)
    }

    /// No more tasks will be added.
    pub fn close(&mut self) {
        self.session.inner.close(self.number);
    }

    /// The next outcome, in the order in which they come; waits for it. `None`: every task so far has ended and its outcome
    /// was given.
    ///
    /// # Errors
    /// The session is broken, or outcomes of other bundles fill the memory.
    // An iterator could not tell errors apart from outcomes.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<RawOutcome>, SessionError> {
        if self.taken.is_empty() {
            self.taken.extend(self.session.inner.take(self.number, true)?);
        }
        Ok(self.taken.pop_front())
    }

    /// The next outcome, if there is one already.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<RawOutcome>, SessionError> {
        if self.taken.is_empty() {
            self.taken.extend(self.session.inner.take(self.number, false)?);
        }
        Ok(self.taken.pop_front())
    }

    /// Waits until every task so far has ended; how many ended how. Outcomes can be taken after it as before.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn wait(&mut self) -> Result<Counts, SessionError> {
        self.session.inner.wait(self.number)
    }

    /// How many tasks there are, and how many of them have ended, as far as rank 0 has heard.
    ///
    /// # Errors
    /// The session is broken.
    pub fn counts(&self) -> Result<(u64, Counts), SessionError> {
        self.session.inner.counts(self.number)
    }

    /// Takes tasks back, by their numbers: those that have not started end as cancelled. Functions that run go on to their
    /// end, which is their outcome; processes that run are killed.
    ///
    /// # Errors
    /// The session is broken.
    ///
    /// # Panics
    /// Where the range runs backwards.
    pub fn cancel(&mut self, numbers: Range<u64>) -> Result<(), SessionError> {
        self.session.inner.cancel(self.number, IndexRange::new(numbers.start, numbers.end))
    }
}

impl Drop for RawBundle<'_> {
    fn drop(&mut self) {
        self.session.inner.close(self.number);
        self.session.inner.drop_outcomes(self.number);
    }
}

/// A bundle of calls that take an `A` and give a `V`. As [`RawBundle`], with types.
pub struct Bundle<'a, A, V> {
    raw: RawBundle<'a>,
    types: PhantomData<fn(A) -> V>,
}

impl<'a, A, V> Bundle<'a, A, V> {
    pub(super) fn new(raw: RawBundle<'a>) -> Self {
        Self { raw, types: PhantomData }
    }

    /// The bundle without types, for [`Session::wait_any`].
    pub fn raw(&self) -> &RawBundle<'a> {
        &self.raw
    }

    /// See [`RawBundle::close`].
    pub fn close(&mut self) {
        self.raw.close();
    }

    /// See [`RawBundle::next`].
    ///
    /// # Errors
    /// As there.
    // An iterator could not tell errors apart from outcomes.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Outcome<V>>, SessionError> {
        Ok(self.raw.next()?.map(Outcome::new))
    }

    /// See [`RawBundle::try_next`].
    ///
    /// # Errors
    /// As there.
    pub fn try_next(&mut self) -> Result<Option<Outcome<V>>, SessionError> {
        Ok(self.raw.try_next()?.map(Outcome::new))
    }

    /// See [`RawBundle::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(&mut self) -> Result<Counts, SessionError> {
        self.raw.wait()
    }

    /// See [`RawBundle::counts`].
    ///
    /// # Errors
    /// As there.
    pub fn counts(&self) -> Result<(u64, Counts), SessionError> {
        self.raw.counts()
    }

    /// See [`RawBundle::cancel`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn cancel(&mut self, numbers: Range<u64>) -> Result<(), SessionError> {
        self.raw.cancel(numbers)
    }
}

impl<A: Serialize, V> Bundle<'_, A, V> {
    /// See [`RawBundle::submit`].
    ///
    /// # Errors
    /// As there, or the argument cannot be written.
    pub fn submit(&mut self, argument: &A) -> Result<u64, SessionError> {
        self.raw.submit(&encoded(argument)?)
    }
}

/// An argument as it travels.
pub(super) fn encoded(argument: &impl Serialize) -> Result<Vec<u8>, SessionError> {
    postcard::to_stdvec(argument).map_err(|error| SessionError::Argument(error.to_string()))
}
