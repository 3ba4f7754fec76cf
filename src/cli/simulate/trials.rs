//! Runs with faults: one, of which all is told, or many until the first that breaks a rule.

use super::Args;
use crate::cli::{EXIT_FAILED, EXIT_OK};
use crate::observe::text::of;
use crate::simulate::{Durations, Failed, Given, Passed, Trial};
use rayon::prelude::*;
use serde::Serialize;
use std::ops::Range;
use std::time::Instant;

/// Reads a seed, or a range of seeds without its end.
pub(super) fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("\"{text}\" is no seed"));
    match text.split_once("..") {
        None => number(text).and_then(|seed| Ok(seed..seed.checked_add(1).ok_or("that is one too many")?)),
        Some((first, end)) => match (number(first)?, number(end)?) {
            (first, end) if first < end => Ok(first..end),
            _ => Err("there is no seed in it".to_owned()),
        },
    }
}

/// What is printed of many.
#[derive(Serialize)]
struct Summary {
    first: u64,
    seeds: u64,
    faults: u64,
    events: u64,
    virtual_seconds: f64,
    simulated_in_seconds: f64,
    failed: Option<Failed>,
    replay: Option<String>,
}

/// What is printed of one.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    trial: Trial,
    passed: Option<Passed>,
    failed: Option<Failed>,
    replay: String,
}

/// Runs the trials of these seeds, in turn or side by side.
///
/// # Errors
/// Bad input.
pub(super) fn run(args: &Args, seeds: Range<u64>) -> anyhow::Result<i32> {
    let given = Given {
        nodes: args.nodes,
        ranks_per_node: args.ranks_per_node,
        slots: args.slots,
        fan_out: args.fan_out,
        tasks: args.tasks,
        durations: args.duration.as_deref().map(Durations::parse).transpose()?,
        model: args.model.clone(),
    };
    // What is given is given for all.
    let first = Trial::draw(seeds.start, &given)?;
    if seeds.end - seeds.start == 1 {
        return one(args, first);
    }
    many(args, &given, seeds)
}

fn one(args: &Args, trial: Trial) -> anyhow::Result<i32> {
    let ran = trial.run();
    let replay = replay(args, trial.seed);
    let (passed, failed) = (ran.clone().ok(), ran.err());
    let status = if failed.is_some() { EXIT_FAILED } else { EXIT_OK };
    if args.json {
        println!("{}", serde_json::to_string(&Told { trial, passed, failed, replay })?);
        return Ok(status);
    }
    tell_trial(&trial);
    if let Some(passed) = passed {
        for (start, (faults, end)) in passed.faults.iter().zip(&passed.ends).enumerate() {
            println!("  start {start}: {end}; {}", faults.summary());
            faults.events.iter().for_each(|(at, fault)| println!("    {:>12.6} s  {fault}", *at as f64 / 1e9));
        }
        let Passed { ok, failed, cancelled, happened, events, seconds, trace, .. } = passed;
        println!(
            "  {ok} ok, {failed} failed, {cancelled} cancelled; {}, {}, {seconds:.6} s",
            of(happened, "fault"),
            of(events, "event")
        );
        println!("  trace {trace}");
    }
    if let Some(failed) = failed {
        tell_failed(&failed, &replay);
    }
    Ok(status)
}

fn many(args: &Args, given: &Given, seeds: Range<u64>) -> anyhow::Result<i32> {
    /// So many are drawn at once: the first of them that fails is the one that is told.
    const AT_ONCE: u64 = 256;
    let began = Instant::now();
    let mut summary = Summary {
        first: seeds.start,
        seeds: 0,
        faults: 0,
        events: 0,
        virtual_seconds: 0.0,
        simulated_in_seconds: 0.0,
        failed: None,
        replay: None,
    };
    let mut next = seeds.start;
    while next < seeds.end && summary.failed.is_none() {
        let end = seeds.end.min(next.saturating_add(AT_ONCE));
        let run = |seed| Trial::draw(seed, given).map(|trial| trial.run());
        let ran: Result<Vec<_>, _> = (next..end).into_par_iter().map(run).collect();
        for ran in ran? {
            summary.seeds += 1;
            match ran {
                Ok(passed) => {
                    summary.faults += passed.happened;
                    summary.events += passed.events;
                    summary.virtual_seconds += passed.seconds;
                }
                Err(failed) => {
                    summary.replay = Some(replay(args, failed.seed));
                    summary.failed = Some(failed);
                    break;
                }
            }
        }
        next = end;
    }
    summary.simulated_in_seconds = began.elapsed().as_secs_f64();
    let status = if summary.failed.is_some() { EXIT_FAILED } else { EXIT_OK };
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
        return Ok(status);
    }
    let Summary { first, seeds, faults, events, virtual_seconds, simulated_in_seconds, .. } = summary;
    println!(
        "simulated: {} from {first} on, {}, {}, {virtual_seconds:.0} s of virtual time, in {simulated_in_seconds:.1} s",
        of(seeds, "seed"),
        of(faults, "fault"),
        of(events, "event"),
    );
    if let (Some(failed), Some(replay)) = (&summary.failed, &summary.replay) {
        tell_failed(failed, replay);
    }
    Ok(status)
}

