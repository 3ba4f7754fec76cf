//! A bundle: an immutable, indexed set of tasks in one flat file that is mapped, or in bytes that travelled. Nothing
//! in it is believed before its length and checksum fit. Only files that Myriarch wrote are mapped: a file of the
//! user's may shrink under the map and kill the process.

use super::call_entry::CallEntry;
use super::cause::io_cause;
use super::command::Command;
use super::layout::{self, Damage, Entry, Header, RunRecord, Sections};
use super::placeholder::SlotText;
use super::template::{Kind, Template};
use super::{IndexRange, Resources};
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the scheduler needs to know of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// What it takes.
    pub resources: Resources,
    /// Further attempts after a failed one.
    pub retries: u32,
    /// It is a function to call, not a process to start.
    pub calls: bool,
}

impl Shape {
    /// One attempt at a process that takes one core.
    pub const PROCESS: Shape = Shape { resources: Resources::ONE_CORE, retries: 0, calls: false };
    /// One attempt at a function that takes one core.
    pub const CALL: Shape = Shape { calls: true, ..Shape::PROCESS };
}

/// A bundle that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be opened, read or mapped.
    #[error("{}: {}", path.display(), io_cause(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is damaged or none of ours.
    #[error("{}: {damage}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// Bytes that came in a message are damaged.
    #[error("a slice of a bundle: {damage}")]
    Slice {
        /// What is wrong with them.
        damage: Damage,
    },
}

enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// An immutable, indexed set of tasks. Holds all of them or, as a slice, the tasks of one range at their own positions.
pub struct Bundle {
    bytes: Bytes,
    sections: Sections,
    common: Arc<Common>,
}

/// What all tasks have in common. Bundles that follow each other share it where they can: it takes longer to read than a
/// few tasks.
#[derive(Debug)]
pub(super) struct Common {
    template: Template,
    source: String,
}

impl Common {
    fn read(bytes: &[u8]) -> Result<Self, Damage> {
        let (source, template) = postcard::from_bytes(bytes)
            .map_err(|_| Damage::Content { section: "template", why: "it cannot be read" })?;
        Ok(Self { template, source })
    }

    /// Of tasks that a program made, with the bytes that stand for it in a bundle.
    pub(super) fn of_program(template: Template) -> (Self, Vec<u8>) {
        let source = String::new();
        let bytes =
            postcard::to_stdvec(&(&source, &template)).expect("a template holds nothing that cannot be written");
        (Self { template, source }, bytes)
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held();
        write!(f, "Bundle({:016x}, {}..{} of {} tasks)", self.id(), held.start, held.end, self.len())
    }
}

impl Bundle {
    /// Maps a bundle file and checks all of it: one pass over its bytes.
    pub fn open(path: &Path) -> Result<Bundle, BundleError> {
        let failed = |source| BundleError::Io { path: path.to_owned(), source };
        let damaged = |damage| BundleError::File { path: path.to_owned(), damage };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() < layout::HEADER_BYTES as u64 {
            return Err(damaged(Damage::NoBundle));
        }
        // SAFETY: a bundle file is written under another name, synced, renamed and never changed or cut afterwards,
        // so the mapped bytes stay as they are. Whoever damages files in a run's folder on purpose can end the run.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Self::checked(Bytes::Mapped(map), None).map_err(damaged)
    }

