//! The manager: where work comes from and outcomes end up; the root of the tree.

use super::Micros;
use super::family::{Family, ToChildren, Violation};
use super::message::{Down, FailedAttempt, Report, Section, Up, Work, WorkRange};
use super::policy::Policy;
use crate::task::{
    BundleId, EndedBy, EndedRun, FailureDigest, FailureGroup, IndexRange, NodeId, OutcomeClass, RangeSet, Rank, Shape,
    Status,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What the manager wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagerAction {
    /// Tell a child.
    ToChild(Rank, Down),
    /// Record in the ledger: these tasks ended, for the first time.
    Record(Section),
    /// Record in the ledger an outcome that no worker knows: lost, or cancelled before it ran.
    RecordOwn {
        /// The task's bundle.
        bundle: BundleId,
        /// The tasks.
        range: IndexRange,
        /// `Failed` stands for lost.
        class: OutcomeClass,
        /// Attempts made.
        attempts: u32,
        /// Where the last of them was lost.
        node: Option<NodeId>,
    },
    /// Failures, to be shown.
    Failures(FailureDigest),
    /// This node gets no more work: nearly everything fails there, and not elsewhere. Said once of each.
    Benched(NodeId),
    /// Nothing was heard of this rank for too long: it was given up, and what it held waits again. Those below it may be gone
    /// with it.
    Lost(Rank),
    /// A rank that was given up is there again.
    Back(Rank),
    /// Every child has ended; the role is over.
    Done,
}

/// Ranges fed in one step in search of work that fits an idle child.
const FED_AT_ONCE: usize = 64;
/// Ranges that may wait in the pool for that.
const WAITING_RANGES: usize = 16 * 1024;

/// Losses after which tasks run apart from each other. After one they do not: that is mostly a node that died, and to run all
/// that it had one by one would take long.
const APART_AFTER: u32 = 2;

/// Limits of a run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Ranks that a task may take with it before it counts as lost.
    pub crash_limit: u32,
    /// The run stops when more tasks than this have failed.
    pub max_fails: Option<u64>,
    /// Tasks out at once.
    pub max_running: Option<u64>,
    /// How long running tasks may go on when the run is stopped by the manager itself. Microseconds.
    pub grace_us: u64,
    /// Nodes that take part.
    pub nodes: u32,
}

/// What tasks take, by position: how the manager learns of shapes without holding one for each task.
pub trait Shapes: Send + Sync {
    /// The end of the run of equal shape that starts at `range.start`, at most `range.end`, and that shape.
    fn run_at(&self, range: IndexRange) -> (u64, Shape);
}

/// All tasks alike.
impl Shapes for Shape {
    fn run_at(&self, range: IndexRange) -> (u64, Shape) {
        (range.end, *self)
    }
}

struct Bundle {
    tasks: u64,
    /// More tasks may come.
    open: bool,
    /// Not yet in the pool, with what they take.
    unfed: VecDeque<(IndexRange, Arc<dyn Shapes>)>,
    ended: RangeSet,
    cancelled: RangeSet,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle").field("tasks", &self.tasks).field("ended", &self.ended.len()).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Draining(EndedBy),
    Ending(EndedBy),
    Done(EndedBy),
}

/// The manager's state.
#[derive(Debug)]
pub struct Manager {
    settings: Settings,
    family: Family,
    bundles: BTreeMap<BundleId, Bundle>,
    unfed_tasks: u64,
    failed: u64,
    phase: Phase,
    /// When the grace of the drain is over.
    drain_until: Option<Micros>,
    busy_core_us: u64,
    /// Messages received, for the cost report.
    messages: u64,
    /// Nodes that got no more work.
    benched: BTreeSet<NodeId>,
    /// Ranks that were given up, and whether they are there again.
    given_up: BTreeMap<Rank, bool>,
}

impl Manager {
    /// A manager of these children.
    pub fn new(policy: Policy, settings: Settings, children: &[Rank]) -> Self {
        Self {
            settings,
            family: Family::new(policy, children).with_all_work().on_rank(Some(Rank::MANAGER)),
            bundles: BTreeMap::new(),
            unfed_tasks: 0,
            failed: 0,
            phase: Phase::Running,
            drain_until: None,
            busy_core_us: 0,
            messages: 0,
            benched: BTreeSet::new(),
            given_up: BTreeMap::new(),
        }
    }

