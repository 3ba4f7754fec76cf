//! Nodes where nearly everything fails while elsewhere it succeeds: which children are suspected to lie on one, and which are
//! benched. See `README.md`, "Bad nodes".

use super::{Child, Family, Look, ToChildren};
use crate::schedule::Micros;
use crate::schedule::message::Tried;
use crate::task::{NodeId, Rank};

/// Nobody is judged by fewer attempts than this, nor by fewer than it has cores.
const FEWEST_ATTEMPTS: u64 = 16;
/// Of so many attempts one may have ended well where nearly all have failed. Where most tasks fail everywhere, a few may well
/// fail in a row.
const NEARLY_ALL: u64 = 20;
/// So many times as much has to end well as to fail elsewhere, before one is benched.
const FAR_MORE: u64 = 4;
/// Trials of a suspect that have to fail, apart from each other, before it is benched.
const FAILED_TRIALS: u32 = 4;
/// The pause between two trials of a suspect doubles so many times at most.
const MOST_DOUBLINGS: u32 = 12;

impl Tried {
    fn since(self, before: Tried) -> Tried {
        Tried { ok: self.ok.saturating_sub(before.ok), failed: self.failed.saturating_sub(before.failed) }
    }

    fn has_nearly_all_failed(self) -> bool {
        self.failed > 0 && self.failed / (NEARLY_ALL - 1) >= self.ok
    }

    /// Forgets the older half, as often as it takes to have no more than twice as many as are enough: and still enough.
    fn forget_beyond(&mut self, enough: u64) {
        while self.all() > 2 * enough {
            *self = Tried { ok: self.ok / 2, failed: self.failed / 2 };
        }
    }

    fn verdict(self, enough: u64) -> Verdict {
        if self.all() >= enough && self.has_nearly_all_failed() { Verdict::Fails } else { Verdict::Unknown }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Verdict {
    #[default]
    Unknown,
    /// Nearly all of it failed.
    Fails,
}

/// Nearly all has failed on a child, and it is not known to fail elsewhere too.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    since_us: Micros,
    /// Cores of work that it may have for a trial: none in a pause.
    allowed: u64,
    /// When it may have a trial, or more than the one that it has and that has not failed so far.
    next_us: Micros,
    /// It was handed work since it was suspected, or since the last trial failed.
    is_on_trial: bool,
    pause_us: Micros,
    doublings: u32,
    /// Trials that have failed since what the others ended counts, and what they had ended then.
    counts: bool,
    failed_trials: u32,
    others_before: Tried,
}

/// What is known of how attempts end on a child, and what follows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Conduct {
    lately: Tried,
    verdict: Verdict,
    suspicion: Option<Suspicion>,
    benched: Option<NodeId>,
}

impl Conduct {
    /// Of a child that is not there any more: it may come back as another.
    pub(super) fn forget(&mut self) {
        if !self.is_benched() {
            *self = Self::default();
        }
    }

    fn is_benched(&self) -> bool {
        self.benched.is_some()
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspicion.is_some()
    }

    /// Whether it is supplied like any other.
    pub(super) fn is_trusted(&self) -> bool {
        !self.is_benched() && self.suspicion.is_none()
    }

    /// Whether how long attempts took here says something of tasks, and how fast more may be handed out: not where nearly all
    /// has failed, unless it is known to fail elsewhere too.
    pub(super) fn tells_of_durations(&self) -> bool {
        self.is_trusted() && !(self.verdict == Verdict::Unknown && self.lately.has_nearly_all_failed())
    }

    /// How many of so many cores may have work.
    pub(super) fn usable(&self, cores: u64) -> u64 {
        match self.suspicion {
            _ if self.is_benched() => 0,
            Some(suspicion) => suspicion.allowed.min(cores),
            None => cores,
        }
    }
}

impl Child {
    pub(super) fn told_cores(&self) -> u64 {
        self.capacity.map_or(0, |capacity| u64::from(capacity.total.cores))
    }

    fn enough_attempts(&self) -> u64 {
        self.told_cores().max(FEWEST_ATTEMPTS)
    }

    /// When a suspect is allowed more, if nothing is heard of it by then. What it had begun before it was suspected is no
    /// trial, and has to end first: tasks beside each other may all be bad.
    fn reviewed_at(&self) -> Option<Micros> {
        let suspicion = self.conduct.suspicion?;
        let left = self.left().cores;
        let uses_all = if suspicion.allowed == 0 { left == 0 } else { left >= suspicion.allowed };
        (uses_all && suspicion.allowed < self.told_cores()).then_some(suspicion.next_us)
    }
}

