//! Bundles that a program makes in memory: calls with payloads of their own, calls of an array, processes.

use super::bundle::{Bundle, Common, Shape};
use super::command::Program;
use super::json::{JsonTask, parse_task};
use super::layout::{self, Entry, Header, MAGIC, RunRecord, VERSION};
use super::source::MAX_TASKS;
use super::template::{Call, Kind, ProgramPattern, Template};
use std::sync::Arc;
use std::time::Duration;
use zerocopy::FromZeros;

/// Gathers tasks for one bundle.
#[derive(Debug, Default)]
pub struct PartBuilder {
    payload: Vec<u8>,
    entries: Vec<Entry>,
    /// What the tasks of the last bundle called, and had in common: most often the next ones have it too.
    last: Option<(Option<String>, PartCommon)>,
}

/// What the tasks of a bundle have in common.
#[derive(Debug)]
struct PartCommon {
    shape: Shape,
    common: Arc<Common>,
    /// As it stands in a bundle.
    bytes: Vec<u8>,
}

impl PartBuilder {
    /// Bytes of room that an empty builder keeps.
    const KEPT: usize = 1024;

    /// Adds a task: what the function is given, or what [`process_entry`] made.
    ///
    /// # Panics
    /// Where it has 4 GiB or more.
    pub fn push(&mut self, entry: &[u8]) {
        let length = u32::try_from(entry.len()).expect("a task's payload is smaller than 4 GiB");
        self.entries.push(Entry {
            offset: (self.payload.len() as u64).into(),
            length: length.into(),
            skipped: 0.into(),
        });
        self.payload.extend_from_slice(entry);
    }

    /// How many tasks were added.
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of their payloads.
    pub fn payload_bytes(&self) -> usize {
        self.payload.len()
    }

    /// A bundle whose tasks call this function; or of processes, where there is none. The builder is empty
    /// again.
    pub fn finish(&mut self, function: Option<&str>, shape: Shape) -> Bundle {
        let last = self.last.take().filter(|(name, last)| name.as_deref() == function && last.shape == shape);
        let (name, common) = last.unwrap_or_else(|| (function.map(str::to_owned), PartCommon::new(function, shape)));
        let bundle = common.assemble(self.len(), &self.payload, &self.entries);
        self.last = Some((name, common));
        self.payload.clear();
        self.entries.clear();
        // Programs make many bundles, and few of them go on for long.
        self.payload.shrink_to(Self::KEPT);
        self.entries.shrink_to(Self::KEPT / size_of::<Entry>());
        bundle
    }
}

/// A bundle of so many calls, all with the same argument, that are called `first`, `first` + 1 and so on.
///
/// # Panics
/// Where there are more than [`MAX_TASKS`].
pub fn array_of_calls(function: &str, argument: &[u8], first: u64, tasks: u64, shape: Shape) -> Bundle {
    assert!(tasks <= MAX_TASKS, "{tasks} tasks in an array");
    let call = Call { function: function.to_owned(), argument: argument.to_vec() };
    let kind = Kind::Array { first, step: 1, program: ProgramPattern::Call(call) };
    PartCommon::of_kind(kind, shape).assemble(tasks, &[], &[])
}

/// A process as an entry for a [`PartBuilder`].
///
/// # Errors
/// Why there can be no such process.
pub fn process_entry(
    program: Program,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    cwd: Option<Vec<u8>>,
    stdin: Option<Vec<u8>>,
    timeout: Option<Duration>,
) -> Result<Vec<u8>, String> {
    let task = JsonTask { program, env, cwd, stdin, timeout, cores: None, gpus: None, retries: None };
    let entry = serde_json::Value::Object(task.to_json()).to_string().into_bytes();
    parse_task(&entry).map(|_| entry)
}

impl PartCommon {
    /// Of calls of this function, each with a payload of its own; or of processes.
    fn new(function: Option<&str>, shape: Shape) -> Self {
        let kind = match function {
            Some(name) => {
                let call = Call { function: name.to_owned(), argument: Vec::new() };
                Kind::EachLine { has_lines: false, program: ProgramPattern::Call(call) }
            }
            None => Kind::Json { functions: Vec::new() },
        };
        Self::of_kind(kind, shape)
    }

    fn of_kind(kind: Kind, shape: Shape) -> Self {
        let template =
            Template { kind, env: Vec::new(), cwd: None, stdin: None, timeout: None, shape, tells_cores: false };
        let (common, bytes) = Common::of_program(template);
        Self { shape, common: Arc::new(common), bytes }
    }

    fn assemble(&self, tasks: u64, payload: &[u8], entries: &[Entry]) -> Bundle {
        let mut header = Header::new_zeroed();
        header.magic = MAGIC;
        header.version.set(VERSION);
        header.len.set(tasks);
        header.end.set(tasks);
        header.max_cores.set(self.shape.resources.cores);
        header.max_gpus.set(self.shape.resources.gpus);
        let runs = [RunRecord::new(tasks, self.shape)];
        let runs: &[RunRecord] = if tasks == 0 { &[] } else { &runs };
        Bundle::assembled(layout::assemble(header, payload, entries, runs, &self.bytes), self.common.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::IndexRange;

    /// As another rank reads it.
    fn checked(bundle: Bundle) -> Bundle {
        Bundle::from_bytes(bundle.extract(bundle.held())).expect("it is a bundle")
    }

    fn payload(bundle: &Bundle, index: u64) -> Vec<u8> {
        bundle.call_payload(index, &mut Vec::new()).to_vec()
    }

    #[test]
    fn calls_are_read_back_with_their_payloads() {
        let mut builder = PartBuilder::default();
        [&b"one"[..], b"", b"\0\xff"].into_iter().for_each(|payload| builder.push(payload));
        let bundle = checked(builder.finish(Some("f"), Shape::CALL));
        assert!(builder.is_empty() && builder.payload_bytes() == 0);
        assert_eq!((bundle.len(), bundle.functions()), (3, &["f".to_owned()][..]));
        let payloads: Vec<Vec<u8>> = (0..3).map(|index| payload(&bundle, index)).collect();
        assert_eq!(payloads, [&b"one"[..], b"", b"\0\xff"]);
        assert_eq!(bundle.shape(2), Shape::CALL);
        let slice = Bundle::from_bytes(bundle.extract(IndexRange::new(2, 3))).expect("a slice of it is one, too");
        assert_eq!(payload(&slice, 2), b"\0\xff");
    }

    #[test]
    fn an_array_stays_small_and_counts_from_its_first() {
        let bundle = checked(array_of_calls("f", b"all", 100, 1_000_000_000, Shape::CALL));
        assert!(bundle.bytes_len() < 500, "{} bytes", bundle.bytes_len());
        assert_eq!((bundle.len(), bundle.label(7), payload(&bundle, 7)), (1_000_000_000, 107, b"all".to_vec()));
    }

    #[test]
    fn a_process_is_read_back_and_what_can_be_none_is_refused() {
        let program = Program::Argv(vec![b"echo".to_vec(), b"\xff x".to_vec()]);
        let env = vec![(b"A".to_vec(), b"1".to_vec())];
        let entry =
            process_entry(program.clone(), env.clone(), None, None, Some(Duration::from_secs(3))).expect("it is one");
        let mut builder = PartBuilder::default();
        builder.push(&entry);
        let bundle = checked(builder.finish(None, Shape::PROCESS));
        let command = bundle.command(0, 0);
        assert_eq!((command.program, command.env, command.timeout), (program, env, Some(Duration::from_secs(3))));
        assert!(process_entry(Program::Argv(Vec::new()), Vec::new(), None, None, None).is_err());
    }
}
