//! `myriarch doctor`: what this machine, its MPI and its file system can and cannot do, one plain line per finding.
//! Started with mpiexec it looks at every rank, and rank 0 tells. It changes nothing but a file that it removes again.

mod findings;
mod probe;

use crate::fabric::{self, HostIdentity, LossSurvival};
use crate::task::io_cause;
use anyhow::Context;
use findings::{Finding, Machine, Verdict};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Shows what this machine, its MPI and its file system can and cannot do.
///
/// Start it as you would start a run (`mpiexec -n 4 myriarch doctor`) to see what a run would get.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder whose file system is measured: where a run would keep its results
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Prints JSON, one object per finding
    #[arg(long)]
    json: bool,
}

/// What one rank knows of its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RankFacts {
    host: HostIdentity,
    /// Cores that this rank may use.
    cores: Vec<u32>,
    /// NUMA nodes of those cores.
    numa: Vec<u32>,
    /// Cores that the machine has.
    machine_cores: u32,
    /// Why a thread cannot be pinned; empty when it can.
    pinning: String,
}

/// Looks around and prints what was found. Returns the exit status: 0, also with warnings; 2 under the launcher of
/// another MPI.
///
/// # Errors
/// The ranks cannot be brought together, or standard output is closed.
pub fn main(args: Args) -> anyhow::Result<i32> {
    if fabric::under_launcher() {
        return under_launcher(&args);
    }
    tell(&args, vec![probe::rank_facts()], vec![findings::alone(compiled_mpi())]).map(|()| super::EXIT_OK)
}

#[cfg(feature = "mpi")]
fn under_launcher(args: &Args) -> anyhow::Result<i32> {
    use crate::fabric::{Fabric, MpiFabric};
    // Before MPI binds anything.
    let facts = probe::rank_facts();
    let mut fabric = match MpiFabric::start() {
        Ok(fabric) => Box::new(fabric),
        Err(error) => return refused(&error),
    };
    let gathered = fabric.gather(postcard::to_stdvec(&facts)?).context("cannot ask the other ranks")?;
    let mpi = fabric::environment();
    // What follows starts processes, which is best done where MPI is no longer at work.
    fabric.finish(false);
    if let Some(parts) = gathered {
        let facts = parts.iter().map(|part| postcard::from_bytes(part)).collect::<Result<Vec<RankFacts>, _>>();
        let first = vec![findings::mpi(&mpi.version, mpi.thread_level), findings::loss(&mpi.launcher, &mpi.loss)];
        tell(args, facts.context("a rank told nonsense")?, first)?;
    }
    Ok(super::EXIT_OK)
}

#[cfg(not(feature = "mpi"))]
fn under_launcher(args: &Args) -> anyhow::Result<i32> {
    if let Err(error) = fabric::refuse_launcher() {
        return refused(&error);
    }
    tell(args, vec![probe::rank_facts()], vec![findings::alone(compiled_mpi())]).map(|()| super::EXIT_OK)
}

/// One process says why nothing ran.
fn refused(error: &fabric::StartError) -> anyhow::Result<i32> {
    if error.is_ours_to_tell() {
        writeln!(std::io::stderr(), "myriarch: {error}")?;
    }
    Ok(error.exit_status())
}

/// The MPI that this program was built with.
fn compiled_mpi() -> Option<String> {
    #[cfg(feature = "mpi")]
    return Some(fabric::environment().version);
    #[cfg(not(feature = "mpi"))]
    None
}

/// Measures what one process measures for all, judges, and prints.
fn tell(args: &Args, ranks: Vec<RankFacts>, first: Vec<Finding>) -> anyhow::Result<()> {
    let cores = ranks.first().map_or(1, |rank| rank.cores.len().max(1)) as u32;
    let machine = Machine {
        ranks,
        starts_per_second: probe::spawn_rate(cores),
        starters: cores,
        files: probe::files(&args.dir).map_err(|error| io_cause(&error)),
        dir: absolute(&args.dir),
    };
    let all: Vec<_> = first.into_iter().chain(machine.findings()).collect();
    let mut out = std::io::stdout().lock();
    if args.json {
        for finding in &all {
            serde_json::to_writer(&mut out, finding)?;
            writeln!(out)?;
        }
    } else {
        let width = all.iter().map(|finding| finding.topic.len()).max().unwrap_or(0);
        for Finding { topic, verdict, text, todo, .. } in &all {
            writeln!(out, "{verdict:<7}  {topic:<width$}  {text}")?;
            if !todo.is_empty() {
                writeln!(out, "{:<7}  {:<width$}  -> {todo}", "", "")?;
            }
        }
        let warnings = all.iter().filter(|finding| finding.verdict == Verdict::Warning).count();
        match warnings {
            0 => writeln!(out, "Nothing stands in the way.")?,
            1 => writeln!(out, "One thing to look at.")?,
            more => writeln!(out, "{more} things to look at.")?,
        }
    }
    out.flush().context("cannot print")
}

fn absolute(dir: &Path) -> String {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()).display().to_string()
}

/// How the loss of a rank reads in `--json`.
fn loss_word(loss: &LossSurvival) -> &'static str {
    match loss {
        LossSurvival::Survives => "survives",
        LossSurvival::Ends(_) => "ends",
        LossSurvival::Unknown(_) => "unknown",
    }
}
