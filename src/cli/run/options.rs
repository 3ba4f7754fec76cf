//! What a run is asked to do, as one checked value: it travels to the other ranks, and DIR keeps it for `--resume`.

use crate::execute::Pin;
use crate::execute::functions::Recording;
use crate::observe::ProgressMode;
use crate::task::{DurationParseError, Source, TemplateOptions, parse_duration};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// When failures stop the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum MaxFails {
    /// At this many failed tasks; at least 1.
    Count(u64),
    /// At this share of all tasks, in percent, above 0 and at most 100.
    Percent(f64),
}

impl MaxFails {
    /// The number of failed tasks at which a run of that many tasks stops; at least 1.
    pub fn limit(self, tasks: u64) -> u64 {
        match self {
            MaxFails::Count(count) => count,
            MaxFails::Percent(percent) => ((tasks as f64 * percent / 100.0).ceil() as u64).max(1),
        }
    }
}

/// Whose standard output is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KeepStdout {
    /// Nobody's
    None,
    /// That of failed tasks
    Failed,
    /// That of all tasks
    #[default]
    All,
}

/// Everything that `myriarch run` was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunOptions {
    /// Where tasks come from; `None` for `--resume` with DIR alone.
    pub source: Option<Source>,
    /// What all tasks share.
    pub defaults: TemplateOptions,
    /// DIR, where given.
    #[serde(with = "path_bytes")]
    pub out: Option<PathBuf>,
    /// The folder in which the run was started: tasks run there, wherever it is resumed.
    #[serde(default, with = "path_bytes")]
    pub folder: Option<PathBuf>,
    /// What stood before the command when the run was started, such as `mpiexec -n 4 `.
    #[serde(default)]
    pub launch: String,
    /// Go on where DIR stopped.
    pub resume: bool,
    /// Do not wait for ranks that outlived rank 0 of the last start.
    #[serde(default)]
    pub resume_now: bool,
    /// Put back failed tasks.
    pub retry_failed: bool,
    /// Show, do not run.
    pub dry_run: bool,
    /// Times that a task may lose its rank.
    pub crash_limit: u32,
    /// When a silent rank is given up; 0 is never.
    #[serde(default)]
    pub lost_after: Duration,
    /// Time limit of the run.
    pub walltime: Option<Duration>,
    /// Time for running tasks in a drain.
    pub grace: Duration,
    /// When failures stop the run.
    pub max_fails: Option<MaxFails>,
    /// Slots on each node.
    pub slots_per_node: Option<u32>,
    /// Most tasks that run at once.
    pub max_running: Option<u64>,
    /// Outputs to stdout.
    pub print: bool,
    /// How progress is shown.
    pub progress: ProgressMode,
    /// What is recorded of calls.
    pub recording: Recording,
    /// Functions run in processes of their own.
    #[serde(default)]
    pub isolate: bool,
    /// Whose standard output is kept.
    pub keep_stdout: KeepStdout,
    /// Most bytes kept of each stream of a task.
    pub max_output: u64,
    /// How long an outcome may be written but not synced.
    pub sync: Duration,
    /// What a task is bound to.
    pub pin: Pin,
    /// Width of a node given by hand.
    pub ranks_per_node: Option<u32>,
    /// No tasks on the node of rank 0.
    pub dedicated_manager: bool,
    /// Most children of a rank.
    pub fan_out: u32,
    /// Ranks as threads.
    pub ranks: Option<u32>,
    /// A name for people.
    pub name: Option<String>,
    /// The arguments that were written down, by name: with `--resume`, DIR decides about the others.
    pub said: Vec<String>,
    /// The command line as it was typed, for people; bytes that are not UTF-8 are replaced.
    pub command_line: Vec<String>,
}

/// A path as bytes: serde's own form refuses paths that are not UTF-8.
mod path_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::PathBuf;

    pub(super) fn serialize<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
        path.as_ref().map(|path| path.as_os_str().as_bytes()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        let bytes: Option<Vec<u8>> = Option::deserialize(from)?;
        Ok(bytes.map(|bytes| PathBuf::from(OsString::from_vec(bytes))))
    }
}

/// Reads a length of time above zero.
pub(super) fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text).map_err(|error: DurationParseError| error.to_string())? {
        time if time.is_zero() => Err("it must be longer than zero".to_owned()),
        time => Ok(time),
    }
}

/// Reads `3` or `5%`.
pub(super) fn parse_max_fails(text: &str) -> Result<MaxFails, String> {
    let wrong = || "write a number of tasks from 1 on, or a share such as 5%".to_owned();
    match text.strip_suffix('%') {
        Some(percent) => match percent.trim().parse::<f64>() {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(MaxFails::Percent(percent)),
            _ => Err(wrong()),
        },
        None => match text.parse() {
            Ok(count) if count > 0 => Ok(MaxFails::Count(count)),
            _ => Err(wrong()),
        },
    }
}

/// Reads `1048576`, `64MiB`, `64M` (the same), `1GB` (a thousand million).
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || "write bytes, or a size such as 512K, 64MiB, 1GB".to_owned();
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim().to_ascii_lowercase();
    let base: u64 = if unit.len() == 2 && unit.ends_with('b') { 1000 } else { 1024 };
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(wrong()),
    };
    number.checked_mul(base.pow(power)).ok_or_else(wrong)
}
