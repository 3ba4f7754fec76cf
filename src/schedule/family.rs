//! A parent and its children: what each child holds, how much more it may have, and what moves between them.
//!
//! Manager and sub-manager are this, plus where their own work comes from. See `README.md`, "Demand and lookahead" and
//! "Recall".

mod benching;
mod recall;
mod sharing;
mod sums;

use super::Micros;
use super::held::Held;
use super::message::{Amount, Capacity, Down, FailedAttempt, Report, Tried, Unstarted, WorkRange};
use super::policy::{Durations, Policy};
use super::pool::Pool;
use crate::task::{BundleId, EndedRun, IndexRange, NodeId, OutcomeClass, Rank, Resources};
use benching::Conduct;
use std::collections::{BTreeMap, VecDeque};
use sums::Sums;

/// A rule of the protocol that does not hold; what the invariant checker found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// Messages on their way to children.
pub(super) type ToChildren = Vec<(Rank, Down)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Welcomed; its answer is out.
    Expected,
    /// There.
    There,
    /// Given up.
    Lost,
    /// It has said goodbye.
    Gone,
}

#[derive(Debug)]
struct Child {
    epoch: u32,
    /// What it can run; `None` while it is not there: not yet, or given up.
    capacity: Option<Capacity>,
    /// Whether a welcome of this epoch is on its way.
    invited: bool,
    held: Held,
    /// Cores of work that it may hold at the most: grows with each report, so that a few short tasks at the start do not call
    /// for a mountain of them.
    limit: u64,
    /// Work not started, as it last said, and work that has ended and that it will tell of later.
    unstarted: Unstarted,
    untold: Amount,
    /// Tasks that have failed for good and of which it will tell later.
    failed_untold: u64,
    /// Cores of work that had likely ended below it when it last spoke, and of which it could not know yet.
    likely_ended: u64,
    /// Hand-outs so far under this epoch, and the latest of them that it had not seen when it last spoke.
    hands: u32,
    unseen: VecDeque<Unstarted>,
    /// When attempts of it last ended, as far as the parent has heard, or else when it got its first work.
    heard_us: Micros,
    /// When it last spoke.
    spoke_us: Micros,
    /// Cores asked back, while the answer is out.
    recall: Option<u64>,
    /// The family's progress when it was last asked, how often since, and when: asked again ever more rarely while there is
    /// none, lest work that fits nowhere else travels to and fro.
    asked_at: u64,
    asked_times: u32,
    asked_us: Micros,
    /// How far it has come, and whether it was ever given up.
    stage: Stage,
    was_lost: bool,
    /// How attempts end on it.
    conduct: Conduct,
    /// What it counts for in the family's sums.
    counted: Sums,
}

impl Child {
    /// What was noted of the epoch that ends.
    fn forget(&mut self) {
        (self.unstarted, self.untold, self.likely_ended) = (Unstarted::default(), Amount::default(), 0);
        (self.hands, self.limit, self.recall, self.failed_untold) = (0, 0, None, 0);
        self.unseen.clear();
    }

    /// Cores for which it may have work.
    fn cores(&self) -> u64 {
        self.conduct.usable(self.told_cores())
    }

    /// What it can run as far as it is trusted.
    fn offered(&self) -> Option<Capacity> {
        const NOTHING: Resources = Resources { cores: 0, gpus: 0 };
        let told = self.capacity?;
        Some(if self.conduct.is_trusted() { told } else { Capacity { total: NOTHING, widest: NOTHING, ..told } })
    }

    /// What it may hold before anything has ended: one task ahead of each slot where several workers draw on it.
    fn first_limit(&self) -> u64 {
        self.cores() * if self.capacity.is_some_and(|capacity| capacity.workers > 1) { 2 } else { 1 }
    }

    fn gpus(&self) -> u64 {
        self.conduct.usable(self.capacity.map_or(0, |capacity| u64::from(capacity.total.gpus)))
    }

    /// What it holds and has not ended, as far as the parent knows.
    fn left(&self) -> Amount {
        self.held.amount().without(self.untold)
    }

    /// Cores of work that it likely has left, if for so long since it spoke last its cores ran tasks of the mean duration, of
    /// those that it had then.
    fn likely_left(&self, since_us: Micros, mean_us: Option<f64>) -> f64 {
        let (left, cores) = (self.left().cores as f64, self.cores() as f64);
        let ended = mean_us.map_or(0.0, |mean| since_us as f64 / mean.max(0.01) * cores);
        let since = (self.unseen.iter().map(|unseen| unseen.cores).sum::<u64>() as f64).min(left);
        let ended = ended + self.likely_ended as f64;
        ((left - since - ended).max(0.0) + since).max(left.min(cores))
    }

