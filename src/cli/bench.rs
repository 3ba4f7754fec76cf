//! `myriarch bench`: parts of Myriarch measured on this machine, beside what the machine itself can do.

#[cfg(feature = "mpi")]
mod calibrate;
mod latency;
mod metg;
mod null;
mod session;

use crate::execute::{Spawner, bench};
use crate::fabric::StartError;
use crate::observe::text::of;
use anyhow::Context;
use clap::Subcommand;

/// Measures parts of Myriarch on this machine
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Processes started per second: bare loops of posix_spawn and waitpid, and the executor of a rank
    Spawn {
        /// Loops side by side, and slots of the executor
        #[arg(long, default_value_t = 2)]
        slots: u32,
        /// Seconds for each measurement
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// Only the bare loops
        #[arg(long)]
        bare: bool,
    },
    /// What Myriarch itself costs: the real scheduler on real ranks, with tasks that end as soon as they are started
    Null(null::Args),
    /// One task at a time: how long from rank 0 through a worker on another rank and back
    Latency(latency::Args),
    /// The smallest tasks that keep the cores half busy: METG(50 %) with its curve, as Task Bench defines it
    Metg(metg::Args),
    /// What messages, calls, processes and files take here, as a model for myriarch simulate --model
    ///
    /// Under mpiexec, with two ranks or more: mpiexec -n 2 myriarch bench calibrate --out here.toml. Where ranks are on
    /// several nodes, messages are measured between nodes too. Each figure says how it was got; what cannot be measured
    /// with these ranks is an estimate, and says so.
    #[cfg(feature = "mpi")]
    Calibrate(calibrate::Args),
}

/// Runs a benchmark and prints what it found.
///
/// # Errors
/// Processes cannot be started, or the ranks not brought together.
pub fn main(args: Args) -> anyhow::Result<i32> {
    match args.what {
        What::Spawn { slots, seconds, bare } => spawn(slots, seconds, bare),
        What::Null(args) => null::main(&args),
        What::Latency(args) => latency::main(&args),
        What::Metg(args) => metg::main(&args),
        #[cfg(feature = "mpi")]
        What::Calibrate(args) => calibrate::main(&args),
    }
}

/// One process says why nothing ran.
fn refused(error: &StartError) -> anyhow::Result<i32> {
    if error.is_ours_to_tell() {
        eprintln!("myriarch: {error}");
    }
    Ok(error.exit_status())
}

fn spawn(slots: u32, seconds: f64, bare: bool) -> anyhow::Result<i32> {
    // Forked while this process has one thread.
    let spawner = Spawner::prepare().context("cannot prepare a spawner")?;
    let ceiling = bench::spawn_ceiling(slots, seconds).context("the bare loops failed")?;
    let loops = of(slots.into(), "bare loop");
    println!("{loops} of posix_spawn and waitpid of /bin/true: {ceiling:.0} /s");
    if !bare {
        let rate = bench::executor_rate(spawner, &vec![None; slots as usize], seconds)?;
        let slots = of(slots.into(), "slot");
        println!("the executor of one rank with {slots}: {rate:.0} /s, {:.2} of the bare loops", rate / ceiling);
    }
    Ok(super::EXIT_OK)
}
