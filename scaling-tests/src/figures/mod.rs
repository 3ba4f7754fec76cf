//! Which figures go into which plot, and how what was measured, what was simulated and what others published look in it.
//!
//! | module | plots |
//! |---|---|
//! | `scaling` | strong and weak scaling |
//! | `curves` | throughput by the size of bundles, efficiency by the length of tasks |
//! | `dots` | latency, processes, several systems: a row each |

mod curves;
mod dots;
mod scaling;

use crate::chart::{Look, Series, grouped};
use crate::measurement::{Figure, Measurement, Origin, Record, published};
use crate::scene::{Mark, Scene, Stroke};
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

/// What a plot chooses from.
struct Data {
    all: Vec<Measurement>,
    /// `Measured on a machine with 2 cores (…), 2026-11-22.`, and before it whether there is anything of a quick look.
    measured: String,
}

impl Data {
    fn of(&self, figure: Figure, origin: Origin) -> impl Iterator<Item = &Measurement> + Clone {
        self.all.iter().filter(move |m| m.figure == figure && m.origin == origin)
    }

    fn simulated<'a>(&'a self, figure: Figure, model: &'a str) -> impl Iterator<Item = &'a Measurement> + Clone {
        self.of(figure, Origin::Simulated).filter(move |m| m.machine == model)
    }

    /// What others published, and what was derived from it.
    fn of_others(&self, figure: Figure) -> impl Iterator<Item = &Measurement> + Clone {
        self.all.iter().filter(move |m| m.figure == figure && m.origin.is_of_others())
    }

    /// The models of a figure: those that are built in first, from small machines to large ones.
    fn models(&self, figure: Figure) -> Vec<&str> {
        let mut models: Vec<&str> = self.of(figure, Origin::Simulated).map(|m| m.machine.as_str()).collect();
        let order = |model: &str| {
            let known = ["local", "slingshot", "gemini"];
            known.iter().position(|&known| known == model).unwrap_or(known.len())
        };
        models.sort_by_key(|&model| (order(model), model));
        models.dedup();
        models
    }
}

/// Draws every plot for which there is something measured or simulated.
pub fn draw_all(records: &[Record], folder: &Path) -> Result<Vec<Picture>> {
    let mut all: Vec<Measurement> = records.iter().flat_map(Record::figures).collect();
    all.extend(published());
    let where_measured = measured_where(records);
    let mut pictures = Vec::new();
    let mut draw = |name: &'static str, figures: &[Figure], plot: Plot| -> Result<()> {
        let of_plot = || all.iter().filter(|m| figures.contains(&m.figure));
        let quick = if of_plot().any(|m| m.quick) { "QUICK LOOK: figures that mean little. " } else { "" };
        let data = Data { all: of_plot().cloned().collect(), measured: format!("{quick}{where_measured}") };
        if let Some((title, scene)) = plot(&data) {
            scene.write_svg(&folder.join(format!("{name}.svg")))?;
            scene.write_png(&folder.join(format!("{name}.png")))?;
            pictures.push(Picture { name, title });
        }
        Ok(())
    };
    draw("strong", &[Figure::Strong], scaling::strong_here)?;
    draw("strong-large", &[Figure::Strong], scaling::strong_large)?;
    draw("weak", &[Figure::Weak], scaling::weak)?;
    draw("throughput", &[Figure::Throughput, Figure::Peers], curves::throughput)?;
    draw("latency", &[Figure::Latency], dots::latency)?;
    draw("metg", &[Figure::Efficiency, Figure::Metg], curves::efficiency)?;
    draw("processes", &[Figure::Processes], dots::processes)?;
    draw("peers", &[Figure::Peers], dots::peers)?;
    Ok(pictures)
}

/// A plot with its title; none where there is nothing measured or simulated for it.
type Plot = fn(&Data) -> Option<(String, Scene)>;

fn measured_where(records: &[Record]) -> String {
    let measured = records.iter().filter(|record| record.section != "simulated");
    let Some(record) = measured.clone().next() else { return "Nothing was measured.".to_owned() };
    let day = record.date.split(' ').next().unwrap_or_default();
    let (cores, cpu) = (record.machine.cores, &record.machine.cpu);
    let plural = if cores == 1 { "" } else { "s" };
    // What else ran there is said where it is too much to be overlooked.
    let load = measured.filter_map(|record| record.load_before.first().copied()).fold(0.0, f64::max);
    let disturbed = match load > 0.5 * cores as f64 {
        true => format!(" while it had other work too (load average up to {load:.1})"),
        false => String::new(),
    };
    format!("Measured on a machine with {cores} core{plural} ({cpu}), {day}{disturbed}.")
}

