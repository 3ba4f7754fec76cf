//! Starting the `myriarch` binary as users do: alone, and under the mpiexec of the MPI that it was built with. Every
//! process that a test starts carries a mark in its environment, by which it is found wherever it hides: what outlives
//! its launch, or its deadline, is killed and fails the test. Knows the binary only, no module of the library but the
//! name of the MPI.

// Without MPI, a part of it is for nobody.
#![cfg_attr(not(feature = "mpi"), allow(dead_code))]

pub mod json;
pub mod launch;
pub mod processes;
pub mod random;

pub use json::{outputs, rows, summary, tasks};
pub use launch::Launch;
pub use random::Random;

use processes::Process;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_myriarch");
/// Marks the processes of a launch.
pub const MARK: &str = "MYRIARCH_TEST_MARK";
/// What runs longer hangs.
pub const DEADLINE: Duration = Duration::from_secs(120);
/// How long processes may take to vanish after their launch has ended.
const VANISHING: Duration = Duration::from_secs(10);

/// A number that the environment may set, so that CI can do less and a person more.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Waits until something is so.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder for one test, in which everything runs, and all processes started there.
pub struct World {
    folder: tempfile::TempDir,
    mark: String,
    launches: AtomicU32,
    shared_memory_before: Vec<PathBuf>,
}

impl World {
    /// An empty one.
    pub fn new() -> World {
        let folder = tempfile::Builder::new().prefix("myriarch-test-").tempdir().unwrap();
        let mark = folder.path().file_name().unwrap().to_str().unwrap().to_owned();
        let shared_memory_before = processes::shared_memory();
        World { folder, mark, launches: AtomicU32::new(0), shared_memory_before }
    }

    /// A name in the folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whether there is such a file or folder.
    pub fn has(&self, name: impl AsRef<Path>) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok()
    }

    /// Puts a file there.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Reads a file there, which must be text.
    pub fn read(&self, name: impl AsRef<Path>) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The lines of a file there; none when it is not there.
    pub fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.path(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// What lies in the folder besides the outputs of launches, sorted.
    pub fn listing(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|n| n != "launches")
            .collect();
        names.sort();
        names
    }

    /// Starts `myriarch` with these words, the first of which is the sub-command.
    pub fn start<W: AsRef<OsStr>>(&self, launch: Launch, words: &[W]) -> Running<'_> {
        self.start_with(launch, words, |_| ())
    }

    /// As [`start`](Self::start), with changes to the command.
    pub fn start_with<W: AsRef<OsStr>>(
        &self,
        launch: Launch,
        words: &[W],
        change: impl FnOnce(&mut Command),
    ) -> Running<'_> {
        let mut command = launch.command(&self.path("launches"));
        command.arg(words[0].as_ref()).args(launch.options()).args(words[1..].iter().map(AsRef::as_ref));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        change(&mut command);
        self.spawn(command)
    }

    /// Runs it to its end and checks that nothing of it is left.
    pub fn run<W: AsRef<OsStr>>(&self, launch: Launch, words: &[W]) -> Ended {
        self.start(launch, words).wait()
    }

    /// Runs one of the commands that need no ranks, or a run on this process alone.
    pub fn alone<W: AsRef<OsStr>>(&self, words: &[W]) -> Ended {
        self.run(Launch::ALONE, words)
    }

    /// Starts any program as part of this world: with a mark, its output in files, in a process group of its own.
    /// Standard input is the caller's to say.
    pub fn spawn(&self, mut command: Command) -> Running<'_> {
        let mark = format!("{}.{}", self.mark, self.launches.fetch_add(1, Ordering::Relaxed));
        let folder = self.path("launches");
        fs::create_dir_all(&folder).unwrap();
        let (stdout, stderr) = (folder.join(format!("{mark}.stdout")), folder.join(format!("{mark}.stderr")));
        command.env(MARK, &mark).env("RUST_BACKTRACE", "0").env_remove("MYRIARCH_SERVER").process_group(0);
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        let line = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        Running { world: self, child, mark, line, stdout, stderr, deadline: Instant::now() + DEADLINE }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let left = processes::marked(&self.mark);
        left.iter().for_each(Process::kill);
        processes::remove_shared_memory(&self.shared_memory_before);
        if !std::thread::panicking() {
            assert!(left.is_empty(), "still there at the end of the test: {left:?}");
        }
    }
}

/// A launch that goes on.
pub struct Running<'w> {
    world: &'w World,
    child: Child,
    mark: String,
    line: String,
    stdout: PathBuf,
    stderr: PathBuf,
    deadline: Instant,
}

impl Running<'_> {
    /// All living processes of this launch, those of tasks too.
    pub fn processes(&self) -> Vec<Process> {
        processes::marked(&self.mark)
    }

    /// The ranks, in their order; where ranks are threads, the one process. Spawners are no ranks.
    pub fn ranks(&self) -> Vec<Process> {
        self.ranks_of(Path::new(BINARY))
    }

    /// The same of another program.
    pub fn ranks_of(&self, program: &Path) -> Vec<Process> {
        let ours = |pid: u32| processes::program_of(pid).is_some_and(|found| found == program);
        let mut ranks: Vec<_> = self.processes().into_iter().filter(|one| ours(one.pid) && !ours(one.parent)).collect();
        ranks.sort_by_key(|one| (one.rank, one.pid));
        ranks
    }

    /// What it has said on standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap()).into_owned()
    }

    /// Whether it goes on.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal to the launcher alone.
    pub fn signal_launcher(&self, name: &str) {
        assert!(processes::signal(self.child.id(), name), "there is no kill");
    }

    /// Kills the launcher and all ranks at once with SIGKILL. What they leave behind must end by itself.
    pub fn kill_job(mut self) -> Ended {
        let ranks = self.ranks();
        // Ranks first: a launcher that lives a moment longer changes nothing, one that dies first could end them well.
        ranks.iter().for_each(Process::kill);
        let _ = self.child.kill();
        self.wait()
    }

    /// Waits for the end, at most until the deadline, and checks that no process of it is left.
    pub fn wait(mut self) -> Ended {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > self.deadline {
                let left = self.processes();
                left.iter().for_each(Process::kill);
                let _ = self.child.wait();
                panic!("{} hangs\n{left:#?}\nIt said:\n{}", self.line, self.stderr());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let ended = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            if ended.elapsed() > VANISHING {
                left.iter().for_each(Process::kill);
                panic!("{} ended and left behind {left:#?}\nIt said:\n{}", self.line, self.stderr());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        processes::remove_shared_memory(&self.world.shared_memory_before);
        Ended {
            code: status.code(),
            signal: status.signal(),
            stdout: fs::read(&self.stdout).unwrap(),
            stderr: self.stderr(),
            line: std::mem::take(&mut self.line),
        }
    }
}

/// How a launch ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status of the launcher, or of the process itself.
    pub code: Option<i32>,
    /// What killed it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    line: String,
}

impl Ended {
    /// Checks the exit status.
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit status of {}\nIt said:\n{}", self.line, self.stderr);
        self
    }

    /// Standard output, which must be text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// How often standard error says this.
    pub fn says(&self, part: &str) -> usize {
        self.stderr.matches(part).count()
    }

    /// Checks that standard error says this once.
    #[track_caller]
    pub fn says_once(&self, part: &str) {
        assert_eq!(self.says(part), 1, "how often {part:?} stands in what {} said:\n{}", self.line, self.stderr);
    }
}
