//! From what the user gave to a bundle file: where tasks come from, the options that all of them share, and every
//! error that bad input gets. User files are read once and copied, never mapped.

use super::Resources;
use super::bundle::{Bundle, Shape};
use super::grid::parse_axes;
use super::input_error::InputError;
use super::placeholder::{Names, Pattern, PlaceholderError};
use super::scan::{ListScan, ScanError};
use super::slips::likely_slips;
use super::table::TableScan;
use super::template::{Call, Kind, ProgramPattern, Template};
use super::write::BundleWriter;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Most tasks of a bundle, so that sums of positions cannot overflow.
pub const MAX_TASKS: u64 = 1 << 62;

/// Where a list is read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Standard input, `-`.
    Stdin,
    /// A file; the bytes of its path.
    File(Vec<u8>),
}

impl Input {
    /// The file, or standard input for `-`.
    pub fn new(path: &Path) -> Self {
        match path.as_os_str().as_bytes() {
            b"-" => Input::Stdin,
            bytes => Input::File(bytes.to_vec()),
        }
    }

    /// For messages.
    pub fn name(&self) -> String {
        match self {
            Input::Stdin => "standard input".to_owned(),
            Input::File(path) => String::from_utf8_lossy(path).into_owned(),
        }
    }

    fn open(&self) -> io::Result<Box<dyn Read>> {
        match self {
            Input::Stdin => Ok(Box::new(io::stdin())),
            Input::File(path) => Ok(Box::new(File::open(OsStr::from_bytes(path))?)),
        }
    }
}

/// Where tasks come from. `command` is what stands after `--`: several words or one word without a space are an argv,
/// one word with a space is a shell line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// One shell line per task; blank lines and `#` comments are skipped.
    Lines(Input),
    /// One JSON object per line.
    Json(Input),
    /// A number per task.
    Array {
        /// First index.
        first: u64,
        /// Last index that may be reached.
        last: u64,
        /// From one index to the next; at least 1.
        step: u64,
        /// What runs.
        command: Vec<Vec<u8>>,
    },
    /// A line per task, whatever is in it.
    EachLine {
        /// The lines.
        input: Input,
        /// Entries end with NUL, not with a newline.
        nul_separated: bool,
        /// What runs.
        command: Vec<Vec<u8>>,
    },
    /// The product of all axes, `NAME=VALUES` each; the last runs fastest.
    Grid {
        /// As given.
        axes: Vec<Vec<u8>>,
        /// What runs.
        command: Vec<Vec<u8>>,
    },
    /// A row per task; the first row names the columns. Tabs separate the columns of a `.tsv` file.
    Table {
        /// The table.
        input: Input,
        /// What runs.
        command: Vec<Vec<u8>>,
    },
}

/// What all tasks of a source share, unless a JSON line says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateOptions {
    /// Cores per task; 1 when not given. When given, tasks are told in OMP_NUM_THREADS.
    pub cores: Option<u32>,
    /// GPUs per task; 0 when not given.
    pub gpus: Option<u32>,
    /// Time limit of an attempt.
    pub timeout: Option<Duration>,
    /// Further attempts after a failed one.
    pub retries: u32,
    /// Working directory; placeholders work.
    pub cwd: Option<Vec<u8>>,
    /// Variables; placeholders work in their values. A later one of a name replaces an earlier one.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// File for standard input; placeholders work.
    pub stdin: Option<Vec<u8>>,
    /// What stands for `{}`.
    pub replace: Option<Vec<u8>>,
    /// The function that tasks call instead of starting a process.
    #[serde(default)]
    pub call: Option<Call>,
}

impl TemplateOptions {
    /// Checks what can be wrong whatever the tasks are.
    pub fn check(&self) -> Result<(), InputError> {
        let wrong = |option, cause: String| Err(InputError::Option { option, cause });
        if self.replace.as_ref().is_some_and(Vec::is_empty) {
            return wrong("-I", "it is empty".to_owned());
        }
        if self.cores == Some(0) {
            return wrong("--cores", "a task takes at least one".to_owned());
        }
        for (option, text) in [("--cwd", &self.cwd), ("--stdin", &self.stdin)] {
            if text.as_ref().is_some_and(|text| text.is_empty() || text.contains(&0)) {
                return wrong(option, "it is empty, or holds a NUL byte".to_owned());
            }
        }
        if self.call.is_some() {
            let of_processes = [
                ("--cwd", self.cwd.is_some()),
                ("--env", !self.env.is_empty()),
                ("--stdin", self.stdin.is_some()),
                ("-I", self.replace.is_some()),
                ("--gpus", self.gpus.is_some()),
            ];
            if let Some((option, _)) = of_processes.into_iter().find(|(_, given)| *given) {
                return wrong(option, "it is for processes, and --call starts none".to_owned());
            }
        }
        for (name, value) in &self.env {
            let shown = String::from_utf8_lossy(name);
            if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
                return wrong("--env", format!("\"{shown}\" is no name for a variable"));
            }
            if value.contains(&0) {
                return wrong("--env", format!("the value of {shown} holds a NUL byte"));
            }
        }
        Ok(())
    }
}

