//! A worker: runs what it is handed on its slots, in order, and reports how it ended.

use super::Micros;
use super::family::Violation;
use super::message::{Amount, Capacity, Down, FailedAttempt, Up, Work, WorkRange};
use super::uplink::{Load, Uplink};
use crate::task::{BundleId, FailureGroup, IndexRange, NodeId, Resources, Status};
use std::collections::{BTreeSet, VecDeque};

/// What a worker wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerAction {
    /// Start this attempt.
    Start(TaskRun),
    /// End the attempt that runs on this slot (its first, if it has several); it is given back.
    Kill {
        /// The slot.
        slot: u32,
    },
    /// Tell the parent.
    ToParent(Up),
    /// Everything has ended; the role is over.
    Done,
}

/// What to start on a slot: one attempt, or, where tasks are functions, several tasks to call in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRun {
    /// What the tasks have in common.
    pub work: Work,
    /// The tasks.
    pub range: IndexRange,
    /// The slots that it takes.
    pub slots: Vec<u32>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub struct AttemptEnd<'a> {
    /// As the executor saw it.
    pub status: &'a Status,
    /// It was ended from outside: the worker had asked for it, or all processes of the job were told to end.
    pub killed: bool,
    /// What ran it died, not the task alone.
    pub crashed: bool,
}

/// What becomes of an attempt that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the task's outcome: record it with this status and number of attempts.
    Final {
        /// The task.
        index: u64,
        /// Its bundle.
        bundle: BundleId,
        /// How the task ended.
        status: Status,
        /// Attempts, this one included.
        attempts: u32,
    },
    /// The task will be tried again, or was given back: nothing to record.
    NotFinal,
}

/// How a batch ended, or a part of it: tasks that are functions, called in a row on one slot. Each task of it that was not
/// cut off is in one of these.
#[derive(Debug, Default)]
pub struct BatchEnd {
    /// Tasks that ended well, in order.
    pub ok: Vec<IndexRange>,
    /// Tasks that failed, in order.
    pub failed: Vec<(u64, Status)>,
}

impl BatchEnd {
    fn tasks(&self) -> u64 {
        self.ok.iter().map(|range| range.len()).sum::<u64>() + self.failed.len() as u64
    }
}

/// The time that a batch of functions should take, microseconds: long enough that what lies between two batches costs
/// nothing, short enough that what waits behind one does not wait for long.
pub const BATCH_US: Micros = 100_000;

/// How many functions are handed to a slot at once, so that they take about [`BATCH_US`] together.
#[derive(Debug)]
struct BatchSize {
    tasks: u64,
}

impl BatchSize {
    const MOST_TASKS: u64 = 1 << 18;

    fn adapt(&mut self, ended: u64, took_us: u64) {
        let wanted = (ended * BATCH_US + took_us / 2).checked_div(took_us).unwrap_or(Self::MOST_TASKS);
        self.tasks = wanted.min(self.tasks * 2).clamp(1, Self::MOST_TASKS);
    }

    /// How many of so many tasks are the next batch, of at most about `fair`: equal parts of them, since what is left over
    /// would make a short batch.
    fn out_of(&self, tasks: u64, fair: u64) -> u64 {
        let most = self.tasks.min(fair).max(1);
        tasks.div_ceil(((tasks + most / 2) / most).max(1))
    }
}

#[derive(Clone, Debug)]
struct Running {
    work: Work,
    range: IndexRange,
    slots: Vec<u32>,
    started_us: Micros,
    /// Tasks of a batch that ended before it and were told: they are in `range` no more.
    told: u64,
    /// Asked to end.
    killed: bool,
    /// Of an older epoch: nobody wants to know.
    orphan: bool,
}

/// The worker's state.
#[derive(Debug)]
pub struct Worker {
    node: NodeId,
    total: Resources,
    crash_limit: u32,
    uplink: Uplink,
    queue: VecDeque<WorkRange>,
    queued: Amount,
    free: BTreeSet<u32>,
    free_gpus: u32,
    running: Vec<Option<Running>>,
    running_cores: u64,
    /// No new tasks; what runs is given back at this time.
    drain_at: Option<Micros>,
    ending: bool,
    done: bool,
    /// Starting is held back: outputs wait to be sent.
    paused: bool,
    /// Nothing can be started any more.
    disabled: bool,
    /// Tasks may be functions.
    calls: bool,
    /// Of those.
    batch: BatchSize,
}

