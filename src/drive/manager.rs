//! Rank 0's side of a run: the ledger, the deadlines, and what the user is told.

use super::durable::{DurableLedger, Told};
use super::figures::Figures;
use super::longest::Longest;
use super::losses::{Losses, back_note};
use super::plan::{Keep, Layout, LayoutOptions, Shared};
use super::printer::Printer;
use super::progress::ProgressWriter;
use super::roles::{Outbox, Outgoing};
use super::signals;
use super::wire::{Control, LongRun};
use crate::execute::Pin;
use crate::execute::functions::Recording;
use crate::ledger::{
    Counts, LedgerState, Loaded, LongTask, Owner, Progress, Reader, RunDir, RunState, StopRequest, Summary,
    write_failed_jsonl,
};
use crate::observe::text::{of, word};
use crate::observe::{Facts, Names, Observer, ProgressMode, Snapshot};
use crate::schedule::{Down, Manager, ManagerAction, Place, Policy, Settings, Shapes, Up};
use crate::task::{Bundle, BundleId, EndedBy, FailureDigest, FailureGroup, IndexRange, Rank, Shape};
use crate::wake::{Muffle, Wake};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A run that rank 0 has prepared: its folder, its tasks, what is known of them, and what the user asked for.
pub struct Job {
    /// Its folder.
    pub dir: RunDir,
    /// The folder is ours.
    pub owner: Owner,
    /// What the folder says has ended.
    pub loaded: Loaded,
    /// The tasks.
    pub bundle: Bundle,
    /// The folder that tasks run in, where it is not that of the ranks.
    pub folder: Option<PathBuf>,
    /// Failed tasks are put back.
    pub retry_failed: bool,
    /// Slots on each node, where the user said.
    pub slots_per_node: Option<u32>,
    /// Width of a node by hand.
    pub ranks_per_node: Option<u32>,
    /// Rank 0's node runs no tasks.
    pub dedicated_manager: bool,
    /// What slots are bound to.
    pub pin: Pin,
    /// Most children of a rank.
    pub fan_out: u32,
    /// Ranks that a task may take with it.
    pub crash_limit: u32,
    /// A rank that is silent for so long is given up; none: nobody ever is.
    pub lost_after: Option<Duration>,
    /// The run stops at so many failures.
    pub max_fails: Option<u64>,
    /// Tasks out at once.
    pub max_running: Option<u64>,
    /// The run stops after this time, counted from `began`.
    pub walltime: Option<Duration>,
    /// Time for running tasks in a drain.
    pub grace: Duration,
    /// How long a drain may last beyond its grace.
    pub patience: DrainPatience,
    /// Bound of the time between written and synced.
    pub sync: Duration,
    /// Bytes kept of each stream.
    pub max_output: u64,
    /// Whose standard output is kept.
    pub keep: Keep,
    /// What is recorded of calls.
    pub recording: Recording,
    /// Functions run in processes of their own.
    pub isolate: bool,
    /// Outputs go to stdout.
    pub print: bool,
    /// How progress is shown.
    pub progress: ProgressMode,
    /// When the process began.
    pub began: std::time::Instant,
    /// What to tell once the run starts: a sentence each.
    pub notes: Vec<String>,
}

/// How long a drain may last beyond its grace.
#[derive(Clone, Copy, Debug)]
pub struct DrainPatience {
    /// For tasks that have to be killed and outcomes to be written.
    pub with_tasks: Duration,
    /// For ranks that are told to end to say goodbye; and for a drain for a full disk, instead of the other.
    pub with_ranks: Duration,
}

impl Default for DrainPatience {
    fn default() -> Self {
        Self { with_tasks: Duration::from_secs(60), with_ranks: Duration::from_secs(10) }
    }
}

impl DrainPatience {
    /// With tasks that nobody can kill: it is no use to wait for them for long.
    fn with_calls(self) -> Self {
        Self { with_tasks: self.with_tasks.min(Duration::from_secs(10)), ..self }
    }

    /// All of it.
    fn whole(self) -> Duration {
        self.with_tasks + self.with_ranks
    }
}

/// How a run ended, and what is still to be said of it.
pub struct RunEnd {
    status: i32,
    printer: Option<Printer>,
    last_words: Option<LastWords>,
}

