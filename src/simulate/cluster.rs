//! Ranks under a virtual clock. Each runs the production state machines and takes up one message at a time, so that a busy
//! parent is a busy parent; messages take their way through the network of a model, and outcomes through its file system.

use super::Nanos;
use super::figures::Tally;
use super::files::{Appender, FileServer};
use super::model::{Link, Numbers};
use super::queue::Queue;
use super::run::{Figures, LevelFigures};
use super::slots::{LONG, Slots, StartCosts};
use super::tasks::Tasks;
use super::waiting::{Listening, Looks};
use crate::schedule::{
    Down, Manager, ManagerAction, Micros, NodeRanks, Place, Policy, Role, Settings, SubAction, SubManager, Tree, Up,
    Violation, Worker, WorkerAction, encode_after,
};
use crate::task::{BundleId, EndedRun, Extent, NodeId, RangeSet, Rank, Resources};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;

/// The one bundle of a simulation.
pub(super) const BUNDLE: BundleId = BundleId(0);
/// For a rank whose only thread calls functions, another one goes on talking when a batch takes longer than this.
const PATIENCE: Nanos = 20_000_000;
/// How long a rank with children may sleep while its own slots are busy.
const PARENTS_WAIT: Nanos = 10_000_000;
/// For so long after its start no rank sleeps for longer than this.
const STARTING: Nanos = 200_000_000;
const STARTING_WAIT: Nanos = 1_000_000;

/// The machine room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Nodes.
    pub nodes: u32,
    /// Ranks on each.
    pub ranks_per_node: u32,
    /// Slots of each rank.
    pub slots: u32,
    /// Most children of a rank.
    pub fan_out: u32,
    /// Rank 0's node runs no tasks; where there is one node, rank 0 alone runs none.
    pub dedicated_manager: bool,
}

impl Layout {
    /// All ranks.
    pub fn ranks(&self) -> u32 {
        self.nodes * self.ranks_per_node
    }

    /// All slots that run tasks; none where they are more than can be counted.
    pub fn all_slots(&self) -> Option<u64> {
        let ranks = self.nodes.checked_mul(self.ranks_per_node)?.checked_sub(self.idle_ranks())?;
        Some(u64::from(ranks) * u64::from(self.slots))
    }

    /// The first so many ranks run no tasks.
    fn idle_ranks(&self) -> u32 {
        match (self.dedicated_manager, self.nodes) {
            (false, _) => 0,
            (true, 1) => 1,
            (true, _) => self.ranks_per_node,
        }
    }

    fn node_of(&self, rank: Rank) -> NodeId {
        NodeId(rank.0 / self.ranks_per_node)
    }

    fn tree(&self) -> Tree {
        let nodes: Vec<NodeRanks> = (0..self.nodes)
            .map(|node| {
                let first = node * self.ranks_per_node;
                let skipped = if node == 0 { self.idle_ranks() } else { 0 };
                NodeRanks {
                    node: NodeId(node),
                    workers: (first + skipped..first + self.ranks_per_node).map(Rank).collect(),
                }
            })
            .collect();
        Tree::build(&nodes, self.fan_out as usize)
    }
}

enum Word {
    Down(Down),
    Up(Up),
}

impl Word {
    /// Ranges and runs of tasks in it.
    fn ranges(&self) -> u64 {
        match self {
            Word::Down(Down::Hand { ranges, .. }) => ranges.len() as u64,
            Word::Up(Up::Report { report, .. }) => {
                let runs: usize = report.sections.iter().map(|section| section.runs.len()).sum();
                (runs + report.failed.len() + report.returned.len()) as u64
            }
            _ => 0,
        }
    }
}

/// A message. `level` is that of its link: between depth `level` and the next.
struct Message {
    from: Rank,
    to: Rank,
    level: u8,
    /// Bytes of outcomes that go along to the keeper.
    blocks: u64,
    word: Word,
}

enum Event {
    /// A message has arrived.
    Arrive(Box<Message>),
    /// The rank looks around.
    Look(Rank),
    /// What ran on a slot may have ended.
    Ended { rank: Rank, slot: u32, run: u64 },
    /// A batch has run for long.
    Long { rank: Rank, slot: u32, run: u64 },
}

