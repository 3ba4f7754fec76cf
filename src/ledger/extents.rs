//! Outcomes read extent by extent, in the order in which they were kept: how a program gets those that lie in its DIR.

use super::dir::RunDir;
use super::error::LedgerError;
use super::segment::{SegmentFile, segment_path};
use super::state::StartInfo;
use crate::task::{Extent, Outcome};
use std::collections::{HashMap, HashSet, VecDeque};

/// Extents that are held: a program may take outcomes of several bundles in turn.
const HELD: usize = 8;

/// The outcomes of an extent.
#[derive(Debug)]
struct Held {
    extent: Extent,
    round: u32,
    /// In the order of the file; none where it was given.
    outcomes: Vec<Option<Outcome>>,
    /// All before this place were given.
    given: usize,
}

/// Reads the outcomes of one DIR.
#[derive(Debug)]
pub struct ExtentReader {
    dir: RunDir,
    /// For each earlier start: its table of nodes as positions in the present one.
    node_tables: HashMap<u32, Vec<u32>>,
    /// The one that was read last stands at the end.
    held: VecDeque<Held>,
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
        Self { dir, node_tables, held: VecDeque::new() }
    }

    /// Gives outcomes of this round that lie there and are wanted, each once, in the order in which they were kept; no more
    /// than so many.
    ///
    /// # Errors
    /// The extent cannot be read or is damaged.
    pub fn read(
        &mut self,
        extent: Extent,
        round: u32,
        most: usize,
        is_wanted: impl Fn(u64) -> bool,
    ) -> Result<Vec<Outcome>, LedgerError> {
        let known = self.held.iter().position(|held| (held.extent, held.round) == (extent, round));
        let mut held = match known.and_then(|at| self.held.remove(at)) {
            Some(held) => held,
            None => Held { extent, round, outcomes: self.read_all(extent, round)?, given: 0 },
        };
        let mut given = Vec::new();
        for outcome in &mut held.outcomes[held.given..] {
            if given.len() == most {
                break;
            }
            given.extend(outcome.take_if(|outcome| is_wanted(outcome.index)));
        }
        held.given += held.outcomes[held.given..].iter().take_while(|outcome| outcome.is_none()).count();
        if held.given < held.outcomes.len() {
            self.held.push_back(held);
        }
        while self.held.len() > HELD {
            self.held.pop_front();
        }
        Ok(given)
    }

    /// That the record of a task is not where it should be.
    pub fn missing(&self, index: u64, extent: Extent) -> LedgerError {
        let path = segment_path(&self.dir.segments(), extent.segment);
        LedgerError::RecordMissing { index, path, offset: extent.offset }
    }

    fn read_all(&self, extent: Extent, round: u32) -> Result<Vec<Option<Outcome>>, LedgerError> {
        let file = SegmentFile::open(&self.dir.segments(), extent.segment)?;
        let (mut outcomes, mut payload, mut at) = (Vec::new(), Vec::new(), extent.offset);
        // The first record of a task is the one that counts.
        let mut seen = HashSet::new();
        while at < extent.end() {
            let header = file.header(at, extent.end())?;
            if header.round == round {
                file.payload(&header, at, &mut payload)?;
                let records = header.records(&payload).map_err(|error| error.at(&file.path, at))?;
                let first = records.filter(|record| seen.insert(record.index));
                outcomes.extend(first.map(|record| Some(self.placed(record.to_outcome(), header.start))));
            }
            at += header.total_bytes();
        }
        Ok(outcomes)
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

#[cfg(test)]
mod tests {
    use super::super::testing::printed;
    use super::super::{BlockBuilder, SegmentWriter};
    use super::*;
    use crate::task::Status;
    use crate::wake::Wake;
    use std::time::Duration;

    #[test]
    fn outcomes_come_in_the_order_of_the_file_each_once_with_present_nodes() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(Some(&folder.path().join("session"))).unwrap();
        let mut segment = SegmentWriter::new(&dir.segments(), 3, Duration::ZERO, Wake::new().unwrap());
        let mut extent: Option<Extent> = None;
        // Task 9 ends twice, and the first counts; what ended in another round does not.
        for (start, round, indexes) in [(1, 0, [9, 2]), (2, 0, [5, 9]), (2, 1, [7, 1]), (2, 0, [4, 6])] {
            let mut block = BlockBuilder::new(start, round);
            for index in indexes {
                let status = if start == 1 { Status::Ok } else { Status::Exit(1) };
                block.push(&Outcome { node: 1, ..printed(index, status) });
            }
            let next = segment.append(block.finish());
            extent = Some(extent.map_or(next, |extent| extent.join(next).unwrap()));
        }
        segment.finish().unwrap();
        let extent = extent.unwrap();
        let mut nodes = vec!["b".to_owned(), "c".to_owned()];
        let first = StartInfo { generation: 1, started_unix_us: 0, nodes: vec!["a".to_owned(), "b".to_owned()] };
        let mut reader = ExtentReader::new(dir, &[first], &mut nodes);
        assert_eq!(nodes, ["b", "c", "a"]);
        let mut read = |most: usize, is_wanted: fn(u64) -> bool| -> Vec<(u64, bool, u32)> {
            let outcomes = reader.read(extent, 0, most, is_wanted).unwrap();
            outcomes.iter().map(|o| (o.index, o.status == Status::Ok, o.node)).collect()
        };
        assert_eq!(read(1, |index| index < 6), [(2, true, 0)]);
        assert_eq!(read(2, |_| true), [(9, true, 0), (5, false, 1)]);
        assert_eq!(read(9, |index| index != 4), [(6, false, 1)]);
        assert_eq!(read(9, |_| true), [(4, false, 1)]);
    }
}
