//! The messages between a rank and its slot processes. Both ends are the same binary on the same machine; lengths are
//! checked all the same before memory is taken.
//!
//! To the slot: a frame is its length (u32), its kind (u8) and its body. To the rank: a fixed header, then a text and
//! the two streams, whose lengths the header gives.

use crate::task::{Captured, Command, Program, Status};
use std::time::Duration;

/// Most bytes that one request may take; a kernel takes no command line that comes near it.
pub(super) const MAX_REQUEST_BYTES: usize = 64 << 20;

/// What a slot process is told once, before its first task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) max_output: u64,
    pub(super) keep_stdout: bool,
    pub(super) kill_grace: Duration,
    pub(super) out_dir: Option<Vec<u8>>,
    /// Where tasks run that name no folder, and what relative names are relative to; none where the process is.
    pub(super) folder: Option<Vec<u8>>,
    /// The slot's number on its node.
    pub(super) slot: u32,
    pub(super) cores: Option<Vec<u32>>,
}

/// One attempt, with what the rank adds to the command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Counts the attempts of a slot, so that a late kill does not hit the next one.
    pub(super) number: u64,
    pub(super) attempt: u32,
    /// Cores to bind to, where they are not those of the slot.
    pub(super) cores: Option<Vec<u32>>,
    /// The variable that names the task's GPUs, and its value.
    pub(super) gpus: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) command: Command,
}

/// What a rank tells a slot process.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Setup(Setup),
    Run(Box<Attempt>),
    Kill { number: u64, grace: Duration },
}

/// A message that does not read as one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message between a rank and a slot process is damaged")]
pub(super) struct Damaged;

const SETUP: u8 = 0;
const RUN: u8 = 1;
const KILL: u8 = 2;