    /// Adds a bundle of so many tasks, of which `ended` have an outcome already; the others wait. Failures of
    /// earlier starts do not count against max-fails.
    pub fn add_bundle(&mut self, id: BundleId, tasks: u64, ended: RangeSet, shapes: Arc<dyn Shapes>) {
        let unfed: VecDeque<_> =
            ended.missing(IndexRange::new(0, tasks)).into_iter().map(|range| (range, shapes.clone())).collect();
        self.unfed_tasks += unfed.iter().map(|(range, _)| range.len()).sum::<u64>();
        self.bundles.insert(id, Bundle { tasks, open: false, unfed, ended, cancelled: RangeSet::new() });
    }

    /// As [`add_bundle`](Self::add_bundle), for a bundle to which more tasks may come.
    pub fn resume_bundle(&mut self, id: BundleId, tasks: u64, ended: RangeSet, shapes: Arc<dyn Shapes>) {
        self.add_bundle(id, tasks, ended, shapes);
        if let Some(bundle) = self.bundles.get_mut(&id) {
            bundle.open = true;
        }
    }

    /// Adds a bundle that has no tasks yet and does not end before it is closed.
    pub fn open_bundle(&mut self, id: BundleId) {
        let (unfed, ended, cancelled) = Default::default();
        self.bundles.insert(id, Bundle { tasks: 0, open: true, unfed, ended, cancelled });
    }

    /// Adds tasks at the end of an open bundle and returns their positions; none where it is not open. They are handed out
    /// in the next step.
    pub fn extend(&mut self, id: BundleId, tasks: u64, shapes: Arc<dyn Shapes>) -> Option<IndexRange> {
        let bundle = self.bundles.get_mut(&id).filter(|bundle| bundle.open)?;
        let range = IndexRange::new(bundle.tasks, bundle.tasks + tasks);
        bundle.tasks = range.end;
        if !range.is_empty() {
            bundle.unfed.push_back((range, shapes));
            self.unfed_tasks += tasks;
        }
        Some(range)
    }

    /// No more tasks will come.
    pub fn close(&mut self, now: Micros, id: BundleId, out: &mut Vec<ManagerAction>) {
        if let Some(bundle) = self.bundles.get_mut(&id) {
            bundle.open = false;
        }
        self.step(now, out);
    }

    /// Opens the links to the children.
    pub fn open(&mut self, now: Micros, out: &mut Vec<ManagerAction>) {
        let mut down = ToChildren::new();
        self.family.open(&mut down);
        Self::send(down, out);
        self.step(now, out);
    }

    fn send(down: ToChildren, out: &mut Vec<ManagerAction>) {
        out.extend(down.into_iter().map(|(rank, message)| ManagerAction::ToChild(rank, message)));
    }

    /// A child's word.
    pub fn on_child(&mut self, now: Micros, from: Rank, message: Up, out: &mut Vec<ManagerAction>) {
        self.messages += 1;
        let mut down = ToChildren::new();
        match message {
            Up::Hello { epoch, capacity } => {
                self.family.on_hello(now, from, epoch, capacity, &mut down);
            }
            Up::Report { epoch, report } => {
                if let Some((news, _)) = self.family.on_report(now, from, epoch, report, &mut down) {
                    self.on_news(news, out);
                }
            }
            Up::Benched { epoch, node } => self.family.on_benched(from, epoch, node, &mut down),
            Up::Beat { epoch } => self.family.on_beat(from, epoch, &mut down),
            Up::Rank { epoch, rank, is_there } => self.family.on_coming(from, epoch, (rank, is_there), &mut down),
            Up::Bye { epoch } => self.family.on_bye(from, epoch),
        }
        self.tell_comings(out);
        for node in self.family.take_benched() {
            if self.benched.insert(node) {
                out.push(ManagerAction::Benched(node));
            }
        }
        Self::send(down, out);
        self.step(now, out);
    }

    /// Who was given up, and who is there again.
    fn tell_comings(&mut self, out: &mut Vec<ManagerAction>) {
        for (rank, is_there) in self.family.take_comings() {
            let before = self.given_up.insert(rank, is_there).unwrap_or(true);
            match (before, is_there) {
                (true, false) => out.push(ManagerAction::Lost(rank)),
                (false, true) => out.push(ManagerAction::Back(rank)),
                _ => {}
            }
        }
    }

