//! Ends what a task left behind: every process whose nearest living ancestor is this one, a subreaper.
//!
//! Knows nothing of tasks; the caller says which of its children are none of the leftovers.

use super::sys::{self, Child, Wait};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How long leftovers may take to die of SIGKILL. What takes longer hangs in the kernel (a dead file system, say).
const PATIENCE: Duration = Duration::from_secs(2);

/// Processes killed with a group die within this, and need no look through the process table.
const FIRST_PAUSE: Duration = Duration::from_millis(3);

/// The children of this process, by a look through the process table. (The kernel's own list of children is an option
/// that some kernels are built without.)
fn children() -> Vec<libc::pid_t> {
    let own = std::process::id();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<libc::pid_t>().ok())
        .filter(|pid| parent_of(*pid) == Some(own))
        .collect()
}

/// The parent of a process: the second field after its name, which stands in parentheses and may hold anything.
fn parent_of(pid: libc::pid_t) -> Option<u32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Kills and reaps all children for which `spared` is false, and their descendants, which come to be children of this
/// process as their parents die. Processes that do not die in time go to `stuck` and are passed over from then on.
/// `reaped` hears of every child that is reaped, spared ones too.
pub(super) fn end_all(
    signals: BorrowedFd<'_>,
    spared: impl Fn(libc::pid_t) -> bool,
    stuck: &mut Vec<libc::pid_t>,
    mut reaped: impl FnMut(Child),
) {
    let give_up = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    let mut first = true;
    loop {
        loop {
            match sys::reap(-1) {
                Wait::Ended(child) => {
                    stuck.retain(|&pid| pid != child.pid);
                    reaped(child);
                }
                Wait::AllRun => break,
                Wait::NoChild => return stuck.clear(),
            }
        }
        if !first {
            let left: Vec<_> = children().into_iter().filter(|pid| !spared(*pid) && !stuck.contains(pid)).collect();
            if left.is_empty() {
                return;
            }
            if Instant::now() > give_up {
                stuck.extend(left);
                return;
            }
            left.iter().for_each(|&pid| sys::kill(pid, libc::SIGKILL));
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        first = false;
        // A child's end cuts the pause short.
        let _ = sys::poll(&mut [sys::readable(signals)], Some(pause));
        sys::clear_signals(signals);
    }
}