fn tell_trial(trial: &Trial) {
    let Trial { seed, layout, model, tasks, duration, .. } = trial;
    println!("simulated with faults, seed {seed}, model {model}:");
    println!(
        "  {} of {duration} on {} × {} × {}, fan-out {}",
        of(*tasks, "task"),
        of(u64::from(layout.nodes), "node"),
        of(u64::from(layout.ranks_per_node), "rank"),
        of(u64::from(layout.slots), "slot"),
        layout.fan_out
    );
    for shape in &trial.shapes {
        let what = if shape.calls { "functions" } else { "processes" };
        let (cores, gpus) = (of(u64::from(shape.cores), "core"), of(u64::from(shape.gpus), "GPU"));
        let retries = match shape.retries {
            0 => "no retries".to_owned(),
            1 => "1 retry".to_owned(),
            retries => format!("{retries} retries"),
        };
        println!("  {what} of {cores} and {gpus}, {retries}");
    }
    println!("  {}", troubles(trial));
}

/// What is wrong from the beginning.
fn troubles(trial: &Trial) -> String {
    let slow: Vec<String> = trial.slow.iter().map(|(rank, times)| format!("rank {rank} ({times} times)")).collect();
    let slow = if slow.is_empty() { "no rank is slow".to_owned() } else { format!("slow: {}", slow.join(", ")) };
    let bad = trial.bad_node.map_or("no node is bad".to_owned(), |node| format!("on node {node} every task fails"));
    let most = trial.max_running.map_or("any number at once".to_owned(), |most| format!("at most {most} at once"));
    let fail = if trial.fails_of_ten == 1 { "fails" } else { "fail" };
    format!(
        "{} of ten attempts {fail}; a task that took {} with it is lost; {slow}; {bad}; {most}",
        trial.fails_of_ten,
        of(u64::from(trial.crash_limit), "rank")
    )
}

fn tell_failed(failed: &Failed, replay: &str) {
    println!("FAILED: {failed}");
    if let Some(faults) = &failed.faults {
        println!("  in that start: {}", faults.summary());
    }
    println!("  replay: {replay}");
}

/// The command that does the same again.
fn replay(args: &Args, seed: u64) -> String {
    let mut line = format!("myriarch simulate --faults {seed}");
    let mut add = |option: &str, value: Option<String>| {
        line.extend(value.map(|value| format!(" --{option} {value}")));
    };
    add("nodes", args.nodes.map(|n| n.to_string()));
    add("ranks-per-node", args.ranks_per_node.map(|n| n.to_string()));
    add("slots", args.slots.map(|n| n.to_string()));
    add("fan-out", args.fan_out.map(|n| n.to_string()));
    add("tasks", args.tasks.map(|n| n.to_string()));
    add("duration", args.duration.clone());
    add("model", args.model.clone());
    line
}

#[cfg(test)]
mod tests {
    use super::super::testing::parsed;
    use super::*;
    use crate::task::Rank;

    #[test]
    fn seeds_are_one_or_a_range_without_its_end() {
        assert_eq!(parse_seeds("7"), Ok(7..8));
        assert_eq!(parse_seeds("7..9"), Ok(7..9));
        for wrong in ["", "x", "..", "7..", "9..9", "9..7", "-1", "18446744073709551615"] {
            assert!(parse_seeds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_from_the_beginning_is_told_in_words() {
        let mut trial = Trial::draw(5, &Given::default()).expect("nothing is given");
        (trial.fails_of_ten, trial.crash_limit, trial.max_running) = (1, 3, Some(7));
        (trial.slow, trial.bad_node) = (vec![(Rank(2), 5), (Rank(4), 9)], Some(0));
        let words = "1 of ten attempts fails; a task that took 3 ranks with it is lost; slow: rank 2 (5 times), rank 4 (9 times); \
                     on node 0 every task fails; at most 7 at once";
        assert_eq!(troubles(&trial), words);
        (trial.slow, trial.bad_node, trial.max_running) = (Vec::new(), None, None);
        assert!(troubles(&trial).ends_with("; no rank is slow; no node is bad; any number at once"));
    }

    #[test]
    fn the_line_that_replays_a_seed_has_all_that_was_given() {
        let line = "--faults 5 --nodes 3 --slots 2 --fan-out 2 --tasks 10 --duration exp:1ms --model local";
        let args = parsed(line).expect("these are its options");
        assert_eq!(replay(&args, 5), format!("myriarch simulate {line}"));
        assert!(parsed("--faults 5 --processes").is_err(), "that is drawn");
    }
}
