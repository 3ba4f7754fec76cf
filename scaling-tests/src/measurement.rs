//! What is measured, simulated or published: one figure each, and the files that keep them. Knows nothing of how a figure
//! comes about, nor of tables and plots.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a figure comes from. Tables and plots always say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Measured on the machine of the file, with the command that stands beside it.
    Measured,
    /// What `myriarch simulate` says.
    Simulated,
    /// What others wrote; the source stands beside it.
    Published,
    /// What follows from a rate or from logs that others published; how stands beside it.
    Derived,
}

impl Origin {
    /// As in tables and legends.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Measured => "measured",
            Origin::Simulated => "simulated",
            Origin::Published => "published",
            Origin::Derived => "derived from published",
        }
    }

    /// By others, and not by this program.
    pub fn is_of_others(self) -> bool {
        matches!(self, Origin::Published | Origin::Derived)
    }
}

/// Which of the pictures a figure belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Figure {
    /// The same tasks on more and more workers: seconds.
    Strong,
    /// Ten tasks for each of more and more workers: seconds.
    Weak,
    /// Tasks that do nothing, in larger and larger bundles: tasks per second.
    Throughput,
    /// One task at a time: microseconds.
    Latency,
    /// Shorter and shorter tasks: the part of the cores' time that they get.
    Efficiency,
    /// The smallest granularity with half of the cores' time: microseconds.
    Metg,
    /// Processes of /bin/true: per second.
    Processes,
    /// The same tasks given to several systems: per second.
    Peers,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The picture that it belongs to, which also says its unit.
    pub figure: Figure,
    /// Where it comes from.
    pub origin: Origin,
    /// Who ran the tasks: `Myriarch`, `Parsl HTEX` and so on.
    pub system: String,
    /// The model of a simulation, or the machine of a published figure; empty for this machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// Nodes, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u64>,
    /// Workers: slots of one core each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u64>,
    /// How many tasks there were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
    /// How long each task takes by itself, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_us: Option<f64>,
    /// Wall time × cores ÷ tasks, in microseconds, for [`Figure::Efficiency`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granularity_us: Option<f64>,
    /// The figure: the median of the rounds.
    pub value: f64,
    /// Each round, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<f64>,
    /// From when to when the clock ran.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub timed: String,
    /// The command, without what names this machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// For published figures: where, and how it was derived.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// What the command said, of the last round.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub raw: Value,
    /// Of a record that was made with `--quick`: [`Record::figures`] says it.
    #[serde(skip)]
    pub quick: bool,
}

impl Measurement {
    /// A figure with nothing but itself known. `rounds` must not be empty.
    pub fn new(figure: Figure, origin: Origin, system: &str, rounds: Vec<f64>) -> Measurement {
        let value = median(&rounds);
        Measurement {
            figure,
            origin,
            system: system.to_owned(),
            machine: String::new(),
            nodes: None,
            workers: None,
            tasks: None,
            task_us: None,
            granularity_us: None,
            value,
            rounds,
            timed: String::new(),
            command: String::new(),
            source: String::new(),
            raw: Value::Null,
            quick: false,
        }
    }

    /// How long list scheduling at no cost takes, in seconds: full rounds of tasks of one length.
    pub fn ideal_seconds(&self) -> Option<f64> {
        let (tasks, workers) = (self.tasks?, self.workers?);
        Some(tasks.div_ceil(workers.max(1)) as f64 * self.task_us? * 1e-6)
    }
}

/// The middle value, or the mean of the two in the middle. Not a number where there is none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The machine and the programs of a file's figures. No names of hosts, no paths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// As given by `--machine`.
    pub kind: String,
    /// Cores of this process.
    pub cores: u64,
    /// What the processor calls itself.
    pub cpu: String,
    /// Gibibytes of memory.
    pub memory_gib: u64,
    /// The operating system.
    pub system: String,
    /// How ranks were started, and what that program says of its version.
    pub launcher: String,
    /// `myriarch --version`.
    pub myriarch: String,
    /// Of the sources, by git.
    pub revision: String,
}

/// Options that count in a section, by name without dashes: what they said, or what holds without them.
pub type Options = BTreeMap<String, String>;

/// A system that was not measured, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Which.
    pub system: String,
    /// Why.
    pub reason: String,
}