    /// Cores without work, as far as the parent knows.
    fn idle_cores(&self) -> u64 {
        self.cores().saturating_sub(self.left().cores)
    }

    /// GPUs without work, as far as the parent knows.
    fn idle_gpus(&self) -> u64 {
        self.gpus().saturating_sub(self.left().gpus)
    }

    /// Work that it holds and has not started, as far as the parent knows: what it said and what it got since, but not
    /// what its cores and GPUs would run at once.
    fn unstarted(&self) -> Unstarted {
        let held = self.left();
        let told = self.unseen.iter().fold(self.unstarted, |told, unseen| told.and(*unseen));
        let run_at_once = (held.gpu_cores * self.gpus()).checked_div(held.gpus).unwrap_or(0);
        let gpu_cores = told.gpu_cores.min(held.gpu_cores.saturating_sub(run_at_once));
        let left_for_plain = self.cores().saturating_sub(held.gpu_cores.saturating_sub(gpu_cores));
        let plain =
            told.recallable(false).min(held.cores.saturating_sub(held.gpu_cores).saturating_sub(left_for_plain));
        Unstarted { cores: gpu_cores + plain, gpu_cores }
    }
}

/// Children that may be worth a hand-out. All others were looked at and are not, and nothing was heard of them since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Nobody,
    One(Rank),
    Everybody,
}

impl Look {
    fn and(self, rank: Rank) -> Self {
        match self {
            Look::Nobody => Look::One(rank),
            Look::One(known) if known == rank => self,
            _ => Look::Everybody,
        }
    }
}

/// The children of one parent, and the work that waits for them.
#[derive(Debug)]
pub(super) struct Family {
    policy: Policy,
    pace_us: u64,
    /// The child on the parent's own rank.
    own: Option<Rank>,
    children: BTreeMap<Rank, Child>,
    pub(super) pool: Pool,
    durations: Durations,
    /// Over all children; and what they can run together.
    sums: Sums,
    capacity: Capacity,
    /// Before anything has ended one in so many of what waits is handed out; and how many cores of work that is for each core.
    first_one_in: u64,
    first_per_core: u64,
    /// Attempts have ended.
    any_ended: bool,
    /// Who may be worth a hand-out, and by which mean duration that was last looked at.
    look: Look,
    looked_mean_us: Option<f64>,
    /// When it was last looked who could give work back.
    balanced_us: Micros,
    /// When work is shared out, once the news of all children are to be expected.
    shares_at_us: Option<Micros>,
    /// Every child has answered its welcome, or was given up.
    all_answered: bool,
    /// What waited and was held when nobody could take what waits.
    barren: Option<(Amount, Amount)>,
    /// No work is handed out any more.
    closed: bool,
    /// Children are told to end.
    ending: bool,
    /// Events after which asking for work may succeed where it did not before.
    progress: u64,
    /// The fewest idle cores since attempts last ended: fewer are progress too.
    least_idle: u64,
    /// Children where nearly all fails, and what the attempts came to of those that are not suspected.
    failing: usize,
    tried_by_trusted: Tried,
    /// Ranks that were given up, or are there again, here or below, of which the parent is yet to be told.
    comings: Vec<(Rank, bool)>,
    /// Nodes that are benched, here or below, and of which the parent is yet to be told.
    benched_untold: Vec<NodeId>,
    /// Who is there has changed, or what they can run, since it was last judged who is suspected.
    is_other: bool,
    /// More waits with some child than was known: the parent's parent should hear.
    stirred: bool,
    /// Protocol errors of children: reports of tasks that they did not hold.
    strays: u64,
}

