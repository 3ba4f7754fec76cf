//! Rank 0's handle on a session. It owns its bundles, which callers know by their numbers.

use crate::error::{Answer, Failure, c_text, guarded};
use crate::pointers::{bytes, handle, line, name, place};
use myriarch::embed::{Process, RawOutcome, Session, Status, TaskOptions};
use myriarch::task::{IndexRange, MAX_TASKS};
use std::collections::{HashMap, VecDeque};
use std::ffi::{CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;

/// Rank 0's handle on a session. One thread at a time may use it; which ones may is for the level to say that MPI was
/// started with.
pub struct myriarch_session {
    session: Session,
    bundles: HashMap<u64, Held>,
}

/// What is kept of a bundle.
struct Held {
    kind: Kind,
    /// Taken from the session, and not yet by the caller.
    taken: VecDeque<RawOutcome>,
    /// What the caller's pointers lead to.
    shown: Option<(RawOutcome, CString)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Calls,
    Processes,
}

/// What the tasks of a bundle take, and how often each is tried. 0 stands for the default everywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct myriarch_task_options {
    /// Cores of one rank; by default 1.
    pub cores: u32,
    /// Further attempts after a failed one.
    pub retries: u32,
}

/// How one task ended. What its pointers lead to stays valid until the next call with the same bundle.
#[repr(C)]
pub struct myriarch_outcome {
    /// Its number in its bundle: what myriarch_submit() gave, or the index of the array.
    pub index: u64,
    /// 1 where it ended well, else 0.
    pub ok: c_int,
    /// "ok", "exit:3", "signal:9", "panic: WHY", "cancelled" and the like.
    pub status: *const c_char,
    /// What the function gave where it ended well; of a process, standard output. Nothing is known of its
    /// alignment, and no NUL follows: text ends after value_bytes.
    pub value: *const c_void,
    /// Its length.
    pub value_bytes: usize,
    /// What the function gave where it failed; of a process, standard error. No NUL follows.
    pub error_output: *const c_void,
    /// Its length.
    pub error_output_bytes: usize,
    /// Attempts made, the last included.
    pub attempts: u32,
    /// The rank that ran it.
    pub rank: u32,
    /// The node that ran it, from 0.
    pub node: u32,
    /// Length of the last attempt; 0 where it was not recorded.
    pub seconds: f64,
}

/// How many tasks of a bundle ended how.
#[repr(C)]
pub struct myriarch_counts {
    /// Ended well.
    pub ok: u64,
    /// Failed for good.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
}

#[cfg(feature = "mpi")]
pub(crate) fn opened(session: Session) -> *mut myriarch_session {
    Box::into_raw(Box::new(myriarch_session { session, bundles: HashMap::new() }))
}

impl myriarch_session {
    fn hold(&mut self, number: usize, kind: Kind) -> u64 {
        let number = number as u64;
        self.bundles.insert(number, Held { kind, taken: VecDeque::new(), shown: None });
        number
    }

    fn held(&mut self, bundle: u64) -> Answer<&mut Held> {
        self.bundles.get_mut(&bundle).ok_or_else(|| Failure::argument(format!("there is no bundle {bundle}")))
    }

    /// The number of a bundle that is there, as the session knows it.
    fn known(&mut self, bundle: u64) -> Answer<usize> {
        self.held(bundle).map(|_| bundle as usize)
    }

    fn submit(&mut self, bundle: u64, kind: Kind, entry: &[u8]) -> Answer<u64> {
        if self.held(bundle)?.kind != kind {
            let (has, given) = match kind {
                Kind::Calls => ("processes", "payload"),
                Kind::Processes => ("calls", "command"),
            };
            return Err(Failure::argument(format!("bundle {bundle} is one of {has}: it takes no {given}")));
        }
        Ok(self.session.by_number().submit(bundle as usize, entry)?)
    }

