//! The files that others may rely on while a run goes on and after it: `summary.json` and `progress.json`; and what a session
//! says of its program.

use super::dir::RunDir;
use super::error::LedgerError;
use super::files::write_atomically;
use crate::task::{EndedBy, Program};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::Path;

/// `summary.json`: written at every end of a start. Counts cover the whole bundle; time, rate and utilisation cover
/// this start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Tasks of the bundle.
    pub tasks: u64,
    /// Ended well.
    pub ok: u64,
    /// Failed.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Without an outcome.
    pub unfinished: u64,
    /// Why this start ended.
    pub ended_by: EndedBy,
    /// First hand-out to last record, seconds.
    pub wall_seconds: f64,
    /// Tasks that ended in this start, per second of `wall_seconds`.
    pub tasks_per_second: f64,
    /// Slot-time spent in tasks, of all slot-time; 0 to 1.
    pub utilisation: f64,
    /// Ranks of this start.
    pub ranks: u32,
    /// Nodes of this start.
    pub nodes: u32,
    /// Slots of this start.
    pub slots: u64,
    /// The run's exit status, which launchers lose.
    pub exit_status: i32,
    /// From the start of the process to the first hand-out.
    #[serde(default)]
    pub start_seconds: f64,
    /// From the last record to the end of the last rank.
    #[serde(default)]
    pub end_seconds: f64,
    /// Messages that the manager received from its children.
    #[serde(default)]
    pub manager_messages: u64,
    /// Nodes that got no more tasks in this start, since nearly everything failed there and not elsewhere.
    #[serde(default)]
    pub benched: Vec<String>,
    /// Ranks of which nothing was heard for too long in this start: what they held ran elsewhere.
    #[serde(default)]
    pub lost: Vec<LostRank>,
}

/// A rank that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRank {
    /// Which.
    pub rank: u32,
    /// Its node.
    pub node: String,
    /// Whether it was heard again later, and worked on.
    pub came_back: bool,
}

impl Summary {
    /// Reads the summary; none when the run has not ended yet.
    pub fn read(dir: &RunDir) -> Result<Option<Self>, LedgerError> {
        read_json(&dir.summary())
    }

    /// Writes the summary.
    pub fn write(&self, dir: &RunDir) -> Result<(), LedgerError> {
        write_json(&dir.summary(), self)
    }
}

/// What a run is doing, as `progress.json` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Not all ranks have joined yet.
    Starting,
    /// Tasks run.
    Running,
    /// No new tasks are started; running ones get their grace time.
    Draining,
    /// This start has ended.
    Ended,
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RunState::Starting => "starting",
            RunState::Running => "running",
            RunState::Draining => "draining",
            RunState::Ended => "ended",
        })
    }
}

/// A task that has been running for long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LongTask {
    /// The index, as users know it.
    pub index: u64,
    /// In a session: the program's number of its bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<u64>,
    /// Where it runs.
    pub node: String,
    /// For how long so far.
    pub seconds: f64,
}

/// `progress.json`: rewritten twice a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What the run is doing.
    pub state: RunState,
    /// When this was written, seconds since the Unix epoch.
    pub updated_unix: f64,
    /// Tasks of the bundle.
    pub tasks: u64,
    /// Ended well.
    pub ok: u64,
    /// Failed.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Without an outcome; those that run are among them.
    pub unfinished: u64,
    /// Running now, as far as rank 0 has heard.
    pub running: u64,
    /// Since the first hand-out of this start, seconds.
    pub wall_seconds: f64,
    /// Tasks ended per second, lately.
    pub tasks_per_second: f64,
    /// Slot-time spent in tasks, of all slot-time; 0 to 1.
    pub utilisation: f64,
    /// Ranks of this start.
    pub ranks: u32,
    /// Nodes of this start.
    pub nodes: u32,
    /// Slots of this start.
    pub slots: u64,
    /// Ranks that are lost for now, with those below them.
    #[serde(default)]
    pub lost: u32,
    /// The longest-running tasks, longest first.
    pub longest: Vec<LongTask>,
}

impl Progress {
    /// Reads the progress; none before the first was written.
    pub fn read(dir: &RunDir) -> Result<Option<Self>, LedgerError> {
        read_json(&dir.progress())
    }

    /// Writes the progress.
    pub fn write(&self, dir: &RunDir) -> Result<(), LedgerError> {
        write_json(&dir.progress(), self)
    }
}

/// `session.json`: what is known of the program whose session this is, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// What stands before its words where it was started by a launcher, with its blank.
    pub launch: String,
    /// Its words.
    pub program: Vec<String>,
}

impl SessionInfo {
    /// Reads it; none where this is no session.
    pub fn read(dir: &RunDir) -> Result<Option<Self>, LedgerError> {
        read_json(&dir.session())
    }

    /// Writes it.
    pub fn write(&self, dir: &RunDir) -> Result<(), LedgerError> {
        write_json(&dir.session(), self)
    }

    /// The command that started the program.
    pub fn command(&self) -> String {
        let mut text = Vec::new();
        let words = self.program.iter().map(|word| word.clone().into_bytes()).collect();
        Program::Argv(words).put_text(&mut text);
        format!("{}{}", self.launch, String::from_utf8_lossy(&text))
    }
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LedgerError> {
    let bytes = match std::fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(LedgerError::io("read", path))?,
    };
    let wrong = |e: serde_json::Error| LedgerError::Damaged { path: path.to_owned(), offset: 0, what: e.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(wrong)
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), LedgerError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| LedgerError::io("write", path)(e.into()))?;
    bytes.push(b'\n');
    write_atomically(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_keys_that_others_rely_on() {
        let summary = Summary {
            tasks: 10,
            ok: 6,
            failed: 1,
            cancelled: 1,
            unfinished: 2,
            ended_by: EndedBy::MaxFails,
            wall_seconds: 2.5,
            tasks_per_second: 3.2,
            utilisation: 0.9,
            ranks: 4,
            nodes: 2,
            slots: 8,
            exit_status: 3,
            start_seconds: 0.5,
            end_seconds: 0.1,
            manager_messages: 7,
            benched: vec!["n1".to_owned()],
            lost: vec![LostRank { rank: 3, node: "n2".to_owned(), came_back: false }],
        };
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(Some(&folder.path().join("run"))).unwrap();
        assert_eq!(Summary::read(&dir).unwrap(), None);
        summary.write(&dir).unwrap();
        assert_eq!(Summary::read(&dir).unwrap(), Some(summary));
        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.summary()).unwrap()).unwrap();
        assert_eq!((&value["ended_by"], &value["exit_status"]), (&"max-fails".into(), &3.into()));
        assert_eq!(value.as_object().unwrap().len(), 18);
        assert_eq!(value["benched"], serde_json::json!(["n1"]));
        assert_eq!(value["lost"], serde_json::json!([{ "rank": 3, "node": "n2", "came_back": false }]));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
