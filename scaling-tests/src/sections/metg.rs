//! METG(50 %), as Task Bench defines it: the smallest granularity (wall time × cores ÷ tasks) at which tasks have half of the
//! cores' time.

use super::Section;
use crate::bench::Bench;
use crate::chart::counted;
use crate::measurement::{Figure, Measurement, Origin, Record, median};
use anyhow::{Context, Result};
use serde::Deserialize;

/// How long it takes, roughly.
pub fn about_seconds(bench: &Bench) -> f64 {
    let once = if bench.options.quick { 2.0 } else { 8.0 };
    once * bench.rounds() as f64 * bench.layouts_of_cores().len() as f64
}

/// What `myriarch bench metg --json` says.
#[derive(Deserialize)]
struct Curve {
    metg_50_us: Option<f64>,
    curve: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    task_us: f64,
    tasks: u64,
    granularity_us: f64,
    efficiency: f64,
}

/// Where the curve crosses one half, between its last point above and the next below, on a logarithmic scale.
pub fn crossing(points: &[(f64, f64)]) -> Option<f64> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let pair = sorted.windows(2).find(|pair| pair[0].1 >= 0.5 && pair[1].1 < 0.5)?;
    let part = (pair[0].1 - 0.5) / (pair[0].1 - pair[1].1);
    Some((pair[0].0.ln() + part * (pair[1].0.ln() - pair[0].0.ln())).exp())
}

/// Measures it.
pub fn measure(bench: &Bench) -> Result<Record> {
    let quick = bench.options.quick;
    let mut words = vec!["bench", "metg", "--json", "--seconds", if quick { "0.02" } else { "0.3" }];
    if quick {
        words.extend(["--longest", "64", "--shortest", "0.1"]);
    }
    let about = "Tasks that spin (builtin:spin), from long to short, on a rank for each core; everything recorded in memory. \
                 Granularity is wall time × cores ÷ tasks, the manager's core included; efficiency is the part of it that the \
                 tasks have. Each point is the median of the rounds.";
    bench.record(Section::Metg, about, |record| {
        for layout in bench.layouts_of_cores() {
            let command = bench.on_ranks(layout, &words);
            let mut curves = Vec::new();
            for _ in 0..bench.rounds() {
                let said = bench.runner.run(&command)?;
                let curve: Curve = serde_json::from_str(said.stdout.trim()).context("bench metg: no such JSON")?;
                let metg = curve.metg_50_us.map_or("none".to_owned(), |metg| format!("{metg:.3} µs"));
                bench.say(Section::Metg, &format!("METG(50 %) on {}: {metg}", counted(layout.ranks, "rank")));
                curves.push(curve);
            }
            let mut measurements = read(&curves);
            for measurement in &mut measurements {
                measurement.nodes = Some(layout.nodes.unwrap_or(1));
                measurement.workers = Some(layout.ranks);
                measurement.command = bench.shown(&command);
            }
            record.measurements.extend(measurements);
        }
        Ok(())
    })
}

/// The curve and its crossing, from some rounds.
fn read(curves: &[Curve]) -> Vec<Measurement> {
    let metgs: Vec<f64> = curves.iter().filter_map(|curve| curve.metg_50_us).collect();
    let mut measurements = Vec::new();
    if !metgs.is_empty() {
        measurements.push(Measurement::new(Figure::Metg, Origin::Measured, "Myriarch", metgs));
    }
    let Some(first) = curves.first() else { return measurements };
    for (index, point) in first.curve.iter().enumerate() {
        let rounds: Vec<&Point> = curves.iter().filter_map(|curve| curve.curve.get(index)).collect();
        let of = |value: fn(&Point) -> f64| rounds.iter().map(|point| value(point)).collect::<Vec<_>>();
        let efficiencies = of(|point| point.efficiency);
        let mut measurement = Measurement::new(Figure::Efficiency, Origin::Measured, "Myriarch", efficiencies);
        measurement.granularity_us = Some(median(&of(|point| point.granularity_us)));
        measurement.task_us = Some(point.task_us);
        measurement.tasks = Some(point.tasks);
        measurements.push(measurement);
    }
    measurements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_crosses_one_half_between_two_points() {
        let crossing = crossing(&[(0.25, 0.4), (1.0, 0.6), (4.0, 0.9)]).unwrap();
        assert!((crossing - 0.5).abs() < 1e-9, "{crossing}");
        assert_eq!(super::crossing(&[(1.0, 0.9), (0.5, 0.8)]), None);
    }

    #[test]
    fn points_of_a_curve_are_medians_of_the_rounds() {
        let curve = |efficiency: f64| Curve {
            metg_50_us: Some(efficiency),
            curve: vec![Point { task_us: 1.0, tasks: 10, granularity_us: 1.0 / efficiency, efficiency }],
        };
        let measurements = read(&[curve(0.5), curve(0.8), curve(0.25)]);
        assert_eq!(measurements[0].figure, Figure::Metg);
        assert_eq!(measurements[1].value, 0.5);
        assert_eq!(measurements[1].granularity_us, Some(2.0));
    }
}
