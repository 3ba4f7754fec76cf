//! Starting programs: alone, or on ranks by a launcher; with a deadline, and with what they say in files. Knows nothing of what
//! is measured.

use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take to end after it was told to.
const GRACE: Duration = Duration::from_secs(5);
/// Most lines of a failed command's standard error that are shown.
const TOLD_LINES: usize = 8;

/// Which launcher, told by its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// None: ranks are threads of one process.
    Threads,
    Slurm,
    OpenMpi,
    /// Hydra and its kin.
    Mpich,
}

/// How ranks lie on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Real nodes; none where the launcher is to place ranks as it likes (one machine).
    pub nodes: Option<u64>,
    /// Ranks in all, one slot on each.
    pub ranks: u64,
}

/// What starts ranks.
#[derive(Clone, Debug)]
pub struct Launcher {
    kind: Kind,
    words: Vec<String>,
    /// What it says of its version.
    pub version: String,
}

impl Launcher {
    /// `program` may bring options of its own; `threads` is no program, but ranks as threads of one process.
    pub fn new(program: &str, arguments: &[String]) -> Result<Launcher> {
        let words = words_of(program, arguments);
        let Some(first) = words.first() else { bail!("--launcher is empty: say mpiexec, srun or threads") };
        if first == "threads" {
            return Ok(Launcher { kind: Kind::Threads, words: Vec::new(), version: "ranks are threads".into() });
        }
        let said = Command::new(first)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("the launcher {first} cannot be started (--launcher says which)"))?;
        let (stdout, stderr) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        let (kind, version) = recognised(&format!("{stdout}\n{stderr}"));
        Ok(Launcher { kind, words, version })
    }

    /// The words before the program.
    pub fn prefix(&self, layout: Layout) -> Vec<String> {
        let mut words = self.words.clone();
        let ranks = layout.ranks.to_string();
        let more: Vec<String> = match (self.kind, layout.nodes) {
            (Kind::Threads, _) => Vec::new(),
            (Kind::Slurm, Some(nodes)) => vec![format!("--nodes={nodes}"), format!("--ntasks={ranks}")],
            (Kind::Slurm, None) => vec![format!("--ntasks={ranks}")],
            (Kind::OpenMpi, Some(nodes)) => {
                vec!["--map-by".into(), format!("ppr:{}:node", layout.ranks / nodes), "-n".into(), ranks]
            }
            (Kind::Mpich, Some(nodes)) => {
                vec!["-ppn".into(), (layout.ranks / nodes).to_string(), "-n".into(), ranks]
            }
            (_, None) => vec!["-n".into(), ranks],
        };
        words.extend(more);
        words
    }

    /// What the program itself is told when there is no launcher to count ranks.
    pub fn suffix(&self, layout: Layout) -> Vec<String> {
        match self.kind {
            Kind::Threads => vec!["--ranks".into(), layout.ranks.to_string()],
            _ => Vec::new(),
        }
    }

    /// The launcher as one would type it, without what names this machine.
    pub fn shown(&self) -> String {
        match self.kind {
            Kind::Threads => "none".to_owned(),
            _ => self.words.iter().map(|word| without_folders(word)).collect::<Vec<_>>().join(" "),
        }
    }
}

/// A launcher with its options, as words.
fn words_of(program: &str, arguments: &[String]) -> Vec<String> {
    let all = std::iter::once(program).chain(arguments.iter().map(String::as_str));
    all.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// The same for a file that others read.
pub fn shown_words(program: &str, arguments: &[String]) -> String {
    words_of(program, arguments).iter().map(|word| without_folders(word)).collect::<Vec<_>>().join(" ")
}

/// Which launcher says this of itself, and the line that names its version.
fn recognised(said: &str) -> (Kind, String) {
    let line = |key: &str| said.lines().find(|line| line.contains(key)).map(|line| line.trim().to_owned());
    let first = || said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown").to_owned();
    if said.to_lowercase().contains("slurm") {
        (Kind::Slurm, first())
    } else if said.contains("Open MPI") || said.contains("OpenRTE") || said.contains("PRRTE") {
        (Kind::OpenMpi, first())
    } else {
        let version = line("Version:").map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        (Kind::Mpich, version.map_or_else(first, |version| format!("Hydra {version}")))
    }
}

/// `/usr/bin/mpiexec` is `mpiexec`: folders of this machine are nobody's business.
fn without_folders(word: &str) -> String {
    match word.strip_prefix('/').and_then(|rest| rest.rsplit('/').next()) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => word.to_owned(),
    }
}

/// What a command said, and how long it took from start to exit.
#[derive(Debug)]
pub struct Said {
    /// Standard output.
    pub stdout: String,
    /// Wall time of the whole command.
    pub seconds: f64,
}

/// Runs commands in a folder of its own.
pub struct Runner {
    /// Where commands run and keep what they write.
    pub folder: PathBuf,
    /// How long any may take.
    pub deadline: Duration,
    /// A folder that comes first in PATH.
    pub path_first: Option<PathBuf>,
}

