//! The slots of one worker: what runs on them, and until when.

use super::Nanos;
use super::checks::KILLED;
use super::ends::Ends;
use super::tasks::Tasks;
use crate::schedule::{AttemptEnd, BATCH_US, BatchEnd, TaskRun, Worker};
use crate::task::{IndexRange, RangeSet, Rank, Status};

/// A batch of functions that takes longer than this is cut, as the worker's threads do it.
pub(super) const LONG: Nanos = 2 * 1000 * BATCH_US;

/// What runs on a slot: a task, or a batch of functions.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Tells it from others that ran there.
    pub(super) number: u64,
    /// What of it was not cut off.
    pub(super) range: IndexRange,
    /// All before this one were told before its end.
    told: u64,
    attempt: u32,
    /// Ranks lost with its tasks so far.
    crashes: u32,
    calls: bool,
    since: Nanos,
    pub(super) ends: Nanos,
    killed: bool,
    /// What ran it has died.
    crashed: bool,
    /// It has ended, and the rank has not looked since.
    is_over: bool,
}

impl Run {
    /// When the task that has begun last by now ends, and the first that has not begun.
    fn called_by(&self, now: Nanos, rank: Rank, tasks: &dyn Tasks, call: Nanos) -> (Nanos, u64) {
        let (mut at, mut next) = (self.since, self.range.start);
        while next < self.range.end && at <= now {
            at += tasks.duration_ns(next, self.attempt, rank) + call;
            next += 1;
        }
        (at, next)
    }
}

/// A worker and its slots.
pub(super) struct Slots {
    pub(super) machine: Worker,
    runs: Vec<Option<Run>>,
    /// Slots whose run has ended since the rank looked last.
    ended: Vec<u32>,
    /// What had ended of batches that were cut since then: the slot, the attempt, which tasks.
    parts: Vec<(u32, u32, IndexRange)>,
    /// When the spawner has started what it was told to.
    spawner_free: Nanos,
    /// How long a process goes on that is told to end.
    dies_ns: Nanos,
    /// The machine wants a step for what was done to it.
    pub(super) is_restless: bool,
    /// Slot-time of tasks that ended.
    pub(super) busy: Nanos,
    /// Attempts that ended otherwise than well, not because they were told to end.
    pub(super) failed: u64,
}

/// What starting takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct StartCosts {
    /// The spawner's time for each process.
    pub(super) spawn: Nanos,
    /// What a process takes of its slot besides its own run.
    pub(super) process: Nanos,
    /// Overhead of each call.
    pub(super) call: Nanos,
}

impl Slots {
    pub(super) fn new(machine: Worker, slots: u32, dies_ns: Nanos) -> Self {
        let runs = (0..slots).map(|_| None).collect();
        Self {
            machine,
            runs,
            ended: Vec::new(),
            parts: Vec::new(),
            spawner_free: 0,
            dies_ns,
            is_restless: false,
            busy: 0,
            failed: 0,
        }
    }

    /// The only slot's run, where there is one slot.
    pub(super) fn only_run(&self) -> Option<&Run> {
        if let [run] = &self.runs[..] { run.as_ref() } else { None }
    }

    pub(super) fn any_runs(&self) -> bool {
        self.runs.iter().any(Option::is_some)
    }

    /// The run of this number on a slot, if it has not ended.
    pub(super) fn run(&self, slot: u32, number: u64) -> Option<&Run> {
        self.runs[slot as usize].as_ref().filter(|run| run.number == number && !run.is_over)
    }

    /// Starts what the machine wants started; when it ends.
    pub(super) fn start(
        &mut self,
        now: Nanos,
        number: u64,
        run: &TaskRun,
        rank: Rank,
        tasks: &dyn Tasks,
        costs: StartCosts,
    ) -> Nanos {
        let (attempt, crashes) = (run.work.attempt, run.work.crashes);
        let since = if run.work.calls {
            now
        } else {
            self.spawner_free = self.spawner_free.max(now) + costs.spawn;
            self.spawner_free
        };
        let overhead = if run.work.calls { run.range.len() * costs.call } else { costs.process };
        let ends = since + tasks.sum_ns(run.range, attempt, rank) + overhead;
        let slot = &mut self.runs[run.slots[0] as usize];
        assert!(slot.is_none(), "a slot runs one thing at a time");
        let calls = run.work.calls;
        *slot = Some(Run {
            number,
            range: run.range,
            told: run.range.start,
            attempt,
            crashes,
            calls,
            since,
            ends,
            killed: false,
            crashed: false,
            is_over: false,
        });
        ends
    }

    /// Kills what runs on the slot: a process soon, a batch when its present call has ended. When it ends now, and what it
    /// will not do.
    pub(super) fn kill(
        &mut self,
        now: Nanos,
        slot: u32,
        rank: Rank,
        tasks: &dyn Tasks,
        call: Nanos,
    ) -> Option<(Nanos, IndexRange)> {
        if self.runs[slot as usize].as_ref()?.calls {
            return self.cut(now, slot, rank, tasks, call);
        }
        let run = self.runs[slot as usize].as_mut().filter(|run| !run.is_over)?;
        run.killed = true;
        run.ends = run.ends.min(now + self.dies_ns);
        Some((run.ends, IndexRange::new(run.range.end, run.range.end)))
    }

