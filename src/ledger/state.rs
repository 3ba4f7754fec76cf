//! Which tasks have ended, and how: rank 0's account in memory. Range sets, nothing per task, no files.

use super::journal::Record;
use crate::task::{EndedBy, EndedRun};
use crate::task::{IndexRange, OutcomeClass, RangeSet};

/// What one start of the run said about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartInfo {
    /// Its generation, from its owner record.
    pub generation: u32,
    /// When it started, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// Its table of node names; `Outcome::node` of its records is a position in it.
    pub nodes: Vec<String>,
}

/// How many tasks have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ended well.
    pub ok: u64,
    /// Failed for good.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
}

impl Counts {
    /// All that ended.
    pub fn ended(self) -> u64 {
        self.ok + self.failed + self.cancelled
    }

    /// Counts these as well.
    pub fn add(&mut self, run: EndedRun) {
        let count = match run.class {
            OutcomeClass::Ok => &mut self.ok,
            OutcomeClass::Failed => &mut self.failed,
            OutcomeClass::Cancelled => &mut self.cancelled,
        };
        *count += run.range.len();
    }
}

/// The account. A task has at most one outcome per round: the first wins, a second is refused and counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerState {
    /// Tasks that ended well.
    pub ok: RangeSet,
    /// Tasks that failed.
    pub failed: RangeSet,
    /// Tasks that were cancelled.
    pub cancelled: RangeSet,
    /// Tasks that ended in any way.
    pub ended: RangeSet,
    /// The present round: 0, then one more each time failed tasks were put back.
    pub round: u32,
    /// Outcomes refused because their task had one already.
    pub refused: u64,
    /// Tasks of the bundle, or of a session's row so far; 0 until a start has said.
    pub tasks: u64,
    /// All starts so far.
    pub starts: Vec<StartInfo>,
    /// Why the last start ended, if it said so.
    pub ended_by: Option<EndedBy>,
}

impl LedgerState {
    /// Nothing ended, round 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in runs of ended tasks. Returns those parts that were news; only these may be journaled and told. Runs
    /// of another round than the present one are refused whole.
    pub fn accept(&mut self, round: u32, runs: &[EndedRun]) -> Vec<EndedRun> {
        let mut fresh = Vec::with_capacity(runs.len());
        for run in runs {
            let mut refused = run.range.len();
            if round == self.round {
                let before = fresh.len();
                self.ended.insert_new(run.range, |range| fresh.push(EndedRun { range, class: run.class }));
                for new in &fresh[before..] {
                    self.set_mut(run.class).insert(new.range);
                    refused -= new.range.len();
                }
            }
            self.refused += refused;
        }
        fresh
    }

    /// Takes in a record of the journal; returns what was news, as [`accept`](Self::accept).
    pub fn apply(&mut self, record: &Record) -> Vec<EndedRun> {
        match record {
            Record::Start { generation, started_unix_us, tasks, nodes, .. } => {
                self.tasks = *tasks;
                self.ended_by = None;
                self.starts.push(StartInfo {
                    generation: *generation,
                    started_unix_us: *started_unix_us,
                    nodes: nodes.clone(),
                });
            }
            Record::Ended { round, runs, .. } => return self.accept(*round, runs),
            Record::Round { round, reopened } => {
                self.round = self.round.max(*round);
                for range in reopened {
                    self.reopen(*range);
                }
            }
            Record::End { ended_by, .. } => self.ended_by = Some(*ended_by),
            Record::Submitted(part) => self.tasks = self.tasks.max(part.range.end),
        }
        Vec::new()
    }

    pub(crate) fn reopen(&mut self, range: IndexRange) {
        for set in [&mut self.ok, &mut self.failed, &mut self.cancelled, &mut self.ended] {
            set.remove(range);
        }
    }

    /// Puts every failed task back and opens the next round. Returns the record to be journaled before any of these
    /// tasks is handed out; none when no task has failed.
    pub fn reopen_failed(&mut self) -> Option<Record> {
        let reopened: Vec<IndexRange> = self.failed.iter().collect();
        if reopened.is_empty() {
            return None;
        }
        let record = Record::Round { round: self.round + 1, reopened };
        self.apply(&record);
        Some(record)
    }

    /// How many tasks have ended.
    pub fn counts(&self) -> Counts {
        Counts { ok: self.ok.len(), failed: self.failed.len(), cancelled: self.cancelled.len() }
    }

