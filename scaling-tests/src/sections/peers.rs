//! Other systems beside Myriarch: the same tasks on as many workers, in alternating rounds of one session. They come from
//! package registries (scripts/peers.sh); one that is not to be had or does not run is left out with its reason.

use super::{Section, latency};
use crate::bench::{Bench, TIMED_RUN, left_out};
use crate::launcher::{Layout, Runner};
use crate::measurement::{Figure, Measurement, Origin, Record, median};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a system may take for its tasks; the slowest known takes 20 s.
const DEADLINE: Duration = Duration::from_secs(180);
/// In a program: from the first submit to the last result.
const TIMED_PROGRAM: &str = "first submit to last result in its program";
/// What has no clock of its own.
const TIMED_COMMAND: &str = "the whole command, start to exit";

/// The programs that are written into the scratch folder.
const SCRIPTS: [(&str, &str); 5] = [
    ("mpi4py_futures.py", include_str!("../peers/mpi4py_futures.py")),
    ("parsl_htex.py", include_str!("../peers/parsl_htex.py")),
    ("parsl_perf_config.py", include_str!("../peers/parsl_perf_config.py")),
    ("dask_distributed.py", include_str!("../peers/dask_distributed.py")),
    ("hyperqueue_local.py", include_str!("../peers/hyperqueue_local.py")),
];

/// How a contestant's figure comes out of what it says.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// A run of Myriarch; tasks a second by its makespan.
    Makespan,
    /// A run of Myriarch; tasks a second by the whole command.
    WholeRun,
    /// Any command; tasks a second by the whole command.
    Whole,
    /// `seconds` of the JSON that it prints last.
    Seconds,
    /// The median of `microseconds` of the JSON that it prints last.
    Single,
    /// `median_us` of `myriarch bench latency`.
    BenchLatency,
    /// The last "Tasks per second" of parsl-perf.
    ParslPerf,
}

/// One system with one set of tasks.
struct Contestant {
    system: &'static str,
    /// What has to be installed for it.
    needs: Option<&'static str>,
    command: Vec<String>,
    reading: Reading,
    timed: &'static str,
}

/// The same tasks for several systems.
struct Contest {
    name: &'static str,
    figure: Figure,
    tasks: u64,
    task_us: f64,
    contestants: Vec<Contestant>,
}

/// What is installed: by name the version, or why not.
type Installed = BTreeMap<String, std::result::Result<String, String>>;

/// How long it takes, roughly.
pub fn about_seconds(bench: &Bench) -> f64 {
    let install = if bench.options.peers.join("peers.tsv").exists() { 0.0 } else { 60.0 };
    install + if bench.options.quick { 40.0 } else { 75.0 * bench.rounds() as f64 }
}

/// Installs what is missing, and reads what there is.
fn install(bench: &Bench) -> Result<Installed> {
    let folder = std::path::absolute(&bench.options.peers)?;
    let list = folder.join("peers.tsv");
    if !list.exists() {
        let script = std::path::absolute("scripts/peers.sh")?;
        if !script.exists() {
            bail!(
                "scripts/peers.sh is not here: start scaling-tests in the project's folder, or leave peers out with --skip peers"
            );
        }
        bench.say(Section::Peers, "installing other systems (scripts/peers.sh), a minute or so");
        bench.runner.run(&[script.to_string_lossy().into_owned(), folder.to_string_lossy().into_owned()])?;
    }
    let text = std::fs::read_to_string(&list).with_context(|| format!("{} cannot be read", list.display()))?;
    Ok(read_installed(&text))
}

/// Lines of `NAME <tab> VERSION <tab> REASON`; there is a reason where there is no version.
fn read_installed(text: &str) -> Installed {
    let line = |line: &str| {
        let mut fields = line.split('\t').map(|field| field.trim().to_owned());
        let (name, version, reason) = (fields.next()?, fields.next()?, fields.next().unwrap_or_default());
        Some((name, if version.is_empty() { Err(reason) } else { Ok(version) }))
    };
    text.lines().filter_map(line).collect()
}

