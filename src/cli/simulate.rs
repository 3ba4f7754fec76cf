//! `myriarch simulate`: the scheduler at any scale, on a virtual machine; and small runs of it in which much goes wrong.

mod star;
mod trials;

use super::EXIT_OK;
use crate::observe::text::{count, of, rate};
use crate::schedule::Policy;
use crate::simulate::{
    Drawn, Durations, Figures, Layout, Model, OnBadNodes, Simulation, list_scheduling_makespan_ns, simulate,
};
use crate::task::{Resources, Shape};
use anyhow::{Context, bail};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// Runs the scheduler on a virtual machine
///
/// The ranks' own state machines run under a virtual clock; what messages, processors and files take is what a model says.
/// All figures are simulated.
///
/// With --faults, machine, tasks and what goes wrong are drawn from a seed, but for what is given; the invariants are checked
/// after every event. The same seed does the same.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Nodes [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    nodes: Option<u32>,
    /// Ranks on each node [default: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ranks_per_node: Option<u32>,
    /// Slots of each rank [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    slots: Option<u32>,
    /// All tasks [default: ten for each slot]
    #[arg(long, value_name = "N")]
    tasks: Option<u64>,
    /// How long they take: 0, 10ms, lognormal:MEAN,SIGMA, exp:MEAN, bimodal:SHORT,LONG,SHARE_OF_LONG or trace:FILE
    /// [default: 10ms]
    #[arg(long, value_name = "TIME")]
    duration: Option<String>,
    /// Tasks are processes, not functions
    #[arg(long)]
    processes: bool,
    /// Most children of a rank [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    fan_out: Option<u32>,
    /// Rank 0's node runs no tasks, where there are several
    #[arg(long)]
    dedicated_manager: bool,
    /// What the machine is like: local, slingshot, infiniband, gemini, or a file in TOML [default: local]
    #[arg(long, value_name = "NAME|FILE")]
    model: Option<String>,
    /// Runs with faults: the one of this seed, or those of all seeds from FIRST to before END
    #[arg(long, value_name = "SEED|FIRST..END", value_parser = trials::parse_seeds,
          conflicts_with_all = ["processes", "dedicated_manager", "seed"])]
    faults: Option<std::ops::Range<u64>>,
    /// A flat star in place of Myriarch's tree, to compare with: a hub beside the nodes hands each task to each worker itself,
    /// three messages a task
    #[arg(long, conflicts_with_all = ["processes", "dedicated_manager", "fan_out", "faults"])]
    star: bool,
    /// Tasks a second that the hub of the star can do [default: what a rank of the model takes for its messages]
    #[arg(long, value_name = "N", requires = "star", conflicts_with = "faults", value_parser = star::parse_rate)]
    hub_rate: Option<f64>,
    /// On these nodes every task fails after 1 ms, whatever it is
    #[arg(long, value_name = "NODE,NODE,…", value_delimiter = ',', conflicts_with_all = ["star", "faults"])]
    bad_node: Vec<u32>,
    /// With --bad-node: further attempts that a failed task may have [default: 3]
    #[arg(long, value_name = "N", requires = "bad_node", conflicts_with_all = ["star", "faults"])]
    retries: Option<u32>,
    /// Outcomes leave no records that would travel or be kept in files: what the scheduler can do by itself
    #[arg(long, conflicts_with_all = ["star", "faults"])]
    no_records: bool,
    /// Of the durations that are drawn
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    duration: String,
    seed: u64,
    layout: Layout,
    records: bool,
    processes: bool,
    bad_nodes: Vec<u32>,
    retries: u32,
    /// What list scheduling of the same tasks takes where nothing but they takes time.
    list_scheduling_seconds: f64,
    #[serde(flatten)]
    figures: Figures,
    /// Not of virtual time.
    simulated_in_seconds: f64,
}

/// Most ranks, for which a simulation takes up to some 80 GB.
const MOST_RANKS: u64 = 1 << 22;

/// A run that takes longer than ten years of virtual time is taken for one that does not end.
const UNTIL_NS: u64 = 10 * 365 * 24 * 3_600_000_000_000;

