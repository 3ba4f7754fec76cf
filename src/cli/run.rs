//! The arguments of `myriarch run`, and the one checked value that they become. Nothing runs here.

mod dry_run;
mod options;
mod start;

pub use crate::observe::ProgressMode;
pub use dry_run::{DryRun, MissingProgram, ShownTask, dry_run};
pub use options::{KeepStdout, MaxFails, RunOptions};
pub use start::main;

use crate::execute::Pin;
use crate::execute::functions::Recording;

use crate::task::{Call, Input, InputError, Source, TemplateOptions, parse_duration, whole_function_name};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, ValueEnum};
use options::{parse_max_fails, parse_positive_duration, parse_size};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most bytes kept of a stream: both of a task travel in one message.
const MAX_OUTPUT: u64 = 256 << 20;

const TASKS: &str = "Tasks";
const EACH: &str = "What each task gets";
const RUN: &str = "The run";
const FAILING: &str = "Failures and the end";
const OUTPUT: &str = "Output";
const LAYOUT: &str = "Ranks and slots";

const EXAMPLES: &str = "\
Examples:
  myriarch run tasks.txt                                   one shell command per line, a slot per core
  mpiexec -n 4 myriarch run tasks.txt                      the same on 4 ranks
  srun -N 100 --ntasks-per-node=1 -c 128 myriarch run …    one rank per node, a slot per core
  myriarch run --array 0-999 -- ./sim --seed {}            a number per task
  myriarch run --each-line names.txt -- 'gzip -c {} > {/.}.gz'   one word with spaces is a shell line
  find . -name '*.png' -print0 | myriarch run --each-line - -0 -- convert {} {.}.jpg
  myriarch run --grid a=1,2,3 --grid b=0:10:2 -- ./sim {a} {b}   18 tasks
  myriarch run --table runs.csv --cwd run-{:04} -- ./sim --mass {mass}
  myriarch run --resume --out DIR                          go on where DIR stopped
  myriarch run --resume --retry-failed --out DIR           put back what failed, too

