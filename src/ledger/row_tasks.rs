//! The tasks of a session's DIR as users know them.

use super::dir::RunDir;
use super::parts::{Row, SubmittedPart};
use crate::task::{Bundle, IndexRange};
use serde_json::{Map, Value};
use std::cell::RefCell;

/// Looks tasks up in the parts of a row; one part after the other is held.
#[derive(Debug)]
pub struct RowTasks {
    dir: RunDir,
    row: Row,
    last: RefCell<Option<(usize, Bundle)>>,
}

impl RowTasks {
    /// Those of this row.
    pub fn new(dir: &RunDir, row: &Row) -> Self {
        Self { dir: dir.clone(), row: row.clone(), last: RefCell::default() }
    }

    /// The program's number of the task's bundle, and of the task in it.
    pub fn label(&self, position: u64) -> (u64, u64) {
        let part = self.row.part_at(position).map(|at| &self.row.parts()[at]);
        part.map_or((0, position), |part| (part.bundle, part.label(position)))
    }

    /// The positions of the tasks `first` to `last` of a bundle, as far as there are any.
    pub fn positions(&self, bundle: u64, first: u64, last: u64) -> Vec<IndexRange> {
        let within = |part: &SubmittedPart| {
            let end = part.first + part.range.len();
            let (from, to) = (first.max(part.first), end.min(last.saturating_add(1)));
            let position = |label: u64| part.range.start + (label - part.first);
            (from < to).then(|| IndexRange::new(position(from), position(to)))
        };
        self.row.parts().iter().filter(|part| part.bundle == bundle).filter_map(within).collect()
    }

    /// The keys of a task list that say this task, and its bundle; only the bundle, where the task cannot be read.
    pub fn json(&self, position: u64) -> Map<String, Value> {
        let mut json = self.with(position, |bundle, index| bundle.task_json(index)).unwrap_or_default();
        json.insert("bundle".to_owned(), self.label(position).0.into());
        json
    }

    /// Appends what the task runs, as [`Bundle::put_command`] does; nothing, where it cannot be read.
    pub fn put_command(&self, position: u64, out: &mut Vec<u8>) {
        self.with(position, |bundle, index| bundle.put_command(index, out));
    }

    fn with<T>(&self, position: u64, look: impl FnOnce(&Bundle, u64) -> T) -> Option<T> {
        let at = self.row.part_at(position)?;
        let part = &self.row.parts()[at];
        let mut last = self.last.borrow_mut();
        if last.as_ref().is_none_or(|(held, _)| *held != at) {
            *last = Some((at, part.read(&self.dir).ok()?));
        }
        let (_, bundle) = last.as_ref()?;
        Some(look(bundle, position - part.range.start))
    }
}
