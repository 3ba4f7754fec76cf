//! Throughput against the size of a bundle: tasks that do nothing.

use super::Section;
use crate::bench::Bench;
use crate::chart::counted;
use crate::measurement::{Figure, Measurement, Record};
use anyhow::Result;

/// Sizes of bundles.
pub fn sizes(quick: bool) -> Vec<u64> {
    (0..=if quick { 3 } else { 7 }).map(|power| 10_u64.pow(power)).collect()
}

/// How long it takes, roughly.
pub fn about_seconds(bench: &Bench) -> f64 {
    sizes(bench.options.quick).len() as f64 * bench.rounds() as f64 * bench.layouts_of_cores().len() as f64
}

/// Tasks a second, from makespans.
pub fn rate(mut makespan: Measurement) -> Measurement {
    let tasks = makespan.tasks.unwrap_or(0) as f64;
    makespan.value = tasks / makespan.value;
    makespan.rounds.iter_mut().for_each(|seconds| *seconds = tasks / *seconds);
    makespan
}

/// Measures it.
pub fn measure(bench: &Bench) -> Result<Record> {
    let about = "Functions that do nothing (builtin:noop) of an array, on a rank for each core; everything recorded.";
    bench.record(Section::Throughput, about, |record| {
        for layout in bench.layouts_of_cores() {
            for tasks in sizes(bench.options.quick) {
                let measurement = rate(bench.functions(Figure::Throughput, layout, tasks, 0.0)?);
                bench.say(
                    Section::Throughput,
                    &format!("{}: {:.0} a second", counted(tasks, "task"), measurement.value),
                );
                record.measurements.push(measurement);
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::Origin;

    #[test]
    fn bundles_grow_to_ten_million() {
        assert_eq!(sizes(false).last(), Some(&10_000_000));
    }

    #[test]
    fn a_rate_is_tasks_by_seconds_in_each_round() {
        let mut makespan = Measurement::new(Figure::Throughput, Origin::Measured, "Myriarch", vec![0.5, 0.25, 1.0]);
        makespan.tasks = Some(100);
        let rate = rate(makespan);
        assert_eq!((rate.value, rate.rounds), (200.0, vec![200.0, 400.0, 100.0]));
    }
}
