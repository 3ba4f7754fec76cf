//! `myriarch bench calibrate`: measures what a machine takes for what the simulator reckons with, and writes it down as a
//! model for `myriarch simulate --model FILE`.
//!
//! | file | what it measures |
//! |---|---|
//! | `links` | messages, over the fabric |
//! | `timed` | a rank's time outside of the fabric |
//! | `work` | tasks, over the scheduler |
//! | `files` | files |
//! | `model`, `sheet` | nothing: they put the figures into words |
//!
//! The figures are those that the simulator uses, as it uses them: `src/simulate/model.rs`.

mod files;
mod links;
mod model;
mod sheet;
mod timed;
mod work;

use crate::cli::{EXIT_OK, EXIT_UNFINISHED, EXIT_USAGE};
use crate::drive::RankReport;
use crate::execute::Spawner;
use crate::fabric::{self, Fabric, HostIdentity, MpiFabric};
use crate::observe::text::of;
use crate::schedule::{decode, encode};
use crate::task::Rank;
use anyhow::{Context, bail};
use files::{FileTimes, Folder};
use links::LinkTimes;
use model::{Files, Found, RankTimes};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Writes the model there [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Seconds for each of up to nine measurements, about
    #[arg(long, value_name = "S", default_value = "1", value_parser = parse_seconds)]
    seconds: Duration,
    /// Ranks that count as one node, a part of all without a rest [default: those that share memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ranks_per_node: Option<u32>,
    /// Files are made in a new folder there [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|time| !time.is_zero()).ok_or_else(|| format!("\"{text}\" is no number of seconds above 0"))
}

/// Who takes part in what, and where files are made; rank 0 decides.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    /// A rank on the node of rank 0.
    near: Option<Rank>,
    /// One on another node.
    far: Option<Rank>,
    nodes: u32,
    folder: PathBuf,
}

/// What each rank tells at the end.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told {
    /// Outside of the fabric for each message, one task at a time. Nanoseconds.
    per_message_ns: f64,
    /// Outside of the fabric while processes ran.
    for_processes_ns: f64,
    /// What making a file took; 0 where it could make none.
    create_ns: f64,
}

pub(super) fn main(args: &Args) -> anyhow::Result<i32> {
    if !fabric::under_launcher() {
        bail!("messages are measured between ranks: mpiexec -n 2 myriarch bench calibrate");
    }
    // Forked and asked before MPI starts.
    let spawner = Spawner::prepare().context("cannot prepare a spawner")?;
    let report = RankReport::of_this_process();
    let all = match MpiFabric::start() {
        Ok(fabric) => fabric,
        Err(error) => return super::refused(&error),
    };
    match measure(all, spawner, &report, args) {
        Ok(status) => Ok(status),
        Err(error) => {
            // The others would wait for this rank.
            eprintln!("myriarch: {error:#}");
            fabric::leave(EXIT_UNFINISHED)
        }
    }
}

/// Agrees on a plan and follows it. All ranks learn why there is none.
fn measure(mut all: MpiFabric, spawner: Spawner, report: &RankReport, args: &Args) -> anyhow::Result<i32> {
    let reports = all.gather(encode(report))?;
    let is_first = reports.is_some();
    let (mut folder, mut refusal) = (None, None);
    let told = reports.map(|reports| {
        let planned = plan(&reports, args).map_err(|error| refusal = Some(error)).ok();
        let (plan, made) = planned.unzip();
        folder = made;
        encode(&plan)
    });
    let told = all.broadcast(told)?;
    let Some(plan) = decode::<Option<Plan>>(&told).context("the ranks do not understand each other")? else {
        Box::new(all).finish(false);
        let Some(why) = refusal else { return Ok(EXIT_OK) };
        eprintln!("myriarch: {why:#}");
        return Ok(EXIT_USAGE);
    };
    let found = follow(&mut all, &plan, spawner, report, args)?;
    Box::new(all).finish(false);
    drop(folder);
    if is_first {
        let found = found.context("rank 0 has measured nothing")?;
        let text = model::text(&found)?;
        match &args.out {
            Some(path) => {
                std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
                println!("written; try: myriarch simulate --model {}", path.display());
            }
            None => std::io::stdout().write_all(text.as_bytes()).context("cannot print")?,
        }
    }
    Ok(EXIT_OK)
}

