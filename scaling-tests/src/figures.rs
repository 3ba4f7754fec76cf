//! Which figures go into which plot, and how what was measured, what was simulated and what others published look in it.

use crate::chart::{Axis, DotChart, Legend, LineChart, Look, Row, Series};
use crate::chart::{count_name, grouped, seconds_name, us_name};
use crate::measurement::{Figure, Measurement, Origin, Record, published};
use crate::scene::{Mark, Place, Scene, Stroke};
use anyhow::Result;
use plotters::style::RGBColor;
use std::path::Path;

const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(213, 130, 0);
const GREEN: RGBColor = RGBColor(0, 140, 105);
const RED: RGBColor = RGBColor(200, 70, 0);
const GREY: RGBColor = RGBColor(90, 90, 90);
const PURPLE: RGBColor = RGBColor(150, 60, 150);
const PALE: RGBColor = RGBColor(185, 185, 185);
const DARK: RGBColor = RGBColor(40, 40, 40);

/// A plot that was drawn: its file without ending, and its title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// The file name without its ending.
    pub name: &'static str,
    /// What it shows.
    pub title: String,
}

/// What all plots choose from.
struct Data {
    all: Vec<Measurement>,
    /// `measured on 2 cores of …, 2026-11-22`
    measured: String,
}

impl Data {
    fn of(&self, figure: Figure, origin: Origin) -> impl Iterator<Item = &Measurement> + Clone {
        self.all.iter().filter(move |m| m.figure == figure && m.origin == origin)
    }

    fn simulated<'a>(&'a self, figure: Figure, model: &'a str) -> impl Iterator<Item = &'a Measurement> + Clone {
        self.of(figure, Origin::Simulated).filter(move |m| m.machine == model)
    }
}

/// Draws every plot for which there is something measured or simulated.
pub fn draw_all(records: &[Record], folder: &Path) -> Result<Vec<Picture>> {
    let mut all: Vec<Measurement> = records.iter().flat_map(|record| record.measurements.clone()).collect();
    all.extend(published());
    let data = Data { all, measured: measured_where(records) };
    let mut pictures = Vec::new();
    let mut draw = |name: &'static str, drawn: Option<(String, Scene)>| -> Result<()> {
        if let Some((title, scene)) = drawn {
            scene.write_svg(&folder.join(format!("{name}.svg")))?;
            scene.write_png(&folder.join(format!("{name}.png")))?;
            pictures.push(Picture { name, title });
        }
        Ok(())
    };
    draw("strong", strong_here(&data))?;
    draw("strong-large", strong_large(&data))?;
    draw("weak", weak(&data))?;
    draw("throughput", throughput(&data))?;
    draw("latency", latency(&data))?;
    draw("metg", efficiency(&data))?;
    draw("processes", processes(&data))?;
    draw("peers", peers(&data))?;
    Ok(pictures)
}

fn measured_where(records: &[Record]) -> String {
    let measured = records.iter().filter(|record| record.section != "simulated");
    let Some(record) = measured.clone().next().or(records.first()) else { return String::new() };
    let day = record.date.split(' ').next().unwrap_or_default();
    let (cores, cpu) = (record.machine.cores, &record.machine.cpu);
    // What else ran there is said where it is too much to be overlooked.
    let load = measured.filter_map(|record| record.load_before.first().copied()).fold(0.0, f64::max);
    let disturbed = match load > 0.5 * cores as f64 {
        true => format!(" while it had other work too (load average up to {load:.1})"),
        false => String::new(),
    };
    format!("Measured on a machine with {cores} cores ({cpu}), {day}{disturbed}.")
}

/// How the figures of an origin look: marks and strokes tell them apart without colors too.
fn look(color: RGBColor, origin: Origin, model: &str) -> Look {
    let (mark, stroke) = match (origin, model) {
        (Origin::Measured, _) => (Mark::Disc, Stroke::Solid),
        (Origin::Simulated, "local") => (Mark::Triangle, Stroke::Dashed(7.0, 4.0)),
        (Origin::Simulated, "slingshot") => (Mark::Square, Stroke::Dashed(10.0, 4.0)),
        (Origin::Simulated, _) => (Mark::Diamond, Stroke::Dashed(4.0, 4.0)),
        (Origin::Published, _) => (Mark::Cross, Stroke::Dashed(2.0, 4.0)),
    };
    Look { color, mark: Some(mark), stroke: Some(stroke) }
}