    /// Those of the positions `0..tasks` that have no outcome, ascending.
    pub fn unfinished(&self, tasks: u64) -> Vec<IndexRange> {
        let mut open = Vec::new();
        let mut at = 0;
        for range in self.ended.iter().take_while(|r| r.start < tasks) {
            if at < range.start {
                open.push(IndexRange::new(at, range.start));
            }
            at = range.end;
        }
        if at < tasks {
            open.push(IndexRange::new(at, tasks));
        }
        open
    }

    /// How the task ended.
    pub fn class_of(&self, index: u64) -> Option<OutcomeClass> {
        [OutcomeClass::Ok, OutcomeClass::Failed, OutcomeClass::Cancelled]
            .into_iter()
            .find(|class| self.set(*class).contains(index))
    }

    /// The tasks that ended so.
    pub fn set(&self, class: OutcomeClass) -> &RangeSet {
        match class {
            OutcomeClass::Ok => &self.ok,
            OutcomeClass::Failed => &self.failed,
            OutcomeClass::Cancelled => &self.cancelled,
        }
    }

    fn set_mut(&mut self, class: OutcomeClass) -> &mut RangeSet {
        match class {
            OutcomeClass::Ok => &mut self.ok,
            OutcomeClass::Failed => &mut self.failed,
            OutcomeClass::Cancelled => &mut self.cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(start: u64, end: u64, class: OutcomeClass) -> EndedRun {
        EndedRun { range: IndexRange::new(start, end), class }
    }

    #[test]
    fn the_first_outcome_wins_and_a_second_is_refused_and_counted() {
        let mut state = LedgerState::new();
        state.accept(0, &[run(5, 10, OutcomeClass::Failed)]);
        let fresh = state.accept(0, &[run(0, 20, OutcomeClass::Ok)]);
        assert_eq!(fresh, [run(0, 5, OutcomeClass::Ok), run(10, 20, OutcomeClass::Ok)]);
        assert_eq!(
            (state.refused, state.class_of(7), state.class_of(3)),
            (5, Some(OutcomeClass::Failed), Some(OutcomeClass::Ok))
        );
    }

    #[test]
    fn only_failed_tasks_come_back_and_only_in_the_next_round() {
        let mut state = LedgerState::new();
        state.accept(
            0,
            &[run(0, 4, OutcomeClass::Ok), run(4, 6, OutcomeClass::Failed), run(6, 7, OutcomeClass::Cancelled)],
        );
        assert_eq!(state.reopen_failed(), Some(Record::Round { round: 1, reopened: vec![IndexRange::new(4, 6)] }));
        assert_eq!(state.unfinished(8), [IndexRange::new(4, 6), IndexRange::new(7, 8)]);
        assert!(state.accept(0, &[run(4, 6, OutcomeClass::Ok)]).is_empty(), "a late word of the old round");
        assert_eq!(state.accept(1, &[run(4, 6, OutcomeClass::Ok)]).len(), 1);
        assert_eq!(state.reopen_failed(), None);
        assert_eq!(state.round, 1);
    }

    fn class() -> impl Strategy<Value = OutcomeClass> {
        prop_oneof![Just(OutcomeClass::Ok), Just(OutcomeClass::Failed), Just(OutcomeClass::Cancelled)]
    }

    proptest! {
        #[test]
        fn the_account_agrees_with_one_entry_per_task(
            steps in prop::collection::vec((0..60u64, 0..20u64, class(), 0..12u8), 0..60)
        ) {
            let mut state = LedgerState::new();
            let mut plain: Vec<Option<OutcomeClass>> = vec![None; 80];
            let mut refused = 0;
            for (start, len, class, dice) in steps {
                if dice == 0 {
                    state.reopen_failed();
                    plain.iter_mut().filter(|c| **c == Some(OutcomeClass::Failed)).for_each(|c| *c = None);
                    continue;
                }
                state.accept(state.round, &[run(start, start + len, class)]);
                for slot in &mut plain[start as usize..(start + len) as usize] {
                    refused += u64::from(slot.is_some());
                    slot.get_or_insert(class);
                }
            }
            prop_assert_eq!(state.refused, refused);
            for (index, class) in plain.iter().enumerate() {
                prop_assert_eq!(state.class_of(index as u64), *class);
                let open = state.unfinished(80).iter().any(|r| r.contains(index as u64));
                prop_assert_eq!(open, class.is_none());
            }
            prop_assert_eq!(state.counts().ended(), plain.iter().flatten().count() as u64);
        }
    }
}
