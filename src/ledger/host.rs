//! What tells this process from all others: host, boot, process and batch job.

use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::OnceLock;

/// A process of some host, told from all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Which boot of which host.
    pub boot: String,
    /// Which numbering of processes on that host (containers have their own).
    pub pid_namespace: String,
    /// Its number.
    pub pid: u32,
    /// When it started, in the kernel's ticks: a number is given to other processes later.
    pub pid_started: u64,
}

impl ProcessIdentity {
    /// Of this process.
    pub fn of_this_process() -> Self {
        Self::of(std::process::id())
    }

    /// Of a process that this one has started.
    pub fn of(pid: u32) -> Self {
        Self {
            boot: boot_id().to_owned(),
            pid_namespace: pid_namespace(),
            pid,
            pid_started: process_start(pid).unwrap_or(0),
        }
    }

    /// Whether it lives; none where that cannot be seen from here, since it is on another host, in another container, or of
    /// another boot.
    pub fn lives(&self) -> Option<bool> {
        let is_here = !self.boot.is_empty() && self.boot == boot_id() && self.pid_namespace == pid_namespace();
        is_here.then(|| process_start(self.pid).is_some_and(|started| started == self.pid_started))
    }
}

/// This host's name.
pub(crate) fn host_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let name = kernel("hostname");
        if name.is_empty() { "localhost".to_owned() } else { name }
    })
}

/// Which boot of this host; empty where the kernel does not say.
pub(crate) fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| kernel("random/boot_id"))
}

fn kernel(what: &str) -> String {
    let text = std::fs::read_to_string(Path::new("/proc/sys/kernel").join(what)).unwrap_or_default();
    text.trim().replace('/', "_")
}

/// Which numbering of processes this process lives in.
pub(crate) fn pid_namespace() -> String {
    std::fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()
}

/// When the process started, in ticks since the boot; none when there is none, or only what is left of it (proc(5),
/// `/proc/pid/stat`).
pub(crate) fn process_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The batch job's own name for itself.
pub(crate) fn job_id() -> Option<String> {
    ["SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID", "COBALT_JOBID", "JOB_ID"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|id| !id.is_empty()))
        .map(|id| id.chars().take(64).collect())
}
