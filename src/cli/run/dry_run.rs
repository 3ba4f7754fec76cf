//! `--dry-run`: the first and last commands as they would run, how many there are, and programs that are not found.

use crate::observe::text::{of, shorten};
use crate::task::{Bundle, Command, Resources};
use std::collections::HashMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Commands shown at each end.
const SHOWN: u64 = 3;
/// Tasks whose programs are looked for, evenly spread over the bundle.
const LOOKED_AT: u64 = 10_000;
/// Missing programs named.
const MAX_MISSING: usize = 20;
/// Characters shown of a command.
const MAX_CHARS: usize = 500;

/// What a run of a bundle would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// Number of tasks.
    pub count: u64,
    /// Where they come from.
    pub source: String,
    /// The most that one of them takes.
    pub max_resources: Resources,
    /// The first ones.
    pub first: Vec<ShownTask>,
    /// The last ones, without those in `first`.
    pub last: Vec<ShownTask>,
    /// Tasks whose programs were looked for.
    pub looked_at: u64,
    /// Programs not found on this machine, the first ones.
    pub missing: Vec<MissingProgram>,
}

/// One task as it would run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownTask {
    /// The user's index.
    pub label: u64,
    /// Line in the source, where there is one.
    pub line: Option<u64>,
    /// The command as a shell would take it.
    pub text: String,
}

/// A program that is not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingProgram {
    /// As the task names it.
    pub program: String,
    /// How many of the tasks looked at name it.
    pub tasks: u64,
    /// The user's index of the first.
    pub label: u64,
    /// Its line, where there is one.
    pub line: Option<u64>,
}

/// Looks at a bundle without running anything. Slots are shown as 0.
pub fn dry_run(bundle: &Bundle) -> DryRun {
    let count = bundle.len();
    let shown = |index: u64| ShownTask {
        label: bundle.label(index),
        line: bundle.line(index),
        text: shorten(&bundle.command(index, 0).to_text(), MAX_CHARS),
    };
    let first_end = count.min(SHOWN);
    let last_start = count.saturating_sub(SHOWN).max(first_end);
    let (looked_at, missing) = missing_programs(bundle);
    DryRun {
        count,
        source: bundle.source().to_owned(),
        max_resources: bundle.max_resources(),
        first: (0..first_end).map(shown).collect(),
        last: (last_start..count).map(shown).collect(),
        looked_at,
        missing,
    }
}

fn missing_programs(bundle: &Bundle) -> (u64, Vec<MissingProgram>) {
    let mut known: HashMap<(Vec<u8>, PathBuf, OsString), bool> = HashMap::new();
    let mut missing: Vec<MissingProgram> = Vec::new();
    let mut looked_at = 0;
    let step = bundle.len().div_ceil(LOOKED_AT).max(1);
    let mut index = 0;
    while index < bundle.len() {
        looked_at += 1;
        let command = bundle.command(index, 0);
        if let Some(name) = command.program_name() {
            let (folder, path) = places(&command);
            let key = (name.to_vec(), folder, path);
            let found = *known.entry(key).or_insert_with_key(|(name, folder, path)| is_found(name, folder, path));
            if !found {
                note(&mut missing, bundle, index, name);
            }
        }
        index += step;
    }
    (looked_at, missing)
}

fn note(missing: &mut Vec<MissingProgram>, bundle: &Bundle, index: u64, name: &[u8]) {
    let program = String::from_utf8_lossy(name).into_owned();
    let has_room = missing.len() < MAX_MISSING;
    match missing.iter_mut().find(|known| known.program == program) {
        Some(known) => known.tasks += 1,
        None if has_room => {
            missing.push(MissingProgram { program, tasks: 1, label: bundle.label(index), line: bundle.line(index) });
        }
        None => {}
    }
}

/// The folder and the search path that a command's program is looked for in.
fn places(command: &Command) -> (PathBuf, OsString) {
    let folder = PathBuf::from(OsString::from_vec(command.cwd.clone().unwrap_or_default()));
    let own = command.env.iter().find(|(name, _)| name == b"PATH").map(|(_, path)| OsString::from_vec(path.clone()));
    (folder, own.or_else(|| env::var_os("PATH")).unwrap_or_default())
}

fn is_found(name: &[u8], folder: &Path, path: &OsStr) -> bool {
    let program = OsStr::from_bytes(name);
    if name.contains(&b'/') {
        return is_program(&folder.join(program));
    }
    env::split_paths(path).any(|place| is_program(&folder.join(place).join(program)))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks = if self.count == 1 { "task" } else { "tasks" };
        write!(f, "{} {tasks} from {}", self.count, self.source)?;
        let Resources { cores, gpus } = self.max_resources;
        if cores > 1 || gpus > 0 {
            write!(f, ", up to {} and {} each", of(cores.into(), "core"), of(gpus.into(), "GPU"))?;
        }
        writeln!(f)?;
        for task in &self.first {
            writeln!(f, "  {}  {}", name(&self.source, task.label, task.line), task.text)?;
        }
        if self.count > 2 * SHOWN {
            writeln!(f, "  …")?;
        }
        for task in &self.last {
            writeln!(f, "  {}  {}", name(&self.source, task.label, task.line), task.text)?;
        }
        for missing in &self.missing {
            let example = name(&self.source, missing.label, missing.line);
            writeln!(
                f,
                "program not found here: {} ({} of {} tasks looked at, such as {example})",
                missing.program, missing.tasks, self.looked_at
            )?;
        }
        Ok(())
    }
}

/// `17`, or `17 (tasks.txt:20)`.
fn name(source: &str, label: u64, line: Option<u64>) -> String {
    match line {
        Some(line) => format!("{label} ({source}:{line})"),
        None => label.to_string(),
    }
}