Placeholders, after -- and in --cwd, --env and --stdin:
  {}  the index, or the line of --each-line   {:05}  the same, padded with zeros   {NAME}  a column
  {.} without extension   {/} without folder   {//} the folder   {/.} neither   {%}  the slot
In a shell line their values are quoted to fit the place. The lines of a task list are never changed.

Exit status: 0 all tasks ended well; 1 some task failed; 2 bad input, nothing ran; 3 tasks are left (go on with --resume).";

/// Run tasks to their end
///
/// Tasks come from a list, or are made from a command after -- and a source of values. Under mpiexec, srun or aprun
/// the ranks share them; without a launcher the ranks are threads of this process.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    #[command(flatten)]
    tasks: TaskArgs,
    #[command(flatten)]
    each: EachTaskArgs,
    /// The arguments that were written down, by name; the others have their defaults.
    #[arg(skip)]
    said: Vec<String>,

    /// Folder that keeps everything about the run [default: ./myriarch-runs/N, with a link `last` beside it]
    #[arg(long, value_name = "DIR", help_heading = RUN)]
    out: Option<PathBuf>,
    /// Go on where DIR stopped; DIR alone is enough, it keeps tasks and options. Starts when there is no DIR
    #[arg(long, help_heading = RUN)]
    resume: bool,
    /// With --resume: put back every failed task too
    #[arg(long, requires = "resume", help_heading = RUN)]
    retry_failed: bool,
    /// With --resume: do not wait for ranks of the last start that may still run tasks, which may run twice then
    #[arg(long, requires = "resume", help_heading = RUN)]
    resume_now: bool,
    /// Show the first and last commands, their number and programs that are not found; run nothing
    #[arg(long, help_heading = RUN)]
    dry_run: bool,
    /// Time limit of the run; as the end nears no task is started [default: the end of the batch job, where known]
    #[arg(long, value_name = "TIME", value_parser = parse_positive_duration, help_heading = RUN)]
    walltime: Option<Duration>,
    /// How long running tasks may go on when the run is stopped; then they get SIGTERM, and SIGKILL 5 s later
    ///
    /// With --walltime the grace lies within the walltime, and is at most half of it.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = parse_duration, help_heading = RUN)]
    grace: Duration,
    /// How long an outcome may be written but not yet on the disk; 0 waits for the disk each time
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_duration, help_heading = RUN)]
    sync: Duration,
    /// A name for people
    #[arg(long, value_name = "NAME", help_heading = RUN)]
    name: Option<String>,

    /// Times that a task may lose the rank that runs it before it counts as lost
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one(), help_heading = FAILING)]
    crash_limit: u32,
    /// Give a rank up of which nothing was heard for so long: what it had runs elsewhere; 0: never
    ///
    /// It depends on how the job was launched whether it outlives a rank; `myriarch doctor` says. A rank that hears nothing of
    /// its parent for three times as long ends.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_patience, help_heading = FAILING)]
    lost_after: Duration,
    /// Stop when N tasks, or P% of all, have failed
    #[arg(long, value_name = "N|P%", value_parser = parse_max_fails, help_heading = FAILING)]
    max_fails: Option<MaxFails>,

    /// Print outputs to stdout as tasks end, each whole
    #[arg(long, help_heading = OUTPUT)]
    print: bool,
    /// How progress is shown, on stderr
    #[arg(long, value_enum, value_name = "HOW", default_value_t, help_heading = OUTPUT)]
    progress: ProgressMode,
    /// What is recorded of tasks that are functions
    #[arg(long, value_enum, value_name = "WHAT", default_value_t, help_heading = OUTPUT)]
    record: Recording,
    /// Whose standard output is kept
    #[arg(long, value_enum, value_name = "WHOSE", default_value_t, help_heading = OUTPUT)]
    stdout: KeepStdout,
    /// Most that is kept of each stream of a task: head and tail, the cut is marked
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size, help_heading = OUTPUT)]
    max_output: u64,

    /// Slots on each node [default: its cores, at least one for each rank]
    #[arg(short = 'j', long, visible_alias = "jobs", value_name = "N", value_parser = at_least_one(), help_heading = LAYOUT)]
    slots_per_node: Option<u32>,
    /// Most tasks that run at once, on all nodes together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = LAYOUT)]
    max_running: Option<u64>,
    /// What a task is bound to
    #[arg(long, value_enum, value_name = "TO", default_value_t, help_heading = LAYOUT)]
    pin: Pin,
    /// Ranks that count as one node [default: those that share memory]
    #[arg(long, value_name = "N", value_parser = at_least_one(), help_heading = LAYOUT)]
    ranks_per_node: Option<u32>,
    /// Keep the node of rank 0 free of tasks
    #[arg(long, help_heading = LAYOUT)]
    dedicated_manager: bool,
    /// Most children of a rank in the tree
    #[arg(long, value_name = "N", default_value_t = crate::schedule::FAN_OUT, value_parser = clap::value_parser!(u32).range(2..), help_heading = LAYOUT)]
    fan_out: u32,
    /// Ranks, as threads of this process, when no launcher started it
    #[arg(long, value_name = "N", value_parser = at_least_one(), help_heading = LAYOUT)]
    ranks: Option<u32>,
}

