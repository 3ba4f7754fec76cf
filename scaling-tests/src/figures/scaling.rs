//! Strong and weak scaling: seconds by workers, a colour for each length of tasks.

use super::{
    BLUE, DARK, Data, GREEN, ORANGE, PALE, PARSL, RED, derived_look, look, places, published_look, values, without_line,
};
use crate::chart::{Axis, Legend, LineChart, Look, Series, grouped, seconds_name, us_name};
use crate::measurement::{Figure, Measurement, Origin};
use crate::scene::{Place, Scene, Stroke};
use crate::sections::simulated::RANKS_PER_NODE;
use crate::sections::strong;
use plotters::style::RGBColor;

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

/// What the marks mean, of those that are used.
fn origins(measured: bool, models: &[&str]) -> Vec<Legend> {
    let here = measured.then(|| Legend::Entry(look(DARK, Origin::Measured, ""), "measured".to_owned()));
    let entry = |model: &&str| Legend::Entry(look(DARK, Origin::Simulated, model), format!("simulated, {model}"));
    let heading = Legend::Heading("Where points come from".to_owned());
    std::iter::once(heading).chain(here).chain(models.iter().map(entry)).collect()
}

/// A simulation of what was measured too: as many tasks of this length on as many workers.
fn is_simulated_here(m: &Measurement, data: &Data) -> bool {
    let setup = |m: &Measurement| (m.workers, m.tasks, m.task_us.map(f64::to_bits));
    data.of(m.figure, Origin::Measured).any(|measured| setup(measured) == setup(m))
}

/// A simulation of the paper's tasks on nodes of a large machine.
fn is_large(m: &&Measurement) -> bool {
    m.tasks == Some(strong::TASKS) && m.workers == m.nodes.map(|nodes| nodes * RANKS_PER_NODE)
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

pub fn strong_here(data: &Data) -> Option<(String, Scene)> {
    let measured = data.of(Figure::Strong, Origin::Measured);
    let lengths = lengths(measured.clone());
    if lengths.is_empty() {
        return None;
    }
    let ideal = |&us: &f64| {
        let of = measured.clone().filter(|m| m.task_us == Some(us));
        let mut points: Vec<Place> = of.filter_map(|m| Some((m.workers? as f64, m.ideal_seconds()?))).collect();
        points.retain(|point| point.1 > 0.0);
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series { look: Look { color: PALE, mark: None, stroke: Some(Stroke::Solid) }, points }
    };
    let mut series: Vec<Series> = lengths.iter().map(ideal).collect();
    let mut models = data.models(Figure::Strong);
    models.retain(|model| data.simulated(Figure::Strong, model).any(|m| is_simulated_here(m, data)));
    for model in &models {
        let simulated = data.simulated(Figure::Strong, model).filter(|m| is_simulated_here(m, data));
        series.extend(by_length(simulated, Origin::Simulated, model));
    }
    series.extend(by_length(measured.clone(), Origin::Measured, ""));
    let mut legend = tasks_legend(&lengths);
    legend.extend(origins(true, &models));
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

pub fn strong_large(data: &Data) -> Option<(String, Scene)> {
    let mut models = data.models(Figure::Strong);
    models.retain(|model| data.simulated(Figure::Strong, model).any(|m| is_large(&m)));
    let mut series = Vec::new();
    for model in &models {
        series.extend(by_length(data.simulated(Figure::Strong, model).filter(is_large), Origin::Simulated, model));
    }
    if series.is_empty() {
        return None;
    }
    series.extend(derived_lines(data, Figure::Strong));
    let mut legend = tasks_legend(&lengths(data.of(Figure::Strong, Origin::Simulated).filter(is_large)));
    legend.extend(origins(false, &models));
    legend.extend(derived_legend());
    let title = "Strong scaling on large machines, simulated: 50,000 tasks".to_owned();
    let chart = LineChart {
        title: title.clone(),
        subtitle: "32 workers a node. Derived from published: tasks that do nothing, 50,000 divided by the largest rate that was \
                   published (HPDC'19, arXiv 1905.02158); it cannot be faster."
            .to_owned(),
        x: Axis::powers("workers", places(&series)),
        y: Axis::decades("first hand-out to last record", values(&series), seconds_name),
        series,
        legend,
    };
    Some((title, chart.scene()))
}

/// The lines of EXEX and HTEX, which follow from their rates.
fn derived_lines(data: &Data, figure: Figure) -> Vec<Series> {
    let one = |system: &&str| {
        let points = by_workers(data.of(figure, Origin::Derived).filter(|m| m.system == *system));
        Series { look: derived_look(system), points }
    };
    PARSL.iter().map(one).collect()
}

fn derived_legend() -> Vec<Legend> {
    let heading = Legend::Heading("Derived from published".to_owned());
    let entry = |system: &&str| Legend::Entry(derived_look(system), (*system).to_owned());
    std::iter::once(heading).chain(PARSL.iter().map(entry)).collect()
}

/// What stands in publications, and its legend.
fn published_points(data: &Data, figure: Figure) -> (Vec<Series>, Vec<Legend>) {
    let one = |m: &Measurement| {
        let look = without_line(published_look(&m.system));
        let series = Series { look, points: by_workers(std::iter::once(m)) };
        (series, Legend::Entry(look, format!("published, {}, {}", m.system, m.machine)))
    };
    data.of(figure, Origin::Published).map(one).unzip()
}

pub fn weak(data: &Data) -> Option<(String, Scene)> {
    let measured = data.of(Figure::Weak, Origin::Measured);
    let models = data.models(Figure::Weak);
    let mut series = Vec::new();
    for model in &models {
        series.extend(by_length(data.simulated(Figure::Weak, model), Origin::Simulated, model));
    }
    series.extend(by_length(measured.clone(), Origin::Measured, ""));
    let is_measured = measured.clone().next().is_some();
    if series.is_empty() {
        return None;
    }
    let all = measured.chain(data.of(Figure::Weak, Origin::Simulated));
    let mut legend = tasks_legend(&lengths(all));
    let (points, of_points) = published_points(data, Figure::Weak);
    series.extend(derived_lines(data, Figure::Weak));
    series.extend(points);
    legend.extend(origins(is_measured, &models));
    legend.extend(of_points);
    legend.extend(derived_legend());
    let title = "Weak scaling: ten tasks for each worker".to_owned();
    let chart = LineChart {
        title: title.clone(),
        subtitle: format!(
            "{} Published: EXEX with tasks that do nothing (HPDC'19, arXiv 1905.02158). Derived from published: ten such tasks a \
             worker by the largest published rate (the same paper); it cannot be faster.",
            data.measured
        ),
        x: Axis::powers("workers", places(&series)),
        y: Axis::decades("first hand-out to last record", values(&series), seconds_name),
        series,
        legend,
    };
    Some((title, chart.scene()))
}
