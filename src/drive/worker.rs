//! The worker role of a rank: its machine, its slots, and the outcomes that its next report carries.

use super::longest::{Longest, keep_longest};
use super::parts::{Asked, Parts};
use super::plan::{Keep, Shared};
use super::roles::{LONGEST, Outbox, Outgoing};
use super::slots::Slots;
use super::wire::{Control, LongRun};
use crate::execute::Ended;
use crate::execute::functions::{Batch, FunctionSlots, InlineCaller, Recording};
use crate::ledger::{BlockBuilder, last_line};
use crate::schedule::{AttemptEnd, BatchEnd, Down, Place, TaskRun, Up, Verdict, Worker, WorkerAction};
use crate::task::{Captured, FailureDigest, FailureGroup, IndexRange, Outcome, Rank, Status};
use std::time::Duration;

/// How long a task killed for a drain or a cancel gets between SIGTERM and SIGKILL.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// What runs a worker's tasks.
pub(super) struct Runner {
    /// Processes, one task at a time on each slot.
    pub(super) processes: Option<Box<dyn Slots>>,
    /// Functions, a batch of tasks at a time.
    pub(super) functions: Option<FunctionSlots>,
    /// What is recorded of functions.
    pub(super) recording: Recording,
}

impl Runner {
    /// Only processes.
    pub(super) fn processes(slots: Box<dyn Slots>) -> Self {
        Self { processes: Some(slots), functions: None, recording: Recording::All }
    }
}

/// A worker, its slots, and the outcomes that its next report carries.
pub(super) struct WorkerRole {
    pub(super) place: Place,
    pub(super) machine: Worker,
    runner: Runner,
    asked: Asked,
    /// Attempts whose task is not here yet.
    unfetched: Vec<TaskRun>,
    block: BlockBuilder,
    rank: u32,
    node: u32,
    first_slot: u32,
    keep: Keep,
    ended: Vec<Ended>,
    batches: Vec<Batch>,
    /// A batch was cut: what came back may start elsewhere.
    restless: bool,
    pub(super) done: bool,
    /// Starting is held back: too much waits to be sent.
    paused: bool,
    /// When the longest-running tasks are told next.
    tell_longest_us: u64,
    /// There were some when they were told last.
    told_longest: bool,
}

impl WorkerRole {
    /// A block that has grown to this size goes up at once.
    const BLOCK_BYTES: usize = 32 << 20;
    /// Slices that are looked after ahead: a hand-out may be far more than can be kept.
    const PIECES_AHEAD: usize = 16;

    pub(super) fn new(place: Place, machine: Worker, runner: Runner, rank: Rank, shared: &Shared) -> Self {
        let layout = &shared.layout.ranks[rank.position()];
        Self {
            place,
            machine,
            runner,
            asked: Asked::default(),
            unfetched: Vec::new(),
            block: BlockBuilder::new(shared.generation, shared.round),
            rank: rank.0,
            node: layout.node,
            first_slot: layout.first_slot,
            keep: shared.keep,
            ended: Vec::new(),
            batches: Vec::new(),
            restless: false,
            done: false,
            paused: false,
            tell_longest_us: Longest::EVERY_US,
            told_longest: false,
        }
    }

    fn to_parent(&self, control: Control, attached: Vec<u8>, out: &mut Outbox) {
        let to = self.place.parent.expect("a worker has a parent");
        out.push(Outgoing { level: self.place.depth - 1, to, control, attached });
    }

    pub(super) fn on_message(&mut self, now: u64, message: Down, parts: &Parts, out: &mut Outbox) {
        if let Down::Hand { ranges, .. } = &message
            && !parts.are_complete()
            && self.machine.queue().next().is_none()
        {
            // Before it begins to start them, one by one.
            self.fetch(ranges.iter().map(|given| given.range), parts, out);
        }
        let mut actions = Vec::new();
        self.machine.on_message(now, message, &mut actions);
        self.act(actions, parts, out);
    }

    /// Asks for the first of these tasks, where they are not here.
    fn fetch(&mut self, ranges: impl IntoIterator<Item = IndexRange>, parts: &Parts, out: &mut Outbox) {
        let mut pieces = Self::PIECES_AHEAD;
        for range in ranges {
            for range in self.asked.ask_for(parts, range, &mut pieces) {
                self.to_parent(Control::Fetch { range, path: Vec::new() }, Vec::new(), out);
            }
            if pieces == 0 {
                break;
            }
        }
    }