impl Worker {
    /// A worker with so many slots (`total.cores`) on a node.
    pub fn new(node: NodeId, total: Resources, crash_limit: u32) -> Self {
        Self {
            node,
            total,
            crash_limit,
            uplink: Uplink::default(),
            queue: VecDeque::new(),
            queued: Amount::default(),
            free: (0..total.cores).collect(),
            free_gpus: total.gpus,
            running: vec![None; total.cores as usize],
            running_cores: 0,
            drain_at: None,
            ending: false,
            done: false,
            paused: false,
            disabled: false,
            calls: false,
            batch: BatchSize { tasks: 1 },
        }
    }

    /// A worker whose tasks may be functions: it is supplied further ahead.
    pub fn with_calls(self) -> Self {
        Self { calls: true, ..self }
    }

    /// The parent's word.
    pub fn on_message(&mut self, now: Micros, message: Down, out: &mut Vec<WorkerAction>) {
        let stale = |epoch: u32, own: u32| epoch != own || own == 0;
        let own = self.uplink.epoch;
        match message {
            Down::Welcome { epoch, pace_us } if epoch > own => {
                self.forget_all(out);
                self.uplink.open(now, epoch, pace_us);
                out.push(WorkerAction::ToParent(Up::Hello { epoch, capacity: self.capacity() }));
            }
            Down::Hand { epoch, ranges } if !stale(epoch, own) => {
                self.uplink.handed();
                for given in ranges {
                    if self.drain_at.is_some() || self.disabled {
                        self.give_back(given);
                    } else {
                        self.queued += given.amount();
                        self.queue.push_back(given);
                    }
                }
                self.uplink.supplied(self.held_cores());
            }
            Down::Recall { epoch, cores, gpus } if !stale(epoch, own) => self.answer_recall(cores, gpus),
            Down::Cancel { epoch, bundle, range } if !stale(epoch, own) => self.cancel(bundle, range, out),
            Down::Drain { epoch, grace_us } if !stale(epoch, own) => {
                let at = now.saturating_add(grace_us);
                self.drain_at = Some(self.drain_at.map_or(at, |earlier| earlier.min(at)));
                self.queued = Amount::default();
                let queue = std::mem::take(&mut self.queue);
                queue.into_iter().for_each(|given| self.give_back(given));
            }
            Down::End { epoch } if !stale(epoch, own) => {
                self.ending = true;
                self.queue.clear();
                self.queued = Amount::default();
            }
            _ => {}
        }
        self.step(now, out);
    }

    fn capacity(&self) -> Capacity {
        let total = if self.disabled { Resources { cores: 0, gpus: 0 } } else { self.total };
        // What a batch has done is told when it is over, and the next one is not to be short of tasks.
        let horizon_us = if self.calls { 4 * BATCH_US } else { 0 };
        Capacity { total, widest: total, node: Some(self.node), horizon_us, workers: 1, nodes: 1 }
    }

    fn forget_all(&mut self, out: &mut Vec<WorkerAction>) {
        self.queue.clear();
        self.queued = Amount::default();
        self.drain_at = None;
        (self.ending, self.done) = (false, false);
        for running in self.running.iter_mut().flatten() {
            if !running.killed {
                out.push(WorkerAction::Kill { slot: running.slots[0] });
            }
            (running.killed, running.orphan) = (true, true);
        }
    }

    fn give_back(&mut self, given: WorkRange) {
        self.uplink.report.returned.push(given);
        self.uplink.hurry();
    }

