//! The sub-manager and worker roles of a rank: their machines, and what their actions do to the world.

use super::keeper::Keeper;
use super::longest::{Longest, keep_longest};
use super::plan::{Keep, Shared};
use super::slots::Slots;
use super::wire::{Control, LongRun};
use crate::execute::Ended;
use crate::execute::functions::{Batch, FunctionSlots, Recording};
use crate::ledger::{BlockBuilder, last_line};
use crate::schedule::{
    AttemptEnd, BatchEnd, Down, Place, SubAction, SubManager, TaskRun, Up, Verdict, Worker, WorkerAction,
};
use crate::task::{Bundle, Captured, EndedBy, FailureDigest, FailureGroup, IndexRange, Outcome, Rank, Status};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A message for another role, perhaps of this very rank.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) level: u8,
    pub(super) to: Rank,
    pub(super) control: Control,
    pub(super) attached: Vec<u8>,
}

pub(super) type Outbox = Vec<Outgoing>;

/// How long a task killed for a drain or a cancel gets between SIGTERM and SIGKILL.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// A sub-manager, perhaps with the segment of its node.
pub(super) struct SubRole {
    pub(super) place: Place,
    pub(super) machine: SubManager,
    keeper: Option<Keeper<Up>>,
    /// Blocks on their way to a keeper further up.
    passing: Vec<u8>,
    longest: Longest,
    pub(super) done: bool,
}

/// How many of the longest-running tasks are told.
const LONGEST: usize = 5;

impl SubRole {
    /// Blocks that have grown to this size go up at once.
    const PASSING_BYTES: usize = 128 << 20;

    pub(super) fn new(place: Place, machine: SubManager, keeper: Option<Keeper<Up>>) -> Self {
        Self { place, machine, keeper, passing: Vec::new(), longest: Longest::default(), done: false }
    }

    fn to_parent(&self, control: Control, attached: Vec<u8>, out: &mut Outbox) {
        let to = self.place.parent.expect("a sub-manager has a parent");
        out.push(Outgoing { level: self.place.depth - 1, to, control, attached });
    }

    pub(super) fn open(&mut self, out: &mut Outbox) {
        let mut actions = Vec::new();
        self.machine.open(&mut actions);
        self.act(actions, out);
    }

    pub(super) fn on_parent(&mut self, now: u64, message: Down, out: &mut Outbox) {
        let mut actions = Vec::new();
        self.machine.on_parent(now, message, &mut actions);
        self.act(actions, out);
    }

    pub(super) fn on_child(&mut self, now: u64, from: Rank, mut message: Up, blocks: Vec<u8>, out: &mut Outbox) {
        if let Up::Report { report, .. } = &mut message {
            match &mut self.keeper {
                Some(keeper) => keeper.keep_report(report, blocks),
                None => self.passing.extend_from_slice(&blocks),
            }
            if self.passing.len() > Self::PASSING_BYTES {
                self.machine.hurry();
            }
        }
        let mut actions = Vec::new();
        self.machine.on_child(now, from, message, &mut actions);
        self.act(actions, out);
    }

    pub(super) fn step(&mut self, now: u64, out: &mut Outbox) {
        let mut actions = Vec::new();
        self.machine.step(now, &mut actions);
        self.act(actions, out);
    }

    fn act(&mut self, actions: Vec<SubAction>, out: &mut Outbox) {
        for action in actions {
            match action {
                SubAction::ToChild(to, message) => {
                    let control = Control::Down(message);
                    out.push(Outgoing { level: self.place.depth, to, control, attached: Vec::new() });
                }
                SubAction::ToParent(message) => match &mut self.keeper {
                    Some(keeper) if !keeper.has_failed() => keeper.push(message),
                    Some(_) => self.to_parent(Control::Up(unkept(message)), Vec::new(), out),
                    None => {
                        let reports = matches!(message, Up::Report { .. });
                        let blocks = if reports { std::mem::take(&mut self.passing) } else { Vec::new() };
                        self.to_parent(Control::Up(message), blocks, out);
                    }
                },
                SubAction::Done => self.done = true,
            }
        }
        self.release(out);
    }

