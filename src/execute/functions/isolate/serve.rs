//! The life of a call process: it loads its functions and calls them for one order after the other, until its rank goes.
//!
//! It has one thread of ours, the main one, with the stack that a program has.

use super::super::function::{Call, Function, MAX_VALUE_BYTES, load_function, missing};
use super::super::slots::{Recording, bind, call_once, not_called};
use super::area::Area;
use super::wire::{Failure, Notice, OrderHead, OrderTasks, Record, Setup};
use crate::execute::sys::{self, Received, check};
use crate::execute::wire::Damaged;
use crate::schedule::decode;
use crate::task::Status;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

/// Serves the rank at the other end of the socket until it goes, then ends this process as a program ends: exit handlers
/// of the function's library run.
pub(in crate::execute) fn serve_calls(rank: OwnedFd) {
    // Without its rank, or where that is out of its mind, there is nobody to work for.
    if let Ok(mut server) = Server::new(rank) {
        while server.serve_order().is_ok() {}
    }
    // SAFETY: this process has one thread of ours.
    unsafe { libc::exit(0) };
}

/// Reads all of it; an error where the rank is gone.
fn read_all(rank: &OwnedFd, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        match sys::receive(rank.as_fd(), into, true)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => into = &mut into[length..],
        }
    }
    Ok(())
}

/// Reads a message that begins with its length.
fn read_message(rank: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    read_all(rank, &mut length)?;
    let mut message = vec![0; u32::from_le_bytes(length) as usize];
    read_all(rank, &mut message)?;
    Ok(message)
}

fn receive_file(rank: &OwnedFd) -> io::Result<OwnedFd> {
    match sys::receive_descriptor(rank.as_fd(), &mut [0])? {
        Received::Descriptor(file) => Ok(file),
        Received::Nothing | Received::Closed => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn damaged(_: Damaged) -> io::Error {
    io::ErrorKind::InvalidData.into()
}

struct Server {
    rank: OwnedFd,
    area: Area,
    setup: Setup,
    functions: Vec<Function>,
    /// The body of an order.
    body: Vec<u8>,
    value: Vec<u8>,
    record: Vec<u8>,
}

impl Server {
    fn new(rank: OwnedFd) -> io::Result<Server> {
        let area = Area::open(&receive_file(&rank)?)?;
        // What functions print goes where what the rank says goes.
        for standard in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            let file = receive_file(&rank)?;
            // SAFETY: dup2 takes plain numbers; what it closes is the spawner's /dev/null.
            check(unsafe { libc::dup2(file.as_raw_fd(), standard) })?;
        }
        let setup: Setup = decode(&read_message(&rank)?).map_err(|_| damaged(Damaged))?;
        bind(setup.units.as_deref());
        let mut said = Notice::Ready.to_bytes().to_vec();
        let load = |name: &String| {
            load_function(name).unwrap_or_else(|error| {
                let why = error.to_string();
                let cut = &why.as_bytes()[..why.floor_char_boundary(Notice::MAX_WHY_BYTES)];
                said = [&Notice::Unable(cut.len() as u32).to_bytes()[..], cut].concat();
                missing(name)
            })
        };
        let functions = setup.functions.iter().map(load).collect();
        sys::send_all_slices(rank.as_fd(), &[&said])?;
        let value = Vec::with_capacity(MAX_VALUE_BYTES);
        Ok(Server { rank, area, setup, functions, body: Vec::new(), value, record: Vec::new() })
    }

    fn serve_order(&mut self) -> io::Result<()> {
        let mut head = [0; OrderHead::BYTES];
        read_all(&self.rank, &mut head)?;
        let head = OrderHead::read(&head);
        let mut body = std::mem::take(&mut self.body);
        body.resize(usize::try_from(head.body).map_err(|_| damaged(Damaged))?, 0);
        read_all(&self.rank, &mut body)?;
        let (units, tasks) = head.split(&body).map_err(damaged)?;
        if units.is_some() {
            bind(units.as_deref());
        }
        self.call_all(head, tasks).map_err(damaged)?;
        if units.is_some() {
            bind(self.setup.units.as_deref());
        }
        body.shrink_to(1 << 20);
        self.body = body;
        sys::send_all_slices(self.rank.as_fd(), &[&Notice::Done(head.number).to_bytes()])
    }

    /// Calls what is not cut off, as long as there is room for results.
    fn call_all(&mut self, head: OrderHead, mut tasks: OrderTasks<'_>) -> Result<(), Damaged> {
        let records = self.setup.recording == Recording::All;
        let began = Instant::now();
        let ns = |moment: Instant| moment.duration_since(began).as_nanos() as u64;
        let (mut clock, mut used) = (began, 0);
        while Area::has_room(used)
            && let Some(place) = self.area.window().claim()
        {
            let (function, index, payload) = tasks.take()?;
            // Where no call is timed but those that fail, each has to be: nobody knows before.
            let start = if self.setup.recording == Recording::Failures { Instant::now() } else { clock };
            self.area.note_start(ns(start));
            self.value.clear();
            let mut call = Call {
                index,
                payload,
                attempt: head.attempt,
                slot: self.setup.slot,
                cores: head.cores,
                value: &mut self.value,
            };
            let status = match self.functions.get(function as usize) {
                Some(function) => call_once(function, &mut call),
                None => not_called(),
            };
            let failed = status != Status::Ok;
            if records || failed {
                clock = Instant::now();
                let failure = failed.then(|| Failure { place, start_ns: ns(start), status });
                let duration_ns = clock.duration_since(start).as_nanos() as u64;
                self.record.clear();
                Record { duration_ns, value: &self.value, failure }.put(&mut self.record);
                self.area.put(used, &self.record);
                used += self.record.len();
            }
            self.area.note_ended(place + 1, used);
        }
        Ok(())
    }
}
