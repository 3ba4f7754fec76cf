//! Outcomes read extent by extent, in the order in which they were kept: how a program gets those that lie in its DIR.

use super::dir::RunDir;
use super::error::LedgerError;
use super::segment::{SegmentFile, segment_path};
use super::state::StartInfo;
use crate::task::{Extent, IndexRange, Outcome};
use std::collections::HashMap;

/// Outcomes by position; none where it was given.
type Kept = Vec<(u64, Option<Outcome>)>;

/// Reads the outcomes of one DIR.
#[derive(Debug)]
pub struct ExtentReader {
    dir: RunDir,
    /// For each earlier start: its table of nodes as positions in the present one.
    node_tables: HashMap<u32, Vec<u32>>,
    /// The extent that was read last, with what was not asked for yet, by position: the next is as a rule of the same.
    last: Option<((Extent, u32), Kept)>,
}

impl ExtentReader {
    /// A reader of what these starts and the present one kept. `nodes` is the present table; names of earlier starts that
    /// it lacks are added to it.
    pub fn new(dir: RunDir, starts: &[StartInfo], nodes: &mut Vec<String>) -> Self {
        let mut place_of = |name: &String| {
            let place = nodes.iter().position(|known| known == name).unwrap_or_else(|| {
                nodes.push(name.clone());
                nodes.len() - 1
            });
            place as u32
        };
        let node_tables =
            starts.iter().map(|start| (start.generation, start.nodes.iter().map(&mut place_of).collect())).collect();
        Self { dir, node_tables, last: None }
    }

    /// The outcomes of these tasks, whose records of this round lie there. Each task is asked for once.
    ///
    /// # Errors
    /// The extent cannot be read or is damaged, or the record of a task is not there.
    pub fn read(&mut self, extent: Extent, round: u32, wanted: &[IndexRange]) -> Result<Vec<Outcome>, LedgerError> {
        if self.last.as_ref().is_none_or(|(read, _)| *read != (extent, round)) {
            let outcomes = self.read_all(extent, round)?;
            self.last = Some(((extent, round), outcomes));
        }
        let kept = self.last.as_mut().map_or(&mut [][..], |(_, kept)| kept);
        let mut outcomes = Vec::new();
        for index in wanted.iter().flat_map(|range| range.start..range.end) {
            let found = kept.binary_search_by_key(&index, |(index, _)| *index).ok().and_then(|at| kept[at].1.take());
            outcomes.push(found.ok_or_else(|| {
                let path = segment_path(&self.dir.segments(), extent.segment);
                LedgerError::RecordMissing { index, path, offset: extent.offset }
            })?);
        }
        Ok(outcomes)
    }

    fn read_all(&self, extent: Extent, round: u32) -> Result<Kept, LedgerError> {
        let file = SegmentFile::open(&self.dir.segments(), extent.segment)?;
        let (mut outcomes, mut payload, mut at) = (Vec::new(), Vec::new(), extent.offset);
        while at < extent.end() {
            let header = file.header(at, extent.end())?;
            if header.round == round {
                file.payload(&header, at, &mut payload)?;
                let records = header.records(&payload).map_err(|error| error.at(&file.path, at))?;
                outcomes.extend(records.map(|record| self.placed(record.to_outcome(), header.start)));
            }
            at += header.total_bytes();
        }
        // Stable: the first record of a task is the one that counts.
        outcomes.sort_by_key(|outcome| outcome.index);
        outcomes.dedup_by_key(|outcome| outcome.index);
        Ok(outcomes.into_iter().map(|outcome| (outcome.index, Some(outcome))).collect())
    }

    /// The outcome with its node as a position in the present table.
    fn placed(&self, outcome: Outcome, start: u32) -> Outcome {
        let node = match self.node_tables.get(&start) {
            Some(table) => table.get(outcome.node as usize).copied().unwrap_or(u32::MAX),
            None => outcome.node,
        };
        Outcome { node, ..outcome }
    }
}