    /// Takes from a batch what it has not started by now. When what is left of it ends, and what was taken. The rank hears of
    /// what has ended when it looks.
    pub(super) fn cut(
        &mut self,
        now: Nanos,
        slot: u32,
        rank: Rank,
        tasks: &dyn Tasks,
        call: Nanos,
    ) -> Option<(Nanos, IndexRange)> {
        let run = self.runs[slot as usize].as_mut().filter(|run| !run.is_over)?;
        let (at, next) = run.called_by(now, rank, tasks, call);
        let rest = IndexRange::new(next, run.range.end);
        run.range.end = next;
        run.ends = at;
        let ended = IndexRange::new(run.told, (next - 1).max(run.told));
        run.told = ended.end;
        self.parts.push((slot, run.attempt, ended));
        self.is_restless = true;
        if !rest.is_empty() {
            self.machine.on_batch_cut(slot, rest);
        }
        Some((at, rest))
    }

    /// What has been started by the machine's word and has not begun by now.
    pub(super) fn not_begun(
        &self,
        now: Nanos,
        rank: Rank,
        tasks: &dyn Tasks,
        call: Nanos,
    ) -> impl Iterator<Item = IndexRange> {
        let runs = self.runs.iter().flatten();
        runs.map(move |run| IndexRange::new(run.called_by(now, rank, tasks, call).1, run.range.end))
    }

    /// What runs processes has died, and they with it; what runs where.
    pub(super) fn crash_all(&mut self, now: Nanos) -> Vec<(u32, u64)> {
        let runs = self.runs.iter_mut().enumerate();
        let alive = runs.filter_map(|(slot, run)| Some((slot as u32, run.as_mut().filter(|run| !run.is_over)?)));
        let crash = alive.filter(|(_, run)| !run.calls).map(|(slot, run)| {
            (run.crashed, run.ends) = (true, now);
            (slot, run.number)
        });
        crash.collect()
    }

    /// A run has ended: the rank hears of it when it looks.
    pub(super) fn note_end(&mut self, slot: u32) {
        if let Some(run) = &mut self.runs[slot as usize] {
            run.is_over = true;
            self.ended.push(slot);
        }
    }

    /// The number of what runs on a slot.
    pub(super) fn number_on(&self, slot: u32) -> Option<u64> {
        self.runs[slot as usize].as_ref().map(|run| run.number)
    }

    /// Tells the machine what has ended; how many runs there were, and tasks in them. Those that ended well are noted in
    /// `ran_well`, and all in `ends`.
    pub(super) fn take_ended(
        &mut self,
        now_us: u64,
        rank: Rank,
        tasks: &dyn Tasks,
        mut ran_well: Option<&mut RangeSet>,
        ends: &mut Ends,
    ) -> (usize, u64) {
        let ended = std::mem::take(&mut self.ended);
        let mut count = 0;
        for (slot, attempt, range) in std::mem::take(&mut self.parts) {
            count += range.len();
            let part = end_of(tasks, range, (attempt, rank), ran_well.as_deref_mut());
            self.failed += part.failed.len() as u64;
            self.machine.on_batch_part(slot, &part);
        }
        for slot in &ended {
            let run = self.runs[*slot as usize].take().expect("what has ended was running");
            self.busy += run.ends.saturating_sub(run.since);
            ends.add(run.since.min(run.ends), run.ends, run.range.len());
            let untold = IndexRange::new(run.told, run.range.end);
            count += untold.len();
            let status = |index| tasks.status(index, run.attempt, rank);
            if run.calls {
                let end = end_of(tasks, untold, (run.attempt, rank), ran_well.as_deref_mut());
                self.failed += end.failed.len() as u64;
                self.machine.on_batch_ended(now_us, *slot, &end);
            } else {
                // One that is told to end may say that it ended well.
                let status = match run.killed {
                    true if run.number.is_multiple_of(2) => KILLED,
                    true => Status::Ok,
                    false => status(run.range.start),
                };
                let crashed = run.crashed || tasks.crashes(run.range.start, run.attempt + run.crashes, rank);
                let crashed = crashed && !run.killed;
                let status = if crashed { KILLED } else { status };
                if let Some(well) = &mut ran_well
                    && status == Status::Ok
                    && !run.killed
                {
                    well.insert(run.range);
                }
                self.failed += u64::from(status != Status::Ok && !run.killed);
                self.machine.on_ended(now_us, *slot, AttemptEnd { status: &status, killed: run.killed, crashed });
            }
        }
        (ended.len(), count)
    }
}

/// How these tasks of a batch ended. Those that ended well are noted in `ran_well`.
fn end_of(
    tasks: &dyn Tasks,
    range: IndexRange,
    (attempt, rank): (u32, Rank),
    ran_well: Option<&mut RangeSet>,
) -> BatchEnd {
    let mut end = BatchEnd::default();
    if tasks.may_fail() {
        for index in range.start..range.end {
            match tasks.status(index, attempt, rank) {
                Status::Ok => end.ok.push(IndexRange::one(index)),
                failed => end.failed.push((index, failed)),
            }
        }
    } else if !range.is_empty() {
        end.ok.push(range);
    }
    if let Some(well) = ran_well {
        end.ok.iter().for_each(|range| well.insert(*range));
    }
    end
}
