//! The messages between a parent and its children. Everything on a link carries the link's epoch.

use crate::task::{BundleId, EndedRun, Extent, FailureDigest, IndexRange, NodeId, OutcomeClass, Rank, Resources};
use serde::{Deserialize, Serialize};

/// What the tasks of a range have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Work {
    /// Their bundle.
    pub bundle: BundleId,
    /// What each of them takes.
    pub resources: Resources,
    /// Further attempts that each may have after a failed first.
    pub retries: u32,
    /// They are functions: several may be handed to a slot at once.
    pub calls: bool,
    /// Attempts that have failed so far.
    pub attempt: u32,
    /// Ranks lost so far while they may have been running.
    pub crashes: u32,
    /// So often that one of them may be why: no worker has two such tasks at a time, nor has a node
    /// with a sub-manager.
    pub apart: bool,
    /// The node where the last attempt failed; another is preferred.
    pub avoid: Option<NodeId>,
}

/// A run of consecutive tasks on its way down, or back up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WorkRange {
    /// What they have in common.
    pub work: Work,
    /// Which they are.
    pub range: IndexRange,
}

impl WorkRange {
    /// What all tasks of the range would take at once.
    pub fn amount(&self) -> Amount {
        let (tasks, each) = (self.range.len(), self.work.resources);
        let cores = tasks * u64::from(each.cores);
        let gpus = tasks * u64::from(each.gpus);
        let apart = if self.work.apart { tasks } else { 0 };
        Amount { tasks, cores, gpus, gpu_cores: if gpus > 0 { cores } else { 0 }, apart }
    }

    /// Cores that all tasks of the range would take at once.
    pub fn cores(&self) -> u64 {
        self.amount().cores
    }

    /// Splits off its last tasks: as many as so many cores hold, and at least one.
    pub(super) fn split_last(&mut self, cores: u64) -> WorkRange {
        let each = u64::from(self.work.resources.cores.max(1));
        let count = (cores / each).max(1).min(self.range.len());
        let end = self.range.end;
        self.range.end -= count;
        WorkRange { work: self.work, range: IndexRange::new(self.range.end, end) }
    }
}

/// An amount of work: how many tasks, and what they would take if all ran at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Tasks.
    pub tasks: u64,
    /// Cores.
    pub cores: u64,
    /// GPUs.
    pub gpus: u64,
    /// Those of the cores that belong to tasks that take GPUs.
    pub gpu_cores: u64,
    /// Those of the tasks that run apart from each other.
    pub apart: u64,
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, more: Amount) {
        self.tasks += more.tasks;
        self.cores += more.cores;
        self.gpus += more.gpus;
        self.gpu_cores += more.gpu_cores;
        self.apart += more.apart;
    }
}

impl std::ops::SubAssign for Amount {
    fn sub_assign(&mut self, less: Amount) {
        self.tasks -= less.tasks;
        self.cores -= less.cores;
        self.gpus -= less.gpus;
        self.gpu_cores -= less.gpu_cores;
        self.apart -= less.apart;
    }
}

impl Amount {
    /// What is left of it without so much; nothing where that is more. It may be a child's word.
    pub(super) fn without(self, less: Amount) -> Amount {
        Amount {
            tasks: self.tasks.saturating_sub(less.tasks),
            cores: self.cores.saturating_sub(less.cores),
            gpus: self.gpus.saturating_sub(less.gpus),
            gpu_cores: self.gpu_cores.saturating_sub(less.gpu_cores),
            apart: self.apart.saturating_sub(less.apart),
        }
    }

    /// So much, or what there is of it if that is less. It may be a child's word.
    pub(super) fn at_most(self, most: Amount) -> Amount {
        Amount {
            tasks: self.tasks.min(most.tasks),
            cores: self.cores.min(most.cores),
            gpus: self.gpus.min(most.gpus),
            gpu_cores: self.gpu_cores.min(most.gpu_cores),
            apart: self.apart.min(most.apart),
        }
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(parts: I) -> Amount {
        parts.fold(Amount::default(), |mut sum, part| {
            sum += part;
            sum
        })
    }
}

/// What a child and all below it can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// All slots together.
    pub total: Resources,
    /// The widest task that some worker below can host.
    pub widest: Resources,
    /// The node, where all workers below are on one.
    pub node: Option<NodeId>,
    /// Time that the child needs to be supplied ahead, so that it can supply its own children. Microseconds.
    pub horizon_us: u64,
    /// Workers below, and the nodes that they are on.
    pub workers: u32,
    /// See `workers`.
    pub nodes: u32,
}

impl Capacity {
    /// Of nobody.
    pub(super) const NONE: Capacity = Capacity {
        total: Resources { cores: 0, gpus: 0 },
        widest: Resources { cores: 0, gpus: 0 },
        node: None,
        horizon_us: 0,
        workers: 0,
        nodes: 0,
    };
}