impl Family {
    /// Attempts of a child ended.
    pub(super) fn on_tried(&mut self, now: Micros, rank: Rank, told: Tried, out: &mut ToChildren) {
        // Where all children are on one node there is nobody to compare with.
        let child = self.children.get_mut(&rank).expect("the caller knows the child");
        let node = child.capacity.and_then(|capacity| capacity.node);
        let Some(node) = node.filter(|_| self.capacity.node.is_none() && told.all() > 0) else { return };
        if !child.conduct.is_trusted() {
            // An earlier recall may have found less than all.
            self.take_back_all(rank, out);
        }
        let child = self.children.get_mut(&rank).expect("the caller knows the child");
        if child.conduct.is_benched() {
            return;
        }
        let enough = child.enough_attempts();
        let had_trial = child.conduct.suspicion.is_some_and(|suspicion| suspicion.is_on_trial);
        child.conduct.lately.add(told);
        child.conduct.lately.forget_beyond(enough);
        // What ends where nearly all fails tells nothing of other places: there may be two bad nodes.
        if child.conduct.suspicion.is_none() && !child.conduct.lately.has_nearly_all_failed() {
            self.tried_by_trusted.add(told);
        }
        let verdict = child.conduct.lately.verdict(enough);
        let before = std::mem::replace(&mut child.conduct.verdict, verdict);
        if verdict != before && (self.failing > 0 || verdict == Verdict::Fails) {
            self.judge(now, out);
        }
        let failed = had_trial && told.has_nearly_all_failed();
        if failed && self.on_failed_trial(now, rank) {
            self.bench(rank, node, out);
        }
    }

    /// Decides anew who is suspected: those where nearly all fails, if they are no more than half of all, and if others can take
    /// their place. To be called when a verdict has changed or who is there.
    fn judge(&mut self, now: Micros, out: &mut ToChildren) {
        let there = || self.children.values().filter(|child| child.told_cores() > 0);
        let fails = |child: &&Child| child.conduct.verdict == Verdict::Fails;
        self.failing = self.children.values().filter(fails).count();
        let (all, failing) = (there().count(), there().filter(fails).count());
        let may_suspect = self.capacity.node.is_none() && 2 * failing <= all;
        let can_replace = |child: &Child| {
            let widest = |child: &Child| child.capacity.map(|capacity| capacity.widest);
            let fits = |other: &Child| widest(other).zip(widest(child)).is_some_and(|(here, need)| here.fits(need));
            there().filter(|other| !fails(other)).any(fits)
        };
        let mut changed = Vec::new();
        for (&rank, child) in &self.children {
            let suspected = may_suspect && fails(&child) && child.told_cores() > 0 && can_replace(child);
            if !child.conduct.is_benched() && suspected != child.conduct.suspicion.is_some() {
                changed.push((rank, suspected));
            }
        }
        for &(rank, suspected) in &changed {
            if suspected { self.suspect(now, rank, out) } else { self.trust(rank) }
        }
        // Never the last. Who has not come yet may be another.
        let is_trusted = |child: &Child| child.told_cores() > 0 && child.conduct.is_trusted();
        if self.all_answered && !self.children.values().any(is_trusted) {
            let benched =
                self.children.iter().filter(|(_, child)| child.conduct.is_benched() && child.told_cores() > 0);
            let benched: Vec<Rank> = benched.map(|(rank, _)| *rank).collect();
            for &rank in &benched {
                self.children.get_mut(&rank).expect("it was just looked at").conduct = Conduct::default();
                self.trust(rank);
            }
            self.failing -= benched.len();
        }
    }

    fn suspect(&mut self, now: Micros, rank: Rank, out: &mut ToChildren) {
        // Some of it counted before it was the most.
        let failed = self.children[&rank].conduct.lately.failed;
        self.tried_by_trusted.failed = self.tried_by_trusted.failed.saturating_sub(failed);
        let (pause_us, others_before) = (self.pace_us, self.tried_by_trusted);
        let child = self.children.get_mut(&rank).expect("the caller knows the child");
        child.conduct.suspicion = Some(Suspicion {
            since_us: now,
            allowed: 0,
            next_us: now + pause_us,
            is_on_trial: false,
            pause_us,
            doublings: 0,
            // What others ended before may be of another time: something that all need may have broken since.
            counts: others_before.ok < child.enough_attempts(),
            failed_trials: 0,
            others_before,
        });
        self.take_back_all(rank, out);
        self.on_standing(rank);
    }

    fn trust(&mut self, rank: Rank) {
        let child = self.children.get_mut(&rank).expect("the caller knows the child");
        child.conduct.suspicion = None;
        child.limit = child.limit.max(child.first_limit());
        self.progress += 1;
        self.on_standing(rank);
    }