/// How the figures of an origin look: marks and strokes tell them apart without colors too.
fn look(color: RGBColor, origin: Origin, model: &str) -> Look {
    let (mark, stroke) = match (origin, model) {
        (Origin::Measured, _) => (Mark::Disc, Stroke::Solid),
        (Origin::Simulated, "local") => (Mark::Triangle, Stroke::Dashed(7.0, 4.0)),
        (Origin::Simulated, "slingshot") => (Mark::Square, Stroke::Dashed(10.0, 4.0)),
        (Origin::Simulated, _) => (Mark::Diamond, Stroke::Dashed(4.0, 4.0)),
        (Origin::Published | Origin::Derived, _) => (Mark::Cross, Stroke::Dashed(2.0, 4.0)),
    };
    Look { color, mark: Some(mark), stroke: Some(stroke) }
}

fn without_line(look: Look) -> Look {
    Look { stroke: None, ..look }
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

/// What follows from what others published is a line without marks.
fn derived_look(system: &str) -> Look {
    Look { mark: None, ..published_look(system) }
}

fn values(series: &[Series]) -> impl Iterator<Item = f64> + Clone + '_ {
    series.iter().flat_map(|series| series.points.iter().map(|point| point.1))
}

fn places(series: &[Series]) -> impl Iterator<Item = f64> + Clone + '_ {
    series.iter().flat_map(|series| series.points.iter().map(|point| point.0))
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
    fn plots_with_figures_of_a_quick_look_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let (mut quick, mut real) = (record(), record());
        quick.options = Some([("quick".to_owned(), "yes".to_owned())].into());
        quick.measurements.retain(|m| m.figure == Figure::Weak);
        real.measurements.retain(|m| m.figure == Figure::Processes);
        draw_all(&[quick, real], folder.path()).unwrap();
        let svg = |name: &str| std::fs::read_to_string(folder.path().join(format!("{name}.svg"))).unwrap();
        assert!(svg("weak").contains("QUICK LOOK"));
        assert!(!svg("processes").contains("QUICK LOOK"));
    }

    #[test]
    fn one_model_for_small_and_large_machines_gets_into_the_plots_of_both() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = record();
        record.measurements.retain(|m| m.figure == Figure::Strong);
        record.measurements.iter_mut().for_each(|m| m.machine = m.machine.replace("local", "here.toml"));
        let large = |nodes: u64| {
            let m = measurement(Figure::Strong, Origin::Simulated, 32 * nodes, 10_000.0, 1.0 / nodes as f64);
            Measurement { machine: "here.toml".into(), nodes: Some(nodes), tasks: Some(50_000), ..m }
        };
        record.measurements.extend([large(1), large(4)]);
        let pictures = draw_all(&[record], folder.path()).unwrap();
        assert_eq!(pictures.iter().map(|picture| picture.name).collect::<Vec<_>>(), ["strong", "strong-large"]);
        for name in ["strong", "strong-large"] {
            let svg = std::fs::read_to_string(folder.path().join(format!("{name}.svg"))).unwrap();
            assert!(svg.contains("simulated, here.toml"), "{name}");
            assert_eq!(svg.contains("128"), name == "strong-large", "{name}: up to which number of workers");
        }
    }

    #[test]
    fn a_folder_of_simulations_names_no_machine_on_which_they_were_measured() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = Record { section: "simulated".into(), ..record() };
        record.measurements.retain(|m| m.origin == Origin::Simulated && m.figure == Figure::Weak);
        assert_eq!(draw_all(&[record], folder.path()).unwrap().len(), 1);
        let svg = std::fs::read_to_string(folder.path().join("weak.svg")).unwrap();
        assert!(svg.contains("Nothing was measured.") && !svg.contains("Measured on"));
    }

    #[test]
    fn nothing_is_drawn_of_published_figures_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(draw_all(&[Record::default()], folder.path()).unwrap(), []);
    }
}
