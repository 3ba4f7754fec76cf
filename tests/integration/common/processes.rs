//! Finding processes by the mark in their environment, through /proc.

use super::MARK;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A living process.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its rank, where a launcher gave it one.
    pub rank: Option<u32>,
    /// Its command line, for messages.
    #[expect(dead_code, reason = "it is shown with the rest")]
    pub line: String,
}

impl Process {
    /// Sends SIGKILL.
    pub fn kill(&self) {
        self.signal("KILL");
    }

    /// Sends a signal; a process that has just ended does not mind.
    pub fn signal(&self, name: &str) {
        assert!(signal(self.pid, name), "there is no kill");
    }
}

/// Sends a signal to a process by its number; whether there is a way to do so.
pub fn signal(pid: u32, name: &str) -> bool {
    let mut command = Command::new("kill");
    command.args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status().is_ok()
}

/// Sends a signal to several at once.
pub fn signal_all<'a>(processes: impl Iterator<Item = &'a Process>, name: &str) {
    let pids: Vec<String> = processes.map(|process| process.pid.to_string()).collect();
    let mut command = Command::new("kill");
    // One that has just ended does not mind.
    command.args(["-s", name]).args(pids).stderr(Stdio::null()).status().expect("there is a kill");
}

/// All living processes whose mark begins with this.
pub fn marked(mark: &str) -> Vec<Process> {
    let wanted = format!("{MARK}={mark}");
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter_map(|pid| marked_process(pid, wanted.as_bytes())).collect()
}

fn marked_process(pid: u32, wanted: &[u8]) -> Option<Process> {
    // One that has ended and was not waited for has no environment any more.
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    variables.clone().find(|variable| is_marked(variable, wanted))?;
    let rank = variables.find_map(|variable| {
        let (name, value) = std::str::from_utf8(variable).ok()?.split_once('=')?;
        ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"].contains(&name).then(|| value.parse().ok())?
    });
    let fields = stat_fields(pid)?;
    if fields[0] == "Z" || fields[0] == "X" {
        return None;
    }
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    Some(Process { pid, parent: fields[1].parse().ok()?, rank, line })
}

/// A mark is a name, or a name and the number of a launch after a dot: launch 1 is not launch 12.
fn is_marked(variable: &[u8], wanted: &[u8]) -> bool {
    variable.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest[0] == b'.')
}

/// The fields of a process's `stat` from its state on.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
    Some(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

/// The program that a process runs.
pub fn program_of(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// What the MPIs keep in shared memory.
pub fn shared_memory() -> Vec<PathBuf> {
    let is_of_mpi = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        ["mpich", "vader_segment", "ucx_shm"].iter().any(|of_mpi| name.starts_with(of_mpi))
    };
    let own = fs::metadata("/proc/self").map(|own| own.uid()).ok();
    let is_ours = |path: &Path| fs::metadata(path).is_ok_and(|file| Some(file.uid()) == own);
    let Ok(entries) = fs::read_dir("/dev/shm") else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_of_mpi(path) && is_ours(path)).collect()
}

/// Keeps of these files those that no process has mapped.
fn retain_unmapped(files: &mut Vec<PathBuf>) {
    if files.is_empty() {
        return;
    }
    let Ok(entries) = fs::read_dir("/proc") else { return files.clear() };
    for maps in entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("maps")).ok()) {
        files.retain(|path| !maps.contains(&*path.to_string_lossy()));
    }
}

/// Removes what killed jobs left there, 4 MiB for each under MPICH. What was there before is not ours, nor is what
/// some process has mapped.
pub fn remove_shared_memory(before: &[PathBuf]) {
    let mut left = shared_memory();
    left.retain(|path| !before.contains(path));
    retain_unmapped(&mut left);
    if left.is_empty() {
        return;
    }
    // A job that starts just now makes its file first and maps it then.
    std::thread::sleep(Duration::from_secs(1));
    retain_unmapped(&mut left);
    for path in left {
        let _ = fs::remove_file(path);
    }
}
