//! Programs: functions by name, and entering with a communicator.

use crate::error::{Failure, guarded};
use crate::pointers::{self, handle};
use myriarch::embed::{Pin, Program, RawFunction, Recording, Settings, prepare};
use std::ffi::{OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "mpi")]
use crate::{
    error::Answer,
    pointers::place,
    session::{myriarch_session, opened},
};
#[cfg(feature = "mpi")]
use mpi::ffi::RSMPI_Fint as MPI_Fint;

/// The functions that tasks may call. Every rank registers the same ones.
pub struct myriarch_program(Program);

/// That of myriarch_task.h.
pub type myriarch_task_function = Option<RawFunction>;

/// What slots are bound to, for myriarch_options.
#[repr(C)]
pub enum myriarch_pin {
    /// What is best as a rule: cores.
    MYRIARCH_PIN_DEFAULT = 0,
    /// Each to cores of its own.
    MYRIARCH_PIN_CORE = 1,
    /// Each to the cores that its rank has on one NUMA node.
    MYRIARCH_PIN_NUMA = 2,
    /// To nothing.
    MYRIARCH_PIN_NONE = 3,
}

/// What is recorded of calls, for myriarch_options.
#[repr(C)]
pub enum myriarch_recording {
    /// All of it.
    MYRIARCH_RECORD_DEFAULT = 0,
    /// Status, duration and value of every task.
    MYRIARCH_RECORD_ALL = 1,
    /// Those of failed tasks; of the others only that they ended well.
    MYRIARCH_RECORD_FAILURES = 2,
    /// The status of each task, and nothing else.
    MYRIARCH_RECORD_NONE = 3,
}

/// What rank 0 decides of a session. 0 stands for the default everywhere: see myriarch_options_init().
#[repr(C)]
pub struct myriarch_options {
    /// Slots on each node; by default a slot for each core.
    pub slots_per_node: u32,
    /// Width of a node by hand; by default as MPI and the host names say.
    pub ranks_per_node: u32,
    /// Other than 0: rank 0's node runs no tasks; where there is one node, rank 0 alone runs none.
    pub dedicated_manager: c_int,
    /// One of enum myriarch_pin.
    pub pin: c_int,
    /// One of enum myriarch_recording.
    pub recording: c_int,
    /// The folder in which tasks and outcomes are kept, so that a later start of the program can go on with them; NULL: they
    /// are in memory only. It is read by myriarch_enter() alone.
    pub dir: *const c_char,
    /// Other than 0: goes on with what lies in dir, if anything does. Else a folder that holds a session is an error.
    pub resume: c_int,
    /// Other than 0, with resume: tasks that failed run again.
    pub retry_failed: c_int,
    /// With a folder: most seconds between an outcome being written, which is when the program is told, and being synced; by
    /// default 1. Less than 0: it is synced before the program is told.
    pub sync_seconds: f64,
    /// A rank of which nothing was heard for so many seconds is given up, and what it had runs elsewhere; by default 30, at least
    /// half a second. Less than 0: nobody is. See myriarch_lost().
    pub lost_after_seconds: f64,
    /// Other than 0: with MPI_THREAD_SERIALIZED another thread may talk for rank 0 while the program does something else. The program
    /// makes no calls of MPI on rank 0 then until the session has ended, or, where it ended without some ranks, until
    /// myriarch_end() or MPI_Finalize().
    pub talks_on: c_int,
    /// Where nobody talks for rank 0: the longest time that the program stays outside of the functions of the session, in seconds;
    /// by default an hour. The other ranks end when they hear nothing of rank 0 for longer.
    pub longest_absence_seconds: f64,
}

impl Default for myriarch_options {
    fn default() -> Self {
        Self {
            slots_per_node: 0,
            ranks_per_node: 0,
            dedicated_manager: 0,
            pin: 0,
            recording: 0,
            dir: std::ptr::null(),
            resume: 0,
            retry_failed: 0,
            sync_seconds: 0.0,
            lost_after_seconds: 0.0,
            talks_on: 0,
            longest_absence_seconds: 0.0,
        }
    }
}

/// A program without functions; NULL where there is no memory. To be given to myriarch_program_free() at the end.
#[unsafe(no_mangle)]
pub extern "C" fn myriarch_program_new() -> *mut myriarch_program {
    catch_unwind(|| Box::into_raw(Box::new(myriarch_program(Program::new())))).unwrap_or(std::ptr::null_mut())
}

/// Frees a program, or NULL. Sessions that were entered with it go on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_program_free(program: *mut myriarch_program) {
    guarded(|| {
        if !program.is_null() {
            // SAFETY: myriarch_program_new made it, and the caller uses it no more.
            drop(unsafe { Box::from_raw(program) });
        }
        Ok(0)
    });
}

/// Registers a function under a name, before entering. It is called from several threads at once, one per slot, on any rank,
/// and must not use MPI nor call the functions of this header: see myriarch_task.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_register(
    program: *mut myriarch_program,
    name: *const c_char,
    function: myriarch_task_function,
) -> c_int {
    guarded(|| {
        // SAFETY: what the header says of these pointers, and myriarch_task.h of the function.
        unsafe {
            let program = handle(program, "program")?;
            let name = pointers::name(name, "name")?;
            let function = function.ok_or_else(|| Failure::argument("function is NULL"))?;
            program.0.register_raw(name, function).map_err(Failure::argument)?;
        }
        Ok(0)
    })
}

