//! The DIR of a session: what the program submitted is kept there before its outcomes are, outcomes before they are told,
//! and what was told is read from there when the program takes it.

use super::MemoryManager;
use super::again::{Again, RecordPlace};
use super::due::Due;
use crate::drive::durable::{DurableLedger, Told};
use crate::drive::figures::Figures;
use crate::drive::longest::Longest;
use crate::drive::losses::Losses;
use crate::drive::plan::Shared;
use crate::drive::progress::ProgressWriter;
use crate::drive::session::SessionDir;
use crate::drive::wire::LongRun;
use crate::ledger::{
    ExtentReader, LedgerError, LongTask, PartsWriter, Progress, Reader, RowTasks, RunDir, RunState, StopRequest,
    SubmittedPart, write_failed_jsonl,
};
use crate::schedule::{Report, Section};
use crate::task::{Bundle, BundleId, EndedBy, EndedRun, IndexRange, NodeId, OutcomeClass, RangeSet, Rank, Shape};
use crate::wake::Wake;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// How often the folder is looked at for a request to stop.
const LOOK_US: u64 = 500_000;
/// What a request to stop leaves running tasks, as long as in a run of the command that is not told otherwise.
const GRACE_US: u64 = 20_000_000;

/// Why a session ends before the program ends it.
#[derive(Clone, Debug)]
pub(in crate::drive) enum Early {
    /// Someone asked for it.
    Stop,
    /// Its folder cannot be written any more, or is another's.
    Lost(String),
}

/// The DIR of a session.
pub(in crate::drive) struct Kept {
    ledger: DurableLedger,
    parts: PartsWriter,
    /// Parts that are not journaled yet, with the end of each in the file.
    unjournaled: VecDeque<(u64, SubmittedPart)>,
    /// Positions that the journal knows: ends beyond wait.
    journaled: u64,
    /// All positions.
    tasks: u64,
    pub(super) again: Again,
    /// By bundle, in the order in which they were kept.
    due: BTreeMap<usize, BTreeMap<u64, Due>>,
    /// Of the next outcomes that are told.
    order: u64,
    figures: Figures,
    progress: ProgressWriter,
    longest: Longest,
    nodes: Vec<String>,
    round: u32,
    /// Something was handed out.
    pub(super) handed_out: bool,
    early: Option<Early>,
    next_look_us: u64,
    next_progress_us: u64,
}

impl Kept {
    /// Begins this start. Gives what reads its outcomes as well, and all nodes that these may name.
    ///
    /// # Errors
    /// Files cannot be written.
    pub(in crate::drive) fn start(
        opened: SessionDir,
        shared: &Shared,
        began: Instant,
        wake: &Wake,
    ) -> Result<(Self, ExtentReader, Vec<String>), LedgerError> {
        let SessionDir { dir, owner, mut loaded, .. } = opened;
        let (again, order) = Again::new(&dir, &loaded, shared.round > loaded.state.round);
        let mut nodes = shared.layout.nodes.clone();
        let reader = ExtentReader::new(dir.clone(), &loaded.state.starts, &mut nodes);
        let tasks = again.row().len();
        let ledger = DurableLedger::start((dir.clone(), owner), &mut loaded, shared, tasks, 1, wake)?;
        let figures = Figures {
            ranks: shared.layout.ranks.len() as u32,
            nodes: shared.layout.nodes.len() as u32,
            slots: shared.layout.slots(),
            told_before: ledger.told(),
            first_hand_us: None,
            last_record_us: 0,
            before_us: began.elapsed().as_micros() as u64,
            losses: Losses::new(shared),
        };
        let kept = Self {
            parts: PartsWriter::new(&dir, shared.generation, shared.sync, wake.clone()),
            progress: ProgressWriter::start(dir),
            ledger,
            unjournaled: VecDeque::new(),
            journaled: tasks,
            tasks,
            again,
            due: BTreeMap::new(),
            order,
            figures,
            longest: Longest::default(),
            nodes: nodes.clone(),
            round: shared.round,
            handed_out: false,
            early: None,
            next_look_us: 0,
            next_progress_us: ProgressWriter::EVERY_US,
        };
        Ok((kept, reader, nodes))
    }