    fn next(&mut self, bundle: u64, waits: bool) -> Answer<Option<myriarch_outcome>> {
        let number = self.known(bundle)?;
        if self.held(bundle)?.taken.is_empty() {
            let taken = self.session.by_number().take(number, waits)?;
            self.held(bundle)?.taken.extend(taken);
        }
        let held = self.held(bundle)?;
        held.shown = held.taken.pop_front().map(|outcome| {
            let status = c_text(&outcome.status.to_string());
            (outcome, status)
        });
        Ok(held.shown.as_ref().map(|(outcome, status)| shown(outcome, status)))
    }
}

fn shown(outcome: &RawOutcome, status: &CString) -> myriarch_outcome {
    let (value, error_output) = (&outcome.stdout.bytes, &outcome.stderr.bytes);
    myriarch_outcome {
        index: outcome.index,
        ok: c_int::from(outcome.status == Status::Ok),
        status: status.as_ptr(),
        value: first(value),
        value_bytes: value.len(),
        error_output: first(error_output),
        error_output_bytes: error_output.len(),
        attempts: outcome.attempts,
        rank: outcome.rank,
        node: outcome.node,
        seconds: outcome.duration_us as f64 / 1e6,
    }
}

/// Never NULL, and never what Rust has for no bytes: C's functions want a true address even for none.
fn first(bytes: &[u8]) -> *const c_void {
    if bytes.is_empty() { c"".as_ptr().cast() } else { bytes.as_ptr().cast() }
}

unsafe fn task_options(options: *const myriarch_task_options) -> TaskOptions {
    // SAFETY: it is NULL or the caller's options.
    match unsafe { options.as_ref() } {
        Some(options) => TaskOptions { cores: options.cores, retries: options.retries, gpus: 0 },
        None => TaskOptions::default(),
    }
}

/// Waits until all tasks of all bundles have ended, ends the session and frees it; outcomes that nobody took are gone. The
/// other ranks return from myriarch_enter().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_finish(session: *mut myriarch_session) -> c_int {
    // SAFETY: the caller uses it no more.
    guarded(|| unsafe { end(session, Session::finish) })
}

/// As myriarch_finish(), without waiting for tasks that have not started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_leave(session: *mut myriarch_session) -> c_int {
    // SAFETY: the caller uses it no more.
    guarded(|| unsafe { end(session, Session::leave) })
}

unsafe fn end(
    session: *mut myriarch_session,
    how: impl FnOnce(Session) -> Result<(), myriarch::embed::SessionError>,
) -> Answer {
    let session = place(session, "session")?;
    // SAFETY: `opened` made it, and the caller gives it back.
    how(unsafe { Box::from_raw(session.as_ptr()) }.session)?;
    Ok(0)
}

/// How many ranks are lost so far: nothing was heard of them for longer than lost_after_seconds, or they are gone with such a rank;
/// what they had runs elsewhere. Those that are there again do not count. The first `capacity` of them go to `ranks`, which may be
/// NULL where that is 0. What counts for the end of the program is myriarch_without_all().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_lost(session: *mut myriarch_session, ranks: *mut u32, capacity: usize) -> c_int {
    guarded(|| {
        // SAFETY: what the header says of the session.
        let lost = unsafe { handle(session, "session") }?.session.lost();
        let gone: Vec<u32> = lost.iter().filter(|lost| !lost.came_back).map(|lost| lost.rank).collect();
        if capacity > 0 {
            let ranks = place(ranks, "ranks")?;
            // SAFETY: there is room for `capacity` of them.
            unsafe { std::ptr::copy_nonoverlapping(gone.as_ptr(), ranks.as_ptr(), gone.len().min(capacity)) };
        }
        Ok(gone.len() as c_int)
    })
}

/// 1 where the last session of this process ended without some ranks, else 0. Calls of MPI that all ranks make would wait for those
/// for ever then, no other session can be entered, and the program is to end by myriarch_end().
#[unsafe(no_mangle)]
pub extern "C" fn myriarch_without_all() -> c_int {
    c_int::from(myriarch::embed::is_without_all())
}

