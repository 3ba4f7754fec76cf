//! Rank 0's ledger in a DIR: records go into a segment, the journal points to them, and what is told is durable. A run and
//! a session with a DIR have it in common.

use super::keeper::Keeper;
use super::plan::Shared;
use super::stop_poller::StopPoller;
use crate::ledger::{
    BlockBuilder, Counts, JournalWriter, LedgerError, LedgerState, Loaded, Owner, OwnerError, Record, RunDir,
    StopRequest, SubmittedPart,
};
use crate::schedule::{Report, Section};
use crate::task::{BundleId, Captured, EndedBy, EndedRun, Extent, IndexRange, NodeId, Outcome, OutcomeClass, Status};
use crate::wake::Wake;
use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The ledger of one start.
pub(super) struct DurableLedger {
    pub(super) dir: RunDir,
    owner: Owner,
    stop_poller: StopPoller,
    keeper: Keeper,
    /// Not journaled yet: each waits until the segment is durable up to there.
    waiting: VecDeque<(u64, Section)>,
    journal: JournalWriter,
    /// Journaled, and told when durable.
    journaled: VecDeque<(u64, Told)>,
    state: LedgerState,
    told: Counts,
    generation: u32,
    round: u32,
    /// That the journal cannot be written was said.
    failed: bool,
}

/// Tasks that have ended for the first time, durably.
#[derive(Debug)]
pub(super) struct Told {
    /// Where their records lie.
    pub(super) extent: Option<Extent>,
    /// Which they are.
    pub(super) runs: Vec<EndedRun>,
}

/// The present moment, microseconds since the Unix epoch.
pub(super) fn unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

impl DurableLedger {
    /// Begins the journal of this start with what was loaded. Returns when the folder knows of the start, and nothing may be
    /// handed out before. `segments`: as many as this start may write.
    pub(super) fn start(
        (dir, owner): (RunDir, Owner),
        loaded: &mut Loaded,
        shared: &Shared,
        tasks: u64,
        segments: u32,
        wake: &Wake,
    ) -> Result<Self, LedgerError> {
        let mut journal = JournalWriter::start(&dir, shared.generation, loaded, shared.sync, wake.clone())?;
        let start = Record::Start {
            generation: shared.generation,
            started_unix_us: unix_us(),
            tasks,
            nodes: shared.layout.nodes.clone(),
            first_segment: shared.first_segment,
            segments,
        };
        let mut state = std::mem::take(&mut loaded.state);
        state.apply(&start);
        let mut sequence = journal.append(&start);
        let reopens = shared.round > state.round;
        if let Some(record) = reopens.then(|| state.reopen_failed()).flatten() {
            sequence = journal.append(&record);
        }
        while journal.durable() < sequence && journal.error().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let keeper = Keeper::new(&dir.segments(), shared.first_segment, shared.sync, wake.clone());
        Ok(Self {
            stop_poller: StopPoller::start(dir.clone()),
            dir,
            owner,
            keeper,
            waiting: VecDeque::new(),
            journal,
            journaled: VecDeque::new(),
            told: state.counts(),
            state,
            generation: shared.generation,
            round: shared.round,
            failed: false,
        })
    }

    /// The account, with what is not durable yet.
    pub(super) fn state(&self) -> &LedgerState {
        &self.state
    }

    /// How many tasks have durably ended.
    pub(super) fn told(&self) -> Counts {
        self.told
    }

    /// A request to stop that was not told before.
    pub(super) fn stop_requested(&self) -> Option<StopRequest> {
        self.stop_poller.news()
    }

    /// Whether the folder is still ours, by the last look of the owner's own thread.
    pub(super) fn check_owner(&self) -> Result<(), OwnerError> {
        self.owner.check()
    }

    /// Appends the blocks that came with a report and writes their place into it.
    pub(super) fn keep_report(&mut self, report: &mut Report, blocks: Vec<u8>) {
        self.keeper.keep_report(report, blocks);
    }