    fn on_news(&mut self, news: Report, out: &mut Vec<ManagerAction>) {
        self.busy_core_us += news.busy_core_us;
        for section in news.sections {
            self.on_section(section, out);
        }
        if !news.digest.is_empty() {
            out.push(ManagerAction::Failures(news.digest));
        }
        for failed in news.failed {
            self.on_failed_attempt(failed, out);
        }
        for given in news.returned {
            self.put_back(given, out);
        }
    }

    /// Tasks ended: the first outcome wins, a second changes nothing.
    fn on_section(&mut self, mut section: Section, out: &mut Vec<ManagerAction>) {
        let Some(bundle) = self.bundles.get_mut(&section.bundle) else { return };
        let told = std::mem::take(&mut section.runs);
        section.runs.reserve_exact(told.len());
        for EndedRun { range, class } in told {
            bundle.ended.insert_new(range, |new| {
                if class == OutcomeClass::Failed {
                    self.failed += new.len();
                }
                section.runs.push(EndedRun { range: new, class });
            });
        }
        if !section.runs.is_empty() {
            out.push(ManagerAction::Record(section));
        }
    }

    /// An attempt failed that was not the last: the task waits again, unless it has crashed too often.
    fn on_failed_attempt(&mut self, failed: FailedAttempt, out: &mut Vec<ManagerAction>) {
        let mut task = failed.task;
        if failed.crashed {
            task.work.crashes += 1;
            // All that a lost rank had may be why, or nothing of it: after a second loss they are told apart, before the limit.
            task.work.apart = task.work.crashes >= self.settings.crash_limit.saturating_sub(1).clamp(1, APART_AFTER);
        } else {
            task.work.attempt += 1;
        }
        if failed.crashed && task.work.crashes >= self.settings.crash_limit {
            let node = failed.node;
            let count = self.end_own(task, OutcomeClass::Failed, node, out);
            let mut digest = FailureDigest::default();
            digest.add(FailureGroup {
                status: Status::Lost.to_string(),
                last_line: String::new(),
                count,
                example: task.range.start,
                node: node.map_or(0, |node| node.0),
            });
            if count > 0 {
                out.push(ManagerAction::Failures(digest));
            }
            return;
        }
        // One that may have taken a rank with it spares those of parents, and takes any other.
        task.work.avoid = failed.node.filter(|_| self.settings.nodes > 1 && task.work.crashes == 0);
        self.put_back(task, out);
    }

    /// Puts work before all that waits; cancelled tasks end here.
    fn put_back(&mut self, given: WorkRange, out: &mut Vec<ManagerAction>) {
        let Some(bundle) = self.bundles.get(&given.work.bundle) else { return };
        let part = |range: IndexRange| WorkRange { work: given.work, range };
        let gone: Vec<_> = bundle.cancelled.overlapping(given.range).map(part).collect();
        let kept: Vec<_> = bundle.cancelled.missing(given.range).into_iter().map(part).collect();
        for given in gone {
            self.end_own(given, OutcomeClass::Cancelled, None, out);
        }
        kept.into_iter().rev().for_each(|given| self.family.pool.push_front(given));
    }

    /// Ends tasks by the manager's own word; how many of them had not ended.
    fn end_own(
        &mut self,
        given: WorkRange,
        class: OutcomeClass,
        node: Option<NodeId>,
        out: &mut Vec<ManagerAction>,
    ) -> u64 {
        let Some(bundle) = self.bundles.get_mut(&given.work.bundle) else { return 0 };
        let mut ended = 0;
        bundle.ended.insert_new(given.range, |range| {
            ended += range.len();
            let attempts = given.work.attempt + given.work.crashes;
            out.push(ManagerAction::RecordOwn { bundle: given.work.bundle, range, class, attempts, node });
        });
        if class == OutcomeClass::Failed {
            self.failed += ended;
        }
        ended
    }

    /// A child is given up; what it held and may have been running waits again.
    pub fn on_lost(&mut self, now: Micros, child: Rank, out: &mut Vec<ManagerAction>) {
        for failed in self.family.on_lost(child).into_iter().rev() {
            self.on_failed_attempt(failed, out);
        }
        self.tell_comings(out);
        self.step(now, out);
    }

    /// Takes tasks back: those that wait end as cancelled at once, those that are out when their children give them
    /// back. One that ends first keeps its outcome.
    pub fn cancel(&mut self, now: Micros, id: BundleId, range: IndexRange, out: &mut Vec<ManagerAction>) {
        let Some(bundle) = self.bundles.get_mut(&id) else { return };
        bundle.cancelled.insert(range);
        self.feed_all_of(id);
        let mut down = ToChildren::new();
        for given in self.family.cancel(id, range, &mut down) {
            self.end_own(given, OutcomeClass::Cancelled, None, out);
        }
        Self::send(down, out);
        self.step(now, out);
    }

