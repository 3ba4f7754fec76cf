//! Registering functions, and entering a session with them.

use super::prepare;
use super::session::Session;
use crate::drive::{self, DriveError, Entered, RankReport, SessionSettings};
use crate::execute::functions::{Call, Function, MAX_VALUE_BYTES, RawFunction, cores_pool, raw_function};
use crate::fabric::ThreadFabric;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Display;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The functions that tasks may call, by name. Every rank registers the same ones, in any order, and enters.
#[derive(Clone, Default)]
pub struct Program {
    functions: BTreeMap<String, Function>,
}

/// What a function is told of the task that calls it.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Its number in its bundle.
    pub index: u64,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The slot, unique on the node.
    pub slot: u32,
    /// Cores that it may use: the calling thread is bound to them, where slots are bound.
    pub cores: u32,
}

impl Task {
    /// Threads for this task: as many as it has cores, each bound to one of them where slots are bound. Made at the first
    /// call for that many cores on a slot, and kept for its next tasks.
    ///
    /// # Panics
    /// Where the system gives no threads; the task fails.
    pub fn pool(&self) -> Arc<rayon::ThreadPool> {
        cores_pool(self.cores)
    }
}

/// A registered function: takes an `A`, gives a `V`.
pub struct TaskFunction<A, V> {
    pub(super) name: String,
    types: PhantomData<fn(A) -> V>,
}

impl<A, V> Clone for TaskFunction<A, V> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), types: PhantomData }
    }
}

/// Status of a call whose argument is none of the function's.
const BAD_ARGUMENT: i32 = 2;
/// Status of a call that gave an error.
const FAILED: i32 = 1;

impl Program {
    /// A program without functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a function under a name. Arguments and values travel in the form of postcard; a value may take up to
    /// [`MAX_VALUE_BYTES`] bytes. A panic in it is a failed task.
    ///
    /// It is called from several threads at once, one per slot, and must not use MPI.
    ///
    /// # Panics
    /// The name is empty, was registered before, or begins with `builtin:`.
    pub fn function<A, V>(
        &mut self,
        name: &str,
        function: impl Fn(&Task, A) -> V + Send + Sync + 'static,
    ) -> TaskFunction<A, V>
    where
        A: DeserializeOwned,
        V: Serialize,
    {
        self.fallible(name, move |task, argument| Ok::<_, std::convert::Infallible>(function(task, argument)))
    }

    /// As [`function`](Self::function), for one that may fail: the task fails with status `exit:1` then, and
    /// [`Outcome::value`](super::Outcome::value) tells what the error said.
    ///
    /// # Panics
    /// As `function`.
    pub fn fallible<A, V, E>(
        &mut self,
        name: &str,
        function: impl Fn(&Task, A) -> Result<V, E> + Send + Sync + 'static,
    ) -> TaskFunction<A, V>
    where
        A: DeserializeOwned,
        V: Serialize,
        E: Display,
    {
        self.raw(name, move |call| {
            let task = Task { index: call.index, attempt: call.attempt, slot: call.slot, cores: call.cores };
            let argument = match postcard::from_bytes::<A>(call.payload) {
                Ok(argument) => argument,
                Err(error) => return said(call, BAD_ARGUMENT, &format!("the argument is of another type: {error}")),
            };
            match function(&task, argument) {
                Ok(value) => match postcard::to_extend(&value, std::mem::take(call.value)) {
                    Ok(bytes) => {
                        *call.value = bytes;
                        0
                    }
                    Err(error) => said(call, FAILED, &format!("the value cannot be written: {error}")),
                },
                Err(error) => said(call, FAILED, &error.to_string()),
            }
        });
        TaskFunction { name: name.to_owned(), types: PhantomData }
    }