/// Tells the user how the run ended, after what else went wrong.
type LastWords = Box<dyn FnOnce(Vec<String>) + Send>;

impl RunEnd {
    /// Waits until outputs that were to be printed are, or a signal asks not to; tells how the run ended, and gives the
    /// exit status. Not before the other ranks were let go.
    pub fn wait(self) -> i32 {
        let signals = signals::asked();
        let finish = |printer: Printer| printer.finish_unless(|| signals::asked() > signals);
        let troubles = self.printer.map(finish).unwrap_or_default();
        if let Some(last_words) = self.last_words {
            last_words(troubles);
        }
        self.status
    }
}

struct BundleShapes(Arc<Bundle>);

impl Shapes for BundleShapes {
    fn run_at(&self, range: IndexRange) -> (u64, Shape) {
        self.0.shape_runs(range).next().map_or((range.end, Shape::PROCESS), |(run, shape)| (run.end, shape))
    }
}

impl Job {
    pub(super) fn layout_options(&self) -> LayoutOptions {
        LayoutOptions {
            ranks_per_node: self.ranks_per_node,
            dedicated_manager: self.dedicated_manager,
            slots_per_node: self.slots_per_node,
            pin: self.pin,
        }
    }

    /// What every rank is told.
    pub(super) fn shared(&self, layout: Layout) -> Shared {
        let path = self.dir.path();
        let reopens = self.retry_failed && !self.loaded.state.failed.is_empty();
        Shared {
            layout,
            fan_out: self.fan_out,
            dir: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            folder: self.folder.as_ref().map(|folder| folder.as_os_str().as_bytes().to_vec()),
            bundle: self.bundle.id(),
            generation: self.owner.generation(),
            round: self.loaded.state.round + u32::from(reopens),
            first_segment: self.loaded.next_segment,
            sync: self.sync,
            crash_limit: self.crash_limit,
            lost_after: self.lost_after,
            silent_manager: None,
            max_output: self.max_output,
            keep: self.keep,
            functions: self.bundle.functions().to_vec(),
            has_processes: self.bundle.starts_processes(),
            recording: self.recording,
            isolate: self.isolate,
        }
    }
}

/// The manager role.
pub(super) struct ManagerRole {
    pub(super) machine: Manager,
    ledger: DurableLedger,
    bundle: Arc<Bundle>,
    nodes: Vec<String>,
    figures: Figures,
    grace: Duration,
    patience: DrainPatience,
    told_few: bool,
    /// On what the files' threads ring.
    muffle: Muffle,
    /// All tasks are calls in the ranks themselves, which cannot be killed.
    only_calls: bool,
    /// When the walltime asks for the end, and the grace that it leaves.
    walltime: Option<(u64, Duration)>,
    /// A drain that writing made necessary is ended by force at this time.
    force_us: Option<u64>,
    drain_told: bool,
    /// The folder belongs to a later start: nothing is written there any more.
    superseded: bool,
    /// When a drain's grace is over.
    grace_ends_us: Option<u64>,
    signals: u32,
    printer: Option<Printer>,
    progress: ProgressWriter,
    observer: Observer,
    longest: Longest,
    next_chore_us: u64,
    next_progress_us: u64,
    pub(super) done: bool,
}

/// How often chores are done while a run goes on.
const CHORE_US: u64 = 100_000;