/// Writes requests; the buffer may be used again.
struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A length that does not fit makes the whole request too large, which `frame` finds.
    fn count(&mut self, length: usize) {
        self.u32(u32::try_from(length).unwrap_or(u32::MAX));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn option<T: ?Sized>(&mut self, value: Option<&T>, put: impl FnOnce(&mut Self, &T)) {
        self.0.push(value.is_some().into());
        if let Some(value) = value {
            put(self, value);
        }
    }

    fn duration(&mut self, duration: Duration) {
        self.u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    fn numbers(&mut self, numbers: &[u32]) {
        self.count(numbers.len());
        numbers.iter().for_each(|&number| self.u32(number));
    }
}

/// Appends one frame. Fails, with the buffer as it was, where the request is too large.
fn frame(into: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Writer<'_>)) -> Result<(), Damaged> {
    let start = into.len();
    into.extend_from_slice(&[0, 0, 0, 0, kind]);
    body(&mut Writer(into));
    let length = into.len() - start - 4;
    if length > MAX_REQUEST_BYTES {
        into.truncate(start);
        return Err(Damaged);
    }
    into[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(())
}

/// Appends what a slot process is told first.
pub(super) fn put_setup(into: &mut Vec<u8>, setup: &Setup) -> Result<(), Damaged> {
    frame(into, SETUP, |to| {
        to.u64(setup.max_output);
        to.0.push(setup.keep_stdout.into());
        to.duration(setup.kill_grace);
        to.option(setup.out_dir.as_deref(), Writer::bytes);
        to.option(setup.folder.as_deref(), Writer::bytes);
        to.u32(setup.slot);
        to.option(setup.cores.as_deref(), Writer::numbers);
    })
}

/// Appends an attempt, straight from its command. Fails where it is too large for any system to run.
pub(super) fn put_run(
    into: &mut Vec<u8>,
    number: u64,
    attempt: u32,
    cores: Option<&[u32]>,
    gpus: Option<(&[u8], &[u8])>,
    command: &Command,
) -> Result<(), Damaged> {
    frame(into, RUN, |to| {
        to.u64(number);
        to.u32(attempt);
        to.option(cores, Writer::numbers);
        to.option(gpus.as_ref(), |to, (name, value)| {
            to.bytes(name);
            to.bytes(value);
        });
        match &command.program {
            Program::Argv(words) => {
                to.0.push(0);
                to.count(words.len());
                words.iter().for_each(|word| to.bytes(word));
            }
            Program::Shell(line) => {
                to.0.push(1);
                to.bytes(line);
            }
            Program::Call { function, payload } => {
                to.0.push(2);
                to.bytes(function.as_bytes());
                to.bytes(payload);
            }
        }
        to.count(command.env.len());
        for (name, value) in &command.env {
            to.bytes(name);
            to.bytes(value);
        }
        to.option(command.cwd.as_deref(), Writer::bytes);
        to.option(command.stdin.as_deref(), Writer::bytes);
        to.option(command.timeout.as_ref(), |to, timeout| to.duration(*timeout));
        to.u32(command.resources.cores);
        to.u32(command.resources.gpus);
        to.option(command.entry.as_deref(), Writer::bytes);
        to.u64(command.label);
    })
}

/// Appends the order to end an attempt.
pub(super) fn put_kill(into: &mut Vec<u8>, number: u64, grace: Duration) -> Result<(), Damaged> {
    frame(into, KILL, |to| {
        to.u64(number);
        to.duration(grace);
    })
}

/// Reads what `Writer` wrote.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Damaged> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, Damaged> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Damaged)?))
    }

    fn u64(&mut self) -> Result<u64, Damaged> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Damaged)?))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Damaged> {
        let length = self.u32()? as usize;
        Ok(self.take(length)?.to_vec())
    }

    fn option<T>(&mut self, get: impl FnOnce(&mut Self) -> Result<T, Damaged>) -> Result<Option<T>, Damaged> {
        match self.u8()? {
            0 => Ok(None),
            1 => get(self).map(Some),
            _ => Err(Damaged),
        }
    }

    fn list<T>(&mut self, mut get: impl FnMut(&mut Self) -> Result<T, Damaged>) -> Result<Vec<T>, Damaged> {
        let count = self.u32()? as usize;
        // Every item takes four bytes at least, so a false count cannot make this loop long.
        if count > self.0.len() / 4 {
            return Err(Damaged);
        }
        (0..count).map(|_| get(self)).collect()
    }

    fn duration(&mut self) -> Result<Duration, Damaged> {
        self.u64().map(Duration::from_micros)
    }

    fn pair(&mut self) -> Result<(Vec<u8>, Vec<u8>), Damaged> {
        Ok((self.bytes()?, self.bytes()?))
    }

    fn setup(&mut self) -> Result<Setup, Damaged> {
        Ok(Setup {
            max_output: self.u64()?,
            keep_stdout: self.u8()? != 0,
            kill_grace: self.duration()?,
            out_dir: self.option(Self::bytes)?,
            folder: self.option(Self::bytes)?,
            slot: self.u32()?,
            cores: self.option(|from| from.list(Self::u32))?,
        })
    }

    fn attempt(&mut self) -> Result<Attempt, Damaged> {
        Ok(Attempt {
            number: self.u64()?,
            attempt: self.u32()?,
            cores: self.option(|from| from.list(Self::u32))?,
            gpus: self.option(Self::pair)?,
            command: self.command()?,
        })
    }

    fn command(&mut self) -> Result<Command, Damaged> {
        Ok(Command {
            program: match self.u8()? {
                0 => Program::Argv(self.list(Self::bytes)?),
                1 => Program::Shell(self.bytes()?),
                2 => Program::Call {
                    function: String::from_utf8(self.bytes()?).map_err(|_| Damaged)?,
                    payload: self.bytes()?,
                },
                _ => return Err(Damaged),
            },
            env: self.list(Self::pair)?,
            cwd: self.option(Self::bytes)?,
            stdin: self.option(Self::bytes)?,
            timeout: self.option(Self::duration)?,
            resources: crate::task::Resources { cores: self.u32()?, gpus: self.u32()? },
            entry: self.option(Self::bytes)?,
            label: self.u64()?,
        })
    }
}

/// Takes the first request from what has arrived, and says how many bytes it took; none while it is not all there.
pub(super) fn take_request(arrived: &[u8]) -> Result<Option<(Request, usize)>, Damaged> {
    let Some((length, rest)) = arrived.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || length > MAX_REQUEST_BYTES {
        return Err(Damaged);
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let mut reader = Reader(&body[1..]);
    let request = match body[0] {
        SETUP => Request::Setup(reader.setup()?),
        RUN => Request::Run(Box::new(reader.attempt()?)),
        KILL => Request::Kill { number: reader.u64()?, grace: reader.duration()? },
        _ => return Err(Damaged),
    };
    if reader.0.is_empty() { Ok(Some((request, 4 + length))) } else { Err(Damaged) }
}

/// How an attempt ended: the header of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) number: u64,
    pub(super) status: Status,
    pub(super) killed: bool,
    pub(super) started_unix_us: u64,
    pub(super) duration_us: u64,
    pub(super) stdout: Captured,
    pub(super) stderr: Captured,
}

/// Length of a reply's header.
pub(super) const REPLY_HEADER: usize = 8 + 1 + 1 + 4 + 8 + 8 + 4 + 2 * 24;

/// Longest text that goes with a status.
const MAX_TEXT_BYTES: usize = 4096;

/// The text, or as many whole characters of it as fit.
fn cut(text: &str) -> &str {
    let fits = |&length: &usize| text.is_char_boundary(length);
    &text[..(0..=text.len().min(MAX_TEXT_BYTES)).rev().find(fits).unwrap_or(0)]
}