    /// Stops the run: no new tasks; running ones may go on for the grace time, then they are given back. A second call
    /// may only shorten the grace.
    pub fn drain(&mut self, now: Micros, why: EndedBy, grace_us: u64, out: &mut Vec<ManagerAction>) {
        if let Phase::Ending(_) | Phase::Done(_) = self.phase {
            return;
        }
        let until = now.saturating_add(grace_us);
        if let (Phase::Draining(_), Some(known)) = (self.phase, self.drain_until)
            && known <= until
        {
            // Every rank may ask; the children are told once, and again only when there is less time.
            return;
        }
        let why = if let Phase::Draining(first) = self.phase { first } else { why };
        self.phase = Phase::Draining(why);
        self.drain_until = Some(until);
        let mut down = ToChildren::new();
        self.family.drain(grace_us, &mut down);
        Self::send(down, out);
        self.step(now, out);
    }

    /// Ends at once, whatever children still hold: it stays unfinished.
    pub fn end_now(&mut self, now: Micros, why: EndedBy, out: &mut Vec<ManagerAction>) {
        if let Phase::Running | Phase::Draining(_) = self.phase {
            let why = self.draining().unwrap_or(why);
            self.phase = Phase::Ending(why);
            let mut down = ToChildren::new();
            self.family.end(&mut down);
            Self::send(down, out);
            self.step(now, out);
        }
    }

    /// Hands out, balances, and ends what has ended. To be called when a tick is due.
    pub fn step(&mut self, now: Micros, out: &mut Vec<ManagerAction>) {
        let mut down = ToChildren::new();
        self.family.review(now, &mut down);
        if self.phase == Phase::Running {
            self.supply(now, &mut down);
            if self.unfed_tasks == 0 {
                self.family.balance(now, &mut down);
            }
        }
        Self::send(down, out);
        let failed = self.failed + self.family.failed_untold();
        if self.phase == Phase::Running && self.settings.max_fails.is_some_and(|most| failed > most) {
            return self.drain(now, EndedBy::MaxFails, self.settings.grace_us, out);
        }
        let complete = self.ended_tasks() == self.tasks() && !self.bundles.values().any(|bundle| bundle.open);
        let ending = match self.phase {
            Phase::Running if complete => Some(EndedBy::Complete),
            // Children that have not come yet hold nothing, so this waits for none of them.
            Phase::Draining(why) if self.family.holds_nothing() => Some(if complete { EndedBy::Complete } else { why }),
            _ => None,
        };
        if let Some(why) = ending {
            self.phase = Phase::Ending(why);
            let mut down = ToChildren::new();
            self.family.end(&mut down);
            Self::send(down, out);
        }
        if let Phase::Ending(why) = self.phase
            && self.family.all_gone()
        {
            self.phase = Phase::Done(why);
            out.push(ManagerAction::Done);
        }
    }

    fn supply(&mut self, now: Micros, down: &mut ToChildren) {
        if self.unfed_tasks > 0 && self.family.lacks_work(now, self.unfed_tasks) {
            self.feed(self.family.wanted());
        }
        self.family.supply(now, self.unfed_tasks, self.may_run(), down);
        // What waits may fit no child that is idle; what comes behind it may.
        for _ in 0..FED_AT_ONCE {
            if self.unfed_tasks == 0 || self.family.idle_cores() == 0 || self.family.pool.ranges() > WAITING_RANGES {
                break;
            }
            let ids: Vec<BundleId> = self.bundles.keys().copied().collect();
            if !ids.into_iter().any(|id| self.feed_run(id)) {
                break;
            }
            self.family.supply(now, self.unfed_tasks, self.may_run(), down);
        }
    }

    /// How many more tasks may be out.
    fn may_run(&self) -> u64 {
        self.settings.max_running.map_or(u64::MAX, |most| most.saturating_sub(self.held_tasks()))
    }

    /// Moves work into the pool until so many cores' worth waits there: shapes are looked at no sooner than needed.
    fn feed(&mut self, cores: u64) {
        if self.unfed_tasks == 0 {
            return;
        }
        let ids: Vec<BundleId> = self.bundles.keys().copied().collect();
        for id in ids {
            while self.family.pool.amount().cores < cores && self.feed_run(id) {}
        }
    }

