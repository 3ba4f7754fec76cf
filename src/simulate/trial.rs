//! One run with faults, all of it drawn from a seed: machine room, tasks, and what goes wrong in each start, until a last
//! start in which nothing does. First it has to be safe, then it has to come to its end.

use super::Nanos;
use super::checks::all_ended;
use super::cluster::{Cluster, Start};
use super::draws::Draws;
use super::faults::{Faults, Time};
use super::layout::Layout;
use super::ledger::Outcomes;
use super::model::{Model, ModelError, Numbers};
use super::tasks::Tasks;
use super::trace::Trace;
use super::troubles::StartEnd;
use super::workload::Durations;
use crate::schedule::{Policy, Settings, Shapes, Violation};
use crate::task::{EndedBy, IndexRange, Rank, Resources, Shape, Status};
use serde::Serialize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What is not drawn but given.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Nodes.
    pub nodes: Option<u32>,
    /// Ranks on each.
    pub ranks_per_node: Option<u32>,
    /// Slots of each rank.
    pub slots: Option<u32>,
    /// Most children of a rank.
    pub fan_out: Option<u32>,
    /// All tasks.
    pub tasks: Option<u64>,
    /// How long they take.
    pub durations: Option<Durations>,
    /// The name of a model that is built in.
    pub model: Option<String>,
}

/// A run with faults.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// From which it was drawn.
    pub seed: u64,
    /// The machine room.
    pub layout: Layout,
    /// What it is like.
    pub model: String,
    /// All tasks.
    pub tasks: u64,
    /// How long they take.
    pub duration: String,
    /// GPUs of each rank.
    pub gpus: u32,
    /// What they take, by turns.
    pub shapes: Vec<TaskShape>,
    /// How many are alike in a row.
    pub alike: u64,
    /// Of ten attempts so many fail.
    pub fails_of_ten: u64,
    /// One attempt of so many takes with it what runs it; 0: none.
    pub crashes_one_in: u64,
    /// Ranks that a task may take with it before it counts as lost.
    pub crash_limit: u32,
    /// Tasks out at once.
    pub max_running: Option<u64>,
    /// Ranks that are slow, and how many times.
    pub slow: Vec<(Rank, u64)>,
    /// On this node every task fails at once.
    pub bad_node: Option<u32>,
    /// Starts in which something goes wrong.
    pub starts: u64,
    #[serde(skip)]
    durations: Durations,
    #[serde(skip)]
    numbers: Numbers,
    #[serde(skip)]
    turns: Arc<Turns>,
}

/// What a task of a trial takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TaskShape {
    /// Cores.
    pub cores: u32,
    /// GPUs.
    pub gpus: u32,
    /// Further attempts.
    pub retries: u32,
    /// It is a function.
    pub calls: bool,
}

/// A run that came to its end and broke no rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Passed {
    /// What went wrong in each start.
    pub faults: Vec<Faults>,
    /// How each start ended.
    pub ends: Vec<String>,
    /// Tasks by outcome; of the last round.
    pub ok: u64,
    /// Failed, or lost.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Faults that came to pass.
    pub happened: u64,
    /// Events that were simulated.
    pub events: u64,
    /// Virtual time of all starts together.
    pub seconds: f64,
    /// Stands for all events: the same for the same run.
    pub trace: String,
}

/// A run that broke a rule.
#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[error("seed {seed}, start {start}, after {}: {what}", Time(*at_ns))]
pub struct Failed {
    /// From which the run was drawn.
    pub seed: u64,
    /// In which of its starts, from 0.
    pub start: u64,
    /// When in that start. Nanoseconds.
    pub at_ns: Nanos,
    /// Which rule.
    pub what: String,
    /// What went wrong in that start.
    pub faults: Option<Box<Faults>>,
}

