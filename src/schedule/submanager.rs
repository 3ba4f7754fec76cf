//! A sub-manager: a child of its parent, a parent to its children; work goes through it down, reports up.

use super::Micros;
use super::family::{Family, ToChildren, Violation};
use super::message::{Amount, Capacity, Down, Report, Up, WorkRange};
use super::policy::Policy;
use super::unwritten::Ended;
use super::uplink::{Load, Uplink};
use crate::task::{BundleId, IndexRange, RangeSet, Rank};
use std::collections::BTreeMap;

/// What a sub-manager wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubAction {
    /// Tell the parent.
    ToParent(Up),
    /// Tell a child.
    ToChild(Rank, Down),
    /// Everything below has ended; the role is over.
    Done,
}

/// A recall of the parent that is not answered.
#[derive(Debug)]
struct Owed {
    /// Still to be found.
    cores: u64,
    /// Children who were asked for it and have not answered.
    asked: Vec<Rank>,
}

/// The sub-manager's state.
#[derive(Debug)]
pub struct SubManager {
    family: Family,
    uplink: Uplink,
    /// The last capacity that the parent was told; `None` before the first hello under this epoch.
    told: Option<Capacity>,
    /// The parent's recall, while children are asked for it.
    owed: Option<Owed>,
    draining: bool,
    /// What was cancelled: it goes up, not out again.
    cancelled: BTreeMap<BundleId, RangeSet>,
    ending: bool,
    done: bool,
}

impl SubManager {
    /// A sub-manager of these children.
    pub fn new(policy: Policy, children: &[Rank]) -> Self {
        Self {
            // The first of its children is on its own rank: see `Tree`.
            family: Family::new(policy, children).on_rank(children.first().copied()),
            uplink: if children.len() > 1 { Uplink::gathering(&policy) } else { Uplink::new(&policy) },
            told: None,
            owed: None,
            draining: false,
            cancelled: BTreeMap::new(),
            ending: false,
            done: false,
        }
    }

    /// It keeps this segment: reports come with the places of their records there, and what has ended is told when they
    /// are [written](Self::on_written).
    pub fn keeping(mut self, segment: u32) -> Self {
        self.uplink.keep(segment);
        self
    }

    /// Opens the links to the children.
    pub fn open(&mut self, out: &mut Vec<SubAction>) {
        let mut down = ToChildren::new();
        self.family.open(&mut down);
        Self::send(down, out);
    }

    fn send(down: ToChildren, out: &mut Vec<SubAction>) {
        out.extend(down.into_iter().map(|(rank, message)| SubAction::ToChild(rank, message)));
    }

    /// The parent's word.
    pub fn on_parent(&mut self, now: Micros, message: Down, out: &mut Vec<SubAction>) {
        let own = self.uplink.epoch;
        let current = |epoch: u32| epoch == own && own > 0;
        let mut down = ToChildren::new();
        match message {
            Down::Welcome { epoch, pace_us } if epoch > own => {
                if own > 0 {
                    self.restart(&mut down);
                }
                self.uplink.open(now, epoch, pace_us);
            }
            Down::Hand { epoch, ranges } if current(epoch) => {
                self.uplink.handed();
                for given in ranges {
                    if self.draining {
                        self.give_back(given);
                    } else {
                        self.family.pool.push_back(given);
                    }
                }
            }
            Down::Recall { epoch, cores, gpus } if current(epoch) => self.on_recall(cores, gpus, &mut down),
            Down::Cancel { epoch, bundle, range } if current(epoch) => {
                self.cancelled.entry(bundle).or_default().insert(range);
                let waiting = self.family.cancel(bundle, range, &mut down);
                waiting.into_iter().for_each(|given| self.give_back(given));
            }
            Down::Drain { epoch, grace_us } if current(epoch) => {
                self.draining = true;
                let waiting = self.family.pool.take_all();
                waiting.into_iter().for_each(|given| self.give_back(given));
                self.family.drain(grace_us, &mut down);
            }
            Down::End { epoch } if current(epoch) => {
                self.ending = true;
                self.family.end(&mut down);
            }
            _ => {}
        }
        Self::send(down, out);
        self.step(now, out);
    }

    fn restart(&mut self, down: &mut ToChildren) {
        self.family.restart(down);
        self.cancelled.clear();
        (self.told, self.owed) = (None, None);
        (self.draining, self.ending, self.done) = (false, false, false);
    }

