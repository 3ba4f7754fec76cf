//! One step of each role: what a manager, a sub-manager and a worker take for a message or an end, by themselves and in the
//! midst of a run that goes on for ever. What is around them is played here and not timed.

mod common;

use criterion::Criterion;
use myriarch::schedule::{
    AttemptEnd, BatchEnd, Capacity, Down, Manager, ManagerAction, Micros, Policy, Report, Settings, SubAction,
    SubManager, TaskRun, Unstarted, Up, Work, WorkRange, Worker, WorkerAction,
};
use myriarch::task::{BundleId, IndexRange, NodeId, OutcomeClass, RangeSet, Rank, Resources, Shape, Status};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BUNDLE: BundleId = BundleId(0);
/// Tasks that do not come to an end.
const TASKS: u64 = 1 << 60;
/// How long each of them takes, and in a batch of functions.
const TASK_US: Micros = 250;
const CALL_US: Micros = 10;
/// Cores of each child of a manager, and the tasks that one of its reports tells of, or what is left of a range.
const CORES: u32 = 32;
const TOLD: u64 = 256;
/// The same of a sub-manager, and its workers of one core.
const WORKERS: u32 = 32;
const TOLD_BY_WORKER: u64 = 32;
/// Tasks of a hand-out to a sub-manager.
const HANDED: u64 = 8192;
/// Reports of each child before anything is measured: by then it may hold as much as it ever will.
const ROUNDS: u32 = 30;

fn main() {
    common::measure(&[manager, sub_manager, worker]);
}

/// Measures what `step` says that it took.
fn timed(bencher: &mut criterion::Bencher<'_>, mut step: impl FnMut() -> Duration) {
    bencher.iter_custom(|times| (0..times).map(|_| step()).sum());
}

// ---- A child, as its parent sees it. ----

/// Holds what it was handed, and tells the ends of the first of it.
struct Child {
    rank: Rank,
    cores: u32,
    epoch: u32,
    hands: u32,
    held: VecDeque<IndexRange>,
    tasks: u64,
    /// What the report before left out.
    gaps: Vec<u64>,
}

impl Child {
    fn new(rank: Rank, cores: u32) -> Self {
        Self { rank, cores, epoch: 0, hands: 0, held: VecDeque::new(), tasks: 0, gaps: Vec::new() }
    }

    fn hello(&self) -> Up {
        let total = Resources { cores: self.cores, gpus: 0 };
        let node = Some(NodeId(self.rank.0));
        let capacity =
            Capacity { total, widest: Resources::ONE_CORE, node, horizon_us: 0, workers: self.cores, nodes: 1 };
        Up::Hello { epoch: self.epoch, capacity }
    }

    fn hear(&mut self, message: Down) {
        match message {
            Down::Welcome { epoch, .. } => self.epoch = epoch,
            Down::Hand { ranges, .. } => {
                self.hands += 1;
                self.tasks += ranges.iter().map(|given| given.range.len()).sum::<u64>();
                self.held.extend(ranges.into_iter().map(|given| given.range));
            }
            other => panic!("{other:?} where there is enough work for all"),
        }
    }

    /// Takes the next task out of what it holds.
    fn next(&mut self) -> Option<u64> {
        let first = self.held.front_mut()?;
        let task = first.start;
        first.start += 1;
        if first.is_empty() {
            self.held.pop_front();
        }
        Some(task)
    }

    /// The ends of so many tasks, or of what it has if that is less: of one run or, `apart`, of every other task, and the next
    /// time of those between them, so that its parent's account stays as it is in a run.
    fn report(&mut self, count: u64, apart: bool) -> Up {
        let ended: Vec<u64> = if !self.gaps.is_empty() {
            std::mem::take(&mut self.gaps)
        } else if apart {
            let next: Vec<u64> = (0..2 * count).filter_map(|_| self.next()).collect();
            self.gaps = next.iter().copied().skip(1).step_by(2).collect();
            next.into_iter().step_by(2).collect()
        } else {
            let first = self.held.front().map_or(0, |range| range.len());
            (0..count.min(first)).filter_map(|_| self.next()).collect()
        };
        let attempts = ended.len() as u64;
        self.tasks -= attempts;
        let unstarted = Unstarted { cores: self.tasks.saturating_sub(u64::from(self.cores)), gpu_cores: 0 };
        let mut report =
            Report { attempts, attempt_cores: attempts, unstarted, hands: self.hands, ..Report::default() };
        report.busy_core_us = attempts * TASK_US;
        ended.into_iter().for_each(|task| report.ended(BUNDLE, IndexRange::one(task), OutcomeClass::Ok));
        Up::Report { epoch: self.epoch, report }
    }
}

