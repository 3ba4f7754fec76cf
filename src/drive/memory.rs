//! Rank 0's side of a session: bundles that a program submits while others run, and their outcomes, kept in memory or in a
//! DIR until the program takes them. All bundles of a session share one row of positions, in the order in which their
//! tasks came.
//!
//! | file | what it holds |
//! |---|---|
//! | `dir` | what is different with a DIR |
//! | `kept` | what goes there |
//! | `due` | what was told and lies there until the program takes it |
//! | `again` | what earlier starts left there, for a program that submits it again |

mod again;
mod dir;
mod due;
mod kept;

use due::Due;
pub(super) use kept::Kept;

use super::losses::{Losses, back_note};
use super::manager::name_of;
use super::parts::{PartPlace, Parts};
use super::plan::Shared;
use super::roles::{Outbox, Outgoing};
use super::root::Root;
use super::wire::{Control, LongRun};
use crate::drive::SessionError;
use crate::ledger::{BlockHeader, Counts, LostRank, read_block};
use crate::schedule::{Down, Manager, ManagerAction, Place, Policy, Settings, Up};
use crate::task::{
    Bundle, BundleId, Captured, EndedBy, EndedRun, IndexRange, Outcome, OutcomeClass, PartBuilder, RangeSet, Rank,
    Shape, Status,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// The one bundle that the scheduler knows of.
const ALL: BundleId = BundleId(0);

/// Consecutive positions of one bundle of the program's.
#[derive(Clone, Copy, Debug)]
struct Span {
    range: IndexRange,
    /// What the program calls the first of them.
    first: u64,
    /// Whose they are.
    bundle: usize,
}

/// A bundle of the program's.
#[derive(Debug)]
struct Submitted {
    /// What its tasks call; none where they are processes.
    function: Option<String>,
    shape: Shape,
    /// Tasks that wait to be sent on together.
    gathered: PartBuilder,
    /// Tasks so far, those included.
    tasks: u64,
    closed: bool,
    counts: Counts,
    outcomes: VecDeque<Arrived>,
    /// Nobody takes its outcomes any more.
    dropped: bool,
}

impl Submitted {
    fn ended(&self) -> bool {
        self.counts.ended() == self.tasks
    }
}

/// Outcomes that nobody has taken yet.
#[derive(Debug)]
enum Arrived {
    /// Blocks of records, all of them new and of this bundle.
    Blocks(Vec<u8>),
    /// Outcomes one by one.
    Outcomes(Vec<Outcome>),
    /// Tasks that ended alike without having run to their end, by what the program calls them.
    Alike { labels: IndexRange, status: Status, attempts: u32 },
}

impl Arrived {
    fn bytes(&self) -> u64 {
        match self {
            Arrived::Blocks(bytes) => bytes.len() as u64,
            Arrived::Outcomes(outcomes) => outcomes.iter().map(outcome_bytes).sum(),
            Arrived::Alike { .. } => size_of::<Arrived>() as u64,
        }
    }
}

fn outcome_bytes(outcome: &Outcome) -> u64 {
    (size_of::<Outcome>() + outcome.stdout.bytes.len() + outcome.stderr.bytes.len()) as u64
}

/// Tasks that come next in the row of positions.
#[derive(Debug)]
struct NewPart {
    bundle: usize,
    part: Bundle,
    /// What the program calls its first task.
    first: u64,
    /// What is added to what the part itself calls its tasks.
    added: u64,
}

/// Outcomes of tasks that ended alike that are taken at once.
const ALIKE_AT_ONCE: u64 = 10_000;
/// Gathered tasks go on when they are so many, or take so many bytes.
const GATHERED_TASKS: u64 = 4096;
const GATHERED_BYTES: usize = 256 << 10;

/// The manager of a session.
pub(super) struct MemoryManager {
    machine: Manager,
    bundles: Vec<Submitted>,
    /// Those in which tasks are gathered.
    gathering: Vec<usize>,
    /// All positions, in order.
    spans: Vec<Span>,
    /// Parts that lie here, with the number of their tasks that have not ended and the bytes that they take.
    live: VecDeque<(IndexRange, u64, u64)>,
    live_bytes: u64,
    /// Bytes of outcomes that nobody has taken.
    unread_bytes: u64,
    /// Parts that came since the last turn. The scheduler hears of them no sooner than they lie where they can be found.
    new: Vec<NewPart>,
    /// Parts whose last task ended since then.
    over: Vec<u64>,
    nodes: Vec<String>,
    losses: Losses,
    /// Where the session has a DIR.
    kept: Option<Box<Kept>>,
    pub(super) done: bool,
}

/// Outcomes that the program takes.
pub(super) enum Taken {
    /// Here they are.
    Here(Vec<Outcome>),
    /// They are to be read: so many at most. What is left is put back.
    Kept(Due, usize),
}

impl MemoryManager {
    pub(super) fn new(place: &Place, shared: &Shared) -> Self {
        let (crash_limit, nodes) = (shared.crash_limit, shared.layout.nodes.clone());
        let settings =
            Settings { crash_limit, max_fails: None, max_running: None, grace_us: 0, nodes: nodes.len() as u32 };
        let mut machine = Manager::new(Policy::default(), settings, &place.children);
        machine.open_bundle(ALL);
        Self {
            machine,
            bundles: Vec::new(),
            gathering: Vec::new(),
            spans: Vec::new(),
            live: VecDeque::new(),
            live_bytes: 0,
            unread_bytes: 0,
            new: Vec::new(),
            over: Vec::new(),
            nodes,
            losses: Losses::new(shared),
            kept: None,
            done: false,
        }
    }

    /// A new bundle without tasks; its number.
    pub(super) fn open_bundle(&mut self, function: Option<String>, shape: Shape) -> usize {
        self.bundles.push(Submitted {
            function,
            shape,
            gathered: PartBuilder::default(),
            tasks: 0,
            closed: false,
            counts: Counts::default(),
            outcomes: VecDeque::new(),
            dropped: false,
        });
        self.bundles.len() - 1
    }

    /// Adds a task to a bundle; what the program calls it.
    ///
    /// # Errors
    /// With a DIR: it differs from the one that was submitted there, or that one cannot be read.
    pub(super) fn submit(&mut self, number: usize, entry: &[u8]) -> Result<u64, SessionError> {
        if self.knows(number, self.bundles[number].tasks) {
            return self.submit_again(number, entry);
        }
        let bundle = &mut self.bundles[number];
        if bundle.gathered.is_empty() {
            self.gathering.push(number);
        }
        bundle.gathered.push(entry);
        bundle.tasks += 1;
        let label = bundle.tasks - 1;
        if bundle.gathered.len() >= GATHERED_TASKS || bundle.gathered.payload_bytes() >= GATHERED_BYTES {
            self.send_on(number);
        }
        Ok(label)
    }

    /// Adds an array to a bundle: tasks with numbers of their own.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub(super) fn submit_array(&mut self, number: usize, first: u64, array: Bundle) -> Result<(), SessionError> {
        // One array is all that a bundle has.
        if self.knows(number, 0) {
            return self.submit_array_again(number, first, &array);
        }
        let tasks = array.len();
        self.bundles[number].tasks += tasks;
        self.new.push(NewPart { bundle: number, part: array, first, added: 0 });
        Ok(())
    }

    /// No more tasks will come.
    pub(super) fn close(&mut self, number: usize) {
        self.bundles[number].closed = true;
    }

    /// Whether a bundle was closed.
    pub(super) fn is_closed(&self, number: usize) -> bool {
        self.bundles[number].closed
    }

    /// Sends on what was gathered of a bundle.
    pub(super) fn send_on(&mut self, number: usize) {
        let bundle = &mut self.bundles[number];
        if bundle.gathered.is_empty() {
            return;
        }
        self.gathering.retain(|gathering| *gathering != number);
        let first = bundle.tasks - bundle.gathered.len();
        let part = bundle.gathered.finish(bundle.function.as_deref(), bundle.shape);
        self.new.push(NewPart { bundle: number, part, first, added: first });
    }

    fn send_all_on(&mut self) {
        for number in std::mem::take(&mut self.gathering) {
            self.send_on(number);
        }
    }

    /// Puts new parts where they are found, and tells the scheduler of them.
    fn add_new(&mut self, parts: &mut Parts) {
        for NewPart { bundle, part, first, added } in std::mem::take(&mut self.new) {
            let shape = self.bundles[bundle].shape;
            let Some(range) = self.machine.extend(ALL, part.len(), Arc::new(shape)) else { continue };
            if range.is_empty() {
                continue;
            }
            self.add_span(Span { range, first, bundle });
            self.add_live(range, range.len(), part.bytes_len());
            if let Some(kept) = &mut self.kept {
                kept.keep_part(&part, range, (bundle, first), (self.bundles[bundle].function.as_deref(), shape));
            }
            parts.add(PartPlace { base: range.start, first: added }, part);
        }
    }

    /// Adds positions behind all others.
    fn add_span(&mut self, span: Span) {
        match self.spans.last_mut() {
            Some(last) if last.bundle == span.bundle && last.first + last.range.len() == span.first => {
                last.range.end = span.range.end;
            }
            _ => self.spans.push(span),
        }
    }

    /// Adds a part of which so many tasks have not ended.
    fn add_live(&mut self, range: IndexRange, left: u64, bytes: u64) {
        self.live.push_back((range, left, bytes));
        self.live_bytes += bytes;
    }

    /// Whether what is submitted goes on at once.
    pub(super) fn has_appetite(&self) -> bool {
        self.machine.unfed_tasks() == 0 && self.new.is_empty()
    }

    /// Bytes of the tasks that have not ended.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// The spans that a range touches.
    fn spans_of(&self, range: IndexRange) -> &[Span] {
        let from = self.spans.partition_point(|span| span.range.end <= range.start);
        let to = self.spans.partition_point(|span| span.range.start < range.end);
        &self.spans[from..to.max(from)]
    }

    /// Takes tasks of a bundle back, by what the program calls them.
    pub(super) fn cancel(&mut self, now: u64, number: usize, labels: IndexRange, parts: &mut Parts, out: &mut Outbox) {
        self.send_on(number);
        self.add_new(parts);
        let parts: Vec<IndexRange> = self
            .spans
            .iter()
            .filter(|span| span.bundle == number)
            .filter_map(|span| {
                let start = labels.start.max(span.first);
                let end = labels.end.min(span.first + span.range.len());
                let position = |label: u64| span.range.start + (label - span.first);
                (start < end).then(|| IndexRange::new(position(start), position(end)))
            })
            .collect();
        // What an earlier start knew and the program has not submitted yet is none of these.
        let submitted = |range: IndexRange| match &self.kept {
            Some(kept) => kept.again.submitted(range),
            None => vec![range],
        };
        let parts: Vec<IndexRange> = parts.into_iter().flat_map(submitted).collect();
        for range in parts {
            let mut actions = Vec::new();
            self.machine.cancel(now, ALL, range, &mut actions);
            self.act(actions, Vec::new(), out);
        }
    }

    /// Nobody will take the outcomes of this bundle any more.
    pub(super) fn drop_outcomes(&mut self, number: usize) {
        let bundle = &mut self.bundles[number];
        bundle.dropped = true;
        if let Some(kept) = &mut self.kept {
            kept.drop_due(number);
        }
        self.unread_bytes -= std::mem::take(&mut bundle.outcomes).iter().map(Arrived::bytes).sum::<u64>();
    }

    /// Whether outcomes of this bundle wait to be taken.
    pub(super) fn has_outcomes(&self, number: usize) -> bool {
        !self.bundles[number].outcomes.is_empty() || self.kept.as_ref().is_some_and(|kept| kept.has_due(number))
    }

    /// Some outcomes of a bundle, in the order in which they came; none where none wait.
    pub(super) fn take_outcomes(&mut self, number: usize) -> Taken {
        match self.kept.as_mut().and_then(|kept| kept.take_due(number)) {
            Some((due, most)) => Taken::Kept(due, most),
            None => Taken::Here(self.take_arrived(number)),
        }
    }

    fn take_arrived(&mut self, number: usize) -> Vec<Outcome> {
        let Some(arrived) = self.bundles[number].outcomes.pop_front() else { return Vec::new() };
        self.unread_bytes -= arrived.bytes();
        match arrived {
            Arrived::Outcomes(outcomes) => outcomes,
            Arrived::Alike { labels, status, attempts } => {
                let end = labels.end.min(labels.start + ALIKE_AT_ONCE);
                let outcomes = (labels.start..end).map(|label| without_a_run(label, &status, attempts)).collect();
                if end < labels.end {
                    let rest = Arrived::Alike { labels: IndexRange::new(end, labels.end), status, attempts };
                    self.unread_bytes += rest.bytes();
                    self.bundles[number].outcomes.push_front(rest);
                }
                outcomes
            }
            Arrived::Blocks(blocks) => {
                let mut outcomes = Vec::new();
                let mut rest = &blocks[..];
                // They were walked when they came.
                while let Ok((_, records, bytes)) = read_block(rest) {
                    outcomes.extend(records.map(|outcome| self.labelled(outcome)));
                    rest = &rest[bytes..];
                }
                outcomes
            }
        }
    }

    /// The outcome under what the program calls its task.
    fn labelled(&self, outcome: Outcome) -> Outcome {
        Outcome { index: self.label(outcome.index).map_or(0, |(_, label)| label), ..outcome }
    }

    /// How many tasks of a bundle there are, and how many have ended.
    pub(super) fn counts(&self, number: usize) -> (u64, Counts) {
        (self.bundles[number].tasks, self.bundles[number].counts)
    }

    /// Whether every task of a bundle so far has ended.
    pub(super) fn has_ended(&self, number: usize) -> bool {
        self.bundles[number].ended()
    }

    /// Bytes of outcomes that nobody has taken.
    pub(super) fn unread_bytes(&self) -> u64 {
        self.unread_bytes
    }

    /// Names of the nodes, by number.
    pub(super) fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// Ranks that were given up, and those that are gone with one of them.
    pub(super) fn lost(&self) -> Vec<LostRank> {
        self.losses.all(&self.machine, &self.nodes)
    }

    /// Slot-time of all attempts so far: cores × microseconds.
    pub(super) fn busy_core_us(&self) -> u64 {
        self.machine.busy_core_us()
    }

    /// Names of the nodes, those of earlier starts behind the present ones.
    pub(super) fn set_nodes(&mut self, nodes: Vec<String>) {
        self.nodes = nodes;
    }

    /// Ends the session when all tasks have ended; or, where they are not waited for, at once.
    pub(super) fn end(&mut self, now: u64, waits: bool, parts: &mut Parts, out: &mut Outbox) {
        // What comes now is taken by nobody.
        (0..self.bundles.len()).for_each(|number| self.drop_outcomes(number));
        self.send_all_on();
        self.add_new(parts);
        let mut actions = Vec::new();
        self.machine.close(now, ALL, &mut actions);
        if !waits {
            self.machine.drain(now, EndedBy::Stop, 0, &mut actions);
        }
        self.act(actions, Vec::new(), out);
    }

    fn act(&mut self, actions: Vec<ManagerAction>, blocks: Vec<u8>, out: &mut Outbox) {
        let mut accepted: Vec<EndedRun> = Vec::new();
        for action in actions {
            match action {
                ManagerAction::ToChild(to, message) => {
                    if let (Some(kept), Down::Hand { .. }) = (&mut self.kept, &message) {
                        kept.handed_out = true;
                    }
                    out.push(Outgoing { level: 0, to, control: Control::Down(message), attached: Vec::new() });
                }
                ManagerAction::Record(section) => match &mut self.kept {
                    Some(kept) => kept.push(section),
                    None => accepted.extend(section.runs),
                },
                ManagerAction::RecordOwn { bundle, range, class, attempts, node } => match &mut self.kept {
                    Some(kept) => kept.record_own(bundle, range, class, (attempts, node)),
                    None => self.on_own(range, class, attempts),
                },
                ManagerAction::Failures(_) => {}
                ManagerAction::Benched(node) => {
                    let name = name_of(&self.nodes, node.0);
                    tracing::warn!(
                        "{name} gets no more tasks: nearly all that it started failed, and elsewhere they do not"
                    );
                }
                ManagerAction::Lost(rank) => tracing::warn!("{}", self.losses.note(rank, &self.machine, &self.nodes)),
                ManagerAction::Back(rank) => tracing::warn!("{}", back_note(rank)),
                ManagerAction::Done => self.done = true,
            }
        }
        if !accepted.is_empty() {
            self.on_accepted(&accepted, blocks);
        }
    }

    /// Outcomes that no worker knows.
    fn on_own(&mut self, range: IndexRange, class: OutcomeClass, attempts: u32) {
        let status = if class == OutcomeClass::Cancelled { Status::Cancelled } else { Status::Lost };
        self.count(EndedRun { range, class });
        for span in self.spans_of(range).to_vec() {
            if self.bundles[span.bundle].dropped {
                continue;
            }
            let (start, end) = (range.start.max(span.range.start), range.end.min(span.range.end));
            let label = |index: u64| span.first + (index - span.range.start);
            let labels = IndexRange::new(label(start), label(end));
            self.keep(span.bundle, Arrived::Alike { labels, status: status.clone(), attempts });
        }
    }

    fn keep(&mut self, number: usize, arrived: Arrived) {
        self.unread_bytes += arrived.bytes();
        self.bundles[number].outcomes.push_back(arrived);
    }

    /// Counts tasks that have ended, for their bundles and their parts.
    fn count(&mut self, run: EndedRun) {
        self.count_for_bundles(run);
        self.count_for_parts(run);
    }

    fn count_for_bundles(&mut self, run: EndedRun) {
        for span in self.spans_of(run.range).to_vec() {
            let ended = run.range.end.min(span.range.end) - run.range.start.max(span.range.start);
            let counts = &mut self.bundles[span.bundle].counts;
            match run.class {
                OutcomeClass::Ok => counts.ok += ended,
                OutcomeClass::Failed => counts.failed += ended,
                OutcomeClass::Cancelled => counts.cancelled += ended,
            }
        }
    }

    fn count_for_parts(&mut self, run: EndedRun) {
        let mut at = self.live.partition_point(|(range, ..)| range.end <= run.range.start);
        while let Some((range, left, bytes)) = self.live.get_mut(at)
            && range.start < run.range.end
        {
            *left -= run.range.end.min(range.end) - run.range.start.max(range.start);
            if *left == 0 {
                self.over.push(range.start);
                self.live_bytes -= *bytes;
                self.live.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// Tasks ended for the first time; their records are among those in the blocks.
    fn on_accepted(&mut self, accepted: &[EndedRun], blocks: Vec<u8>) {
        let mut of_one = None;
        let mut mixed = false;
        let mut tasks = 0;
        for run in accepted {
            tasks += run.range.len();
            self.count(*run);
            for span in self.spans_of(run.range) {
                mixed |= of_one.replace(span.bundle).is_some_and(|other| other != span.bundle);
            }
        }
        let records = records_in(&blocks);
        if let (Some(number), false, true) = (of_one, mixed, records == Some(tasks)) {
            if !self.bundles[number].dropped {
                self.keep(number, Arrived::Blocks(blocks));
            }
            return;
        }
        // Of several bundles, or some of them ended before: one by one.
        let mut new = RangeSet::new();
        accepted.iter().for_each(|run| new.insert(run.range));
        let mut by_bundle: Vec<(usize, Vec<Outcome>)> = Vec::new();
        let mut rest = &blocks[..];
        while let Ok((_, records, bytes)) = read_block(rest) {
            for outcome in records.filter(|outcome| new.contains(outcome.index)) {
                let Some(span) = self.spans_of(IndexRange::one(outcome.index)).first().copied() else { continue };
                if self.bundles[span.bundle].dropped {
                    continue;
                }
                let outcome = self.labelled(outcome);
                match by_bundle.iter_mut().find(|(number, _)| *number == span.bundle) {
                    Some((_, outcomes)) => outcomes.push(outcome),
                    None => by_bundle.push((span.bundle, vec![outcome])),
                }
            }
            rest = &rest[bytes..];
        }
        by_bundle.into_iter().for_each(|(number, outcomes)| self.keep(number, Arrived::Outcomes(outcomes)));
    }
}

/// The outcome of a task that no worker tells of.
fn without_a_run(index: u64, status: &Status, attempts: u32) -> Outcome {
    Outcome {
        index,
        status: status.clone(),
        attempts,
        started_unix_us: 0,
        duration_us: 0,
        rank: 0,
        node: 0,
        stdout: Captured::default(),
        stderr: Captured::default(),
    }
}

/// Records in blocks that follow each other; none where something else does.
fn records_in(blocks: &[u8]) -> Option<u64> {
    let (mut rest, mut count) = (blocks, 0);
    while !rest.is_empty() {
        let header = BlockHeader::parse(rest).ok()?;
        count += u64::from(header.count);
        rest = rest.get(usize::try_from(header.total_bytes()).ok()?..)?;
    }
    Some(count)
}

impl Root for MemoryManager {
    /// What kept the DIR from being written, where there is one.
    type End = Result<(), String>;

    fn open(&mut self, now: u64, out: &mut Outbox) {
        let mut actions = Vec::new();
        self.machine.open(now, &mut actions);
        self.act(actions, Vec::new(), out);
    }

    fn on_child(&mut self, now: u64, from: Rank, mut message: Up, mut blocks: Vec<u8>, out: &mut Outbox) {
        if let (Some(kept), Up::Report { report, .. }) = (&mut self.kept, &mut message) {
            kept.keep_report(report, std::mem::take(&mut blocks));
        }
        let mut actions = Vec::new();
        self.machine.on_child(now, from, message, &mut actions);
        self.act(actions, blocks, out);
    }

    fn on_lost(&mut self, now: u64, child: Rank, out: &mut Outbox) {
        let mut actions = Vec::new();
        self.machine.on_lost(now, child, &mut actions);
        self.act(actions, Vec::new(), out);
    }

    fn has_lost(&self) -> bool {
        self.machine.has_lost()
    }

    /// Other ranks ask for the end when they get a signal; in a session signals are the program's own.
    fn on_stop(&mut self, _: u64, _: EndedBy, _: &str, _: &mut Outbox) {}

    fn turn(&mut self, now: u64, parts: &mut Parts, out: &mut Outbox) {
        // While others wait for a slot, what comes one by one is gathered.
        if self.machine.unfed_tasks() == 0 {
            self.send_all_on();
        }
        let comes = !self.new.is_empty();
        self.add_new(parts);
        self.over.drain(..).for_each(|base| parts.remove(base));
        if comes || self.machine.next_tick().is_some_and(|at| at <= now) {
            let mut actions = Vec::new();
            self.machine.step(now, &mut actions);
            self.act(actions, Vec::new(), out);
        }
        if self.kept.is_some() {
            self.turn_kept(now, out);
        }
    }

    fn on_longest(&mut self, now: u64, from: Rank, long: Vec<LongRun>) {
        if let Some(kept) = &mut self.kept {
            kept.on_longest(now, from, long);
        }
    }

    fn next_tick(&self) -> Option<u64> {
        let kept = self.kept.as_ref().filter(|_| !self.done).map(|kept| kept.next_tick());
        self.machine.next_tick().into_iter().chain(kept).min()
    }

    fn has_reserve(&self) -> bool {
        self.machine.has_reserve()
    }

    fn is_over(&self) -> bool {
        self.done && self.kept.as_ref().is_none_or(|kept| kept.is_over())
    }

    fn queued_bytes(&self) -> u64 {
        self.unread_bytes + self.kept.as_ref().map_or(0, |kept| kept.queued_bytes())
    }

    fn finish(mut self, now: u64) -> Self::End {
        self.kept.take().map_or(Ok(()), |kept| kept.finish(now, &self))
    }
}