    /// To the parent, soon: one message for what many children give back, not one for each.
    fn give_back(&mut self, given: WorkRange) {
        self.uplink.report.returned.push(given);
    }

    /// Gives back what waits here, and asks the children for the rest.
    fn on_recall(&mut self, cores: u64, gpus: bool, down: &mut ToChildren) {
        let waiting = self.family.pool.take_last(cores, gpus);
        let found: u64 = waiting.iter().map(WorkRange::cores).sum();
        waiting.into_iter().for_each(|given| self.give_back(given));
        // The parent may not have heard that slots are idle here: what they may get from the children stays.
        let unstarted = self.family.unstarted();
        let idle = if self.family.asked_in_vain() { 0 } else { self.family.idle_cores() };
        let of_gpus = if gpus && self.family.idle_gpus() == 0 { unstarted.gpu_cores } else { 0 };
        let spare = unstarted.recallable(false).saturating_sub(idle) + of_gpus;
        let missing = cores.saturating_sub(found).min(spare);
        let asked = self.family.ask_back_for_parent(missing, gpus, down);
        if asked.is_empty() {
            self.answer_recall();
        } else {
            self.owed = Some(Owed { cores: missing, asked });
        }
    }

    fn answer_recall(&mut self) {
        self.owed = None;
        self.uplink.report.recall_answered = true;
        self.uplink.hurry();
    }

    /// A child's word.
    pub fn on_child(&mut self, now: Micros, from: Rank, message: Up, out: &mut Vec<SubAction>) {
        let mut down = ToChildren::new();
        match message {
            Up::Hello { epoch, capacity } => {
                self.family.on_hello(now, from, epoch, capacity, &mut down);
            }
            Up::Report { epoch, report } => {
                if let Some((news, ended)) = self.family.on_report(now, from, epoch, report, &mut down) {
                    self.on_news(from, news, ended);
                }
                if self.family.take_stirred() {
                    self.uplink.stir();
                }
            }
            Up::Benched { epoch, node } => self.family.on_benched(from, epoch, node, &mut down),
            Up::Beat { epoch } => self.family.on_beat(from, epoch, &mut down),
            Up::Rank { epoch, rank, is_there } => self.family.on_coming(from, epoch, (rank, is_there), &mut down),
            Up::Bye { epoch } => self.family.on_bye(from, epoch),
        }
        Self::send(down, out);
        self.step(now, out);
    }

    /// `ended`: what the tasks are that it tells to have ended for good.
    fn on_news(&mut self, from: Rank, mut news: Report, ended: Amount) {
        let answered = news.recall_answered;
        for given in std::mem::take(&mut news.returned) {
            self.place_returned(given);
        }
        self.uplink.ended_below(Ended { sections: news.sections, work: ended, digest: news.digest });
        let report = &mut self.uplink.report;
        report.failed.append(&mut news.failed);
        report.attempts += news.attempts;
        report.tried.add(news.tried);
        report.attempt_cores += news.attempt_cores;
        report.busy_core_us += news.busy_core_us;
        if answered {
            self.no_longer_asked(from);
        }
    }

    /// A child has answered, or never will: the parent hears when all have, or enough was found. What comes later stays.
    fn no_longer_asked(&mut self, child: Rank) {
        if let Some(owed) = &mut self.owed {
            owed.asked.retain(|asked| *asked != child);
            if owed.asked.is_empty() || owed.cores == 0 {
                self.answer_recall();
            }
        }
    }

    /// Work that a child gave back: to the parent if it asked for it or it must not go out again, else to the pool.
    fn place_returned(&mut self, given: WorkRange) {
        let cancelled = self.cancelled.get(&given.work.bundle);
        let recalled = self.owed.as_ref().is_some_and(|owed| owed.cores > 0);
        if self.draining || recalled {
            if let Some(owed) = &mut self.owed {
                owed.cores = owed.cores.saturating_sub(given.cores());
            }
            self.give_back(given);
            return;
        }
        let Some(cancelled) = cancelled else { return self.family.pool.push_front(given) };
        let part = |range: IndexRange| WorkRange { work: given.work, range };
        let gone: Vec<_> = cancelled.overlapping(given.range).map(part).collect();
        let kept: Vec<_> = cancelled.missing(given.range).into_iter().map(part).collect();
        gone.into_iter().for_each(|given| self.give_back(given));
        kept.into_iter().rev().for_each(|given| self.family.pool.push_front(given));
    }