fn without_line(look: Look) -> Look {
    Look { stroke: None, ..look }
}

/// Colors by the length of tasks.
fn color_of(task_us: f64) -> RGBColor {
    match task_us {
        us if us < 1.0 => BLUE,
        us if us < 50_000.0 => ORANGE,
        us if us < 500_000.0 => GREEN,
        _ => RED,
    }
}

fn length_name(task_us: f64) -> String {
    match task_us {
        0.0 => "that do nothing".to_owned(),
        us => format!("of {}", us_name(us)),
    }
}

/// The lengths of tasks that are there, from short to long.
fn lengths<'a>(measurements: impl Iterator<Item = &'a Measurement>) -> Vec<f64> {
    let mut lengths: Vec<f64> = measurements.filter_map(|m| m.task_us).collect();
    lengths.sort_by(f64::total_cmp);
    lengths.dedup();
    lengths
}

/// Points by workers.
fn by_workers<'a>(measurements: impl Iterator<Item = &'a Measurement>) -> Vec<Place> {
    let mut points: Vec<Place> = measurements.filter_map(|m| Some((m.workers? as f64, m.value))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn values(series: &[Series]) -> impl Iterator<Item = f64> + Clone + '_ {
    series.iter().flat_map(|series| series.points.iter().map(|point| point.1))
}

fn places(series: &[Series]) -> impl Iterator<Item = f64> + Clone + '_ {
    series.iter().flat_map(|series| series.points.iter().map(|point| point.0))
}

/// What the marks mean, of those that are used.
fn origins(entries: &[(Origin, &str, &str)]) -> Vec<Legend> {
    let entry =
        |&(origin, model, text): &(Origin, &str, &str)| Legend::Entry(look(DARK, origin, model), text.to_owned());
    std::iter::once(Legend::Heading("Where points come from".to_owned())).chain(entries.iter().map(entry)).collect()
}

/// What the colors mean.
fn tasks_legend(lengths: &[f64]) -> Vec<Legend> {
    let plain = |us: f64| Look { color: color_of(us), mark: None, stroke: Some(Stroke::Solid) };
    let entries = lengths.iter().map(|&us| Legend::Entry(plain(us), format!("tasks {}", length_name(us))));
    std::iter::once(Legend::Heading("Colours".to_owned())).chain(entries).collect()
}

/// A series for each length of tasks.
fn by_length<'a>(
    measurements: impl Iterator<Item = &'a Measurement> + Clone,
    origin: Origin,
    model: &str,
) -> Vec<Series> {
    let of = |us: f64| by_workers(measurements.clone().filter(|m| m.task_us == Some(us)));
    let one = |us: f64| Series { look: look(color_of(us), origin, model), points: of(us) };
    lengths(measurements.clone()).into_iter().map(one).collect()
}

fn strong_here(data: &Data) -> Option<(String, Scene)> {
    let measured = data.of(Figure::Strong, Origin::Measured);
    let lengths = lengths(measured.clone());
    if lengths.is_empty() {
        return None;
    }
    let simulated = data.simulated(Figure::Strong, "local");
    let ideal = |&us: &f64| {
        let of = measured.clone().filter(|m| m.task_us == Some(us));
        let mut points: Vec<Place> = of.filter_map(|m| Some((m.workers? as f64, m.ideal_seconds()?))).collect();
        points.retain(|point| point.1 > 0.0);
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series { look: Look { color: PALE, mark: None, stroke: Some(Stroke::Solid) }, points }
    };
    let mut series: Vec<Series> = lengths.iter().map(ideal).collect();
    series.extend(by_length(simulated.clone(), Origin::Simulated, "local"));
    series.extend(by_length(measured.clone(), Origin::Measured, ""));
    let mut legend = tasks_legend(&lengths);
    let mut from = vec![(Origin::Measured, "", "measured")];
    if simulated.clone().next().is_some() {
        from.push((Origin::Simulated, "local", "simulated, local"));
    }
    legend.extend(origins(&from));
    let pale = Look { color: PALE, mark: None, stroke: Some(Stroke::Solid) };
    legend.push(Legend::Entry(pale, "no overhead at all".to_owned()));
    let counts = lengths.iter().filter_map(|&us| {
        let tasks = measured.clone().find(|m| m.task_us == Some(us))?.tasks?;
        Some(format!("{} tasks {}", grouped(tasks as f64), length_name(us)))
    });
    let counts: Vec<String> = counts.collect();
    let title = "Strong scaling: the same tasks on more workers".to_owned();
    let chart = LineChart {
        title: title.clone(),
        subtitle: format!("{} {}. Tasks sleep, so that workers may outnumber cores.", data.measured, counts.join(", ")),
        x: Axis::powers("workers", places(&series)),
        y: Axis::decades("first hand-out to last record", values(&series), seconds_name),
        series,
        legend,
    };
    Some((title, chart.scene()))
}