    /// Journals these ends when their records are durable.
    pub(super) fn push(&mut self, section: Section) {
        self.waiting.push_back((self.keeper.end(), section));
    }

    /// Outcomes that no worker knows are put into rank 0's own segment.
    pub(super) fn record_own(
        &mut self,
        bundle: BundleId,
        range: IndexRange,
        class: OutcomeClass,
        (attempts, node): (u32, Option<NodeId>),
    ) {
        const PER_BLOCK: u64 = 10_000;
        let status = if class == OutcomeClass::Cancelled { Status::Cancelled } else { Status::Lost };
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + PER_BLOCK);
            let mut block = BlockBuilder::new(self.generation, self.round);
            for index in start..end {
                block.push(&Outcome {
                    index,
                    status: status.clone(),
                    attempts,
                    started_unix_us: unix_us(),
                    duration_us: 0,
                    rank: 0,
                    node: node.map_or(0, |node| node.0),
                    stdout: Captured::default(),
                    stderr: Captured::default(),
                });
            }
            let extent = self.keeper.keep(block.finish());
            let runs = vec![EndedRun { range: IndexRange::new(start, end), class }];
            self.push(Section { bundle, extent: Some(extent), runs });
            start = end;
        }
    }

    /// Journals that tasks were submitted; not before they are durable.
    pub(super) fn submitted(&mut self, part: SubmittedPart) {
        let record = Record::Submitted(part);
        self.state.apply(&record);
        self.journal.append(&record);
    }

    /// Journals what lies durably in segments, of tasks below `known`, which the journal knows; gives what has become
    /// durable, in the order of the journal.
    pub(super) fn release(&mut self, known: u64) -> Vec<Told> {
        self.keeper.pass_on();
        self.journal.pass_on();
        let written = self.keeper.durable();
        let is_known = |section: &Section| section.runs.iter().all(|run| run.range.end <= known);
        while let Some((_, section)) = self.waiting.pop_front_if(|(end, section)| *end <= written && is_known(section))
        {
            let runs = self.state.accept(self.round, &section.runs);
            if !runs.is_empty() {
                let record = Record::Ended { round: self.round, extent: section.extent, runs: runs.clone() };
                let sequence = self.journal.append(&record);
                self.journaled.push_back((sequence, Told { extent: section.extent, runs }));
            }
        }
        let durable = self.journal.durable();
        let mut all = Vec::new();
        while let Some((_, told)) = self.journaled.pop_front_if(|(sequence, _)| *sequence <= durable) {
            for run in &told.runs {
                self.told.add(*run);
            }
            all.push(told);
        }
        all
    }

    /// What keeps files from being written, the first time that it is asked for. Nothing that waits becomes durable then.
    pub(super) fn new_error(&mut self) -> Option<String> {
        if let Some(error) = self.keeper.new_error() {
            let lost = std::mem::take(&mut self.waiting).len();
            return Some(format!("{error} ({lost} reports are not kept)"));
        }
        let error = self.journal.error().filter(|_| !self.failed)?;
        self.failed = true;
        self.journaled.clear();
        Some(error)
    }

    /// Whether everything was told.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.journaled.is_empty()
    }

    /// Bytes not yet written.
    pub(super) fn queued_bytes(&self) -> u64 {
        self.keeper.queued_bytes() + self.journal.queued_bytes()
    }

    /// Writes and syncs what is left, and why the start has ended, where it did in order. The folder stays ours as long as the
    /// owner lives.
    pub(super) fn finish(mut self, ended_by: Option<EndedBy>) -> (Owner, Result<(), LedgerError>) {
        // The journal says so when all that it points to is safe: nobody looks after it then.
        let kept = self.keeper.finish();
        if let (Some(ended_by), true) = (ended_by, kept.is_ok()) {
            self.journal.append(&Record::End { ended_by, ended_unix_us: unix_us() });
        }
        (self.owner, kept.and(self.journal.finish()))
    }
}
