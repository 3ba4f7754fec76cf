//! Strong scaling: the same tasks on more and more workers.
//!
//! The set-up of the HPDC'19 paper on Parsl is 50,000 tasks of 0, 10, 100 and 1000 ms on 32 to 32,768 workers. A small machine
//! gets fewer tasks, so that the fewest workers take some seconds, but at least two for each of the most workers.

use super::{LENGTHS_US, Section};
use crate::bench::{Bench, length};
use crate::chart::counted;
use crate::measurement::{Figure, Record};
use anyhow::Result;

/// Tasks of the paper.
pub const TASKS: u64 = 50_000;

/// How many tasks of this length there are.
pub fn tasks(bench: &Bench, task_us: f64) -> u64 {
    let layouts = bench.layouts();
    let fewest = layouts.first().map_or(1, |layout| layout.ranks);
    let most = layouts.last().map_or(1, |layout| layout.ranks);
    scaled(task_us, bench.options.strong_seconds(), fewest, most)
}

fn scaled(task_us: f64, seconds: f64, fewest: u64, most: u64) -> u64 {
    if task_us == 0.0 {
        return TASKS;
    }
    ((seconds * 1e6 / task_us) as u64 * fewest).clamp(2 * most, TASKS.max(2 * most))
}

/// Lengths of tasks.
pub fn lengths(bench: &Bench) -> &'static [f64] {
    if bench.options.quick { &LENGTHS_US[..2] } else { &LENGTHS_US }
}

/// How long it takes, roughly.
pub fn about_seconds(bench: &Bench) -> f64 {
    let start = 1.0;
    let point = |us: f64, ranks: u64| {
        let once = tasks(bench, us) as f64 * us * 1e-6 / ranks as f64 + start;
        once * (6.0 / once).ceil().clamp(1.0, bench.rounds() as f64)
    };
    let layouts = bench.layouts();
    lengths(bench).iter().flat_map(|&us| layouts.iter().map(move |layout| point(us, layout.ranks))).sum()
}

/// Measures it.
pub fn measure(bench: &Bench) -> Result<Record> {
    let counts: Vec<String> =
        lengths(bench).iter().map(|&us| format!("{} of {}", tasks(bench, us), length(us))).collect();
    let about = format!(
        "The same tasks on more and more workers, a rank with one slot each. The paper's {TASKS} tasks were scaled down so that \
         the fewest workers take {} s, with two tasks at least for each of the most workers: {}. Tasks call builtin:sleep, so \
         that workers may outnumber cores; those of no length call builtin:noop.",
        bench.options.strong_seconds(),
        counts.join(", ")
    );
    bench.record(Section::Strong, &about, |record| {
        for &us in lengths(bench) {
            for layout in bench.layouts() {
                let measurement = bench.functions(Figure::Strong, layout, tasks(bench, us), us)?;
                let workers = counted(layout.ranks, "worker");
                let text = format!("{} on {workers}: {:.4} s", length(us), measurement.value);
                bench.say(Section::Strong, &text);
                record.measurements.push(measurement);
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_as_many_as_the_fewest_workers_do_in_some_seconds() {
        assert_eq!(scaled(0.0, 10.0, 1, 16), 50_000);
        assert_eq!(scaled(10_000.0, 10.0, 1, 16), 1_000);
        assert_eq!(scaled(1e6, 10.0, 1, 16), 32, "two for each of the most workers");
        assert_eq!(scaled(10_000.0, 10.0, 128, 1_024), 50_000, "no more than in the paper");
        assert_eq!(scaled(1e6, 10.0, 128, 65_536), 131_072);
    }
}