/// Measures it.
pub fn measure(bench: &Bench) -> Result<Record> {
    let installed = install(bench)?;
    let scripts = bench.runner.folder.join("peers");
    std::fs::create_dir_all(&scripts)?;
    for (name, text) in SCRIPTS {
        std::fs::write(scripts.join(name), text)?;
    }
    let bin = std::path::absolute(&bench.options.peers)?.join("venv/bin");
    let about = "The same tasks for several systems on one machine: a worker for each core, in alternating rounds of one session; \
                 figures are medians. Functions of Python do nothing or sleep; Myriarch's are builtin:noop and builtin:sleep. \
                 Each system as it comes, workers started before the clock; mpi4py has one rank more, which hands out.";
    bench.record(Section::Peers, about, |record| {
        for (name, found) in &installed {
            match found {
                Ok(version) => drop(record.versions.insert(name.clone(), version.clone())),
                Err(reason) => left_out(record, name, reason),
            }
        }
        let runner = Runner { folder: bench.runner.folder.clone(), deadline: DEADLINE, path_first: Some(bin.clone()) };
        for contest in contests(bench, &bin, &scripts) {
            held(bench, &runner, contest, &installed, record)?;
        }
        Ok(())
    })
}

/// Holds a contest: each round has all contestants one after the other.
fn held(bench: &Bench, runner: &Runner, contest: Contest, installed: &Installed, record: &mut Record) -> Result<()> {
    let there = |contestant: &Contestant| match contestant.needs {
        None => true,
        Some(name) => installed.get(name).is_some_and(|found| found.is_ok()),
    };
    let mut contestants: Vec<(Contestant, Vec<f64>)> =
        contest.contestants.into_iter().filter(|c| there(c)).map(|c| (c, Vec::new())).collect();
    for round in 0..bench.rounds() {
        bench.say(Section::Peers, &format!("{}, round {} of {}", contest.name, round + 1, bench.rounds()));
        contestants.retain_mut(|(contestant, rounds)| match once(bench, runner, contestant, contest.tasks) {
            Ok(value) => {
                rounds.push(value);
                true
            }
            Err(error) if contestant.needs.is_some() => {
                let system = format!("{} ({})", contestant.system, contest.name);
                left_out(record, &system, &without_paths(&format!("{error:#}"), bench));
                false
            }
            // Myriarch itself has to run; the round below says so.
            Err(error) => {
                eprintln!("    {error:#}");
                false
            }
        });
    }
    if !contestants.iter().any(|(contestant, _)| contestant.needs.is_none()) {
        bail!("Myriarch failed in {}", contest.name);
    }
    for (contestant, rounds) in contestants {
        let mut measurement = Measurement::new(contest.figure, Origin::Measured, contestant.system, rounds);
        measurement.nodes = Some(1);
        measurement.workers = Some(crate::machine::cores());
        measurement.tasks = Some(contest.tasks);
        measurement.task_us = Some(contest.task_us);
        measurement.timed = contestant.timed.to_owned();
        measurement.command = shown(bench, &contestant.command);
        eprintln!("    {:<32} {:>14.1}", measurement.system, measurement.value);
        record.measurements.push(measurement);
    }
    Ok(())
}

/// One round of a contestant.
fn once(bench: &Bench, runner: &Runner, contestant: &Contestant, tasks: u64) -> Result<f64> {
    let rate = |seconds: f64| tasks as f64 / seconds;
    Ok(match contestant.reading {
        Reading::Makespan => rate(bench.run(&contestant.command, tasks)?.seconds),
        Reading::WholeRun => rate(bench.run(&contestant.command, tasks)?.whole_seconds),
        Reading::Whole => rate(runner.run(&contestant.command)?.seconds),
        Reading::Seconds => rate(read_seconds(&runner.run(&contestant.command)?.stdout, tasks)?),
        Reading::Single => read_single(&runner.run(&contestant.command)?.stdout)?,
        Reading::BenchLatency => latency::read(&runner.run(&contestant.command)?.stdout)?.0,
        Reading::ParslPerf => read_parsl_perf(&runner.run(&contestant.command)?.stdout)?,
    })
}

/// The JSON object on the last line that is one.
fn last_object(stdout: &str) -> Result<Value> {
    let objects = stdout.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    objects.into_iter().find(Value::is_object).with_context(|| format!("no JSON object among: {stdout:?}"))
}

fn read_seconds(stdout: &str, tasks: u64) -> Result<f64> {
    let said = last_object(stdout)?;
    if said["count"].as_u64() != Some(tasks) {
        bail!("not all of {tasks} tasks came back: {said}");
    }
    said["seconds"].as_f64().context("no seconds")
}

fn read_single(stdout: &str) -> Result<f64> {
    let said = last_object(stdout)?;
    let values: Vec<f64> =
        said["microseconds"].as_array().context("no microseconds")?.iter().filter_map(Value::as_f64).collect();
    if values.is_empty() { bail!("no microseconds") } else { Ok(median(&values)) }
}

fn read_parsl_perf(stdout: &str) -> Result<f64> {
    let mut rates = stdout.lines().filter_map(|line| line.strip_prefix("Tasks per second:")?.trim().parse().ok());
    rates.next_back().context("parsl-perf did not say its rate")
}