/// A sub-manager that keeps its node's segment: words for the parent wait until what they point to is written.
struct Keeper {
    segment: u32,
    file: Appender,
    waiting: VecDeque<(Nanos, Up)>,
}

enum Machine {
    Manager(Box<Manager>),
    Sub { machine: Box<SubManager>, keeper: Option<Box<Keeper>>, passing: u64 },
    Worker(Box<Slots>, /* Bytes of outcomes that its next report takes along. */ u64),
}

struct RoleState {
    depth: u8,
    parent: Option<Rank>,
    machine: Machine,
    /// When the last message down to this role, and up from it, arrives: none may overtake another.
    down_arrives: Nanos,
    up_arrives: Nanos,
}

struct RankState {
    /// Its first role among all, and how many it has, from the root downwards.
    first_role: u32,
    roles: u8,
    inbox: VecDeque<Box<Message>>,
    busy_until: Nanos,
    busy: Nanos,
    /// When it began to wait.
    since: Nanos,
    /// When it looks around next.
    looks: Nanos,
    messages: u64,
}

const NEVER: Nanos = Nanos::MAX;

/// What a rank's clock shows.
fn micros(at: Nanos) -> Micros {
    at / 1000
}

/// The machine room at work.
pub(super) struct Cluster<'t> {
    pub(super) layout: Layout,
    tasks: &'t dyn Tasks,
    numbers: Numbers,
    looks: Looks,
    now: Nanos,
    events: Queue<Event>,
    ranks: Vec<RankState>,
    roles: Vec<RoleState>,
    runs: u64,
    scratch: Vec<u8>,
    /// Bytes of the record of one outcome.
    record_bytes: u64,
    server: FileServer,
    journal: Appender,
    /// Tasks with an outcome.
    pub(super) ended: RangeSet,
    first_hand: Option<Nanos>,
    last_record: Nanos,
    pub(super) done: bool,
    pub(super) tally: Tally,
    pub(super) steps: u64,
}

impl<'t> Cluster<'t> {
    pub(super) fn new(
        layout: Layout,
        settings: Settings,
        policy: Policy,
        tasks: &'t dyn Tasks,
        numbers: Numbers,
    ) -> Self {
        let tree = layout.tree();
        let shape = tasks.shape();
        let mut roles = Vec::new();
        let mut ranks = Vec::with_capacity(layout.ranks() as usize);
        for rank in (0..layout.ranks()).map(Rank) {
            let first_role = roles.len() as u32;
            for place in tree.places(rank) {
                let machine = Self::machine(&layout, settings, policy, tasks, place, rank, shape.calls);
                roles.push(RoleState {
                    depth: place.depth,
                    parent: place.parent,
                    machine,
                    down_arrives: 0,
                    up_arrives: 0,
                });
            }
            ranks.push(RankState {
                first_role,
                roles: (roles.len() as u32 - first_role) as u8,
                inbox: VecDeque::new(),
                busy_until: 0,
                busy: 0,
                since: 0,
                looks: NEVER,
                messages: 0,
            });
        }
        let mut cluster = Self {
            layout,
            tasks,
            looks: Looks::new(numbers.idle.clone()),
            server: FileServer::new(&numbers.files),
            journal: Appender::default(),
            numbers,
            now: 0,
            events: Queue::new(),
            ranks,
            roles,
            runs: 0,
            scratch: Vec::new(),
            record_bytes: if shape.calls { 2 } else { 64 },
            ended: RangeSet::new(),
            first_hand: None,
            last_record: 0,
            done: false,
            tally: Tally::new(tree.levels),
            steps: 0,
        };
        (0..cluster.ranks.len() as u32).for_each(|rank| cluster.open(Rank(rank)));
        cluster
    }