fn strong_large(data: &Data) -> Option<(String, Scene)> {
    let models = ["slingshot", "gemini"];
    let mut series = Vec::new();
    for model in models {
        series.extend(by_length(data.simulated(Figure::Strong, model), Origin::Simulated, model));
    }
    if series.is_empty() {
        return None;
    }
    series.extend(published_lines(data, Figure::Strong));
    let mut legend = tasks_legend(&lengths(data.simulated(Figure::Strong, "slingshot")));
    legend.extend(origins(&[
        (Origin::Simulated, "slingshot", "simulated, slingshot"),
        (Origin::Simulated, "gemini", "simulated, gemini"),
    ]));
    legend.extend(published_legend());
    let title = "Strong scaling on large machines, simulated: 50,000 tasks".to_owned();
    let chart = LineChart {
        title: title.clone(),
        subtitle: "32 workers a node. Published: tasks that do nothing, 50,000 divided by the largest rate that was published \
                   (HPDC'19, arXiv 1905.02158); it cannot be faster."
            .to_owned(),
        x: Axis::powers("workers", places(&series)),
        y: Axis::decades("first hand-out to last record", values(&series), seconds_name),
        series,
        legend,
    };
    Some((title, chart.scene()))
}

/// The two executors of Parsl for many nodes.
const PARSL: [&str; 2] = ["Parsl EXEX", "Parsl HTEX"];

/// Where lines lie on each other, as those of EXEX and HTEX do, both can be seen.
fn published_look(system: &str) -> Look {
    match system {
        "Parsl HTEX" => Look { stroke: Some(Stroke::Dashed(2.0, 10.0)), ..look(PURPLE, Origin::Published, "") },
        "Parsl EXEX" => look(DARK, Origin::Published, ""),
        _ => look(ORANGE, Origin::Published, ""),
    }
}

/// The lines of EXEX and HTEX.
fn published_lines(data: &Data, figure: Figure) -> Vec<Series> {
    let one = |system: &&str| {
        let points = by_workers(data.of(figure, Origin::Published).filter(|m| m.system == *system));
        Series { look: published_look(system), points }
    };
    PARSL.iter().map(one).collect()
}

fn published_legend() -> Vec<Legend> {
    let entry = |system: &&str| Legend::Entry(published_look(system), format!("published, {system}"));
    PARSL.iter().map(entry).collect()
}

fn weak(data: &Data) -> Option<(String, Scene)> {
    let measured = data.of(Figure::Weak, Origin::Measured);
    let mut from = Vec::new();
    let mut series = Vec::new();
    for (model, text) in
        [("local", "simulated, local"), ("slingshot", "simulated, slingshot"), ("gemini", "simulated, gemini")]
    {
        let of_model = by_length(data.simulated(Figure::Weak, model), Origin::Simulated, model);
        if !of_model.is_empty() {
            from.push((Origin::Simulated, model, text));
            series.extend(of_model);
        }
    }
    series.extend(by_length(measured.clone(), Origin::Measured, ""));
    if measured.clone().next().is_some() {
        from.insert(0, (Origin::Measured, "", "measured"));
    }
    if series.is_empty() {
        return None;
    }
    let all = measured.chain(data.of(Figure::Weak, Origin::Simulated));
    let mut legend = tasks_legend(&lengths(all));
    series.extend(published_lines(data, Figure::Weak));
    legend.extend(origins(&from));
    legend.extend(published_legend());
    let title = "Weak scaling: ten tasks for each worker".to_owned();
    let chart = LineChart {
        title: title.clone(),
        subtitle: format!(
            "{} Published: tasks that do nothing; EXEX at 262,144 workers as published (Blue Waters), all else ten tasks a \
             worker by the largest published rate (HPDC'19, arXiv 1905.02158); it cannot be faster.",
            data.measured
        ),
        x: Axis::powers("workers", places(&series)),
        y: Axis::decades("first hand-out to last record", values(&series), seconds_name),
        series,
        legend,
    };
    Some((title, chart.scene()))
}