/// A reason for a file that others read.
fn without_paths(reason: &str, bench: &Bench) -> String {
    let here = std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned();
    let last: Vec<&str> = reason.lines().collect();
    let text = [last.first().copied().unwrap_or_default(), last.last().copied().unwrap_or_default()].join(": ");
    text.replace(&*bench.runner.folder.to_string_lossy(), "").replace(&here, "")
}

/// As one would type it.
fn shown(bench: &Bench, command: &[String]) -> String {
    let peers = std::path::absolute(&bench.options.peers).unwrap_or_default();
    let text = bench.shown(command);
    text.replace(&format!("{}/venv/bin/", peers.display()), "")
}

/// What is compared.
fn contests(bench: &Bench, bin: &Path, scripts: &Path) -> Vec<Contest> {
    let quick = bench.options.quick;
    let systems = Systems { bench, bin, scripts };
    let (noops, many, sleeps, singles, processes) =
        if quick { (200, 1_000, 20, 20, 100) } else { (2_000, 100_000, 400, 200, 2_000) };
    let contest = |name, figure, tasks, task_us, contestants| Contest { name, figure, tasks, task_us, contestants };
    let at_once = systems.noops(noops, 0.0);
    let sleeping = systems.functions(sleeps, 10_000.0);
    vec![
        contest("functions that do nothing", Figure::Peers, noops, 0.0, at_once),
        contest("many functions that do nothing", Figure::Peers, many, 0.0, systems.batches(many)),
        contest("functions of 10 ms", Figure::Peers, sleeps, 10_000.0, sleeping),
        contest("one function at a time", Figure::Latency, singles, 0.0, systems.singles(singles, 0.0)),
        contest("processes", Figure::Processes, processes, 0.0, systems.processes(processes)),
    ]
}

/// The commands of all systems.
struct Systems<'a> {
    bench: &'a Bench,
    bin: &'a Path,
    scripts: &'a Path,
}

