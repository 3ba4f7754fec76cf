//! Latency, processes and several systems with the same tasks: a row for each.

use super::{BLUE, Data, GREY, ORANGE, look, short_us, without_line};
use crate::chart::{Axis, DotChart, Legend, Row, count_name, counted, grouped, us_name};
use crate::measurement::{Figure, Measurement, Origin};
use crate::scene::{Mark, Scene};
use plotters::style::RGBColor;

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
        Origin::Published | Origin::Derived => GREY,
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
    if used(Mark::Triangle) || used(Mark::Square) || used(Mark::Diamond) {
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

pub fn latency(data: &Data) -> Option<(String, Scene)> {
    let measured = data.of(Figure::Latency, Origin::Measured);
    measured.clone().next()?;
    let published = data.of_others(Figure::Latency);
    let mut all: Vec<&Measurement> =
        measured.chain(published).chain(data.of(Figure::Latency, Origin::Simulated)).collect();
    all.sort_by(|a, b| a.value.total_cmp(&b.value));
    let label = |m: &Measurement| match m.origin {
        Origin::Measured if m.timed.contains("its program") => format!("{}, beside others", m.system),
        Origin::Measured => m.system.clone(),
        Origin::Simulated => format!("{}, a run of one task, simulated ({})", m.system, m.machine),
        Origin::Published | Origin::Derived => format!("{}, {}", m.system, m.origin.name()),
    };
    let rows = all.into_iter().map(|m| row(m, label(m), short_us(m.value), color_of_system(m))).collect();
    let subtitle = format!(
        "{} Submit to result in a program, the median; without a file, as with the others. Simulated is a whole run of one task \
         between two nodes, kept in a file. Published: HPDC'19, arXiv 1905.02158.",
        data.measured
    );
    Some(dots("Latency: one task at a time", subtitle, "one task, submit to result", us_name, rows))
}

pub fn processes(data: &Data) -> Option<(String, Scene)> {
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

pub fn peers(data: &Data) -> Option<(String, Scene)> {
    let measured = data.of(Figure::Peers, Origin::Measured);
    measured.clone().next()?;
    let mut all: Vec<&Measurement> = measured.collect();
    let order = |m: &Measurement| m.task_us.unwrap_or(0.0);
    all.sort_by(|a, b| order(a).total_cmp(&order(b)).then(a.tasks.cmp(&b.tasks)).then(b.value.total_cmp(&a.value)));
    let label = |m: &Measurement| {
        let tasks = counted(m.tasks.unwrap_or(0), "task");
        match m.task_us {
            Some(us) if us > 0.0 => format!("{}: {tasks} of {}", m.system, us_name(us)),
            _ => format!("{}: {tasks} that do nothing", m.system),
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
