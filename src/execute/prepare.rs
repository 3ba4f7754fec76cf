//! Makes a process of an attempt: program, arguments, environment, folder, pipes.
//!
//! Runs in the slot process. It does not know how the process fares afterwards.

use super::environment::{BaseEnvironment, TaskEnvironment};
use super::launch::{self, ChildStack, Launch, LaunchError, Step};
use super::line::{self, Finder};
use super::sys::{self, CpuSet};
use super::wire::{Attempt, Setup};
use crate::task::{Command, Program, io_cause};
use std::ffi::{CStr, CString, OsStr, c_char};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SHELL: &CStr = c"/bin/sh";

/// Where the machine is short of processes for a moment, starting is tried again this often, with this pause.
const SHORTAGE_TRIES: u32 = 20;
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// A process that runs, with the pipes that it writes to. The write ends are kept open, so that the pipes report
/// nothing but bytes: that everyone has closed them says nothing about the process.
pub(super) struct Started {
    pub(super) pid: libc::pid_t,
    pub(super) stdout: Option<(PipeReader, PipeWriter)>,
    pub(super) stderr: (PipeReader, PipeWriter),
}

/// What is kept from one task to the next.
pub(super) struct Preparation {
    base: BaseEnvironment,
    /// Whether the shell's own settings leave plain words alone.
    predictable: bool,
    environment: TaskEnvironment,
    finder: Finder,
    stack: ChildStack,
}

/// Why nothing was started.
enum Refusal {
    /// It can never be.
    Never(String),
    /// The system said no.
    Launch(LaunchError, String),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Refusal::Never(why)
    }
}

/// The words of a program's command line, and the file to execute.
struct Words {
    file: CString,
    words: Vec<CString>,
}

/// Descriptors that a process starts with.
struct Surroundings {
    folder: Option<File>,
    stdin: Option<File>,
    cores: Option<CpuSet>,
}

impl Preparation {
    /// For tasks that share this environment.
    pub(super) fn new(base: BaseEnvironment) -> Self {
        let finder = Finder::new(base.get(b"PATH"));
        let predictable =
            line::shell_is_predictable(base.names()) && finder.is_absolute() && base.get(b"PATH").is_some();
        Self { base, predictable, environment: TaskEnvironment::default(), finder, stack: ChildStack::new() }
    }

    /// Starts the attempt's process; the error says why not, for people.
    pub(super) fn start(&mut self, attempt: &Attempt, setup: &Setup) -> Result<Started, String> {
        let mut tries = 0;
        loop {
            match self.try_start(attempt, setup) {
                Ok(started) => return Ok(started),
                Err(Refusal::Launch(error, _)) if error.is_shortage() && tries < SHORTAGE_TRIES => {
                    tries += 1;
                    std::thread::sleep(SHORTAGE_PAUSE);
                }
                Err(Refusal::Never(why) | Refusal::Launch(_, why)) => return Err(why),
            }
        }
    }

    fn try_start(&mut self, attempt: &Attempt, setup: &Setup) -> Result<Started, Refusal> {
        let command = &attempt.command;
        let folder = command.cwd.as_deref().map(open_folder).transpose()?;
        let stdin = command.stdin.as_deref().map(|file| open_stdin(command.cwd.as_deref(), file)).transpose()?;
        let surroundings = Surroundings { folder, stdin, cores: attempt.cores.as_deref().map(CpuSet::of) };
        self.fill_environment(attempt, setup, surroundings.folder.as_ref())?;
        let keep_stdout = setup.keep_stdout;
        match &command.program {
            Program::Call { function, .. } => Err(format!("{function} is a function and no program").into()),
            Program::Argv(words) => {
                let words = self.argv(words, command)?;
                self.launch(&words, &surroundings, keep_stdout)
            }
            Program::Shell(line) => {
                if let Some(words) = self.without_shell(line, command) {
                    match self.launch(&words, &surroundings, keep_stdout) {
                        // Gone, not executable, or no binary: the shell knows what to say or do.
                        Err(Refusal::Launch(LaunchError { step: Step::Execute, .. }, _)) => {
                            self.finder.forget(words.words[0].as_bytes());
                        }
                        result => return result,
                    }
                }
                let line = CString::new(line.as_slice()).map_err(|_| "the line holds a NUL byte".to_owned())?;
                let words = Words { file: SHELL.into(), words: vec![c"sh".into(), c"-c".into(), line] };
                self.launch(&words, &surroundings, keep_stdout)
            }
        }
    }

    /// The words of a line that no shell need read, where the program is found.
    fn without_shell(&mut self, line: &[u8], command: &Command) -> Option<Words> {
        let mut names = command.env.iter().map(|(name, _)| &name[..]);
        if !self.predictable || names.any(|name| name == b"PATH" || !line::shell_is_predictable(std::iter::once(name)))
        {
            return None;
        }
        let words = line::plain_words(line)?;
        let file = self.finder.find(words[0])?;
        let words = words.into_iter().map(CString::new).collect::<Result<_, _>>().ok()?;
        Some(Words { file, words })
    }