/// Simulates and prints what came out.
///
/// # Errors
/// Bad input, or a run that does not end or breaks a rule of the protocol.
pub fn main(args: &Args) -> anyhow::Result<i32> {
    if args.tasks == Some(0) {
        bail!("--tasks 0: there is nothing to run");
    }
    if let Some(seeds) = &args.faults {
        return trials::run(args, seeds.clone());
    }
    let name = args.model.clone().unwrap_or_else(|| "local".to_owned());
    let model = match Model::names().contains(&name.as_str()) {
        true => Model::named(&name)?,
        // What has no folder and no ending is meant as a name, unless there is such a file.
        false if !name.contains(['/', '.']) && !Path::new(&name).exists() => Model::named(&name)?,
        false => Model::read(Path::new(&name))?,
    };
    let layout = Layout {
        nodes: args.nodes.unwrap_or(1),
        ranks_per_node: args.ranks_per_node.unwrap_or(32),
        slots: args.slots.unwrap_or(1),
        fan_out: args.fan_out.unwrap_or(64),
        dedicated_manager: args.dedicated_manager,
    };
    let slots = layout.all_slots().filter(|slots| *slots > 0);
    let slots = slots.context("--nodes times --ranks-per-node times --slots: there are too many slots, or none")?;
    let ranks = u64::from(layout.nodes) * u64::from(layout.ranks_per_node);
    if ranks > MOST_RANKS {
        bail!("{} are too many: at most {} can be simulated", of(ranks, "rank"), count(MOST_RANKS));
    }
    let tasks = args.tasks.unwrap_or(10 * slots);
    if let Some(node) = args.bad_node.iter().find(|node| **node >= layout.nodes) {
        bail!("--bad-node {node}: the nodes are 0 to {}", layout.nodes - 1);
    }
    if layout.dedicated_manager && layout.nodes > 1 && args.bad_node.contains(&0) {
        bail!("--bad-node 0: with --dedicated-manager no task runs there");
    }
    let retries = args.retries.unwrap_or(if args.bad_node.is_empty() { 0 } else { 3 });
    let shape = Shape { resources: Resources::ONE_CORE, retries, calls: !args.processes };
    let durations = Durations::parse(args.duration.as_deref().unwrap_or("10ms"))?;
    let drawn = Drawn { tasks, shape, durations, seed: args.seed };
    if args.star {
        return star::run(args, &name, model.numbers(), &layout, &drawn);
    }
    let began = Instant::now();
    let what = Simulation {
        layout,
        numbers: model.numbers(),
        policy: Policy::default(),
        records: !args.no_records,
        until: UNTIL_NS,
    };
    let figures = if args.bad_node.is_empty() {
        simulate(&what, &drawn)?
    } else {
        simulate(&what, &OnBadNodes { drawn: drawn.clone(), layout, nodes: args.bad_node.clone() })?
    };
    let simulated_in_seconds = began.elapsed().as_secs_f64();
    let report = Report {
        model: name,
        duration: drawn.durations.to_string(),
        seed: args.seed,
        layout,
        records: !args.no_records,
        processes: args.processes,
        bad_nodes: args.bad_node.clone(),
        retries,
        list_scheduling_seconds: list_scheduling_seconds(&drawn, slots),
        figures,
        simulated_in_seconds,
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        tell(&report);
    }
    Ok(EXIT_OK)
}

fn list_scheduling_seconds(drawn: &Drawn, slots: u64) -> f64 {
    let each = (0..drawn.tasks).map(|index| drawn.durations.duration_ns(drawn.seed, index));
    list_scheduling_makespan_ns(each, slots as usize) as f64 / 1e9
}

fn tell(report: &Report) {
    let Report { layout, figures, .. } = report;
    let Layout { nodes, ranks_per_node, slots, dedicated_manager, .. } = layout;
    println!("simulated, model {}, seed {}:", report.model, report.seed);
    println!(
        "  {} of {} on {} ({} × {} × {slots}{})",
        of(figures.tasks, "task"),
        report.duration,
        of(figures.slots, "slot"),
        of(u64::from(*nodes), "node"),
        of(u64::from(*ranks_per_node), "rank"),
        if *dedicated_manager { ", without those beside the manager" } else { "" }
    );
    println!(
        "  makespan     {:.6} s, the last task ended after {:.6} s; list scheduling at no cost {:.6} s",
        figures.makespan_seconds, figures.last_end_seconds, report.list_scheduling_seconds
    );
    println!("  rate         {}; plateau {}", rate(figures.tasks_per_second), rate(figures.plateau_tasks_per_second));
    if figures.failed_attempts > 0 {
        let (attempts, tasks) = (count(figures.failed_attempts), count(figures.failed_tasks));
        let benched: Vec<String> = figures.benched_nodes.iter().map(u32::to_string).collect();
        let benched = if benched.is_empty() { "none".to_owned() } else { benched.join(", ") };
        println!("  failed       {attempts} attempts, {tasks} tasks for good; benched nodes: {benched}");
    }
    println!("  utilisation  {:.2} %", 100.0 * figures.utilisation);
    println!(
        "  depth     ranks   busy: mean     most   sent down: messages   bytes   up to it: messages    bytes   longest queue"
    );
    for level in &figures.levels {
        println!(
            "  {:>5} {:>9}   {:>8.3} % {:>8.3} % {:>13} {:>13} {:>12} {:>13} {:>15}",
            level.depth,
            level.ranks,
            100.0 * level.mean_busy,
            100.0 * level.most_busy,
            level.down.messages,
            level.down.bytes,
            level.up.messages,
            level.up.bytes,
            level.queue_peak
        );
    }
    println!(
        "  rank 0 received {}; the busiest rank is {}, {:.2} % of the time",
        of(figures.manager_messages, "message"),
        figures.busiest_rank,
        100.0 * figures.busiest_rank_busy
    );
    println!(
        "  files        {} made, {}, {}",
        count(figures.file_creates),
        of(figures.file_writes, "append"),
        of(figures.file_bytes, "byte")
    );
    let (events, seconds) = (of(figures.events, "event"), report.simulated_in_seconds);
    println!("  {events} simulated in {seconds:.1} s; trace {}", figures.trace);
}
