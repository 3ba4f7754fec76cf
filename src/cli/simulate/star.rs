//! The flat star, to compare with.

use super::{Args, list_scheduling_ns};
use crate::cli::EXIT_OK;
use crate::observe::text::{count, of, rate};
use crate::simulate::{Drawn, Layout, Numbers, Star, StarFigures, simulate_star};
use anyhow::{Context, ensure};
use serde::Serialize;
use std::time::Instant;

/// Reads a rate above zero.
pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (1e-3..=1e9).contains(rate));
    rate.ok_or_else(|| format!("\"{text}\" is no number of tasks a second from 0.001 to 1e9"))
}

/// What is printed.
#[derive(Serialize)]
struct Report {
    model: String,
    duration: String,
    seed: u64,
    star: bool,
    hub_rate: Option<f64>,
    nodes: u32,
    ranks_per_node: u32,
    slots_per_rank: u32,
    /// What list scheduling of the same tasks takes where nothing but they takes time.
    list_scheduling_seconds: f64,
    #[serde(flatten)]
    figures: StarFigures,
    /// Not of virtual time.
    simulated_in_seconds: f64,
}

/// Simulates the star and prints what came out.
///
/// # Errors
/// Bad input.
pub(super) fn run(args: &Args, model: &str, numbers: Numbers, layout: &Layout, drawn: &Drawn) -> anyhow::Result<i32> {
    /// Each of them is remembered, and so are the messages that wait.
    const MOST_WORKERS: u64 = 1 << 26;
    let Layout { nodes, ranks_per_node, slots, .. } = *layout;
    let workers = layout.all_slots().filter(|workers| *workers <= MOST_WORKERS);
    let workers = workers.with_context(|| format!("a star of more than {} workers", count(MOST_WORKERS)))?;
    ensure!(workers > 0, "a star without workers");
    let began = Instant::now();
    let figures = simulate_star(&Star { workers: workers as u32, numbers, hub_rate: args.hub_rate }, drawn);
    let simulated_in_seconds = began.elapsed().as_secs_f64();
    let report = Report {
        model: model.to_owned(),
        duration: drawn.durations.to_string(),
        seed: drawn.seed,
        star: true,
        hub_rate: args.hub_rate,
        nodes,
        ranks_per_node,
        slots_per_rank: slots,
        list_scheduling_seconds: list_scheduling_ns(drawn, workers) as f64 / 1e9,
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

fn tell(report: &Report) {
    let StarFigures { tasks, slots, .. } = report.figures;
    println!("simulated, model {}, seed {}: a flat star, not Myriarch", report.model, report.seed);
    println!("  {} of {} on {}", of(tasks, "task"), report.duration, of(slots, "worker"));
    match report.hub_rate {
        Some(rate) => println!("  hub          {rate} tasks/s at most, as given"),
        None => println!("  hub          as fast as a rank of the model"),
    }
    let figures = &report.figures;
    println!(
        "  makespan     {:.6} s; list scheduling at no cost {:.6} s",
        figures.makespan_seconds, report.list_scheduling_seconds
    );
    println!("  rate         {}", rate(figures.tasks_per_second));
    println!("  utilisation  {:.2} %", 100.0 * figures.utilisation);
    println!(
        "  the hub received {}, was at work {:.2} % of the time; {} waited at the most, {:.6} s the longest",
        of(figures.manager_messages, "message"),
        100.0 * figures.hub_busy,
        count(figures.queue_peak as u64),
        figures.longest_wait_seconds
    );
    println!("  {} simulated in {:.1} s", of(figures.events, "event"), report.simulated_in_seconds);
}

#[cfg(test)]
mod tests {
    use super::super::testing::parsed;
    use super::*;

    #[test]
    fn a_rate_is_a_number_above_zero() {
        assert_eq!(parse_rate("415"), Ok(415.0));
        for wrong in ["", "0", "-1", "nan", "inf", "1e10", "many"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_star_has_no_tree_and_only_a_star_has_a_hub() {
        assert!(parsed("--star --hub-rate 415 --nodes 3").expect("these are its options").star);
        for wrong in [
            "--hub-rate 415",
            "--star --fan-out 3",
            "--star --processes",
            "--star --faults 1",
            "--faults 1 --hub-rate 5",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
