//! `myriarch simulate`: the scheduler at any scale, on a virtual machine; and small runs of it in which much goes wrong.

mod star;
mod trials;

use super::EXIT_OK;
use crate::observe::text::{count, of, rate};
use crate::schedule::Policy;
use crate::simulate::{
    Drawn, Durations, Figures, Layout, Losses, Model, Nanos, OnBadNodes, Simulation, list_scheduling_makespan_ns,
    simulate,
};
use crate::task::{Resources, Shape, parse_duration};
use anyhow::{Context, bail, ensure};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

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
    /// Most children of a rank [default: 128]
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
    /// All ranks of these nodes die, and never come back; not node 0, where rank 0 is
    #[arg(long, value_name = "NODE,NODE,…", value_delimiter = ',', conflicts_with_all = ["star", "faults"])]
    lost_node: Vec<u32>,
    /// With --lost-node: when, from the start of the run [default: a third of what list scheduling at no cost takes]
    #[arg(long, value_name = "TIME", requires = "lost_node", value_parser = parse_duration,
          conflicts_with_all = ["star", "faults"])]
    lost_at: Option<Duration>,
    /// With --lost-node: how long they are silent until what they had runs elsewhere [default: 30s]
    ///
    /// After that time ranks below one that is lost start nothing more; after three times as long they end.
    #[arg(long, value_name = "TIME", requires = "lost_node", value_parser = parse_duration,
          conflicts_with_all = ["star", "faults"])]
    lost_after: Option<Duration>,
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
    lost_at_seconds: Option<f64>,
    lost_after_seconds: Option<f64>,
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

/// As `myriarch run` has it.
const LOST_AFTER: Duration = Duration::from_secs(30);

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
        fan_out: args.fan_out.unwrap_or(crate::schedule::FAN_OUT),
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
    let list_scheduling_ns = list_scheduling_ns(&drawn, slots);
    let losses = losses(args, &layout, list_scheduling_ns)?;
    let seconds = |ns: Nanos| ns as f64 / 1e9;
    let (lost_at_seconds, lost_after_seconds) =
        losses.as_ref().map(|losses| (seconds(losses.at), seconds(losses.patience))).unzip();
    let began = Instant::now();
    let what = Simulation {
        layout,
        numbers: model.numbers(),
        policy: Policy::default(),
        records: !args.no_records,
        losses,
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
        lost_at_seconds,
        lost_after_seconds,
        list_scheduling_seconds: seconds(list_scheduling_ns),
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

fn list_scheduling_ns(drawn: &Drawn, slots: u64) -> Nanos {
    let each = (0..drawn.tasks).map(|index| drawn.durations.duration_ns(drawn.seed, index));
    list_scheduling_makespan_ns(each, slots as usize)
}

/// The nodes that are to be lost, if any are.
fn losses(args: &Args, layout: &Layout, list_scheduling_ns: Nanos) -> anyhow::Result<Option<Losses>> {
    if args.lost_node.is_empty() {
        return Ok(None);
    }
    if let Some(node) = args.lost_node.iter().find(|node| **node >= layout.nodes) {
        bail!("--lost-node {node}: the nodes are 0 to {}", layout.nodes - 1);
    }
    ensure!(!args.lost_node.contains(&0), "--lost-node 0: rank 0 is there, and without it there is no run");
    let nanos = |option: &str, time: Duration| {
        let nanos = Nanos::try_from(time.as_nanos()).ok().filter(|nanos| *nanos <= UNTIL_NS);
        nanos.with_context(|| format!("{option}: more than ten years are not simulated"))
    };
    let patience = nanos("--lost-after", args.lost_after.unwrap_or(LOST_AFTER))?;
    ensure!(patience > 0, "--lost-after 0: nobody would be given up, and the run would never end");
    let at = args.lost_at.map(|at| nanos("--lost-at", at)).transpose()?;
    Ok(Some(Losses { nodes: args.lost_node.clone(), at: at.unwrap_or(list_scheduling_ns / 3), patience }))
}

/// What was lost, and what came of it.
fn lost(figures: &Figures, at: f64, after: f64) -> String {
    let Figures { lost_nodes, lost_slots, orphaned_slots, requeued_tasks, rerun_tasks, .. } = figures;
    if lost_nodes.is_empty() {
        return format!("nothing: the run ended before {at:.6} s");
    }
    let nodes: Vec<String> = lost_nodes.iter().map(u32::to_string).collect();
    let noun = if nodes.len() == 1 { "node" } else { "nodes" };
    format!(
        "{noun} {} after {at:.6} s, given up {after:.6} s later: {} ({} on nodes that they speak for); {} put back, {} of them run again",
        nodes.join(", "),
        of(*lost_slots, "slot"),
        count(*orphaned_slots),
        of(*requeued_tasks, "task"),
        count(*rerun_tasks)
    )
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
    if let (Some(at), Some(after)) = (report.lost_at_seconds, report.lost_after_seconds) {
        println!("  lost         {}", lost(figures, at, after));
        if after > figures.makespan_seconds / 10.0 {
            let part = 100.0 * after / figures.makespan_seconds;
            println!(
                "               --lost-after is {part:.0} % of the makespan: a longer run says more of what a loss costs"
            );
        }
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

#[cfg(test)]
mod testing {
    use super::Args;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// The options of a line without its program.
    pub(super) fn parsed(line: &str) -> Result<Args, clap::Error> {
        Line::try_parse_from(["simulate"].into_iter().chain(line.split_whitespace())).map(|line| line.args)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::parsed;
    use super::*;

    #[test]
    fn nodes_that_cannot_be_lost_are_refused() {
        for (line, why) in [
            ("--nodes 4 --lost-node 4", "--lost-node 4: the nodes are 0 to 3"),
            ("--nodes 4 --lost-node 3,0", "--lost-node 0: rank 0 is there"),
            ("--lost-node 1", "--lost-node 1: the nodes are 0 to 0"),
            ("--nodes 4 --lost-node 3 --lost-after 0", "--lost-after 0: nobody would be given up"),
            ("--nodes 4 --lost-node 3 --lost-at 4000-0:0:0", "--lost-at: more than ten years"),
            ("--nodes 4 --lost-node 3 --lost-after 9e9", "no length of time"),
        ] {
            let error = parsed(line).map_err(anyhow::Error::from).and_then(|args| main(&args)).expect_err(line);
            assert!(error.to_string().contains(why), "{line}: {error}");
        }
        for wrong in
            ["--lost-at 3", "--lost-after 3", "--lost-node 1 --star", "--lost-node 1 --faults 3", "--lost-node x"]
        {
            assert!(parsed(&format!("--nodes 4 {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nodes_are_lost_after_a_third_of_the_run_and_given_up_after_half_a_minute() {
        let layout = Layout { nodes: 4, ranks_per_node: 2, slots: 1, fan_out: 8, dedicated_manager: false };
        let losses = |line: &str| losses(&parsed(line).expect(line), &layout, 3_000).expect(line);
        assert!(losses("").is_none());
        let given = |line| losses(line).map(|Losses { nodes, at, patience }| (nodes, at, patience));
        assert_eq!(given("--lost-node 1,3"), Some((vec![1, 3], 1_000, 30_000_000_000)));
        assert_eq!(given("--lost-node 2 --lost-at 0.5 --lost-after 200ms"), Some((vec![2], 500_000_000, 200_000_000)));
    }
}