/// Ends the process with this status, in place of MPI_Finalize() and exit(), on any rank. Where a session ended without some ranks,
/// MPI is not finalised, and the other ranks, which wait in myriarch_enter(), end as well; MPI_Finalize() then does the same
/// with status 0. Streams of C are written; those of C++ and units of Fortran are to be closed before, and functions of atexit()
/// are not called.
#[unsafe(no_mangle)]
pub extern "C" fn myriarch_end(status: c_int) -> ! {
    myriarch::embed::end_program(status)
}

/// Talks to the other ranks without waiting. To be called every few milliseconds by a program that does something else for
/// long where MPI was started with less than MPI_THREAD_MULTIPLE; until then no task is handed out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_progress(session: *mut myriarch_session) -> c_int {
    guarded(|| {
        // SAFETY: what the header says of the session.
        unsafe { handle(session, "session") }?.session.progress()?;
        Ok(0)
    })
}

/// Opens a bundle of calls of a registered or builtin function. NULL stands for the default options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_open(
    session: *mut myriarch_session,
    function: *const c_char,
    options: *const myriarch_task_options,
    bundle: *mut u64,
) -> c_int {
    // SAFETY: what the header says of these pointers.
    guarded(|| unsafe {
        let (session, bundle) = (handle(session, "session")?, place(bundle, "bundle")?);
        let opened = session.session.open_raw(name(function, "function")?, task_options(options))?.into_number();
        bundle.write(session.hold(opened, Kind::Calls));
        Ok(0)
    })
}

/// Opens a bundle of processes: every rank has called myriarch_prepare(). NULL stands for the default options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_open_processes(
    session: *mut myriarch_session,
    options: *const myriarch_task_options,
    bundle: *mut u64,
) -> c_int {
    // SAFETY: what the header says of these pointers.
    guarded(|| unsafe {
        let (session, bundle) = (handle(session, "session")?, place(bundle, "bundle")?);
        let opened = session.session.processes(task_options(options))?.into_number();
        bundle.write(session.hold(opened, Kind::Processes));
        Ok(0)
    })
}

/// Adds a task with this payload, which is copied; its number in the bundle goes to *index, where that is not NULL. It may be
/// sent on together with those that come next, but not later than the next call that takes outcomes or waits. Where very many
/// tasks wait, it waits until some have ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_submit(
    session: *mut myriarch_session,
    bundle: u64,
    payload: *const c_void,
    payload_bytes: usize,
    index: *mut u64,
) -> c_int {
    // SAFETY: what the header says of these pointers.
    guarded(|| unsafe {
        let payload = bytes(payload, payload_bytes, "payload")?;
        let number = handle(session, "session")?.submit(bundle, Kind::Calls, payload)?;
        write_index(index, number);
        Ok(0)
    })
}

/// Adds a process to a bundle of processes: a line with the meaning that `sh -c LINE` gives it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_submit_shell(
    session: *mut myriarch_session,
    bundle: u64,
    command: *const c_char,
    index: *mut u64,
) -> c_int {
    // SAFETY: what the header says of these pointers.
    guarded(|| unsafe {
        let entry = Process::shell(OsStr::from_bytes(line(command, "command")?)).entry()?;
        let number = handle(session, "session")?.submit(bundle, Kind::Processes, &entry)?;
        write_index(index, number);
        Ok(0)
    })
}

unsafe fn write_index(index: *mut u64, number: u64) {
    if !index.is_null() {
        // SAFETY: it is the caller's.
        unsafe { index.write(number) };
    }
}

