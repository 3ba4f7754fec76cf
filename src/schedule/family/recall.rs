//! Who is asked for work that has not started, and when. See `README.md`, "Recall".

use super::sharing::part;
use super::sums::Sums;
use super::{Child, Family, ToChildren};
use crate::schedule::Micros;
use crate::schedule::message::{Down, Unstarted};
use crate::task::Rank;

/// Tasks that take longer than so many round trips are long: see [`Family::may_be_asked`].
const LONG_IN_ROUND_TRIPS: f64 = 3.0;

impl Family {
    /// Where children have idle cores and nothing waits for them, asks others for work that they have not started.
    pub(in crate::schedule) fn balance(&mut self, now: Micros, out: &mut ToChildren) {
        if self.closed {
            return;
        }
        self.balanced_us = now;
        let Sums { idle_cores: idle, gpus_of_idle: idle_gpus, cores_of_idle: idle_children, .. } = self.sums;
        if idle < self.least_idle {
            // What was given back has found a place: asking for more may as well.
            self.progress += u64::from(self.least_idle < u64::MAX);
            self.least_idle = idle;
        }
        let missing = idle.saturating_sub(self.sums.asked);
        if missing == 0 || self.sums.unstarted.cores == 0 {
            return;
        }
        // Several are asked for a part of what is missing each, since news of what they have may be late.
        const MOST_ASKED: u64 = 16;
        let rich = self.rich(now, idle_gpus > 0);
        let all: u64 = rich.iter().map(|(_, unstarted)| unstarted).sum();
        let mut left = missing;
        let asks: Vec<_> = rich
            .into_iter()
            .map_while(|(rank, unstarted)| {
                let part = part(missing, unstarted, all).max(missing.div_ceil(MOST_ASKED));
                let urgent = part.min(unstarted).min(left);
                left -= urgent;
                (urgent > 0).then_some((rank, unstarted, urgent))
            })
            .collect();
        let rich_cores: u64 = asks.iter().map(|(rank, ..)| self.children[rank].cores()).sum();
        for (rank, unstarted, urgent) in asks {
            // Idle cores first; what remains is shared in proportion to the cores, so that it is not asked for twice.
            let shared = (unstarted - urgent) * idle_children / (idle_children + rich_cores).max(1);
            self.ask_back(now, rank, urgent + shared, idle_gpus > 0, out);
        }
    }

    /// The children that can give back work not started, in cores, that their own cores would not start before an answer is
    /// back, those with the most first; of that which takes GPUs only where it is `for_gpus` too.
    fn rich(&self, now: Micros, for_gpus: bool) -> Vec<(Rank, u64)> {
        let candidates = self.children.iter().filter_map(|(rank, child)| {
            let (from, unstarted) = self.may_be_asked(child)?;
            let unstarted = unstarted.recallable(for_gpus);
            (from <= now && unstarted > 0).then_some((*rank, unstarted))
        });
        let mut rich: Vec<_> = candidates.collect();
        rich.sort_unstable_by_key(|(rank, unstarted)| (std::cmp::Reverse(*unstarted), *rank));
        rich
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
    pub(in crate::schedule) fn next_recall(&self) -> Option<Micros> {
        if self.closed || self.sums.idle_cores == 0 || self.sums.unstarted.cores == 0 {
            return None;
        }
        let from = self.children.values().filter_map(|child| self.may_be_asked(child)).map(|(from, _)| from);
        from.filter(|from| *from > self.balanced_us).min()
    }

    fn ask_back(&mut self, now: Micros, rank: Rank, cores: u64, gpus: bool, out: &mut ToChildren) {
        let child = self.children.get_mut(&rank).expect("only a child is asked");
        child.asked_times = if child.asked_at == self.progress { child.asked_times + 1 } else { 0 };
        (child.asked_at, child.asked_us) = (self.progress, now);
        self.recall(rank, cores, gpus, out);
    }

    pub(super) fn recall(&mut self, rank: Rank, cores: u64, gpus: bool, out: &mut ToChildren) {
        let child = self.children.get_mut(&rank).expect("only a child is asked");
        child.recall = Some(cores);
        out.push((rank, Down::Recall { epoch: child.epoch, cores, gpus }));
        self.recount(rank);
    }

    /// Whether all that have work not started were asked for it and nothing has come of it.
    pub(in crate::schedule) fn asked_in_vain(&self) -> bool {
        let rich = self.children.values().filter(|child| child.unstarted().cores > 0);
        rich.into_iter().all(|child| child.recall.is_none() && child.asked_at >= self.progress)
    }

    /// Asks children for so many cores of work that has not started, for the parent's own parent: whether they would
    /// start it too soon for that, the one that asks has judged. Returns who is asked.
    pub(in crate::schedule) fn ask_back_for_parent(
        &mut self,
        cores: u64,
        gpus: bool,
        out: &mut ToChildren,
    ) -> Vec<Rank> {
        let rich = self.rich(Micros::MAX, gpus);
        let all: u64 = rich.iter().map(|(_, unstarted)| unstarted).sum();
        let (mut asked, mut left) = (Vec::new(), cores);
        for (rank, unstarted) in rich {
            let part = part(cores, unstarted, all).min(unstarted).min(left);
            if part == 0 {
                break;
            }
            self.recall(rank, part, gpus, out);
            asked.push(rank);
            left -= part;
        }
        asked
    }
}