/// A bundle, and what the user should be told about the input, once.
#[derive(Debug)]
pub struct Written {
    /// All tasks.
    pub bundle: Bundle,
    /// Sentences for people.
    pub warnings: Vec<String>,
}

/// Reads the source once, checks all of it, and writes a bundle file that is complete and synced when it gets its
/// name. On an error nothing is left behind.
pub fn write_bundle(source: &Source, defaults: &TemplateOptions, to: &Path) -> Result<Written, InputError> {
    defaults.check()?;
    let symbolic_len = source.symbolic_len()?;
    let mut job = Job { defaults, warnings: Vec::new() };
    let failed = |source| InputError::Write { path: to.to_owned(), source };
    let name = source.name();
    let mut reader = match source.input() {
        Some(input) => Some(open(input, &name)?),
        None => None,
    };
    // Arguments are checked before any file is made.
    let mut table = None;
    let kind = match source {
        Source::Lines(_) => Kind::Lines,
        Source::Json(_) => Kind::Json { functions: Vec::new() },
        Source::Array { first, step, command, .. } => {
            Kind::Array { first: *first, step: *step, program: job.program(command, &[])? }
        }
        Source::EachLine { nul_separated, command, .. } => {
            Kind::EachLine { has_lines: !nul_separated, program: job.program(command, &[])? }
        }
        Source::Grid { axes, command } => {
            let (axes, _) = parse_axes(axes)?;
            let names: Vec<String> = axes.iter().map(|(name, _)| name.clone()).collect();
            Kind::Grid { program: job.program(command, &names)?, axes }
        }
        Source::Table { command, .. } => {
            let delimiter = if name.to_lowercase().ends_with(".tsv") { b'\t' } else { b',' };
            let reader = reader.as_mut().ok_or_else(|| InputError::Usage("a table needs a file".to_owned()))?;
            let scan = table.insert(TableScan::begin(reader, &name, delimiter)?);
            let columns = scan.columns.clone();
            Kind::Table { program: job.program(command, &columns)?, columns, delimiter }
        }
    };
    let mut template = job.template(kind);
    let mut writer = BundleWriter::new(to).map_err(failed)?;
    let len = match (symbolic_len, reader) {
        (Some(len), _) => {
            writer.shape(len, template.shape).map_err(failed)?;
            len
        }
        (None, Some(mut reader)) => {
            let scanned = match table {
                Some(scan) => scan.run(&mut reader, &template, &mut writer).map(|()| Vec::new()),
                None => job.scan(&mut reader, &template, &name, &mut writer),
            };
            let called = scanned.map_err(|error| match error {
                ScanError::Read(source) => InputError::Unreadable { file: name.clone(), source },
                ScanError::Write(source) => failed(source),
                ScanError::Input(error) => error,
            })?;
            if let Kind::Json { functions } = &mut template.kind {
                *functions = called;
            }
            writer.tasks()
        }
        (None, None) => 0,
    };
    if len == 0 {
        job.warnings.push(format!("{name} holds no task"));
    }
    job.warnings.extend(likely_slips(source, defaults, &template, job.names(&[]).whole, len));
    writer.finish(&template, &name, len).map_err(failed)?;
    Ok(Written { bundle: Bundle::open(to)?, warnings: job.warnings })
}

fn open(input: &Input, name: &str) -> Result<Box<dyn Read>, InputError> {
    input.open().map_err(|source| InputError::Unreadable { file: name.to_owned(), source })
}

fn array_len(first: u64, last: u64, step: u64) -> Result<u64, InputError> {
    let wrong = |cause: String| InputError::Option { option: "--array", cause };
    if first > last {
        return Err(wrong(format!("the range {first}-{last} runs backwards (did you mean {last}-{first}?)")));
    }
    if step == 0 {
        return Err(wrong("the step must be at least 1".to_owned()));
    }
    match ((last - first) / step).checked_add(1) {
        Some(len) if len <= MAX_TASKS => Ok(len),
        _ => Err(wrong(format!("{first}-{last} are more tasks than can be counted"))),
    }
}

impl Source {
    fn input(&self) -> Option<&Input> {
        match self {
            Source::Lines(input) | Source::Json(input) => Some(input),
            Source::EachLine { input, .. } | Source::Table { input, .. } => Some(input),
            Source::Array { .. } | Source::Grid { .. } => None,
        }
    }

