//! What all tasks of a bundle have in common, and how one task's command comes out of it. Knows nothing of files.

use super::call_entry::CallEntry;
use super::command::{Command, Program};
use super::grid::{self, Axis};
use super::json::{JsonTask, parse_task};
use super::placeholder::{Pattern, SlotText, Values};
use super::{Resources, bundle::Shape};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;

/// The program that every task of a template runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ProgramPattern {
    Argv(Vec<Pattern>),
    Shell(Pattern),
    Call(Call),
}

/// The function that every task of a bundle calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its name: `builtin:NAME`, or `PATH.so:SYMBOL`.
    pub function: String,
    /// What it is given where the task has no line or row of its own.
    pub argument: Vec<u8>,
}

/// Where a task's own part comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// The entry is a shell line.
    Lines,
    /// The entry is a JSON object, or a call of one of these functions.
    Json { functions: Vec<String> },
    /// No entry: the index is the task.
    Array { first: u64, step: u64, program: ProgramPattern },
    /// The entry is `{}`. `has_lines`: entries are lines of the source, not NUL-separated.
    EachLine { has_lines: bool, program: ProgramPattern },
    /// No entry: the position gives the values.
    Grid { axes: Vec<(String, Axis)>, program: ProgramPattern },
    /// The entry is one record of a table.
    Table { columns: Vec<String>, delimiter: u8, program: ProgramPattern },
}

/// The common part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Template {
    pub(super) kind: Kind,
    pub(super) env: Vec<(Vec<u8>, Pattern)>,
    pub(super) cwd: Option<Pattern>,
    pub(super) stdin: Option<Pattern>,
    pub(super) timeout: Option<Duration>,
    pub(super) shape: Shape,
    /// `--cores` was given, so programs are told of it.
    pub(super) tells_cores: bool,
}

impl Kind {
    /// The names that placeholders may have.
    pub(super) fn columns(&self) -> Vec<String> {
        match self {
            Kind::Grid { axes, .. } => axes.iter().map(|(name, _)| name.clone()).collect(),
            Kind::Table { columns, .. } => columns.clone(),
            _ => Vec::new(),
        }
    }

    /// The functions that tasks call, by their numbers; none where all tasks are processes.
    pub(super) fn functions(&self) -> &[String] {
        match self {
            Kind::Json { functions } => functions,
            _ => self.call().map_or(&[], |call| std::slice::from_ref(&call.function)),
        }
    }

    /// The function that every task calls, where they are no processes.
    pub(super) fn call(&self) -> Option<&Call> {
        match self {
            Kind::Array { program: ProgramPattern::Call(call), .. }
            | Kind::EachLine { program: ProgramPattern::Call(call), .. }
            | Kind::Grid { program: ProgramPattern::Call(call), .. }
            | Kind::Table { program: ProgramPattern::Call(call), .. } => Some(call),
            _ => None,
        }
    }
}

impl Template {
    /// Whether tasks have no entries, only positions.
    pub(super) fn is_symbolic(&self) -> bool {
        matches!(self.kind, Kind::Array { .. } | Kind::Grid { .. })
    }