    pub(super) fn ended(&self) -> &RangeSet {
        &self.ledger.state().ended
    }

    /// Keeps a part that was added to the row.
    pub(super) fn keep_part(
        &mut self,
        part: &Bundle,
        range: IndexRange,
        (bundle, first): (usize, u64),
        (function, shape): (Option<&str>, Shape),
    ) {
        let (generation, offset, len) = self.parts.append(part.extract(part.held()));
        let (bundle, function) = (bundle as u64, function.map(str::to_owned));
        let submitted = SubmittedPart { generation, offset, len, bundle, first, function, shape, range };
        self.unjournaled.push_back((offset + len, submitted));
        self.tasks = range.end;
    }

    pub(super) fn keep_report(&mut self, report: &mut Report, blocks: Vec<u8>) {
        self.ledger.keep_report(report, blocks);
    }

    pub(super) fn push(&mut self, section: Section) {
        self.ledger.push(section);
    }

    pub(super) fn record_own(
        &mut self,
        bundle: BundleId,
        range: IndexRange,
        class: OutcomeClass,
        last: (u32, Option<NodeId>),
    ) {
        self.ledger.record_own(bundle, range, class, last);
    }

    pub(super) fn on_longest(&mut self, now: u64, from: Rank, long: Vec<LongRun>) {
        self.longest.note(now, from, long);
    }

    /// Journals what is written; gives the runs of tasks that have durably ended, with the places of their records.
    pub(super) fn release(&mut self, now: u64) -> Vec<(EndedRun, RecordPlace)> {
        let durable = self.parts.durable();
        while let Some((_, part)) = self.unjournaled.pop_front_if(|(end, _)| *end <= durable) {
            self.journaled = part.range.end;
            self.ledger.submitted(part);
        }
        let mut ended = Vec::new();
        for Told { extent, runs } in self.ledger.release(self.journaled) {
            self.figures.last_record_us = now;
            // Every report of a session comes with its records.
            let Some(extent) = extent else { continue };
            let place = RecordPlace { order: self.order, extent, round: self.round };
            self.order += 1;
            ended.extend(runs.into_iter().map(|run| (run, place)));
        }
        ended
    }

    /// These outcomes wait to be taken.
    pub(super) fn make_due(&mut self, bundle: usize, range: IndexRange, first: u64, place: RecordPlace) {
        let of_bundle = self.due.entry(bundle).or_default();
        of_bundle.entry(place.order).or_insert_with(|| Due::new(place)).add(range, first);
    }

    pub(super) fn has_due(&self, bundle: usize) -> bool {
        self.due.get(&bundle).is_some_and(|due| !due.is_empty())
    }

    /// The outcomes of a bundle that were kept first. While the program submits again what earlier starts knew of it, one at
    /// a time may be taken: what it submits upon that may have ended before the others.
    pub(super) fn take_due(&mut self, bundle: usize) -> Option<(Due, usize)> {
        let (_, due) = self.due.get_mut(&bundle)?.pop_first()?;
        Some((due, if self.again.is_over(bundle) { usize::MAX } else { 1 }))
    }

    /// Some of them were not read.
    pub(super) fn put_back(&mut self, bundle: usize, due: Due) {
        self.due.entry(bundle).or_default().insert(due.order(), due);
    }

    /// Nobody takes the outcomes of this bundle.
    pub(super) fn drop_due(&mut self, bundle: usize) {
        self.due.remove(&bundle);
    }