    /// Asks for what will be started soon and is not here.
    fn look_into_queue(&mut self, parts: &Parts, out: &mut Outbox) {
        if !parts.are_complete() {
            let queue: Vec<IndexRange> = self.machine.queue().take(Self::PIECES_AHEAD).collect();
            self.fetch(queue, parts, out);
        }
    }

    /// A slice came, or one that cannot be used; it was asked for as this range.
    pub(super) fn on_slice(&mut self, now: u64, asked: IndexRange, parts: &Parts, out: &mut Outbox) {
        self.asked.answered(asked);
        for run in std::mem::take(&mut self.unfetched) {
            let slot = run.slots[0];
            self.start(run, parts, out);
            // The time until now was not the task's.
            self.machine.on_started(now, slot);
        }
        self.look_into_queue(parts, out);
    }

    fn act(&mut self, actions: Vec<WorkerAction>, parts: &Parts, out: &mut Outbox) {
        for action in actions {
            match action {
                WorkerAction::Start(run) => self.start(run, parts, out),
                WorkerAction::Kill { slot } => self.kill(slot),
                WorkerAction::ToParent(message) => {
                    let reports = matches!(message, Up::Report { .. }) && !self.block.is_empty();
                    let blocks = if reports { self.block.finish() } else { Vec::new() };
                    self.to_parent(Control::Up(message), blocks, out);
                }
                WorkerAction::Done => self.done = true,
            }
        }
    }

    fn start(&mut self, run: TaskRun, parts: &Parts, out: &mut Outbox) {
        let Some(part) = parts.part_of(run.range.start) else {
            // Asked for already, unless the slice was dropped meanwhile.
            self.fetch([run.range], parts, out);
            self.unfetched.push(run);
            return;
        };
        let attempt = run.work.attempt + run.work.crashes + 1;
        match (run.work.calls, &part.calls, &mut self.runner) {
            (true, Some(calls), Runner { functions: Some(slots), .. }) => {
                // What lies in another part waits for its turn.
                let end = part.held.end.min(run.range.end);
                slots.start(&run.slots, calls.clone(), IndexRange::new(run.range.start, end), attempt);
                if end < run.range.end {
                    self.machine.on_batch_cut(run.slots[0], IndexRange::new(end, run.range.end));
                    self.restless = true;
                }
            }
            (false, _, Runner { processes: Some(slots), .. }) => {
                let command = part.bundle.command(part.within(run.range.start), self.first_slot + run.slots[0]);
                slots.start(&run.slots, &command, attempt);
            }
            _ => {
                let why = "this rank runs no tasks of its kind".to_owned();
                self.ended.push(ended_here(run.slots[0], Status::NotStarted(why), false));
            }
        }
    }

    fn kill(&mut self, slot: u32) {
        let Some(running) = self.machine.work_on(slot) else { return };
        let unfetched = self.unfetched.iter().position(|run| run.slots[0] == slot);
        match (running.calls, unfetched) {
            (true, None) => {
                self.cut(slot);
                if let Some(slots) = &mut self.runner.functions {
                    slots.kill(slot, KILL_GRACE);
                }
            }
            (false, None) => {
                if let Some(slots) = &mut self.runner.processes {
                    slots.kill(slot, KILL_GRACE);
                }
            }
            // It waits for its slice: nothing runs yet that could be killed.
            (true, Some(at)) => {
                let run = self.unfetched.swap_remove(at);
                self.machine.on_batch_cut(slot, run.range);
                self.batches.push(Batch::new(slot, 1));
            }
            (false, Some(at)) => {
                self.unfetched.swap_remove(at);
                self.ended.push(ended_here(slot, Status::Cancelled, true));
            }
        }
    }

    /// Takes back what a batch has not started.
    fn cut(&mut self, slot: u32) {
        let Some(slots) = &mut self.runner.functions else { return };
        if let Some(rest) = slots.cut(slot) {
            self.machine.on_batch_cut(slot, rest);
            self.restless = true;
        }
    }

    /// Takes up what has ended on the slots.
    pub(super) fn poll(&mut self, now: u64, parts: &Parts, out: &mut Outbox) -> bool {
        let mut any = self.poll_processes(now, parts, out);
        if self.runner.functions.is_some() {
            any |= self.poll_functions(now, parts, out);
        }
        any
    }

    fn poll_processes(&mut self, now: u64, parts: &Parts, out: &mut Outbox) -> bool {
        let mut ended = std::mem::take(&mut self.ended);
        if let Some(slots) = &mut self.runner.processes {
            slots.poll(&mut ended);
        }
        let any = !ended.is_empty();
        for end in ended.drain(..) {
            self.on_ended(now, end);
            self.send_large_block(now, parts, out);
        }
        // A task killed before it had started has ended meanwhile.
        ended.append(&mut self.ended);
        self.ended = ended;
        any
    }