impl Family {
    pub(super) fn new(policy: Policy, children: &[Rank]) -> Self {
        let child = || Child {
            epoch: 1,
            capacity: None,
            invited: false,
            held: Held::default(),
            limit: 0,
            unstarted: Unstarted::default(),
            untold: Amount::default(),
            failed_untold: 0,
            likely_ended: 0,
            hands: 0,
            unseen: VecDeque::new(),
            heard_us: 0,
            spoke_us: 0,
            recall: None,
            asked_at: 0,
            asked_times: 0,
            asked_us: 0,
            stage: Stage::Expected,
            was_lost: false,
            conduct: Conduct::default(),
            counted: Sums::default(),
        };
        let mut family = Self {
            policy,
            pace_us: policy.pace_us(children.len()),
            own: None,
            children: children.iter().map(|rank| (*rank, child())).collect(),
            pool: Pool::default(),
            durations: Durations::default(),
            sums: Sums::default(),
            capacity: Capacity::NONE,
            first_one_in: 2,
            first_per_core: 0,
            any_ended: false,
            look: Look::Nobody,
            looked_mean_us: None,
            balanced_us: 0,
            shares_at_us: None,
            all_answered: children.is_empty(),
            barren: None,
            closed: false,
            ending: false,
            progress: 1,
            least_idle: u64::MAX,
            failing: 0,
            tried_by_trusted: Tried::default(),
            comings: Vec::new(),
            benched_untold: Vec::new(),
            is_other: false,
            stirred: false,
            strays: 0,
        };
        family.capacity = family.add_capacities();
        family
    }

    /// All work there is waits here: most of it is kept, until it is known how long tasks take.
    pub(super) fn with_all_work(mut self) -> Self {
        self.first_one_in = 4;
        self
    }

    /// The parent is on this rank.
    pub(super) fn on_rank(mut self, rank: Option<Rank>) -> Self {
        self.own = rank.filter(|rank| self.children.contains_key(rank));
        self
    }

    /// Opens every link.
    pub(super) fn open(&mut self, out: &mut ToChildren) {
        let ranks: Vec<Rank> = self.children.keys().copied().collect();
        ranks.into_iter().for_each(|rank| self.welcome(rank, out));
    }

    fn welcome(&mut self, rank: Rank, out: &mut ToChildren) {
        let pace_us = self.pace_us;
        let child = self.children.get_mut(&rank).expect("a child is welcomed");
        child.invited = true;
        out.push((rank, Down::Welcome { epoch: child.epoch, pace_us }));
    }

    /// Begins anew under new epochs: what children held is forgotten, and they are told so.
    pub(super) fn restart(&mut self, out: &mut ToChildren) {
        self.pool.take_all();
        (self.closed, self.ending) = (false, false);
        (self.sums, self.look) = (Sums::default(), Look::Nobody);
        (self.shares_at_us, self.barren, self.least_idle) = (None, None, u64::MAX);
        for child in self.children.values_mut() {
            child.held.take_all();
            child.forget();
            child.conduct.forget();
            child.epoch += 1;
            (child.capacity, child.counted) = (None, Sums::default());
            // One that was lost before is welcomed too, but not waited for.
            if child.stage != Stage::Lost {
                child.stage = Stage::Expected;
            }
        }
        self.capacity = self.add_capacities();
        self.is_other = true;
        self.tell_of_benched();
        // What was told of them under the old epoch may not have been heard.
        let known = self.children.iter().filter(|(_, child)| child.was_lost);
        self.comings = known.map(|(rank, child)| (*rank, child.stage != Stage::Lost)).collect();
        self.all_answered = self.have_all_answered();
        self.open(out);
    }

    /// Whether every child has answered its welcome, or was given up.
    pub(super) fn complete(&self) -> bool {
        self.all_answered
    }

    fn have_all_answered(&self) -> bool {
        self.children.values().all(|child| child.stage != Stage::Expected)
    }

    /// What all children that are there can run together.
    pub(super) fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn add_capacities(&self) -> Capacity {
        let mut sum = Capacity::NONE;
        for (at, capacity) in self.children.values().filter_map(Child::offered).enumerate() {
            sum.total.cores += capacity.total.cores;
            sum.total.gpus += capacity.total.gpus;
            sum.widest.cores = sum.widest.cores.max(capacity.widest.cores);
            sum.widest.gpus = sum.widest.gpus.max(capacity.widest.gpus);
            sum.node = if at == 0 || sum.node == capacity.node { capacity.node } else { None };
            sum.horizon_us = sum.horizon_us.max(capacity.horizon_us);
            sum.workers += capacity.workers;
            sum.nodes = if sum.node.is_some() { 1 } else { sum.nodes + capacity.nodes };
        }
        sum.horizon_us += self.policy.horizon_us(self.pace_us);
        sum
    }