impl ManagerRole {
    pub(super) fn new(
        place: &Place,
        job: Job,
        bundle: Arc<Bundle>,
        shared: &Shared,
        facts: Facts,
        wake: &Wake,
    ) -> Result<Self, crate::ledger::LedgerError> {
        let Job { dir, owner, mut loaded, grace, patience, print, .. } = job;
        let only_calls = !shared.isolate && !shared.has_processes;
        let (wake, muffle) = wake.muffled();
        let ledger =
            DurableLedger::start((dir.clone(), owner), &mut loaded, shared, bundle.len(), facts.ranks + 1, &wake)?;
        let settings = Settings {
            crash_limit: job.crash_limit,
            max_fails: job.max_fails.map(|at| at - 1),
            max_running: job.max_running,
            grace_us: grace.as_micros() as u64,
            nodes: shared.layout.nodes.len() as u32,
        };
        let mut machine = Manager::new(Policy::default(), settings, &place.children);
        let shapes = Arc::new(BundleShapes(bundle.clone()));
        machine.add_bundle(BundleId(0), bundle.len(), ledger.state().ended.clone(), shapes);
        let before_us = job.began.elapsed().as_micros() as u64;
        // The grace is part of the walltime, but never more than half of it.
        let walltime = job.walltime.map(|time| {
            let grace = grace.min(time / 2);
            (((time - grace).as_micros() as u64).saturating_sub(before_us), grace)
        });
        let mut observer = Observer::new(job.progress, &facts, &job.notes);
        job.notes.iter().for_each(|note| tracing::info!("{note}"));
        tell_start(&facts, ledger.state());
        let printer = match print.then(|| Printer::start(dir.clone())) {
            Some(Err(error)) => {
                observer.note(&format!("no outputs are printed: {error}"));
                None
            }
            started => started.and_then(Result::ok),
        };
        let figures = Figures {
            ranks: facts.ranks,
            nodes: shared.layout.nodes.len() as u32,
            slots: facts.slots,
            told_before: ledger.told(),
            first_hand_us: None,
            last_record_us: 0,
            before_us,
            losses: Losses::new(shared),
        };
        Ok(Self {
            machine,
            ledger,
            bundle,
            nodes: shared.layout.nodes.clone(),
            figures,
            grace,
            patience: if only_calls { patience.with_calls() } else { patience },
            told_few: false,
            muffle,
            only_calls,
            walltime,
            force_us: None,
            drain_told: false,
            superseded: false,
            grace_ends_us: None,
            signals: 0,
            printer,
            progress: ProgressWriter::start(dir),
            observer,
            longest: Longest::default(),
            next_chore_us: 0,
            next_progress_us: ProgressWriter::EVERY_US,
            done: false,
        })
    }

    pub(super) fn open(&mut self, now: u64, out: &mut Outbox) {
        let mut actions = Vec::new();
        self.machine.open(now, &mut actions);
        self.act(now, actions, out);
    }

    pub(super) fn on_child(&mut self, now: u64, from: Rank, mut message: Up, blocks: Vec<u8>, out: &mut Outbox) {
        if let Up::Report { report, .. } = &mut message {
            self.ledger.keep_report(report, blocks);
        }
        let mut actions = Vec::new();
        self.machine.on_child(now, from, message, &mut actions);
        self.act(now, actions, out);
    }

    pub(super) fn on_lost(&mut self, now: u64, child: Rank, out: &mut Outbox) {
        let mut actions = Vec::new();
        self.machine.on_lost(now, child, &mut actions);
        self.act(now, actions, out);
    }

    fn act(&mut self, now: u64, actions: Vec<ManagerAction>, out: &mut Outbox) {
        for action in actions {
            match action {
                ManagerAction::ToChild(to, message) => {
                    if matches!(message, Down::Hand { .. }) {
                        self.figures.first_hand_us.get_or_insert(now);
                    }
                    let control = Control::Down(message);
                    out.push(Outgoing { level: 0, to, control, attached: Vec::new() });
                }
                ManagerAction::Record(section) => self.ledger.push(section),
                ManagerAction::RecordOwn { bundle, range, class, attempts, node } => {
                    self.ledger.record_own(bundle, range, class, (attempts, node));
                }
                ManagerAction::Failures(digest) => {
                    let (bundle, nodes) = (&self.bundle, &self.nodes);
                    if let (true, Some(first)) = (self.observer.groups().is_empty(), digest.groups.first()) {
                        let (task, node) = (describe(bundle, first.example), name_of(nodes, first.node));
                        tracing::info!("first failure: {task} on {node}: {}", failure(first));
                    }
                    with_names(bundle, nodes, |names| self.observer.failures(&digest, names));
                }
                ManagerAction::Benched(node) => {
                    let note = format!(
                        "{} gets no more tasks: nearly all that it started failed, and elsewhere they do not",
                        name_of(&self.nodes, node.0)
                    );
                    self.warn(&note);
                }
                ManagerAction::Lost(rank) => {
                    let note = self.figures.losses.note(rank, &self.machine, &self.nodes);
                    self.warn(&note);
                }
                ManagerAction::Back(rank) => self.warn(&back_note(rank)),
                ManagerAction::Done => self.done = true,
            }
        }
        self.release(now, out);
    }