    /// What each task runs, where all run the same.
    pub(super) fn command(&self) -> &[Vec<u8>] {
        match self {
            Source::Lines(_) | Source::Json(_) => &[],
            Source::Array { command, .. }
            | Source::EachLine { command, .. }
            | Source::Grid { command, .. }
            | Source::Table { command, .. } => command,
        }
    }

    /// Checks the ranges of an array or a grid, and gives the number of tasks; lists have to be read first.
    pub fn symbolic_len(&self) -> Result<Option<u64>, InputError> {
        match self {
            Source::Array { first, last, step, .. } => array_len(*first, *last, *step).map(Some),
            Source::Grid { axes, .. } => Ok(Some(parse_axes(axes)?.1)),
            _ => Ok(None),
        }
    }

    /// For messages: the file, or the option with its value.
    pub fn name(&self) -> String {
        match self {
            Source::Array { first, last, step: 1, .. } => format!("--array {first}-{last}"),
            Source::Array { first, last, step, .. } => format!("--array {first}-{last}:{step}"),
            Source::Grid { axes, .. } => {
                let name: Vec<String> =
                    axes.iter().map(|axis| format!("--grid {}", String::from_utf8_lossy(axis))).collect();
                name.join(" ")
            }
            _ => self.input().map_or_else(String::new, Input::name),
        }
    }
}

struct Job<'a> {
    defaults: &'a TemplateOptions,
    warnings: Vec<String>,
}

impl Job<'_> {
    fn names<'n>(&'n self, columns: &'n [String]) -> Names<'n> {
        Names { whole: self.defaults.replace.as_deref().unwrap_or(b"{}"), columns }
    }

    fn program(&self, command: &[Vec<u8>], columns: &[String]) -> Result<ProgramPattern, InputError> {
        if let Some(call) = &self.defaults.call {
            return Ok(ProgramPattern::Call(call.clone()));
        }
        let wrong = |cause: String| InputError::Option { option: "the command after --", cause };
        if command.iter().any(|word| word.contains(&0)) {
            return Err(wrong("it holds a NUL byte".to_owned()));
        }
        Ok(match command {
            [] => return Err(InputError::Usage("what shall each task run? Give the command after --".to_owned())),
            [first, ..] if first.iter().all(u8::is_ascii_whitespace) => return Err(wrong("it is empty".to_owned())),
            [line] if line.iter().any(u8::is_ascii_whitespace) => {
                let pattern = Pattern::shell(line, self.names(columns));
                ProgramPattern::Shell(pattern.map_err(|error: PlaceholderError| wrong(error.to_string()))?)
            }
            words => {
                ProgramPattern::Argv(words.iter().map(|word| Pattern::verbatim(word, self.names(columns))).collect())
            }
        })
    }

    fn template(&self, kind: Kind) -> Template {
        let columns = kind.columns();
        let defaults = self.defaults;
        let pattern = |text: &Vec<u8>| Pattern::verbatim(text, self.names(&columns));
        let calls = kind.call().is_some();
        let mut env: Vec<(Vec<u8>, Pattern)> = Vec::new();
        for (name, value) in &defaults.env {
            env.retain(|(known, _)| known != name);
            env.push((name.clone(), pattern(value)));
        }
        Template {
            kind,
            env,
            cwd: defaults.cwd.as_ref().map(pattern),
            stdin: defaults.stdin.as_ref().map(pattern),
            timeout: defaults.timeout,
            shape: Shape {
                resources: Resources { cores: defaults.cores.unwrap_or(1), gpus: defaults.gpus.unwrap_or(0) },
                retries: defaults.retries,
                calls,
            },
            tells_cores: defaults.cores.is_some(),
        }
    }

    /// Reads a list; gives the functions that its tasks call, by their numbers.
    fn scan(
        &mut self,
        reader: &mut dyn Read,
        template: &Template,
        name: &str,
        writer: &mut BundleWriter,
    ) -> Result<Vec<String>, ScanError> {
        let mut scan = ListScan::new(template, name);
        scan.run(reader, writer)?;
        if scan.had_mark {
            self.warnings.push(format!("{name} begins with a byte order mark, which was left out"));
        }
        if let Some(line) = scan.first_object {
            self.warnings.push(format!(
                "{name} has lines that look like JSON objects (the first is line {line}), and runs them as shell lines: did \
                 you mean --format json?"
            ));
        }
        if let Some(line) = scan.first_cr {
            self.warnings.push(format!(
                "{name} has Windows line ends (the first in line {line}); the CR before each newline was left out"
            ));
        }
        Ok(scan.into_functions())
    }
}
