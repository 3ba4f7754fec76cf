//! How much each child is handed, and when: credit, and fair shares where there is not enough for all. See `README.md`,
//! "Demand and lookahead".

use super::{Child, Family, ToChildren};
use crate::schedule::Micros;
use crate::schedule::message::{Amount, Capacity, Down, WorkRange};
use crate::schedule::pool::Share;
use crate::task::{NodeId, Rank, Resources};

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

impl Family {
    /// Cores of work that the child should hold by what is known of durations, growth left aside.
    pub(super) fn target(&self, rank: Rank) -> u64 {
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
    pub(in crate::schedule) fn wanted(&self) -> u64 {
        self.children.keys().map(|rank| self.credit(*rank).cores).sum()
    }

    /// Hands work to the children that may have more, the emptiest first. `unfed` is how many tasks wait besides the pool,
    /// `most` how many more may be out at once.
    pub(in crate::schedule) fn supply(&mut self, now: Micros, unfed: u64, mut most: u64, out: &mut ToChildren) {
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
}
