//! A parent and its children: what each child holds, how much more it may have, and what moves between them.
//!
//! Manager and sub-manager are this, plus where their own work comes from. See `README.md`, "Demand and lookahead" and
//! "Recall".

use super::Micros;
use super::held::Held;
use super::message::{Amount, Capacity, Down, FailedAttempt, Report, Unstarted, WorkRange};
use super::policy::{Durations, Policy};
use super::pool::{Pool, Share};
use crate::task::{BundleId, EndedRun, IndexRange, NodeId, Rank, Resources};
use std::collections::{BTreeMap, VecDeque};

/// A rule of the protocol that does not hold; what the invariant checker found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// Tasks that take longer than so many round trips are long: see [`Family::may_be_asked`].
const LONG_IN_ROUND_TRIPS: f64 = 10.0;

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
    /// Cores of work that it may hold at the most: grows by doubling, so that a few short tasks at the start do not
    /// call for a mountain of them.
    limit: u64,
    /// Work not started, as it last said, and work that has ended and that it will tell of later.
    unstarted: Unstarted,
    untold: Amount,
    /// Hand-outs so far under this epoch, and the latest of them that it had not seen when it last spoke.
    hands: u32,
    unseen: VecDeque<Unstarted>,
    /// When attempts of it last ended, as far as the parent has heard, or else when it got its first work.
    heard_us: Micros,
    /// Cores asked back, while the answer is out.
    recall: Option<u64>,
    /// The family's progress when it was last asked, how often since, and when: asked again ever more rarely while there is
    /// none, lest work that fits nowhere else travels to and fro.
    asked_at: u64,
    asked_times: u32,
    asked_us: Micros,
    /// How far it has come.
    stage: Stage,
}

impl Child {
    /// What was noted of the epoch that ends.
    fn forget(&mut self) {
        (self.unstarted, self.untold) = (Unstarted::default(), Amount::default());
        (self.hands, self.limit, self.recall) = (0, 0, None);
        self.unseen.clear();
    }

    fn cores(&self) -> u64 {
        self.capacity.map_or(0, |capacity| u64::from(capacity.total.cores))
    }

    fn gpus(&self) -> u64 {
        self.capacity.map_or(0, |capacity| u64::from(capacity.total.gpus))
    }