    fn poll_functions(&mut self, now: u64, parts: &Parts, out: &mut Outbox) -> bool {
        let mut batches = std::mem::take(&mut self.batches);
        let mut long = Vec::new();
        if let Some(slots) = &mut self.runner.functions {
            slots.poll(&mut batches);
            long = slots.long();
        }
        let any = !batches.is_empty();
        for batch in batches.drain(..) {
            self.on_batch(now, batch);
            self.send_large_block(now, parts, out);
        }
        batches.append(&mut self.batches);
        self.batches = batches;
        long.into_iter().for_each(|slot| self.cut(slot));
        any || self.restless
    }

    /// What has grown large goes up before more is added.
    fn send_large_block(&mut self, now: u64, parts: &Parts, out: &mut Outbox) {
        if self.block.len_bytes() > Self::BLOCK_BYTES {
            self.machine.hurry();
            let mut actions = Vec::new();
            self.machine.step(now, &mut actions);
            self.act(actions, parts, out);
        }
    }

    fn on_batch(&mut self, now: u64, batch: Batch) {
        if let Some(rest) = batch.rest {
            self.machine.on_batch_cut(batch.slot, rest);
            self.restless = true;
        }
        let end = BatchEnd {
            ok: batch.ok.iter().map(|run| run.range).collect(),
            failed: batch.failed.iter().map(|failed| (failed.index, failed.status.clone())).collect(),
        };
        let verdicts = match batch.is_over {
            true => self.machine.on_batch_ended(now, batch.slot, &end),
            false => self.machine.on_batch_part(batch.slot, &end),
        };
        let Some(verdicts) = verdicts else { return };
        let recording = self.runner.recording;
        for run in &batch.ok {
            let mut first = self.outcome(run.range.start, Status::Ok, batch.attempt);
            first.started_unix_us = run.started_unix_us;
            self.block.push_run(&first, run.range.len() as u32, &run.calls);
        }
        for (failed, verdict) in batch.failed.into_iter().zip(verdicts) {
            let Verdict::Final { index, status, attempts, .. } = verdict else { continue };
            self.note_failure(index, &status, &failed.value);
            let mut outcome = self.outcome(index, status, attempts);
            if recording != Recording::None {
                outcome.started_unix_us = failed.started_unix_us;
                outcome.duration_us = failed.duration_us;
                // What it has to say now is why.
                outcome.stderr = Captured { head: failed.value.len() as u64, dropped: 0, bytes: failed.value };
            }
            self.block.push(&outcome);
        }
    }

    fn outcome(&self, index: u64, status: Status, attempts: u32) -> Outcome {
        Outcome {
            index,
            status,
            attempts,
            started_unix_us: 0,
            duration_us: 0,
            rank: self.rank,
            node: self.node,
            stdout: Captured::default(),
            stderr: Captured::default(),
        }
    }

    fn note_failure(&mut self, index: u64, status: &Status, said: &[u8]) {
        self.machine.note_failure(FailureGroup {
            status: status.to_string(),
            last_line: FailureDigest::line(&last_line(said)),
            count: 1,
            example: index,
            node: self.node,
        });
    }

    fn on_ended(&mut self, now: u64, end: Ended) {
        let attempt = AttemptEnd { status: &end.status, killed: end.killed, crashed: end.crashed };
        let Verdict::Final { index, status, attempts, .. } = self.machine.on_ended(now, end.slot, attempt) else {
            return;
        };
        if self.runner.processes.as_ref().is_some_and(|slots| !slots.records()) {
            return;
        }
        let failed = status != Status::Ok;
        if failed {
            self.note_failure(index, &status, &end.stderr.bytes);
        }
        let kept = self.keep == Keep::All || (self.keep == Keep::Failed && failed);
        self.block.push(&Outcome {
            started_unix_us: end.started_unix_us,
            duration_us: end.duration_us,
            stdout: if kept { end.stdout } else { Captured::default() },
            stderr: end.stderr,
            ..self.outcome(index, status, attempts)
        });
    }