/// Where tasks come from.
#[derive(Clone, Debug, Args)]
pub struct TaskArgs {
    /// List of tasks: a shell command per line, or a JSON object per line in a .jsonl file; - is stdin
    ///
    /// In a plain list blank lines and lines that begin with # are skipped. JSON keys: argv or shell, env, cwd, stdin,
    /// cores, gpus, timeout, retries; or call, payload, cores, retries. failed.jsonl of a run is such a list.
    #[arg(value_name = "TASKS", help_heading = TASKS)]
    list: Option<PathBuf>,
    /// A task for each number: FIRST-LAST or FIRST-LAST:STEP
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true, value_parser = parse_range_text, help_heading = TASKS)]
    array: Option<String>,
    /// A task for each line of the file, empty ones and # too; - is stdin
    #[arg(long, value_name = "FILE", help_heading = TASKS)]
    each_line: Option<PathBuf>,
    /// Entries of --each-line end with NUL, as from find -print0
    #[arg(short = '0', long = "null", requires = "each_line", help_heading = TASKS)]
    null: bool,
    /// A name and its values: NAME=1,2,3, or NAME=START:STOP:STEP with STOP included where the steps meet it
    ///
    /// Given several times, there is a task for each combination; the last grid runs fastest. The step is 1 when left
    /// out, may have decimals and may be negative.
    #[arg(long, value_name = "NAME=VALUES", help_heading = TASKS)]
    grid: Vec<OsString>,
    /// A task for each row of a CSV file (or .tsv); its first row names the columns; - is stdin
    #[arg(long, value_name = "FILE", help_heading = TASKS)]
    table: Option<PathBuf>,
    /// Read TASKS as this, whatever its name
    #[arg(long, value_enum, value_name = "FORMAT", requires = "list", help_heading = TASKS)]
    format: Option<ListFormat>,
    /// Call a function instead of starting a process: builtin:noop, builtin:spin, builtin:sleep, builtin:echo, or
    /// PATH.so:SYMBOL
    ///
    /// It runs in the worker, with the task's line or row as its payload, or its values of --grid with commas between;
    /// see bindings/c/myriarch_task.h.
    #[arg(long, value_name = "FUNCTION", conflicts_with = "command", help_heading = TASKS)]
    call: Option<OsString>,
    /// With --call: the payload of the tasks of --array
    #[arg(long, value_name = "BYTES", requires = "call", conflicts_with_all = ["each_line", "grid", "table"], help_heading = TASKS)]
    call_arg: Option<OsString>,
    /// A process of each slot calls functions, so that a crash costs one task
    ///
    /// With --call, or for the calls of a task list. Such a task is signal:11 or the like, and the others go on. A function
    /// that does not return can be ended, also by --timeout, and none is called by several threads at once.
    #[arg(long, help_heading = TASKS)]
    isolate: bool,
    /// What each task runs: several words are started as they are, one word with spaces is a shell line
    #[arg(last = true, value_name = "COMMAND", help_heading = TASKS)]
    command: Vec<OsString>,
}

/// What all tasks share; a JSON line may say otherwise.
#[derive(Clone, Debug, Args)]
pub struct EachTaskArgs {
    /// Use STR instead of {}
    #[arg(short = 'I', value_name = "STR", help_heading = EACH)]
    replace: Option<OsString>,
    /// Cores [default: 1]; told to the task in OMP_NUM_THREADS when given
    #[arg(long, visible_alias = "cpus", value_name = "N", value_parser = at_least_one(), help_heading = EACH)]
    cores: Option<u32>,
    /// GPUs [default: 0]
    #[arg(long, value_name = "N", help_heading = EACH)]
    gpus: Option<u32>,
    /// Time limit of an attempt: 30s, 5m, 1h30m, 1:30:00, plain seconds
    #[arg(long, value_name = "TIME", value_parser = parse_positive_duration, help_heading = EACH)]
    timeout: Option<Duration>,
    /// Further attempts after a failed one
    // Taken for an option of its own it would be corrected to --retry-failed.
    #[arg(long, alias = "retry", value_name = "N", default_value_t = 0, help_heading = EACH)]
    retries: u32,
    /// Working directory, created when missing [default: the folder in which the run was started]
    #[arg(long, value_name = "DIR", help_heading = EACH)]
    cwd: Option<OsString>,
    /// Variable; may be given several times
    #[arg(long, value_name = "NAME=VALUE", help_heading = EACH)]
    env: Vec<OsString>,
    /// File for standard input [default: /dev/null]
    #[arg(long, value_name = "FILE", help_heading = EACH)]
    stdin: Option<OsString>,
}

/// How a task list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ListFormat {
    /// A shell command per line
    Lines,
    /// A JSON object per line
    Json,
}

fn at_least_one() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

impl RunArgs {
    /// Notes which arguments the command line holds.
    pub fn note_said(&mut self, matches: &ArgMatches) {
        let is_said = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
        self.said = matches.ids().map(|id| id.as_str()).filter(is_said).map(str::to_owned).collect();
    }