    /// For the log and the screen.
    fn warn(&mut self, note: &str) {
        tracing::warn!("{note}");
        self.observer.note(note);
    }

    /// Tells what has become durable.
    pub(super) fn release(&mut self, now: u64, out: &mut Outbox) {
        self.muffle.set(!self.waits_for_files());
        for Told { extent, runs } in self.ledger.release(u64::MAX) {
            self.figures.last_record_us = now;
            if let (Some(printer), Some(extent)) = (&mut self.printer, extent) {
                printer.print(extent, runs);
            }
        }
        if let Some(error) = self.ledger.new_error() {
            self.on_disk_error(now, &error, out);
        }
    }

    /// Whether somebody waits for what becomes durable: otherwise it is told when something else happens.
    fn waits_for_files(&self) -> bool {
        self.printer.is_some()
            || self.machine.draining().is_some()
            || self.machine.ending().is_some()
            || self.machine.ended_tasks() == self.machine.tasks()
    }

    fn on_disk_error(&mut self, now: u64, error: &str, out: &mut Outbox) {
        tracing::error!("{error}");
        // A full disk fails many files: one is told, all are in the log.
        if self.force_us.is_none() {
            self.observer.note(&format!("{error}; the run stops and can be resumed"));
        }
        self.force_us.get_or_insert(now + (self.grace + self.patience.with_ranks).as_micros() as u64);
        self.drain(now, EndedBy::Disk, self.grace, out);
    }

    /// A rank asks for the end.
    pub(super) fn on_stop(&mut self, now: u64, why: EndedBy, what: &str, out: &mut Outbox) {
        if why == EndedBy::Disk {
            return self.on_disk_error(now, what, out);
        }
        self.drain(now, why, self.grace, out);
    }

    fn drain(&mut self, now: u64, why: EndedBy, grace: Duration, out: &mut Outbox) {
        let ends = now + grace.as_micros() as u64;
        self.grace_ends_us = Some(self.grace_ends_us.map_or(ends, |earlier| earlier.min(ends)));
        let mut actions = Vec::new();
        self.machine.drain(now, why, grace.as_micros() as u64, &mut actions);
        self.act(now, actions, out);
    }

    pub(super) fn on_longest(&mut self, now: u64, from: Rank, long: Vec<LongRun>) {
        self.longest.note(now, from, long);
    }

    /// Deadlines, requests, and what is shown. Makes no call that a file system may hold up: the other ranks end when rank 0 is
    /// silent for too long.
    pub(super) fn chores(&mut self, now: u64, out: &mut Outbox) {
        if now < self.next_chore_us || self.done {
            return;
        }
        self.next_chore_us = now + CHORE_US;
        let asked = signals::asked();
        if asked > self.signals {
            // Who asks again does not want to wait.
            let grace = if self.signals > 0 { Duration::ZERO } else { self.grace };
            self.signals = asked;
            self.drain(now, EndedBy::Signal, grace, out);
        }
        let goes_on = self.machine.draining().is_none() && self.machine.ending().is_none();
        if goes_on && self.machine.is_without_cores() {
            self.observer.note("no rank can start tasks any more: the run stops and can be resumed");
            self.drain(now, EndedBy::Stop, Duration::ZERO, out);
        }
        let few = self.machine.has_lost() && u64::from(self.machine.cores()) < self.figures.slots / 2;
        if few && !std::mem::replace(&mut self.told_few, true) {
            let (left, all) = (self.machine.cores(), of(self.figures.slots, "slot"));
            let stop = format!("myriarch stop {}", word(self.ledger.dir.path()));
            let note = format!("only {left} of {all} are left; where a new job has more: {stop}, then resume there");
            self.warn(&note);
        }
        if let Some((_, grace)) = self.walltime.take_if(|(at, _)| now >= *at) {
            self.drain(now, EndedBy::Walltime, grace, out);
        }
        if let Some(request) = self.ledger.stop_requested() {
            let grace = if request == StopRequest::Now { Duration::ZERO } else { self.grace };
            self.drain(now, EndedBy::Stop, grace, out);
        }
        if let (Err(error), false) = (self.ledger.check_owner(), self.superseded) {
            self.superseded = true;
            tracing::error!("{error}");
            self.observer.note(&error.to_string());
            self.drain(now, EndedBy::Stop, Duration::ZERO, out);
        }
        if self.gives_up_us().is_some_and(|at| now >= at) {
            let mut actions = Vec::new();
            self.machine.end_now(now, EndedBy::Stop, &mut actions);
            self.act(now, actions, out);
        }
        if let (Some(why), false) = (self.machine.draining(), self.drain_told) {
            self.drain_told = true;
            self.next_progress_us = now;
            let ends = *self.grace_ends_us.get_or_insert(now + self.grace.as_micros() as u64);
            let grace = Duration::from_micros(ends.saturating_sub(now));
            let running = self.figures.running(&self.machine);
            tracing::info!("drain: {why}; {running} tasks run and get {:.1} s", grace.as_secs_f64());
            let waited_for = self.only_calls.then(|| self.patience.whole());
            self.observer.draining(why, grace, running, waited_for);
        }
        for trouble in self.printer.iter().flat_map(Printer::troubles) {
            self.observer.note(&trouble);
        }
        // A bar and outputs would write over each other.
        if self.printer.as_ref().is_some_and(Printer::is_busy) {
            self.observer.step_aside();
        } else {
            let snapshot = self.snapshot(now);
            self.observer.update(&snapshot);
        }
        if now >= self.next_progress_us {
            self.next_progress_us = now + ProgressWriter::EVERY_US;
            let state = self.machine.draining().map_or(RunState::Running, |_| RunState::Draining);
            let progress = self.progress_at(now, state);
            self.progress.write(progress);
        }
    }