    pub(super) fn step(&mut self, now: u64, paused: bool, parts: &Parts, out: &mut Outbox) {
        if now >= self.tell_longest_us {
            self.tell_longest(now, out);
        }
        let broken = self.runner.processes.as_ref().is_some_and(|slots| slots.is_broken())
            || self.runner.functions.as_ref().is_some_and(FunctionSlots::is_broken);
        if broken {
            self.machine.disable();
        }
        self.restless = false;
        self.paused = paused;
        self.machine.pause(paused);
        let mut actions = Vec::new();
        self.machine.step(now, &mut actions);
        self.act(actions, parts, out);
        self.look_into_queue(parts, out);
    }

    fn tell_longest(&mut self, now: u64, out: &mut Outbox) {
        self.tell_longest_us = now + Longest::EVERY_US;
        let mut long: Vec<LongRun> = self
            .machine
            .running()
            .filter(|(.., started)| now - started >= Longest::EVERY_US)
            .map(|(_, index, started)| LongRun { index, node: self.node, seconds: (now - started) as f32 / 1e6 })
            .collect();
        keep_longest(&mut long, LONGEST);
        // None is told once, after there were some.
        if std::mem::replace(&mut self.told_longest, !long.is_empty()) || !long.is_empty() {
            self.to_parent(Control::Longest(long), Vec::new(), out);
        }
    }

    /// Whether starting is held back.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// When `step` should be called next, if nothing else happens.
    pub(super) fn next_tick(&self) -> Option<u64> {
        let is_due = self.restless || self.runner.processes.as_ref().is_some_and(|slots| slots.is_due());
        if is_due || !self.ended.is_empty() || !self.batches.is_empty() {
            return Some(0);
        }
        let long = (self.told_longest || self.machine.running().next().is_some()).then_some(self.tell_longest_us);
        self.machine.next_tick().into_iter().chain(long).min()
    }

    /// Time until `poll` should be called, if no descriptor says so sooner.
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.runner.functions.as_ref().and_then(FunctionSlots::next_look)
    }

    /// Whether something runs in its slots whose end comes by descriptor.
    pub(super) fn waits_for_slots(&self) -> bool {
        let by_descriptor = self.runner.processes.as_ref().is_none_or(|slots| slots.records());
        // What waits for its slice waits for a message.
        by_descriptor && self.machine.running().count() > self.unfetched.len()
    }

    pub(super) fn descriptors(&self, into: &mut Vec<libc::pollfd>) {
        if let Some(slots) = &self.runner.processes {
            slots.wait_descriptors(into);
        }
        if let Some(slots) = &self.runner.functions {
            slots.wait_descriptors(into);
        }
    }

    /// Who calls the functions, where that is the thread that plays the rank. Once.
    pub(super) fn take_caller(&mut self) -> Option<InlineCaller> {
        self.runner.functions.as_mut().and_then(FunctionSlots::take_caller)
    }

    /// Ends the slots.
    pub(super) fn shutdown(self) {
        if let Some(slots) = self.runner.functions {
            slots.shutdown();
        }
        if let Some(slots) = self.runner.processes {
            slots.shutdown();
        }
    }
}