impl Systems<'_> {
    fn workers(&self) -> u64 {
        crate::machine::cores()
    }

    fn python(&self, script: &str, arguments: &[String]) -> Vec<String> {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut words = vec![path(self.bin.join("python")), path(self.scripts.join(script))];
        words.extend_from_slice(arguments);
        words
    }

    /// Rank 0 hands out, so that there is one rank more than workers.
    fn mpi4py(&self, mode: &str, tasks: u64, us: f64, chunk: u64) -> Vec<String> {
        let layout = Layout { nodes: None, ranks: self.workers() + 1 };
        let arguments = [mode.to_owned(), tasks.to_string(), us.to_string(), chunk.to_string()];
        let mut words = self.bench.launcher.prefix(layout);
        let mut python = self.python("mpi4py_futures.py", &arguments);
        python.splice(1..1, ["-m".to_owned(), "mpi4py.futures".to_owned()]);
        words.extend(python);
        words
    }

    fn myriarch(&self, tasks: &[&str]) -> Vec<String> {
        self.bench.run_command(Layout { nodes: None, ranks: self.workers() }, tasks)
    }

    fn arguments(&self, mode: &str, tasks: u64, us: f64) -> [String; 4] {
        [mode.to_owned(), tasks.to_string(), us.to_string(), self.workers().to_string()]
    }

    fn functions(&self, tasks: u64, us: f64) -> Vec<Contestant> {
        let (array, arg) = (format!("0-{}", tasks - 1), us.to_string());
        let call: &[&str] = match us {
            0.0 => &["--array", &array, "--call", "builtin:noop"],
            _ => &["--array", &array, "--call", "builtin:sleep", "--call-arg", &arg],
        };
        let arguments = self.arguments("all", tasks, us);
        vec![
            contestant("Myriarch", None, self.myriarch(call), Reading::Makespan, TIMED_RUN),
            contestant(
                "mpi4py.futures",
                Some("mpi4py"),
                self.mpi4py("all", tasks, us, 1),
                Reading::Seconds,
                TIMED_PROGRAM,
            ),
            contestant(
                "Parsl HTEX",
                Some("parsl"),
                self.python("parsl_htex.py", &arguments),
                Reading::Seconds,
                TIMED_PROGRAM,
            ),
            contestant(
                "Dask distributed",
                Some("distributed"),
                self.python("dask_distributed.py", &arguments),
                Reading::Seconds,
                TIMED_PROGRAM,
            ),
        ]
    }

    /// Those that hand out many tasks at once.
    fn batches(&self, tasks: u64) -> Vec<Contestant> {
        let mut all = self.noops(tasks, 0.0);
        all.retain(|contestant| contestant.needs.is_none() || contestant.system.contains("chunks"));
        all
    }

    fn noops(&self, tasks: u64, us: f64) -> Vec<Contestant> {
        let mut all = self.functions(tasks, us);
        let chunks = self.mpi4py("all", tasks, us, 100);
        all.insert(
            2,
            contestant("mpi4py.futures, chunks of 100", Some("mpi4py"), chunks, Reading::Seconds, TIMED_PROGRAM),
        );
        // For tasks that do nothing Parsl brings a measure of its own.
        let perf = self.bin.join("parsl-perf").to_string_lossy().into_owned();
        let config = self.scripts.join("parsl_perf_config.py").to_string_lossy().into_owned();
        let counts = format!("100,{tasks}");
        let words = [&perf, "--config", &config, "--iterate", &counts].map(str::to_owned).to_vec();
        if let Some(parsl) = all.iter_mut().find(|contestant| contestant.system == "Parsl HTEX") {
            *parsl = contestant("Parsl HTEX", Some("parsl"), words, Reading::ParslPerf, "as parsl-perf says");
        }
        all
    }

    fn singles(&self, tasks: u64, us: f64) -> Vec<Contestant> {
        let arguments = self.arguments("single", tasks, us);
        let timed = "submit to result in its program, the median";
        vec![
            contestant("Myriarch", None, latency::command(self.bench, tasks * 100), Reading::BenchLatency, timed),
            contestant("mpi4py.futures", Some("mpi4py"), self.mpi4py("single", tasks, us, 1), Reading::Single, timed),
            contestant("Parsl HTEX", Some("parsl"), self.python("parsl_htex.py", &arguments), Reading::Single, timed),
            contestant(
                "Dask distributed",
                Some("distributed"),
                self.python("dask_distributed.py", &arguments),
                Reading::Single,
                timed,
            ),
        ]
    }

    fn processes(&self, tasks: u64) -> Vec<Contestant> {
        let (array, workers) = (format!("0-{}", tasks - 1), self.workers().to_string());
        let run = self.myriarch(&["--array", &array, "--", "/bin/true"]);
        let shell = |line: String| vec!["sh".to_owned(), "-c".to_owned(), line];
        let xargs = shell(format!("seq {tasks} | xargs -P {workers} -n 1 /bin/true"));
        let parallel = shell(format!("seq {tasks} | parallel --will-cite -j {workers} /bin/true"));
        let hyperqueue = self.python("hyperqueue_local.py", &[tasks.to_string(), workers]);
        vec![
            contestant("Myriarch, whole command", None, run, Reading::WholeRun, TIMED_COMMAND),
            contestant("xargs", Some("xargs"), xargs, Reading::Whole, TIMED_COMMAND),
            contestant("GNU parallel", Some("parallel"), parallel, Reading::Whole, TIMED_COMMAND),
            contestant("HyperQueue, Python package", Some("hyperqueue"), hyperqueue, Reading::Seconds, TIMED_PROGRAM),
        ]
    }
}

fn contestant(
    system: &'static str,
    needs: Option<&'static str>,
    command: Vec<String>,
    reading: Reading,
    timed: &'static str,
) -> Contestant {
    Contestant { system, needs, command, reading, timed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_has_a_version_or_a_reason() {
        let installed = read_installed("mpi4py\t4.1.2\t\nparallel\t\tneeds root\n");
        assert_eq!(installed["mpi4py"], Ok("4.1.2".to_owned()));
        assert_eq!(installed["parallel"], Err("needs root".to_owned()));
    }

    #[test]
    fn seconds_and_single_times_are_read_from_the_last_object() {
        let stdout = "starting\n{\"seconds\": 0.5, \"count\": 100, \"version\": \"1\"}\n";
        assert_eq!(read_seconds(stdout, 100).unwrap(), 0.5);
        assert!(read_seconds(stdout, 101).is_err(), "tasks were lost");
        assert_eq!(read_single("{\"microseconds\": [3, 1, 2]}").unwrap(), 2.0);
        assert!(read_single("{\"microseconds\": []}").is_err());
        assert!(read_seconds("nothing", 1).is_err());
    }

    #[test]
    fn parsl_perf_says_its_rate_last() {
        let stdout = "Tasks per second: 12.5\n==== Iteration 2 ====\nTasks per second: 1146.750\n";
        assert_eq!(read_parsl_perf(stdout).unwrap(), 1146.75);
        assert!(read_parsl_perf("").is_err());
    }
}