/// Work that waits for a core, or for a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unstarted {
    /// Cores of all of it.
    pub cores: u64,
    /// Those of the cores that belong to tasks that take GPUs.
    pub gpu_cores: u64,
}

impl Unstarted {
    /// Both together. Saturates: it may be a child's word.
    pub(super) fn and(self, more: Unstarted) -> Unstarted {
        Unstarted {
            cores: self.cores.saturating_add(more.cores),
            gpu_cores: self.gpu_cores.saturating_add(more.gpu_cores),
        }
    }

    /// What of it may be asked back, in cores: with tasks that take GPUs or without.
    pub(super) fn recallable(self, gpus: bool) -> u64 {
        if gpus { self.cores } else { self.cores.saturating_sub(self.gpu_cores) }
    }
}

impl From<Amount> for Unstarted {
    fn from(amount: Amount) -> Self {
        Unstarted { cores: amount.cores, gpu_cores: amount.gpu_cores }
    }
}

/// From parent to child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Down {
    /// Opens the link, or opens it anew: the child forgets and kills what it had under an older epoch.
    Welcome {
        /// The link's epoch from now on.
        epoch: u32,
        /// The parent wants no more than about one report in this time. Microseconds.
        pace_us: u64,
    },
    /// Tasks to run.
    Hand {
        /// The link's epoch.
        epoch: u32,
        /// The tasks, in the order in which to start them.
        ranges: Vec<WorkRange>,
    },
    /// Give back work that has not started; answered by a report with `recall_answered`.
    Recall {
        /// The link's epoch.
        epoch: u32,
        /// How much, in cores.
        cores: u64,
        /// Whether tasks that take GPUs may be among it.
        gpus: bool,
    },
    /// Give back what has not started of these, and kill what runs.
    Cancel {
        /// The link's epoch.
        epoch: u32,
        /// The bundle.
        bundle: BundleId,
        /// Which of its tasks.
        range: IndexRange,
    },
    /// No new tasks: give back what has not started, and after the grace time what runs.
    Drain {
        /// The link's epoch.
        epoch: u32,
        /// How long running tasks may go on. Microseconds.
        grace_us: u64,
    },
    /// No work will come any more: end.
    End {
        /// The link's epoch.
        epoch: u32,
    },
}

/// From child to parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Up {
    /// Answers a welcome: the child is there and holds nothing.
    Hello {
        /// The epoch of the welcome.
        epoch: u32,
        /// What it can run.
        capacity: Capacity,
    },
    /// What happened since the last report.
    Report {
        /// The link's epoch.
        epoch: u32,
        /// The news.
        report: Report,
    },
    /// A node below gets no more work: nearly everything fails there, and not elsewhere.
    Benched {
        /// The link's epoch.
        epoch: u32,
        /// The node.
        node: NodeId,
    },
    /// Nothing new, but the child is there.
    Beat {
        /// The link's epoch.
        epoch: u32,
    },
    /// A rank below was given up, or is there again.
    Rank {
        /// The link's epoch.
        epoch: u32,
        /// Which.
        rank: Rank,
        /// Whether it is there.
        is_there: bool,
    },
    /// The last word: everything below has ended.
    Bye {
        /// The link's epoch.
        epoch: u32,
    },
}

/// Ended tasks of one bundle whose records lie in one extent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Their bundle.
    pub bundle: BundleId,
    /// Where their records are; `None` on the way to the keeper, or when nothing is recorded.
    pub extent: Option<Extent>,
    /// Which tasks, and how they ended.
    pub runs: Vec<EndedRun>,
}

/// An attempt that failed and is not the last: the manager puts the task back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// The task, a range of one, as it was handed down; where it crashed it may be several.
    pub task: WorkRange,
    /// Where it failed.
    pub node: Option<NodeId>,
    /// Whether it may have taken its rank or spawner with it: counts as a crash, not as an attempt.
    pub crashed: bool,
}

/// How attempts ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Well.
    pub ok: u64,
    /// Otherwise, and not because they were told to end.
    pub failed: u64,
}

impl Tried {
    pub(super) fn all(self) -> u64 {
        self.ok.saturating_add(self.failed)
    }

    pub(super) fn add(&mut self, more: Tried) {
        self.ok = self.ok.saturating_add(more.ok);
        self.failed = self.failed.saturating_add(more.failed);
    }
}