/// Lengths of one stream as the header gives them: kept, before the cut, left out.
pub(super) type StreamLengths = [u64; 3];

/// The header of a reply and the text that follows it; the two streams come next.
pub(super) fn reply_header(
    number: u64,
    status: &Status,
    killed: bool,
    started_unix_us: u64,
    duration_us: u64,
    streams: [StreamLengths; 2],
) -> Vec<u8> {
    let (kind, code, text) = match status {
        Status::Ok => (0u8, 0, ""),
        Status::Exit(code) => (1, *code, ""),
        Status::Signal(signal) => (2, *signal, ""),
        Status::Timeout => (3, 0, ""),
        Status::NotStarted(why) => (4, 0, cut(why)),
        // A process ends in no other way.
        Status::Panic(_) | Status::Lost | Status::Cancelled => (5, 0, ""),
    };
    let mut header = Vec::with_capacity(REPLY_HEADER + text.len());
    let mut to = Writer(&mut header);
    to.u64(number);
    to.0.extend_from_slice(&[kind, killed.into()]);
    to.u32(code.cast_unsigned());
    to.u64(started_unix_us);
    to.u64(duration_us);
    to.count(text.len());
    streams.as_flattened().iter().for_each(|&length| to.u64(length));
    header.extend_from_slice(text.as_bytes());
    header
}

/// Puts replies together from the pieces in which they arrive.
#[derive(Debug)]
pub(super) struct ReplyReader {
    /// Longest stream that may come.
    max_output: u64,
    header: Vec<u8>,
    /// The reply so far, and how much of its text and streams is still to come.
    partial: Option<(Reply, u8, Vec<u8>, [usize; 3])>,
}

impl ReplyReader {
    /// For streams of at most `max_output` bytes.
    pub(super) fn new(max_output: u64) -> Self {
        Self { max_output, header: Vec::with_capacity(REPLY_HEADER), partial: None }
    }

    /// Takes bytes off the front of `arrived`, and returns a reply that they complete.
    pub(super) fn take(&mut self, arrived: &mut &[u8]) -> Result<Option<Reply>, Damaged> {
        if self.partial.is_none() {
            let (fits, rest) = arrived.split_at(arrived.len().min(REPLY_HEADER - self.header.len()));
            self.header.extend_from_slice(fits);
            *arrived = rest;
            if self.header.len() < REPLY_HEADER {
                return Ok(None);
            }
            self.partial = Some(self.read_header()?);
            self.header.clear();
        }
        let Some((reply, _, text, missing)) = &mut self.partial else { return Ok(None) };
        let parts = [text, &mut reply.stdout.bytes, &mut reply.stderr.bytes];
        for (part, missing) in parts.into_iter().zip(missing.iter_mut()) {
            let (fits, rest) = arrived.split_at(arrived.len().min(*missing));
            part.extend_from_slice(fits);
            *missing -= fits.len();
            *arrived = rest;
        }
        if missing.iter().any(|&missing| missing > 0) {
            return Ok(None);
        }
        let Some((mut reply, kind, text, _)) = self.partial.take() else { return Ok(None) };
        if kind == 4 {
            reply.status = Status::NotStarted(String::from_utf8_lossy(&text).into_owned());
        }
        Ok(Some(reply))
    }

