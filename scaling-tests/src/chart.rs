//! Two kinds of charts: lines over a logarithmic axis, and rows with a dot each. Legends stand beside the points, never on
//! them. Knows nothing of what the figures mean.

use crate::scene::{Align, Mark, Place, Scene, Stroke, text_width};
use plotters::style::RGBColor;

const WIDTH: f64 = 1_120.0;
const TITLE: f64 = 19.0;
const TEXT: f64 = 13.5;
const MARK: f64 = 4.6;
const DARK: RGBColor = RGBColor(30, 30, 30);
const PALE: RGBColor = RGBColor(95, 95, 95);
const GRID: RGBColor = RGBColor(222, 222, 222);
const FAINT: RGBColor = RGBColor(240, 240, 240);

/// An axis: where values lie, and what is written at it.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    logarithmic: bool,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
    faint: Vec<f64>,
}

impl Axis {
    /// Decades that hold all values, with `name` at each or, where they are many, at every second or third.
    pub fn decades(label: &str, values: impl Iterator<Item = f64> + Clone, name: fn(f64) -> String) -> Axis {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(0.0, f64::max);
        let (first, last) = match least < f64::INFINITY {
            // What lies on a decade is no reason for another.
            true => ((least.log10() + 1e-6).floor() as i32, (most.log10() - 1e-6).ceil() as i32),
            false => (0, 1),
        };
        let all = first..=last.max(first + 1);
        let step = (all.clone().count() as i32 - 1) / 9 + 1;
        let ticks = all.clone().filter(|power| (power - first) % step == 0).map(|power| 10_f64.powi(power));
        let faint = match all.clone().count() {
            0..=6 => all.clone().flat_map(|power| (2..10).map(move |n| f64::from(n) * 10_f64.powi(power))).collect(),
            _ => all.clone().map(|power| 10_f64.powi(power)).collect(),
        };
        Axis {
            label: label.to_owned(),
            logarithmic: true,
            from: 10_f64.powi(first),
            to: 10_f64.powi(*all.end()),
            ticks: ticks.map(|value| (value, name(value))).collect(),
            faint,
        }
    }

    /// Powers of two that hold all values; of four where they are many.
    pub fn powers(label: &str, values: impl Iterator<Item = f64> + Clone) -> Axis {
        let least = values.clone().fold(f64::INFINITY, f64::min).clamp(1.0, 1e15);
        let most = values.fold(2.0, f64::max);
        let (first, last) = (least.log2().floor() as i32, most.log2().ceil() as i32);
        let step = if last - first > 8 { 2 } else { 1 };
        let ticks = (first..=last).filter(|power| (power - first) % step == 0).map(|power| 2_f64.powi(power));
        Axis {
            label: label.to_owned(),
            logarithmic: true,
            from: 2_f64.powi(first) / 1.25,
            to: 2_f64.powi(last) * 1.25,
            ticks: ticks.map(|value| (value, grouped(value))).collect(),
            faint: Vec::new(),
        }
    }

    /// From nothing to all.
    pub fn percent(label: &str) -> Axis {
        let ticks = (0..=5).map(|step| (f64::from(step) * 0.2, format!("{} %", step * 20)));
        let (from, to) = (0.0, 1.04);
        Axis { label: label.to_owned(), logarithmic: false, from, to, ticks: ticks.collect(), faint: vec![0.5] }
    }

    /// Where a value lies: 0 at the beginning, 1 at the end.
    fn part(&self, value: f64) -> f64 {
        match self.logarithmic {
            true => (value / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        }
    }

    fn holds(&self, value: f64) -> bool {
        (-1e-9..=1.0 + 1e-9).contains(&self.part(value))
    }
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Of line and marks.
    pub color: RGBColor,
    /// None draws no marks.
    pub mark: Option<Mark>,
    /// None draws no line.
    pub stroke: Option<Stroke>,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    /// How it is drawn.
    pub look: Look,
    /// Its points, from left to right.
    pub points: Vec<Place>,
}

/// A line of the legend.
#[derive(Clone, Debug)]
pub enum Legend {
    /// A heading.
    Heading(String),
    /// A sample and what it means.
    Entry(Look, String),
}

/// Lines over a logarithmic axis.
pub struct LineChart {
    /// At the top.
    pub title: String,
    /// Below it, smaller.
    pub subtitle: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// What is drawn, the last on top.
    pub series: Vec<Series>,
    /// Beside the points.
    pub legend: Vec<Legend>,
}

/// A row of a [`DotChart`].
#[derive(Clone, Debug)]
pub struct Row {
    /// At its left end.
    pub label: String,
    /// How its dot looks.
    pub look: Look,
    /// Where the dot lies.
    pub value: f64,
    /// From the least to the most of the rounds.
    pub spread: Option<(f64, f64)>,
    /// At its right end.
    pub text: String,
}

/// Rows with a dot each.
pub struct DotChart {
    /// At the top.
    pub title: String,
    /// Below it, smaller.
    pub subtitle: String,
    /// To the right.
    pub x: Axis,
    /// From top to bottom.
    pub rows: Vec<Row>,
    /// Below the rows.
    pub legend: Vec<Legend>,
}

fn heading(scene: &mut Scene, title: &str, subtitle: &str) -> f64 {
    scene.text((24.0, 26.0), title, TITLE, DARK, Align::Left);
    let mut y = 50.0;
    for line in wrapped(subtitle, WIDTH - 48.0) {
        scene.text((24.0, y), &line, TEXT, PALE, Align::Left);
        y += 18.0;
    }
    y + 8.0
}

/// Lines of words, none wider than this.
fn wrapped(text: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), TEXT) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn sample(scene: &mut Scene, at: Place, look: Look) {
    if let Some(stroke) = look.stroke {
        scene.line(&[at, (at.0 + 34.0, at.1)], 2.0, look.color, stroke);
    }
    if let Some(mark) = look.mark {
        scene.mark((at.0 + 17.0, at.1), mark, MARK, look.color);
    }
}