    /// Gives back what would have waited longest; of what takes GPUs only where `gpus` is set.
    fn answer_recall(&mut self, mut cores: u64, gpus: bool) {
        let mut at = self.queue.len();
        while cores > 0 && at > 0 {
            at -= 1;
            if self.queue[at].work.resources.gpus > 0 && !gpus {
                continue;
            }
            let given = self.queue[at].split_last(cores);
            if self.queue[at].range.is_empty() {
                self.queue.remove(at);
            }
            self.queued -= given.amount();
            cores = cores.saturating_sub(given.cores());
            self.give_back(given);
        }
        self.uplink.report.recall_answered = true;
        self.uplink.hurry();
    }

    fn cancel(&mut self, bundle: BundleId, range: IndexRange, out: &mut Vec<WorkerAction>) {
        let queue = std::mem::take(&mut self.queue);
        for waiting in queue {
            let (start, end) = (waiting.range.start.max(range.start), waiting.range.end.min(range.end));
            if waiting.work.bundle != bundle || start >= end {
                self.queue.push_back(waiting);
                continue;
            }
            for (from, to) in [(waiting.range.start, start), (end, waiting.range.end)] {
                if from < to {
                    self.queue.push_back(WorkRange { work: waiting.work, range: IndexRange::new(from, to) });
                }
            }
            let given = WorkRange { work: waiting.work, range: IndexRange::new(start, end) };
            self.queued -= given.amount();
            self.give_back(given);
        }
        for running in self.running.iter_mut().flatten() {
            let runs = running.range.start < range.end && range.start < running.range.end;
            if running.work.bundle == bundle && runs && !running.killed {
                running.killed = true;
                out.push(WorkerAction::Kill { slot: running.slots[0] });
            }
        }
    }

    /// The attempt on this slot (its first, if it has several) ended.
    ///
    /// # Panics
    /// When nothing runs there.
    pub fn on_ended(&mut self, now: Micros, slot: u32, end: AttemptEnd<'_>) -> Verdict {
        let running = self.free_slots(slot);
        if running.orphan {
            return Verdict::NotFinal;
        }
        self.count_attempts(&running, 1, now);
        // Whatever it says: a task that saves its state and ends well when it is told to end has not done its work.
        if end.killed {
            self.give_back(WorkRange { work: running.work, range: running.range });
            return Verdict::NotFinal;
        }
        self.judge(running.work, running.range.start, end.status, end.crashed)
    }

    /// The batch on this slot (its first, if it has several) ended. Returns a verdict for each that failed, in order; none
    /// at all where nobody wants to know of the batch any more.
    ///
    /// # Panics
    /// When nothing runs there.
    pub fn on_batch_ended(&mut self, now: Micros, slot: u32, end: &BatchEnd) -> Option<Vec<Verdict>> {
        let running = self.free_slots(slot);
        if running.orphan {
            return None;
        }
        let ended = running.told + end.tasks();
        self.count_attempts(&running, ended, now);
        if ended > 0 {
            self.batch.adapt(ended, now - running.started_us);
        }
        Some(self.judge_all(running.work, end))
    }

    /// The first tasks of the batch on this slot (its first, if it has several) have ended; the batch goes on. Verdicts as of
    /// [`on_batch_ended`](Self::on_batch_ended).
    ///
    /// # Panics
    /// When nothing runs there.
    pub fn on_batch_part(&mut self, slot: u32, part: &BatchEnd) -> Option<Vec<Verdict>> {
        let running =
            self.running[slot as usize].as_mut().expect("a part is of a batch on the slot where it was started");
        let (tasks, work) = (part.tasks(), running.work);
        // What it took is counted when the batch is over: how long these took of it nobody knows.
        running.told += tasks;
        running.range.start += tasks;
        (!running.orphan).then(|| self.judge_all(work, part))
    }

    fn judge_all(&mut self, work: Work, end: &BatchEnd) -> Vec<Verdict> {
        for range in &end.ok {
            self.uplink.report.ended(work.bundle, *range, Status::Ok.class());
        }
        end.failed.iter().map(|(index, status)| self.judge(work, *index, status, false)).collect()
    }

