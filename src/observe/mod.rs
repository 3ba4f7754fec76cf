//! What the user sees of a run.
#![allow(missing_docs, unused)]
pub use crate::cli::run::ProgressMode;
use crate::task::{EndedBy, FailureDigest};
use std::path::{Path, PathBuf};
use std::time::Duration;
pub struct Facts {
    pub ranks: u32,
    pub nodes: u32,
    pub slots: u64,
    pub cores_used: u64,
    pub cores_allotted: u64,
    pub machine_cores: u64,
    pub tasks: u64,
    pub already_ended: u64,
    pub dir: PathBuf,
    pub source: String,
    pub launcher: crate::fabric::Launcher,
    pub survival: crate::fabric::LossSurvival,
    pub resume_command: String,
    pub pinned: bool,
}
pub struct Snapshot {
    pub ok: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub tasks: u64,
    pub running: u64,
    pub ended_this_start: u64,
    pub elapsed: Duration,
    pub busy_core_seconds: f64,
    pub draining: Option<EndedBy>,
    pub grace_left: Option<Duration>,
}
pub struct Observer {
    digest: FailureDigest,
}
impl Observer {
    pub fn new(_m: ProgressMode, f: &Facts) -> Self {
        eprintln!("{} ranks {} nodes {} slots {} tasks", f.ranks, f.nodes, f.slots, f.tasks);
        Self { digest: Default::default() }
    }
    pub fn failures(&mut self, d: &FailureDigest, describe: &dyn Fn(u64) -> String, node: &dyn Fn(u32) -> String) {
        if self.digest.is_empty() {
            eprintln!("first failure: {} {:?}", describe(d.groups[0].example), d.groups[0]);
        }
        self.digest.merge(d.clone());
    }
    pub fn update(&mut self, _s: &Snapshot) {}
    pub fn draining(&mut self, why: EndedBy, _g: Duration, r: u64) {
        eprintln!("draining {why} {r}");
    }
    pub fn note(&mut self, t: &str) {
        eprintln!("{t}");
    }
    pub fn finish(
        &mut self,
        s: &crate::ledger::Summary,
        _d: &Path,
        _a: &dyn Fn(u64) -> String,
        _b: &dyn Fn(u32) -> String,
    ) {
        eprintln!("{s:?}");
    }
}