impl LineChart {
    /// As a picture.
    pub fn scene(&self) -> Scene {
        let height = 640.0;
        let mut scene = Scene::new(WIDTH as u32, height as u32);
        let top = heading(&mut scene, &self.title, &self.subtitle);
        let legend_width = self.legend.iter().map(legend_width).fold(0.0, f64::max);
        let (left, right) = (92.0, WIDTH - legend_width - 40.0);
        let bottom = height - 62.0;
        let at_x = |value: f64| left + self.x.part(value) * (right - left);
        let at_y = |value: f64| bottom - self.y.part(value) * (bottom - top);

        for &value in self.x.faint.iter().filter(|&&value| self.x.holds(value)) {
            scene.line(&[(at_x(value), top), (at_x(value), bottom)], 1.0, FAINT, Stroke::Solid);
        }
        for &value in self.y.faint.iter().filter(|&&value| self.y.holds(value)) {
            scene.line(&[(left, at_y(value)), (right, at_y(value))], 1.0, FAINT, Stroke::Solid);
        }
        for (value, name) in &self.x.ticks {
            scene.line(&[(at_x(*value), top), (at_x(*value), bottom + 5.0)], 1.0, GRID, Stroke::Solid);
            scene.text((at_x(*value), bottom + 17.0), name, TEXT, DARK, Align::Middle);
        }
        for (value, name) in &self.y.ticks {
            scene.line(&[(left - 5.0, at_y(*value)), (right, at_y(*value))], 1.0, GRID, Stroke::Solid);
            scene.text((left - 10.0, at_y(*value)), name, TEXT, DARK, Align::Right);
        }
        scene.line(&[(left, top), (left, bottom), (right, bottom)], 1.2, PALE, Stroke::Solid);
        scene.text(((left + right) / 2.0, height - 20.0), &self.x.label, TEXT + 1.0, DARK, Align::Middle);
        scene.text_upwards((20.0, (top + bottom) / 2.0), &self.y.label, TEXT + 1.0, DARK);

        for series in &self.series {
            let inside = series.points.iter().filter(|(x, y)| self.x.holds(*x) && self.y.holds(*y));
            let places: Vec<Place> = inside.map(|&(x, y)| (at_x(x), at_y(y))).collect();
            if let (Some(stroke), true) = (series.look.stroke, places.len() > 1) {
                scene.line(&places, 2.0, series.look.color, stroke);
            }
            for &place in &places {
                if let Some(mark) = series.look.mark {
                    scene.mark(place, mark, MARK, series.look.color);
                }
            }
        }
        let mut y = top + 8.0;
        for entry in &self.legend {
            match entry {
                Legend::Heading(text) => {
                    y += 6.0;
                    scene.text((right + 22.0, y), text, TEXT, PALE, Align::Left);
                }
                Legend::Entry(look, text) => {
                    sample(&mut scene, (right + 22.0, y), *look);
                    scene.text((right + 64.0, y), text, TEXT, DARK, Align::Left);
                }
            }
            y += 22.0;
        }
        scene
    }
}

fn legend_width(entry: &Legend) -> f64 {
    match entry {
        Legend::Heading(text) => text_width(text, TEXT),
        Legend::Entry(_, text) => 42.0 + text_width(text, TEXT),
    }
}

impl DotChart {
    /// As a picture.
    pub fn scene(&self) -> Scene {
        let line = 27.0;
        let widest =
            |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| text_width(text, TEXT)).fold(0.0, f64::max);
        let subtitle_lines = wrapped(&self.subtitle, WIDTH - 48.0).len() as f64;
        let height = 58.0 + subtitle_lines * 18.0 + self.rows.len() as f64 * line + 100.0;
        let mut scene = Scene::new(WIDTH as u32, height as u32);
        let top = heading(&mut scene, &self.title, &self.subtitle);
        let left = 24.0 + widest(&mut self.rows.iter().map(|row| &row.label)) + 16.0;
        let right = WIDTH - 24.0 - widest(&mut self.rows.iter().map(|row| &row.text)) - 16.0;
        let bottom = top + self.rows.len() as f64 * line;
        let at_x = |value: f64| left + self.x.part(value) * (right - left);

