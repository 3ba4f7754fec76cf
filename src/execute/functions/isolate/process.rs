//! The rank's end of one call process.

use super::Isolation;
use super::area::Area;
use super::wire::{Notice, Setup};
use crate::execute::slot::status_of;
use crate::execute::sys;
use crate::execute::wire::Damaged;
use crate::schedule::encode;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a process may take to end of SIGKILL before it is given up: it hangs in the kernel.
const KILL_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether a process is to be killed.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes taken from the socket at once.
const READ_BYTES: usize = 4096;

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrderEnd {
    /// The process said so, and waits for the next.
    Done,
    /// The process ended, with the status that `waitpid` gave.
    Died(libc::c_int),
    /// Nobody knows how: its spawner is gone too, or it does not die.
    Lost,
    /// It said what makes no sense; it was killed.
    Damaged,
}

/// A process that is to be ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kill {
    /// When it is killed that does not end by itself.
    pub(super) at: Instant,
}

/// A call process that has not been seen to end. Dropping it lets it end, when it does not call a function.
pub(super) struct CallProcess {
    isolation: Arc<Isolation>,
    number: u32,
    socket: OwnedFd,
    pub(super) area: Arc<Area>,
    inbox: Vec<u8>,
    /// When it was sent SIGKILL.
    killed: Option<Instant>,
    /// It was sent SIGTERM.
    terminated: bool,
}

impl CallProcess {
    /// Has one forked, and tells it what it is for. Does not wait for it.
    pub(super) fn start(isolation: &Arc<Isolation>, setup: &Setup) -> io::Result<CallProcess> {
        let (area, file) = Area::new()?;
        let (number, socket) = isolation.fork()?;
        sys::send_descriptor(socket.as_fd(), &[0], file.as_fd())?;
        sys::send_descriptor(socket.as_fd(), &[0], io::stdout().as_fd())?;
        sys::send_descriptor(socket.as_fd(), &[0], io::stderr().as_fd())?;
        let setup = encode(setup);
        sys::send_all_slices(socket.as_fd(), &[&(setup.len() as u32).to_le_bytes(), &setup])?;
        let (isolation, area) = (isolation.clone(), Arc::new(area));
        Ok(CallProcess { isolation, number, socket, area, inbox: Vec::new(), killed: None, terminated: false })
    }

    /// Whether it may be given another order.
    pub(super) fn is_sound(&self) -> bool {
        !self.terminated && self.killed.is_none()
    }

    /// Sends an order, and waits for the notice of its end, by its number. `look` says whether the process is to be killed; it is asked
    /// again after at most the time that it gives.
    pub(super) fn exchange(
        &mut self,
        number: u32,
        mut order: &[u8],
        mut look: impl FnMut() -> (Option<Kill>, Option<Duration>),
    ) -> OrderEnd {
        loop {
            while !order.is_empty() {
                match sys::unless_blocked(sys::send(self.socket.as_fd(), order, false)) {
                    Ok(Some(length)) => order = &order[length..],
                    Ok(None) => break,
                    // How it ended stands behind what it said.
                    Err(_) => order = &[],
                }
            }
            let (kill, limit) = look();
            if let Some(kill) = kill {
                self.terminate(kill);
            }
            if self.killed.is_some_and(|killed| killed.elapsed() > KILL_PATIENCE) {
                return OrderEnd::Lost;
            }
            self.wait(!order.is_empty(), limit.map_or(LOOK, |limit| limit.min(LOOK)));
            match self.next_notice() {
                Ok(None | Some(Notice::Ready)) => {}
                Ok(Some(Notice::Unable(length))) => drop(self.inbox.drain(..length as usize)),
                Ok(Some(Notice::Done(of))) if of == number && order.is_empty() => return OrderEnd::Done,
                Ok(Some(Notice::Ended(status))) => return OrderEnd::Died(status),
                Ok(Some(Notice::Done(_))) | Err(Trouble::Damaged) => return self.end_damaged(),
                Err(Trouble::Closed) => return OrderEnd::Lost,
            }
        }
    }

    /// Waits for the process to be ready. An error says why it lacks the function of this name, or how it ended.
    pub(super) fn wait_ready(&mut self, name: &str) -> Result<(), String> {
        loop {
            match self.next_notice() {
                Ok(Some(Notice::Ready)) => return Ok(()),
                Ok(Some(Notice::Unable(length))) => {
                    let why = self.inbox.drain(..length as usize).collect::<Vec<_>>();
                    return Err(String::from_utf8_lossy(&why).into_owned());
                }
                Ok(Some(Notice::Ended(status))) => {
                    return Err(format!("{name}: the process that loaded it has ended: {}", status_of(status)));
                }
                Ok(Some(Notice::Done(_))) | Err(_) => {
                    return Err(format!("{name}: the process that loaded it is gone"));
                }
                Ok(None) => self.wait(false, LOOK),
            }
        }
    }

    fn wait(&self, sends: bool, limit: Duration) {
        let mut entry = [sys::readable(self.socket.as_fd())];
        if sends {
            entry[0].events |= libc::POLLOUT;
        }
        // What has arrived already is not waited for.
        if matches!(Notice::take(&self.inbox), Ok(Some(_)) | Err(_)) {
            return;
        }
        // One that fails is looked at again.
        let _ = sys::poll(&mut entry, Some(limit));
    }

    /// What it said first and was not taken; none while nothing whole has arrived. The reason of `Unable` stays.
    fn next_notice(&mut self) -> Result<Option<Notice>, Trouble> {
        loop {
            if let Some(notice) = Notice::take(&self.inbox).map_err(|Damaged| Trouble::Damaged)? {
                self.inbox.drain(..Notice::BYTES);
                return Ok(Some(notice));
            }
            let mut bytes = [0; READ_BYTES];
            match sys::unless_blocked(sys::receive(self.socket.as_fd(), &mut bytes, false)) {
                Ok(None) => return Ok(None),
                Ok(Some(0)) | Err(_) => return Err(Trouble::Closed),
                Ok(Some(length)) => self.inbox.extend_from_slice(&bytes[..length]),
            }
        }
    }

    /// Asks it to end, and makes it once the time has come.
    fn terminate(&mut self, kill: Kill) {
        if !std::mem::replace(&mut self.terminated, true) {
            self.isolation.signal(self.number, libc::SIGTERM);
            // A stopped process hears nothing else.
            self.isolation.signal(self.number, libc::SIGCONT);
        }
        if self.killed.is_none() && sys::until(kill.at).is_zero() {
            self.kill();
        }
    }

    fn kill(&mut self) {
        self.killed = Some(Instant::now());
        self.isolation.signal(self.number, libc::SIGKILL);
    }

    /// Kills it, and waits for its end: what it does to the memory that is shared must be over.
    fn end_damaged(&mut self) -> OrderEnd {
        self.kill();
        let until = Instant::now() + KILL_PATIENCE;
        let mut bytes = [0; READ_BYTES];
        while !sys::until(until).is_zero() {
            self.wait(false, sys::until(until));
            match sys::unless_blocked(sys::receive(self.socket.as_fd(), &mut bytes, false)) {
                Ok(None) => {}
                // Its end of the socket is closed last, by the spawner.
                Ok(Some(0)) | Err(_) => break,
                Ok(Some(_)) => {}
            }
        }
        OrderEnd::Damaged
    }
}

enum Trouble {
    Damaged,
    Closed,
}