    /// When a drain that does not come to its end is ended all the same.
    fn gives_up_us(&self) -> Option<u64> {
        self.force_us.or(self.grace_ends_us.map(|at| at + self.patience.with_tasks.as_micros() as u64))
    }

    /// Whether what is left of the run is waited for no longer: some rank does not say goodbye.
    pub(super) fn is_forced(&self, now: &dyn Fn() -> u64) -> bool {
        !self.done && self.gives_up_us().is_some_and(|at| now() >= at + self.patience.with_ranks.as_micros() as u64)
    }

    /// Lets the machine act when it asked to.
    pub(super) fn step(&mut self, now: u64, out: &mut Outbox) {
        if self.machine.next_tick().is_some_and(|at| at <= now) {
            let mut actions = Vec::new();
            self.machine.step(now, &mut actions);
            self.act(now, actions, out);
        }
    }

    /// When chores or the machine are due next.
    pub(super) fn next_tick(&self) -> u64 {
        let machine = self.machine.next_tick().unwrap_or(u64::MAX);
        if self.done { u64::MAX } else { self.next_chore_us.min(machine) }
    }

    fn snapshot(&self, now: u64) -> Snapshot {
        let told = self.ledger.told();
        Snapshot {
            ok: told.ok,
            failed: told.failed,
            cancelled: told.cancelled,
            tasks: self.bundle.len(),
            running: self.figures.running(&self.machine),
            ended_this_start: self.figures.ended(told),
            elapsed: Duration::from_micros(now),
            busy_core_seconds: self.machine.busy_core_us() as f64 / 1e6,
            draining: self.machine.draining(),
            grace_left: self.grace_ends_us.map(|at| Duration::from_micros(at.saturating_sub(now))),
        }
    }

    fn progress_at(&mut self, now: u64, state: RunState) -> Progress {
        let longest = self.longest.top(now, 10).into_iter().map(|run| LongTask {
            index: self.bundle.label(run.index),
            bundle: None,
            node: name_of(&self.nodes, run.node),
            seconds: f64::from(run.seconds),
        });
        let longest = longest.collect();
        self.figures.progress(now, state, self.ledger.told(), self.bundle.len(), &self.machine, longest)
    }

    pub(super) fn is_over(&self) -> bool {
        self.done && (self.force_us.is_some() || self.ledger.is_empty())
    }

    pub(super) fn queued_bytes(&self) -> u64 {
        self.ledger.queued_bytes()
    }