const DURATIONS: [&str; 11] = [
    "0",
    "10us",
    "exp:300us",
    "1ms",
    "exp:3ms",
    "lognormal:20ms,1",
    "50ms",
    "exp:200ms",
    "1s",
    "bimodal:1ms,2s,0.02",
    "bimodal:20us,300ms,0.1",
];
const MODELS: [&str; 4] = ["local", "slingshot", "infiniband", "gemini"];
/// A run of more events does not come to its end.
pub(super) const MOST_EVENTS: u64 = 20_000_000;

impl Trial {
    /// Draws a run.
    ///
    /// # Errors
    /// The given model is not built in.
    pub fn draw(seed: u64, given: &Given) -> Result<Self, ModelError> {
        let mut draws = Draws::of(seed, 1);
        let few = |draws: &mut Draws, most: u64| 1 + draws.below(most) as u32;
        let (nodes, ranks_per_node) = match draws.below(40) {
            0..10 => (1, few(&mut draws, 8)),
            10..30 => (few(&mut draws, 8), few(&mut draws, 4)),
            30..39 => (few(&mut draws, 20), few(&mut draws, 3)),
            _ => (few(&mut draws, 60), few(&mut draws, 5)),
        };
        let mut layout = Layout {
            nodes: given.nodes.unwrap_or(nodes),
            ranks_per_node: given.ranks_per_node.unwrap_or(ranks_per_node),
            slots: given.slots.unwrap_or(draws.pick(&[1, 1, 2, 3, 4, 8])),
            fan_out: given.fan_out.unwrap_or(draws.pick(&[2, 2, 3, 4, 8, 64])),
            dedicated_manager: draws.one_in(8),
        };
        layout.dedicated_manager &= layout.all_slots().is_some_and(|slots| slots > 0);
        let mut draws = Draws::of(seed, 2);
        let most = draws.pick(&[3, 50, 50, 400, 400, 400, 400, 2_000]);
        let tasks = given.tasks.unwrap_or(1 + draws.below(most));
        let duration = draws.pick(&DURATIONS);
        let durations = given.durations.clone();
        let durations = durations.unwrap_or_else(|| Durations::parse(duration).expect("these are durations"));
        let retries = draws.pick(&[0, 0, 1, 3]);
        let gpus = draws.pick(&[0, 0, 0, 1, 4]);
        let all_calls = draws.one_in(2);
        let shapes = (0..draws.pick(&[1, 1, 1, 2, 4])).map(|kind| {
            let calls = if kind == 0 { all_calls } else { draws.one_in(2) };
            let widest = if draws.one_in(3) { layout.slots } else { 1 };
            let cores = if calls { 1 } else { few(&mut draws, u64::from(widest)) };
            let takes_gpus = gpus > 0 && draws.one_in(2);
            TaskShape { cores, gpus: if takes_gpus { few(&mut draws, gpus.into()) } else { 0 }, retries, calls }
        });
        let shapes: Vec<TaskShape> = shapes.collect();
        let alike = draws.pick(&[1, 7, 100]);
        let mut draws = Draws::of(seed, 3);
        let model = given.model.clone().unwrap_or_else(|| draws.pick(&MODELS).to_owned());
        let ranks = u64::from(layout.ranks());
        let slow = if draws.one_in(4) { draws.between(1, 1 + ranks / 4) } else { 0 };
        Ok(Self {
            seed,
            layout,
            numbers: Model::named(&model)?.numbers(),
            model,
            tasks,
            duration: durations.to_string(),
            durations,
            turns: Arc::new(Turns { shapes: shapes.clone(), alike }),
            gpus,
            shapes,
            alike,
            fails_of_ten: draws.pick(&[0, 0, 0, 1, 5, 10]),
            crashes_one_in: draws.pick(&[0, 0, 0, 0, 0, 50, 4]),
            crash_limit: draws.pick(&[1, 2, 5, 5, 1_000]),
            max_running: draws.one_in(8).then(|| draws.between(1, 20)),
            slow: (0..slow).map(|_| (Rank(draws.below(ranks) as u32), draws.pick(&[2, 8]))).collect(),
            bad_node: draws.one_in(8).then(|| draws.below(u64::from(layout.nodes)) as u32),
            starts: draws.pick(&[1, 1, 2, 3]),
        })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// A rule does not hold, or the run does not end.
    pub fn run(&self) -> Result<Passed, Failed> {
        let mut run = Running { trial: self, outcomes: Outcomes::default(), known: 0, may_reopen: true, passed: None };
        let mut start = 0;
        loop {
            let ran = catch_unwind(AssertUnwindSafe(|| run.start(start)));
            match ran.unwrap_or_else(|panic| Err(self.failed(start, 0, panicked(&*panic), None))) {
                Ok(true) => start += 1,
                Ok(false) => break,
                Err(failed) => return Err(failed),
            }
        }
        let Running { outcomes, passed, .. } = run;
        let (passed, trace) = passed.expect("there was a start");
        let Outcomes { ended, failed, cancelled } = outcomes;
        Ok(Passed {
            ok: ended.len() - failed.len() - cancelled.len(),
            failed: failed.len(),
            cancelled: cancelled.len(),
            trace: trace.to_string(),
            ..passed
        })
    }

    fn failed(&self, start: u64, at_ns: Nanos, what: String, faults: Option<Box<Faults>>) -> Failed {
        Failed { seed: self.seed, start, at_ns, what, faults }
    }

    fn settings(&self, faults: &Faults) -> Settings {
        Settings {
            crash_limit: self.crash_limit,
            max_fails: faults.max_fails,
            max_running: self.max_running,
            grace_us: 1_000_000,
            nodes: self.layout.nodes,
        }
    }

    /// How long all tasks take one after the other, attempts that fail aside.
    fn work(&self) -> Nanos {
        let each = |index| self.duration_ns(index, 0, Rank::MANAGER) + self.numbers.rank.process_ns;
        (0..self.tasks).map(each).sum()
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a word"))
}

/// A run between two of its starts.
struct Running<'t> {
    trial: &'t Trial,
    outcomes: Outcomes,
    /// Tasks that were submitted.
    known: u64,
    /// What failed may be put back, once.
    may_reopen: bool,
    passed: Option<(Passed, Trace)>,
}

impl Running<'_> {
    /// One start; whether there has to be another.
    fn start(&mut self, start: u64) -> Result<bool, Failed> {
        let trial = self.trial;
        let mut draws = Draws::of(trial.seed, 1_000 + start);
        let work = trial.work();
        let span = work / trial.layout.all_slots().unwrap_or(1).max(1) + 2_000_000;
        let is_last = start >= trial.starts;
        let faults = match is_last {
            true => Faults::none(draws.next()),
            false => Faults::draw(draws.next(), &trial.layout, trial.tasks, self.known, span),
        };
        let mut cluster = Cluster::new(Start {
            layout: trial.layout,
            settings: trial.settings(&faults),
            // What ended is held back in small runs too, which else happens in large ones only.
            policy: Policy { runs_at_pace: [32, 8, 1][(trial.seed % 3) as usize], ..Policy::default() },
            tasks: trial,
            numbers: trial.numbers.clone(),
            ended: self.outcomes.ended.clone(),
            faults: Some(faults.clone()),
            is_checked: true,
        });
        let attempts = u64::from(trial.shapes[0].retries + 1 + trial.crash_limit.min(20));
        let until = faults.end() + 1_000_000_000_000 + 10 * work * attempts;
        let end = cluster.run(until);
        let at = cluster.now();
        let fails = |what: String| Err(trial.failed(start, at, what, Some(Box::new(faults.clone()))));
        if let Some(Violation(what)) = cluster.broken.take().or(cluster.check().err()) {
            return fails(what);
        }
        let runs = match end {
            None => return fails(cluster.stands_still()),
            Some(StartEnd::Crashed) => cluster.ledger.dies(at, |torn| draws.below(torn + 1)),
            Some(_) => cluster.ledger.closes(),
        };
        let is_complete = end == Some(StartEnd::Ended(EndedBy::Complete)) && !cluster.server.is_full(at);
        let checked = self.outcomes.add(&runs).and_then(|()| match is_complete {
            true => all_ended(&self.outcomes, trial.tasks),
            false => Ok(()),
        });
        if let Err(Violation(what)) = checked {
            return fails(what);
        }
        self.known = cluster.submitted();
        self.note(&cluster, faults.clone(), end);
        if self.outcomes.ended.len() < trial.tasks {
            return if is_last { fails("it does not end though nothing goes wrong".to_owned()) } else { Ok(true) };
        }
        let reopens = std::mem::take(&mut self.may_reopen) && draws.one_in(3);
        Ok(reopens && self.outcomes.reopen_failed() > 0)
    }