fn throughput(data: &Data) -> Option<(String, Scene)> {
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
        legend.push(Legend::Entry(look, format!("measured, {count} workers")));
    }
    let simulated = by_tasks(&mut data.simulated(Figure::Throughput, "local"));
    if !simulated.is_empty() {
        let look = look(BLUE, Origin::Simulated, "local");
        series.push(Series { look, points: simulated });
        legend.push(Legend::Entry(look, "simulated, local, 2 workers".to_owned()));
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
    legend.push(Legend::Heading("Largest published rates".to_owned()));
    for rate in data.of(Figure::Throughput, Origin::Published) {
        let look = Look { mark: None, ..published_look(&rate.system) };
        series.push(Series { look, points: vec![(least, rate.value), (most, rate.value)] });
        legend.push(Legend::Entry(look, format!("published, {}: {}", rate.system, grouped(rate.value))));
    }
    let title = "Throughput: tasks that do nothing, in bundles of growing size".to_owned();
    let chart = LineChart {
        title: title.clone(),
        subtitle: format!(
            "{} Up to {most_workers} workers; others on this machine with as many workers as cores. Published: Parsl in HPDC'19 \
             (arXiv 1905.02158) on a small cluster, HyperQueue in its thesis without running anything.",
            data.measured
        ),
        x: Axis::decades("tasks in the bundle", places(&series), count_name),
        y: Axis::decades("tasks per second", values(&series), count_name),
        series,
        legend,
    };
    Some((title, chart.scene()))
}