    /// What the function of a task is given; nothing where it calls none. A grid's row is made in `row`.
    pub(super) fn payload<'a>(&'a self, position: u64, entry: Option<&'a [u8]>, row: &'a mut Vec<u8>) -> &'a [u8] {
        let entry = entry.unwrap_or_default();
        if let Kind::Json { .. } = self.kind {
            return CallEntry::read(entry).map_or(&[], |call| call.payload);
        }
        let Some(call) = self.kind.call() else { return &[] };
        match &self.kind {
            Kind::Array { .. } => &call.argument,
            Kind::Grid { axes, .. } => {
                row.clear();
                grid::put_row(axes, position, row);
                row
            }
            _ => entry,
        }
    }

    /// The user's index of a position.
    pub(super) fn label(&self, position: u64) -> u64 {
        match &self.kind {
            Kind::Array { first, step, .. } => first.wrapping_add(step.wrapping_mul(position)),
            _ => position,
        }
    }

    /// The position of a user's index, if there is one below `len`.
    pub(super) fn position_of_label(&self, label: u64, len: u64) -> Option<u64> {
        let position = match &self.kind {
            Kind::Array { first, step, .. } => {
                let distance = label.checked_sub(*first)?;
                (distance.checked_rem(*step)? == 0).then(|| distance / step)?
            }
            _ => label,
        };
        (position < len).then_some(position)
    }

    /// Whether two templates make the same program, directory, input and variables out of equal entries. Limits and
    /// resources may differ.
    pub(super) fn runs_the_same(&self, other: &Template) -> bool {
        (&self.kind, &self.env, &self.cwd, &self.stdin) == (&other.kind, &other.env, &other.cwd, &other.stdin)
    }

    /// What the scheduler needs of a JSON task.
    pub(super) fn json_shape(&self, task: &JsonTask) -> Shape {
        let calls = matches!(task.program, Program::Call { .. });
        let default = self.shape.resources;
        let resources = Resources {
            cores: task.cores.unwrap_or(default.cores),
            gpus: task.gpus.unwrap_or(if calls { 0 } else { default.gpus }),
        };
        Shape { resources, retries: task.retries.unwrap_or(self.shape.retries), calls }
    }

    /// The command of one task.
    pub(super) fn command(&self, position: u64, entry: Option<&[u8]>, slot: SlotText) -> Command {
        let (task, label) = self.task(position, entry, slot);
        let shape = self.json_shape(&task);
        let tells_cores = (self.tells_cores || task.cores.is_some()) && !shape.calls;
        let mut env = task.env;
        if tells_cores && !env.iter().any(|(name, _)| name == b"OMP_NUM_THREADS") {
            env.push((b"OMP_NUM_THREADS".to_vec(), shape.resources.cores.to_string().into_bytes()));
        }
        Command {
            program: task.program,
            env,
            cwd: task.cwd,
            stdin: task.stdin,
            timeout: task.timeout,
            resources: shape.resources,
            entry: entry.filter(|_| !shape.calls).map(|entry| entry[..entry.len().min(Command::ENTRY_BYTES)].to_vec()),
            label,
        }
    }

    /// The keys of a task list that make this task again under no other options.
    pub(super) fn task_to_write(&self, position: u64, entry: Option<&[u8]>) -> JsonTask {
        let (mut task, _) = self.task(position, entry, SlotText::Variable);
        let shape = self.json_shape(&task);
        let tells_cores = self.tells_cores || task.cores.is_some();
        task.cores = (tells_cores || shape.resources.cores != 1).then_some(shape.resources.cores);
        task.gpus = (shape.resources.gpus != 0).then_some(shape.resources.gpus);
        task.retries = (shape.retries != 0).then_some(shape.retries);
        task
    }

    /// Appends the program of one task as text. Lists of a million tasks are written so, hence nothing is made of a task
    /// that is not shown.
    pub(super) fn put_command(&self, position: u64, entry: Option<&[u8]>, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::Lines => out.extend_from_slice(entry.unwrap_or_default()),
            Kind::Json { functions } => {
                if let Some(task) = json_task(entry.unwrap_or_default(), functions) {
                    task.program.put_text(out);
                }
            }
            Kind::Array { program, .. }
            | Kind::EachLine { program, .. }
            | Kind::Grid { program, .. }
            | Kind::Table { program, .. } => {
                let values = self.values(position, self.label(position), entry, SlotText::Variable);
                program.put_text(&values, self.payload(position, entry, &mut Vec::new()), out);
            }
        }
    }

    /// One task with the template's values under its own, and its label.
    fn task(&self, position: u64, entry: Option<&[u8]>, slot: SlotText) -> (JsonTask, u64) {
        let label = self.label(position);
        let values = self.values(position, label, entry, slot);
        let mut row = Vec::new();
        let payload = self.payload(position, entry, &mut row);
        let entry = entry.unwrap_or_default();
        let own = match &self.kind {
            // A line was parsed when the bundle was written, and checksums say that it is still that line; should it
            // fail all the same, the empty command is a task that cannot be started, with its reason.
            Kind::Json { functions } => json_task(entry, functions),
            Kind::Lines => Some(JsonTask::of(Program::Shell(entry.to_vec()))),
            Kind::Array { program, .. }
            | Kind::EachLine { program, .. }
            | Kind::Grid { program, .. }
            | Kind::Table { program, .. } => Some(JsonTask::of(program.fill(&values, payload))),
        };
        let mut task = own.unwrap_or_else(|| JsonTask::of(Program::Argv(Vec::new())));
        if matches!(task.program, Program::Call { .. }) {
            // The rest is for processes.
            return (task, label);
        }
        let own_env = std::mem::take(&mut task.env);
        for (name, value) in self.env.iter().map(|(name, value)| (name.clone(), value.fill(&values))).chain(own_env) {
            match task.env.iter_mut().find(|(known, _)| *known == name) {
                Some((_, place)) => *place = value,
                None => task.env.push((name, value)),
            }
        }
        task.cwd = task.cwd.or_else(|| self.cwd.as_ref().map(|cwd| cwd.fill(&values)));
        task.stdin = task.stdin.or_else(|| self.stdin.as_ref().map(|stdin| stdin.fill(&values)));
        task.timeout = task.timeout.or(self.timeout);
        (task, label)
    }

    fn values<'a>(&'a self, position: u64, label: u64, entry: Option<&'a [u8]>, slot: SlotText) -> Values<'a> {
        let entry = entry.unwrap_or_default();
        let whole = match &self.kind {
            Kind::EachLine { .. } => Cow::Borrowed(entry),
            _ => Cow::Owned(label.to_string().into_bytes()),
        };
        let columns = match &self.kind {
            Kind::Grid { axes, .. } => grid::values_at(axes, position),
            Kind::Table { delimiter, .. } if self.uses_columns() => super::table::fields(entry, *delimiter),
            _ => Vec::new(),
        };
        Values { whole, columns, slot }
    }

    /// All patterns in it.
    fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        let program = match &self.kind {
            Kind::Lines | Kind::Json { .. } => &[],
            Kind::Array { program, .. }
            | Kind::EachLine { program, .. }
            | Kind::Grid { program, .. }
            | Kind::Table { program, .. } => program.patterns(),
        };
        program.iter().chain(self.env.iter().map(|(_, value)| value)).chain(&self.cwd).chain(&self.stdin)
    }

    /// Whether anything is filled in.
    pub(super) fn has_placeholders(&self) -> bool {
        self.patterns().any(Pattern::has_placeholders)
    }

    fn uses_columns(&self) -> bool {
        self.patterns().any(Pattern::uses_columns)
    }
}