    fn machine(
        layout: &Layout,
        settings: Settings,
        policy: Policy,
        tasks: &dyn Tasks,
        place: &Place,
        rank: Rank,
        calls: bool,
    ) -> Machine {
        match place.role {
            Role::Manager => {
                let mut manager = Manager::new(policy, settings, &place.children);
                manager.add_bundle(BUNDLE, tasks.count(), RangeSet::new(), Arc::new(tasks.shape()));
                Machine::Manager(Box::new(manager))
            }
            Role::SubManager => {
                let keeper = Keeper { segment: rank.0, file: Appender::default(), waiting: VecDeque::new() };
                Machine::Sub {
                    machine: Box::new(SubManager::new(policy, &place.children)),
                    keeper: place.keeper.then(|| Box::new(keeper)),
                    passing: 0,
                }
            }
            Role::Worker => {
                let total = Resources { cores: layout.slots, gpus: 0 };
                let worker = Worker::new(layout.node_of(rank), total, settings.crash_limit);
                let worker = if calls { worker.with_calls() } else { worker };
                Machine::Worker(Box::new(Slots::new(worker, layout.slots)), 0)
            }
        }
    }

    fn open(&mut self, rank: Rank) {
        let mut at = self.now;
        let mut local = VecDeque::new();
        for role in self.roles_of(rank) {
            match &mut self.roles[role].machine {
                Machine::Manager(manager) => {
                    let mut out = Vec::new();
                    manager.open(0, &mut out);
                    self.manager_acts(rank, role, out, &mut at, &mut local);
                }
                Machine::Sub { machine, .. } => {
                    let mut out = Vec::new();
                    machine.open(&mut out);
                    self.sub_acts(rank, role, out, &mut at, &mut local);
                }
                Machine::Worker(..) => {}
            }
        }
        self.handle_local(rank, &mut local, &mut at);
        self.settle(rank, self.now, at);
    }

    fn roles_of(&self, rank: Rank) -> std::ops::Range<usize> {
        let RankState { first_role, roles, .. } = self.ranks[rank.position()];
        first_role as usize..first_role as usize + usize::from(roles)
    }

    fn role_at(&self, rank: Rank, depth: u8) -> usize {
        let roles = self.roles_of(rank);
        let role = roles.start + usize::from(depth - self.roles[roles.start].depth);
        debug_assert!(roles.contains(&role) && self.roles[role].depth == depth);
        role
    }

    fn link(&self, a: Rank, b: Rank) -> &Link {
        let same = self.layout.node_of(a) == self.layout.node_of(b);
        if same { &self.numbers.network.local } else { &self.numbers.network.remote }
    }

    /// Runs until the manager is done, or until this time; whether it is done.
    pub(super) fn run(&mut self, until: Nanos) -> bool {
        while !self.done {
            let Some((at, event)) = self.events.pop() else { return false };
            if at > until {
                return false;
            }
            self.now = at;
            self.steps += 1;
            match event {
                Event::Arrive(message) => self.arrive(message),
                Event::Look(rank) => {
                    if self.ranks[rank.position()].looks == at {
                        self.turn(rank);
                    }
                }
                Event::Ended { rank, slot, run } => self.run_may_have_ended(rank, slot, run),
                Event::Long { rank, slot, run } => self.cut_long(rank, slot, run),
            }
        }
        true
    }

    fn look_at(&mut self, rank: Rank, at: Nanos) {
        let state = &mut self.ranks[rank.position()];
        let at = at.max(state.busy_until).max(self.now);
        if at < state.looks {
            state.looks = at;
            self.events.push(at, Event::Look(rank));
        }
    }

    fn arrive(&mut self, message: Box<Message>) {
        let rank = message.to;
        let notices = self.notices(rank);
        let state = &mut self.ranks[rank.position()];
        state.inbox.push_back(message);
        let (messages, waiting) = (&mut state.messages, state.inbox.len());
        *messages += 1;
        self.tally.queued(self.roles[state.first_role as usize].depth, waiting);
        self.look_at(rank, notices);
    }