/// News from a child, all of it together, so that what it says of its state fits what it says of its tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Tasks that ended for good.
    pub sections: Vec<Section>,
    /// Attempts that failed.
    pub failed: Vec<FailedAttempt>,
    /// Work given back, not started or stopped before its end.
    pub returned: Vec<WorkRange>,
    /// Whether this answers the recall that is outstanding.
    pub recall_answered: bool,
    /// Attempts that ended since the last report.
    pub attempts: u64,
    /// How many of them were a task's last, and how those ended: known at once, whenever it is told which they are.
    pub tried: Tried,
    /// Cores that those attempts took, added up.
    pub attempt_cores: u64,
    /// Slot-time that they took: cores × microseconds.
    pub busy_core_us: u64,
    /// What was not started.
    pub unstarted: Unstarted,
    /// What has ended of which a later report tells: the child holds so much less than the parent knows.
    pub untold: Amount,
    /// Cores of work, of what is left then, that has likely ended by now below the child: an estimate, for fair shares alone.
    pub likely_ended: u64,
    /// Hand-outs that the child has seen under this epoch: those after them are not in what it says.
    pub hands: u32,
    /// Failures since the last report, grouped.
    pub digest: FailureDigest,
    /// Set when what the child can run has changed.
    pub capacity: Option<Box<Capacity>>,
}

impl Report {
    /// Adds the ended task to the last section, or opens one.
    pub fn ended(&mut self, bundle: BundleId, range: IndexRange, class: OutcomeClass) {
        if self.sections.last().is_none_or(|last| last.bundle != bundle || last.extent.is_some()) {
            self.sections.push(Section { bundle, extent: None, runs: Vec::new() });
        }
        match class {
            OutcomeClass::Ok => self.tried.ok += range.len(),
            OutcomeClass::Failed => self.tried.failed += range.len(),
            OutcomeClass::Cancelled => {}
        }
        let runs = &mut self.sections.last_mut().expect("a section was just made sure of").runs;
        match runs.last_mut() {
            Some(last) if last.class == class && last.range.end == range.start => last.range.end = range.end,
            _ => runs.push(EndedRun { range, class }),
        }
    }

    /// Adds a section; where its extent follows that of another, the two become one.
    pub fn add_section(&mut self, section: Section) {
        let mut same = self.sections.iter_mut().rev().filter(|other| other.bundle == section.bundle);
        let joined = same.find_map(|other| match (&mut other.extent, section.extent) {
            (None, None) => Some(&mut other.runs),
            (Some(a), Some(b)) if a.segment == b.segment && a.offset + a.len == b.offset => {
                a.len += b.len;
                Some(&mut other.runs)
            }
            _ => None,
        });
        match joined {
            Some(runs) => runs.extend(section.runs),
            None => self.sections.push(section),
        }
    }

    /// Puts the runs of each section in order and joins those that touch.
    pub fn join_runs(&mut self) {
        for section in &mut self.sections {
            section.runs.sort_unstable_by_key(|run| run.range.start);
            section.runs.dedup_by(|next, run| {
                let joins = run.class == next.class && run.range.end == next.range.start;
                if joins {
                    run.range.end = next.range.end;
                }
                joins
            });
        }
    }

    /// Every task that it tells of.
    pub fn tasks(&self) -> impl Iterator<Item = IndexRange> + '_ {
        let ended = self.sections.iter().flat_map(|section| &section.runs).map(|run| run.range);
        let failed = self.failed.iter().map(|failed| failed.task.range);
        ended.chain(failed).chain(self.returned.iter().map(|given| given.range))
    }

    /// All but the tasks that ended for good and their failures, which stay behind.
    pub(super) fn take_all_but_ended(&mut self) -> Report {
        let ended = Report {
            sections: std::mem::take(&mut self.sections),
            digest: std::mem::take(&mut self.digest),
            ..Report::default()
        };
        std::mem::replace(self, ended)
    }

    /// Whether it tells of tasks that ended for good. Their records go along, or have gone before.
    pub fn tells_of_ended(&self) -> bool {
        !self.sections.is_empty()
    }

    /// Whether it holds something that a parent must hear, the tasks apart that ended for good.
    pub(super) fn has_news_besides_ended(&self) -> bool {
        !self.failed.is_empty()
            || !self.returned.is_empty()
            || self.recall_answered
            || self.attempts > 0
            || self.tried != Tried::default()
            || self.capacity.is_some()
    }
}

/// The bytes of a message.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    encode_after(message, Vec::new())
}

/// The same, behind what is in the buffer already.
pub fn encode_after<T: Serialize>(message: &T, mut buffer: Vec<u8>) -> Vec<u8> {
    // Most messages are shorter: they need no second look for room.
    buffer.reserve(256);
    postcard::to_extend(message, buffer).expect("messages hold nothing that cannot be written")
}

/// The message in the bytes. Fails on bytes that are no such message; never takes memory on the word of a length.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, postcard::Error> {
    postcard::from_bytes(bytes)
}
