//! The same figures in the simulator: on a model of the machine of development with the set-ups that are measured here, and on
//! models of large machines up to where others have published figures; or all of them on one model that is asked for.

use super::{LENGTHS_US, Section, metg, strong, throughput, weak};
use crate::bench::{Bench, length};
use crate::chart::counted;
use crate::launcher::Runner;
use crate::machine;
use crate::measurement::{Figure, Measurement, Origin, Record};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The model of the machine of development.
const HERE: &str = "local";
/// The machines that are known well enough, and the most nodes of each with `--full`.
const LARGE: [(&str, u64); 2] = [("slingshot", 8_192), ("gemini", 16_384)];
/// The most nodes with `--full` of a model that is asked for.
const LARGE_OF_ANY: u64 = 8_192;
/// Cores of each of their nodes, a rank on each: those of Blue Waters, where others measured.
pub const RANKS_PER_NODE: u64 = 32;
/// Most nodes without `--full`.
const MODERATE_NODES: u64 = 1_024;
/// Nodes of which efficiency is simulated.
const EFFICIENCY_NODES: u64 = 64;

/// One simulation.
#[derive(Clone, Debug)]
struct Job {
    figure: Figure,
    model: String,
    nodes: u64,
    ranks_per_node: u64,
    tasks: u64,
    task_us: f64,
    further: &'static [&'static str],
}

impl Job {
    fn workers(&self) -> u64 {
        let dedicated = if self.further.contains(&"--dedicated-manager") { 1 } else { 0 };
        (self.nodes - dedicated) * self.ranks_per_node
    }

    /// The words of the command, with this one for the model.
    fn words(&self, model: &str) -> Vec<String> {
        let (nodes, ranks) = (self.nodes.to_string(), self.ranks_per_node.to_string());
        let (tasks, duration) = (self.tasks.to_string(), length(self.task_us));
        let mut words = vec!["simulate", "--model", model, "--nodes", &nodes, "--ranks-per-node", &ranks];
        words.extend(["--tasks", &tasks, "--duration", &duration]);
        words.extend(self.further);
        words.push("--json");
        words.into_iter().map(str::to_owned).collect()
    }

    /// Seconds of one core, roughly: by the ranks, as measured with 256 to 16,384 nodes of 32.
    fn about_seconds(&self) -> f64 {
        let ranks = self.workers() as f64;
        0.01 + ranks.min(self.tasks as f64 * 2.0) / 8_192.0 * 2.0
    }

    /// The figure from what the simulator says.
    fn measurement(&self, stdout: &str) -> Result<Measurement> {
        let mut raw: Value = serde_json::from_str(stdout.trim()).context("simulate: no JSON")?;
        let seconds = raw["makespan_seconds"].as_f64().context("simulate: no makespan_seconds")?;
        // It says the path of a file.
        raw["model"] = self.model.clone().into();
        let (tasks, workers) = (self.tasks as f64, self.workers() as f64);
        let granularity_us = seconds * 1e6 * workers / tasks;
        let value = match self.figure {
            Figure::Latency => seconds * 1e6,
            Figure::Throughput | Figure::Processes => tasks / seconds,
            Figure::Efficiency => self.task_us / granularity_us,
            _ => seconds,
        };
        let mut measurement = Measurement::new(self.figure, Origin::Simulated, "Myriarch", vec![value]);
        measurement.machine = self.model.clone();
        measurement.nodes = Some(self.nodes);
        measurement.workers = Some(self.workers());
        measurement.tasks = Some(self.tasks);
        measurement.task_us = Some(self.task_us);
        measurement.granularity_us = (self.figure == Figure::Efficiency).then_some(granularity_us);
        measurement.timed = "first hand-out to last record, virtual time".to_owned();
        measurement.raw = raw;
        Ok(measurement)
    }
}

/// All simulations.
fn jobs(bench: &Bench) -> Vec<Job> {
    let asked_for = bench.options.model.as_deref().map(shown);
    let mut jobs = small(bench, asked_for.as_deref());
    if !bench.options.quick {
        let most = |full: u64| if bench.options.full { full } else { MODERATE_NODES };
        match &asked_for {
            None => {
                jobs.extend(LARGE.iter().flat_map(|&(model, full)| large(model, most(full))));
                jobs.extend(large_curve(LARGE[0].0));
            }
            Some(model) => {
                jobs.extend(large(model, most(LARGE_OF_ANY)));
                jobs.extend(large_curve(model));
            }
        }
    }
    jobs
}