    /// When a rank notices what has just come.
    fn notices(&self, rank: Rank) -> Nanos {
        let RankState { since, .. } = self.ranks[rank.position()];
        let waits = |since: Nanos, listening| {
            let noticed = self.looks.notices(since, self.now, listening);
            let starting = since + self.now.saturating_sub(since).next_multiple_of(STARTING_WAIT);
            if self.now < STARTING { noticed.min(starting) } else { noticed }
        };
        let roles = self.roles_of(rank);
        let Machine::Worker(slots, _) = &self.roles[roles.end - 1].machine else {
            return waits(since, Listening::Eagerly);
        };
        let is_leaf = roles.len() == 1;
        match slots.only_run().filter(|_| is_leaf && self.tasks.shape().calls) {
            // The thread that calls hears nobody; another one does after a while.
            Some(run) => waits((since + PATIENCE).max(self.now), Listening::Lazily(NEVER)).min(run.ends),
            None if slots.any_runs() => waits(since, Listening::Lazily(if is_leaf { NEVER } else { PARENTS_WAIT })),
            None => waits(since, Listening::Eagerly),
        }
    }

    fn run_may_have_ended(&mut self, rank: Rank, slot: u32, run: u64) {
        let role = self.roles_of(rank).end - 1;
        let Machine::Worker(slots, _) = &mut self.roles[role].machine else { return };
        let Some(ends) = slots.run(slot, run).map(|run| run.ends) else { return };
        if ends > self.now {
            self.events.push(ends, Event::Ended { rank, slot, run });
            return;
        }
        slots.note_end(slot);
        self.look_at(rank, self.now + self.numbers.rank.batch_ns);
    }

    fn cut_long(&mut self, rank: Rank, slot: u32, run: u64) {
        let role = self.roles_of(rank).end - 1;
        let (now, call) = (self.now, self.numbers.rank.call_ns);
        let Machine::Worker(slots, _) = &mut self.roles[role].machine else { return };
        let Some(ends) = slots.run(slot, run).map(|run| run.ends) else { return };
        if ends > now && slots.run(slot, run).is_some_and(|run| run.range.len() > 1) {
            let ends = slots.cut(now, slot, rank, self.tasks, call).unwrap_or(now);
            self.events.push(ends.max(now), Event::Ended { rank, slot, run });
            self.look_at(rank, now);
        }
    }

    /// The rank takes up what has come and does what is due.
    fn turn(&mut self, rank: Rank) {
        let start = self.now;
        let mut at = start;
        self.ranks[rank.position()].looks = NEVER;
        let mut local = VecDeque::new();
        while let Some(message) = self.ranks[rank.position()].inbox.pop_front() {
            at += self.link(message.from, rank).receive_ns;
            self.handle(rank, message, &mut at, &mut local);
            self.handle_local(rank, &mut local, &mut at);
        }
        for role in self.roles_of(rank) {
            self.do_what_is_due(rank, role, &mut at, &mut local);
        }
        self.handle_local(rank, &mut local, &mut at);
        self.settle(rank, start, at);
    }

    /// Notes that the rank was at work, and when it looks around next.
    fn settle(&mut self, rank: Rank, start: Nanos, at: Nanos) {
        let state = &mut self.ranks[rank.position()];
        state.busy += at - start;
        state.busy_until = at;
        if at > start {
            state.since = at;
        }
        let mut next = NEVER;
        for role in self.roles_of(rank) {
            let (tick, own) = match &self.roles[role].machine {
                Machine::Manager(manager) => (manager.next_tick(), NEVER),
                Machine::Sub { machine, keeper, .. } => {
                    let released = keeper.as_ref().and_then(|keeper| keeper.waiting.front()).map(|(at, _)| *at);
                    (machine.next_tick(), released.unwrap_or(NEVER))
                }
                Machine::Worker(slots, _) => (slots.machine.next_tick(), NEVER),
            };
            // Its clock shows whole microseconds: a tick that is due now is not looked for before the next one.
            let tick = tick.map_or(NEVER, |us| (us * 1000).max(at + 1000));
            next = next.min(tick).min(own);
        }
        if next < NEVER {
            self.look_at(rank, next);
        }
    }

    fn handle_local(&mut self, rank: Rank, local: &mut VecDeque<Box<Message>>, at: &mut Nanos) {
        while let Some(message) = local.pop_front() {
            self.handle(rank, message, at, local);
        }
    }