    fn note(&mut self, cluster: &Cluster<'_>, faults: Faults, end: Option<StartEnd>) {
        let none = Passed {
            faults: Vec::new(),
            ends: Vec::new(),
            ok: 0,
            failed: 0,
            cancelled: 0,
            happened: 0,
            events: 0,
            seconds: 0.0,
            trace: String::new(),
        };
        let (passed, trace) = self.passed.get_or_insert((none, Trace::default()));
        passed.faults.push(faults);
        passed.ends.push(match end {
            Some(StartEnd::Ended(why)) => why.to_string(),
            Some(StartEnd::Forced) => "forced".to_owned(),
            _ => "crash".to_owned(),
        });
        passed.happened += cluster.happened();
        passed.events += cluster.steps;
        passed.seconds += cluster.now() as f64 / 1e9;
        trace.join(cluster.trace);
    }
}

/// Tasks that take different things by turns.
#[derive(Debug)]
struct Turns {
    shapes: Vec<TaskShape>,
    alike: u64,
}

impl Shapes for Turns {
    fn run_at(&self, range: IndexRange) -> (u64, Shape) {
        let turn = range.start / self.alike;
        let TaskShape { cores, gpus, retries, calls } = self.shapes[(turn % self.shapes.len() as u64) as usize];
        let end = if self.shapes.len() == 1 { range.end } else { ((turn + 1) * self.alike).min(range.end) };
        (end, Shape { resources: Resources { cores, gpus }, retries, calls })
    }
}