    fn read_header(&self) -> Result<(Reply, u8, Vec<u8>, [usize; 3]), Damaged> {
        let mut from = Reader(&self.header);
        let number = from.u64()?;
        let kind = from.u8()?;
        let killed = from.u8()? != 0;
        let code = from.u32()?.cast_signed();
        let (started_unix_us, duration_us) = (from.u64()?, from.u64()?);
        let text = from.u32()? as usize;
        if text > MAX_TEXT_BYTES {
            return Err(Damaged);
        }
        let mut stream = || -> Result<(Captured, usize), Damaged> {
            let [kept, head, dropped] = [from.u64()?, from.u64()?, from.u64()?];
            if kept > self.max_output || head > kept {
                return Err(Damaged);
            }
            Ok((Captured { bytes: Vec::new(), head, dropped }, usize::try_from(kept).map_err(|_| Damaged)?))
        };
        let (stdout, stderr) = (stream()?, stream()?);
        let status = match kind {
            0 => Status::Ok,
            1 => Status::Exit(code),
            2 => Status::Signal(code),
            3 => Status::Timeout,
            4 | 5 => Status::Lost,
            _ => return Err(Damaged),
        };
        let missing = [text, stdout.1, stderr.1];
        let (stdout, stderr) = (stdout.0, stderr.0);
        let reply = Reply { number, status, killed, started_unix_us, duration_us, stdout, stderr };
        Ok((reply, kind, Vec::new(), missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Resources;
    use proptest::prelude::*;

    fn command(program: Program) -> Command {
        Command {
            program,
            env: vec![(b"A".to_vec(), b"\xff".to_vec())],
            cwd: Some(b"/tmp".to_vec()),
            stdin: None,
            timeout: Some(Duration::from_millis(1500)),
            resources: Resources { cores: 2, gpus: 1 },
            entry: Some(Vec::new()),
            label: u64::MAX,
        }
    }

    fn requests() -> Vec<Request> {
        let run = |command| {
            Request::Run(Box::new(Attempt {
                number: 7,
                attempt: 2,
                cores: Some(vec![0, 700]),
                gpus: Some((b"G".to_vec(), b"1".to_vec())),
                command,
            }))
        };
        vec![
            Request::Setup(Setup {
                max_output: 9,
                folder: Some(b"/\xff".to_vec()),
                cores: Some(vec![3]),
                slot: 5,
                ..Setup::default()
            }),
            run(command(Program::Argv(vec![b"a".to_vec(), Vec::new()]))),
            run(command(Program::Shell(b"echo \0".to_vec()))),
            Request::Kill { number: 3, grace: Duration::from_secs(5) },
        ]
    }

    fn bytes_of(requests: &[Request]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for request in requests {
            match request {
                Request::Setup(setup) => put_setup(&mut bytes, setup),
                Request::Run(run) => {
                    let gpus = run.gpus.as_ref().map(|(name, value)| (&name[..], &value[..]));
                    put_run(&mut bytes, run.number, run.attempt, run.cores.as_deref(), gpus, &run.command)
                }
                Request::Kill { number, grace } => put_kill(&mut bytes, *number, *grace),
            }
            .unwrap();
        }
        bytes
    }

    #[test]
    fn requests_are_read_back_as_they_were_written_however_they_are_cut() {
        let bytes = bytes_of(&requests());
        let (mut at, mut read) = (0, Vec::new());
        for end in 0..=bytes.len() {
            while let Some((request, length)) = take_request(&bytes[at..end]).unwrap() {
                read.push(request);
                at += length;
            }
        }
        assert_eq!(read, requests());
        assert_eq!(at, bytes.len());
    }

    #[test]
    fn a_request_too_large_leaves_the_buffer_as_it_was() {
        let mut bytes = b"before".to_vec();
        let huge = command(Program::Shell(vec![b'x'; MAX_REQUEST_BYTES]));
        assert_eq!(put_run(&mut bytes, 0, 0, None, None, &huge), Err(Damaged));
        assert_eq!(bytes, b"before");
    }

    proptest! {
        #[test]
        fn damage_is_found_or_harmless_and_never_panics(at in 0usize..400, value: u8, cut in 0usize..400) {
            let mut bytes = bytes_of(&requests());
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(cut.max(1).min(bytes.len()));
            let mut rest = &bytes[..];
            while let Ok(Some((_, length))) = take_request(rest) {
                rest = &rest[length..];
            }
            let mut reader = ReplyReader::new(1000);
            let mut arrived = &bytes[..];
            while !arrived.is_empty() && reader.take(&mut arrived).is_ok() {}
        }

        #[test]
        fn replies_are_put_together_from_any_pieces(
            streams in prop::array::uniform2(prop::collection::vec(any::<u8>(), 0..300)),
            piece in 1usize..200,
            status in prop::sample::select(vec![
                Status::Ok, Status::Exit(3), Status::Signal(9), Status::Timeout, Status::NotStarted("no \u{e9}".into()),
            ]),
        ) {
            let captured = |bytes: &Vec<u8>| Captured { bytes: bytes.clone(), head: bytes.len() as u64 / 2, dropped: 4 };
            let [stdout, stderr] = [captured(&streams[0]), captured(&streams[1])];
            let reply = Reply { number: 9, status, killed: true, started_unix_us: 5, duration_us: 6, stdout, stderr };
            let lengths = |stream: &Captured| [stream.bytes.len() as u64, stream.head, stream.dropped];
            let header = reply_header(9, &reply.status, true, 5, 6, [lengths(&reply.stdout), lengths(&reply.stderr)]);
            let one = [&header[..], &reply.stdout.bytes, &reply.stderr.bytes].concat();
            let twice = one.repeat(2);
            let mut reader = ReplyReader::new(300);
            let mut read = Vec::new();
            for mut part in twice.chunks(piece) {
                loop {
                    read.extend(reader.take(&mut part).unwrap());
                    if part.is_empty() {
                        break;
                    }
                }
            }
            prop_assert_eq!(read, vec![reply.clone(), reply]);
        }
    }

    #[test]
    fn a_stream_longer_than_agreed_is_refused_before_memory_is_taken() {
        let header = reply_header(0, &Status::Ok, false, 0, 0, [[101, 0, 0], [0; 3]]);
        assert_eq!(ReplyReader::new(100).take(&mut &header[..]), Err(Damaged));
    }
}
