//! The manager of a session with a DIR: where it goes other ways than one that keeps outcomes in memory.

use super::again::Present;
use super::due::Due;
use super::kept::{Early, Kept};
use super::{ALL, MemoryManager, Span};
use crate::drive::SessionError;
use crate::drive::parts::{PartPlace, Parts};
use crate::drive::roles::Outbox;
use crate::ledger::LedgerError;
use crate::schedule::Shapes;
use crate::task::{Bundle, EndedRun, IndexRange, Shape};
use std::sync::Arc;

/// Shapes of the row so far: the end of each run of equal shape.
struct RowShapes(Vec<(u64, Shape)>);

impl Shapes for RowShapes {
    fn run_at(&self, range: IndexRange) -> (u64, Shape) {
        let at = self.0.partition_point(|(end, _)| *end <= range.start);
        self.0.get(at).map_or((range.end, Shape::PROCESS), |(end, shape)| (range.end.min(*end), *shape))
    }
}

impl MemoryManager {
    /// Keeps the session in its DIR, and puts to work what earlier starts left there.
    ///
    /// # Errors
    /// Tasks cannot be read.
    pub(in crate::drive) fn keep_in(&mut self, kept: Kept, parts: &mut Parts) -> Result<(), LedgerError> {
        let row = kept.again.row();
        let mut shapes: Vec<(u64, Shape)> = Vec::new();
        for part in row.parts() {
            match shapes.last_mut() {
                Some((end, shape)) if *shape == part.shape => *end = part.range.end,
                _ => shapes.push((part.range.end, part.shape)),
            }
            self.add_span(Span { range: part.range, first: part.first, bundle: part.bundle as usize });
        }
        for (at, bundle) in kept.again.unfinished(kept.ended())? {
            let part = &row.parts()[at];
            let left = kept.ended().missing(part.range).into_iter().map(IndexRange::len).sum();
            self.add_live(part.range, left, bundle.bytes_len());
            let first = part.first.wrapping_sub(bundle.label(0));
            parts.add(PartPlace { base: part.range.start, first }, bundle);
        }
        self.machine.resume_bundle(ALL, row.len(), kept.ended().clone(), Arc::new(RowShapes(shapes)));
        self.kept = Some(Box::new(kept));
        Ok(())
    }

    /// Whether a task of a bundle, or one behind it, was submitted to an earlier start.
    pub(super) fn knows(&self, number: usize, label: u64) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.again.knows(number, label))
    }

    /// A task that is known is submitted again.
    pub(super) fn submit_again(&mut self, number: usize, entry: &[u8]) -> Result<u64, SessionError> {
        let Some(mut kept) = self.kept.take() else { return Err(SessionError::Ended) };
        let bundle = &self.bundles[number];
        let now = Present { number, function: bundle.function.as_deref(), shape: bundle.shape };
        let label = bundle.tasks;
        let position = kept.again.submit(now, label, entry);
        if let Ok(position) = &position {
            self.bundles[number].tasks += 1;
            self.tell_known(&mut kept, IndexRange::one(*position));
        }
        self.kept = Some(kept);
        position.map(|_| label)
    }

    /// An array that is known is submitted again.
    pub(super) fn submit_array_again(&mut self, number: usize, first: u64, array: &Bundle) -> Result<(), SessionError> {
        let Some(mut kept) = self.kept.take() else { return Err(SessionError::Ended) };
        let bundle = &self.bundles[number];
        let now = Present { number, function: bundle.function.as_deref(), shape: bundle.shape };
        let range = kept.again.submit_array(now, first, array);
        if let Ok(range) = &range {
            self.bundles[number].tasks += range.len();
            self.tell_known(&mut kept, *range);
        }
        self.kept = Some(kept);
        range.map(|_| ())
    }

    /// The program may hear of those of these tasks that have ended.
    fn tell_known(&mut self, kept: &mut Kept, range: IndexRange) {
        for (run, place) in kept.again.ended(range) {
            self.tell(kept, run, place);
        }
    }

    fn tell(&mut self, kept: &mut Kept, run: EndedRun, place: super::again::Place) {
        self.count_for_bundles(run);
        for span in self.spans_of(run.range) {
            if !self.bundles[span.bundle].dropped {
                let (start, end) = (run.range.start.max(span.range.start), run.range.end.min(span.range.end));
                let first = span.first + (start - span.range.start);
                kept.make_due(span.bundle, IndexRange::new(start, end), first, place);
            }
        }
    }

    /// Outcomes of a bundle that were taken and not read.
    pub(in crate::drive) fn put_back(&mut self, number: usize, due: Due) {
        if let Some(kept) = &mut self.kept {
            kept.put_back(number, due);
        }
    }

    /// Tells the program what has durably ended, and does what the clock asks for.
    pub(super) fn turn_kept(&mut self, now: u64, out: &mut Outbox) {
        let Some(mut kept) = self.kept.take() else { return };
        for (run, place) in kept.release(now) {
            self.count_for_parts(run);
            for run in kept.again.note_ended(run, place) {
                self.tell(&mut kept, run, place);
            }
        }
        let stop = kept.chores(now, self);
        self.kept = Some(kept);
        if let Some((why, grace_us)) = stop {
            let mut actions = Vec::new();
            self.machine.drain(now, why, grace_us, &mut actions);
            self.act(actions, Vec::new(), out);
        }
    }

    /// The bundle and what the program calls the task at a position.
    pub(super) fn label(&self, position: u64) -> Option<(usize, u64)> {
        let span = self.spans_of(IndexRange::one(position)).first()?;
        Some((span.bundle, span.first + (position - span.range.start)))
    }

    /// Why the session ends before the program ends it, where it does.
    pub(in crate::drive) fn ends_early(&self) -> Option<SessionError> {
        self.kept.as_ref()?.early().map(|early| match early {
            Early::Stop => SessionError::Stopped,
            Early::Lost(why) => SessionError::Dir(why.clone()),
        })
    }
}
