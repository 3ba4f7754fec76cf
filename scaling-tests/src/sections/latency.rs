//! Latency: one task at a time, from rank 0 through a worker on another rank and back.

use super::Section;
use crate::bench::Bench;
use crate::launcher::Layout;
use crate::measurement::{Figure, Measurement, Origin, Record};
use anyhow::{Context, Result};
use serde_json::Value;

/// How long it takes, roughly.
pub fn about_seconds(bench: &Bench) -> f64 {
    3.0 * bench.rounds() as f64
}

/// The command, for tasks one at a time.
pub fn command(bench: &Bench, tasks: u64) -> Vec<String> {
    // The other rank lies on another node where there are some.
    let nodes = bench.options.nodes.iter().max().map(|&most| most.min(2));
    let tasks = tasks.to_string();
    bench.on_ranks(Layout { nodes, ranks: 2 }, &["bench", "latency", "--tasks", &tasks, "--json"])
}

/// What the command says, and its median in microseconds.
pub fn read(stdout: &str) -> Result<(f64, Value)> {
    let mut said: Value = serde_json::from_str(stdout.trim()).context("bench latency: no JSON")?;
    let median = said["median_us"].as_f64().context("bench latency: no median_us")?;
    if let Some(said) = said.as_object_mut() {
        said.remove("histogram");
    }
    Ok((median, said))
}

/// Measures it.
pub fn measure(bench: &Bench) -> Result<Record> {
    let tasks = if bench.options.quick { 200 } else { 20_000 };
    let command = command(bench, tasks);
    let about = "One task at a time, 8 bytes there and back, from rank 0 through a worker on another rank; nothing kept but in \
                 memory. The figure is the median of the rounds' medians.";
    bench.record(Section::Latency, about, |record| {
        let mut raw = Value::Null;
        let rounds = bench.repeat(|bench| {
            let (median, said) = read(&bench.runner.run(&command)?.stdout)?;
            raw = said;
            Ok(median)
        })?;
        let mut measurement = Measurement::new(Figure::Latency, Origin::Measured, "Myriarch", rounds);
        measurement.tasks = Some(tasks);
        measurement.workers = Some(1);
        measurement.nodes = Some(bench.options.nodes.iter().max().map_or(1, |&most| most.min(2)));
        measurement.timed = "submit to outcome in a program on rank 0".to_owned();
        measurement.command = bench.shown(&command);
        measurement.raw = raw;
        bench.say(Section::Latency, &format!("{:.2} µs", measurement.value));
        record.measurements.push(measurement);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_read_and_the_histogram_left_out() {
        let (median, said) = read("{\"tasks\":20000,\"median_us\":4.597,\"histogram\":[[4.7,14807]]}\n").unwrap();
        assert_eq!(median, 4.597);
        assert_eq!(said["tasks"], 20_000);
        assert!(said.get("histogram").is_none());
        assert!(read("mpiexec: no slots").is_err());
    }
}