    /// Sends what has become durable; tells the manager when nothing will any more.
    pub(super) fn release(&mut self, out: &mut Outbox) {
        let Some(keeper) = &mut self.keeper else { return };
        let mut ready: Vec<Up> = std::iter::from_fn(|| keeper.pop()).collect();
        let error = keeper.new_error();
        if error.is_some() {
            ready.extend(keeper.give_up_waiting().map(unkept));
        }
        if let Some(what) = error {
            self.to_parent(Control::Stop { why: EndedBy::Disk, what }, Vec::new(), out);
        }
        for message in ready {
            self.to_parent(Control::Up(message), Vec::new(), out);
        }
    }

    /// A child told of the tasks that run longest.
    pub(super) fn on_longest(&mut self, now: u64, from: Rank, long: Vec<LongRun>, out: &mut Outbox) {
        self.longest.note(now, from, long);
        if let Some(long) = self.longest.due(now, LONGEST) {
            self.to_parent(Control::Longest(long), Vec::new(), out);
        }
    }

    /// Bytes that wait to be written here.
    pub(super) fn queued_bytes(&self) -> u64 {
        self.keeper.as_ref().map_or(0, Keeper::queued_bytes)
    }

    /// Whether blocks go further up instead of into a segment.
    pub(super) fn is_relay(&self) -> bool {
        self.keeper.is_none()
    }

    /// Whether the role is over and has told all that it had to.
    pub(super) fn is_over(&self) -> bool {
        self.done && self.keeper.as_ref().is_none_or(Keeper::is_empty)
    }

    pub(super) fn finish(self) -> Option<String> {
        let failed = self.keeper.as_ref().is_some_and(Keeper::has_failed);
        self.keeper?.finish().err().filter(|_| !failed).map(|error| error.to_string())
    }
}

/// What a keeper that cannot write passes on: without what it should have kept, so that nobody waits for that.
fn unkept(mut message: Up) -> Up {
    if let Up::Report { report, .. } = &mut message {
        report.give_back_ended();
    }
    message
}

/// Where a worker finds what its tasks run: the bundle file where it sees it, slices from its parent where not.
pub(super) struct Payload {
    whole: Option<Arc<Bundle>>,
    slices: VecDeque<Arc<Bundle>>,
    /// Asked for and not here yet.
    asked: Vec<IndexRange>,
}

impl Payload {
    /// Slices kept; one that was dropped too soon is asked for again.
    const SLICES: usize = 256;
    /// Tasks asked for at once.
    const SLICE_TASKS: u64 = 4096;

    pub(super) fn new(whole: Option<Arc<Bundle>>) -> Self {
        Self { whole, slices: VecDeque::new(), asked: Vec::new() }
    }

    fn bundle_of(&self, index: u64) -> Option<&Arc<Bundle>> {
        self.whole.as_ref().or_else(|| self.slices.iter().rev().find(|slice| slice.covers(index)))
    }

    /// The parts of the range to ask for: those that neither are here nor have been asked for.
    fn ask_for(&mut self, range: IndexRange) -> Vec<IndexRange> {
        let mut parts = Vec::new();
        let mut start = range.start;
        while start < range.end {
            let known = self.bundle_of(start).map(|slice| slice.held().end);
            let known = known.or_else(|| self.asked.iter().find(|asked| asked.contains(start)).map(|asked| asked.end));
            let end = known.unwrap_or(start + Self::SLICE_TASKS).min(range.end);
            if known.is_none() {
                parts.push(IndexRange::new(start, end));
            }
            start = end;
        }
        self.asked.extend(&parts);
        parts
    }

    fn add(&mut self, slice: Bundle) {
        let held = slice.held();
        self.asked.retain(|asked| !(held.start <= asked.start && asked.end <= held.end));
        self.slices.push_back(Arc::new(slice));
        if self.slices.len() > Self::SLICES {
            self.slices.pop_front();
        }
    }
}