/// Makes it possible for sessions to run processes: to be called on every rank before MPI_Init, and best before there are
/// threads. Functions need no preparation.
#[unsafe(no_mangle)]
pub extern "C" fn myriarch_prepare() -> c_int {
    guarded(|| {
        prepare()?;
        Ok(0)
    })
}

/// Sets all options to their defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_options_init(options: *mut myriarch_options) {
    if !options.is_null() {
        // SAFETY: it is that of the caller's options.
        unsafe { options.write(myriarch_options::default()) };
    }
}

impl myriarch_options {
    /// # Safety
    /// `dir` is NULL, or a NUL ends it.
    // Without MPI nobody enters.
    #[cfg_attr(not(feature = "mpi"), allow(dead_code))]
    unsafe fn settings(&self) -> Result<Settings, Failure> {
        let defaults = Settings::default();
        let pin = match self.pin {
            0 => defaults.pin,
            1 => Pin::Core,
            2 => Pin::Numa,
            3 => Pin::None,
            other => return Err(Failure::argument(format!("pin is {other}, which is none of myriarch_pin"))),
        };
        let recording = match self.recording {
            0 => defaults.recording,
            1 => Recording::All,
            2 => Recording::Failures,
            3 => Recording::None,
            other => {
                return Err(Failure::argument(format!("recording is {other}, which is none of myriarch_recording")));
            }
        };
        let dir = match self.dir.is_null() {
            true => None,
            // SAFETY: the caller's promise.
            false => Some(PathBuf::from(OsStr::from_bytes(unsafe { pointers::line(self.dir, "dir") }?))),
        };
        let duration = |name: &str, seconds: f64| {
            Duration::try_from_secs_f64(seconds).map_err(|_| Failure::argument(format!("{name} is {seconds}")))
        };
        let sync = match self.sync_seconds {
            0.0 => defaults.sync,
            less if less < 0.0 => Duration::ZERO,
            seconds => duration("sync_seconds", seconds)?,
        };
        let lost_after = match self.lost_after_seconds {
            0.0 => defaults.lost_after,
            less if less < 0.0 => None,
            seconds => Some(duration("lost_after_seconds", seconds)?),
        };
        let longest_absence = match self.longest_absence_seconds {
            0.0 => defaults.longest_absence,
            seconds => duration("longest_absence_seconds", seconds)?,
        };
        let given = |number: u32| (number > 0).then_some(number);
        Ok(Settings {
            slots_per_node: given(self.slots_per_node),
            ranks_per_node: given(self.ranks_per_node),
            dedicated_manager: self.dedicated_manager != 0,
            pin,
            recording,
            dir,
            resume: self.resume != 0,
            retry_failed: self.retry_failed != 0,
            sync,
            lost_after,
            talks_on: self.talks_on != 0,
            longest_absence,
            ..defaults
        })
    }
}

/// Enters with a communicator: collective over it; a duplicate of it is used. On rank 0 it gives the session, at once. On
/// the other ranks it runs tasks until that session is over, and *session is NULL then. MPI must be running, and can be used
/// as before when the session is over; a program may enter again then. Before MPI_Finalize() rank 0 has to end the session
/// by myriarch_finish() or myriarch_leave(): the other ranks wait for that. While a session is open in a process another is
/// refused with MYRIARCH_ERROR_STATE.
///
/// Rank 0's options hold; NULL stands for the defaults. Where MPI was started with MPI_THREAD_MULTIPLE, another thread talks
/// for rank 0 while the program does something else than calling the session. With less, see myriarch_progress(). Functions
/// are fastest with MPI_THREAD_SERIALIZED or more.
#[cfg(feature = "mpi")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_enter(
    program: *const myriarch_program,
    communicator: mpi::ffi::MPI_Comm,
    options: *const myriarch_options,
    session: *mut *mut myriarch_session,
) -> c_int {
    // SAFETY: what the header says.
    guarded(|| unsafe { enter(program, communicator, options, session) })
}

/// myriarch_enter() with a communicator of Fortran: an INTEGER, or the MPI_VAL of a TYPE(MPI_Comm).
#[cfg(feature = "mpi")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myriarch_enter_f(
    program: *const myriarch_program,
    communicator: MPI_Fint,
    options: *const myriarch_options,
    session: *mut *mut myriarch_session,
) -> c_int {
    // SAFETY: what the header says; the handle is one of Fortran's.
    guarded(|| unsafe { enter(program, mpi::ffi::RSMPI_Comm_f2c(communicator), options, session) })
}

#[cfg(feature = "mpi")]
unsafe fn enter(
    program: *const myriarch_program,
    communicator: mpi::ffi::MPI_Comm,
    options: *const myriarch_options,
    session: *mut *mut myriarch_session,
) -> Answer {
    let session = place(session, "session")?;
    // SAFETY: the pointers are NULL or the caller's own; the communicator is a valid one.
    unsafe {
        session.write(std::ptr::null_mut());
        let program = program.as_ref().ok_or_else(|| Failure::argument("program is NULL"))?;
        let settings = options.as_ref().map_or_else(|| Ok(Settings::default()), |options| options.settings())?;
        if communicator == mpi::ffi::RSMPI_COMM_NULL {
            return Err(Failure::argument("the communicator is MPI_COMM_NULL"));
        }
        if let Some(entered) = program.0.enter_raw(communicator, &settings)? {
            session.write(opened(entered));
        }
    }
    Ok(0)
}
