//! `myriarch bench metg`: the smallest tasks that keep the cores half busy. The minimum effective task granularity as Task
//! Bench defines it (Slaughter et al., SC20, section IV): granularity is wall time × cores ÷ tasks, overhead and the manager
//! included; METG(50 %) is the smallest granularity at which half of the cores' time goes into tasks.

use super::session::with_session;
use crate::drive::{Session, SessionSettings};
use crate::execute::functions::Recording;
use crate::observe::text::of;
use crate::task::{Shape, array_of_calls};
use serde::Serialize;
use std::time::Instant;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Length of the longest tasks, microseconds; each point of the curve halves it
    #[arg(long, value_name = "US", default_value_t = 1000.0)]
    longest: f64,
    /// Length of the shortest tasks, microseconds
    #[arg(long, value_name = "US", default_value_t = 0.03)]
    shortest: f64,
    /// Seconds that each point takes, about
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    seconds: f64,
    /// Tasks for each slot, where they are to be a fixed number [default: as many as take so many seconds]
    #[arg(long, value_name = "N")]
    tasks_per_slot: Option<u64>,
    /// What is recorded of each task
    #[arg(long, value_enum, default_value_t)]
    record: Recording,
    /// Ranks, as threads of this process, when no launcher started it [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ranks: Option<u32>,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// One point of the curve.
#[derive(Clone, Copy, Debug, Serialize)]
struct Point {
    /// What each task spins. Microseconds.
    task_us: f64,
    tasks: u64,
    wall_seconds: f64,
    /// Wall time × cores ÷ tasks. Microseconds.
    granularity_us: f64,
    /// The share of the cores' time that went into tasks.
    efficiency: f64,
}

#[derive(Debug, Serialize)]
struct Figures {
    ranks: u32,
    cores: u64,
    recording: Recording,
    /// None where no point reached a half, or all did.
    metg_50_us: Option<f64>,
    curve: Vec<Point>,
}

pub(super) fn main(args: &Args) -> anyhow::Result<i32> {
    anyhow::ensure!(
        0.0 < args.shortest && args.shortest <= args.longest && args.seconds > 0.0,
        "--shortest is more than 0 and no more than --longest, and --seconds more than 0"
    );
    let settings = SessionSettings { recording: args.record, ..SessionSettings::default() };
    with_session(args.ranks, &settings, &|session| measure(session, args))
}

fn measure(session: &Session, args: &Args) -> anyhow::Result<()> {
    // The manager's core is one of them: its rank has slots of its own, or takes a core from the others.
    let cores = session.slots().max(u64::from(session.ranks()));
    let tasks_of = |task_us: f64| match args.tasks_per_slot {
        Some(tasks) => tasks.max(1) * session.slots(),
        None => ((args.seconds * 1e6 / task_us.max(0.05)) as u64).max(20) * session.slots(),
    };
    point(session, args.longest.min(100.0), 1000 * session.slots(), cores)?;
    let mut curve = Vec::new();
    let mut task_us = args.longest;
    while task_us >= args.shortest * 0.999 {
        let point = point(session, task_us, tasks_of(task_us), cores)?;
        if !args.json {
            if curve.is_empty() {
                let (ranks, slots) = (of(session.ranks().into(), "rank"), of(session.slots(), "slot"));
                let (cores, recorded) = (of(cores, "core"), in_words(args.record));
                println!("{ranks}, {slots}, {cores}, the manager's included; recorded in memory: {recorded}");
                println!(
                    "  {:>10} {:>10} {:>9} {:>14} {:>10}",
                    "task", "tasks", "seconds", "granularity", "efficiency"
                );
            }
            let Point { tasks, wall_seconds, granularity_us, efficiency, .. } = point;
            println!(
                "  {task_us:>7.3} µs {tasks:>10} {wall_seconds:>9.4} {granularity_us:>11.3} µs {:>8.1} %",
                100.0 * efficiency
            );
        }
        curve.push(point);
        task_us /= 2.0;
    }
    let metg_50_us = metg(&curve, 0.5);
    if args.json {
        let figures = Figures { ranks: session.ranks(), cores, recording: args.record, metg_50_us, curve };
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(());
    }
    match metg_50_us {
        Some(us) => println!("METG(50 %): {us:.3} µs"),
        None => println!("METG(50 %) lies outside of the curve: give a --shortest below it, or a --longest above it"),
    }
    Ok(())
}

fn in_words(recording: Recording) -> &'static str {
    match recording {
        Recording::All => "all",
        Recording::Failures => "failures",
        Recording::None => "none",
    }
}

fn point(session: &Session, task_us: f64, tasks: u64, cores: u64) -> anyhow::Result<Point> {
    let bundle = session.open_bundle(Some("builtin:spin"), Shape::CALL)?;
    let array = array_of_calls("builtin:spin", task_us.to_string().as_bytes(), 0, tasks, Shape::CALL);
    let start = Instant::now();
    session.submit_array(bundle, 0, array)?;
    let counts = session.wait(bundle)?;
    let wall_seconds = start.elapsed().as_secs_f64();
    session.drop_outcomes(bundle);
    anyhow::ensure!(counts.ok == tasks, "{} of {tasks} tasks ended well", counts.ok);
    let granularity_us = wall_seconds * 1e6 * cores as f64 / tasks as f64;
    Ok(Point { task_us, tasks, wall_seconds, granularity_us, efficiency: task_us / granularity_us })
}

/// The smallest granularity of this efficiency, between the last point above it and the next below, on the lines between
/// logarithms of the one and values of the other.
fn metg(curve: &[Point], efficiency: f64) -> Option<f64> {
    let below = curve.iter().position(|point| point.efficiency < efficiency)?;
    let (above, below) = (curve.get(below.checked_sub(1)?)?, curve[below]);
    let share = (above.efficiency - efficiency) / (above.efficiency - below.efficiency);
    let (from, to) = (above.granularity_us.ln(), below.granularity_us.ln());
    Some((from + share * (to - from)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metg_lies_between_the_points_around_it() {
        // An overhead of 1 µs a task: granularity is length + 1, and half of it is the task's at 2.
        let curve: Vec<Point> = [16.0, 8.0, 4.0, 2.0, 1.5, 0.5]
            .map(|task_us: f64| Point {
                task_us,
                tasks: 1,
                wall_seconds: 0.0,
                granularity_us: task_us + 1.0,
                efficiency: task_us / (task_us + 1.0),
            })
            .to_vec();
        let metg_50 = metg(&curve, 0.5).expect("it lies within");
        assert!((1.9..2.1).contains(&metg_50), "{metg_50}");
        assert_eq!(metg(&curve[..3], 0.5), None, "no point is below");
        assert_eq!(metg(&curve[5..], 0.5), None, "no point is above");
    }
}