/// How many runs a report tells of.
fn runs_of(message: &Up) -> usize {
    match message {
        Up::Report { report, .. } => report.sections.iter().map(|section| section.runs.len()).sum(),
        _ => 0,
    }
}

// ---- The manager. ----

struct Managed {
    manager: Manager,
    children: Vec<Child>,
    turn: usize,
    now: Micros,
    out: Vec<ManagerAction>,
}

impl Managed {
    /// A manager whose children hold all that they may.
    fn new(children: u32) -> Self {
        let settings = Settings { crash_limit: 5, max_fails: None, max_running: None, grace_us: 0, nodes: children };
        let children: Vec<Child> = (1..=children).map(|rank| Child::new(Rank(rank), CORES)).collect();
        let ranks: Vec<Rank> = children.iter().map(|child| child.rank).collect();
        let mut manager = Manager::new(Policy::default(), settings, &ranks);
        manager.add_bundle(BUNDLE, TASKS, RangeSet::new(), Arc::new(Shape::PROCESS));
        let mut managed = Self { manager, children, turn: 0, now: 0, out: Vec::new() };
        managed.manager.open(0, &mut managed.out);
        managed.tell_children();
        for child in &managed.children {
            managed.manager.on_child(0, child.rank, child.hello(), &mut managed.out);
        }
        managed.tell_children();
        for _ in 0..ROUNDS * ranks.len() as u32 {
            managed.report(TOLD, false);
        }
        managed.manager.check().expect("the rules hold");
        managed
    }

    fn tell_children(&mut self) {
        for action in self.out.drain(..) {
            if let ManagerAction::ToChild(rank, message) = action {
                self.children[rank.position() - 1].hear(message);
            }
        }
    }

    /// The next child reports: how long that took, and how many runs it told of.
    fn report(&mut self, told: u64, apart: bool) -> (Duration, usize) {
        let at = self.turn % self.children.len();
        self.turn += 1;
        self.now += Policy::default().pace_us(self.children.len()) / self.children.len() as u64;
        let child = &mut self.children[at];
        let (rank, message) = (child.rank, child.report(told, apart));
        let runs = runs_of(&message);
        let start = Instant::now();
        if self.manager.next_tick().is_some_and(|due| due <= self.now) {
            self.manager.step(self.now, &mut self.out);
        }
        self.manager.on_child(self.now, rank, message, &mut self.out);
        let took = start.elapsed();
        self.tell_children();
        (took, runs)
    }
}

/// A child reports; what it is handed then, if anything, belongs to it.
fn manager(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("manager");
    for children in [1, 32, 256] {
        for runs in [1, TOLD] {
            let name =
                format!("a report of {runs} run{}, {children} child{}", plural(runs, "s"), plural(children, "ren"));
            let mut managed = None;
            group.bench_function(name, |bencher| {
                // For all samples, and only where this one is asked for.
                let managed = managed.get_or_insert_with(|| Managed::new(children as u32));
                timed(bencher, || {
                    let (took, told) = managed.report(TOLD, runs > 1);
                    assert_eq!(told as u64, runs);
                    took
                });
            });
        }
    }
}

fn plural(count: u64, ending: &str) -> &str {
    if count == 1 { "" } else { ending }
}

// ---- The sub-manager. ----

struct Subordinate {
    sub: SubManager,
    children: Vec<Child>,
    turn: usize,
    now: Micros,
    out: Vec<SubAction>,
    /// Tasks handed to it, and what of them it has not handed on.
    handed: u64,
    waiting: u64,
}

const PACE_US: Micros = 10_000;

impl Subordinate {
    fn new() -> Self {
        let children: Vec<Child> = (1..=WORKERS).map(|rank| Child::new(Rank(rank), 1)).collect();
        let ranks: Vec<Rank> = children.iter().map(|child| child.rank).collect();
        let sub = SubManager::new(Policy::default(), &ranks);
        let mut below = Self { sub, children, turn: 0, now: 0, out: Vec::new(), handed: 0, waiting: 0 };
        below.sub.open(&mut below.out);
        below.tell();
        below.sub.on_parent(0, Down::Welcome { epoch: 1, pace_us: PACE_US }, &mut below.out);
        for child in &below.children {
            below.sub.on_child(0, child.rank, child.hello(), &mut below.out);
        }
        below.hand();
        for _ in 0..ROUNDS * WORKERS {
            below.report();
        }
        below.sub.check().expect("the rules hold");
        below
    }

    fn tell(&mut self) {
        for action in self.out.drain(..) {
            if let SubAction::ToChild(rank, message) = action {
                let child = &mut self.children[rank.position() - 1];
                let before = child.tasks;
                child.hear(message);
                self.waiting -= child.tasks - before;
            }
        }
    }