/// What runs a worker's tasks.
pub(super) enum Runner {
    /// Processes, one task at a time on each slot.
    Processes(Box<dyn Slots>),
    /// Functions, a batch of tasks at a time, recorded as the user said.
    Functions(FunctionSlots, Recording),
}

/// A worker, its slots, and the outcomes that its next report carries.
pub(super) struct WorkerRole {
    pub(super) place: Place,
    pub(super) machine: Worker,
    runner: Runner,
    payload: Payload,
    /// Attempts whose task is not here yet.
    unfetched: Vec<TaskRun>,
    block: BlockBuilder,
    rank: u32,
    node: u32,
    first_slot: u32,
    keep: Keep,
    bundle_id: u64,
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

    pub(super) fn new(
        place: Place,
        machine: Worker,
        runner: Runner,
        payload: Payload,
        rank: Rank,
        shared: &Shared,
    ) -> Self {
        let layout = &shared.layout.ranks[rank.position()];
        Self {
            place,
            machine,
            runner,
            payload,
            unfetched: Vec::new(),
            block: BlockBuilder::new(shared.generation, shared.round),
            rank: rank.0,
            node: layout.node,
            first_slot: layout.first_slot,
            keep: shared.keep,
            bundle_id: shared.bundle,
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

    pub(super) fn on_message(&mut self, now: u64, message: Down, out: &mut Outbox) {
        if let (Down::Hand { ranges, .. }, None) = (&message, &self.payload.whole) {
            ranges.clone().iter().for_each(|given| self.fetch(given.range, out));
        }
        let mut actions = Vec::new();
        self.machine.on_message(now, message, &mut actions);
        self.act(actions, out);
    }

    fn fetch(&mut self, range: IndexRange, out: &mut Outbox) {
        for range in self.payload.ask_for(range) {
            self.to_parent(Control::Fetch { range, path: Vec::new() }, Vec::new(), out);
        }
    }

    /// A slice of the bundle came.
    pub(super) fn on_slice(&mut self, bytes: Vec<u8>, out: &mut Outbox) {
        match Bundle::from_bytes(bytes) {
            Ok(slice) if slice.id() == self.bundle_id => self.payload.add(slice),
            unfit => {
                let what = unfit.map_or_else(|error| error.to_string(), |_| "it is of another bundle".to_owned());
                tracing::error!("rank {} was sent a slice that it cannot use: {what}", self.rank);
                // Which one it should have been is not known: what is needed is asked for again.
                self.payload.asked.clear();
            }
        }
        for run in std::mem::take(&mut self.unfetched) {
            self.start(run, out);
        }
    }

    fn act(&mut self, actions: Vec<WorkerAction>, out: &mut Outbox) {
        for action in actions {
            match action {
                WorkerAction::Start(run) => self.start(run, out),
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

    fn start(&mut self, run: TaskRun, out: &mut Outbox) {
        let Some(bundle) = self.payload.bundle_of(run.range.start) else {
            // Asked for with its range already, unless the slice was dropped meanwhile.
            self.fetch(run.range, out);
            self.unfetched.push(run);
            return;
        };
        let attempt = run.work.attempt + run.work.crashes + 1;
        match &mut self.runner {
            Runner::Processes(slots) => {
                let command = bundle.command(run.range.start, self.first_slot + run.slots[0]);
                slots.start(&run.slots, &command, attempt);
            }
            Runner::Functions(slots, _) => {
                // What lies in another slice waits for its turn.
                let end = bundle.held().end.min(run.range.end);
                slots.start(&run.slots, bundle.clone(), IndexRange::new(run.range.start, end), attempt);
                if end < run.range.end {
                    self.machine.on_batch_cut(run.slots[0], IndexRange::new(end, run.range.end));
                    self.restless = true;
                }
            }
        }
    }

    fn kill(&mut self, slot: u32) {
        let unfetched = self.unfetched.iter().position(|run| run.slots[0] == slot);
        match (&mut self.runner, unfetched) {
            (Runner::Processes(slots), None) => slots.kill(slot, KILL_GRACE),
            (Runner::Functions(..), None) => self.cut(slot),
            // It waits for its slice: nothing runs yet that could be killed.
            (Runner::Functions(..), Some(at)) => {
                let run = self.unfetched.swap_remove(at);
                self.machine.on_batch_cut(slot, run.range);
                self.batches.push(Batch { slot, attempt: 1, ok: Vec::new(), failed: Vec::new(), rest: None });
            }
            (Runner::Processes(_), Some(at)) => {
                self.unfetched.swap_remove(at);
                self.ended.push(Ended {
                    slot,
                    status: Status::Cancelled,
                    killed: true,
                    crashed: false,
                    started_unix_us: 0,
                    duration_us: 0,
                    stdout: Captured::default(),
                    stderr: Captured::default(),
                });
            }
        }
    }

    /// Takes back what a batch has not started.
    fn cut(&mut self, slot: u32) {
        let Runner::Functions(slots, _) = &mut self.runner else { return };
        if let Some(rest) = slots.cut(slot) {
            self.machine.on_batch_cut(slot, rest);
            self.restless = true;
        }
    }

    /// Takes up what has ended on the slots.
    pub(super) fn poll(&mut self, now: u64, out: &mut Outbox) -> bool {
        match &mut self.runner {
            Runner::Processes(slots) => {
                let mut ended = std::mem::take(&mut self.ended);
                slots.poll(&mut ended);
                let any = !ended.is_empty();
                for end in ended.drain(..) {
                    self.on_ended(now, end);
                    self.send_large_block(now, out);
                }
                // A task killed before it had started has ended meanwhile.
                ended.append(&mut self.ended);
                self.ended = ended;
                any
            }
            Runner::Functions(slots, _) => {
                let mut batches = std::mem::take(&mut self.batches);
                slots.poll(&mut batches);
                let any = !batches.is_empty();
                let long = slots.long();
                for batch in batches.drain(..) {
                    self.on_batch(now, batch);
                    self.send_large_block(now, out);
                }
                batches.append(&mut self.batches);
                self.batches = batches;
                long.into_iter().for_each(|slot| self.cut(slot));
                any || self.restless
            }
        }
    }

    /// What has grown large goes up before more is added.
    fn send_large_block(&mut self, now: u64, out: &mut Outbox) {
        if self.block.len_bytes() > Self::BLOCK_BYTES {
            self.machine.hurry();
            let mut actions = Vec::new();
            self.machine.step(now, &mut actions);
            self.act(actions, out);
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
        let Some(verdicts) = self.machine.on_batch_ended(now, batch.slot, &end) else { return };
        let Runner::Functions(_, recording) = self.runner else { return };
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
                outcome.stdout = Captured { head: failed.value.len() as u64, dropped: 0, bytes: failed.value };
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
        let Runner::Processes(slots) = &self.runner else { return };
        if !slots.records() {
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

    pub(super) fn step(&mut self, now: u64, paused: bool, out: &mut Outbox) {
        if now >= self.tell_longest_us {
            self.tell_longest(now, out);
        }
        if let Runner::Processes(slots) = &self.runner
            && slots.is_broken()
        {
            self.machine.disable();
        }
        self.restless = false;
        self.paused = paused;
        self.machine.pause(paused);
        let mut actions = Vec::new();
        self.machine.step(now, &mut actions);
        self.act(actions, out);
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
        let is_due = match &self.runner {
            Runner::Processes(slots) => slots.is_due(),
            Runner::Functions(..) => self.restless,
        };
        if is_due || !self.ended.is_empty() || !self.batches.is_empty() {
            return Some(0);
        }
        let long = (self.told_longest || self.machine.running().next().is_some()).then_some(self.tell_longest_us);
        self.machine.next_tick().into_iter().chain(long).min()
    }

    /// Time until `poll` should be called, if no descriptor says so sooner.
    pub(super) fn next_look(&self) -> Option<Duration> {
        match &self.runner {
            Runner::Processes(_) => None,
            Runner::Functions(slots, _) => slots.next_look(),
        }
    }

    /// Whether something runs in its slots whose end comes by descriptor.
    pub(super) fn waits_for_slots(&self) -> bool {
        let by_descriptor = match &self.runner {
            Runner::Processes(slots) => slots.records(),
            Runner::Functions(..) => true,
        };
        // What waits for its slice waits for a message.
        by_descriptor && self.machine.running().count() > self.unfetched.len()
    }

    pub(super) fn descriptors(&self, into: &mut Vec<libc::pollfd>) {
        match &self.runner {
            Runner::Processes(slots) => slots.wait_descriptors(into),
            Runner::Functions(slots, _) => slots.wait_descriptors(into),
        }
    }

    pub(super) fn shutdown(self) {
        match self.runner {
            Runner::Processes(slots) => slots.shutdown(),
            Runner::Functions(slots, _) => slots.shutdown(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::plan::{Layout, RankSlots};
    use crate::drive::slots::NullSlots;
    use crate::schedule::{Role, Work, WorkRange};
    use crate::task::{BundleId, Input, NodeId, Resources, Source, TemplateOptions, write_bundle};

    /// A worker of two slots that does not see its bundle and has been handed the tasks of it.
    fn blind_worker(bundle: &Bundle, out: &mut Outbox) -> WorkerRole {
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
            max_output: 0,
            keep: Keep::All,
            function: None,
            recording: Recording::All,
        };
        let place = Place { role: Role::Worker, depth: 1, parent: Some(Rank(0)), children: Vec::new(), keeper: false };
        let machine = Worker::new(NodeId(0), Resources { cores: 2, gpus: 0 }, 1);
        let slots = Runner::Processes(Box::<NullSlots>::default());
        let mut worker = WorkerRole::new(place, machine, slots, Payload::new(None), Rank(1), &shared);
        worker.on_message(0, Down::Welcome { epoch: 1, pace_us: 1000 }, out);
        let work = Work {
            bundle: BundleId(0),
            resources: Resources::ONE_CORE,
            retries: 0,
            attempt: 0,
            crashes: 0,
            avoid: None,
        };
        let ranges = vec![WorkRange { work, range: IndexRange::new(0, bundle.len()) }];
        worker.on_message(0, Down::Hand { epoch: 1, ranges }, out);
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

    #[test]
    fn tasks_are_asked_for_once_in_slices_and_again_after_a_damaged_one() {
        let (bundle, mut out) = (bundle_of(Payload::SLICE_TASKS + 100), Outbox::new());
        let mut worker = blind_worker(&bundle, &mut out);
        let slices = [IndexRange::new(0, Payload::SLICE_TASKS), IndexRange::new(Payload::SLICE_TASKS, bundle.len())];
        assert_eq!(asked(&mut out), slices);
        worker.on_slice(bundle.extract(slices[1]), &mut out);
        assert_eq!(asked(&mut out), [], "the first slice is still under way");
        worker.on_slice(b"damaged".to_vec(), &mut out);
        assert_eq!(asked(&mut out), [IndexRange::one(0), IndexRange::one(1)]);
        worker.on_slice(bundle.extract(slices[0]), &mut out);
        assert!(worker.unfetched.is_empty());
        assert!(worker.poll(1, &mut Outbox::new()));
    }

    #[test]
    fn a_task_that_waits_for_its_slice_is_given_back_when_it_is_killed() {
        let (bundle, mut out) = (bundle_of(2), Outbox::new());
        let mut worker = blind_worker(&bundle, &mut out);
        worker.on_message(1, Down::Drain { epoch: 1, grace_us: 0 }, &mut out);
        assert_eq!(worker.next_tick(), Some(0), "the loop does not sleep on it");
        out.clear();
        assert!(worker.poll(2, &mut Outbox::new()));
        worker.step(2, false, &mut out);
        worker.on_slice(bundle.extract(IndexRange::new(0, 2)), &mut out);
        assert!(!worker.poll(3, &mut Outbox::new()), "nothing was started late");
        let given_back = out.iter().filter_map(|message| match &message.control {
            Control::Up(Up::Report { report, .. }) => Some(report.returned.len()),
            _ => None,
        });
        assert_eq!(given_back.sum::<usize>(), 2);
    }
}
