//! The journal replayed: the account, and for each ended task the extent that holds its record.
//!
//! Needed by readers and at a start; a running manager keeps only the account.

use super::journal::{RANGES_PER_RECORD, Record};
use super::parts::Row;
use super::state::LedgerState;
use crate::task::{EndedRun, Extent};
use crate::task::{IndexRange, OutcomeClass, RangeSet};

/// Extents are joined up to this size when a journal is shortened: finding one task reads at most so much.
const JOINED_BYTES: u64 = 1024 * 1024;

/// What one `Ended` record pointed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub extent: Option<Extent>,
    pub round: u32,
}

/// Consecutive tasks of the same class with the same report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub range: IndexRange,
    /// Position in the table of reports.
    pub report: u32,
    pub class: OutcomeClass,
}

/// The account and where the records lie. Grows with reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replay {
    pub state: LedgerState,
    pub reports: Vec<Report>,
    /// In the order of the journal, until [`sort`](Self::sort).
    pub locations: Vec<Location>,
    /// One above the highest segment number that a start has set aside.
    pub next_segment: u32,
    /// What a program submitted, where this is a session.
    pub row: Row,
}

impl Replay {
    /// Takes in one record; how many tasks it said news of.
    pub fn apply(&mut self, record: &Record) -> u64 {
        let fresh = self.state.apply(record);
        match record {
            Record::Ended { round, extent, .. } if !fresh.is_empty() => {
                let report = self.reports.len() as u32;
                self.reports.push(Report { extent: *extent, round: *round });
                self.locations.extend(fresh.iter().map(|run| Location { range: run.range, report, class: run.class }));
            }
            Record::Round { reopened, .. } if !reopened.is_empty() => self.forget(reopened),
            Record::Submitted(part) => self.row.push(part),
            Record::Start { first_segment, segments, .. } => {
                self.next_segment = self.next_segment.max(first_segment.saturating_add(*segments));
            }
            _ => {}
        }
        fresh.iter().map(|run| run.range.len()).sum()
    }

    /// Drops the locations of these tasks.
    fn forget(&mut self, reopened: &[IndexRange]) {
        let mut set = RangeSet::new();
        reopened.iter().for_each(|range| set.insert(*range));
        let ranges: Vec<IndexRange> = set.iter().collect();
        let old = std::mem::take(&mut self.locations);
        for location in old {
            let first = ranges.partition_point(|r| r.end <= location.range.start);
            let mut at = location.range.start;
            for hole in ranges[first..].iter().take_while(|r| r.start < location.range.end) {
                if at < hole.start {
                    self.locations.push(Location { range: IndexRange::new(at, hole.start), ..location });
                }
                at = at.max(hole.end);
            }
            if at < location.range.end {
                self.locations.push(Location { range: IndexRange::new(at, location.range.end), ..location });
            }
        }
    }

    /// Drops every report for which `keep` is false, its tasks are open again. Returns how many tasks.
    pub fn retain(&mut self, keep: impl Fn(&Report) -> bool) -> u64 {
        let reports = &self.reports;
        let (kept, dropped) = std::mem::take(&mut self.locations)
            .into_iter()
            .partition::<Vec<_>, _>(|location| keep(&reports[location.report as usize]));
        self.locations = kept;
        for location in &dropped {
            self.state.reopen(location.range);
        }
        dropped.iter().map(|location| location.range.len()).sum()
    }

    /// Takes off what stands behind the first so many parts of the row; returns how many of these tasks had ended.
    pub fn cut_row(&mut self, parts: usize) -> u64 {
        self.row.truncate(parts);
        self.state.tasks = self.row.len();
        let cut = IndexRange::new(self.row.len(), u64::MAX);
        let ended = self.state.ended.overlapping(cut).map(IndexRange::len).sum();
        self.state.reopen(cut);
        self.forget(&[cut]);
        ended
    }