    /// A slice that travelled, or a whole bundle in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Bundle, BundleError> {
        Self::from_bytes_after(bytes, None)
    }

    /// The same, behind another that may well have the same template.
    pub fn from_bytes_after(bytes: Vec<u8>, before: Option<&Bundle>) -> Result<Bundle, BundleError> {
        Self::checked(Bytes::Owned(bytes), before).map_err(|damage| BundleError::Slice { damage })
    }

    fn checked(bytes: Bytes, before: Option<&Bundle>) -> Result<Bundle, Damage> {
        let sections = layout::check(bytes.as_slice(), true)?;
        let template = &bytes.as_slice()[sections.template.clone()];
        let common = match before {
            Some(before) if before.template_bytes() == template => before.common.clone(),
            _ => Arc::new(Common::read(template)?),
        };
        let bundle = Bundle { bytes, sections, common };
        if bundle.is_symbolic() == bundle.entries().is_empty() || bundle.held().is_empty() {
            return Ok(bundle);
        }
        Err(Damage::Content { section: "index", why: "it does not fit the kind of the tasks" })
    }

    /// What this process has just put together.
    ///
    /// # Panics
    /// Where it is no bundle.
    pub(super) fn assembled(bytes: Vec<u8>, common: Arc<Common>) -> Bundle {
        let sections = layout::check(&bytes, false).expect("it was put together in this process");
        Bundle { bytes: Bytes::Owned(bytes), sections, common }
    }

    /// Whether the tasks of both have the same template, and it lies here only once.
    pub fn shares_template(&self, other: &Bundle) -> bool {
        Arc::ptr_eq(&self.common, &other.common)
    }

    fn template_bytes(&self) -> &[u8] {
        &self.bytes.as_slice()[self.sections.template.clone()]
    }

    fn header(&self) -> &Header {
        &self.sections.header
    }

    fn entries(&self) -> &[Entry] {
        layout::entries(&self.bytes.as_slice()[self.sections.entries.clone()])
    }

    fn runs(&self) -> &[RunRecord] {
        layout::run_records(&self.bytes.as_slice()[self.sections.runs.clone()])
    }

    fn payload(&self) -> &[u8] {
        &self.bytes.as_slice()[self.sections.payload.clone()]
    }

    pub(super) fn template(&self) -> &Template {
        &self.common.template
    }

    /// The positions held here: all of them, or those of the slice.
    pub fn held(&self) -> IndexRange {
        // `layout::check` has seen that they are in order.
        IndexRange { start: self.header().start.get(), end: self.header().end.get() }
    }

    /// Whether the task is held here.
    pub fn covers(&self, index: u64) -> bool {
        self.held().contains(index)
    }

    /// Bytes that it takes.
    pub fn bytes_len(&self) -> u64 {
        self.bytes.as_slice().len() as u64
    }

    /// Identity of the content: equal for equal tasks under equal options, wherever they came from. A slice keeps
    /// that of the whole.
    pub fn id(&self) -> u64 {
        self.header().id.get()
    }

    /// Tasks of the whole bundle.
    pub fn len(&self) -> u64 {
        self.header().len.get()
    }

    /// Whether the whole bundle has no task.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a user calls the task: the array's own number, otherwise the position.
    pub fn label(&self, index: u64) -> u64 {
        self.common.template.label(index)
    }

    /// The position of what a user calls a task.
    pub fn position_of_label(&self, label: u64) -> Option<u64> {
        self.common.template.position_of_label(label, self.len())
    }

    /// Line of the task in its source, from 1, where there are lines.
    pub fn line(&self, index: u64) -> Option<u64> {
        if matches!(self.common.template.kind, Kind::EachLine { has_lines: false, .. }) {
            return None;
        }
        self.index_entry(index).map(|entry| index + 1 + u64::from(entry.skipped.get()))
    }

    /// Where the tasks came from, for messages: `tasks.txt`, `standard input`, `--array 0-99`.
    pub fn source(&self) -> &str {
        &self.common.source
    }

    fn index_entry(&self, index: u64) -> Option<&Entry> {
        let place = index.checked_sub(self.held().start)?;
        self.entries().get(usize::try_from(place).ok()?)
    }

    /// The task's text, where it has one.
    pub fn entry(&self, index: u64) -> Option<&[u8]> {
        let entry = self.index_entry(index)?;
        let start = usize::try_from(entry.offset.get()).ok()?;
        self.payload().get(start..start.checked_add(entry.length.get() as usize)?)
    }

    /// What the scheduler needs of a task.
    ///
    /// # Panics
    /// When the task is not held here.
    pub fn shape(&self, index: u64) -> Shape {
        assert!(self.covers(index), "task {index} is not in {self:?}");
        let runs = self.runs();
        runs[runs.partition_point(|run| run.end.get() <= index)].shape()
    }

    /// The tasks of a range as runs of equal shape, at a cost that counts runs, not tasks.
    ///
    /// # Panics
    /// When a task of the range is not held here.
    pub fn shape_runs(&self, range: IndexRange) -> impl Iterator<Item = (IndexRange, Shape)> {
        self.assert_holds(range);
        let runs = self.runs();
        let first = runs.partition_point(|run| run.end.get() <= range.start);
        let mut start = range.start;
        runs[first..].iter().map_while(move |run| {
            let end = run.end.get().min(range.end);
            let part = (start < end).then(|| IndexRange::new(start, end))?;
            start = end;
            Some((part, run.shape()))
        })
    }

    fn assert_holds(&self, range: IndexRange) {
        let held = self.held();
        let within = range.is_empty() || (held.start <= range.start && range.end <= held.end);
        assert!(within, "tasks {}..{} are not in {self:?}", range.start, range.end);
    }

    /// The most that any task of the whole bundle takes, of each resource.
    pub fn max_resources(&self) -> Resources {
        Resources { cores: self.header().max_cores.get(), gpus: self.header().max_gpus.get() }
    }

    /// What a task takes that does not say so itself.
    pub fn default_resources(&self) -> Resources {
        self.common.template.shape.resources
    }

    /// What an attempt on that slot runs.
    ///
    /// # Panics
    /// When the task is not held here.
    pub fn command(&self, index: u64, slot: u32) -> Command {
        assert!(self.covers(index), "task {index} is not in {self:?}");
        self.common.template.command(index, self.entry(index), SlotText::Number(slot))
    }

    /// The functions that tasks call, by their numbers; none where all tasks are processes.
    pub fn functions(&self) -> &[String] {
        self.common.template.kind.functions()
    }

    /// Whether every task calls the same function, which no line of a list names.
    pub fn called_by_all(&self) -> bool {
        self.common.template.kind.call().is_some()
    }

    /// The number of the function that a task calls; `None` where the task is not held here or calls none.
    pub fn function_of(&self, index: u64) -> Option<u32> {
        match &self.common.template.kind {
            Kind::Json { .. } => Some(CallEntry::read(self.entry(index)?)?.function),
            kind => kind.call().map(|_| 0),
        }
    }

    /// The time limit of each task that says none itself.
    pub fn timeout(&self) -> Option<std::time::Duration> {
        self.common.template.timeout
    }

    /// What the function is given for a task; empty where the task is not held here or calls none. What has to be made is
    /// made in `row`, in place of what was there.
    pub fn call_payload<'a>(&'a self, index: u64, row: &'a mut Vec<u8>) -> &'a [u8] {
        self.common.template.payload(index, self.entry(index), row)
    }

    /// Whether some tasks held here are processes.
    pub fn starts_processes(&self) -> bool {
        self.runs().iter().any(|run| !run.shape().calls)
    }

    /// Appends what the task runs as a person could type it into a shell, its program alone: no folder, variables or
    /// input. `{%}` is `${MYRIARCH_SLOT}` there.
    ///
    /// # Panics
    /// When the task is not held here.
    pub fn put_command(&self, index: u64, out: &mut Vec<u8>) {
        assert!(self.covers(index), "task {index} is not in {self:?}");
        self.common.template.put_command(index, self.entry(index), out);
    }

    /// The keys of a task list that make this task again. `{%}` becomes `$MYRIARCH_SLOT` in a shell line.
    ///
    /// # Panics
    /// When the task is not held here.
    pub fn task_json(&self, index: u64) -> serde_json::Map<String, serde_json::Value> {
        assert!(self.covers(index), "task {index} is not in {self:?}");
        self.common.template.task_to_write(index, self.entry(index)).to_json()
    }

    /// Whether tasks have no texts of their own, only positions.
    pub fn is_symbolic(&self) -> bool {
        self.common.template.is_symbolic()
    }

    /// Bytes of text in the smallest slice that holds this task: those of the task, or of the whole bundle where tasks have
    /// none of their own.
    pub fn least_slice_bytes(&self, index: u64) -> u64 {
        if self.is_symbolic() {
            return self.bytes_len();
        }
        self.index_entry(index).map_or(0, |entry| u64::from(entry.length.get()))
    }

    /// The first tasks of a range: as many as so many bytes of text hold, and at least one, where there is any.
    ///
    /// # Panics
    /// When a task of the range is not held here.
    pub fn first_of(&self, range: IndexRange, bytes: u64) -> IndexRange {
        self.assert_holds(range);
        if self.is_symbolic() || range.is_empty() {
            return range;
        }
        let place = |index: u64| (index - self.held().start) as usize;
        let entries = &self.entries()[place(range.start)..place(range.end)];
        let start = entries[0].offset.get();
        let end = |entry: &Entry| entry.offset.get() + u64::from(entry.length.get());
        let count = entries.partition_point(|entry| end(entry) - start <= bytes).max(1);
        IndexRange::new(range.start, range.start + count as u64)
    }

    /// A bundle in itself that holds only the tasks of a range, at their positions. Symbolic bundles give themselves.
    ///
    /// # Panics
    /// When a task of the range is not held here.
    pub fn extract(&self, range: IndexRange) -> Vec<u8> {
        self.assert_holds(range);
        if self.is_symbolic() || range == self.held() {
            return self.bytes.as_slice().to_vec();
        }
        let place = |index: u64| (index - self.held().start) as usize;
        let mut entries = match range.is_empty() {
            true => Vec::new(),
            false => self.entries()[place(range.start)..place(range.end)].to_vec(),
        };
        // Entries lie in the payload in their order.
        let start = entries.first().map_or(0, |entry| entry.offset.get());
        let end = entries.last().map_or(0, |entry| entry.offset.get() + u64::from(entry.length.get()));
        for entry in &mut entries {
            entry.offset -= start;
        }
        let runs: Vec<RunRecord> =
            self.shape_runs(range).map(|(part, shape)| RunRecord::new(part.end, shape)).collect();
        let mut header = *self.header();
        header.start.set(range.start);
        header.end.set(range.end);
        let payload = &self.payload()[start as usize..end as usize];
        layout::assemble(header, payload, &entries, &runs, self.template_bytes())
    }
}

impl RunRecord {
    pub(super) fn new(end: u64, shape: Shape) -> Self {
        RunRecord {
            end: end.into(),
            cores: shape.resources.cores.into(),
            gpus: shape.resources.gpus.into(),
            retries: shape.retries.into(),
            calls: u32::from(shape.calls).into(),
        }
    }

    fn shape(&self) -> Shape {
        let resources = Resources { cores: self.cores.get(), gpus: self.gpus.get() };
        Shape { resources, retries: self.retries.get(), calls: self.calls.get() != 0 }
    }
}
