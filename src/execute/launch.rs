//! Starts one process: the few system calls between a fork and an `execve`.
//!
//! It does what `posix_spawn` does (a child that borrows the caller's memory until it executes the program), in fewer
//! system calls: the C library asks after 64 signal dispositions in every child, here the caller has none that need
//! resetting. It also binds to cores and changes the folder by descriptor, which `posix_spawn` cannot do everywhere.

use super::sys::{CpuSet, check};
use crate::task::io_cause;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What to start. The caller must have every signal blocked and every disposition at its default.
pub(super) struct Launch<'a> {
    pub(super) program: &'a CStr,
    /// Ends with null.
    pub(super) arguments: &'a [*const c_char],
    /// Ends with null.
    pub(super) environment: &'a [*const c_char],
    /// None: what the caller has, `/dev/null`.
    pub(super) stdin: Option<BorrowedFd<'a>>,
    /// None: what the caller has, `/dev/null`.
    pub(super) stdout: Option<BorrowedFd<'a>>,
    pub(super) stderr: BorrowedFd<'a>,
    pub(super) folder: Option<BorrowedFd<'a>>,
    pub(super) cores: Option<&'a CpuSet>,
}

/// Where starting failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Making a process.
    Fork,
    /// Setting it up.
    SetUp,
    /// Executing the program.
    Execute,
}

/// Why a process could not be started.
#[derive(Debug)]
pub(super) struct LaunchError {
    pub(super) step: Step,
    pub(super) error: io::Error,
}

/// The stack on which children run until they execute their program. One child at a time, while the caller waits.
pub(super) struct ChildStack(Vec<u8>);

/// The child calls a handful of wrappers of the C library, none of which has large frames. `execve` gets its arrays
/// ready-made.
const STACK_BYTES: usize = 64 << 10;

impl ChildStack {
    /// Takes the memory.
    pub(super) fn new() -> Self {
        Self(vec![0; STACK_BYTES])
    }

    /// Its upper end, aligned as every supported architecture wants it.
    fn top(&mut self) -> *mut c_void {
        let top = self.0.as_mut_ptr_range().end;
        top.wrapping_sub(top.addr() % 64).cast()
    }
}

/// What the child sees of its parent's memory.
struct Shared<'a> {
    launch: &'a Launch<'a>,
    parent: libc::pid_t,
    /// Written by the child when it fails, read by the parent afterwards.
    failed: Option<(Step, c_int)>,
}

/// Starts the process, in a group of its own, and returns its number. It is killed when the caller dies.
pub(super) fn launch(stack: &mut ChildStack, launch: &Launch<'_>) -> Result<libc::pid_t, LaunchError> {
    // SAFETY: getpid has no conditions.
    let parent = unsafe { libc::getpid() };
    let mut shared = Shared { launch, parent, failed: None };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let argument = (&raw mut shared).cast();
    // SAFETY: with CLONE_VFORK the caller stands still until the child has executed its program or ended, so `shared`,
    // the stack and all that `launch` borrows outlive the child's use of them, and nobody else touches them meanwhile
    // (the calling process has one thread). All signals are blocked and no handler is installed, so that no code but
    // `child` runs on this stack. `child` never returns into Rust frames of the caller.
    let pid = unsafe { libc::clone(child, stack.top(), flags, argument) };
    let pid = check(pid).map_err(|error| LaunchError { step: Step::Fork, error })?;
    // SAFETY: `shared` is live; the child wrote through the pointer that `clone` was given, which is why the value is
    // read through a pointer too, and volatile.
    let failed = unsafe { (&raw const shared.failed).read_volatile() };
    match failed {
        None => Ok(pid),
        Some((step, errno)) => {
            // It has ended, or is about to: nobody else waits for it.
            // SAFETY: a null status is allowed.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            Err(LaunchError { step, error: io::Error::from_raw_os_error(errno) })
        }
    }
}

/// Runs in the child, in the parent's memory: only system calls, no allocation, no panic, no return.
extern "C" fn child(shared: *mut c_void) -> c_int {
    let shared = shared.cast::<Shared<'_>>();
    // SAFETY: `launch` passed a pointer to its live `Shared` and waits.
    let (launch, parent) = unsafe { ((*shared).launch, (*shared).parent) };
    let step = match set_up(launch, parent) {
        Err(()) => Step::SetUp,
        Ok(()) => {
            // SAFETY: path and arrays are NUL-terminated and null-terminated, and live.
            unsafe {
                libc::execve(launch.program.as_ptr(), launch.arguments.as_ptr(), launch.environment.as_ptr());
            }
            Step::Execute
        }
    };
    // SAFETY: as above; errno is that of the call that failed; _exit runs no handlers of the parent's.
    unsafe {
        (&raw mut (*shared).failed).write_volatile(Some((step, *libc::__errno_location())));
        libc::_exit(127)
    }
}

/// Group, ties to the parent, descriptors, folder, cores, signals. The error is in `errno`.
fn set_up(launch: &Launch<'_>, parent: libc::pid_t) -> Result<(), ()> {
    let put = |from: BorrowedFd<'_>, to: c_int| {
        // SAFETY: dup2 takes plain numbers; the child has its own table of descriptors.
        check(unsafe { libc::dup2(from.as_raw_fd(), to) }).map(drop).map_err(drop)
    };
    // SAFETY: these take plain numbers, and change this process only.
    unsafe {
        check(libc::setpgid(0, 0)).map_err(drop)?;
        // A backstop for the case that the slot process is killed together with all above it. The thread that forks
        // is the slot process's only one.
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL)).map_err(drop)?;
        if libc::getppid() != parent {
            libc::_exit(127);
        }
    }
    if let Some(stdin) = launch.stdin {
        put(stdin, 0)?;
    }
    if let Some(stdout) = launch.stdout {
        put(stdout, 1)?;
    }
    put(launch.stderr, 2)?;
    if let Some(folder) = launch.folder {
        // SAFETY: fchdir takes a plain number.
        check(unsafe { libc::fchdir(folder.as_raw_fd()) }).map_err(drop)?;
    }
    if let Some(cores) = launch.cores {
        // Binding is for speed: where the machine refuses it, the task runs unbound.
        let _ = cores.bind();
    }
    // SAFETY: the set is initialised before it is used. Dispositions are all default: a signal that arrives from here
    // on does to the child what it would do to the program.
    unsafe {
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        check(libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())).map(drop).map_err(drop)
    }
}

impl LaunchError {
    /// The error in words, about this program.
    pub(super) fn text(&self, program: &CStr) -> String {
        let why = io_cause(&self.error);
        let program = program.to_string_lossy();
        match self.step {
            Step::Fork => format!("no process could be made: {why}"),
            Step::SetUp => format!("the process could not be set up: {why}"),
            Step::Execute
                if self.error.kind() == io::ErrorKind::NotFound && std::path::Path::new(&*program).exists() =>
            {
                format!("{program}: the interpreter that it names is missing")
            }
            Step::Execute => format!("{program}: {why}"),
        }
    }

    /// Whether the machine is short of something for the moment, so that trying again may help.
    pub(super) fn is_shortage(&self) -> bool {
        self.step == Step::Fork
            && matches!(self.error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE))
    }
}