/// Opens a bundle of `count` calls with the indexes `first`, `first` + 1 and so on, all with the same argument as payload, and
/// closes it. It takes a few bytes, however many indexes there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_submit_array(
    session: *mut myriarch_session,
    function: *const c_char,
    first: u64,
    count: u64,
    argument: *const c_void,
    argument_bytes: usize,
    bundle: *mut u64,
) -> c_int {
    // SAFETY: what the header says of these pointers.
    guarded(|| unsafe {
        let (session, bundle) = (handle(session, "session")?, place(bundle, "bundle")?);
        let (function, argument) = (name(function, "function")?, bytes(argument, argument_bytes, "argument")?);
        let end = first.checked_add(count).filter(|_| count <= MAX_TASKS);
        let end = end.ok_or_else(|| Failure::argument(format!("{count} tasks from {first}: those are too many")))?;
        let array = session.session.array_raw(function, first..end, argument, TaskOptions::default())?;
        let number = array.into_number();
        bundle.write(session.hold(number, Kind::Calls));
        Ok(0)
    })
}

/// No more tasks will be added to the bundle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_close(session: *mut myriarch_session, bundle: u64) -> c_int {
    guarded(|| {
        // SAFETY: what the header says of the session.
        let session = unsafe { handle(session, "session") }?;
        let number = session.known(bundle)?;
        session.session.by_number().close(number);
        Ok(0)
    })
}

/// The next outcome of the bundle, in the order in which they come; waits for it. Returns 1, or 0 when every task so far has
/// ended and its outcome was given, or a negative code.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_next(
    session: *mut myriarch_session,
    bundle: u64,
    outcome: *mut myriarch_outcome,
) -> c_int {
    // SAFETY: what the header says of these pointers.
    guarded(|| unsafe { take(session, bundle, outcome, true) })
}

/// As myriarch_next(), but returns 0 also when there is no outcome yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_try_next(
    session: *mut myriarch_session,
    bundle: u64,
    outcome: *mut myriarch_outcome,
) -> c_int {
    // SAFETY: what the header says of these pointers.
    guarded(|| unsafe { take(session, bundle, outcome, false) })
}

unsafe fn take(session: *mut myriarch_session, bundle: u64, outcome: *mut myriarch_outcome, waits: bool) -> Answer {
    let outcome = place(outcome, "outcome")?;
    // SAFETY: the caller's promises.
    let session = unsafe { handle(session, "session") }?;
    let Some(next) = session.next(bundle, waits)? else { return Ok(0) };
    // SAFETY: it is the caller's.
    unsafe { outcome.write(next) };
    Ok(1)
}

/// Waits until every task of the bundle so far has ended; how many ended how goes to *counts, where that is not NULL.
/// Outcomes can be taken after it as before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_wait(
    session: *mut myriarch_session,
    bundle: u64,
    counts: *mut myriarch_counts,
) -> c_int {
    // SAFETY: what the header says of these pointers.
    guarded(|| unsafe {
        let session = handle(session, "session")?;
        let number = session.known(bundle)?;
        let ended = session.session.by_number().wait(number)?;
        if !counts.is_null() {
            counts.write(myriarch_counts { ok: ended.ok, failed: ended.failed, cancelled: ended.cancelled });
        }
        Ok(0)
    })
}

/// Takes `count` tasks of the bundle back, from number `first` on: those that have not started end as cancelled. Functions
/// that run go on to their end, which is their outcome; processes that run are killed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_cancel(session: *mut myriarch_session, bundle: u64, first: u64, count: u64) -> c_int {
    guarded(|| {
        // SAFETY: what the header says of the session.
        let session = unsafe { handle(session, "session") }?;
        let number = session.known(bundle)?;
        session.session.by_number().cancel(number, IndexRange::new(first, first.saturating_add(count)))?;
        Ok(0)
    })
}

/// Closes the bundle and forgets it: its number means nothing any more, its tasks run on, and nobody takes their outcomes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_drop(session: *mut myriarch_session, bundle: u64) -> c_int {
    guarded(|| {
        // SAFETY: what the header says of the session.
        let session = unsafe { handle(session, "session") }?;
        let number = session.known(bundle)?;
        session.bundles.remove(&bundle);
        session.session.by_number().close(number);
        session.session.by_number().drop_outcomes(number);
        Ok(0)
    })
}
