//! What all sections share: the options, the launcher, a place to run in, and how a run or a simulation of Myriarch becomes a
//! figure.

use crate::launcher::{Launcher, Layout, Runner};
use crate::machine;
use crate::measurement::{Figure, LeftOut, Machine, Measurement, Origin, Record};
use crate::options::RunOptions;
use crate::sections::Section;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A point that has taken this long is not measured again.
const LONG_POINT: Duration = Duration::from_secs(6);
/// How the makespan of a run is timed.
pub const TIMED_RUN: &str = "first hand-out to last record";

/// Everything that measuring takes.
pub struct Bench {
    /// As given.
    pub options: RunOptions,
    /// What starts ranks.
    pub launcher: Launcher,
    /// Runs commands in the scratch folder.
    pub runner: Runner,
    myriarch: String,
    machine: Machine,
    _scratch: TempDir,
}

/// What one run of Myriarch came to.
#[derive(Debug)]
pub struct Run {
    /// From the first hand-out to the last record.
    pub seconds: f64,
    /// From the start of the launcher to its exit.
    pub whole_seconds: f64,
    /// summary.json of the run.
    pub summary: Value,
}

impl Bench {
    /// Looks at the machine, the launcher and the program; an error says what is missing.
    pub fn new(options: RunOptions, out: &Path) -> Result<Bench> {
        let myriarch = std::path::absolute(&options.myriarch)?;
        if !myriarch.is_file() {
            bail!("{} is not there: `make build` builds it, --myriarch names another", options.myriarch.display());
        }
        let myriarch = myriarch.to_str().context("the path of myriarch is not UTF-8")?.to_owned();
        let launcher = Launcher::new(&options.launcher, &options.launcher_args)?;
        let beside = match (&options.scratch, options.nodes.is_empty()) {
            (Some(folder), _) => folder.clone(),
            (None, true) => std::env::temp_dir(),
            (None, false) => out.to_path_buf(),
        };
        let scratch = tempfile::Builder::new()
            .prefix(".scaling-")
            .tempdir_in(std::path::absolute(&beside)?)
            .with_context(|| format!("no folder can be made in {}", beside.display()))?;
        let deadline = Duration::from_secs(options.deadline);
        let runner = Runner { folder: scratch.path().to_path_buf(), deadline, path_first: None };
        let mut machine = machine::look(&options.machine_kind());
        machine.launcher = format!("{} ({})", launcher.shown(), launcher.version);
        machine.myriarch = machine::said_by(&myriarch, &["--version"]);
        Ok(Bench { options, launcher, runner, myriarch, machine, _scratch: scratch })
    }

    /// How many workers are measured, and how they lie.
    pub fn layouts(&self) -> Vec<Layout> {
        let per_node = self.ranks_per_node();
        let on_nodes = |&nodes: &u64| Layout { nodes: Some(nodes), ranks: nodes * per_node };
        let here = |&ranks: &u64| Layout { nodes: None, ranks };
        let mut layouts: Vec<Layout> = match self.options.nodes.is_empty() {
            true => self.options.workers.iter().map(here).collect(),
            false => self.options.nodes.iter().map(on_nodes).collect(),
        };
        layouts.sort_by_key(|layout| layout.ranks);
        layouts.dedup();
        if self.options.quick {
            layouts.truncate(2);
        }
        layouts
    }

    /// A worker for each core: of this machine, or of each node count.
    pub fn layouts_of_cores(&self) -> Vec<Layout> {
        match self.options.nodes.is_empty() {
            true => vec![self.layout_of_cores()],
            false => self.layouts(),
        }
    }

    /// A worker for each core of one node, or of this machine.
    pub fn layout_of_cores(&self) -> Layout {
        match self.options.nodes.is_empty() {
            true => Layout { nodes: None, ranks: machine::cores().max(2) },
            false => Layout { nodes: Some(1), ranks: self.ranks_per_node() },
        }
    }

    fn ranks_per_node(&self) -> u64 {
        self.options.ranks_per_node()
    }

    /// Most rounds of a point.
    pub fn rounds(&self) -> u64 {
        self.options.rounds()
    }

    /// Measures a point again and again: up to the rounds asked for, or until it has taken long.
    pub fn repeat(&self, mut once: impl FnMut(&Bench) -> Result<f64>) -> Result<Vec<f64>> {
        let start = Instant::now();
        let mut values = vec![once(self)?];
        while (values.len() as u64) < self.rounds() && start.elapsed() < LONG_POINT {
            values.push(once(self)?);
        }
        Ok(values)
    }

    /// Says where a section is.
    pub fn say(&self, section: Section, text: &str) {
        eprintln!("    {}: {text}", section.name());
    }

    /// A command of Myriarch on ranks; `threads_know` where the command knows `--ranks`.
    pub fn on_ranks(&self, layout: Layout, words: &[&str]) -> Vec<String> {
        let mut command = self.launcher.prefix(layout);
        command.push(self.myriarch.clone());
        command.extend(words.iter().map(|&word| word.to_owned()));
        // Before what `--` separates.
        let place = command.iter().rposition(|word| word == "--").unwrap_or(command.len());
        command.splice(place..place, self.launcher.suffix(layout));
        command
    }

    /// A command of Myriarch by itself.
    pub fn alone(&self, words: &[&str]) -> Vec<String> {
        std::iter::once(self.myriarch.as_str()).chain(words.iter().copied()).map(str::to_owned).collect()
    }