/// What rank 0 decides, and the folder that it has made. All that is given is looked at before anything is made.
fn plan(reports: &[Vec<u8>], args: &Args) -> anyhow::Result<(Plan, Folder)> {
    let reports: Vec<RankReport> = reports.iter().map(|report| decode(report)).collect::<Result<_, _>>()?;
    check_ranks_per_node(args.ranks_per_node, reports.len() as u32)?;
    let part = |rank: usize| args.ranks_per_node.map_or(0, |width| rank / width as usize);
    let nodes: Vec<_> = reports.iter().enumerate().map(|(rank, report)| (&report.host, part(rank))).collect();
    let rank_where = |near: bool| {
        let place = nodes.iter().skip(1).position(|node| (node == &nodes[0]) == near);
        place.map(|place| Rank(place as u32 + 1))
    };
    let (near, far) = (rank_where(true), rank_where(false));
    if near.is_none() && far.is_none() {
        bail!("there is one rank, and two are needed: mpiexec -n 2 myriarch bench calibrate");
    }
    let place = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let folder = Folder::make(&place).with_context(|| format!("cannot make a folder in {}", place.display()))?;
    if let Some(path) = &args.out {
        try_to_write(path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let nodes: BTreeSet<_> = nodes.into_iter().collect();
    for crowd in crowds(&reports) {
        eprintln!("myriarch: {crowd}");
    }
    Ok((Plan { near, far, nodes: nodes.len() as u32, folder: folder.path().to_owned() }, folder))
}

fn check_ranks_per_node(width: Option<u32>, ranks: u32) -> anyhow::Result<()> {
    match width {
        Some(width) if width > ranks => {
            bail!("--ranks-per-node {width}: there are no more than {}", of(ranks.into(), "rank"))
        }
        Some(width) if !ranks.is_multiple_of(width) => {
            bail!("--ranks-per-node {width}: {} are no such nodes without a rest", of(ranks.into(), "rank"))
        }
        _ => Ok(()),
    }
}

/// What is there stays until there is something better, and what is not there is made when there is something to write.
fn try_to_write(path: &Path) -> io::Result<()> {
    let is_new = !path.exists();
    OpenOptions::new().append(true).create(true).open(path)?;
    if is_new { fs::remove_file(path) } else { Ok(()) }
}

/// Machines with more ranks than cores, in words.
fn crowds(reports: &[RankReport]) -> Vec<String> {
    let hosts: BTreeSet<&HostIdentity> = reports.iter().map(|report| &report.host).collect();
    let crowd = |host: &HostIdentity| {
        let on_host = || reports.iter().filter(|report| report.host == *host);
        let ranks = on_host().count() as u64;
        // A launcher may have given each rank a part of them.
        let cores: BTreeSet<u32> = on_host().flat_map(|report| report.cores.mask.iter().copied()).collect();
        let cores = cores.len() as u64;
        (cores > 0 && ranks > cores).then(|| {
            format!(
                "{} on {}: figures are then those of waiting for a core, and not those of the machine. Start as many ranks as \
                 there are cores, or fewer",
                of(ranks, "rank"),
                of(cores, "core")
            )
        })
    };
    hosts.into_iter().filter_map(crowd).collect()
}

/// Says what is measured now, where it is this rank's to say: for as long as --seconds there is nothing else to see.
fn say(is_mine: bool, what: &str) {
    if is_mine {
        eprintln!("myriarch: measuring {what}");
    }
}

fn follow(
    all: &mut MpiFabric,
    plan: &Plan,
    spawner: Spawner,
    report: &RankReport,
    args: &Args,
) -> anyhow::Result<Option<Found>> {
    let (me, ranks, length) = (all.rank(), all.size(), args.seconds);
    let pair = plan.near.or(plan.far);
    let with = |peer: Option<Rank>| peer.is_some() && (me == Rank::MANAGER || peer == Some(me));
    // Before anything is measured: who is not concerned sleeps meanwhile.
    let (near, far) = (all.part(with(plan.near))?, all.part(with(plan.far))?);
    let [one_by_one, functions, processes] = [all.part(with(pair))?, all.part(with(pair))?, all.part(with(pair))?];
    let link = |fabric: Option<MpiFabric>| -> anyhow::Result<Option<LinkTimes>> {
        Ok(fabric.map(|fabric| links::measure(Box::new(fabric), length)).transpose()?.flatten())
    };
    let is_first = me == Rank::MANAGER;
    say(is_first && near.is_some(), "messages between ranks of a node");
    let near = link(near)?;
    say(is_first && far.is_some(), "messages between ranks of two nodes");
    let far = link(far)?;
    let (mut told, mut times) = (Told::default(), RankTimes::default());
    if let (Some(one_by_one), Some(functions), Some(processes)) = (one_by_one, functions, processes) {
        const WARM_UP: u64 = 20;
        say(is_first, "tasks one at a time");
        let play = |session: &_| work::latency(session, length);
        let (latency, work) = work::with_two(Box::new(one_by_one), None, report, WARM_UP, play)?;
        told.per_message_ns = undisturbed(work.by_message);
        say(is_first, "calls of functions");
        let play = |session: &_| Ok((work::call(session, length)?, work::batch_gap(session, 2 * length)?));
        let (functions, _) = work::with_two(Box::new(functions), None, report, 0, play)?;
        say(is_first, "processes");
        let play = |session: &_| work::processes(session, length);
        let (processes, work) = work::with_two(Box::new(processes), Some(spawner), report, 0, play)?;
        told.for_processes_ns = work.outside.as_nanos() as f64;
        if let (Some(latency), Some((call, gap)), Some((process, count))) = (latency, functions, processes) {
            say(is_first, "the work for each range of a report");
            let (range, manager_message) = (work::range(length / 2)?, told.per_message_ns);
            times = RankTimes { latency, manager_message, range, call, gap, process, processes: count, ..times };
        }
    }
    say(is_first, "files");
    let file_times = files_of(all, plan, &mut told, length)?;
    let Some(told) = all.gather(encode(&told))? else { return Ok(None) };
    let told: Vec<Told> = told.iter().map(|told| decode(told)).collect::<Result<_, _>>()?;
    let other = &told[pair.map_or(0, |rank| rank.position())];
    times.worker_message = other.per_message_ns;
    times.starting = other.for_processes_ns / times.processes.max(1) as f64;
    let creates: Vec<f64> = told.iter().map(|told| told.create_ns).filter(|create| *create > 0.0).collect();
    let (makers, per_second) = (creates.len() as u32, creates.iter().map(|create| 1e9 / create).sum());
    let create = told[0].create_ns;
    let FileTimes { write, sync } = file_times;
    Ok(Some(Found {
        date: model::today(),
        mpi: fabric::environment().version,
        ranks,
        nodes: plan.nodes,
        near,
        far,
        times,
        files: Files { write, sync, create, per_second, makers },
    }))
}

/// Rank 0 appends; then all ranks that see the folder make files, side by side.
fn files_of(all: &mut MpiFabric, plan: &Plan, told: &mut Told, length: Duration) -> anyhow::Result<FileTimes> {
    let is_first = all.rank() == Rank::MANAGER;
    let cause = || format!("cannot use {}", plan.folder.display());
    let times = if is_first { files::measure(&plan.folder, length).with_context(cause)? } else { FileTimes::default() };
    all.broadcast(is_first.then(Vec::new))?;
    told.create_ns = match files::make_many(&plan.folder, all.rank().0, length) {
        Err(error) if is_first => return Err(error).with_context(cause),
        made => made.unwrap_or_default(),
    };
    Ok(times)
}

/// The median; 0 of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// What a thing takes while nothing else has the core: so much that a tenth of the times are no longer. 0 of none.
fn undisturbed(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 10).copied().unwrap_or(0.0)
}

/// [`undisturbed`] of samples that are taken for so long; three at least, and the first tenth does not count.
fn sampled<E>(length: Duration, mut sample: impl FnMut() -> Result<f64, E>) -> Result<f64, E> {
    let (start, mut samples) = (Instant::now(), Vec::new());
    while samples.len() < 3 || start.elapsed() < length {
        samples.push(sample()?);
    }
    samples.drain(..samples.len() / 10);
    Ok(undisturbed(samples))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execute::RankCores;

    fn report(host: &str, cores: &[u32]) -> RankReport {
        let host = HostIdentity { name: host.to_owned(), boot_id: String::new() };
        let cores = RankCores { mask: cores.to_vec(), ..RankCores::default() };
        RankReport::without_processes(host, cores)
    }

    #[test]
    fn nodes_are_a_part_of_all_ranks_without_a_rest() {
        for (width, ranks) in [(None, 3), (Some(1), 4), (Some(2), 4), (Some(4), 4)] {
            assert!(check_ranks_per_node(width, ranks).is_ok(), "{width:?} of {ranks}");
        }
        let refused = |width, ranks| check_ranks_per_node(Some(width), ranks).expect_err("nonsense").to_string();
        assert_eq!(refused(3, 4), "--ranks-per-node 3: 4 ranks are no such nodes without a rest");
        assert_eq!(refused(8, 4), "--ranks-per-node 8: there are no more than 4 ranks");
    }

    #[test]
    fn a_machine_with_more_ranks_than_cores_is_told_and_no_other() {
        assert!(crowds(&[report("a", &[0, 1]), report("a", &[0, 1])]).is_empty());
        assert!(crowds(&[report("a", &[0]), report("a", &[1]), report("b", &[0])]).is_empty(), "each has its own");
        let crowded = crowds(&[report("a", &[0, 1]), report("b", &[0]), report("b", &[0])]);
        assert_eq!(crowded.len(), 1, "{crowded:?}");
        assert!(crowded[0].starts_with("2 ranks on 1 core: figures are then those of waiting"), "{crowded:?}");
    }

    #[test]
    fn trying_to_write_makes_no_file_and_leaves_the_one_that_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("here.toml");
        try_to_write(&path).expect("it can be made");
        assert!(!path.exists());
        fs::write(&path, "x").expect("it is made");
        try_to_write(&path).expect("it can be written");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "x");
        assert!(try_to_write(&folder.path().join("none/here.toml")).is_err());
    }
}