impl Runner {
    /// Runs a command to its end. An error names the command, how it ended, and the last lines of its standard error.
    pub fn run(&self, words: &[String]) -> Result<Said> {
        let shown = words.iter().map(|word| without_folders(word)).collect::<Vec<_>>().join(" ");
        let (stdout_path, stderr_path) = (self.folder.join("stdout"), self.folder.join("stderr"));
        let file = |path: &Path| File::create(path).with_context(|| format!("{} cannot be written", path.display()));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(file(&stdout_path)?).stderr(file(&stderr_path)?);
        if let Some(first) = &self.path_first {
            let mut path = OsString::from(first);
            path.push(":");
            path.push(std::env::var_os("PATH").unwrap_or_default());
            command.env("PATH", path);
        }
        let start = Instant::now();
        let mut child = command.spawn().with_context(|| format!("{shown} cannot be started"))?;
        let status = self.wait(&mut child, start).with_context(|| shown.clone())?;
        let seconds = start.elapsed().as_secs_f64();
        let read = |path: &Path| -> Result<String> { Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned()) };
        let stdout = read(&stdout_path)?;
        if !status.is_some_and(|status| status.success()) {
            let how = match status {
                Some(status) => status.to_string(),
                None => format!("it was ended after {} s, its deadline", self.deadline.as_secs()),
            };
            let stderr = read(&stderr_path)?;
            let mut last: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
            last.drain(..last.len().saturating_sub(TOLD_LINES));
            bail!("{shown}: {how}\n{}", last.join("\n"));
        }
        Ok(Said { stdout, seconds })
    }

    /// How the child ended, or none when its time was up and it was ended.
    fn wait(&self, child: &mut Child, start: Instant) -> Result<Option<ExitStatus>> {
        while start.elapsed() < self.deadline {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            // Short beside what is measured, and long enough to leave the cores alone.
            std::thread::sleep(Duration::from_millis(1));
        }
        // Launchers pass a TERM on to ranks that lie elsewhere; a KILL they could not.
        let started = descendants(child.id());
        signal("-TERM", &started);
        let told = Instant::now();
        while told.elapsed() < GRACE && child.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        signal("-KILL", &started);
        child.wait()?;
        Ok(None)
    }
}

/// A process and all that descend from it. They are of our own group, so that a terminal's interrupt reaches them too, and
/// have to be found one by one.
fn descendants(process: u32) -> Vec<u32> {
    let mut found = vec![process];
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|child| child.parse().ok()).flat_map(descendants));
    }
    found
}

/// To these processes. That some are gone is no error.
fn signal(signal: &str, processes: &[u32]) {
    let numbers = processes.iter().map(u32::to_string);
    let _ = Command::new("kill").arg(signal).args(numbers).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launcher(said: &str) -> Launcher {
        let (kind, version) = recognised(said);
        Launcher { kind, words: vec!["/opt/mpi/bin/mpiexec".into(), "--oversubscribe".into()], version }
    }

    #[test]
    fn launchers_are_told_apart_by_what_they_say() {
        assert_eq!(recognised("mpirun (Open MPI) 4.1.4\n\nReport"), (Kind::OpenMpi, "mpirun (Open MPI) 4.1.4".into()));
        assert_eq!(recognised("slurm 22.05.8\n"), (Kind::Slurm, "slurm 22.05.8".into()));
        let hydra = "HYDRA build details:\n    Version:                                 4.0.2\n";
        assert_eq!(recognised(hydra), (Kind::Mpich, "Hydra Version: 4.0.2".into()));
    }

    #[test]
    fn each_launcher_is_told_of_nodes_in_its_own_words() {
        let layout = Layout { nodes: Some(4), ranks: 32 };
        let words = |said: &str| launcher(said).prefix(layout)[2..].join(" ");
        assert_eq!(words("mpirun (Open MPI) 4.1.4"), "--map-by ppr:8:node -n 32");
        assert_eq!(words("slurm 22.05.8"), "--nodes=4 --ntasks=32");
        assert_eq!(words("HYDRA build details:"), "-ppn 8 -n 32");
        let threads = Launcher::new("threads", &[]).unwrap();
        assert!(threads.prefix(layout).is_empty());
        assert_eq!(threads.suffix(layout), ["--ranks", "32"]);
    }

    #[test]
    fn a_launcher_is_shown_without_the_folders_of_this_machine() {
        assert_eq!(launcher("mpirun (Open MPI) 4.1.4").shown(), "mpiexec --oversubscribe");
    }

    #[test]
    fn a_command_that_fails_is_named_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let runner = Runner { folder: folder.path().into(), deadline: Duration::from_secs(20), path_first: None };
        let words = ["sh", "-c", "echo well; echo no such node >&2; exit 3"].map(str::to_owned);
        let error = format!("{:#}", runner.run(&words).unwrap_err());
        assert!(error.contains("exit status: 3") && error.contains("no such node"), "{error}");
    }

    #[test]
    fn a_command_that_hangs_is_ended_at_its_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let runner = Runner { folder: folder.path().into(), deadline: Duration::from_millis(200), path_first: None };
        let error = runner.run(&["sh", "-c", "sleep 61.7 & echo $! >child; wait"].map(str::to_owned)).unwrap_err();
        assert!(format!("{error:#}").contains("deadline"), "{error:#}");
        let child = std::fs::read_to_string(folder.path().join("child")).unwrap();
        let runs = || {
            let command = std::fs::read_to_string(format!("/proc/{}/cmdline", child.trim())).unwrap_or_default();
            command.contains("61.7")
        };
        // It was told to end; on a busy machine it takes a while to be gone.
        let start = Instant::now();
        while runs() && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!runs(), "what it had started has ended too");
    }
}