    /// Notes what a child can run; `None` when it is not there.
    fn set_capacity(&mut self, rank: Rank, capacity: Option<Capacity>) {
        let child = self.children.get_mut(&rank).expect("the caller knows the child");
        child.capacity = capacity;
        self.is_other = true;
        self.barren = None;
        self.capacity = self.add_capacities();
        self.recount(rank);
    }

    /// Something of the child has changed: what it counts for has too.
    fn recount(&mut self, rank: Rank) {
        let child = self.children.get_mut(&rank).expect("the caller knows the child");
        self.sums -= child.counted;
        child.counted = Sums::of(child);
        self.sums += child.counted;
    }

    /// A child answered its welcome. Returns whether it is (again) there.
    pub(super) fn on_hello(
        &mut self,
        now: Micros,
        rank: Rank,
        epoch: u32,
        capacity: Capacity,
        out: &mut ToChildren,
    ) -> bool {
        if !self.hears(rank, epoch, out) {
            return false;
        }
        self.set_capacity(rank, Some(capacity));
        let child = self.children.get_mut(&rank).expect("hears() knows the child");
        child.heard_us = now;
        child.invited = false;
        if child.stage == Stage::Lost {
            self.comings.push((rank, true));
        }
        child.stage = Stage::There;
        self.progress += 1;
        child.limit = child.limit.max(child.first_limit());
        self.all_answered = self.have_all_answered();
        // What one may hold at first hangs on whether all are there.
        self.look = Look::Everybody;
        if self.ending {
            out.push((rank, Down::End { epoch }));
        }
        true
    }

    /// A child says that it is there.
    pub(super) fn on_beat(&mut self, rank: Rank, epoch: u32, out: &mut ToChildren) {
        self.hears(rank, epoch, out);
    }

    /// A child says that a rank below it was given up, or is there again.
    pub(super) fn on_coming(&mut self, from: Rank, epoch: u32, coming: (Rank, bool), out: &mut ToChildren) {
        if self.hears(from, epoch, out) {
            self.comings.push(coming);
        }
    }

    /// The ranks that were given up (`false`) or are there again, here or below, since this was asked last.
    pub(super) fn take_comings(&mut self) -> Vec<(Rank, bool)> {
        std::mem::take(&mut self.comings)
    }

    /// Whether a word under this epoch counts. A child given up that speaks under an old one is told the new, once.
    fn hears(&mut self, rank: Rank, epoch: u32, out: &mut ToChildren) -> bool {
        let Some(child) = self.children.get(&rank) else { return false };
        if epoch == child.epoch {
            return true;
        }
        if child.capacity.is_none() && !child.invited {
            self.welcome(rank, out);
        }
        false
    }

