//! Weak scaling: ten tasks for each of more and more workers, as in the HPDC'19 paper on Parsl.

use super::{LENGTHS_US, Section};
use crate::bench::{Bench, length};
use crate::chart::counted;
use crate::measurement::{Figure, Record};
use anyhow::Result;

/// Tasks for each worker, as in the paper.
pub const TASKS_PER_WORKER: u64 = 10;

/// Lengths of tasks.
pub fn lengths(bench: &Bench) -> &'static [f64] {
    if bench.options.quick { &LENGTHS_US[..2] } else { &LENGTHS_US }
}

/// How long it takes, roughly.
pub fn about_seconds(bench: &Bench) -> f64 {
    let point = |us: f64| {
        let once = TASKS_PER_WORKER as f64 * us * 1e-6 + 1.0;
        once * (6.0 / once).ceil().clamp(1.0, bench.rounds() as f64)
    };
    lengths(bench).iter().map(|&us| point(us)).sum::<f64>() * bench.layouts().len() as f64
}

/// Measures it.
pub fn measure(bench: &Bench) -> Result<Record> {
    let about = "Ten tasks for each of more and more workers, a rank with one slot each. Tasks call builtin:sleep, so that \
                 workers may outnumber cores; those of no length call builtin:noop.";
    bench.record(Section::Weak, about, |record| {
        for &us in lengths(bench) {
            for layout in bench.layouts() {
                let measurement = bench.functions(Figure::Weak, layout, TASKS_PER_WORKER * layout.ranks, us)?;
                let workers = counted(layout.ranks, "worker");
                let text = format!("{} on {workers}: {:.4} s", length(us), measurement.value);
                bench.say(Section::Weak, &text);
                record.measurements.push(measurement);
            }
        }
        Ok(())
    })
}
