//! `myriarch bench null`: what Myriarch itself costs, measured with tasks that cost nothing. It starts the ranks and
//! prints; what they do is in `drive`.

use crate::cli::{EXIT_OK, EXIT_UNFINISHED, EXIT_USAGE};
use crate::drive::{DriveError, NullFigures, NullRun, run_null};
use crate::fabric::{self, Fabric, ThreadFabric};
use crate::observe::text::of;
use crate::task::{Source, TemplateOptions, write_bundle};
use anyhow::Context;
use serde::Serialize;
use std::io::Write;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Tasks; they are numbers of an array and end as soon as they are started
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    tasks: u64,
    /// Ranks, as threads of this process, when no launcher started it [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ranks: Option<u32>,
    /// Ranks that count as one node [default: those that share memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ranks_per_node: Option<u32>,
    /// Most children of a rank in the tree
    #[arg(long, value_name = "N", default_value_t = crate::schedule::FAN_OUT, value_parser = clap::value_parser!(u32).range(2..))]
    fan_out: u32,
    /// Slots of each rank
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    slots: u32,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

const DEFAULT_RANKS: u32 = 8;

/// What is printed.
#[derive(Debug, Serialize)]
struct Figures {
    tasks: u64,
    ranks: u32,
    nodes: u32,
    levels: u8,
    slots: u64,
    seconds: f64,
    tasks_per_second: f64,
    manager_messages: u64,
    manager_messages_per_100_tasks: f64,
    manager_bytes: u64,
    manager_busy: f64,
    /// Most memory that the process of rank 0 has had resident; with ranks as threads, that of all ranks.
    resident_bytes: Option<u64>,
}

pub(super) fn main(args: &Args) -> anyhow::Result<i32> {
    if fabric::under_launcher() { launched(args) } else { alone(args) }
}

#[cfg(feature = "mpi")]
fn launched(args: &Args) -> anyhow::Result<i32> {
    if args.ranks.is_some() && fabric::is_first_of_launch() {
        anyhow::bail!("--ranks makes ranks of threads; under a launcher its processes are the ranks");
    } else if args.ranks.is_some() {
        return Ok(EXIT_OK);
    }
    match fabric::MpiFabric::start() {
        Ok(fabric) => play(Box::new(fabric), args),
        Err(error) => super::refused(&error),
    }
}

#[cfg(not(feature = "mpi"))]
fn launched(args: &Args) -> anyhow::Result<i32> {
    match fabric::refuse_launcher() {
        Ok(()) => alone(args),
        Err(error) => super::refused(&error),
    }
}

/// Ranks are threads of this process.
fn alone(args: &Args) -> anyhow::Result<i32> {
    let ranks = args.ranks.unwrap_or(DEFAULT_RANKS);
    let mut fabrics = ThreadFabric::group(ranks).with_context(|| format!("cannot connect {ranks} ranks"))?;
    let first = fabrics.remove(0);
    std::thread::scope(|scope| {
        for fabric in fabrics {
            scope.spawn(move || run_null(Box::new(fabric), None).unwrap_or_else(|error| fail(&error)));
        }
        play(Box::new(first), args)
    })
}

/// A rank cannot go on, and the others would wait for it.
fn fail(error: &DriveError) -> ! {
    eprintln!("myriarch: {error}");
    fabric::leave(EXIT_UNFINISHED)
}

fn play(fabric: Box<dyn Fabric>, args: &Args) -> anyhow::Result<i32> {
    let wanted = if fabric.rank() == crate::task::Rank::MANAGER {
        let bundle = symbolic(args.tasks).unwrap_or_else(|error| {
            eprintln!("myriarch: {error:#}");
            fabric::leave(EXIT_USAGE)
        });
        Some(NullRun { bundle, slots: args.slots, ranks_per_node: args.ranks_per_node, fan_out: args.fan_out })
    } else {
        None
    };
    if let Some(figures) = run_null(fabric, wanted.as_ref()).unwrap_or_else(|error| fail(&error)) {
        tell(&figures, args.json)?;
    }
    Ok(EXIT_OK)
}

/// The bytes of a bundle of so many numbers.
fn symbolic(tasks: u64) -> anyhow::Result<Vec<u8>> {
    let command = vec![b"true".to_vec(), b"{}".to_vec()];
    let source = Source::Array { first: 0, last: tasks - 1, step: 1, command };
    let path = std::env::temp_dir().join(format!("myriarch-bench-{}", std::process::id()));
    let written = write_bundle(&source, &TemplateOptions::default(), &path);
    let bytes = std::fs::read(&path);
    let _ = std::fs::remove_file(&path);
    written?;
    bytes.with_context(|| format!("cannot read {}", path.display()))
}

fn tell(found: &NullFigures, json: bool) -> anyhow::Result<()> {
    let figures = Figures {
        tasks: found.tasks,
        ranks: found.ranks,
        nodes: found.nodes,
        levels: found.levels,
        slots: found.slots,
        seconds: found.seconds,
        tasks_per_second: if found.seconds > 0.0 { found.tasks as f64 / found.seconds } else { 0.0 },
        manager_messages: found.messages,
        manager_messages_per_100_tasks: found.messages as f64 * 100.0 / found.tasks.max(1) as f64,
        manager_bytes: found.bytes,
        manager_busy: found.manager_busy,
        resident_bytes: most_resident(),
    };
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &figures)?;
        writeln!(out)?;
    } else {
        write_text(&mut out, &figures)?;
    }
    out.flush().context("cannot print")
}

fn write_text(out: &mut impl Write, figures: &Figures) -> std::io::Result<()> {
    let Figures { tasks, ranks, nodes, levels, slots, seconds, .. } = figures;
    let (ranks, nodes, levels) =
        (of((*ranks).into(), "rank"), of((*nodes).into(), "node"), of((*levels).into(), "level"));
    let (tasks, slots) = (of(*tasks, "task"), of(*slots, "slot"));
    let cost = if figures.tasks == 1 { "costs" } else { "cost" };
    writeln!(out, "{tasks} that {cost} nothing, on {slots} of {ranks} on {nodes}, {levels} of links")?;
    writeln!(out, "  {:.0} tasks/s ({seconds:.3} s)", figures.tasks_per_second)?;
    writeln!(
        out,
        "  the manager received {} messages ({:.3} per 100 tasks), {} bytes, and was busy {:.1} % of the time",
        figures.manager_messages,
        figures.manager_messages_per_100_tasks,
        figures.manager_bytes,
        figures.manager_busy * 100.0
    )?;
    if let Some(bytes) = figures.resident_bytes {
        writeln!(out, "  resident memory of rank 0's process: {:.1} MB at most", bytes as f64 / 1e6)?;
    }
    Ok(())
}

/// The most memory that this process has had resident, where the system tells.
fn most_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
