//! How calls end: codes, and the message of the last error of each thread.

use myriarch::embed::{EnterError, PrepareError, SessionError};
use myriarch::fabric::FabricError;
use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What functions return; those that tell something by a number give it as 0 or more.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum myriarch_code {
    /// It went well.
    MYRIARCH_OK = 0,
    /// An argument is NULL where it must not be, is not UTF-8, or makes no sense.
    MYRIARCH_ERROR_ARGUMENT = -1,
    /// Not now: MPI is not running, or runs already, a session is open already or has lost ranks, or the bundle is closed.
    MYRIARCH_ERROR_STATE = -2,
    /// A payload is larger than any that can be sent (64 MiB).
    MYRIARCH_ERROR_TOO_LARGE = -3,
    /// Outcomes that nobody took fill the memory: take those of other bundles, or drop the bundles.
    MYRIARCH_ERROR_UNREAD = -4,
    /// No function of this name is registered.
    MYRIARCH_ERROR_NO_FUNCTION = -5,
    /// Processes cannot be started: myriarch_prepare() was not called on every rank.
    MYRIARCH_ERROR_NOT_PREPARED = -6,
    /// The ranks do not fit each other, no rank has as many cores as a task takes, or the session's folder is not to be had.
    MYRIARCH_ERROR_UNFIT = -7,
    /// The session is broken: messages cannot be moved any more.
    MYRIARCH_ERROR_BROKEN = -8,
    /// A fault of Myriarch's own.
    MYRIARCH_ERROR_PANIC = -9,
    /// The session is gone on with, and the task is not the one that lies in its folder.
    MYRIARCH_ERROR_DIFFERS = -10,
    /// Someone asked the session to stop: it can be gone on with in its folder.
    MYRIARCH_ERROR_STOPPED = -11,
    /// The folder of the session cannot be written or read.
    MYRIARCH_ERROR_DIR = -12,
}

use myriarch_code::*;

/// Why a call did not do what it was asked for.
pub(crate) struct Failure {
    code: myriarch_code,
    text: String,
}

pub(crate) type Answer<T = c_int> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: myriarch_code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(MYRIARCH_ERROR_ARGUMENT, text)
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let code = match error {
            SessionError::Broken(_) | SessionError::Ended => MYRIARCH_ERROR_BROKEN,
            SessionError::Unread { .. } => MYRIARCH_ERROR_UNREAD,
            SessionError::Closed => MYRIARCH_ERROR_STATE,
            SessionError::TooLarge { .. } => MYRIARCH_ERROR_TOO_LARGE,
            SessionError::NoFunction { .. } => MYRIARCH_ERROR_NO_FUNCTION,
            SessionError::NotPrepared => MYRIARCH_ERROR_NOT_PREPARED,
            SessionError::Unfit { .. } => MYRIARCH_ERROR_UNFIT,
            SessionError::Argument(_) => MYRIARCH_ERROR_ARGUMENT,
            SessionError::Differs { .. } => MYRIARCH_ERROR_DIFFERS,
            SessionError::Stopped => MYRIARCH_ERROR_STOPPED,
            SessionError::Dir(_) => MYRIARCH_ERROR_DIR,
        };
        Self::new(code, error.to_string())
    }
}

impl From<EnterError> for Failure {
    fn from(error: EnterError) -> Self {
        let code = match error {
            EnterError::Unfit(_) => MYRIARCH_ERROR_UNFIT,
            EnterError::Open | EnterError::Lost | EnterError::Fabric(FabricError::Misuse(_)) => MYRIARCH_ERROR_STATE,
            _ => MYRIARCH_ERROR_BROKEN,
        };
        Self::new(code, error.to_string())
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        let code = match error {
            PrepareError::TooLate => MYRIARCH_ERROR_STATE,
            PrepareError::Execute(_) => MYRIARCH_ERROR_NOT_PREPARED,
        };
        Self::new(code, error.to_string())
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Text for C: it ends where a NUL stands.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

fn remember(text: &str) {
    // A thread that is ending has no room for it any more.
    let _ = LAST.try_with(|last| last.replace(c_text(text)));
}

/// Does what a function of the header does, and no panic leaves it.
pub(crate) fn guarded(body: impl FnOnce() -> Answer) -> c_int {
    let (code, text) = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(told)) => return told,
        Ok(Err(Failure { code, text })) => (code, text),
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().copied();
            let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            (MYRIARCH_ERROR_PANIC, format!("a fault of Myriarch: {}", said.unwrap_or("no message")))
        }
    };
    remember(&text);
    code as c_int
}

/// What the last error of the calling thread was, in words; empty where there was none. It stays valid until the thread's
/// next error.
#[unsafe(no_mangle)]
pub extern "C" fn myriarch_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}
