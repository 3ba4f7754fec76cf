//! `myriarch bench latency`: one task at a time, from rank 0 through a worker and back.

use super::session::with_session;
use crate::drive::{Session, SessionSettings};
use crate::observe::text::of;
use crate::task::Shape;
use serde::Serialize;
use std::time::Instant;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Tasks that are timed, one after the other
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    tasks: u64,
    /// Bytes that each is given, and gives back
    #[arg(long, value_name = "BYTES", default_value_t = 8, value_parser = clap::value_parser!(u32).range(..=65_536))]
    payload: u32,
    /// Ranks, as threads of this process, when no launcher started it [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    ranks: Option<u32>,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// What is printed. Microseconds.
#[derive(Debug, Serialize)]
struct Figures {
    tasks: u64,
    payload_bytes: u32,
    ranks: u32,
    median_us: f64,
    p10_us: f64,
    p90_us: f64,
    p99_us: f64,
    longest_us: f64,
    /// Upper bound of each bucket of the histogram, and the tasks in it.
    histogram: Vec<(f64, u64)>,
}

pub(super) fn main(args: &Args) -> anyhow::Result<i32> {
    // Rank 0 runs no task, so that each one travels.
    let settings = SessionSettings { dedicated_manager: true, ..SessionSettings::default() };
    with_session(args.ranks, &settings, &|session| measure(session, args))
}

fn measure(session: &Session, args: &Args) -> anyhow::Result<()> {
    let bundle = session.open_bundle(Some("builtin:echo"), Shape::CALL)?;
    let payload = vec![b'x'; args.payload as usize];
    let mut times_us = Vec::with_capacity(args.tasks as usize);
    let warm_up = args.tasks / 10;
    for task in 0..warm_up + args.tasks {
        let start = Instant::now();
        session.submit(bundle, &payload)?;
        let outcomes = session.take(bundle, true)?;
        let took = start.elapsed();
        anyhow::ensure!(outcomes.len() == 1 && outcomes[0].stdout.bytes == payload, "a task gave something else");
        if task >= warm_up {
            times_us.push(took.as_nanos() as f64 / 1e3);
        }
    }
    times_us.sort_by(f64::total_cmp);
    let at = |share: f64| times_us[((times_us.len() - 1) as f64 * share) as usize];
    let figures = Figures {
        tasks: args.tasks,
        payload_bytes: args.payload,
        ranks: session.ranks(),
        median_us: at(0.5),
        p10_us: at(0.1),
        p90_us: at(0.9),
        p99_us: at(0.99),
        longest_us: at(1.0),
        histogram: histogram(&times_us),
    };
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        tell(&figures);
    }
    Ok(())
}

/// Four buckets for each doubling, from the first that has a task to the last.
fn histogram(sorted_us: &[f64]) -> Vec<(f64, u64)> {
    let bucket = |us: f64| (us.max(0.1).log2() * 4.0).ceil() as i32;
    let (Some(first), Some(last)) = (sorted_us.first(), sorted_us.last()) else { return Vec::new() };
    let mut buckets: Vec<(f64, u64)> =
        (bucket(*first)..=bucket(*last)).map(|number| (2f64.powf(f64::from(number) / 4.0), 0)).collect();
    for us in sorted_us {
        buckets[(bucket(*us) - bucket(*first)) as usize].1 += 1;
    }
    buckets
}

fn tell(figures: &Figures) {
    let Figures { tasks, payload_bytes, ranks, .. } = figures;
    println!(
        "{} one at a time, {} there and back, {}; nothing kept but in memory",
        of(*tasks, "task"),
        of((*payload_bytes).into(), "byte"),
        of((*ranks).into(), "rank")
    );
    println!(
        "  median {:.2} µs, 10 % below {:.2}, 90 % below {:.2}, 99 % below {:.2}, longest {:.0}",
        figures.median_us, figures.p10_us, figures.p90_us, figures.p99_us, figures.longest_us
    );
    const WIDTH: u64 = 50;
    let most = figures.histogram.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    for (below, count) in figures.histogram.iter().filter(|(_, count)| *count > 0) {
        let bar = "#".repeat((count * WIDTH).div_ceil(most) as usize);
        println!("  up to {below:>9.2} µs {count:>8}  {bar}");
    }
}
