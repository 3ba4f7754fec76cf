//! Throughput by the size of bundles, and efficiency by the length of tasks.

use super::{BLUE, DARK, Data, GREEN, GREY, ORANGE, RED, derived_look, look, places, short_us, values, without_line};
use crate::chart::{Axis, Legend, LineChart, Series, count_name, counted, grouped, us_name};
use crate::measurement::{Figure, Measurement, Origin};
use crate::scene::{Place, Scene};

pub fn throughput(data: &Data) -> Option<(String, Scene)> {
    let measured = data.of(Figure::Throughput, Origin::Measured);
    let by_tasks = |measurements: &mut dyn Iterator<Item = &Measurement>| {
        let mut points: Vec<Place> = measurements.filter_map(|m| Some((m.tasks? as f64, m.value))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let mut workers: Vec<u64> = measured.clone().filter_map(|m| m.workers).collect();
    workers.sort_unstable();
    workers.dedup();
    let most_workers = *workers.last()?;
    let (mut series, mut legend) = (Vec::new(), vec![Legend::Heading("Myriarch".to_owned())]);
    let colors = [BLUE, GREEN, RED, ORANGE];
    for (index, &count) in workers.iter().enumerate() {
        let look = look(colors[index % colors.len()], Origin::Measured, "");
        series.push(Series { look, points: by_tasks(&mut measured.clone().filter(|m| m.workers == Some(count))) });
        legend.push(Legend::Entry(look, format!("measured, {}", counted(count, "worker"))));
    }
    for model in data.models(Figure::Throughput) {
        let look = look(BLUE, Origin::Simulated, model);
        series.push(Series { look, points: by_tasks(&mut data.simulated(Figure::Throughput, model)) });
        legend.push(Legend::Entry(look, format!("simulated, {model}, 2 workers")));
    }
    let peers = data.of(Figure::Peers, Origin::Measured).filter(|m| m.task_us == Some(0.0) && m.system != "Myriarch");
    let mut systems: Vec<&str> = peers.clone().map(|m| m.system.as_str()).collect();
    systems.sort_unstable();
    systems.dedup();
    if !systems.is_empty() {
        legend.push(Legend::Heading("Others".to_owned()));
    }
    for (index, system) in systems.into_iter().enumerate() {
        let colors = [GREEN, RED, ORANGE, GREY];
        let look = without_line(look(colors[index % colors.len()], Origin::Measured, ""));
        series.push(Series { look, points: by_tasks(&mut peers.clone().filter(|m| m.system == system)) });
        legend.push(Legend::Entry(look, format!("measured, {}", system.replace(", chunks of", ", chunks"))));
    }
    let (least, most) = (1.0, places(&series).fold(10.0, f64::max));
    legend.push(Legend::Heading("Largest rates of others".to_owned()));
    for rate in data.of_others(Figure::Throughput) {
        let look = derived_look(&rate.system);
        series.push(Series { look, points: vec![(least, rate.value), (most, rate.value)] });
        let text = format!("{}, {}: {}", rate.origin.name(), rate.system, grouped(rate.value));
        legend.push(Legend::Entry(look, text));
    }
    let title = "Throughput: tasks that do nothing, in bundles of growing size".to_owned();
    let chart = LineChart {
        title: title.clone(),
        subtitle: format!(
            "{} Up to {}; others on this machine with as many workers as cores. Published: Parsl in HPDC'19 (arXiv 1905.02158) on \
             a small cluster. Derived from published: HyperQueue's time for a task when nothing is run, in its thesis.",
            data.measured,
            counted(most_workers, "worker")
        ),
        x: Axis::decades("tasks in the bundle", places(&series), count_name),
        y: Axis::decades("tasks per second", values(&series), count_name),
        series,
        legend,
    };
    Some((title, chart.scene()))
}

pub fn efficiency(data: &Data) -> Option<(String, Scene)> {
    let curve = |measurements: &mut dyn Iterator<Item = &Measurement>| {
        let mut points: Vec<Place> = measurements.filter_map(|m| Some((m.granularity_us?, m.value))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let measured = data.of(Figure::Efficiency, Origin::Measured);
    let mut workers: Vec<u64> = measured.clone().filter_map(|m| m.workers).collect();
    workers.sort_unstable();
    workers.dedup();
    let (mut series, mut legend) = (Vec::new(), vec![Legend::Heading("Myriarch".to_owned())]);
    for (index, &count) in workers.iter().enumerate() {
        let look = look([BLUE, GREEN, RED, ORANGE][index % 4], Origin::Measured, "");
        series.push(Series { look, points: curve(&mut measured.clone().filter(|m| m.workers == Some(count))) });
        legend.push(Legend::Entry(look, format!("measured, {}", counted(count, "worker"))));
    }
    let mut simulated: Vec<(&str, u64)> = Vec::new();
    for model in data.models(Figure::Efficiency) {
        let mut workers: Vec<u64> = data.simulated(Figure::Efficiency, model).filter_map(|m| m.workers).collect();
        workers.sort_unstable();
        workers.dedup();
        simulated.extend(workers.into_iter().map(|workers| (model, workers)));
    }
    for (index, (model, count)) in simulated.into_iter().enumerate() {
        let look = look([BLUE, GREEN, RED, ORANGE][index % 4], Origin::Simulated, model);
        let mut of_curve = data.simulated(Figure::Efficiency, model).filter(|m| m.workers == Some(count));
        series.push(Series { look, points: curve(&mut of_curve) });
        legend.push(Legend::Entry(look, format!("simulated, {model}, {}", counted(count, "worker"))));
    }
    if series.is_empty() {
        return None;
    }
    legend.push(Legend::Heading("Derived from published: METG(50 %)".to_owned()));
    for (index, other) in data.of_others(Figure::Metg).enumerate() {
        let look = without_line(look([DARK, GREY, ORANGE, RED, BLUE][index % 5], other.origin, ""));
        series.push(Series { look, points: vec![(other.value, 0.5)] });
        legend.push(Legend::Entry(look, format!("{}: {}", other.system, short_us(other.value))));
    }
    let found = data.of(Figure::Metg, Origin::Measured).map(|m| {
        format!("METG(50 %) measured on {}: {}.", counted(m.workers.unwrap_or(0), "worker"), short_us(m.value))
    });
    let found: Vec<String> = found.collect();
    let title = "Efficiency of ever shorter tasks".to_owned();
    let chart = LineChart {
        title: title.clone(),
        subtitle: format!(
            "{} {} Granularity is wall time × cores ÷ tasks, the manager's core included. Measured in memory, simulated with \
             outcomes in files. Derived from published: raw logs of Task Bench, no dependencies, one node of 32 cores.",
            data.measured,
            found.join(" ")
        ),
        x: Axis::decades("granularity", places(&series), us_name),
        y: Axis::percent("part of the cores' time that tasks have"),
        series,
        legend,
    };
    Some((title, chart.scene()))
}