    /// Everything has ended: closes the ledger, writes what others rely on, and tells the user.
    pub(super) fn finish(mut self, now: u64) -> RunEnd {
        if self.superseded {
            // The account is the later start's now.
            return RunEnd { status: crate::cli::EXIT_UNFINISHED, printer: self.printer, last_words: None };
        }
        let (told, tasks) = (self.ledger.told(), self.bundle.len());
        let summary = self.figures.summary(now, told, tasks, &self.machine, &self.nodes);
        let last = self.progress_at(now, RunState::Ended);
        let dir = self.ledger.dir.clone();
        self.progress.finish(&last, &dir);
        let (_owner, kept) = self.ledger.finish(Some(summary.ended_by).filter(|_| self.force_us.is_none()));
        if let (Err(error), None) = (&kept, self.force_us) {
            tracing::error!("{error}");
            self.observer.note(&error.to_string());
        }
        let list = write_failed(&dir, &self.bundle, summary.failed);
        let written = summary.write(&dir);
        // A folder that takes no summary does not hold the outcomes either: nobody can be told that all is well.
        let status = if written.is_ok() { summary.exit_status } else { crate::cli::EXIT_UNFINISHED };
        for error in [list, written].into_iter().filter_map(Result::err) {
            tracing::error!("{error}");
            if self.force_us.is_none() {
                self.observer.note(&error.to_string());
            }
        }
        tell_end(&summary, self.observer.groups());
        let Self { mut observer, bundle, nodes, printer, .. } = self;
        let last_words = move |troubles: Vec<String>| {
            troubles.iter().for_each(|trouble| observer.note(trouble));
            with_names(&bundle, &nodes, |names| observer.finish(&summary, dir.path(), names));
        };
        RunEnd { status, printer, last_words: Some(Box::new(last_words)) }
    }
}

/// The start, for the log.
fn tell_start(facts: &Facts, state: &LedgerState) {
    let Facts { ranks, nodes, slots, tasks, source, launcher, .. } = facts;
    tracing::info!("start: {ranks} ranks, {nodes} nodes, {slots} slots, {tasks} tasks of {source}, by {launcher}");
    let Counts { ok, failed, cancelled } = state.counts();
    if facts.already_ended > 0 {
        tracing::info!(
            "resume: {ok} tasks have ended well, {failed} failed, {cancelled} cancelled; {} are put back; round {}",
            facts.put_back,
            state.round
        );
    }
}

/// How a task failed, and the last that it said.
fn failure(group: &FailureGroup) -> String {
    let (status, line) = (&group.status, &group.last_line);
    if line.is_empty() { status.clone() } else { format!("{status}: {line}") }
}

/// The end, for the log.
fn tell_end(summary: &Summary, failures: &FailureDigest) {
    for group in &failures.groups {
        tracing::info!("failed: {} x {}", group.count, failure(group));
    }
    let Summary { ended_by, ok, failed, cancelled, unfinished, wall_seconds, manager_messages, .. } = summary;
    tracing::info!(
        "end: {ended_by}; {ok} ok, {failed} failed, {cancelled} cancelled, {unfinished} unfinished; \
         {wall_seconds:.3} s, {manager_messages} messages to the manager"
    );
}

fn write_failed(dir: &RunDir, bundle: &Bundle, failed: u64) -> Result<(), crate::ledger::LedgerError> {
    if failed == 0 {
        return Ok(());
    }
    let reader = Reader::open(dir)?;
    let json = |index| bundle.task_json(index);
    write_failed_jsonl(&reader, json, |index| bundle.label(index), |index| bundle.line(index), &dir.failed())?;
    Ok(())
}

fn with_names(bundle: &Bundle, nodes: &[String], tell: impl FnOnce(&Names<'_>)) {
    tell(&Names {
        label: &|index| bundle.label(index),
        describe: &|index| describe(bundle, index),
        node: &|node| name_of(nodes, node),
    });
}

pub(super) fn name_of(nodes: &[String], node: u32) -> String {
    nodes.get(node as usize).cloned().unwrap_or_else(|| format!("node {node}"))
}

/// Where the task stands in its source: `tasks.txt:8124`, or its index.
pub(super) fn place_of(bundle: &Bundle, index: u64) -> String {
    match bundle.line(index) {
        Some(line) => format!("{}:{line}", bundle.source()),
        None => format!("task {}", bundle.label(index)),
    }
}

/// The task as messages name it: `task 8123 (tasks.txt:8124)`.
fn describe(bundle: &Bundle, index: u64) -> String {
    let label = bundle.label(index);
    match bundle.line(index) {
        Some(line) => format!("task {label} ({}:{line})", bundle.source()),
        None => format!("task {label}"),
    }
}
