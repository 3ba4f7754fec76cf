//! What the user sees of a run, on rank 0's standard error: the start, progress as a bar or as lines, the first failure
//! when it happens, the end. It has no thread and reads no clock: the driver calls it a few times a second, and it never
//! holds the driver up. It knows nothing of messages between ranks and of files.

mod bar;
pub mod log;
mod report;
mod sink;
mod start;
#[cfg(test)]
mod tests;
pub(crate) mod text;

pub(crate) use report::stopped_by;
pub use start::Facts;

use crate::ledger::Summary;
use crate::task::{EndedBy, FailureDigest};
use bar::{Bar, Shared, lock};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sink::Sink;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use text::{count, of, percent, rate, whole};

/// How progress is shown. Messages come in every mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ProgressMode {
    /// A bar on a terminal, lines elsewhere
    #[default]
    Auto,
    /// A bar, terminal or not
    Bar,
    /// A line now and then
    Lines,
    /// Nothing
    None,
}

/// How a run stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// Ended well.
    pub ok: u64,
    /// Failed.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// All tasks.
    pub tasks: u64,
    /// Running now.
    pub running: u64,
    /// Ended in this start.
    pub ended_this_start: u64,
    /// Since this start began. Must not run backwards.
    pub elapsed: Duration,
    /// Core-seconds spent in tasks that have ended in this start.
    pub busy_core_seconds: f64,
    /// Why no new task is started, once that is so.
    pub draining: Option<EndedBy>,
    /// What is left of the running tasks' time then.
    pub grace_left: Option<Duration>,
}

/// What users call tasks and nodes; what comes in are positions in the bundle and in the table of nodes.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// The index of a task, as commands take it.
    pub label: &'a dyn Fn(u64) -> u64,
    /// A task with its place: `task 8123 (tasks.txt:8124)`.
    pub describe: &'a dyn Fn(u64) -> String,
    /// A node.
    pub node: &'a dyn Fn(u32) -> String,
}

/// A bar is drawn at most so often,
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// and at least so often, in case that others wrote over it.
const DRAW_AT_LEAST_EVERY: Duration = Duration::from_secs(1);
/// Seconds after which lines are due within the first minute, and how often after it.
const FIRST_LINES: [u64; 4] = [1, 10, 30, 60];
const LINE_EVERY: Duration = Duration::from_secs(60);
/// How long a reader that stalls may delay the end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Tells the user how a run goes.
pub struct Observer {
    mode: ProgressMode,
    sink: Shared<Sink>,
    dir: PathBuf,
    /// What stands before a command that starts ranks.
    launch: String,
    slots: u64,
    digest: FailureDigest,
    /// What the bar on the screen shows, and when that was drawn.
    bar: Option<(Bar, String, Duration)>,
    next: Duration,
}

impl Observer {
    /// Says what is to be known of the input, that the run starts, and what is wrong with how it was started.
    pub fn new(mode: ProgressMode, facts: &Facts, notes: &[String]) -> Self {
        let is_screen =
            || std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let mode = match mode {
            ProgressMode::Auto if is_screen() => ProgressMode::Bar,
            ProgressMode::Auto => ProgressMode::Lines,
            given => given,
        };
        Self::writing_to(Sink::stderr(), mode, facts, notes)
    }

    fn writing_to(sink: Sink, mode: ProgressMode, facts: &Facts, notes: &[String]) -> Self {
        let mut observer = Self {
            mode,
            sink: Arc::new(Mutex::new(sink)),
            dir: facts.dir.clone(),
            launch: facts.launcher.prefix(facts.ranks),
            slots: facts.slots,
            digest: FailureDigest::default(),
            bar: None,
            next: if mode == ProgressMode::Bar { Duration::ZERO } else { Duration::from_secs(FIRST_LINES[0]) },
        };
        notes.iter().chain(&facts.lines()).for_each(|line| observer.note(line));
        observer
    }

    /// Takes in failures that are new. The run's first one is told at once, the others in groups at the end.
    pub fn failures(&mut self, news: &FailureDigest, names: &Names<'_>) {
        if let (true, Some(first)) = (self.digest.is_empty(), news.groups.first()) {
            let text = report::first_failure(first, names, &self.dir);
            self.note(&text);
        }
        self.digest.merge(news.clone());
    }

    /// Shows how the run stands, where that is due.
    pub fn update(&mut self, snapshot: &Snapshot) {
        if !lock(&self.sink).pump() || snapshot.elapsed < self.next {
            return;
        }
        match self.mode {
            ProgressMode::Bar => self.draw(snapshot),
            ProgressMode::Lines => {
                self.note(&snapshot.line(self.slots));
                let early = FIRST_LINES.into_iter().map(Duration::from_secs).find(|due| *due > snapshot.elapsed);
                self.next = early.unwrap_or(snapshot.elapsed + LINE_EVERY);
            }
            ProgressMode::Auto | ProgressMode::None => {}
        }
    }