    /// Registers a function of bytes. It gives 0, or the status that the task failed with.
    ///
    /// # Panics
    /// As [`function`](Self::function).
    pub fn raw(&mut self, name: &str, function: impl Fn(&mut Call<'_>) -> i32 + Send + Sync + 'static) {
        self.insert(name, Arc::new(function)).unwrap_or_else(|why| panic!("{why}"));
    }

    /// Registers a function with the C interface of `bindings/c/myriarch_task.h`.
    ///
    /// # Errors
    /// The name is empty, was registered before, or begins with `builtin:`.
    ///
    /// # Safety
    /// The function keeps to what the header says of such functions.
    pub unsafe fn register_raw(&mut self, name: &str, function: RawFunction) -> Result<(), String> {
        // SAFETY: the caller's promise.
        self.insert(name, unsafe { raw_function(function) })
    }

    fn insert(&mut self, name: &str, function: Function) -> Result<(), String> {
        if name.is_empty() {
            return Err("a function needs a name".to_owned());
        }
        if name.starts_with("builtin:") {
            return Err(format!("{name}: names of this form are taken"));
        }
        match self.functions.entry(name.to_owned()) {
            Entry::Occupied(_) => Err(format!("a function {name} was registered before")),
            Entry::Vacant(free) => {
                free.insert(function);
                Ok(())
            }
        }
    }

    /// Enters with a communicator: collective over it. A duplicate of it is used. On rank 0 of it gives the session, at
    /// once; on the others runs tasks until that session is over, and gives `None`. Rank 0's settings hold.
    ///
    /// Where MPI was started with `MPI_THREAD_SERIALIZED` or more, ranks with one slot call functions without waking a
    /// thread. Rank 0 talks inside of the session's methods, and elsewhere too with `MPI_THREAD_MULTIPLE` or where
    /// [`Settings::talks_on`](SessionSettings::talks_on) is set. MPI is not to be finalised while a session is open, and no
    /// other one can be entered: that is refused before any other rank is spoken to, and they go on waiting.
    ///
    /// Where ranks are lost (see [`Settings::lost_after`](SessionSettings::lost_after)) the session goes on without them. But MPI
    /// cannot be finalised then, and no call of it that all ranks make returns: the other ranks end in this call, after rank
    /// 0's program has called [`end_program`](super::end_program) or MPI_Finalize, which ends it, too.
    ///
    /// # Errors
    /// MPI is not running, or is not that of the launcher; this process has a session open, or had one that lost ranks; the ranks do not fit each other,
    /// or the session's DIR cannot be had (an error on all of them); MPI fails.
    #[cfg(feature = "mpi")]
    pub fn enter(
        &self,
        communicator: &impl mpi::traits::AsRaw<Raw = mpi::ffi::MPI_Comm>,
        settings: &SessionSettings,
    ) -> Result<Option<Session>, DriveError> {
        // SAFETY: rsmpi's communicators are valid as long as they live.
        unsafe { self.enter_raw(communicator.as_raw(), settings) }
    }

    /// As [`enter`](Self::enter), with MPI's own handle.
    ///
    /// # Errors
    /// As `enter`.
    ///
    /// # Safety
    /// The handle is that of a valid intra-communicator.
    #[cfg(feature = "mpi")]
    pub unsafe fn enter_raw(
        &self,
        communicator: mpi::ffi::MPI_Comm,
        settings: &SessionSettings,
    ) -> Result<Option<Session>, DriveError> {
        if drive::is_without_all() {
            return Err(DriveError::Lost);
        }
        let only = OnlySession::begin().ok_or(DriveError::Open)?;
        // SAFETY: the caller's promise.
        let fabric = unsafe { crate::fabric::MpiFabric::enter(communicator)? };
        let spawner = prepare::spawner();
        let report = RankReport::of_this_process();
        match drive::enter(Box::new(fabric), spawner, &report, self.functions.clone(), settings)? {
            Entered::Manager(session) => Ok(Some(Session::new(session, Some(only)))),
            Entered::Left => Ok(None),
        }
    }

    /// Runs a session whose ranks are threads of this process, without MPI. `main` plays rank 0.
    ///
    /// # Errors
    /// The ranks cannot be started, the session's DIR cannot be had, or the session broke.
    ///
    /// # Panics
    /// Where `ranks` is 0.
    pub fn on_threads<T>(
        &self,
        ranks: u32,
        settings: &SessionSettings,
        main: impl FnOnce(&Session) -> T,
    ) -> Result<T, DriveError> {
        assert!(ranks > 0, "there is no session without ranks");
        let report = RankReport::of_this_process();
        let mut fabrics = ThreadFabric::group(ranks)?;
        let first = fabrics.remove(0);
        // Ranks of one process have one spawner; only a session of one rank can start processes.
        let spawner = if ranks == 1 { prepare::spawner() } else { None };
        std::thread::scope(|scope| {
            let report = &report;
            let others: Vec<_> = fabrics
                .into_iter()
                .map(|fabric| {
                    let functions = self.functions.clone();
                    scope.spawn(move || drive::enter(Box::new(fabric), None, report, functions, settings).map(drop))
                })
                .collect();
            let value = match drive::enter(Box::new(first), spawner, report, self.functions.clone(), settings)? {
                Entered::Manager(session) => {
                    let session = Session::new(session, None);
                    let value = main(&session);
                    session.leave().map_err(|error| DriveError::Unfit(error.to_string()))?;
                    value
                }
                Entered::Left => unreachable!("rank 0 gets the session"),
            };
            for other in others {
                other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            Ok(value)
        })
    }
}

static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// The one session over MPI that this process has: the ranks of another would wait for those of this one.
pub(super) struct OnlySession(());

impl OnlySession {
    #[cfg(feature = "mpi")]
    fn begin() -> Option<Self> {
        (!IS_OPEN.swap(true, Ordering::Relaxed)).then_some(Self(()))
    }
}

impl Drop for OnlySession {
    fn drop(&mut self) {
        IS_OPEN.store(false, Ordering::Relaxed);
    }
}

/// Says why a call failed, as its value.
fn said(call: &mut Call<'_>, status: i32, why: &str) -> i32 {
    call.value.clear();
    call.value.extend_from_slice(crate::ledger::cut_text(why, MAX_VALUE_BYTES).as_bytes());
    status
}