    /// A child reported. `None` when its word does not count. Otherwise the report, reduced to what the child held, and the
    /// work that its sections tell of; what it gave back is put before all that waits.
    pub(super) fn on_report(
        &mut self,
        now: Micros,
        rank: Rank,
        epoch: u32,
        mut report: Report,
        out: &mut ToChildren,
    ) -> Option<(Report, Amount)> {
        if !self.hears(rank, epoch, out) || self.children[&rank].capacity.is_none() {
            return None;
        }
        let child = self.children.get_mut(&rank).expect("hears() knows the child");
        let (mut strays, mut ended, mut failed_told) = (0, Amount::default(), 0);
        for section in &mut report.sections {
            let told = std::mem::take(&mut section.runs);
            section.runs.reserve_exact(told.len());
            for EndedRun { range, class } in told {
                let mut unknown = range.len();
                child.held.take(section.bundle, range, |part| {
                    unknown -= part.range.len();
                    ended += part.amount();
                    failed_told += if class == OutcomeClass::Failed { part.range.len() } else { 0 };
                    section.runs.push(EndedRun { range: part.range, class });
                });
                strays += unknown;
            }
        }
        report.sections.retain(|section| !section.runs.is_empty());
        child.failed_untold = child.failed_untold.saturating_add(report.tried.failed).saturating_sub(failed_told);
        let mut tried = report.tried;
        for failed in std::mem::take(&mut report.failed) {
            let IndexRange { start, mut end } = failed.task.range;
            if !failed.crashed {
                // One task, which is held or not.
                end = end.min(start.saturating_add(1));
            }
            let mut unknown = end.saturating_sub(start);
            child.held.take(failed.task.work.bundle, IndexRange { start, end: end.max(start) }, |task| {
                unknown -= task.range.len();
                tried.add(Tried { ok: 0, failed: u64::from(!failed.crashed) });
                report.failed.push(FailedAttempt { task, ..failed });
            });
            strays += unknown;
        }
        let given_back = std::mem::take(&mut report.returned);
        for given in given_back {
            // What the parent noted counts, not what the child says of the tasks' attempts.
            let mut unknown = given.range.len();
            child.held.take(given.work.bundle, given.range, |part| {
                unknown -= part.range.len();
                report.returned.push(part);
            });
            strays += unknown;
        }
        let unseen = child.hands.wrapping_sub(report.hands) as usize;
        let seen = child.unseen.drain(..child.unseen.len().saturating_sub(unseen));
        let known = seen.fold(child.unstarted, |known, seen| known.and(seen));
        child.spoke_us = now;
        (child.unstarted, child.untold) = (report.unstarted, report.untold.at_most(child.held.amount()));
        child.likely_ended = report.likely_ended;
        if report.unstarted.cores > known.cores {
            // No hand-out explains it: what the child had begun to run waits again, and may be asked for.
            self.progress += 1;
            self.stirred = true;
        }
        if report.recall_answered {
            child.recall = None;
        }
        self.on_tried(now, rank, tried, out);
        let child = self.children.get_mut(&rank).expect("hears() knows the child");
        if !child.conduct.tells_of_durations() {
            (report.attempt_cores, report.busy_core_us) = (0, 0);
        }
        if report.attempts > 0 {
            self.any_ended = true;
            child.heard_us = now;
            self.progress += 1;
            self.least_idle = u64::MAX;
        }
        if report.attempt_cores > 0 {
            self.durations.add(report.attempt_cores, report.busy_core_us);
            child.limit = child.limit.saturating_mul(self.policy.growth);
        }
        if let Some(capacity) = report.capacity.take() {
            self.set_capacity(rank, Some(*capacity));
            let child = self.children.get_mut(&rank).expect("hears() knows the child");
            child.limit = child.limit.max(child.first_limit());
            self.progress += 1;
        }
        let target = self.target(rank);
        let child = self.children.get_mut(&rank).expect("hears() knows the child");
        // Growth stops at what is wanted now, so that one long task after many short ones does not leave it high.
        child.limit = child.limit.min(target.max(child.cores()));
        self.strays += strays;
        self.look = self.look.and(rank);
        self.recount(rank);
        Some((report, ended))
    }

    /// Whether more waits with some child than was known, since this was asked last.
    pub(super) fn take_stirred(&mut self) -> bool {
        std::mem::take(&mut self.stirred)
    }

    /// Cores without work, as far as the parent knows.
    pub(super) fn idle_cores(&self) -> u64 {
        self.sums.idle_cores
    }

    /// GPUs without work, as far as the parent knows.
    pub(super) fn idle_gpus(&self) -> u64 {
        self.sums.idle_gpus
    }

    /// Work that children hold and have not started, as far as the parent knows.
    pub(super) fn unstarted(&self) -> Unstarted {
        self.sums.unstarted
    }

    /// Whether every child was supplied with more than its slots run at once: an end leaves no slot idle then.
    pub(super) fn has_reserve(&self) -> bool {
        self.sums.without_reserve == 0
    }

    /// Work that children hold and have not ended, as far as the parent knows.
    pub(super) fn held(&self) -> Amount {
        self.sums.left
    }

    /// Whether children have told the end of all that they were handed.
    pub(super) fn holds_nothing(&self) -> bool {
        self.children.values().all(|child| child.held.amount().tasks == 0)
    }

    /// Work that children have ended and will tell of later.
    pub(super) fn untold(&self) -> Amount {
        self.sums.untold
    }

    /// How many tasks have failed for good of which children will tell later.
    pub(super) fn failed_untold(&self) -> u64 {
        self.sums.failed_untold
    }

    /// Stops handing out, and tells every child to.
    pub(super) fn drain(&mut self, grace_us: u64, out: &mut ToChildren) {
        self.closed = true;
        self.tell_all(out, |epoch| Down::Drain { epoch, grace_us });
    }

    /// Takes back what waits of the given tasks and tells the children that hold some of them.
    pub(super) fn cancel(&mut self, bundle: BundleId, range: IndexRange, out: &mut ToChildren) -> Vec<WorkRange> {
        let holds = |child: &Child| {
            let overlaps = |w: WorkRange| w.range.start < range.end && range.start < w.range.end;
            child.held.iter().any(|w| w.work.bundle == bundle && overlaps(w))
        };
        for (&rank, child) in self.children.iter().filter(|(_, child)| holds(child)) {
            out.push((rank, Down::Cancel { epoch: child.epoch, bundle, range }));
        }
        self.pool.take_range(bundle, range)
    }