    /// A suspect's trial failed. Whether it is to be benched.
    fn on_failed_trial(&mut self, now: Micros, rank: Rank) -> bool {
        let (mean_us, others, pace_us) = (self.durations.mean_us(), self.tried_by_trusted, self.pace_us);
        // Of those that are benched there are never more than others: what looks like bad nodes everywhere is something else.
        let there = || self.children.values().filter(|child| child.told_cores() > 0);
        let benched = there().filter(|child| child.conduct.is_benched()).count();
        let may_bench = 2 * (benched + 1) <= there().count();
        let child = self.children.get_mut(&rank).expect("the caller knows the child");
        let enough = child.enough_attempts();
        let Some(suspicion) = &mut child.conduct.suspicion else { return false };
        (suspicion.allowed, suspicion.is_on_trial) = (0, false);
        if suspicion.counts {
            suspicion.failed_trials += 1;
        } else if mean_us.is_some_and(|mean| now - suspicion.since_us >= mean as Micros) {
            // What others end from now on they likely began after this one failed.
            (suspicion.counts, suspicion.others_before, suspicion.doublings) = (true, others, 0);
        }
        let others = others.since(suspicion.others_before);
        let others_work = suspicion.counts && others.ok >= enough && others.ok >= FAR_MORE * others.failed;
        if suspicion.counts && others.failed >= enough && others.failed > others.ok {
            // Most fails elsewhere too.
            (child.conduct.lately, child.conduct.verdict) = (Tried::default(), Verdict::Unknown);
            self.failing -= 1;
            self.trust(rank);
            return false;
        }
        if others_work && may_bench && suspicion.failed_trials >= FAILED_TRIALS {
            return true;
        }
        if others_work && suspicion.failed_trials < FAILED_TRIALS {
            suspicion.doublings = 0;
        } else {
            suspicion.doublings = (suspicion.doublings + 1).min(MOST_DOUBLINGS);
        }
        suspicion.pause_us = pace_us << suspicion.doublings;
        suspicion.next_us = now + suspicion.pause_us;
        self.recount(rank);
        false
    }

    fn bench(&mut self, rank: Rank, node: NodeId, out: &mut ToChildren) {
        let child = self.children.get_mut(&rank).expect("the caller knows the child");
        (child.conduct.suspicion, child.conduct.benched) = (None, Some(node));
        self.benched_untold.push(node);
        self.take_back_all(rank, out);
        self.on_standing(rank);
    }

    /// Asks for all that the child has not started.
    fn take_back_all(&mut self, rank: Rank, out: &mut ToChildren) {
        let child = &self.children[&rank];
        let unstarted = child.unstarted().cores;
        if !self.closed && child.recall.is_none() && unstarted > 0 {
            self.recall(rank, unstarted, true, out);
        }
    }

    /// The child counts for more or less than before.
    fn on_standing(&mut self, rank: Rank) {
        (self.barren, self.look) = (None, Look::Everybody);
        self.capacity = self.add_capacities();
        self.recount(rank);
    }

    /// Work was handed to the child: where it is a trial, it has a pause's time to fail.
    pub(super) fn on_trial(&mut self, now: Micros, rank: Rank) {
        let child = self.children.get_mut(&rank).expect("the caller knows the child");
        if let Some(suspicion) = &mut child.conduct.suspicion {
            (suspicion.next_us, suspicion.is_on_trial) = (now + suspicion.pause_us, true);
        }
    }

    /// Gives suspects a trial whose pause is over, and twice as much work where what they have has not failed for as long.
    pub(in crate::schedule) fn review(&mut self, now: Micros, out: &mut ToChildren) {
        if std::mem::take(&mut self.is_other) && self.failing > 0 {
            self.judge(now, out);
        }
        if self.sums.suspects == 0 || self.closed {
            return;
        }
        let due = self.children.iter().filter(|(_, child)| child.reviewed_at().is_some_and(|at| at <= now));
        let due: Vec<Rank> = due.map(|(rank, _)| *rank).collect();
        for rank in due {
            let child = self.children.get_mut(&rank).expect("it was just looked at");
            let told_cores = child.told_cores();
            if let Some(suspicion) = &mut child.conduct.suspicion {
                suspicion.allowed = (2 * suspicion.allowed).clamp(1, told_cores);
                suspicion.next_us = now + suspicion.pause_us;
            }
            child.limit = child.limit.max(child.cores());
            (self.barren, self.look) = (None, Look::Everybody);
            self.recount(rank);
        }
    }

    /// When a suspect's pause is over.
    pub(in crate::schedule) fn next_review(&self) -> Option<Micros> {
        if self.sums.suspects == 0 || self.closed {
            return None;
        }
        self.children.values().filter_map(Child::reviewed_at).min()
    }

    /// A child says that a node below it is benched.
    pub(in crate::schedule) fn on_benched(&mut self, rank: Rank, epoch: u32, node: NodeId, out: &mut ToChildren) {
        if self.hears(rank, epoch, out) {
            self.benched_untold.push(node);
        }
    }

    /// The nodes that were benched, here or below, since this was asked last.
    pub(in crate::schedule) fn take_benched(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.benched_untold)
    }

    /// A new parent, or the old one under a new epoch, may not have heard which nodes are benched.
    pub(super) fn tell_of_benched(&mut self) {
        let benched = self.children.values().filter_map(|child| child.conduct.benched);
        self.benched_untold.extend(benched);
    }

    /// Checks what must hold of suspicions after every step.
    pub(super) fn check_standing(&self) -> Result<(), String> {
        let there = || self.children.iter().filter(|(_, child)| child.told_cores() > 0);
        if self.all_answered && there().next().is_some() && !there().any(|(_, child)| child.conduct.is_trusted()) {
            return Err("nobody is left who is not suspected or benched".to_owned());
        }
        let fails = |child: &&Child| child.conduct.verdict == Verdict::Fails;
        if self.failing != self.children.values().filter(fails).count() {
            return Err(format!("{} children are counted where nearly all fails", self.failing));
        }
        Ok(())
    }
}