/// The end of a task that did not get as far as a slot.
fn ended_here(slot: u32, status: Status, killed: bool) -> Ended {
    Ended {
        slot,
        status,
        killed,
        crashed: false,
        started_unix_us: 0,
        duration_us: 0,
        stdout: Captured::default(),
        stderr: Captured::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::parts::{PartPlace, put_parcel};
    use crate::drive::plan::{Layout, RankSlots};
    use crate::drive::slots::NullSlots;
    use crate::execute::functions::missing;
    use crate::schedule::{Role, Work, WorkRange};
    use crate::task::{Bundle, BundleId, Input, NodeId, Resources, Source, TemplateOptions, write_bundle};
    use std::sync::Arc;

    /// A worker of two slots that does not see its bundle and has been handed the tasks of it.
    fn blind_worker(bundle: &Bundle, parts: &Parts, out: &mut Outbox) -> WorkerRole {
        let own = RankSlots { slots: vec![None; 2], ..RankSlots::default() };
        let shared = Shared {
            layout: Layout { ranks: vec![own; 2], ..Layout::default() },
            fan_out: 2,
            dir: Default::default(),
            folder: None,
            bundle: bundle.id(),
            generation: 1,
            round: 0,
            first_segment: 0,
            sync: Duration::ZERO,
            crash_limit: 1,
            lost_after: None,
            silent_manager: None,
            max_output: 0,
            keep: Keep::All,
            functions: Vec::new(),
            has_processes: true,
            recording: Recording::All,
            isolate: false,
        };
        let place = Place { role: Role::Worker, depth: 1, parent: Some(Rank(0)), children: Vec::new(), keeper: false };
        let machine = Worker::new(NodeId(0), Resources { cores: 2, gpus: 0 }, 1);
        let runner = Runner::processes(Box::<NullSlots>::default());
        let mut worker = WorkerRole::new(place, machine, runner, Rank(1), &shared);
        worker.on_message(0, Down::Welcome { epoch: 1, pace_us: 1000 }, parts, out);
        let work = Work {
            bundle: BundleId(0),
            resources: Resources::ONE_CORE,
            retries: 0,
            calls: false,
            attempt: 0,
            crashes: 0,
            apart: false,
            avoid: None,
        };
        let ranges = vec![WorkRange { work, range: IndexRange::new(0, bundle.len()) }];
        worker.on_message(0, Down::Hand { epoch: 1, ranges }, parts, out);
        worker
    }

    fn bundle_of(tasks: u64) -> Bundle {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        std::fs::write(&list, "echo\n".repeat(tasks as usize)).unwrap();
        let source = Source::Lines(Input::new(&list));
        write_bundle(&source, &TemplateOptions::default(), &folder.path().join("bundle")).unwrap().bundle
    }

    fn asked(out: &mut Outbox) -> Vec<IndexRange> {
        let range = |message: Outgoing| match message.control {
            Control::Fetch { range, .. } => Some(range),
            _ => None,
        };
        out.drain(..).filter_map(range).collect()
    }

    fn no_parts() -> Parts {
        Parts::new(Arc::new(missing), false)
    }

    /// The slice comes that holds these tasks.
    fn send(worker: &mut WorkerRole, parts: &mut Parts, bundle: &Bundle, asked: IndexRange, out: &mut Outbox) {
        let mut parcel = Vec::new();
        put_parcel(&mut parcel, PartPlace::default(), &bundle.extract(asked));
        parts.add_parcels(&parcel).expect("it is whole");
        worker.on_slice(1, asked, parts, out);
    }

    #[test]
    fn tasks_are_asked_for_once_in_slices_and_again_after_a_damaged_one() {
        let (bundle, mut parts, mut out) = (bundle_of(Parts::SLICE_TASKS + 100), no_parts(), Outbox::new());
        let mut worker = blind_worker(&bundle, &parts, &mut out);
        let slices = [IndexRange::new(0, Parts::SLICE_TASKS), IndexRange::new(Parts::SLICE_TASKS, bundle.len())];
        assert_eq!(asked(&mut out), slices);
        send(&mut worker, &mut parts, &bundle, slices[1], &mut out);
        assert_eq!(asked(&mut out), [], "the first slice is still under way");
        // A damaged slice is told without one.
        worker.on_slice(1, slices[0], &parts, &mut out);
        assert_eq!(asked(&mut out)[..2], [IndexRange::one(0), IndexRange::one(1)], "what is to start comes first");
        send(&mut worker, &mut parts, &bundle, slices[0], &mut out);
        assert!(worker.unfetched.is_empty());
        assert!(worker.poll(1, &parts, &mut Outbox::new()));
    }

    #[test]
    fn a_hand_out_of_very_many_tasks_is_fetched_little_by_little() {
        let (bundle, parts, mut out) = (bundle_of(40 * Parts::SLICE_TASKS), no_parts(), Outbox::new());
        let mut worker = blind_worker(&bundle, &parts, &mut out);
        assert_eq!(asked(&mut out).len(), WorkerRole::PIECES_AHEAD);
        for now in 1..100 {
            worker.step(now, false, &parts, &mut out);
        }
        assert_eq!(asked(&mut out), [], "nothing has come yet");
    }

    #[test]
    fn a_task_that_waits_for_its_slice_is_given_back_when_it_is_killed() {
        let (bundle, mut parts, mut out) = (bundle_of(2), no_parts(), Outbox::new());
        let mut worker = blind_worker(&bundle, &parts, &mut out);
        worker.on_message(1, Down::Drain { epoch: 1, grace_us: 0 }, &parts, &mut out);
        assert_eq!(worker.next_tick(), Some(0), "the loop does not sleep on it");
        out.clear();
        assert!(worker.poll(2, &parts, &mut Outbox::new()));
        worker.step(2, false, &parts, &mut out);
        send(&mut worker, &mut parts, &bundle, IndexRange::new(0, 2), &mut out);
        assert!(!worker.poll(3, &parts, &mut Outbox::new()), "nothing was started late");
        let given_back = out.iter().filter_map(|message| match &message.control {
            Control::Up(Up::Report { report, .. }) => Some(report.returned.len()),
            _ => None,
        });
        assert_eq!(given_back.sum::<usize>(), 2);
    }
}
