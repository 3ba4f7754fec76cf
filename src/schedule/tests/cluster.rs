//! A small virtual cluster: the machines under a virtual clock, with latency, losses and stalls. Every step is followed
//! by the invariant checks.

use crate::schedule::{
    AttemptEnd, BatchEnd, Down, Manager, ManagerAction, NodeRanks, Policy, Role, Settings, SubAction, SubManager, Tree,
    Up, Verdict, Worker, WorkerAction,
};
use crate::task::{
    BundleId, EndedBy, IndexRange, NodeId, OutcomeClass, RangeSet, Rank, Resources, Shape as TaskShape, Status,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

pub(crate) const BUNDLE: BundleId = BundleId(0);

/// What becomes of an attempt: (task, attempt number from 0, rank) → (microseconds, status).
pub(crate) type Behaviour = Box<dyn Fn(u64, u32, Rank) -> (u64, Status)>;

enum Event {
    Down {
        to: Rank,
        depth: u8,
        message: Down,
    },
    Up {
        to: Rank,
        depth: u8,
        from: Rank,
        message: Up,
    },
    Ended {
        rank: Rank,
        slot: u32,
        run: u64,
    },
    Tick {
        rank: Rank,
        depth: u8,
    },
    Lose {
        rank: Rank,
    },
    Drain {
        grace_us: u64,
    },
    Cancel {
        range: IndexRange,
    },
    /// A batch that still runs is cut.
    Cut {
        rank: Rank,
        slot: u32,
        run: u64,
    },
}

enum Machine {
    Manager(Manager),
    Sub(SubManager),
    Worker(Worker),
}

struct RunningTask {
    run: u64,
    /// What of it is still to be called: one task, or those of a batch that was not cut off.
    range: IndexRange,
    attempt: u32,
    killed: bool,
    since: u64,
}

pub(crate) struct Cluster {
    machines: BTreeMap<(Rank, u8), Machine>,
    parents: HashMap<(Rank, u8), Rank>,
    dead: Vec<Rank>,
    events: BinaryHeap<Reverse<(u64, u64, usize)>>,
    slots: Vec<Option<Event>>,
    sequence: u64,
    pub(crate) now: u64,
    latency_us: Box<dyn FnMut() -> u64>,
    /// Last arrival on each link, so that order is kept however latency varies.
    arrivals: HashMap<(Rank, u8, Rank, u8), u64>,
    behaviour: Behaviour,
    running: HashMap<(Rank, u32), RunningTask>,
    /// Attempts or batches that were started.
    pub(crate) runs: u64,
    pub(crate) outcomes: BTreeMap<u64, OutcomeClass>,
    /// Attempts made, by task.
    pub(crate) started: HashMap<u64, u32>,
    pub(crate) done: bool,
    pub(crate) messages_to_manager: u64,
    pub(crate) last_end_us: u64,
    checked_every: u64,
    tasks: u64,
    /// Tasks are functions, called in batches.
    batches: bool,
}

/// A batch that takes longer is cut, as the worker's threads do it.
const LONG_US: u64 = 20_000;

pub(crate) struct Shape {
    pub(crate) nodes: u32,
    pub(crate) ranks_per_node: u32,
    pub(crate) slots: u32,
    pub(crate) fan_out: usize,
}

impl Cluster {
    pub(crate) fn new(shape: &Shape, settings: Settings, tasks: u64, uniform: TaskShape, behaviour: Behaviour) -> Self {
        let nodes: Vec<NodeRanks> = (0..shape.nodes)
            .map(|n| NodeRanks {
                node: NodeId(n),
                workers: (n * shape.ranks_per_node..(n + 1) * shape.ranks_per_node).map(Rank).collect(),
            })
            .collect();
        let tree = Tree::build(&nodes, shape.fan_out);
        let policy = Policy::default();
        let mut machines = BTreeMap::new();
        let mut parents = HashMap::new();
        for node in &nodes {
            for &rank in &node.workers {
                for place in tree.places(rank) {
                    let machine = match place.role {
                        Role::Manager => {
                            let mut manager = Manager::new(policy, settings, &place.children);
                            manager.add_bundle(BUNDLE, tasks, RangeSet::new(), Arc::new(uniform));
                            Machine::Manager(manager)
                        }
                        Role::SubManager => Machine::Sub(SubManager::new(policy, &place.children)),
                        Role::Worker => {
                            let total = Resources { cores: shape.slots, gpus: 0 };
                            let worker = Worker::new(node.node, total, settings.crash_limit);
                            Machine::Worker(if uniform.calls { worker.with_calls() } else { worker })
                        }
                    };
                    machines.insert((rank, place.depth), machine);
                    if let Some(parent) = place.parent {
                        parents.insert((rank, place.depth), parent);
                    }
                }
            }
        }
        let mut cluster = Self {
            machines,
            parents,
            dead: Vec::new(),
            events: BinaryHeap::new(),
            slots: Vec::new(),
            sequence: 0,
            now: 0,
            latency_us: Box::new(|| 20),
            arrivals: HashMap::new(),
            behaviour,
            running: HashMap::new(),
            runs: 0,
            outcomes: BTreeMap::new(),
            started: HashMap::new(),
            done: false,
            messages_to_manager: 0,
            last_end_us: 0,
            checked_every: if tasks > 5_000 { 997 } else { 1 },
            tasks,
            batches: uniform.calls,
        };
        cluster.open();
        cluster
    }

    pub(crate) fn latency(mut self, latency_us: impl FnMut() -> u64 + 'static) -> Self {
        self.latency_us = Box::new(latency_us);
        self
    }

    fn open(&mut self) {
        let keys: Vec<_> = self.machines.keys().copied().collect();
        for key in keys {
            match self.machines.get_mut(&key) {
                Some(Machine::Manager(manager)) => {
                    let mut out = Vec::new();
                    manager.open(0, &mut out);
                    self.manager_actions(out);
                }
                Some(Machine::Sub(sub)) => {
                    let mut out = Vec::new();
                    sub.open(&mut out);
                    self.sub_actions(key, out);
                }
                _ => {}
            }
        }
    }

    fn push(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.slots.push(Some(event));
        self.events.push(Reverse((at, self.sequence, self.slots.len() - 1)));
    }

    pub(crate) fn lose_at(&mut self, at: u64, rank: Rank) {
        self.push(at, Event::Lose { rank });
    }

    pub(crate) fn drain_at(&mut self, at: u64, grace_us: u64) {
        self.push(at, Event::Drain { grace_us });
    }

    pub(crate) fn cancel_at(&mut self, at: u64, range: IndexRange) {
        self.push(at, Event::Cancel { range });
    }

    fn deliver(&mut self, from: (Rank, u8), to: (Rank, u8), event: Event) {
        let latency = if from.0 == to.0 { 0 } else { (self.latency_us)() };
        let link = self.arrivals.entry((from.0, from.1, to.0, to.1)).or_default();
        *link = (*link).max(self.now + latency);
        let at = *link;
        self.push(at, event);
    }

    fn manager_actions(&mut self, actions: Vec<ManagerAction>) {
        for action in actions {
            match action {
                ManagerAction::ToChild(to, message) => {
                    self.deliver((Rank(0), 0), (to, 1), Event::Down { to, depth: 1, message });
                }
                ManagerAction::Record(section) => {
                    for run in section.runs {
                        self.record(run.range, run.class);
                    }
                }
                ManagerAction::RecordOwn { range, class, .. } => self.record(range, class),
                ManagerAction::Failures(_) => {}
                ManagerAction::Done => self.done = true,
            }
        }
    }

    fn record(&mut self, range: IndexRange, class: OutcomeClass) {
        for index in range.start..range.end {
            let before = self.outcomes.insert(index, class);
            assert!(before.is_none(), "task {index} has two outcomes");
        }
        self.last_end_us = self.now;
    }

    fn sub_actions(&mut self, key: (Rank, u8), actions: Vec<SubAction>) {
        for action in actions {
            match action {
                SubAction::ToChild(to, message) => {
                    self.deliver(key, (to, key.1 + 1), Event::Down { to, depth: key.1 + 1, message });
                }
                SubAction::ToParent(message) => self.send_up(key, message),
                SubAction::Done => {}
            }
        }
    }

    fn send_up(&mut self, key: (Rank, u8), message: Up) {
        let parent = self.parents[&key];
        let to = (parent, key.1 - 1);
        self.deliver(key, to, Event::Up { to: parent, depth: to.1, from: key.0, message });
    }

    fn worker_actions(&mut self, key: (Rank, u8), actions: Vec<WorkerAction>) {
        for action in actions {
            match action {
                WorkerAction::Start(run) => {
                    self.runs += 1;
                    let attempt = run.work.attempt;
                    let slot = run.slots[0];
                    let task =
                        RunningTask { run: self.runs, range: run.range, attempt, killed: false, since: self.now };
                    assert!(self.batches || run.range.len() == 1, "processes are started one by one");
                    let ends = self.ends_at(key.0, &task);
                    assert!(self.running.insert((key.0, slot), task).is_none(), "a slot runs one task at a time");
                    self.push(ends, Event::Ended { rank: key.0, slot, run: self.runs });
                    if self.batches && ends > self.now + LONG_US {
                        self.push(self.now + LONG_US, Event::Cut { rank: key.0, slot, run: self.runs });
                    }
                }
                WorkerAction::Kill { slot } if self.batches => self.cut(key, slot),
                WorkerAction::Kill { slot } => {
                    let task = self.running.get_mut(&(key.0, slot)).expect("only what runs is killed");
                    task.killed = true;
                    let run = task.run;
                    self.push(self.now + 5, Event::Ended { rank: key.0, slot, run });
                }
                WorkerAction::ToParent(message) => self.send_up(key, message),
                WorkerAction::Done => {}
            }
        }
    }

    /// When the tasks end that were not cut off.
    fn ends_at(&self, rank: Rank, task: &RunningTask) -> u64 {
        let duration = |index| (self.behaviour)(index, task.attempt, rank).0;
        task.since + (task.range.start..task.range.end).map(duration).sum::<u64>()
    }

    /// Takes from a batch what it has not started by now.
    fn cut(&mut self, key: (Rank, u8), slot: u32) {
        let task = &self.running[&(key.0, slot)];
        let (mut at, mut next) = (task.since, task.range.start);
        while next < task.range.end && at <= self.now {
            at += (self.behaviour)(next, task.attempt, key.0).0;
            next += 1;
        }
        let (rest, run) = (IndexRange::new(next, task.range.end), task.run);
        self.running.get_mut(&(key.0, slot)).expect("it was just there").range.end = next;
        self.push(at.max(self.now), Event::Ended { rank: key.0, slot, run });
        let Some(Machine::Worker(worker)) = self.machines.get_mut(&key) else { panic!("batches run on workers") };
        if !rest.is_empty() {
            worker.on_batch_cut(slot, rest);
        }
        let mut out = Vec::new();
        worker.step(self.now, &mut out);
        self.worker_actions(key, out);
    }

    /// Runs to the end, or panics when virtual time exceeds the limit.
    pub(crate) fn run(mut self, limit_us: u64) -> Self {
        let mut steps = 0u64;
        while !self.done {
            let Some(Reverse((at, _, slot))) = self.events.pop() else {
                panic!(
                    "nothing more happens at {} µs and the run has not ended: {} outcomes",
                    self.now,
                    self.outcomes.len()
                )
            };
            assert!(at <= limit_us, "the run has not ended at {limit_us} µs: {} outcomes", self.outcomes.len());
            self.now = at;
            let event = self.slots[slot].take().expect("an event happens once");
            self.happen(event);
            steps += 1;
            if steps.is_multiple_of(self.checked_every) {
                self.check();
            }
        }
        self.check();
        self
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Down { to, depth, message } => {
                if self.dead.contains(&to) {
                    return;
                }
                let key = (to, depth);
                match self.machines.get_mut(&key).expect("messages go to machines") {
                    Machine::Sub(sub) => {
                        let mut out = Vec::new();
                        sub.on_parent(self.now, message, &mut out);
                        self.sub_actions(key, out);
                    }
                    Machine::Worker(worker) => {
                        let mut out = Vec::new();
                        worker.on_message(self.now, message, &mut out);
                        self.worker_actions(key, out);
                    }
                    Machine::Manager(_) => panic!("the manager has no parent"),
                }
                self.arm(key);
            }
            Event::Up { to, depth, from, message } => {
                let key = (to, depth);
                // A word of the dead that is still on its way arrives: it must change nothing.
                if self.dead.contains(&to) {
                    return;
                }
                match self.machines.get_mut(&key).expect("messages go to machines") {
                    Machine::Manager(manager) => {
                        self.messages_to_manager += 1;
                        let mut out = Vec::new();
                        manager.on_child(self.now, from, message, &mut out);
                        self.manager_actions(out);
                    }
                    Machine::Sub(sub) => {
                        let mut out = Vec::new();
                        sub.on_child(self.now, from, message, &mut out);
                        self.sub_actions(key, out);
                    }
                    Machine::Worker(_) => panic!("a worker has no children"),
                }
                self.arm(key);
            }
            Event::Ended { rank, slot, run } => self.ended(rank, slot, run),
            Event::Cut { rank, slot, run } => {
                if !self.dead.contains(&rank) && self.running.get(&(rank, slot)).is_some_and(|task| task.run == run) {
                    let key = self.worker_of(rank);
                    self.cut(key, slot);
                    self.arm(key);
                }
            }
            Event::Tick { rank, depth } => {
                if self.dead.contains(&rank) {
                    return;
                }
                let key = (rank, depth);
                match self.machines.get_mut(&key).expect("ticks go to machines") {
                    Machine::Manager(manager) => {
                        let mut out = Vec::new();
                        manager.step(self.now, &mut out);
                        self.manager_actions(out);
                    }
                    Machine::Sub(sub) => {
                        let mut out = Vec::new();
                        sub.step(self.now, &mut out);
                        self.sub_actions(key, out);
                    }
                    Machine::Worker(worker) => {
                        let mut out = Vec::new();
                        worker.step(self.now, &mut out);
                        self.worker_actions(key, out);
                    }
                }
                self.arm(key);
            }
            Event::Lose { rank } => self.lose(rank),
            Event::Drain { grace_us } => {
                let mut out = Vec::new();
                let now = self.now;
                self.manager().drain(now, EndedBy::Stop, grace_us, &mut out);
                self.manager_actions(out);
            }
            Event::Cancel { range } => {
                let mut out = Vec::new();
                let now = self.now;
                self.manager().cancel(now, BUNDLE, range, &mut out);
                self.manager_actions(out);
            }
        }
    }

    pub(crate) fn manager(&mut self) -> &mut Manager {
        match self.machines.get_mut(&(Rank(0), 0)) {
            Some(Machine::Manager(manager)) => manager,
            _ => panic!("rank 0 hosts the manager"),
        }
    }

    fn ended(&mut self, rank: Rank, slot: u32, run: u64) {
        let Some(task) = self.running.get(&(rank, slot)).filter(|task| task.run == run) else { return };
        // A batch that was cut ends sooner; one that goes on has an event of its own.
        if self.dead.contains(&rank) || (!task.killed && self.ends_at(rank, task) > self.now) {
            return;
        }
        let task = self.running.remove(&(rank, slot)).expect("it was just there");
        let key = self.worker_of(rank);
        let Some(Machine::Worker(worker)) = self.machines.get_mut(&key) else { panic!("tasks end on workers") };
        for index in task.range.start..task.range.end {
            *self.started.entry(index).or_default() += 1;
        }
        if self.batches {
            let mut end = BatchEnd::default();
            for index in task.range.start..task.range.end {
                match (self.behaviour)(index, task.attempt, rank).1 {
                    Status::Ok => end.ok.push(IndexRange::one(index)),
                    failed => end.failed.push((index, failed)),
                }
            }
            let verdicts = worker.on_batch_ended(self.now, slot, &end);
            assert!(verdicts.is_none_or(|verdicts| verdicts.len() == end.failed.len()));
        } else {
            let index = task.range.start;
            let (_, mut status) = (self.behaviour)(index, task.attempt, rank);
            if task.killed {
                status = Status::Signal(15);
            }
            let end = AttemptEnd { status: &status, killed: task.killed, crashed: false };
            if let Verdict::Final { index: judged, .. } = worker.on_ended(self.now, slot, end) {
                assert_eq!(judged, index);
            }
        }
        let mut out = Vec::new();
        worker.step(self.now, &mut out);
        self.worker_actions(key, out);
        self.arm(key);
    }

    fn worker_of(&self, rank: Rank) -> (Rank, u8) {
        *self.machines.keys().rfind(|(r, _)| *r == rank).expect("the rank has a worker")
    }

    /// A rank dies, and its parents are told; those whose parent it was die with it.
    fn lose(&mut self, rank: Rank) {
        assert_ne!(rank, Rank(0), "rank 0 is the job");
        if self.dead.contains(&rank) || self.done {
            return;
        }
        self.dead.push(rank);
        let depths: Vec<u8> = self.machines.keys().filter(|(r, _)| *r == rank).map(|(_, d)| *d).collect();
        for &depth in &depths {
            let below: Vec<Rank> = self
                .parents
                .iter()
                .filter(|((_, d), p)| **p == rank && *d == depth + 1)
                .map(|((r, _), _)| *r)
                .collect();
            below.into_iter().filter(|child| *child != rank).for_each(|child| self.lose(child));
        }
        let top = depths[0];
        let parent = self.parents[&(rank, top)];
        if self.dead.contains(&parent) {
            return;
        }
        let key = (parent, top - 1);
        match self.machines.get_mut(&key).expect("a parent is a machine") {
            Machine::Manager(manager) => {
                let mut out = Vec::new();
                manager.on_lost(self.now, rank, &mut out);
                self.manager_actions(out);
            }
            Machine::Sub(sub) => {
                let mut out = Vec::new();
                sub.on_lost(self.now, rank, &mut out);
                self.sub_actions(key, out);
            }
            Machine::Worker(_) => panic!("a worker has no children"),
        }
        self.arm(key);
    }

    fn arm(&mut self, key: (Rank, u8)) {
        let next = match &self.machines[&key] {
            Machine::Manager(manager) => manager.next_tick(),
            Machine::Sub(sub) => sub.next_tick(),
            Machine::Worker(worker) => worker.next_tick(),
        };
        if let Some(at) = next {
            self.push(at.max(self.now + 1), Event::Tick { rank: key.0, depth: key.1 });
        }
    }

    fn check(&self) {
        for ((rank, depth), machine) in &self.machines {
            if self.dead.contains(rank) {
                continue;
            }
            let checked = match machine {
                Machine::Manager(manager) => manager.check(),
                Machine::Sub(sub) => sub.check(),
                Machine::Worker(worker) => worker.check(),
            };
            if let Err(violation) = checked {
                panic!("rank {rank} depth {depth} at {} µs: {violation}", self.now);
            }
            // What a child holds is known to its parent (which may not have heard yet of what has ended).
            if let Machine::Worker(worker) = machine
                && self.known_to_parent((*rank, *depth))
            {
                let parent = self.parents[&(*rank, *depth)];
                let held: RangeSet = match &self.machines[&(parent, depth - 1)] {
                    Machine::Manager(manager) => manager.held_by(*rank).collect(),
                    Machine::Sub(sub) => sub.held_by(*rank).collect(),
                    Machine::Worker(_) => panic!("a worker has no children"),
                };
                let stray = worker.holds().find(|range| !held.contains_range(*range));
                assert!(stray.is_none(), "rank {rank} has task {stray:?} that its parent does not know it holds");
            }
        }
        assert!(self.outcomes.len() as u64 <= self.tasks);
    }

    fn known_to_parent(&self, key: (Rank, u8)) -> bool {
        self.parents.get(&key).is_some_and(|parent| !self.dead.contains(parent))
    }

    pub(crate) fn all_ended_once(self) -> Self {
        assert_eq!(self.outcomes.len() as u64, self.tasks, "every task has an outcome");
        self
    }

    pub(crate) fn class_count(&self, class: OutcomeClass) -> u64 {
        self.outcomes.values().filter(|c| **c == class).count() as u64
    }
}