    fn argv(&mut self, words: &[Vec<u8>], command: &Command) -> Result<Words, String> {
        let name = words.first().filter(|name| !name.is_empty()).ok_or("the command is empty")?;
        let path = command.env.iter().rev().find(|(name, _)| name == b"PATH");
        let file = match path {
            Some((_, path)) => Finder::new(Some(path)).find(name),
            None => self.finder.find(name),
        };
        let file = file.ok_or_else(|| format!("{}: no such program on PATH", String::from_utf8_lossy(name)))?;
        let words = words.iter().map(|word| CString::new(word.as_slice())).collect::<Result<_, _>>();
        Ok(Words { file, words: words.map_err(|_| "an argument holds a NUL byte")? })
    }

    fn fill_environment(&mut self, attempt: &Attempt, setup: &Setup, folder: Option<&File>) -> Result<(), String> {
        let command = &attempt.command;
        let environment = &mut self.environment;
        environment.clear();
        let mut number = |name: &[u8], value: u64| environment.set(name, value.to_string().as_bytes());
        number(b"MYRIARCH_INDEX", command.label)?;
        number(b"MYRIARCH_ATTEMPT", attempt.attempt.into())?;
        number(b"MYRIARCH_SLOT", setup.slot.into())?;
        number(b"MYRIARCH_CORES", command.resources.cores.into())?;
        if command.resources.cores > 1 {
            number(b"OMP_NUM_THREADS", command.resources.cores.into())?;
        }
        if let Some(entry) = &command.entry {
            environment.set(b"MYRIARCH_ENTRY", entry)?;
        }
        if let Some(out_dir) = &setup.out_dir {
            environment.set(b"MYRIARCH_OUT", out_dir)?;
        }
        if let Some((name, value)) = &attempt.gpus {
            environment.set(name, value)?;
        }
        if let (Some(folder), Some(given)) = (folder, &command.cwd) {
            environment.set(b"PWD", path_of(folder, given).as_os_str().as_bytes())?;
        } else if let Some(folder) = &setup.folder {
            environment.set(b"PWD", folder)?;
        }
        command.env.iter().try_for_each(|(name, value)| environment.set(name, value))
    }

    fn launch(&mut self, words: &Words, around: &Surroundings, keep_stdout: bool) -> Result<Started, Refusal> {
        let pipe = || {
            io::pipe().map_err(|error| {
                let why = format!("no pipe for its output could be made: {}", io_cause(&error));
                Refusal::Launch(LaunchError { step: Step::Fork, error }, why)
            })
        };
        let stdout = if keep_stdout { Some(pipe()?) } else { None };
        let stderr = pipe()?;
        let mut arguments: Vec<*const c_char> = words.words.iter().map(|word| word.as_ptr()).collect();
        arguments.push(std::ptr::null());
        let launch = Launch {
            program: &words.file,
            arguments: &arguments,
            environment: self.environment.pointers(&self.base),
            stdin: around.stdin.as_ref().map(AsFd::as_fd),
            stdout: stdout.as_ref().map(|pipe| pipe.1.as_fd()),
            stderr: stderr.1.as_fd(),
            folder: around.folder.as_ref().map(AsFd::as_fd),
            cores: around.cores.as_ref(),
        };
        match launch::launch(&mut self.stack, &launch) {
            Ok(pid) => Ok(Started { pid, stdout, stderr }),
            Err(error) => {
                let why = error.text(&words.file);
                Err(Refusal::Launch(error, why))
            }
        }
    }
}

/// Opens a task's folder, making it first where it is missing.
fn open_folder(folder: &[u8]) -> Result<File, String> {
    let folder = Path::new(OsStr::from_bytes(folder));
    let open = || {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        File::options().read(true).custom_flags(flags).open(folder)
    };
    let opened = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::create_dir_all(folder).and_then(|()| open()),
        result => result,
    };
    opened.map_err(|error| format!("working directory {}: {}", folder.display(), io_cause(&error)))
}

/// Opens a task's input; its name is relative to the task's folder. A FIFO that nobody writes to reads as empty.
fn open_stdin(folder: Option<&[u8]>, file: &[u8]) -> Result<File, String> {
    let file = Path::new(OsStr::from_bytes(folder.unwrap_or_default())).join(OsStr::from_bytes(file));
    let open = || {
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&file)?;
        // SAFETY: fcntl with F_SETFL takes plain numbers.
        sys::check(unsafe { libc::fcntl(opened.as_raw_fd(), libc::F_SETFL, 0) })?;
        Ok(opened)
    };
    open().map_err(|error: io::Error| format!("stdin {}: {}", file.display(), io_cause(&error)))
}

/// What PWD is to say: the name that the user gave, where it is whole, otherwise where the folder lies.
fn path_of(folder: &File, given: &[u8]) -> PathBuf {
    let given = PathBuf::from(OsStr::from_bytes(given));
    if given.is_absolute() {
        return given;
    }
    std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).unwrap_or(given)
}