    /// A child is given up: what it held may have been running, and the manager decides about each task.
    pub fn on_lost(&mut self, now: Micros, child: Rank, out: &mut Vec<SubAction>) {
        let lost = self.family.on_lost(child);
        self.uplink.report.failed.extend(lost);
        self.no_longer_asked(child);
        self.uplink.hurry();
        self.step(now, out);
    }

    /// Its segment is written up to there.
    pub fn on_written(&mut self, now: Micros, end: u64, out: &mut Vec<SubAction>) {
        if self.uplink.written(end) {
            self.step(now, out);
        }
    }

    /// Nothing more will be written to its segment. What waits for that is given back as if it had not run, and so is what
    /// comes later.
    pub fn on_unwritable(&mut self, now: Micros, out: &mut Vec<SubAction>) {
        self.uplink.set_unwritable();
        self.step(now, out);
    }

    /// The next report must not wait: what goes with it grows large.
    pub fn hurry(&mut self) {
        self.uplink.flush();
    }

    /// Hands out, balances, and reports what is due. To be called when a tick is due.
    pub fn step(&mut self, now: Micros, out: &mut Vec<SubAction>) {
        let mut down = ToChildren::new();
        self.family.review(now, &mut down);
        self.family.supply(now, 0, u64::MAX, &mut down);
        self.family.balance(now, &mut down);
        Self::send(down, out);
        if self.uplink.epoch > 0 {
            self.introduce(out);
            if self.told.is_some() {
                let benched = |node| SubAction::ToParent(Up::Benched { epoch: self.uplink.epoch, node });
                out.extend(self.family.take_benched().into_iter().map(benched));
                let coming = |(rank, is_there)| Up::Rank { epoch: self.uplink.epoch, rank, is_there };
                out.extend(self.family.take_comings().into_iter().map(coming).map(SubAction::ToParent));
            }
            if self.ending {
                self.uplink.flush();
            }
            let load = self.load();
            self.uplink.supplied(load.held_cores);
            let unstarted = self.family.unstarted().and(self.family.pool.amount().into());
            if let Some(mut report) = self.uplink.take(now, load, unstarted, self.family.untold()) {
                if let Up::Report { report, .. } = &mut report {
                    report.likely_ended = self.family.likely_ended(now);
                }
                out.push(SubAction::ToParent(report));
            }
        }
        if self.ending && !self.done && self.family.all_gone() && self.uplink.is_written() {
            self.done = true;
            out.push(SubAction::ToParent(Up::Bye { epoch: self.uplink.epoch }));
            out.push(SubAction::Done);
        }
    }

    /// Says hello once every child is there, and tells the parent later when what they can run has changed.
    fn introduce(&mut self, out: &mut Vec<SubAction>) {
        let capacity = self.family.capacity();
        match self.told {
            None if self.family.complete() => {
                self.told = Some(capacity);
                out.push(SubAction::ToParent(Up::Hello { epoch: self.uplink.epoch, capacity }));
            }
            Some(told) if told != capacity => {
                self.told = Some(capacity);
                self.uplink.report.capacity = Some(Box::new(capacity));
                self.uplink.hurry();
            }
            _ => {}
        }
    }

    fn load(&self) -> Load {
        let held_cores = self.family.pool.amount().cores + self.family.held().cores;
        Load { held_cores, idle_cores: self.family.idle_cores() }
    }

    /// The epoch of the link to its parent: what came before it is forgotten.
    pub fn epoch(&self) -> u32 {
        self.uplink.epoch
    }

    /// Whether the next task of each slot lies ready with the children: the end of one is no hurry then.
    pub fn has_reserve(&self) -> bool {
        self.family.has_reserve()
    }

    /// When `step` should be called next, if nothing else happens.
    pub fn next_tick(&self) -> Option<Micros> {
        let report = self.uplink.next_tick(self.load());
        let supply = self.family.next_sharing().into_iter().chain(self.family.next_recall());
        report.into_iter().chain(supply).chain(self.family.next_review()).min()
    }

    /// Checks what must hold after every step.
    pub fn check(&self) -> Result<(), Violation> {
        self.family.check()
    }

    /// What one child holds, for the checks.
    pub fn held_by(&self, child: Rank) -> impl Iterator<Item = IndexRange> + '_ {
        self.family.held_by(child)
    }

    /// All that it was handed and has not told back, for the checks: what waits, what children hold, what later reports
    /// tell.
    pub fn holds(&self) -> impl Iterator<Item = IndexRange> + '_ {
        self.family.everything().map(|given| given.range).chain(self.uplink.tasks())
    }
}