    fn handle(&mut self, rank: Rank, message: Box<Message>, at: &mut Nanos, local: &mut VecDeque<Box<Message>>) {
        let Message { from, level, blocks, word, .. } = *message;
        *at += self.numbers.rank.handle_ns + word.ranges() * self.numbers.rank.range_ns;
        let now = micros(*at);
        match word {
            Word::Down(word) => {
                let role = self.role_at(rank, level + 1);
                match &mut self.roles[role].machine {
                    Machine::Sub { machine, .. } => {
                        let mut out = Vec::new();
                        machine.on_parent(now, word, &mut out);
                        self.sub_acts(rank, role, out, at, local);
                    }
                    Machine::Worker(slots, _) => {
                        let mut out = Vec::new();
                        slots.machine.on_message(now, word, &mut out);
                        self.worker_acts(rank, role, out, at, local);
                    }
                    Machine::Manager(_) => panic!("the manager has no parent"),
                }
            }
            Word::Up(mut word) => {
                let role = self.role_at(rank, level);
                match &mut self.roles[role].machine {
                    Machine::Manager(manager) => {
                        let mut out = Vec::new();
                        manager.on_child(now, from, word, &mut out);
                        self.manager_acts(rank, role, out, at, local);
                    }
                    Machine::Sub { machine, keeper, passing } => {
                        match keeper {
                            Some(keeper) if blocks > 0 => keeper.keep(&mut word, blocks, *at, &mut self.server),
                            _ => *passing += blocks,
                        }
                        let mut out = Vec::new();
                        machine.on_child(now, from, word, &mut out);
                        self.sub_acts(rank, role, out, at, local);
                    }
                    Machine::Worker(..) => panic!("a worker has no children"),
                }
            }
        }
    }

    /// What time, slots and files ask for.
    fn do_what_is_due(&mut self, rank: Rank, role: usize, at: &mut Nanos, local: &mut VecDeque<Box<Message>>) {
        let now = micros(*at);
        match &mut self.roles[role].machine {
            Machine::Manager(manager) => {
                if manager.next_tick().is_some_and(|due| due <= now) {
                    let mut out = Vec::new();
                    manager.step(now, &mut out);
                    self.manager_acts(rank, role, out, at, local);
                }
            }
            Machine::Sub { machine, keeper, .. } => {
                let mut out = Vec::new();
                if machine.next_tick().is_some_and(|due| due <= now) {
                    machine.step(now, &mut out);
                }
                let mut ready = Vec::new();
                if let Some(keeper) = keeper {
                    while keeper.waiting.front().is_some_and(|(written, _)| *written <= *at) {
                        ready.extend(keeper.waiting.pop_front().map(|(_, word)| word));
                    }
                }
                ready.into_iter().for_each(|word| self.send_up(rank, role, word, 0, at, local));
                if !out.is_empty() {
                    self.sub_acts(rank, role, out, at, local);
                }
            }
            Machine::Worker(slots, blocks) => {
                let (ended, tasks) = slots.take_ended(now, rank, self.tasks);
                *blocks += tasks * self.record_bytes;
                if ended > 0 || slots.machine.next_tick().is_some_and(|due| due <= now) {
                    *at += ended as u64 * self.numbers.rank.handle_ns;
                    let mut out = Vec::new();
                    slots.machine.step(now, &mut out);
                    self.worker_acts(rank, role, out, at, local);
                }
            }
        }
    }

    fn manager_acts(
        &mut self,
        rank: Rank,
        role: usize,
        actions: Vec<ManagerAction>,
        at: &mut Nanos,
        local: &mut VecDeque<Box<Message>>,
    ) {
        for action in actions {
            match action {
                ManagerAction::ToChild(to, word) => {
                    if matches!(word, Down::Hand { .. }) {
                        self.first_hand.get_or_insert(*at);
                    }
                    self.send_down(rank, role, to, word, at, local);
                }
                ManagerAction::Record(section) => self.record(&section.runs, *at),
                ManagerAction::RecordOwn { range, class, .. } => self.record(&[EndedRun { range, class }], *at),
                ManagerAction::Failures(_) => {}
                ManagerAction::Done => self.done = true,
            }
        }
    }

    /// The journal says that tasks have ended.
    fn record(&mut self, runs: &[EndedRun], at: Nanos) {
        for run in runs {
            let new: u64 = self.ended.insert_new(run.range).iter().map(|range| range.len()).sum();
            assert_eq!(new, run.range.len(), "a task of {:?} has two outcomes", run.range);
        }
        let written = self.journal.append(at, 16 + 6 * runs.len() as u64, &mut self.server);
        self.last_record = self.last_record.max(written);
    }