    /// Tells every child that is there to end; one that comes later is told then.
    pub(super) fn end(&mut self, out: &mut ToChildren) {
        self.closed = true;
        self.ending = true;
        self.tell_all(out, |epoch| Down::End { epoch });
    }

    fn tell_all(&self, out: &mut ToChildren, message: impl Fn(u32) -> Down) {
        for (&rank, child) in self.children.iter().filter(|(_, child)| child.capacity.is_some()) {
            out.push((rank, message(child.epoch)));
        }
    }

    /// A child said goodbye.
    pub(super) fn on_bye(&mut self, rank: Rank, epoch: u32) {
        if let Some(child) = self.children.get_mut(&rank)
            && child.epoch == epoch
        {
            child.stage = Stage::Gone;
        }
    }

    /// Whether every child has said goodbye or was given up.
    pub(super) fn all_gone(&self) -> bool {
        self.children.values().all(|child| matches!(child.stage, Stage::Gone | Stage::Lost))
    }

    /// A child is given up. What it held may have been running: it comes back as crashed attempts.
    pub(super) fn on_lost(&mut self, rank: Rank) -> Vec<FailedAttempt> {
        let Some(child) = self.children.get(&rank) else { return Vec::new() };
        let node = child.capacity.and_then(|c| c.node);
        let child = self.children.get_mut(&rank).expect("the child was just looked at");
        child.epoch += 1;
        (child.stage, child.was_lost) = (Stage::Lost, true);
        self.comings.push((rank, false));
        child.invited = false;
        child.forget();
        child.conduct.forget();
        let held = child.held.take_all();
        self.set_capacity(rank, None);
        self.progress += 1;
        self.all_answered = self.have_all_answered();
        self.look = Look::Everybody;
        held.into_iter().map(|task| FailedAttempt { task, node, crashed: true }).collect()
    }

    /// Everything that waits or is held, for the checks.
    pub(super) fn everything(&self) -> impl Iterator<Item = WorkRange> + '_ {
        self.pool.iter().chain(self.children.values().flat_map(|child| child.held.iter()))
    }

    /// Checks what must hold after every step.
    pub(super) fn check(&self) -> Result<(), Violation> {
        let sums = self.children.values().fold(Sums::default(), |mut sums, child| {
            sums += Sums::of(child);
            sums
        });
        if sums != self.sums {
            return Err(Violation(format!("the sums are {:?} and should be {sums:?}", self.sums)));
        }
        let capacity = self.add_capacities();
        if capacity != self.capacity {
            return Err(Violation(format!("all can run {capacity:?} together, and not {:?}", self.capacity)));
        }
        // Who is idle is always worth a hand-out.
        let idle = |looked: Option<Rank>| {
            self.children.iter().find(|(rank, child)| Some(**rank) != looked && child.idle_cores() > 0)
        };
        let forgotten = match self.look {
            Look::Nobody => idle(None),
            Look::One(rank) => idle(Some(rank)),
            Look::Everybody => None,
        };
        if let Some((rank, _)) = forgotten {
            return Err(Violation(format!("rank {rank} is idle, and nobody looks after it")));
        }
        if self.all_answered != self.have_all_answered() {
            return Err(Violation("it is not known which children have answered".to_owned()));
        }
        self.check_standing().map_err(Violation)?;
        self.pool.check().map_err(Violation)?;
        if self.strays > 0 {
            return Err(Violation(format!("{} tasks reported by a child that did not hold them", self.strays)));
        }
        for (rank, child) in &self.children {
            let held = child.left();
            if child.capacity.is_none() && held.tasks > 0 {
                return Err(Violation(format!("rank {rank} is not there and holds {held:?}")));
            }
            let most = child.limit.max(1) + 64;
            let bound = self.policy.max_held_per_core * child.cores().max(1) + most;
            if held.cores > bound {
                return Err(Violation(format!("rank {rank} holds {held:?}")));
            }
        }
        Ok(())
    }

    /// What one child holds, for the checks.
    pub(super) fn held_by(&self, rank: Rank) -> impl Iterator<Item = IndexRange> + '_ {
        self.children.get(&rank).into_iter().flat_map(|child| child.held.iter()).map(|given| given.range)
    }
}
