//! The entry of a task of a JSON list that calls a function: its number in the list's table of functions and its
//! payload, so that a worker reads no JSON. The entry of a process is its line, which never begins as these do.

use super::command::Program;
use super::json::JsonTask;
use zerocopy::byteorder::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First byte of an entry; no JSON begins with it.
const MARK: u8 = 0;

/// What stands before the payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Head {
    mark: u8,
    function: U32,
    /// 0 where the line does not say.
    cores: U32,
    /// One more than the line says; 0 where it does not say.
    retries: U32,
}

/// A call, read from its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallEntry<'a> {
    /// Its place in the table of functions.
    pub(super) function: u32,
    cores: Option<u32>,
    retries: Option<u32>,
    /// What the function is given.
    pub(super) payload: &'a [u8],
}

impl<'a> CallEntry<'a> {
    /// `None` where the entry is that of a process.
    pub(super) fn read(entry: &'a [u8]) -> Option<CallEntry<'a>> {
        let (head, payload) = Head::ref_from_prefix(entry).ok().filter(|(head, _)| head.mark == MARK)?;
        Some(CallEntry {
            function: head.function.get(),
            cores: (head.cores != 0).then_some(head.cores.get()),
            retries: head.retries.get().checked_sub(1),
            payload,
        })
    }

    /// The task as its line said it.
    pub(super) fn to_task(self, functions: &[String]) -> JsonTask {
        let function = functions.get(self.function as usize).cloned().unwrap_or_default();
        let program = Program::Call { function, payload: self.payload.to_vec() };
        JsonTask { cores: self.cores, retries: self.retries, ..JsonTask::of(program) }
    }
}

/// Appends the entry of a call of the function with this number.
pub(super) fn put_call(task: &JsonTask, function: u32, payload: &[u8], out: &mut Vec<u8>) {
    let head = Head {
        mark: MARK,
        function: function.into(),
        cores: task.cores.unwrap_or(0).into(),
        retries: task.retries.map_or(0, |retries| retries.saturating_add(1)).into(),
    };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(payload);
}

/// Gives the function of a call another number; does nothing to the entry of a process.
pub(super) fn renumber(entry: &mut [u8], number: impl Fn(u32) -> u32) {
    if let Ok((head, _)) = Head::mut_from_prefix(entry)
        && head.mark == MARK
    {
        head.function.set(number(head.function.get()));
    }
}