    /// Checks all that can be checked without reading the tasks.
    pub fn check(self) -> Result<RunOptions, InputError> {
        let (call, isolate) = (self.tasks.call()?, self.tasks.isolate);
        let source = self.tasks.check()?;
        if isolate && call.is_none() && !matches!(source, None | Some(Source::Json(_))) {
            let what = "--isolate: it is for functions, and there are none without --call; processes are apart anyway";
            return Err(InputError::Usage(what.to_owned()));
        }
        if call.is_some() && self.each.timeout.is_some() && !isolate {
            let cause = "it is for processes, and --call starts none without --isolate".to_owned();
            return Err(InputError::Option { option: "--timeout", cause });
        }
        if source.is_none() && !self.resume {
            return Err(InputError::Usage(
                "which tasks? Give a list, --array, --each-line, --grid or --table (see myriarch run --help)"
                    .to_owned(),
            ));
        }
        if source.is_none() && self.dry_run {
            return Err(InputError::Usage("--dry-run shows tasks that are given; give them again".to_owned()));
        }
        if call.is_some() && self.stdout != KeepStdout::default() {
            let what = "--stdout: it is for processes; of functions --record says what is kept";
            return Err(InputError::Usage(what.to_owned()));
        }
        if self.max_output > MAX_OUTPUT {
            return Err(InputError::Usage(format!(
                "--max-output: at most {} MiB of each stream can be kept; let the task write to a file",
                MAX_OUTPUT >> 20
            )));
        }
        Ok(RunOptions {
            source,
            defaults: self.each.check(call)?,
            out: self.out,
            folder: std::env::current_dir().ok(),
            launch: String::new(),
            resume: self.resume,
            resume_now: self.resume_now,
            retry_failed: self.retry_failed,
            dry_run: self.dry_run,
            crash_limit: self.crash_limit,
            lost_after: self.lost_after,
            walltime: self.walltime,
            grace: self.grace,
            max_fails: self.max_fails,
            slots_per_node: self.slots_per_node,
            max_running: self.max_running,
            print: self.print,
            progress: self.progress,
            recording: self.record,
            isolate,
            keep_stdout: self.stdout,
            max_output: self.max_output,
            sync: self.sync,
            pin: self.pin,
            ranks_per_node: self.ranks_per_node,
            dedicated_manager: self.dedicated_manager,
            fan_out: self.fan_out,
            ranks: self.ranks,
            name: self.name,
            said: self.said,
            command_line: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        })
    }
}

impl TaskArgs {
    /// The function that tasks call, where one is given.
    fn call(&self) -> Result<Option<Call>, InputError> {
        let Some(name) = &self.call else { return Ok(None) };
        let function = whole_function_name(name).map_err(|whole| {
            let cause = format!("\"{}\" is not UTF-8; give the file or its folder another name", whole.display());
            InputError::Option { option: "--call", cause }
        })?;
        Ok(Some(Call { function, argument: self.call_arg.clone().unwrap_or_default().into_vec() }))
    }

    /// The one source of tasks; `None` where none is given.
    pub fn check(self) -> Result<Option<Source>, InputError> {
        let given = [
            (self.list.is_some(), "a task list"),
            (self.array.is_some(), "--array"),
            (self.each_line.is_some(), "--each-line"),
            (!self.grid.is_empty(), "--grid"),
            (self.table.is_some(), "--table"),
        ];
        let given: Vec<&str> = given.into_iter().filter(|(is_given, _)| *is_given).map(|(_, name)| name).collect();
        if let (true, Some(list), [_, _]) = (self.call.is_some(), &self.list, &given[..]) {
            return Err(InputError::Usage(format!(
                "--call takes no command, and {} was taken for a task list; the function gets the columns or the line as they are",
                list.display()
            )));
        }
        if given.len() > 1 {
            return Err(InputError::Usage(format!("tasks come from one source; given are {}", given.join(" and "))));
        }
        let command: Vec<Vec<u8>> = self.command.into_iter().map(OsString::into_vec).collect();
        if !command.is_empty() && given.first().is_none_or(|source| *source == "a task list") {
            let why = match &self.list {
                Some(list) => format!(
                    "a task list already says what runs, so there can be no command after -- (did you mean --each-line {}?)",
                    list.display()
                ),
                None => {
                    "a command after -- needs --array, --each-line, --grid or --table to make tasks of it".to_owned()
                }
            };
            return Err(InputError::Usage(why));
        }
        if self.call.is_some() && given.first() == Some(&"a task list") {
            return Err(InputError::Usage(
                "--call takes its tasks from --array, --each-line, --grid or --table, not from a task list".to_owned(),
            ));
        }
        if let Some(source) =
            given.first().filter(|source| **source != "a task list" && command.is_empty() && self.call.is_none())
        {
            return Err(InputError::Usage(format!(
                "{source} needs the command that each task runs, after -- (or --call)"
            )));
        }
        let source = if let Some(list) = self.list {
            Some(list_source(&list, self.format))
        } else if let Some(range) = self.array {
            let (first, last, step) = parse_array(&range)?;
            Some(Source::Array { first, last, step, command })
        } else if let Some(file) = self.each_line {
            Some(Source::EachLine { input: Input::new(&file), nul_separated: self.null, command })
        } else if let Some(file) = self.table {
            Some(Source::Table { input: Input::new(&file), command })
        } else if !self.grid.is_empty() {
            Some(Source::Grid { axes: self.grid.into_iter().map(OsString::into_vec).collect(), command })
        } else {
            None
        };
        if let Some(source) = &source {
            source.symbolic_len()?;
        }
        Ok(source)
    }
}