    /// What a batch had not started was taken from it: it goes back to the head of the queue, or to the parent.
    ///
    /// # Panics
    /// When nothing runs on the slot.
    pub fn on_batch_cut(&mut self, slot: u32, rest: IndexRange) {
        let running = self.running[slot as usize].as_mut().expect("a batch is cut on the slot where it was started");
        running.range.end = rest.start;
        let given = WorkRange { work: running.work, range: rest };
        if running.orphan {
            return;
        }
        if running.killed || self.drain_at.is_some() || self.disabled {
            return self.give_back(given);
        }
        self.queued += given.amount();
        self.queue.push_front(given);
        self.uplink.stir();
    }

    fn free_slots(&mut self, slot: u32) -> Running {
        let running = self.running[slot as usize].take().expect("an attempt ends on the slot where it was started");
        self.free.extend(running.slots.iter().copied());
        self.free_gpus += running.work.resources.gpus;
        self.running_cores -= u64::from(running.work.resources.cores);
        running
    }

    fn count_attempts(&mut self, running: &Running, attempts: u64, now: Micros) {
        let cores = u64::from(running.work.resources.cores);
        let report = &mut self.uplink.report;
        report.attempts += attempts;
        report.attempt_cores += cores * attempts;
        report.busy_core_us += cores * (now - running.started_us);
    }

    /// What becomes of a task whose attempt ended.
    fn judge(&mut self, work: Work, index: u64, status: &Status, crashed: bool) -> Verdict {
        let (status, last) = match status {
            Status::Ok => (Status::Ok, true),
            _ if crashed => (Status::Lost, work.crashes + 1 >= self.crash_limit),
            failed => (failed.clone(), work.attempt >= work.retries),
        };
        let task = WorkRange { work, range: IndexRange::one(index) };
        let report = &mut self.uplink.report;
        if !last {
            report.failed.push(FailedAttempt { task, node: Some(self.node), crashed });
            return Verdict::NotFinal;
        }
        report.ended(work.bundle, task.range, status.class());
        Verdict::Final { index, bundle: work.bundle, status, attempts: work.attempt + work.crashes + 1 }
    }

    /// Adds a failure to what the next report tells.
    pub fn note_failure(&mut self, group: FailureGroup) {
        self.uplink.report.digest.add(group);
    }

    /// Holds starting back, or lets it go on.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Nothing can be started here any more: what has not started goes back, and the parent hears that there are no
    /// slots left.
    pub fn disable(&mut self) {
        if std::mem::replace(&mut self.disabled, true) {
            return;
        }
        self.queued = Amount::default();
        let queue = std::mem::take(&mut self.queue);
        queue.into_iter().for_each(|given| self.give_back(given));
        self.uplink.report.capacity = Some(Box::new(self.capacity()));
        self.uplink.hurry();
    }

    /// The next report must not wait: what goes with it grows large.
    pub fn hurry(&mut self) {
        self.uplink.hurry();
    }

    /// Starts what can be started and reports what is due. To be called after `on_ended` and when a tick is due.
    pub fn step(&mut self, now: Micros, out: &mut Vec<WorkerAction>) {
        if self.drain_at.is_some_and(|at| at <= now) || self.ending {
            for running in self.running.iter_mut().flatten().filter(|running| !running.killed) {
                running.killed = true;
                out.push(WorkerAction::Kill { slot: running.slots[0] });
            }
        }
        while !self.paused && self.start_next(now, out) {}
        if let Some(report) = self.uplink.take(now, self.load(), self.queued.into(), Amount::default()) {
            out.push(WorkerAction::ToParent(report));
        }
        if self.ending && !self.done && self.running.iter().all(Option::is_none) {
            self.done = true;
            out.push(WorkerAction::ToParent(Up::Bye { epoch: self.uplink.epoch }));
            out.push(WorkerAction::Done);
        }
    }

    /// The place in the queue of the next task to start: the head. A wide one waits for its slots and holds back what is
    /// behind it, so that it is not starved; one that lacks nothing but GPUs lets tasks pass that take none, since what it
    /// waits for comes with cores of its own.
    fn next_to_start(&self) -> Option<usize> {
        let fits = |need: Resources| need.cores as usize <= self.free.len() && need.gpus <= self.free_gpus;
        let head = self.queue.front()?.work.resources;
        if fits(head) {
            return Some(0);
        }
        if head.cores as usize > self.free.len() {
            return None;
        }
        let plain = self.queue.iter().position(|given| given.work.resources.gpus == 0)?;
        fits(self.queue[plain].work.resources).then_some(plain)
    }

