//! How fast this machine starts processes: bare, and through the executor. Compare the two within one run only.

use super::sys::{self, check};
use super::{ExecuteError, Executor, Settings, SlotCores, Spawner, system};
use crate::task::{Command, Program, Resources, Status};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

const PROGRAM: &std::ffi::CStr = c"/bin/true";

unsafe extern "C" {
    static environ: *const *mut libc::c_char;
}

/// Processes started per second by so many bare loops of `posix_spawn` and `waitpid` side by side. The processes get
/// this one's environment, as tasks do: what a program does first (its locale, its libraries) depends on it.
pub fn spawn_ceiling(processes: u32, seconds: f64) -> Result<f64, ExecuteError> {
    let (mut read, write) = io::pipe().map_err(system("make a pipe"))?;
    let length = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let mut loops = Vec::new();
    for _ in 0..processes {
        // SAFETY: the child calls only functions that are safe after a fork, and ends without returning.
        match check(unsafe { libc::fork() }).map_err(system("fork"))? {
            0 => {
                let rate = bare_loop(length).to_ne_bytes();
                // SAFETY: writes eight live bytes; _exit has no conditions.
                unsafe {
                    libc::write(write.as_raw_fd(), rate.as_ptr().cast(), rate.len());
                    libc::_exit(0)
                }
            }
            pid => loops.push(pid),
        }
    }
    drop(write);
    let mut rates = Vec::new();
    let heard = read.read_to_end(&mut rates);
    for pid in loops {
        // SAFETY: a null status is allowed.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    }
    heard.map_err(system("hear the loops"))?;
    Ok(rates.as_chunks().0.iter().map(|rate| f64::from_ne_bytes(*rate)).sum())
}

/// The loop of one process; its rate.
fn bare_loop(length: Duration) -> f64 {
    let arguments = [PROGRAM.as_ptr().cast_mut(), std::ptr::null_mut()];
    let start = Instant::now();
    let mut count = 0u64;
    while start.elapsed() < length {
        let mut pid = 0;
        // SAFETY: path and arguments are live, NUL-terminated and null-terminated; nothing changes the environment; a
        // null status is allowed.
        unsafe {
            let (actions, attributes) = (std::ptr::null(), std::ptr::null());
            if libc::posix_spawn(&mut pid, PROGRAM.as_ptr(), actions, attributes, arguments.as_ptr(), environ) != 0 {
                return f64::NAN;
            }
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
        count += 1;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

/// Tasks per second of an executor of so many slots that runs the same program for so long, output kept.
pub fn executor_rate(spawner: Spawner, slots: &[SlotCores], seconds: f64) -> Result<f64, ExecuteError> {
    let mut executor = Executor::new(spawner, slots, Settings::default())?;
    let command = Command {
        program: Program::Argv(vec![PROGRAM.to_bytes().to_vec()]),
        env: Vec::new(),
        cwd: None,
        stdin: None,
        timeout: None,
        resources: Resources::ONE_CORE,
        entry: None,
        label: 0,
    };
    let length = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let (mut ended, mut entries, mut count) = (Vec::new(), Vec::new(), 0u64);
    let start = Instant::now();
    (0..slots.len()).for_each(|slot| executor.start(&[slot as u32], &command, 1));
    // However slow the machine is, one at least has ended.
    while start.elapsed() < length || count == 0 {
        entries.clear();
        executor.wait_descriptors(&mut entries);
        sys::poll(&mut entries, Some(length)).map_err(system("wait for tasks"))?;
        executor.poll(&mut ended);
        for end in ended.drain(..) {
            if end.status != Status::Ok {
                return Err(system("run /bin/true")(io::Error::other(end.status.to_string())));
            }
            count += 1;
            executor.start(&[end.slot], &command, 1);
        }
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_rates_are_measured() {
        assert!(spawn_ceiling(2, 0.05).unwrap() > 0.0);
        assert!(executor_rate(Spawner::prepare().unwrap(), &[None, None], 0.0).unwrap() > 0.0);
    }
}