fn list_source(list: &Path, format: Option<ListFormat>) -> Source {
    let by_name = match list.extension().and_then(OsStr::to_str) {
        Some("jsonl" | "ndjson") => ListFormat::Json,
        _ => ListFormat::Lines,
    };
    match format.unwrap_or(by_name) {
        ListFormat::Json => Source::Json(Input::new(list)),
        ListFormat::Lines => Source::Lines(Input::new(list)),
    }
}

/// Takes what may be a range. What has a dash in front is none: a negative number, or the next option.
fn parse_range_text(text: &str) -> Result<String, &'static str> {
    match text.strip_prefix('-') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
            Err("negative numbers are not possible (did you mean --grid i=FIRST:LAST and {i}?)")
        }
        Some(_) => Err("a range such as 0-999 is missing"),
        None => Ok(text.to_owned()),
    }
}

/// Reads `5-9`, `0-100:10` or `7`.
fn parse_array(text: &str) -> Result<(u64, u64, u64), InputError> {
    let wrong = |hint: &str| InputError::Option {
        option: "--array",
        cause: format!("\"{text}\" is no range such as 0-999 or 0-999:10{hint}"),
    };
    if let Some((range, _)) = text.split_once('%') {
        return Err(wrong(&format!(" (did you mean --array {range} --max-running N?)")));
    }
    if text.contains(',') {
        return Err(wrong(&format!(" (did you mean --grid i={text} and {{i}}?)")));
    }
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten().ok_or_else(|| wrong(""))
    };
    let (range, step) = match text.split_once(':') {
        Some((range, step)) => (range, number(step)?),
        None => (text, 1),
    };
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    Ok((number(first)?, number(last)?, step))
}

impl EachTaskArgs {
    /// What all tasks share.
    pub fn check(self, call: Option<Call>) -> Result<TemplateOptions, InputError> {
        let mut env = Vec::new();
        for pair in &self.env {
            let bytes = pair.as_bytes();
            let Some(equals) = bytes.iter().position(|&byte| byte == b'=') else {
                let cause = format!("\"{}\" is not NAME=VALUE", pair.to_string_lossy());
                return Err(InputError::Option { option: "--env", cause });
            };
            env.push((bytes[..equals].to_vec(), bytes[equals + 1..].to_vec()));
        }
        let defaults = TemplateOptions {
            cores: self.cores,
            gpus: self.gpus,
            timeout: self.timeout,
            retries: self.retries,
            cwd: self.cwd.map(OsString::into_vec),
            env,
            stdin: self.stdin.map(OsString::into_vec),
            replace: self.replace.map(OsString::into_vec),
            call,
        };
        defaults.check()?;
        Ok(defaults)
    }
}

/// When a silent rank is given up.
fn parse_patience(text: &str) -> Result<Duration, String> {
    let patience = parse_duration(text).map_err(|error| error.to_string())?;
    match patience.is_zero() || patience >= crate::drive::SHORTEST_LOST_AFTER {
        true => Ok(patience),
        false => Err("at least 0.5 s, or 0 for never".to_owned()),
    }
}

#[cfg(test)]
mod tests;