    fn sub_acts(
        &mut self,
        rank: Rank,
        role: usize,
        actions: Vec<SubAction>,
        at: &mut Nanos,
        local: &mut VecDeque<Box<Message>>,
    ) {
        for action in actions {
            match action {
                SubAction::ToChild(to, word) => self.send_down(rank, role, to, word, at, local),
                SubAction::ToParent(word) => {
                    let Machine::Sub { keeper, passing, .. } = &mut self.roles[role].machine else { continue };
                    match keeper {
                        Some(keeper) if keeper.file.written_at() > *at || !keeper.waiting.is_empty() => {
                            let written = keeper.file.written_at();
                            keeper.waiting.push_back((written, word));
                        }
                        _ => {
                            let reports = matches!(word, Up::Report { .. });
                            let blocks = if reports { std::mem::take(passing) } else { 0 };
                            self.send_up(rank, role, word, blocks, at, local);
                        }
                    }
                }
                SubAction::Done => {}
            }
        }
    }

    fn worker_acts(
        &mut self,
        rank: Rank,
        role: usize,
        actions: Vec<WorkerAction>,
        at: &mut Nanos,
        local: &mut VecDeque<Box<Message>>,
    ) {
        let costs = StartCosts {
            spawn: self.numbers.rank.spawn_ns,
            process: self.numbers.rank.process_ns,
            call: self.numbers.rank.call_ns,
        };
        for action in actions {
            let Machine::Worker(slots, blocks) = &mut self.roles[role].machine else { continue };
            match action {
                WorkerAction::Start(run) => {
                    self.runs += 1;
                    let (number, slot) = (self.runs, run.slots[0]);
                    let ends = slots.start(*at, number, &run, rank, self.tasks, costs);
                    self.events.push(ends, Event::Ended { rank, slot, run: number });
                    if run.range.len() > 1 && ends > *at + LONG {
                        self.events.push(*at + LONG, Event::Long { rank, slot, run: number });
                    }
                }
                WorkerAction::Kill { slot } => {
                    if let Some(ends) = slots.kill(*at, slot, rank, self.tasks, costs.call)
                        && let Some(run) = slots.number_on(slot)
                    {
                        self.events.push(ends.max(*at), Event::Ended { rank, slot, run });
                    }
                }
                WorkerAction::ToParent(word) => {
                    let reports = matches!(word, Up::Report { .. });
                    let blocks = if reports { std::mem::take(blocks) } else { 0 };
                    self.send_up(rank, role, word, blocks, at, local);
                }
                WorkerAction::Done => {}
            }
        }
    }

    fn send_down(
        &mut self,
        rank: Rank,
        role: usize,
        to: Rank,
        word: Down,
        at: &mut Nanos,
        local: &mut VecDeque<Box<Message>>,
    ) {
        let level = self.roles[role].depth;
        let bytes = self.bytes_of(&word);
        let message = Box::new(Message { from: rank, to, level, blocks: 0, word: Word::Down(word) });
        self.tally.sent(level, true, bytes, to == rank);
        if to == rank {
            return local.push_back(message);
        }
        let arrives = self.travels(rank, to, bytes, at);
        let child = self.role_at(to, level + 1);
        let arrives = arrives.max(self.roles[child].down_arrives);
        self.roles[child].down_arrives = arrives;
        self.events.push(arrives, Event::Arrive(message));
    }

    fn send_up(
        &mut self,
        rank: Rank,
        role: usize,
        word: Up,
        blocks: u64,
        at: &mut Nanos,
        local: &mut VecDeque<Box<Message>>,
    ) {
        let RoleState { depth, parent, .. } = self.roles[role];
        let (to, level) = (parent.expect("who speaks up has a parent"), depth - 1);
        let bytes = self.bytes_of(&word) + blocks;
        let message = Box::new(Message { from: rank, to, level, blocks, word: Word::Up(word) });
        self.tally.sent(level, false, bytes, to == rank);
        if to == rank {
            return local.push_back(message);
        }
        let arrives = self.travels(rank, to, bytes, at).max(self.roles[role].up_arrives);
        self.roles[role].up_arrives = arrives;
        self.events.push(arrives, Event::Arrive(message));
    }

