//! What every role may do, by the messages that it has received: an account beside the machines, kept from their words alone
//! and compared with what the machines say of themselves. What they do against it is a violation.
//!
//! Knows the protocol's rules and nothing of how the machines keep them.

use super::roles::Machine;
use crate::schedule::{Capacity, Down, Report, Settings, TaskRun, Up, Violation};
use crate::task::{IndexRange, NodeId, RangeSet, Rank};
use std::collections::{BTreeMap, BTreeSet};

/// A parent's end of a link.
#[derive(Debug, Default)]
struct Link {
    epoch: u32,
    /// Whether it has answered the welcome of this epoch.
    there: bool,
    given_up: bool,
    /// What it was handed and has not told back.
    out: RangeSet,
    /// How many of those tasks it said have ended, and their cores.
    untold: (u64, u64),
    /// What it may be handed to begin with, by the most cores that it said it has, and how often it may have been allowed
    /// eight times as much since; the most cores.
    cores: u64,
    growths: u32,
    most_cores: u64,
    recalled: bool,
    /// The node that it lies on, and the cores that it said last it has.
    node: Option<NodeId>,
    has_cores: bool,
}

/// Of one role.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Of the link to its parent.
    epoch: u32,
    /// Tasks that it was handed and has not told back; the manager's: those without outcome.
    holds: RangeSet,
    /// Those of them that wait here: they may be handed out or started.
    waits: RangeSet,
    /// Those of the manager's that were reported as ended and are not recorded yet.
    reported: RangeSet,
    /// Taken back: not to be handed out or started.
    taken: RangeSet,
    /// Nothing more is to be handed out or started.
    stopped: bool,
    links: BTreeMap<Rank, Link>,
    /// Nodes of which it said that they get no more work.
    benched: BTreeSet<NodeId>,
    /// Nodes of which it heard that from a child: where that is decided, that is seen to.
    benched_below: BTreeSet<NodeId>,
    /// What runs on each slot, by the epoch under which it was started.
    runs: BTreeMap<u32, u32>,
    /// Of the manager: attempts that failed, and ranks lost with the task, by task.
    tries: BTreeMap<u64, (u32, u32)>,
}

type Checked = Result<(), Violation>;

fn rule(holds: bool, broken: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation(broken())) }
}

fn is_free_of(set: &RangeSet, range: IndexRange) -> bool {
    set.overlapping(range).next().is_none()
}

/// What a machine says that it or a child holds is what is known by its messages, each task once.
fn is_same(known: &RangeSet, said: impl Iterator<Item = IndexRange>) -> Checked {
    let mut all: Vec<IndexRange> = said.filter(|range| !range.is_empty()).collect();
    all.sort_unstable_by_key(|range| range.start);
    let twice = all.windows(2).find(|pair| pair[1].start < pair[0].end);
    rule(twice.is_none(), || format!("has tasks twice: {:?}", twice.unwrap_or(&[])))?;
    all.dedup_by(|next, range| {
        let joins = range.end == next.start;
        if joins {
            range.end = next.end;
        }
        joins
    });
    let first = known.iter().map(Some).chain([None]).zip(all.iter().copied().map(Some).chain([None]));
    let first = first.into_iter().find(|(known, said)| known != said);
    rule(first.is_none(), || match first {
        Some((known, said)) => format!("says that it has {said:?}, where by its messages it has {known:?}"),
        None => String::new(),
    })
}

/// Cores of work that a child may be handed before anything has ended: one task ahead where several workers draw on it.
fn at_first(capacity: &Capacity) -> u64 {
    u64::from(capacity.total.cores) * if capacity.workers > 1 { 2 } else { 1 }
}

/// Before anything has ended nobody is handed more cores of work than this for each of his own, nor more than half of all.
const FIRST: u64 = 128;

impl Account {
    /// Tasks came that nobody has run: the manager's.
    pub(super) fn add(&mut self, ranges: impl IntoIterator<Item = IndexRange>) {
        for range in ranges {
            self.holds.insert(range);
            self.waits.insert(range);
        }
    }