fn efficiency(data: &Data) -> Option<(String, Scene)> {
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
        legend.push(Legend::Entry(look, format!("measured, {count} workers")));
    }
    for (model, color) in [("local", BLUE), ("slingshot", GREEN)] {
        let of_model = data.simulated(Figure::Efficiency, model);
        let Some(count) = of_model.clone().find_map(|m| m.workers) else { continue };
        let look = look(color, Origin::Simulated, model);
        series.push(Series { look, points: curve(&mut of_model.clone()) });
        legend.push(Legend::Entry(look, format!("simulated, {model}, {}", grouped(count as f64))));
    }
    if series.is_empty() {
        return None;
    }
    legend.push(Legend::Heading("METG(50 %) of others".to_owned()));
    for (index, other) in data.of(Figure::Metg, Origin::Published).enumerate() {
        let look = without_line(look([DARK, GREY, ORANGE, RED, BLUE][index % 5], Origin::Published, ""));
        series.push(Series { look, points: vec![(other.value, 0.5)] });
        legend.push(Legend::Entry(look, format!("published, {}: {}", other.system, short_us(other.value))));
    }
    let found = data
        .of(Figure::Metg, Origin::Measured)
        .map(|m| format!("METG(50 %) measured on {} workers: {}.", m.workers.unwrap_or(0), short_us(m.value)));
    let found: Vec<String> = found.collect();
    let title = "Efficiency of ever shorter tasks".to_owned();
    let chart = LineChart {
        title: title.clone(),
        subtitle: format!(
            "{} {} Granularity is wall time × cores ÷ tasks, the manager's core included. Published: raw logs of Task Bench, no \
             dependencies, one node of 32 cores.",
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

/// Microseconds with three digits, in a unit that fits.
fn short_us(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", digits(us / 1e6)),
        us if us >= 1e3 => format!("{} ms", digits(us / 1e3)),
        us => format!("{} µs", digits(us)),
    }
}

fn digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => grouped(v),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// A row with what is known of a figure.
fn row(m: &Measurement, label: String, text: String, color: RGBColor) -> Row {
    let least = m.rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let most = m.rounds.iter().copied().fold(0.0, f64::max);
    let spread = (m.rounds.len() > 1 && least > 0.0).then_some((least, most));
    Row { label, look: without_line(look(color, m.origin, &m.machine)), value: m.value, spread, text }
}

/// Ours and those of others.
fn color_of_system(m: &Measurement) -> RGBColor {
    match m.origin {
        Origin::Published => GREY,
        _ if m.system.starts_with("Myriarch") => BLUE,
        _ => ORANGE,
    }
}

fn dots_legend(rows: &[Row]) -> Vec<Legend> {
    let used = |mark: Mark| rows.iter().any(|row| row.look.mark == Some(mark));
    let entry = |color, origin, model: &str, text: &str| {
        Legend::Entry(without_line(look(color, origin, model)), text.to_owned())
    };
    let mut legend = Vec::new();
    if used(Mark::Disc) {
        legend.push(entry(BLUE, Origin::Measured, "", "measured, Myriarch"));
        legend.push(entry(ORANGE, Origin::Measured, "", "measured, others (lines: least to most of the rounds)"));
    }
    if used(Mark::Triangle) || used(Mark::Square) {
        legend.push(entry(BLUE, Origin::Simulated, "local", "simulated"));
    }
    if used(Mark::Cross) {
        legend.push(entry(GREY, Origin::Published, "", "published"));
    }
    legend
}

fn dots(title: &str, subtitle: String, label: &str, name: fn(f64) -> String, rows: Vec<Row>) -> (String, Scene) {
    let spread = |row: &Row| row.spread.map_or([row.value, row.value], |(least, most)| [least, most]);
    let all: Vec<f64> = rows.iter().flat_map(spread).collect();
    let legend = dots_legend(&rows);
    let x = Axis::decades(label, all.iter().copied(), name);
    let chart = DotChart { title: title.to_owned(), subtitle, x, rows, legend };
    (title.to_owned(), chart.scene())
}

fn latency(data: &Data) -> Option<(String, Scene)> {
    let measured = data.of(Figure::Latency, Origin::Measured);
    measured.clone().next()?;
    let published = data.of(Figure::Latency, Origin::Published);
    let mut all: Vec<&Measurement> =
        measured.chain(published).chain(data.of(Figure::Latency, Origin::Simulated)).collect();
    all.sort_by(|a, b| a.value.total_cmp(&b.value));
    let label = |m: &Measurement| match m.origin {
        Origin::Measured if m.timed.contains("its program") => format!("{}, beside others", m.system),
        Origin::Measured => m.system.clone(),
        Origin::Simulated => format!("{}, a run of one task, simulated ({})", m.system, m.machine),
        Origin::Published => format!("{}, published", m.system),
    };
    let rows = all.into_iter().map(|m| row(m, label(m), short_us(m.value), color_of_system(m))).collect();
    let subtitle = format!(
        "{} Submit to result in a program, the median; without a file, as with the others. Simulated is a whole run of one task \
         between two nodes, kept in a file. Published: HPDC'19, arXiv 1905.02158.",
        data.measured
    );
    Some(dots("Latency: one task at a time", subtitle, "one task, submit to result", us_name, rows))
}

fn processes(data: &Data) -> Option<(String, Scene)> {
    let measured = data.of(Figure::Processes, Origin::Measured);
    measured.clone().next()?;
    let mut all: Vec<&Measurement> = measured.chain(data.of(Figure::Processes, Origin::Simulated)).collect();
    all.sort_by(|a, b| b.value.total_cmp(&a.value));
    let label = |m: &Measurement| match m.origin {
        Origin::Simulated => format!("{}, simulated ({})", m.system, m.machine),
        _ => m.system.clone(),
    };
    let rows =
        all.into_iter().map(|m| row(m, label(m), format!("{} /s", grouped(m.value)), color_of_system(m))).collect();
    let subtitle = format!(
        "{} A slot for each core. \"Whole command\" counts from its start to its exit, with MPI's start-up, over fewer tasks; the \
         Python package of HyperQueue runs server and worker in one process and tells the end to a second.",
        data.measured
    );
    Some(dots("Processes of /bin/true", subtitle, "processes per second", count_name, rows))
}

fn peers(data: &Data) -> Option<(String, Scene)> {
    let measured = data.of(Figure::Peers, Origin::Measured);
    measured.clone().next()?;
    let mut all: Vec<&Measurement> = measured.collect();
    let order = |m: &Measurement| m.task_us.unwrap_or(0.0);
    all.sort_by(|a, b| order(a).total_cmp(&order(b)).then(a.tasks.cmp(&b.tasks)).then(b.value.total_cmp(&a.value)));
    let label = |m: &Measurement| {
        let tasks = grouped(m.tasks.unwrap_or(0) as f64);
        match m.task_us {
            Some(us) if us > 0.0 => format!("{}: {tasks} tasks of {}", m.system, us_name(us)),
            _ => format!("{}: {tasks} tasks that do nothing", m.system),
        }
    };
    let rows =
        all.into_iter().map(|m| row(m, label(m), format!("{} /s", grouped(m.value)), color_of_system(m))).collect();
    let subtitle = format!(
        "{} A worker for each core, alternating rounds of one session, medians. Functions of Python for the others, functions of \
         the program itself for Myriarch.",
        data.measured
    );
    Some(dots("The same tasks with several systems", subtitle, "tasks per second", count_name, rows))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn measurement(figure: Figure, origin: Origin, workers: u64, task_us: f64, value: f64) -> Measurement {
        let mut m = Measurement::new(figure, origin, "Myriarch", vec![value, value * 1.1, value * 0.9]);
        (m.workers, m.tasks, m.task_us) = (Some(workers), Some(100 * workers), Some(task_us));
        m.granularity_us = (figure == Figure::Efficiency).then_some(task_us + 1.0);
        if origin == Origin::Simulated {
            m.machine = "local".to_owned();
        }
        m
    }

    /// Some figures of every kind.
    pub fn record() -> Record {
        let mut record = Record { section: "strong".into(), date: "2026-11-22 04:30:00".into(), ..Record::default() };
        record.machine.cores = 2;
        record.load_before = vec![3.5, 2.0, 1.0];
        record.machine.cpu = "a processor".to_owned();
        use Figure::*;
        for figure in [Strong, Weak, Throughput, Latency, Efficiency, Metg, Processes, Peers] {
            for origin in [Origin::Measured, Origin::Simulated] {
                for (workers, us) in [(1, 0.0), (2, 0.0), (1, 10_000.0), (2, 10_000.0)] {
                    let value = if figure == Efficiency { 0.6 } else { 3.0 / workers as f64 };
                    record.measurements.push(measurement(figure, origin, workers, us, value));
                }
            }
        }
        record
    }

    #[test]
    fn every_plot_says_what_was_measured_what_simulated_and_what_published() {
        let folder = tempfile::tempdir().unwrap();
        let pictures = draw_all(&[record()], folder.path()).unwrap();
        let names: Vec<&str> = pictures.iter().map(|picture| picture.name).collect();
        assert_eq!(names, ["strong", "weak", "throughput", "latency", "metg", "processes", "peers"]);
        for name in names {
            let svg = std::fs::read_to_string(folder.path().join(format!("{name}.svg"))).unwrap();
            assert!(svg.contains("measured"), "{name}");
            assert!(svg.contains("load average up to 3.5"), "{name}");
            assert_eq!(svg.contains("simulated"), name != "peers", "{name}");
            assert_eq!(svg.contains("published"), !["strong", "processes", "peers"].contains(&name), "{name}");
            let png = std::fs::metadata(folder.path().join(format!("{name}.png"))).unwrap();
            assert!(png.len() > 5_000, "{name}");
        }
        let weak = std::fs::read_to_string(folder.path().join("weak.svg")).unwrap();
        for label in ["workers", "first hand-out to last record", "tasks of 10 ms", "Parsl EXEX", "262,144"] {
            assert!(weak.contains(label), "{label}");
        }
    }

    #[test]
    fn nothing_is_drawn_of_published_figures_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(draw_all(&[Record::default()], folder.path()).unwrap(), []);
    }
}