    /// Puts the locations into task order, for [`find`](Self::find).
    pub fn sort(&mut self) {
        self.locations.sort_unstable_by_key(|location| location.range.start);
    }

    /// Where the task's record lies. Locations must be in task order.
    pub fn find(&self, index: u64) -> Option<(Location, Report)> {
        let at = self.locations.partition_point(|location| location.range.end <= index);
        let location = *self.locations.get(at).filter(|location| location.range.contains(index))?;
        Some((location, self.reports[location.report as usize]))
    }

    /// Records that replay to the same, in their shortest form: adjoining extents of a round and the runs of tasks
    /// within them are joined.
    pub fn snapshot(&self) -> impl Iterator<Item = Record> + '_ {
        let starts = self.state.starts.iter().map(|start| Record::Start {
            generation: start.generation,
            started_unix_us: start.started_unix_us,
            tasks: self.state.tasks,
            nodes: start.nodes.clone(),
            first_segment: self.next_segment,
            segments: 0,
        });
        let parts = self.row.parts().iter().cloned().map(Record::Submitted);
        let mut by_place = self.locations.clone();
        let place = |location: &Location| {
            let report = self.reports[location.report as usize];
            (report.round, report.extent)
        };
        by_place.sort_by_key(|location| (place(location), location.range.start));
        let mut ended = Vec::new();
        let mut group: Option<(Report, Vec<EndedRun>)> = None;
        for location in by_place {
            let next = self.reports[location.report as usize];
            let run = EndedRun { range: location.range, class: location.class };
            group = Some(match group.take() {
                Some((report, mut runs)) if joined(report, next).is_some() && runs.len() < RANGES_PER_RECORD => {
                    runs.push(run);
                    (joined(report, next).unwrap_or(report), runs)
                }
                full => {
                    ended.extend(full.map(ended_record));
                    (next, vec![run])
                }
            });
        }
        ended.extend(group.map(ended_record));
        let rounds = with_rounds(ended, self.state.round);
        starts.chain(parts).chain(rounds)
    }
}

/// Both as one, where they are of one round and their extents are the same or adjoin.
fn joined(report: Report, next: Report) -> Option<Report> {
    if report.round != next.round {
        return None;
    }
    let extent = match (report.extent, next.extent) {
        (None, None) => None,
        (Some(a), Some(b)) if a == b => Some(a),
        (Some(a), Some(b)) => match a.join(b) {
            Some(both) if both.len <= JOINED_BYTES => Some(both),
            // The same extent as the last one joined.
            None if a.segment == b.segment && a.offset <= b.offset && a.end() == b.end() => Some(a),
            _ => return None,
        },
        _ => return None,
    };
    Some(Report { extent, ..report })
}

fn ended_record((report, mut runs): (Report, Vec<EndedRun>)) -> Record {
    runs.sort_unstable_by_key(|run| run.range.start);
    let mut joined: Vec<EndedRun> = Vec::new();
    for run in runs {
        match joined.last_mut() {
            Some(last) if last.class == run.class && last.range.end == run.range.start => {
                last.range.end = run.range.end;
            }
            _ => joined.push(run),
        }
    }
    Record::Ended { round: report.round, extent: report.extent, runs: joined }
}

/// Puts a `Round` record before the first record of each round, and one for the present round at the end.
fn with_rounds(ended: Vec<Record>, present: u32) -> impl Iterator<Item = Record> {
    let mut at = 0;
    let step = move |to: u32, at: &mut u32| {
        let turn = (to > *at).then_some(Record::Round { round: to, reopened: Vec::new() });
        *at = to.max(*at);
        turn
    };
    let mut records = Vec::with_capacity(ended.len() + 1);
    for record in ended {
        if let Record::Ended { round, .. } = &record {
            records.extend(step(*round, &mut at));
        }
        records.push(record);
    }
    records.extend(step(present, &mut at));
    records.into_iter()
}