    /// What the clock asks for. Gives why and with which grace the session is to stop, where it is.
    pub(super) fn chores(&mut self, now: u64, of: &MemoryManager) -> Option<(EndedBy, u64)> {
        if self.handed_out {
            self.figures.first_hand_us.get_or_insert(now);
        }
        let error = self.ledger.new_error().or_else(|| self.parts.error()).filter(|_| !self.is_lost());
        if let Some(error) = error {
            tracing::error!("{error}");
            self.early = Some(Early::Lost(error));
            return Some((EndedBy::Disk, 0));
        }
        if now >= self.next_progress_us {
            self.next_progress_us = now + ProgressWriter::EVERY_US;
            let state = of.machine.draining().map_or(RunState::Running, |_| RunState::Draining);
            let progress = self.progress_at(now, state, of);
            self.progress.write(progress);
        }
        if now < self.next_look_us {
            return None;
        }
        self.next_look_us = now + LOOK_US;
        if let (Err(error), false) = (self.ledger.check_owner(), self.is_lost()) {
            tracing::error!("{error}");
            self.early = Some(Early::Lost(error.to_string()));
            return Some((EndedBy::Stop, 0));
        }
        let request = self.ledger.stop_requested()?;
        self.early.get_or_insert(Early::Stop);
        Some((EndedBy::Stop, if request == StopRequest::Now { 0 } else { GRACE_US }))
    }

    fn is_lost(&self) -> bool {
        matches!(self.early, Some(Early::Lost(_)))
    }

    /// Why the session ends before the program ends it, where it does.
    pub(super) fn early(&self) -> Option<&Early> {
        self.early.as_ref()
    }

    pub(super) fn next_tick(&self) -> u64 {
        self.next_look_us.min(self.next_progress_us)
    }

    /// Whether nothing waits to be told, or can be told any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_lost() || (self.unjournaled.is_empty() && self.ledger.is_empty())
    }

    pub(super) fn queued_bytes(&self) -> u64 {
        if self.is_lost() { 0 } else { self.ledger.queued_bytes() + self.parts.queued_bytes() }
    }

    fn progress_at(&self, now: u64, state: RunState, of: &MemoryManager) -> Progress {
        let name = |node: u32| self.nodes.get(node as usize).cloned().unwrap_or_else(|| format!("node {node}"));
        let longest = self.longest.top(now, 10).into_iter().filter_map(|run| {
            let (bundle, index) = of.label(run.index)?;
            let seconds = f64::from(run.seconds);
            Some(LongTask { index, bundle: Some(bundle as u64), node: name(run.node), seconds })
        });
        self.figures.progress(now, state, self.ledger.told(), self.tasks, &of.machine, longest.collect())
    }

    /// Closes the ledger and writes what others rely on.
    ///
    /// # Errors
    /// What kept that from being written.
    pub(super) fn finish(self, now: u64, of: &MemoryManager) -> Result<(), String> {
        if let Some(Early::Lost(error)) = self.early {
            // A folder that is another's is left alone, and one that cannot be written as it is.
            return Err(error);
        }
        let summary = self.figures.summary(now, self.ledger.told(), self.tasks, &of.machine, &of.nodes);
        let last = self.progress_at(now, RunState::Ended, of);
        let dir = self.ledger.dir.clone();
        self.progress.finish(&last, &dir);
        let parts = self.parts.finish();
        let (_owner, ledger) = self.ledger.finish(Some(summary.ended_by).filter(|_| parts.is_ok()));
        let written = parts.and(ledger).and_then(|()| write_failed(&dir, summary.failed)).and(summary.write(&dir));
        written.map_err(|error| error.to_string())
    }
}

fn write_failed(dir: &RunDir, failed: u64) -> Result<(), LedgerError> {
    if failed == 0 {
        return Ok(());
    }
    let reader = Reader::open(dir)?;
    let tasks = RowTasks::new(dir, reader.row());
    let json = |position| tasks.json(position);
    write_failed_jsonl(&reader, json, |position| tasks.label(position).1, |_| None, &dir.failed())?;
    Ok(())
}