        for &value in self.x.faint.iter().filter(|&&value| self.x.holds(value)) {
            scene.line(&[(at_x(value), top), (at_x(value), bottom)], 1.0, FAINT, Stroke::Solid);
        }
        for (value, name) in &self.x.ticks {
            scene.line(&[(at_x(*value), top), (at_x(*value), bottom + 5.0)], 1.0, GRID, Stroke::Solid);
            scene.text((at_x(*value), bottom + 17.0), name, TEXT, DARK, Align::Middle);
        }
        scene.line(&[(left, bottom), (right, bottom)], 1.2, PALE, Stroke::Solid);
        scene.text(((left + right) / 2.0, bottom + 42.0), &self.x.label, TEXT + 1.0, DARK, Align::Middle);
        for (index, row) in self.rows.iter().enumerate() {
            let y = top + (index as f64 + 0.5) * line;
            scene.text((left - 16.0, y), &row.label, TEXT, DARK, Align::Right);
            scene.line(&[(left, y), (at_x(row.value), y)], 1.0, GRID, Stroke::Solid);
            if let Some((least, most)) = row.spread {
                scene.line(&[(at_x(least), y), (at_x(most), y)], 2.0, row.look.color, Stroke::Solid);
            }
            if let Some(mark) = row.look.mark {
                scene.mark((at_x(row.value), y), mark, MARK + 0.8, row.look.color);
            }
            scene.text((WIDTH - 24.0, y), &row.text, TEXT, DARK, Align::Right);
        }
        let mut x = 24.0;
        for entry in &self.legend {
            let y = height - 22.0;
            match entry {
                Legend::Heading(text) => scene.text((x, y), text, TEXT, PALE, Align::Left),
                Legend::Entry(look, text) => {
                    sample(&mut scene, (x, y), *look);
                    scene.text((x + 42.0, y), text, TEXT, DARK, Align::Left);
                }
            }
            x += legend_width(entry) + 28.0;
        }
        scene
    }
}

/// A whole number with commas.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// `1 worker`, `1,024 workers`
pub fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number as f64), if number == 1 { "" } else { "s" })
}

/// A count or a rate at an axis: 1,000, 100,000, 1 million.
pub fn count_name(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{} billion", grouped(v / 1e9)),
        v if v >= 1e6 => format!("{} million", grouped(v / 1e6)),
        v if v >= 1.0 => grouped(v),
        v => format!("{v}"),
    }
}

/// Seconds at an axis: 10 µs, 1 ms, 100 s.
pub fn seconds_name(value: f64) -> String {
    match value {
        v if v >= 0.999 => format!("{} s", grouped(v)),
        v if v >= 0.999e-3 => format!("{:.0} ms", v * 1e3),
        v if v >= 0.999e-6 => format!("{:.0} µs", v * 1e6),
        v => format!("{:.0} ns", v * 1e9),
    }
}

/// Microseconds at an axis.
pub fn us_name(value: f64) -> String {
    seconds_name(value * 1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_as_people_write_them() {
        assert_eq!([1.0, 999.0, 1_000.0, 262_144.0].map(grouped), ["1", "999", "1,000", "262,144"]);
        assert_eq!([1, 0, 1_024].map(|n| counted(n, "worker")), ["1 worker", "0 workers", "1,024 workers"]);
        assert_eq!([10.0, 1e5, 1e7].map(count_name), ["10", "100,000", "10 million"]);
        assert_eq!([1e-8, 1e-4, 1e-3, 0.1, 1e4].map(seconds_name), ["10 ns", "100 µs", "1 ms", "100 ms", "10,000 s"]);
    }

    #[test]
    fn an_axis_holds_all_values_and_has_few_ticks() {
        let values = [0.002, 6_300.0];
        let axis = Axis::decades("makespan", values.into_iter(), seconds_name);
        assert!(values.iter().all(|&value| axis.holds(value)));
        assert_eq!(axis.ticks.first().unwrap().1, "1 ms");
        assert!((5..=10).contains(&axis.ticks.len()), "{:?}", axis.ticks);
        let workers = Axis::powers("workers", [1.0, 524_288.0].into_iter());
        assert!(workers.ticks.len() <= 10 && workers.holds(524_288.0) && workers.holds(1.0));
        assert!(workers.ticks.iter().any(|(_, name)| name == "262,144"));
    }

    #[test]
    fn an_axis_without_values_can_still_be_drawn() {
        let axis = Axis::decades("nothing", std::iter::empty(), count_name);
        assert!(axis.part(5.0).is_finite());
    }

    #[test]
    fn long_lines_are_wrapped_between_words() {
        let lines = wrapped(&"words of a long line ".repeat(20), 300.0);
        assert!(lines.len() > 3 && lines.iter().all(|line| text_width(line, TEXT) <= 300.0), "{lines:?}");
    }
}