/// The task of a JSON list that has this entry.
fn json_task(entry: &[u8], functions: &[String]) -> Option<JsonTask> {
    match CallEntry::read(entry) {
        Some(call) => Some(call.to_task(functions)),
        None => parse_task(entry).ok(),
    }
}

impl ProgramPattern {
    fn patterns(&self) -> &[Pattern] {
        match self {
            ProgramPattern::Argv(words) => words,
            ProgramPattern::Shell(line) => std::slice::from_ref(line),
            ProgramPattern::Call(_) => &[],
        }
    }

    fn put_text(&self, values: &Values<'_>, payload: &[u8], out: &mut Vec<u8>) {
        let words = match self {
            ProgramPattern::Shell(line) => return line.put(values, out),
            ProgramPattern::Call(_) => return self.fill(values, payload).put_text(out),
            ProgramPattern::Argv(words) => words,
        };
        for (at, word) in words.iter().enumerate() {
            if at > 0 {
                out.push(b' ');
            }
            if word.uses_slot() {
                word.fill_as_shell_word(values, out);
            } else {
                word.put_quoted(values, out);
            }
        }
    }

    fn fill(&self, values: &Values<'_>, payload: &[u8]) -> Program {
        match self {
            ProgramPattern::Call(call) => Program::Call { function: call.function.clone(), payload: payload.to_vec() },
            ProgramPattern::Shell(line) => Program::Shell(line.fill(values)),
            ProgramPattern::Argv(words)
                if values.slot == SlotText::Variable && words.iter().any(Pattern::uses_slot) =>
            {
                let mut line = Vec::new();
                for (at, word) in words.iter().enumerate() {
                    if at > 0 {
                        line.push(b' ');
                    }
                    word.fill_as_shell_word(values, &mut line);
                }
                Program::Shell(line)
            }
            ProgramPattern::Argv(words) => Program::Argv(words.iter().map(|word| word.fill(values)).collect()),
        }
    }
}