    /// The parent's word came.
    pub(super) fn heard_down(&mut self, word: &Down) -> Checked {
        match word {
            Down::Welcome { epoch, .. } if *epoch > self.epoch => {
                let Account { links, runs, benched, benched_below, .. } = std::mem::take(self);
                *self = Account { epoch: *epoch, links, runs, benched, benched_below, ..Account::default() };
                self.links.values_mut().for_each(|link| (link.out, link.untold) = (RangeSet::new(), (0, 0)));
            }
            Down::Hand { epoch, ranges } if *epoch == self.epoch => {
                for given in ranges {
                    let free = is_free_of(&self.holds, given.range);
                    rule(free, || format!("was handed {:?} of which it holds some already", given.range))?;
                    self.holds.insert(given.range);
                    self.waits.insert(given.range);
                }
            }
            Down::Cancel { epoch, range, .. } if *epoch == self.epoch => self.taken.insert(*range),
            Down::Drain { epoch, .. } | Down::End { epoch } if *epoch == self.epoch => self.stopped = true,
            _ => {}
        }
        Ok(())
    }

    /// A child's word came. `is_root`: tasks that failed wait here again.
    pub(super) fn heard_up(&mut self, from: Rank, word: &Up, is_root: bool) -> Checked {
        let link = self.links.entry(from).or_default();
        match word {
            Up::Hello { epoch, capacity } if *epoch == link.epoch && !link.given_up => {
                link.there = true;
                link.cores = link.cores.max(at_first(capacity));
                link.most_cores = link.most_cores.max(u64::from(capacity.total.cores));
                (link.node, link.has_cores) = (capacity.node, capacity.total.cores > 0);
            }
            Up::Report { epoch, report } if *epoch == link.epoch && link.there => {
                for range in report.tasks() {
                    let known = link.out.contains_range(range);
                    rule(known, || format!("hears from {from} of {range:?}, which that does not hold"))?;
                    link.out.remove(range);
                }
                link.untold = (report.untold.tasks, report.untold.cores);
                rule(link.untold.0 <= link.out.len(), || {
                    format!("hears from {from} that more has ended than it holds")
                })?;
                link.growths += u32::from(report.attempts > 0);
                link.cores = link.cores.max(report.capacity.as_deref().map_or(0, at_first));
                if let Some(capacity) = &report.capacity {
                    (link.node, link.has_cores) = (capacity.node, capacity.total.cores > 0);
                }
                link.recalled &= !report.recall_answered;
                self.placed(report, is_root);
                self.bench_never_the_last();
            }
            Up::Benched { epoch, node } if *epoch == link.epoch => {
                self.benched_below.insert(*node);
            }
            Up::Bye { epoch } if *epoch == link.epoch && link.there => {
                rule(!link.recalled, || format!("hears the end of {from}, which has not answered its recall"))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Where the tasks of a child's report are now.
    fn placed(&mut self, report: &Report, is_root: bool) {
        report.returned.iter().for_each(|given| self.waits.insert(given.range));
        if is_root {
            let ended = report.sections.iter().flat_map(|section| &section.runs);
            ended.for_each(|run| self.reported.insert(run.range));
            report.failed.iter().for_each(|failed| self.tried(failed.task.range, failed.crashed));
        }
    }

    fn tried(&mut self, range: IndexRange, crashed: bool) {
        for index in range.start..range.end {
            let (failed, crashes) = self.tries.entry(index).or_default();
            *if crashed { crashes } else { failed } += 1;
        }
        self.waits.insert(range);
    }

    /// A child is given up.
    pub(super) fn lost(&mut self, child: Rank, is_root: bool) {
        let link = self.links.entry(child).or_default();
        let out = std::mem::take(&mut link.out);
        *link = Link { epoch: link.epoch, given_up: true, ..Link::default() };
        self.bench_never_the_last();
        if is_root {
            out.iter().for_each(|range| self.tried(range, true));
        }
    }

    /// It says that these nodes get no more work.
    pub(super) fn benched(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        self.benched.extend(nodes.into_iter().filter(|node| !self.benched_below.contains(node)));
    }

    /// Whether the child gets no more work. Of a node in several parts each is benched for itself, and only the node is named.
    fn is_benched(&self, link: &Link) -> bool {
        let there = || self.links.values().filter(|link| link.there);
        let node = link.node.filter(|node| self.benched.contains(node));
        node.is_some() && there().filter(|other| other.node == node).count() == 1
    }

    /// Where none but benched ones are left they get work again.
    fn bench_never_the_last(&mut self) {
        if !self.links.values().any(|link| link.there && link.has_cores && !self.is_benched(link)) {
            self.benched.clear();
        }
    }

    /// It tells a child. `cores_of`: what tasks take; `widest`: the most that one of them does.
    pub(super) fn said_down(
        &mut self,
        to: Rank,
        word: &Down,
        (cores_of, widest): (impl Fn(IndexRange) -> u64, u64),
        root: Option<&Settings>,
    ) -> Checked {
        let is_benched = self.links.get(&to).is_some_and(|link| self.is_benched(link));
        // Before anything has ended, a good part of what there is.
        let is_start = self.links.values().all(|link| link.growths == 0);
        let link = self.links.entry(to).or_default();
        match word {
            Down::Welcome { epoch, .. } => {
                rule(*epoch > link.epoch, || format!("welcomes {to} under epoch {epoch} again"))?;
                *link = Link { epoch: *epoch, ..Link::default() };
            }
            Down::Hand { epoch, ranges } => {
                rule(*epoch == link.epoch && link.there, || format!("hands work to {to}, which is not there"))?;
                rule(!self.stopped, || format!("hands work to {to} after it was told to stop"))?;
                rule(!is_benched, || format!("hands work to {to}, whose node is benched"))?;
                for given in ranges {
                    let (range, work) = (given.range, given.work);
                    rule(self.waits.contains_range(range), || format!("hands {range:?} to {to}: not all of it waits"))?;
                    rule(is_free_of(&self.taken, range), || format!("hands out {range:?}, which was taken back"))?;
                    self.waits.remove(range);
                    link.out.insert(range);
                    for index in (range.start..range.end).filter(|_| root.is_some()) {
                        let tries = self.tries.get(&index).copied().unwrap_or_default();
                        rule(tries == (work.attempt, work.crashes) && work.attempt <= work.retries, || {
                            format!("task {index} was tried {tries:?} times and is handed out as {work:?}")
                        })?;
                    }
                }
                let cores = link.out.iter().map(&cores_of).sum::<u64>().saturating_sub(link.untold.1);
                if is_start {
                    let half = self.holds.iter().map(&cores_of).sum::<u64>() / 2;
                    link.cores = link.cores.max(half.min(link.most_cores * FIRST).min(cores));
                }
                let most = link.cores.saturating_mul(1 << (3 * link.growths).min(40)).saturating_add(widest - 1);
                rule(cores <= most, || format!("{to} holds {cores} cores of work, where {most} are its credit"))?;
                let out: u64 = self.links.values().map(|link| link.out.len() - link.untold.0).sum();
                let most = root.and_then(|settings| settings.max_running).unwrap_or(u64::MAX);
                rule(out <= most, || format!("{out} tasks are out, where {most} may be"))?;
            }
            Down::Recall { .. } => {
                rule(!link.recalled, || format!("asks {to} for work twice"))?;
                link.recalled = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// It tells its parent.
    pub(super) fn said_up(&mut self, word: &Up) -> Checked {
        match word {
            Up::Hello { epoch, .. } => rule(*epoch == self.epoch && self.holds.is_empty(), || {
                format!("says hello under epoch {epoch} and holds tasks")
            }),
            Up::Report { epoch, report } => {
                rule(*epoch == self.epoch, || format!("reports under epoch {epoch}, where {} is", self.epoch))?;
                for range in report.tasks() {
                    let here = self.holds.contains_range(range);
                    let out = self.links.values().any(|link| !is_free_of(&link.out, range));
                    rule(here && !out, || format!("tells its parent of {range:?}, which it does not have"))?;
                    self.holds.remove(range);
                }
                // What is told as ended or failed must not have waited: nobody has run it.
                let ended = report.sections.iter().flat_map(|section| &section.runs).map(|run| run.range);
                for range in ended.chain(report.failed.iter().map(|failed| failed.task.range)) {
                    rule(is_free_of(&self.waits, range), || {
                        format!("tells its parent that {range:?} ran, which waits")
                    })?;
                }
                report.returned.iter().for_each(|given| self.waits.remove(given.range));
                let left: u64 = self.links.values().map(|link| link.out.len() - link.untold.0).sum();
                let ended = self.holds.len().saturating_sub(self.waits.len()).saturating_sub(left);
                let ended = if self.links.is_empty() { 0 } else { ended };
                let untold = report.untold.tasks;
                rule(untold == ended, || format!("says that {untold} tasks have ended untold, where {ended} have"))
            }
            Up::Benched { epoch, node } => {
                self.benched([*node]);
                rule(*epoch == self.epoch, || format!("names a node under epoch {epoch}, where {} is", self.epoch))
            }
            Up::Rank { epoch, .. } => {
                rule(*epoch == self.epoch, || format!("names a rank under epoch {epoch}, where {} is", self.epoch))
            }
            Up::Bye { .. } | Up::Beat { .. } => Ok(()),
        }
    }

    /// It starts something.
    pub(super) fn started(&mut self, run: &TaskRun) -> Checked {
        let range = run.range;
        rule(!self.stopped, || format!("starts {range:?} after it was told to stop"))?;
        rule(self.waits.contains_range(range), || format!("starts {range:?}: not all of it waits"))?;
        rule(is_free_of(&self.taken, range), || format!("starts {range:?}, which was taken back"))?;
        self.waits.remove(range);
        self.runs.insert(run.slots[0], self.epoch);
        Ok(())
    }

    /// What a batch had not started was taken from it.
    pub(super) fn cut(&mut self, slot: u32, rest: IndexRange) {
        if self.runs.get(&slot) == Some(&self.epoch) {
            self.waits.insert(rest);
        }
    }

    /// Tasks are taken back by whoever asked for them: the manager's.
    pub(super) fn cancelled(&mut self, range: IndexRange) {
        self.taken.insert(range);
    }

    /// No more is handed out: the manager's.
    pub(super) fn stopped(&mut self) {
        self.stopped = true;
    }

    /// The manager records what was reported.
    pub(super) fn recorded(&mut self, range: IndexRange) -> Checked {
        rule(self.reported.contains_range(range), || format!("records {range:?}, of which nobody has just told"))?;
        self.reported.remove(range);
        self.holds.remove(range);
        Ok(())
    }

    /// How often this task's attempts failed, and ranks were lost with it: the manager's.
    pub(super) fn tries(&self, index: u64) -> (u32, u32) {
        self.tries.get(&index).copied().unwrap_or_default()
    }

    /// The manager records what it knows itself: tasks that wait.
    pub(super) fn recorded_own(&mut self, range: IndexRange, cancelled: bool) -> Checked {
        rule(self.waits.contains_range(range), || format!("ends {range:?} by its own word: not all of it waits"))?;
        let asked = !cancelled || self.taken.contains_range(range);
        rule(asked, || format!("cancels {range:?}, which nobody wanted"))?;
        self.waits.remove(range);
        self.holds.remove(range);
        Ok(())
    }

    /// Compares with what the machine says of itself, between two events.
    pub(super) fn compare(&self, machine: &Machine) -> Checked {
        for (child, link) in &self.links {
            match machine {
                Machine::Manager(manager) => is_same(&link.out, manager.held_by(*child)),
                Machine::Sub { machine, .. } => is_same(&link.out, machine.held_by(*child)),
                Machine::Worker(..) => Ok(()),
            }?;
        }
        match machine {
            Machine::Manager(manager) => {
                rule(self.reported.is_empty(), || format!("did not record {:?}, of which it was told", self.reported))?;
                let open = manager.tasks() - manager.ended_tasks();
                rule(open == self.holds.len(), || {
                    format!("has {open} open tasks, by its messages {}", self.holds.len())
                })
            }
            Machine::Sub { machine, .. } => is_same(&self.holds, machine.holds()),
            Machine::Worker(slots, _) => is_same(&self.holds, slots.machine.holds()),
        }
    }
}
