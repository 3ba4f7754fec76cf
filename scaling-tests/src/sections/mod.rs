//! The sections, each a file of results:
//!
//! | module | what |
//! |---|---|
//! | `strong` | the same tasks on more and more workers |
//! | `weak` | ten tasks for each of more and more workers |
//! | `throughput` | tasks that do nothing, in larger and larger bundles |
//! | `latency` | one task at a time |
//! | `metg` | shorter and shorter tasks |
//! | `processes` | processes, beside what the machine can start |
//! | `simulated` | the same figures in the simulator, up to the largest machines |
//! | `peers` | other systems with the same tasks |

mod latency;
mod metg;
mod peers;
mod processes;
pub mod simulated;
pub mod strong;
mod throughput;
mod weak;

use crate::bench::Bench;
use crate::launcher::shown_words;
use crate::measurement::{Options, Record};
use crate::options::RunOptions;
use anyhow::Result;
use clap::ValueEnum;

/// How long the tasks of strong and weak scaling are, in microseconds: those of the HPDC'19 paper on Parsl.
const LENGTHS_US: [f64; 4] = [0.0, 10_000.0, 100_000.0, 1_000_000.0];

/// A section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// The same tasks on more and more workers
    Strong,
    /// Ten tasks for each of more and more workers
    Weak,
    /// Tasks that do nothing, in larger and larger bundles
    Throughput,
    /// One task at a time
    Latency,
    /// Shorter and shorter tasks: METG(50 %)
    Metg,
    /// Processes, beside what the machine can start
    Processes,
    /// The same in the simulator, up to large machines
    Simulated,
    /// Other systems with the same tasks
    Peers,
}

impl Section {
    /// As on the command line and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Section::Strong => "strong",
            Section::Weak => "weak",
            Section::Throughput => "throughput",
            Section::Latency => "latency",
            Section::Metg => "metg",
            Section::Processes => "processes",
            Section::Simulated => "simulated",
            Section::Peers => "peers",
        }
    }

    /// What it runs, in a line.
    pub fn title(self) -> &'static str {
        match self {
            Section::Strong => "the same tasks on more and more workers",
            Section::Weak => "ten tasks for each of more and more workers",
            Section::Throughput => "tasks that do nothing, in bundles of 1 to 10 million",
            Section::Latency => "one task at a time",
            Section::Metg => "tasks from 1 ms down to 30 ns",
            Section::Processes => "processes of /bin/true, and what the machine can start",
            Section::Simulated => "the same figures in the simulator",
            Section::Peers => "other systems, installed into a folder of their own",
        }
    }

    /// How long it takes, roughly: for people who wait.
    pub fn about_seconds(self, bench: &Bench) -> f64 {
        match self {
            Section::Strong => strong::about_seconds(bench),
            Section::Weak => weak::about_seconds(bench),
            Section::Throughput => throughput::about_seconds(bench),
            Section::Latency => latency::about_seconds(bench),
            Section::Metg => metg::about_seconds(bench),
            Section::Processes => processes::about_seconds(bench),
            Section::Simulated => simulated::about_seconds(bench),
            Section::Peers => peers::about_seconds(bench),
        }
    }

    /// The options that its figures depend on.
    pub fn options(self, run: &RunOptions) -> Result<Options> {
        let list = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let mut options = Options::new();
        let mut add = |name: &str, value: String| drop(options.insert(name.to_owned(), value));
        if run.quick {
            add("quick", "yes".to_owned());
        }
        let is_simulated = self == Section::Simulated;
        if !is_simulated {
            add("rounds", run.rounds().to_string());
            add("launcher", shown_words(&run.launcher, &run.launcher_args));
        }
        // Other systems run on one machine.
        if !run.nodes.is_empty() && self != Section::Peers {
            add("nodes", list(&run.nodes));
            add("ranks-per-node", run.ranks_per_node().to_string());
        } else if matches!(self, Section::Strong | Section::Weak | Section::Simulated) {
            add("workers", list(&run.workers));
        }
        if matches!(self, Section::Strong | Section::Simulated) {
            add("seconds", run.strong_seconds().to_string());
        }
        if is_simulated && run.full {
            add("full", "yes".to_owned());
        }
        if let (true, Some(model)) = (is_simulated, &run.model) {
            add("model", simulated::identity(model)?);
        }
        Ok(options)
    }

    /// What can be known to be wrong before anything is measured.
    pub fn check(self, bench: &Bench) -> Result<()> {
        match self {
            Section::Simulated => simulated::check(bench),
            _ => Ok(()),
        }
    }

    /// Measures it.
    pub fn measure(self, bench: &mut Bench) -> Result<Record> {
        match self {
            Section::Strong => strong::measure(bench),
            Section::Weak => weak::measure(bench),
            Section::Throughput => throughput::measure(bench),
            Section::Latency => latency::measure(bench),
            Section::Metg => metg::measure(bench),
            Section::Processes => processes::measure(bench),
            Section::Simulated => simulated::measure(bench),
            Section::Peers => peers::measure(bench),
        }
    }
}