    /// A command as a reader would type it: without the folders of this machine.
    pub fn shown(&self, command: &[String]) -> String {
        let own = self.runner.folder.to_string_lossy().into_owned();
        let start = self.launcher.prefix(Layout { nodes: None, ranks: 1 }).len();
        let word = |(index, word): (usize, &String)| match word {
            word if *word == self.myriarch => "myriarch".to_owned(),
            word if word.starts_with(&own) => word[own.len()..].trim_start_matches('/').to_owned(),
            word if word.starts_with('/') && !word.starts_with("/bin/") && index < start => {
                PathBuf::from(word).file_name().unwrap_or_default().to_string_lossy().into_owned()
            }
            word => word.clone(),
        };
        command.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
    }

    /// The command of a run of tasks: `tasks` says what they are.
    pub fn run_command(&self, layout: Layout, tasks: &[&str]) -> Vec<String> {
        let slots = (layout.ranks / layout.nodes.unwrap_or(1)).to_string();
        let mut words = vec!["run", "--progress", "none", "--out", "run", "--slots-per-node", &slots];
        words.extend(tasks);
        self.on_ranks(layout, &words)
    }

    /// Runs tasks and checks that all of them ended well.
    pub fn run(&self, command: &[String], tasks: u64) -> Result<Run> {
        let folder = self.runner.folder.join("run");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        let said = self.runner.run(command)?;
        let summary = std::fs::read_to_string(folder.join("summary.json")).context("the run has no summary.json")?;
        let run = read_run(&summary, said.seconds)?;
        if run.summary["ok"].as_u64() != Some(tasks) {
            bail!("{}: not all of {tasks} tasks ended well: {}", self.shown(command), run.summary);
        }
        std::fs::remove_dir_all(&folder)?;
        Ok(run)
    }

    /// The makespan of functions that sleep for so long; those of no length do nothing.
    pub fn functions(&self, figure: Figure, layout: Layout, tasks: u64, task_us: f64) -> Result<Measurement> {
        let array = format!("0-{}", tasks - 1);
        let us = task_us.to_string();
        let mut words = vec!["--array", &array, "--call"];
        match task_us {
            0.0 => words.push("builtin:noop"),
            _ => words.extend(["builtin:sleep", "--call-arg", &us]),
        }
        let command = self.run_command(layout, &words);
        let mut summary = Value::Null;
        let rounds = self.repeat(|bench| {
            let run = bench.run(&command, tasks)?;
            summary = run.summary;
            Ok(run.seconds)
        })?;
        let mut measurement = Measurement::new(figure, Origin::Measured, "Myriarch", rounds);
        measurement.nodes = Some(layout.nodes.unwrap_or(1));
        measurement.workers = Some(layout.ranks);
        measurement.tasks = Some(tasks);
        measurement.task_us = Some(task_us);
        measurement.timed = TIMED_RUN.to_owned();
        measurement.command = self.shown(&command);
        measurement.raw = summary;
        Ok(measurement)
    }

    /// Fills a record: what `measure` adds, and all that is known of the machine.
    pub fn record(
        &self,
        section: Section,
        about: &str,
        measure: impl FnOnce(&mut Record) -> Result<()>,
    ) -> Result<Record> {
        let start = Instant::now();
        let load = machine::load();
        if let Some(load) = load.first().filter(|&&load| load > 0.5 * self.machine.cores as f64) {
            eprintln!("    other work disturbs figures: load average {load:.1} on {} cores", self.machine.cores);
        }
        let mut record = Record {
            section: section.name().to_owned(),
            about: about.to_owned(),
            date: machine::now(),
            load_before: load,
            machine: self.machine.clone(),
            options: Some(section.options(&self.options)?),
            versions: BTreeMap::new(),
            ..Record::default()
        };
        measure(&mut record)?;
        record.load_after = machine::load();
        record.seconds = start.elapsed().as_secs_f64();
        Ok(record)
    }
}

/// A system that is left out, said as it happens.
pub fn left_out(record: &mut Record, system: &str, reason: &str) {
    eprintln!("    {system} is left out: {reason}");
    record.left_out.push(LeftOut { system: system.to_owned(), reason: reason.to_owned() });
}

/// What summary.json says.
fn read_run(summary: &str, whole_seconds: f64) -> Result<Run> {
    let summary: Value = serde_json::from_str(summary).context("summary.json is no JSON")?;
    let seconds = summary["wall_seconds"].as_f64().context("summary.json has no wall_seconds")?;
    Ok(Run { seconds, whole_seconds, summary })
}

/// A length as the command line of the simulator takes it, and as people read it.
pub fn length(us: f64) -> String {
    match us {
        0.0 => "0".to_owned(),
        us if us >= 1e6 => format!("{}s", us / 1e6),
        us if us >= 1e3 => format!("{}ms", us / 1e3),
        us => format!("{us}us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_gives_the_makespan_and_must_have_it() {
        let run = read_run(r#"{"tasks": 100, "ok": 100, "wall_seconds": 0.343134}"#, 0.8).unwrap();
        assert_eq!((run.seconds, run.whole_seconds), (0.343134, 0.8));
        assert_eq!(run.summary["ok"], 100);
        assert!(read_run(r#"{"tasks": 100}"#, 0.8).is_err());
        assert!(read_run("", 0.8).is_err());
    }

    #[test]
    fn lengths_are_written_as_the_simulator_takes_them() {
        assert_eq!([0.0, 0.03, 250.0, 10_000.0, 1e6].map(length), ["0", "0.03us", "250us", "10ms", "1s"]);
    }
}