/// One file: the figures of a section.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The section's name.
    pub section: String,
    /// What was run, and how it was scaled to the machine.
    pub about: String,
    /// When it began: date and time, UTC.
    pub date: String,
    /// How long it took.
    pub seconds: f64,
    /// Load averages of 1, 5 and 15 minutes when it began: what else the machine was doing.
    pub load_before: Vec<f64>,
    /// The same at its end, its own load included.
    pub load_after: Vec<f64>,
    /// Where and with what.
    pub machine: Machine,
    /// With which options. None where the file does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Options>,
    /// Versions of other systems, by name.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// What was not measured.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// The figures.
    pub measurements: Vec<Measurement>,
}

impl Record {
    /// Whether it was made with `--quick`, as far as it says.
    pub fn is_quick(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.contains_key("quick"))
    }

    /// The figures, which say whether they are of a quick look.
    pub fn figures(&self) -> impl Iterator<Item = Measurement> + '_ {
        self.measurements.iter().map(|m| Measurement { quick: self.is_quick(), ..m.clone() })
    }

    /// The file of a section.
    pub fn path(folder: &Path, section: &str) -> PathBuf {
        folder.join(format!("{section}.json"))
    }

    /// Writes the file; a reader never sees half of it.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = Record::path(folder, &self.section);
        let half = path.with_extension("json.part");
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(&half, text).with_context(|| format!("{} cannot be written", half.display()))?;
        std::fs::rename(&half, &path).with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Reads a file that [`Record::write`] wrote.
    pub fn read(path: &Path) -> Result<Record> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        serde_json::from_str(&text).with_context(|| {
            let path = path.display();
            format!("{path} is broken, or not of this program (remove it, or measure that section anew with --again)")
        })
    }

    /// All records of a folder, in the order in which they began; there is one at least.
    pub fn read_all(folder: &Path) -> Result<Vec<Record>> {
        let records = Record::read_but(folder, &[])?;
        if records.is_empty() {
            bail!("{} holds no results: no file ends with .json", folder.display());
        }
        Ok(records)
    }

    /// The records of a folder without those of some sections, whose files may be broken.
    pub fn read_but(folder: &Path, without: &[&str]) -> Result<Vec<Record>> {
        let entries = std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.retain(|path| without.iter().all(|section| *path != Record::path(folder, section)));
        paths.sort();
        let mut records = paths.iter().map(|path| Record::read(path)).collect::<Result<Vec<_>>>()?;
        records.sort_by(|a, b| a.date.cmp(&b.date));
        Ok(records)
    }
}

/// What others published: `published.json` of this crate.
pub fn published() -> Vec<Measurement> {
    serde_json::from_str(include_str!("../published.json")).expect("a test reads published.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn list_scheduling_takes_full_rounds() {
        let mut measurement = Measurement::new(Figure::Strong, Origin::Measured, "Myriarch", vec![1.0]);
        assert_eq!(measurement.ideal_seconds(), None);
        (measurement.tasks, measurement.workers, measurement.task_us) = (Some(32), Some(15), Some(1e6));
        assert_eq!(measurement.ideal_seconds(), Some(3.0));
    }

    #[test]
    fn each_published_figure_names_its_source() {
        let published = published();
        assert!(published.len() > 10);
        for measurement in published {
            let derived = measurement.source.starts_with("derived: ");
            assert_eq!(
                measurement.origin,
                if derived { Origin::Derived } else { Origin::Published },
                "{measurement:?}"
            );
            assert!(measurement.source.len() > 10, "{measurement:?}");
            assert!(measurement.value > 0.0, "{measurement:?}");
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = Record { section: "weak".into(), seconds: 1.5, ..Record::default() };
        record.measurements.push(Measurement::new(Figure::Weak, Origin::Measured, "Myriarch", vec![0.1, 0.3, 0.2]));
        record.write(folder.path()).unwrap();
        assert_eq!(Record::read_all(folder.path()).unwrap(), [record]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_of_others_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("other.json"), "[1]").unwrap();
        let error = format!("{:#}", Record::read_all(folder.path()).unwrap_err());
        assert!(error.contains("other.json is broken, or not of this program"), "{error}");
        assert_eq!(Record::read_but(folder.path(), &["other"]).unwrap(), []);
    }

    #[test]
    fn figures_of_a_quick_look_say_so() {
        let measurement = Measurement::new(Figure::Weak, Origin::Measured, "Myriarch", vec![0.1]);
        let mut record = Record { measurements: vec![measurement], ..Record::default() };
        assert!(!record.is_quick() && record.figures().all(|m| !m.quick), "it does not say with which options");
        record.options = Some(Options::from([("quick".to_owned(), "yes".to_owned())]));
        assert!(record.is_quick() && record.figures().all(|m| m.quick));
    }
}