    /// What it holds and has not ended, as far as the parent knows.
    fn left(&self) -> Amount {
        self.held.amount().without(self.untold)
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

/// The part `own` of `everyones` of `all`, rounded up.
fn part(all: u64, own: u64, everyones: u64) -> u64 {
    let part = (u128::from(all) * u128::from(own)).div_ceil(u128::from(everyones.max(1)));
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// What is fair for each child while work is handed out.
struct Shares {
    /// Cores of work for each core of a child.
    level: f64,
    /// What was left over of the children before, since tasks are whole.
    rest: f64,
    /// Tasks that wait besides the pool.
    unfed: u64,
    /// GPUs of all work that waits or is held.
    gpus: u64,
}

impl Shares {
    /// Cores of work that the child should have on top of what it has.
    fn cores(&mut self, child: &Child) -> u64 {
        if self.level.is_infinite() {
            return u64::MAX;
        }
        let exact = (self.level * child.cores() as f64 - child.left().cores as f64).max(0.0) + self.rest;
        self.rest = exact.fract();
        exact as u64
    }
}

/// The children of one parent, and the work that waits for them.
#[derive(Debug)]
pub(super) struct Family {
    policy: Policy,
    pace_us: u64,
    children: BTreeMap<Rank, Child>,
    pub(super) pool: Pool,
    durations: Durations,
    /// Cores and GPUs of all children that are there.
    cores: u64,
    gpus: u64,
    /// When it was last looked who could give work back.
    balanced_us: Micros,
    /// No work is handed out any more.
    closed: bool,
    /// Children are told to end.
    ending: bool,
    /// Events after which asking for work may succeed where it did not before.
    progress: u64,
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
            hands: 0,
            unseen: VecDeque::new(),
            heard_us: 0,
            recall: None,
            asked_at: 0,
            asked_times: 0,
            asked_us: 0,
            stage: Stage::Expected,
        };
        Self {
            policy,
            pace_us: policy.pace_us(children.len()),
            children: children.iter().map(|rank| (*rank, child())).collect(),
            pool: Pool::default(),
            durations: Durations::default(),
            cores: 0,
            gpus: 0,
            balanced_us: 0,
            closed: false,
            ending: false,
            progress: 1,
            stirred: false,
            strays: 0,
        }
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
        (self.cores, self.gpus) = (0, 0);
        for child in self.children.values_mut() {
            child.held.take_all();
            child.forget();
            child.epoch += 1;
            child.capacity = None;
            // One that was lost before is welcomed too, but not waited for.
            if child.stage != Stage::Lost {
                child.stage = Stage::Expected;
            }
        }
        self.open(out);
    }

    /// Whether every child has answered its welcome, or was given up.
    pub(super) fn complete(&self) -> bool {
        self.children.values().all(|child| child.stage != Stage::Expected)
    }

    /// What all children that are there can run together.
    pub(super) fn capacity(&self) -> Capacity {
        let mut sum = Capacity {
            total: Resources { cores: 0, gpus: 0 },
            widest: Resources { cores: 0, gpus: 0 },
            node: None,
            horizon_us: 0,
            workers: 0,
        };
        for (at, capacity) in self.children.values().filter_map(|child| child.capacity).enumerate() {
            sum.total.cores += capacity.total.cores;
            sum.total.gpus += capacity.total.gpus;
            sum.widest.cores = sum.widest.cores.max(capacity.widest.cores);
            sum.widest.gpus = sum.widest.gpus.max(capacity.widest.gpus);
            sum.node = if at == 0 || sum.node == capacity.node { capacity.node } else { None };
            sum.horizon_us = sum.horizon_us.max(capacity.horizon_us);
            sum.workers += capacity.workers;
        }
        sum.horizon_us += self.policy.horizon_us(self.pace_us);
        sum
    }

    /// Notes what a child can run; `None` when it is not there.
    fn set_capacity(&mut self, rank: Rank, capacity: Option<Capacity>) {
        let child = self.children.get_mut(&rank).expect("the caller knows the child");
        self.cores -= child.cores();
        self.gpus -= child.gpus();
        child.capacity = capacity;
        self.cores += child.cores();
        self.gpus += child.gpus();
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
        child.stage = Stage::There;
        self.progress += 1;
        child.limit = child.limit.max(u64::from(capacity.total.cores));
        if self.ending {
            out.push((rank, Down::End { epoch }));
        }
        true
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
        let (mut strays, mut ended) = (0, Amount::default());
        for section in &mut report.sections {
            let told = std::mem::take(&mut section.runs);
            for run in told {
                let had = child.held.take(section.bundle, run.range);
                strays += run.range.len() - had.iter().map(|part| part.range.len()).sum::<u64>();
                had.iter().for_each(|part| ended += part.amount());
                section.runs.extend(had.into_iter().map(|part| EndedRun { range: part.range, class: run.class }));
            }
        }
        report.sections.retain(|section| !section.runs.is_empty());
        report.failed.retain_mut(|failed| match child.held.take(failed.task.work.bundle, failed.task.range)[..] {
            [had] if had.range == failed.task.range => {
                failed.task = had;
                true
            }
            _ => {
                strays += 1;
                false
            }
        });
        let given_back = std::mem::take(&mut report.returned);
        for given in given_back {
            // What the parent noted counts, not what the child says of the tasks' attempts.
            let had = child.held.take(given.work.bundle, given.range);
            strays += given.range.len() - had.iter().map(|part| part.range.len()).sum::<u64>();
            report.returned.extend(had);
        }
        let unseen = child.hands.wrapping_sub(report.hands) as usize;
        let seen = child.unseen.drain(..child.unseen.len().saturating_sub(unseen));
        let known = seen.fold(child.unstarted, |known, seen| known.and(seen));
        (child.unstarted, child.untold) = (report.unstarted, report.untold.at_most(child.held.amount()));
        if report.unstarted.cores > known.cores {
            // No hand-out explains it: what the child had begun to run waits again, and may be asked for.
            self.progress += 1;
            self.stirred = true;
        }
        if report.attempts > 0 {
            child.heard_us = now;
            self.progress += 1;
            self.durations.add(report.attempt_cores, report.busy_core_us);
            child.limit = child.limit.saturating_mul(2);
        }
        if let Some(capacity) = report.capacity {
            self.set_capacity(rank, Some(capacity));
            let child = self.children.get_mut(&rank).expect("hears() knows the child");
            child.limit = child.limit.max(child.cores());
            self.progress += 1;
        }
        let target = self.target(rank);
        let child = self.children.get_mut(&rank).expect("hears() knows the child");
        // Growth stops at what is wanted now, so that one long task after many short ones does not leave it high.
        child.limit = child.limit.min(target.max(child.cores()));
        if report.recall_answered {
            child.recall = None;
        }
        self.strays += strays;
        Some((report, ended))
    }

    /// Whether more waits with some child than was known, since this was asked last.
    pub(super) fn take_stirred(&mut self) -> bool {
        std::mem::take(&mut self.stirred)
    }

    /// Cores of work that the child should hold by what is known of durations, growth left aside.
    fn target(&self, rank: Rank) -> u64 {
        let Some(capacity) = self.children[&rank].capacity else { return 0 };
        let horizon = capacity.horizon_us + self.policy.horizon_us(self.pace_us);
        (f64::from(capacity.total.cores) * self.policy.held_per_core(horizon, self.durations.mean_us())).ceil() as u64
    }

    /// What the child may be handed now. Its GPUs are supplied as far ahead as its cores are.
    fn credit(&self, rank: Rank) -> Share {
        let child = &self.children[&rank];
        let (held, may_hold) = (child.left(), self.target(rank).min(child.limit));
        let gpus = (may_hold * child.gpus()).div_ceil(child.cores().max(1));
        Share { tasks: u64::MAX, cores: may_hold.saturating_sub(held.cores), gpus: gpus.saturating_sub(held.gpus) }
    }

    /// Whether the child has so much less than it may hold that more is worth a message. Of short tasks half of what it
    /// was supplied ahead is gone then; the other half bridges the time until more is there. Of long ones each counts.
    fn is_worth_a_message(&self, rank: Rank) -> bool {
        const FEW_PER_CORE: u64 = 4;
        let (child, credit) = (&self.children[&rank], self.credit(rank).cores);
        let held = child.left().cores;
        let most = ((held + credit + child.cores()) / 2).max(FEW_PER_CORE * child.cores());
        credit > 0 && (held <= most || (child.idle_gpus() > 0 && self.pool.amount().gpus > 0))
    }

    /// Cores of work that the children may be handed now, all together.
    pub(super) fn wanted(&self) -> u64 {
        self.children.keys().map(|rank| self.credit(*rank).cores).sum()
    }

    /// Cores without work, as far as the parent knows.
    pub(super) fn idle_cores(&self) -> u64 {
        self.children.values().map(Child::idle_cores).sum()
    }

    /// Work that children hold and have not started, as far as the parent knows.
    pub(super) fn unstarted(&self) -> Unstarted {
        self.children.values().fold(Unstarted::default(), |sum, child| sum.and(child.unstarted()))
    }

    /// Whether every child was supplied with more than its slots run at once: an end leaves no slot idle then.
    pub(super) fn has_reserve(&self) -> bool {
        self.children.values().all(|child| child.cores() == 0 || child.left().cores > child.cores())
    }

    /// Work that children hold and have not ended, as far as the parent knows.
    pub(super) fn held(&self) -> Amount {
        self.children.values().map(Child::left).sum()
    }

    /// Whether children have told the end of all that they were handed.
    pub(super) fn holds_nothing(&self) -> bool {
        self.children.values().all(|child| child.held.amount().tasks == 0)
    }

    /// Work that children have ended and will tell of later.
    pub(super) fn untold(&self) -> Amount {
        self.children.values().map(|child| child.untold).sum()
    }

    /// Hands work to the children that may have more, the emptiest first. `unfed` is how many tasks wait besides the pool,
    /// `most` how many more may be out at once.
    pub(super) fn supply(&mut self, now: Micros, unfed: u64, mut most: u64, out: &mut ToChildren) {
        if self.closed || self.pool.is_empty() {
            return;
        }
        let mut order: Vec<(u64, Rank)> = Vec::new();
        for (&rank, child) in &self.children {
            if child.cores() > 0 && self.is_worth_a_message(rank) {
                order.push((child.left().cores * 1024 / child.cores(), rank));
            }
        }
        if order.is_empty() {
            return;
        }
        order.sort_unstable();
        // Handing out moves work from the pool to children: the sum stays as it is. Whatever the unfed ones take: it is only
        // for near the end that shares are cut.
        let waits = self.pool.amount();
        let mut shares = Shares {
            level: self.level(waits.cores.saturating_add(unfed)),
            rest: 0.0,
            unfed,
            gpus: waits.gpus.saturating_add(unfed).saturating_add(self.held().gpus),
        };
        for (_, rank) in order {
            if most == 0 || self.pool.is_empty() {
                break;
            }
            most -= self.hand(now, rank, &mut shares, most, out);
        }
    }

    /// The cores of work for each core up to which children may be filled, so that what waits, so many cores of it, goes to
    /// those that have the least (water-filling); infinite where there is enough for all.
    fn level(&self, waits: u64) -> f64 {
        if waits >= self.wanted() {
            return f64::INFINITY;
        }
        let there = self.children.values().filter(|child| child.cores() > 0);
        let mut filled: Vec<(f64, f64)> =
            there.map(|child| (child.left().cores as f64 / child.cores() as f64, child.cores() as f64)).collect();
        filled.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (mut work, mut cores) = (waits as f64, 0.0);
        for (ratio, own) in filled {
            if cores > 0.0 && work <= ratio * cores {
                break;
            }
            work += ratio * own;
            cores += own;
        }
        work / cores.max(1.0)
    }

    /// Hands one child its share; returns the number of tasks.
    fn hand(&mut self, now: Micros, rank: Rank, shares: &mut Shares, most: u64, out: &mut ToChildren) -> u64 {
        let credit = self.credit(rank);
        let child = &self.children[&rank];
        let capacity = child.capacity.expect("only children that are there have credit");
        // Near the end nobody takes more than a fair share of what is left; nor ever, beyond one task ahead of each slot, than
        // his part of what waits here: news of the others is late, and what is kept back makes good what it leads to. But
        // work for what is idle is always fair.
        let held = child.left();
        let part_of_waiting = part(self.pool.amount().cores.saturating_add(shares.unfed), child.cores(), self.cores);
        let one_ahead = (2 * child.cores()).saturating_sub(held.cores);
        let cores = shares.cores(child).min(part_of_waiting.max(one_ahead)).max(child.idle_cores());
        let gpus = part(shares.gpus, child.gpus(), self.gpus).saturating_sub(held.gpus).max(child.idle_gpus());
        let share = Share { tasks: most, cores: credit.cores.min(cores), gpus: credit.gpus.min(gpus) };
        // Another node than the one to avoid, unless nothing else could take the task.
        let elsewhere = |need: Resources, node: NodeId| {
            let here = |c: &Capacity| c.node == Some(node);
            let could = |c: &&Capacity| c.total.cores > 0 && c.widest.fits(need);
            !here(&capacity) || self.children.values().filter_map(|c| c.capacity.as_ref()).filter(could).all(here)
        };
        let fits = |need: Resources, avoid: Option<NodeId>| {
            capacity.widest.fits(need) && avoid.is_none_or(|node| elsewhere(need, node))
        };
        let ranges = self.pool.take(share, fits);
        if ranges.is_empty() {
            return 0;
        }
        let child = self.children.get_mut(&rank).expect("the child was just looked at");
        if held.tasks == 0 {
            child.heard_us = now;
        }
        ranges.iter().for_each(|given| child.held.insert(*given));
        let handed: Amount = ranges.iter().map(WorkRange::amount).sum();
        child.unseen.push_back(handed.into());
        child.hands = child.hands.wrapping_add(1);
        out.push((rank, Down::Hand { epoch: child.epoch, ranges }));
        handed.tasks
    }

    /// Where children have idle cores and nothing waits for them, asks others for work that they have not started.
    pub(super) fn balance(&mut self, now: Micros, out: &mut ToChildren) {
        if self.closed {
            return;
        }
        self.balanced_us = now;
        let (mut idle, mut idle_gpus, mut idle_children) = (0, 0, 0);
        for child in self.children.values().filter(|child| child.idle_cores() > 0) {
            idle += child.idle_cores();
            idle_gpus += child.idle_gpus();
            idle_children += child.cores();
        }
        let asked: u64 = self.children.values().filter_map(|child| child.recall).sum();
        let mut missing = idle.saturating_sub(asked);
        while missing > 0 {
            let Some((rank, unstarted)) = self.richest(now, idle_gpus > 0) else { return };
            let cores = self.children[&rank].cores().max(1);
            // Idle cores first; what remains is shared in proportion to the cores, so that it is not asked for twice.
            let urgent = missing.min(unstarted);
            let shared = (unstarted - urgent) * idle_children / (idle_children + cores);
            self.ask_back(now, rank, urgent + shared, idle_gpus > 0, out);
            missing -= urgent;
        }
    }

    /// The child that can give back the most: work not started, in cores, that its own cores would not start before an
    /// answer is back; of that which takes GPUs only where it is `for_gpus` too.
    fn richest(&self, now: Micros, for_gpus: bool) -> Option<(Rank, u64)> {
        let candidates = self.children.iter().filter_map(|(rank, child)| {
            let (from, unstarted) = self.may_be_asked(child)?;
            let unstarted = unstarted.recallable(for_gpus);
            (from <= now && unstarted > 0).then_some((*rank, unstarted))
        });
        candidates.max_by_key(|(rank, unstarted)| (*unstarted, std::cmp::Reverse(*rank)))
    }

    /// From when on the child may be asked for work that it has not started, and how much of it there is. A child of
    /// which nothing has ended for longer than its pace and the time to start all of it runs tasks longer than the mean.
    fn may_be_asked(&self, child: &Child) -> Option<(Micros, Unstarted)> {
        let unstarted = child.unstarted();
        if child.recall.is_some() || unstarted.cores == 0 {
            return None;
        }
        let again = match child.asked_at >= self.progress {
            true => child.asked_us.saturating_add(self.pace_us << child.asked_times.min(20)),
            false => 0,
        };
        // The time in which its own cores come to all of it, if their tasks end one after the other. Those of long tasks may
        // as well end all at once: a recall that finds nothing is cheap beside them.
        let mean_us = self.durations.mean_us().unwrap_or(f64::INFINITY);
        let started_in_us = unstarted.cores as f64 / child.cores().max(1) as f64 * mean_us;
        let round_trip_us = self.policy.round_trip_us as f64;
        let too_soon = started_in_us <= round_trip_us / 2.0 && mean_us <= LONG_IN_ROUND_TRIPS * round_trip_us;
        let from = if too_soon { child.heard_us + self.pace_us + started_in_us.ceil() as Micros } else { 0 };
        Some((from.max(again), unstarted))
    }

    /// When work may be asked back that could not be at the last `balance`, if cores are idle.
    pub(super) fn next_tick(&self) -> Option<Micros> {
        if self.closed || self.idle_cores() == 0 {
            return None;
        }
        let from = self.children.values().filter_map(|child| self.may_be_asked(child)).map(|(from, _)| from);
        from.filter(|from| *from > self.balanced_us).min()
    }

    fn ask_back(&mut self, now: Micros, rank: Rank, cores: u64, gpus: bool, out: &mut ToChildren) {
        let child = self.children.get_mut(&rank).expect("only a child is asked");
        child.recall = Some(cores);
        child.asked_times = if child.asked_at == self.progress { child.asked_times + 1 } else { 0 };
        (child.asked_at, child.asked_us) = (self.progress, now);
        out.push((rank, Down::Recall { epoch: child.epoch, cores, gpus }));
    }

    /// Asks children for so many cores of work that has not started, for the parent's own parent: whether they would
    /// start it too soon for that, the one that asks has judged. Returns whether an answer is out.
    pub(super) fn ask_back_for_parent(
        &mut self,
        now: Micros,
        mut cores: u64,
        gpus: bool,
        out: &mut ToChildren,
    ) -> bool {
        while cores > 0 {
            let Some((rank, unstarted)) = self.richest(Micros::MAX, gpus) else { break };
            let part = cores.min(unstarted);
            self.ask_back(now, rank, part, gpus, out);
            cores -= part;
        }
        self.recalling()
    }

    /// Whether an answer to a recall is out.
    pub(super) fn recalling(&self) -> bool {
        self.children.values().any(|child| child.recall.is_some())
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
        self.set_capacity(rank, None);
        let child = self.children.get_mut(&rank).expect("the child was just looked at");
        child.epoch += 1;
        child.stage = Stage::Lost;
        child.invited = false;
        child.forget();
        self.progress += 1;
        let held = child.held.take_all();
        let one = |work, index| WorkRange { work, range: IndexRange::one(index) };
        held.into_iter()
            .flat_map(|given| (given.range.start..given.range.end).map(move |index| one(given.work, index)))
            .map(|task| FailedAttempt { task, node, crashed: true })
            .collect()
    }

    /// Everything that waits or is held, for the checks.
    pub(super) fn everything(&self) -> impl Iterator<Item = WorkRange> + '_ {
        self.pool.iter().chain(self.children.values().flat_map(|child| child.held.iter()))
    }

    /// Checks what must hold after every step.
    pub(super) fn check(&self) -> Result<(), Violation> {
        let (cores, gpus) = self.children.values().fold((0, 0), |(c, g), child| (c + child.cores(), g + child.gpus()));
        if (cores, gpus) != (self.cores, self.gpus) {
            return Err(Violation(format!(
                "{} cores and {} GPUs counted, {cores} and {gpus} there",
                self.cores, self.gpus
            )));
        }
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