/// As figures name a model: without folders.
fn shown(model: &str) -> String {
    let name = Path::new(model).file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// A model as options are kept: a file by its name and what it says, since it may say something else the next time.
pub fn identity(model: &str) -> Result<String> {
    if !Path::new(model).is_file() {
        return Ok(model.to_owned());
    }
    let bytes = std::fs::read(model).with_context(|| format!("--model {model} cannot be read"))?;
    // FNV-1a (draft-eastlake-fnv): the same on every machine.
    let sum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    Ok(format!("{} ({sum:016x})", shown(model)))
}

/// A model as the simulator is told it, which runs in a folder of its own.
fn word_of(model: &str) -> Result<String> {
    if !Path::new(model).is_file() {
        return Ok(model.to_owned());
    }
    let path = std::path::absolute(model)?;
    Ok(path.to_str().with_context(|| format!("--model {model}: its path is not UTF-8"))?.to_owned())
}

/// A model that is asked for is one, before anything is measured.
pub fn check(bench: &Bench) -> Result<()> {
    let Some(model) = &bench.options.model else { return Ok(()) };
    let word = word_of(model)?;
    let words = ["simulate", "--model", &word, "--ranks-per-node", "1", "--tasks", "1", "--json"];
    match bench.runner.run(&bench.alone(&words)) {
        Ok(_) => Ok(()),
        // What the simulator says of it stands on the last line.
        Err(error) => bail!("--model {model}: {}", format!("{error:#}").lines().last().unwrap_or_default()),
    }
}

/// What is measured here, on a model of the machine: the one that is asked for, or that of the machine of development.
fn small(bench: &Bench, asked_for: Option<&str>) -> Vec<Job> {
    let here = asked_for.unwrap_or(HERE);
    let local = |figure, ranks: u64, tasks, task_us| Job {
        figure,
        model: here.to_owned(),
        nodes: 1,
        ranks_per_node: ranks,
        tasks,
        task_us,
        further: &[],
    };
    let mut jobs = Vec::new();
    // Real nodes of a cluster are no virtual ones of the machine of development.
    let is_like_here = asked_for.is_some() || bench.options.nodes.is_empty();
    for layout in bench.layouts().into_iter().filter(|_| is_like_here) {
        let nodes = layout.nodes.unwrap_or(1);
        let on = |job: Job| Job { nodes, ranks_per_node: layout.ranks / nodes, ..job };
        for &us in strong::lengths(bench) {
            jobs.push(on(local(Figure::Strong, layout.ranks, strong::tasks(bench, us), us)));
        }
        for &us in weak::lengths(bench) {
            jobs.push(on(local(Figure::Weak, layout.ranks, weak::TASKS_PER_WORKER * layout.ranks, us)));
        }
    }
    for tasks in throughput::sizes(bench.options.quick) {
        jobs.push(local(Figure::Throughput, 2, tasks, 0.0));
    }
    for us in lengths_of_curve(0.03, 1_000.0) {
        let tasks = (300_000.0 / us).clamp(300.0, 4e6) as u64 * 2;
        jobs.push(local(Figure::Efficiency, 2, tasks, us));
    }
    jobs.push(Job { further: &["--processes"], ..local(Figure::Processes, 2, 5_000, 0.0) });
    let apart = Job { nodes: 2, further: &["--dedicated-manager"], ..local(Figure::Latency, 1, 1, 0.0) };
    if asked_for.is_none() {
        jobs.push(Job { model: LARGE[0].0.to_owned(), ..apart.clone() });
    }
    jobs.push(apart);
    jobs
}

/// What a large machine would do: the set-ups of the HPDC'19 paper on Parsl, on its numbers of workers.
fn large(model: &str, most_nodes: u64) -> Vec<Job> {
    let job = |figure, nodes, tasks, task_us| on_large(figure, model, nodes, tasks, task_us);
    let mut jobs = Vec::new();
    for us in LENGTHS_US {
        for nodes in [1, 4, 16, 64, 256, 1_024] {
            jobs.push(job(Figure::Strong, nodes, strong::TASKS, us));
        }
        for nodes in [1, 4, 16, 64, 256, 1_024, 8_192, 16_384].into_iter().filter(|&nodes| nodes <= most_nodes) {
            jobs.push(job(Figure::Weak, nodes, weak::TASKS_PER_WORKER * nodes * RANKS_PER_NODE, us));
        }
    }
    jobs
}

/// The efficiency curve of some nodes of a large machine.
fn large_curve(model: &str) -> Vec<Job> {
    let tasks = 1_000 * EFFICIENCY_NODES * RANKS_PER_NODE;
    let job = |us| on_large(Figure::Efficiency, model, EFFICIENCY_NODES, tasks, us);
    lengths_of_curve(1.0, 100_000.0).into_iter().map(job).collect()
}

fn on_large(figure: Figure, model: &str, nodes: u64, tasks: u64, task_us: f64) -> Job {
    Job { figure, model: model.to_owned(), nodes, ranks_per_node: RANKS_PER_NODE, tasks, task_us, further: &[] }
}

/// Lengths of tasks in microseconds: each three or so times the one before.
fn lengths_of_curve(first: f64, last: f64) -> Vec<f64> {
    let steps = [1.0, 3.0].into_iter();
    let all = (-3..6).flat_map(|power| steps.clone().map(move |step| step * 10_f64.powi(power)));
    all.map(|us| (us * 1e3).round() / 1e3).filter(|&us| us >= first && us <= last).collect()
}

/// How long it takes, roughly.
pub fn about_seconds(bench: &Bench) -> f64 {
    jobs(bench).iter().map(Job::about_seconds).sum::<f64>() / machine::cores() as f64
}

/// Simulates everything, as many at once as there are cores: what a simulation says does not depend on what else runs.
pub fn measure(bench: &Bench) -> Result<Record> {
    let mut jobs = jobs(bench);
    jobs.sort_by(|a, b| b.about_seconds().total_cmp(&a.about_seconds()));
    let models = match &bench.options.model {
        None => format!(
            "`{HERE}` is a model of the machine of development with the set-ups measured there; `slingshot` and `gemini` are \
             models of large machines, {RANKS_PER_NODE} ranks a node"
        ),
        Some(model) => format!(
            "all on the model `{}` that --model named: the set-ups measured here, and large machines of {RANKS_PER_NODE} ranks a \
             node",
            shown(model)
        ),
    };
    let about = format!(
        "The scheduler itself in virtual time: {models}, with 50,000 tasks (strong) or ten for each worker (weak). Each number of \
         a model, and whether it is an estimate, stands in its file, those of built-in ones in src/simulate/models/. Simulated \
         efficiency has up to 8 million tasks on two ranks, or 1,000 for each of {} workers on {EFFICIENCY_NODES} nodes.",
        EFFICIENCY_NODES * RANKS_PER_NODE
    );
    bench.record(Section::Simulated, &about, |record| {
        let mut measurements = simulate(bench, &jobs)?;
        measurements.sort_by(|a, b| {
            let key = |m: &Measurement| (m.figure, m.machine.clone(), m.task_us.map(f64::to_bits), m.workers, m.tasks);
            key(a).cmp(&key(b))
        });
        let metg = crossings(&measurements);
        record.measurements = measurements;
        record.measurements.extend(metg);
        Ok(())
    })
}

/// Runs simulations side by side.
fn simulate(bench: &Bench, jobs: &[Job]) -> Result<Vec<Measurement>> {
    let asked_for = bench.options.model.as_deref().map(word_of).transpose()?;
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let worker = |index: u64| -> Result<()> {
        let folder = bench.runner.folder.join(format!("simulation-{index}"));
        std::fs::create_dir_all(&folder)?;
        let runner = Runner { folder, deadline: bench.runner.deadline, path_first: None };
        let command =
            |job: &Job, model: &str| bench.alone(&job.words(model).iter().map(String::as_str).collect::<Vec<_>>());
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let said = runner.run(&command(job, asked_for.as_deref().unwrap_or(&job.model)))?;
            let mut measurement = job.measurement(&said.stdout)?;
            measurement.command = bench.shown(&command(job, &job.model));
            let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            done.push(measurement);
            if said.seconds > 5.0 || done.len() % 20 == 0 {
                let (nodes, model, seconds) = (counted(job.nodes, "node"), &job.model, said.seconds);
                let text = format!("{} of {}: {nodes}, {model} took {seconds:.0} s", done.len(), jobs.len());
                bench.say(Section::Simulated, &text);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..machine::cores()).map(|index| scope.spawn(move || worker(index))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a simulation does not panic"))
    })?;
    Ok(done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

/// METG(50 %) of each model's curves.
fn crossings(measurements: &[Measurement]) -> Vec<Measurement> {
    let curves = || measurements.iter().filter(|m| m.figure == Figure::Efficiency);
    let mut keys: Vec<(&str, Option<u64>)> = curves().map(|m| (m.machine.as_str(), m.workers)).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut found = Vec::new();
    for (model, workers) in keys {
        let curve = curves().filter(|m| (m.machine.as_str(), m.workers) == (model, workers));
        let points: Vec<(f64, f64)> = curve.clone().filter_map(|m| Some((m.granularity_us?, m.value))).collect();
        if let (Some(crossing), Some(first)) = (metg::crossing(&points), curve.clone().next()) {
            let mut measurement = Measurement::new(Figure::Metg, Origin::Simulated, "Myriarch", vec![crossing]);
            measurement.machine = model.to_owned();
            (measurement.nodes, measurement.workers) = (first.nodes, first.workers);
            measurement.source = "where the simulated curve of efficiency crosses one half".to_owned();
            found.push(measurement);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_becomes_the_figure_asked_for() {
        let job = Job {
            figure: Figure::Efficiency,
            model: "local".into(),
            nodes: 1,
            ranks_per_node: 4,
            tasks: 400,
            task_us: 100.0,
            further: &[],
        };
        let measurement = job.measurement("{\"makespan_seconds\": 0.02}\n").unwrap();
        assert_eq!(measurement.granularity_us, Some(200.0));
        assert_eq!(measurement.value, 0.5);
        let rate = Job { figure: Figure::Throughput, ..job }.measurement("{\"makespan_seconds\": 0.02}").unwrap();
        assert_eq!(rate.value, 20_000.0);
    }

    #[test]
    fn large_machines_go_as_far_as_asked_for() {
        let most = |nodes| large("gemini", nodes).iter().map(|job| job.nodes).max();
        assert_eq!(most(16_384), Some(16_384));
        assert_eq!(most(MODERATE_NODES), Some(1_024));
    }

    #[test]
    fn a_model_in_a_file_is_known_by_its_name_and_its_text_and_a_built_in_one_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("here.toml");
        let identity_of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            identity(path.to_str().unwrap()).unwrap()
        };
        let (first, second) = (identity_of("one"), identity_of("two"));
        assert!(first.starts_with("here.toml (") && first != second, "{first}, {second}");
        assert_eq!(identity_of("one"), first);
        assert_eq!(identity("gemini").unwrap(), "gemini");
        assert_eq!((word_of("gemini").unwrap(), shown("models/here.toml")), ("gemini".into(), "here.toml".into()));
    }

    #[test]
    fn each_curve_has_its_own_crossing() {
        let point = |model: &str, workers, granularity, efficiency| {
            let mut m = Measurement::new(Figure::Efficiency, Origin::Simulated, "Myriarch", vec![efficiency]);
            (m.machine, m.workers, m.granularity_us) = (model.to_owned(), Some(workers), Some(granularity));
            m
        };
        let of = |model: &str, workers, scale: f64| {
            [point(model, workers, scale, 0.4), point(model, workers, 4.0 * scale, 0.6)]
        };
        let found = crossings(&[of("m", 2, 1.0), of("m", 64, 10.0), of("n", 2, 100.0)].concat());
        let found: Vec<_> = found.iter().map(|m| (m.machine.as_str(), m.workers.unwrap(), m.value.round())).collect();
        assert_eq!(found, [("m", 2, 2.0), ("m", 64, 20.0), ("n", 2, 200.0)]);
    }

    #[test]
    fn lengths_of_a_curve_keep_within_their_ends() {
        assert_eq!(lengths_of_curve(0.03, 1.0), [0.03, 0.1, 0.3, 1.0]);
    }
}