    fn draw(&mut self, snapshot: &Snapshot) {
        self.next = snapshot.elapsed + DRAW_EVERY;
        let text = snapshot.short();
        let sink = &self.sink;
        let (bar, shown, drawn) = self.bar.get_or_insert_with(|| (Bar::new(sink), String::new(), Duration::ZERO));
        if *shown != text || snapshot.elapsed >= *drawn + DRAW_AT_LEAST_EVERY {
            bar.draw(snapshot.ended(), snapshot.tasks, &text);
            (*shown, *drawn) = (text, snapshot.elapsed);
        }
    }

    /// Says that no new task is started, why, and what the running ones get. Those that cannot be ended are `waited_for` so
    /// long beyond it.
    pub fn draining(&mut self, why: EndedBy, grace: Duration, running: u64, waited_for: Option<Duration>) {
        let why = match why {
            EndedBy::Complete => "all tasks are handed out",
            EndedBy::Walltime => "the walltime is near",
            EndedBy::Signal => "a signal asks to stop",
            EndedBy::Stop => "asked to stop",
            EndedBy::MaxFails => "too many tasks failed",
            EndedBy::Disk => "files cannot be written",
        };
        let ones = |one: &str, more: &str| match running {
            1 => format!("1 running one {one}"),
            n => format!("{} running ones {more}", count(n)),
        };
        let rest = match (running, grace + waited_for.unwrap_or_default()) {
            (0, _) => "none is running".to_owned(),
            (_, Duration::ZERO) => ones("is ended now", "are ended now"),
            (_, time) if waited_for.is_some() => {
                format!("{}, {} at most", ones("is waited for", "are waited for"), whole(time))
            }
            (_, time) => format!("{} {}", ones("gets", "get"), whole(time)),
        };
        self.note(&format!("{why}: no new tasks; {rest}"));
    }

    /// Writes a message, above the bar where there is one.
    pub fn note(&mut self, text: &str) {
        self.step_aside();
        let mut sink = lock(&self.sink);
        sink.queue(&format!("myriarch: {text}\n"));
        sink.pump();
    }

    /// Takes the bar off the screen until the next update, so that others can write there.
    pub fn step_aside(&mut self) {
        if let Some((bar, ..)) = self.bar.take() {
            bar.clear();
            self.next = Duration::ZERO;
        }
    }

    /// Says what this start came to, and where to look next.
    pub fn finish(&mut self, summary: &Summary, dir: &Path, names: &Names<'_>) {
        let text = report::end(summary, &self.digest, names, &self.launch, dir);
        self.note(&text);
        lock(&self.sink).drain(LAST_WORDS);
    }

    /// The failures of this start.
    pub fn groups(&self) -> &FailureDigest {
        &self.digest
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.step_aside();
        lock(&self.sink).drain(LAST_WORDS);
    }
}

impl Snapshot {
    fn ended(&self) -> u64 {
        self.ok.saturating_add(self.failed).saturating_add(self.cancelled).min(self.tasks)
    }

    /// `412 of 1,000 tasks (41 %), 81 tasks/s, 2 failed, 8 running, 97 % busy, 7 s left`
    fn line(&self, slots: u64) -> String {
        let ended = self.ended();
        let mut parts =
            vec![format!("{} of {} ({})", count(ended), of(self.tasks, "task"), percent(ended, self.tasks))];
        self.add_pace(&mut parts);
        // Time counts when a task ends: until some have ended in each slot it says little.
        if slots > 0 && self.ended_this_start / 4 >= slots {
            let busy = self.busy_core_seconds / (self.elapsed.as_secs_f64() * slots as f64);
            parts.push(format!("{:.0} % busy", (busy * 100.0).clamp(0.0, 100.0)));
        }
        self.add_rest(&mut parts);
        parts.join(", ")
    }

    /// What stands beside a bar: `412/1,000 41 %, 81 tasks/s, 2 failed, 8 running, 7 s left`
    fn short(&self) -> String {
        let ended = self.ended();
        let mut parts = vec![format!("{}/{} {}", count(ended), count(self.tasks), percent(ended, self.tasks))];
        self.add_pace(&mut parts);
        self.add_rest(&mut parts);
        parts.join(", ")
    }

    /// Tasks per second of this start, once that says something.
    fn rate(&self) -> Option<f64> {
        let seconds = self.elapsed.as_secs_f64();
        (seconds >= 1.0 && self.ended_this_start > 0).then(|| self.ended_this_start as f64 / seconds)
    }

    fn add_pace(&self, parts: &mut Vec<String>) {
        parts.extend(self.rate().map(rate));
        let counts = [(self.failed, "failed"), (self.cancelled, "cancelled"), (self.running, "running")];
        parts.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))));
    }

    fn add_rest(&self, parts: &mut Vec<String>) {
        let left = self.tasks - self.ended();
        match (self.draining, self.grace_left, self.rate()) {
            // Why was told when it began.
            (Some(_), Some(grace), _) => parts.push(format!("stopping, {} of grace left", whole(grace))),
            (Some(_), None, _) => parts.push("stopping".to_owned()),
            (None, _, Some(rate)) if left > 0 => {
                let time = Duration::try_from_secs_f64(left as f64 / rate);
                parts.extend(time.map(|time| format!("{} left", whole(time))));
            }
            _ => {}
        }
    }
}