    /// Its parent hands it more: how long that took.
    fn hand(&mut self) -> Duration {
        let message = hand(&mut self.handed, HANDED, Shape::PROCESS);
        self.waiting += HANDED;
        let start = Instant::now();
        self.sub.on_parent(self.now, message, &mut self.out);
        let took = start.elapsed();
        self.tell();
        took
    }

    /// The next child reports: how long that took, and how many runs it told of.
    fn report(&mut self) -> (Duration, usize) {
        if self.needs_more() {
            self.hand();
        }
        let at = self.turn % self.children.len();
        self.turn += 1;
        self.now += PACE_US / u64::from(WORKERS);
        let child = &mut self.children[at];
        let (rank, message) = (child.rank, child.report(TOLD_BY_WORKER, false));
        let runs = runs_of(&message);
        let start = Instant::now();
        if self.sub.next_tick().is_some_and(|due| due <= self.now) {
            self.sub.step(self.now, &mut self.out);
        }
        self.sub.on_child(self.now, rank, message, &mut self.out);
        let took = start.elapsed();
        self.tell();
        (took, runs)
    }

    fn needs_more(&self) -> bool {
        self.waiting < HANDED
    }
}

/// The next tasks, as they are handed out.
fn hand(handed: &mut u64, tasks: u64, shape: Shape) -> Down {
    let Shape { resources, retries, calls } = shape;
    let work = Work { bundle: BUNDLE, resources, retries, calls, attempt: 0, crashes: 0, apart: false, avoid: None };
    let range = IndexRange::new(*handed, *handed + tasks);
    *handed = range.end;
    Down::Hand { epoch: 1, ranges: vec![WorkRange { work, range }] }
}

fn sub_manager(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sub-manager");
    let mut below = Subordinate::new();
    group.bench_function("a report of 1 run, 32 workers", |bencher| {
        timed(bencher, || {
            let (took, runs) = below.report();
            assert_eq!(runs, 1);
            took
        });
    });
    group.bench_function("a hand-out, 32 workers", |bencher| {
        timed(bencher, || {
            while !below.needs_more() {
                below.report();
            }
            below.hand()
        });
    });
}

// ---- The worker. ----

struct Working {
    worker: Worker,
    shape: Shape,
    running: VecDeque<TaskRun>,
    now: Micros,
    out: Vec<WorkerAction>,
    handed: u64,
    waiting: u64,
}

impl Working {
    fn new(worker: Worker, shape: Shape) -> Self {
        let mut working =
            Self { worker, shape, running: VecDeque::new(), now: 0, out: Vec::new(), handed: 0, waiting: 0 };
        working.worker.on_message(0, Down::Welcome { epoch: 1, pace_us: PACE_US }, &mut working.out);
        working.supply();
        working
    }

    /// It never has little to do.
    fn supply(&mut self) {
        const MANY: u64 = 1 << 17;
        if self.waiting < MANY {
            let message = hand(&mut self.handed, MANY, self.shape);
            self.waiting += MANY;
            self.worker.on_message(self.now, message, &mut self.out);
        }
        for action in self.out.drain(..) {
            if let WorkerAction::Start(run) = action {
                self.waiting -= run.range.len();
                self.running.push_back(run);
            }
        }
    }

    /// What runs longest ends, and the next starts: how long that took.
    fn end(&mut self, after_us: Micros) -> Duration {
        self.supply();
        let run = self.running.pop_front().expect("something runs");
        let slot = run.slots[0];
        let batch = BatchEnd { ok: vec![run.range], failed: Vec::new() };
        self.now += after_us * run.range.len();
        let start = Instant::now();
        if self.shape.calls {
            self.worker.on_batch_ended(self.now, slot, &batch).expect("it is wanted");
        } else {
            let end = AttemptEnd { status: &Status::Ok, killed: false, crashed: false };
            self.worker.on_ended(self.now, slot, end);
        }
        self.worker.step(self.now, &mut self.out);
        start.elapsed()
    }
}

fn worker(criterion: &mut Criterion) {
    let with = |cores| Worker::new(NodeId(0), Resources { cores, gpus: 0 }, 5);
    let mut group = criterion.benchmark_group("worker");
    let mut working = Working::new(with(CORES), Shape::PROCESS);
    group.bench_function("an end of a process, 32 slots", |bencher| {
        timed(bencher, || working.end(TASK_US));
    });
    let mut working = Working::new(with(1).with_calls(), Shape::CALL);
    group.bench_function("a batch of functions, 1 slot", |bencher| {
        timed(bencher, || working.end(CALL_US));
    });
}