    fn feed_all_of(&mut self, id: BundleId) {
        while self.feed_run(id) {}
    }

    fn feed_run(&mut self, id: BundleId) -> bool {
        let Some(bundle) = self.bundles.get_mut(&id) else { return false };
        let Some((first, shapes)) = bundle.unfed.front_mut() else { return false };
        let (end, Shape { resources, retries, calls }) = shapes.run_at(*first);
        let end = end.clamp(first.start + 1, first.end);
        let range = IndexRange::new(first.start, end);
        first.start = end;
        if first.is_empty() {
            bundle.unfed.pop_front();
        }
        self.unfed_tasks -= range.len();
        let work = Work { bundle: id, resources, retries, calls, attempt: 0, crashes: 0, apart: false, avoid: None };
        self.family.pool.push_back(WorkRange { work, range });
        true
    }

    /// Why the run ended, once it has.
    pub fn ending(&self) -> Option<EndedBy> {
        match self.phase {
            Phase::Done(why) | Phase::Ending(why) => Some(why),
            _ => None,
        }
    }

    /// Why the run is being stopped, or was.
    pub fn draining(&self) -> Option<EndedBy> {
        match self.phase {
            Phase::Draining(why) => Some(why),
            _ => None,
        }
    }

    /// Tasks of all bundles.
    pub fn tasks(&self) -> u64 {
        self.bundles.values().map(|bundle| bundle.tasks).sum()
    }

    /// Tasks that have an outcome.
    pub fn ended_tasks(&self) -> u64 {
        self.bundles.values().map(|bundle| bundle.ended.len()).sum()
    }

    /// Tasks that nobody was offered yet.
    pub fn unfed_tasks(&self) -> u64 {
        self.unfed_tasks
    }

    /// Tasks that children hold and have not ended.
    pub fn held_tasks(&self) -> u64 {
        self.family.held().tasks
    }

    /// When `step` should be called next, if nothing else happens.
    pub fn next_tick(&self) -> Option<Micros> {
        if self.phase != Phase::Running {
            return None;
        }
        // What nobody was offered yet goes first to those who are idle.
        let recall = self.family.next_recall().filter(|_| self.unfed_tasks == 0);
        self.family.next_sharing().into_iter().chain(recall).chain(self.family.next_review()).min()
    }

    /// Whether the next task of each slot lies ready with the children: the end of one is no hurry then.
    pub fn has_reserve(&self) -> bool {
        self.family.has_reserve()
    }

    /// Cores of all children that are there.
    pub fn cores(&self) -> u32 {
        self.family.capacity().total.cores
    }

    /// Whether nobody can start tasks any more: every child has answered or was given up, and none has cores.
    pub fn is_without_cores(&self) -> bool {
        self.cores() == 0 && self.family.complete()
    }

    /// Slot-time of all attempts that were reported: cores × microseconds.
    pub fn busy_core_us(&self) -> u64 {
        self.busy_core_us
    }

    /// Nodes that got no more work since nearly everything failed there.
    pub fn benched(&self) -> &BTreeSet<NodeId> {
        &self.benched
    }

    /// Ranks that were given up at some time, and whether they are there again.
    pub fn given_up(&self) -> &BTreeMap<Rank, bool> {
        &self.given_up
    }

    /// Whether some rank was given up and is not there again.
    pub fn has_lost(&self) -> bool {
        self.given_up.values().any(|is_there| !is_there)
    }

    /// Messages received from children.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Checks what must hold after every step: waiting + held by live children + ended = tasks, each once.
    pub fn check(&self) -> Result<(), Violation> {
        self.family.check()?;
        for (id, bundle) in &self.bundles {
            let mut seen = bundle.ended.clone();
            let unfed = bundle.unfed.iter().map(|(range, _)| *range);
            let out = self.family.everything().filter(|w| w.work.bundle == *id).map(|w| w.range);
            for range in unfed.chain(out) {
                let before = seen.len();
                seen.insert(range);
                if seen.len() - before != range.len() {
                    return Err(Violation(format!("{range:?} waits, is held or has ended more than once")));
                }
            }
            if seen.len() != bundle.tasks {
                return Err(Violation(format!("{} of {} tasks are nowhere", bundle.tasks - seen.len(), bundle.tasks)));
            }
        }
        Ok(())
    }

    /// What one child holds, for the checks.
    pub fn held_by(&self, child: Rank) -> impl Iterator<Item = IndexRange> + '_ {
        self.family.held_by(child)
    }
}