    fn bytes_of(&mut self, word: &impl serde::Serialize) -> u64 {
        self.scratch.clear();
        self.scratch = encode_after(word, std::mem::take(&mut self.scratch));
        self.scratch.len() as u64
    }

    /// When a message arrives that is sent now; the sender is busy with it for a while.
    fn travels(&self, from: Rank, to: Rank, bytes: u64, at: &mut Nanos) -> Nanos {
        let link = self.link(from, to);
        *at += link.send_ns;
        *at + link.latency_ns + (bytes as f64 * link.byte_ns + link.hops * link.hop_ns as f64) as Nanos
    }

    /// Virtual time so far.
    pub(super) fn now(&self) -> Nanos {
        self.now
    }

    /// What was counted.
    pub(super) fn figures(&self) -> Figures {
        let first = self.first_hand.unwrap_or(0);
        let makespan = self.last_record.saturating_sub(first).max(1) as f64;
        let mut levels: Vec<LevelFigures> = (0..=self.tally.down.len())
            .map(|depth| LevelFigures {
                depth: depth as u8,
                down: self.tally.down.get(depth).copied().unwrap_or_default(),
                up: self.tally.up.get(depth).copied().unwrap_or_default(),
                queue_peak: self.tally.queue_peaks[depth],
                ..LevelFigures::default()
            })
            .collect();
        let (mut busiest, mut tasks_ns, mut slots) = ((0, 0), 0u64, 0);
        for (rank, state) in self.ranks.iter().enumerate().filter(|(_, state)| state.roles > 0) {
            let level = &mut levels[usize::from(self.roles[state.first_role as usize].depth)];
            let busy = state.busy as f64 / makespan;
            level.ranks += 1;
            level.mean_busy += busy;
            level.most_busy = level.most_busy.max(busy);
            busiest = busiest.max((state.busy, rank as u32));
            let last = state.first_role as usize + usize::from(state.roles) - 1;
            if let Machine::Worker(worker, _) = &self.roles[last].machine {
                tasks_ns += worker.busy;
                slots += u64::from(self.layout.slots);
            }
        }
        for level in &mut levels {
            level.mean_busy /= level.ranks.max(1) as f64;
        }
        Figures {
            tasks: self.ended.len(),
            slots,
            makespan_seconds: makespan / 1e9,
            utilisation: tasks_ns as f64 / makespan / slots.max(1) as f64,
            tasks_per_second: self.ended.len() as f64 * 1e9 / makespan,
            messages_by_level: self
                .tally
                .up
                .iter()
                .zip(&self.tally.down)
                .map(|(up, down)| up.messages + down.messages)
                .collect(),
            busy_by_level: levels.iter().map(|level| level.mean_busy).collect(),
            levels,
            busiest_rank: busiest.1,
            busiest_rank_busy: busiest.0 as f64 / makespan,
            manager_messages: self.ranks[0].messages,
            file_creates: self.server.creates,
            file_writes: self.server.writes,
            file_bytes: self.server.bytes,
            events: self.steps,
        }
    }

    /// Checks what must hold between any two events, on every machine.
    pub(super) fn check(&self) -> Result<(), Violation> {
        self.roles.iter().try_for_each(|role| match &role.machine {
            Machine::Manager(manager) => manager.check(),
            Machine::Sub { machine, .. } => machine.check(),
            Machine::Worker(slots, _) => slots.machine.check(),
        })
    }
}

impl Keeper {
    /// Appends outcomes, and writes their place into the report that brought them.
    fn keep(&mut self, word: &mut Up, blocks: u64, at: Nanos, server: &mut FileServer) {
        let offset = self.file.bytes();
        self.file.append(at, blocks, server);
        let Up::Report { report, .. } = word else { return };
        for section in report.sections.iter_mut().filter(|section| section.extent.is_none()) {
            section.extent = Some(Extent { segment: self.segment, offset, len: blocks });
        }
    }
}