    /// Starts the next task, if one can be started.
    fn start_next(&mut self, now: Micros, out: &mut Vec<WorkerAction>) -> bool {
        let Some(at) = self.next_to_start() else { return false };
        let first = &mut self.queue[at];
        let need = first.work.resources;
        let waiting = self.queued.cores.div_ceil(2 * u64::from(self.total.cores));
        // Ever smaller batches towards the end of the queue, so that slots come to the end of it together.
        let count = if first.work.calls { self.batch.out_of(first.range.len(), waiting) } else { 1 };
        let (work, range) = (first.work, IndexRange::new(first.range.start, first.range.start + count));
        first.range.start = range.end;
        if first.range.is_empty() {
            self.queue.remove(at);
        }
        let slots: Vec<u32> = (0..need.cores).filter_map(|_| self.free.pop_first()).collect();
        self.queued -= WorkRange { work, range }.amount();
        self.running_cores += u64::from(need.cores);
        self.free_gpus -= need.gpus;
        let started =
            Running { work, range, slots: slots.clone(), started_us: now, told: 0, killed: false, orphan: false };
        self.running[slots[0] as usize] = Some(started);
        out.push(WorkerAction::Start(TaskRun { work, range, slots }));
        true
    }

    fn held_cores(&self) -> u64 {
        self.queued.cores + self.running_cores
    }

    fn load(&self) -> Load {
        Load { held_cores: self.held_cores(), idle_cores: u64::from(self.total.cores) - self.running_cores }
    }

    /// When `step` should be called next, if nothing else happens.
    pub fn next_tick(&self) -> Option<Micros> {
        let report = self.uplink.next_tick(self.load());
        let drain = self.drain_at.filter(|_| self.running.iter().flatten().any(|running| !running.killed));
        report.into_iter().chain(drain).min()
    }

    /// What runs: slot, task and start, for progress reports. Of a batch the last task that was not cut off: in one that
    /// takes long it is the one that runs.
    pub fn running(&self) -> impl Iterator<Item = (u32, u64, Micros)> + '_ {
        let last = |range: IndexRange| range.end.saturating_sub(1).max(range.start);
        self.running.iter().flatten().map(move |running| (running.slots[0], last(running.range), running.started_us))
    }

    /// The epoch of the link to its parent; 0 before the first welcome.
    pub fn epoch(&self) -> u32 {
        self.uplink.epoch
    }

    /// What waits, in the order in which it will be started.
    pub fn queue(&self) -> impl Iterator<Item = IndexRange> + '_ {
        self.queue.iter().map(|given| given.range)
    }

    /// What runs on this slot (its first, if it has several).
    pub fn work_on(&self, slot: u32) -> Option<Work> {
        self.running.get(slot as usize)?.as_ref().map(|running| running.work)
    }

    /// What was to start on this slot began only now: it had to wait for its text.
    pub fn on_started(&mut self, now: Micros, slot: u32) {
        if let Some(Some(running)) = self.running.get_mut(slot as usize) {
            running.started_us = now;
        }
    }

    /// Checks what must hold after every step.
    pub fn check(&self) -> Result<(), Violation> {
        let queued: Amount = self.queue.iter().map(WorkRange::amount).sum();
        let taken: usize = self.running.iter().flatten().map(|running| running.slots.len()).sum();
        if queued != self.queued || taken + self.free.len() != self.total.cores as usize {
            return Err(Violation(format!("worker miscounts: {queued:?} queued, {taken} taken, {:?} free", self.free)));
        }
        Ok(())
    }

    /// All that it was handed and has not told back, for the checks: what waits, what runs, what the next report tells.
    pub fn holds(&self) -> impl Iterator<Item = IndexRange> + '_ {
        let running = self.running.iter().flatten().filter(|running| !running.orphan).map(|running| running.range);
        self.queue().chain(running).chain(self.uplink.report.tasks())
    }
}
