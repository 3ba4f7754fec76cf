//! How much each child is handed, and when: credit, and fair shares where there is not enough for all. See `README.md`,
//! "Demand and lookahead".

use super::{Child, Family, Look, ToChildren};
use crate::schedule::Micros;
use crate::schedule::message::{Amount, Capacity, Down, WorkRange};
use crate::schedule::policy::Policy;
use crate::schedule::pool::{Kind, Share};
use crate::task::{NodeId, Rank, Resources};

/// The part `own` of `everyones` of `all`, rounded up.
pub(super) fn part(all: u64, own: u64, everyones: u64) -> u64 {
    let part = (u128::from(all) * u128::from(own)).div_ceil(u128::from(everyones.max(1)));
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// What is fair for each child while work is handed out.
struct Shares {
    /// News of others are on their way: only what is idle gets work now.
    gathers: bool,
    /// Cores of work for each core of a child.
    level: f64,
    /// What was left over of the children before, since tasks are whole.
    rest: f64,
    /// Cores of work that wait; and of those and what is likely left with all children, for each of their cores, where that
    /// is estimated.
    waits: u64,
    fair: Option<f64>,
    /// GPUs of all work that waits or is held.
    gpus: u64,
}

impl Shares {
    /// Cores of work that the child should have on top of what it has, by the level.
    fn filling(&mut self, cores: u64, likely_left: f64) -> u64 {
        if self.level.is_infinite() {
            return u64::MAX;
        }
        let exact = (self.level * cores as f64 - likely_left).max(0.0) + self.rest;
        self.rest = exact.fract();
        exact as u64
    }
}

impl Family {
    /// Cores of work that the child should hold by what is known of durations, growth left aside.
    pub(super) fn target(&self, rank: Rank) -> u64 {
        let Some(capacity) = self.children[&rank].capacity else { return 0 };
        let horizon = capacity.horizon_us + self.policy.horizon_us(self.pace_us);
        let per_core = self.policy.held_per_core(horizon, self.durations.mean_us());
        // Before durations are known, one task ahead lies ready where several workers draw on it; not before all children are
        // there, since the first would take what the others need.
        let first = self.all_answered && capacity.workers > 1 && self.durations.mean_us().is_none();
        let per_core = if first { self.target_before_any_end() } else { per_core };
        // A trial has nothing ahead.
        let child = &self.children[&rank];
        let per_core = if child.conduct.is_trusted() { per_core } else { 1.0 };
        (child.cores() as f64 * per_core).ceil() as u64
    }

    /// Cores of work for each core of a child of several workers, before durations are known.
    fn target_before_any_end(&self) -> f64 {
        if self.any_ended { 2.0 } else { self.first_per_core.max(2) as f64 }
    }

    /// Notes what waits for each core, before anything has ended: a part of it may be handed out on no knowledge at all, since
    /// long before the rest is gone it is known. Of functions alone, which may be far shorter than the way of news up the
    /// tree. Not where ranges are short: each costs a parent time, and they may differ.
    fn note_what_waits(&mut self) {
        const IN_A_RANGE: u64 = 64;
        if self.any_ended {
            return;
        }
        let waits = self.pool.amount();
        let plenty = waits.tasks >= IN_A_RANGE * (self.pool.ranges() as u64).max(1)
            && self.pool.first().is_some_and(|work| work.calls);
        let all = waits.cores / u64::from(self.capacity.total.cores.max(1));
        self.first_per_core = if plenty { (all / self.first_one_in).min(self.policy.most_first_per_core) } else { 0 };
    }

    /// What the child may be handed now. Its GPUs are supplied as far ahead as its cores are.
    fn credit(&self, rank: Rank) -> Share {
        let child = &self.children[&rank];
        let limit = if self.any_ended { child.limit } else { u64::MAX };
        let (held, may_hold) = (child.left(), self.target(rank).min(limit));
        let for_gpus = if self.any_ended { may_hold } else { may_hold.min(2 * child.cores()) };
        let gpus = (for_gpus * child.gpus()).div_ceil(child.cores().max(1));
        // Of what may have taken ranks with it one for a node, since a node may be what it takes.
        let apart = child.capacity.map_or(0, |capacity| u64::from(capacity.nodes));
        Share {
            tasks: u64::MAX,
            cores: may_hold.saturating_sub(held.cores),
            gpus: gpus.saturating_sub(held.gpus),
            apart: apart.saturating_sub(held.apart),
        }
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
    pub(in crate::schedule) fn wanted(&self) -> u64 {
        self.children.keys().map(|rank| self.credit(*rank).cores).sum()
    }

    /// Whether some child may be handed work now, if there is any; `unfed` tasks wait besides the pool. Notes what it finds: it
    /// costs the same however many children there are, as long as they have enough or news are gathered.
    pub(in crate::schedule) fn lacks_work(&mut self, now: Micros, unfed: u64) -> bool {
        if self.closed {
            return false;
        }
        self.note_what_waits();
        let lacks_for_gpus = self.sums.idle_gpus > 0 && (unfed > 0 || self.pool.amount().gpus > 0);
        if let Some(shares_at) = self.shares_at_us {
            return now >= shares_at || self.sums.idle_cores > 0 || lacks_for_gpus;
        }
        match self.look {
            // Work for GPUs may have come.
            Look::Nobody => lacks_for_gpus,
            Look::Everybody => true,
            Look::One(rank) => {
                let mean_us = self.durations.mean_us();
                let has_changed = match (mean_us, self.looked_mean_us) {
                    (Some(mean), Some(known)) => (mean - known).abs() > known / 8.0,
                    _ => mean_us.is_some(),
                };
                let lacks = has_changed || lacks_for_gpus || self.is_worth_a_message(rank);
                self.look = if lacks { Look::Everybody } else { Look::Nobody };
                lacks
            }
        }
    }

    /// Hands work to the children that may have more, the emptiest first. `unfed` is how many tasks wait besides the pool,
    /// `most` how many more may be out at once.
    pub(in crate::schedule) fn supply(&mut self, now: Micros, unfed: u64, mut most: u64, out: &mut ToChildren) {
        if self.pool.is_empty() || most == 0 {
            self.shares_at_us = None;
            return;
        }
        if !self.lacks_work(now, unfed) {
            return;
        }
        let mut order: Vec<(u64, Rank)> = Vec::new();
        for (&rank, child) in &self.children {
            if child.cores() > 0 && self.is_worth_a_message(rank) {
                order.push((child.left().cores * 1024 / child.cores(), rank));
            }
        }
        self.looked_mean_us = self.durations.mean_us();
        if order.is_empty() {
            (self.shares_at_us, self.look) = (None, Look::Nobody);
            return;
        }
        // Some may lack more than they are handed.
        self.look = Look::Everybody;
        let before = (self.pool.amount(), self.held());
        // When all have answered and nothing has ended, no news are under way.
        let is_start = self.all_answered && !self.any_ended;
        let gathers = !is_start && self.barren != Some(before) && {
            let gather_us = if self.children.len() > 1 { Policy::gather_us(self.pace_us) } else { 0 };
            now < *self.shares_at_us.get_or_insert(now + gather_us)
        };
        if gathers {
            order.retain(|(_, rank)| {
                let child = &self.children[rank];
                child.idle_cores() > 0 || child.idle_gpus() > 0
            });
            if order.is_empty() {
                return;
            }
        }
        order.sort_unstable();
        // Handing out moves work from the pool to children: the sum stays as it is. Whatever the unfed ones take: it is only
        // for near the end that shares are cut.
        let (waiting, held) = before;
        let waits = waiting.cores.saturating_add(unfed);
        let gpus = waiting.gpus.saturating_add(unfed).saturating_add(held.gpus);
        let fair = self.short_us().map(|_| {
            let trusted = self.children.values().filter(|child| child.conduct.is_trusted());
            let left: f64 = trusted.map(|child| self.likely_left(now, child)).sum();
            (waits as f64 + left) / f64::from(self.capacity.total.cores.max(1))
        });
        let mut shares = Shares { gathers, level: self.level(now, waits), rest: 0.0, waits, fair, gpus };
        let mut handed = 0;
        for (_, rank) in order {
            if most == 0 || self.pool.is_empty() {
                break;
            }
            let tasks = self.hand(now, rank, &mut shares, most, out);
            most -= tasks;
            handed += tasks;
        }
        if self.pool.is_empty() {
            self.shares_at_us = None;
        }
        if !gathers {
            self.shares_at_us = None;
            self.barren = (handed == 0).then_some(before);
        }
    }

    /// When work is to be shared out next, if nothing else happens.
    pub(in crate::schedule) fn next_sharing(&self) -> Option<Micros> {
        self.shares_at_us.filter(|_| !self.closed && !self.pool.is_empty())
    }

    /// The cores of work for each core up to which children may be filled, so that what waits, so many cores of it, goes to
    /// those that have the least (water-filling); infinite where there is enough for all.
    fn level(&self, now: Micros, waits: u64) -> f64 {
        if waits >= self.wanted() {
            return f64::INFINITY;
        }
        let there = self.children.values().filter(|child| child.cores() > 0);
        let ratio = |child: &Child| self.likely_left(now, child) / child.cores() as f64;
        let mut filled: Vec<(f64, f64)> = there.map(|child| (ratio(child), child.cores() as f64)).collect();
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

    /// Cores of work that the child likely has left by now: what it said is older the longer ago it spoke, and who spoke last
    /// would seem to have the least. Tasks that take longer than news are gathered are known one by one, and silence for
    /// longer than is usual tells nothing.
    fn likely_left(&self, now: Micros, child: &Child) -> f64 {
        child.likely_left(now.saturating_sub(child.spoke_us).min(2 * self.pace_us), self.short_us())
    }

    /// The mean duration, where it is that of short tasks.
    fn short_us(&self) -> Option<f64> {
        let gather_us = Policy::gather_us(self.pace_us) as f64;
        self.durations.mean_us().filter(|mean| *mean <= gather_us)
    }

    /// Cores of work that children have likely ended and have not told of.
    pub(in crate::schedule) fn likely_ended(&self, now: Micros) -> u64 {
        let ended = |child: &Child| child.left().cores as f64 - self.likely_left(now, child);
        self.children.values().map(ended).sum::<f64>().max(0.0) as u64
    }

    /// Hands one child its share; returns the number of tasks.
    fn hand(&mut self, now: Micros, rank: Rank, shares: &mut Shares, most: u64, out: &mut ToChildren) -> u64 {
        let credit = self.credit(rank);
        let first = (!self.any_ended).then(|| self.target(rank));
        let child = &self.children[&rank];
        let capacity = child.capacity.expect("only children that are there have credit");
        let held = child.left();
        let (idle, idle_gpus) = (child.idle_cores(), child.idle_gpus());
        // Work for what is idle is always fair, and so much of short tasks that it is not idle again before the news of all
        // have come. Else, near the end, nobody takes more than fills it as far as all can be filled; nor ever, beyond one task
        // ahead of each slot, more than its part of a half of what waits here: news of the others is late, and what is kept
        // back makes good what that leads to.
        let is_near_end = shares.level.is_finite();
        let until_shared = self.short_us().filter(|_| shares.gathers && is_near_end);
        let until_shared =
            until_shared.map(|mean| (idle as f64 * Policy::gather_us(self.pace_us) as f64 / mean.max(0.01)) as u64);
        let (cores, gpus) = if shares.gathers && (idle == 0 || (is_near_end && until_shared.is_none())) {
            (idle, idle_gpus)
        } else {
            let likely_left = self.likely_left(now, child);
            let half = match shares.fair {
                Some(fair) => ((fair * child.cores() as f64 - likely_left).max(0.0) / 2.0).ceil() as u64,
                None => part(shares.waits.div_ceil(2), child.cores(), u64::from(self.capacity.total.cores)),
            };
            let one_ahead = (2 * child.cores()).saturating_sub(held.cores);
            let gpus = part(shares.gpus, child.gpus(), u64::from(self.capacity.total.gpus)).saturating_sub(held.gpus);
            let fair = shares.filling(child.cores(), likely_left).min(half.max(one_ahead));
            let fair = fair.min(until_shared.unwrap_or(u64::MAX));
            let gpus = if until_shared.is_some() { idle_gpus } else { gpus.max(idle_gpus) };
            (fair.max(idle), gpus)
        };
        // GPUs that are idle need cores for what runs on them.
        let waiting = self.pool.amount();
        let for_gpus = part(waiting.gpu_cores, idle_gpus, waiting.gpus).min(waiting.gpu_cores);
        let cores = credit.cores.min(cores.max(for_gpus));
        let share = Share { tasks: most, cores, gpus: credit.gpus.min(gpus), apart: credit.apart };
        if share.cores == 0 {
            return 0;
        }
        // Another node than the one to avoid, unless nothing else could take the task.
        let elsewhere = |need: Resources, node: NodeId| {
            let here = |c: &Capacity| c.node == Some(node);
            let could = |c: &Capacity| c.total.cores > 0 && c.widest.fits(need);
            !here(&capacity) || self.children.values().filter_map(Child::offered).filter(could).all(|c| here(&c))
        };
        // A task that may have taken ranks with it should not take the parent's own: not as long as another could run it.
        let is_own = self.own == Some(rank) && capacity.workers == 1;
        let others_could = |need: Resources| {
            let others = self.children.iter().filter(|(other, child)| **other != rank && child.cores() > 0);
            others.filter_map(|(_, child)| child.capacity).any(|capacity| capacity.widest.fits(need))
        };
        let fits = |kind: Kind| {
            capacity.widest.fits(kind.shape)
                && kind.avoid.is_none_or(|node| elsewhere(kind.shape, node))
                && !(kind.crashed && is_own && others_could(kind.shape))
        };
        // A trial is no task beside those that failed: a part of the input may be bad.
        let ranges = match child.conduct.is_trusted() {
            true => self.pool.take(share, fits),
            false => self.pool.take_from_end(share, fits),
        };
        if ranges.is_empty() {
            return 0;
        }
        let child = self.children.get_mut(&rank).expect("the child was just looked at");
        if held.tasks == 0 {
            child.heard_us = now;
        }
        ranges.iter().for_each(|given| child.held.insert(*given));
        if let Some(first) = first {
            // It grows from there.
            child.limit = child.limit.max(first.min(child.left().cores));
        }
        let handed: Amount = ranges.iter().map(WorkRange::amount).sum();
        child.unseen.push_back(handed.into());
        child.hands = child.hands.wrapping_add(1);
        out.push((rank, Down::Hand { epoch: child.epoch, ranges }));
        self.on_trial(now, rank);
        self.recount(rank);
        handed.tasks
    }
}