impl Tasks for Trial {
    fn count(&self) -> u64 {
        self.tasks
    }

    fn shapes(&self) -> Arc<dyn Shapes> {
        self.turns.clone()
    }

    fn calls(&self) -> bool {
        self.shapes.iter().any(|shape| shape.calls)
    }

    fn duration_ns(&self, index: u64, attempt: u32, rank: Rank) -> Nanos {
        if self.is_on_bad_node(rank) {
            return 10_000;
        }
        self.durations.duration_ns(self.seed ^ u64::from(attempt) << 40, index) * self.slowness(rank)
    }

    fn status(&self, index: u64, attempt: u32, rank: Rank) -> Status {
        let mut own = Draws::of(self.seed ^ index << 20 ^ u64::from(attempt) << 10 ^ u64::from(rank.0), 4);
        let fails = self.is_on_bad_node(rank) || own.below(10) < self.fails_of_ten;
        if fails { Status::Exit(1) } else { Status::Ok }
    }

    fn crashes(&self, index: u64, attempt: u32, rank: Rank) -> bool {
        let mut own = Draws::of(self.seed ^ index << 20 ^ u64::from(attempt) << 10 ^ u64::from(rank.0), 5);
        self.crashes_one_in > 0 && own.one_in(self.crashes_one_in)
    }

    fn may_fail(&self) -> bool {
        self.fails_of_ten > 0 || self.bad_node.is_some()
    }

    fn gpus(&self) -> u32 {
        self.gpus
    }

    fn slowness(&self, rank: Rank) -> u64 {
        self.slow.iter().find(|(slow, _)| *slow == rank).map_or(1, |(_, times)| *times)
    }
}

impl Trial {
    fn is_on_bad_node(&self, rank: Rank) -> bool {
        self.bad_node.is_some_and(|node| self.layout.node_of(rank).0 == node)
    }
}
