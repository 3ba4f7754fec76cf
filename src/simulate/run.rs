//! One simulation, from its description to its figures.

use super::Nanos;
use super::cluster::{Cluster, Start};
use super::figures::Traffic;
use super::layout::Layout;
use super::losses::Losses;
use super::model::Numbers;
use super::tasks::Tasks;
use super::troubles::StartEnd;
use crate::schedule::{Policy, Settings, Violation};
use crate::task::{EndedBy, RangeSet};
use serde::Serialize;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// The machine room.
    pub layout: Layout,
    /// What things cost there.
    pub numbers: Numbers,
    /// The policy of the scheduler.
    pub policy: Policy,
    /// Outcomes leave records, which travel or are kept in files. Without them it is the scheduler alone.
    pub records: bool,
    /// Nodes that are lost.
    pub losses: Option<Losses>,
    /// Virtual time after which it is given up. Nanoseconds.
    pub until: Nanos,
}

/// What the ranks whose roles begin at one depth of the tree did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LevelFigures {
    /// Distance from the manager.
    pub depth: u8,
    /// Ranks whose highest role is here.
    pub ranks: u64,
    /// Messages between this depth and the next, downwards and upwards.
    pub down: Traffic,
    /// Upwards.
    pub up: Traffic,
    /// Share of the time in which these ranks were at work beside their tasks: their mean.
    pub mean_busy: f64,
    /// The busiest of them.
    pub most_busy: f64,
    /// Messages that waited at one of them, at the most.
    pub queue_peak: usize,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Tasks with an outcome.
    pub tasks: u64,
    /// Those of them that failed.
    pub failed_tasks: u64,
    /// Attempts that failed, the last ones of tasks among them.
    pub failed_attempts: u64,
    /// Nodes that got no more work since nearly everything failed there, in the order in which the manager heard of them.
    pub benched_nodes: Vec<u32>,
    /// Nodes that were lost before the run had ended.
    pub lost_nodes: Vec<u32>,
    /// Slots that went with them, on these nodes and on others.
    pub lost_slots: u64,
    /// Those of them on others: of ranks below one that was lost.
    pub orphaned_slots: u64,
    /// Tasks that were put back since whoever held them was lost: they waited or ran there, or had ended untold.
    pub requeued_tasks: u64,
    /// Those of them that had begun, and began again elsewhere.
    pub rerun_tasks: u64,
    /// Slots.
    pub slots: u64,
    /// From the first hand-out to the last record.
    pub makespan_seconds: f64,
    /// Share of the slots' time in tasks.
    pub utilisation: f64,
    /// From the first hand-out to the end of the last attempt; what follows is the telling, and files.
    pub last_end_seconds: f64,
    /// Tasks by makespan.
    pub tasks_per_second: f64,
    /// Attempts a second between the times when a quarter and when three quarters of them had ended.
    pub plateau_tasks_per_second: f64,
    /// Messages between each depth of the tree and the next, both ways.
    pub messages_by_level: Vec<u64>,
    /// How busy the ranks were whose highest role has this depth: the mean.
    pub busy_by_level: Vec<f64>,
    /// More of each level.
    pub levels: Vec<LevelFigures>,
    /// The rank that was at work longest beside its tasks.
    pub busiest_rank: u32,
    /// Share of the time in which it was.
    pub busiest_rank_busy: f64,
    /// Messages that rank 0 received.
    pub manager_messages: u64,
    /// Files made on the shared file system.
    pub file_creates: u64,
    /// Appends to them.
    pub file_writes: u64,
    /// Bytes in them.
    pub file_bytes: u64,
    /// Events that were simulated.
    pub events: u64,
    /// Stands for all of them: the same for the same simulation.
    pub trace: String,
}

/// Why a simulation has no figures.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// It did not come to its end in the time that it was given.
    #[error("{ended} of {tasks} tasks have ended after {seconds:.0} s of virtual time, and no more is simulated")]
    Endless {
        /// With an outcome.
        ended: u64,
        /// All.
        tasks: u64,
        /// Virtual time.
        seconds: f64,
    },
    /// Nobody is left who could run tasks.
    #[error("no slot is left: {ended} of {tasks} tasks have ended, and a run would stop, to be resumed")]
    NoSlots {
        /// With an outcome.
        ended: u64,
        /// All.
        tasks: u64,
    },
    /// A rule of the protocol does not hold.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// Runs all tasks.
///
/// # Errors
/// The run does not end, or breaks a rule of the protocol.
pub fn simulate(what: &Simulation, tasks: &dyn Tasks) -> Result<Figures, SimulateError> {
    run(what, tasks, false)
}

/// As [`simulate`]; where nodes are lost, with all checks after every event.
#[cfg(test)]
pub(super) fn simulate_checked(what: &Simulation, tasks: &dyn Tasks) -> Result<Figures, SimulateError> {
    run(what, tasks, true)
}

fn run(what: &Simulation, tasks: &dyn Tasks, is_checked: bool) -> Result<Figures, SimulateError> {
    let settings =
        Settings { crash_limit: 5, max_fails: None, max_running: None, grace_us: 0, nodes: what.layout.nodes };
    let Simulation { layout, numbers, policy, records, losses, until } = what.clone();
    let ended = RangeSet::new();
    let faults = losses.map(|losses| losses.faults(&layout));
    let mut cluster = Cluster::new(Start { layout, settings, policy, tasks, numbers, ended, faults, is_checked });
    if !records {
        cluster.record_bytes = 0;
    }
    let end = cluster.run(until);
    if let Some(violation) = cluster.broken.take() {
        return Err(violation.into());
    }
    cluster.check()?;
    let ended = cluster.ledger.ended.len();
    if end == Some(StartEnd::Ended(EndedBy::Stop)) && ended < tasks.count() {
        return Err(SimulateError::NoSlots { ended, tasks: tasks.count() });
    }
    if end.is_none() || ended < tasks.count() {
        let seconds = cluster.now() as f64 / 1e9;
        return Err(SimulateError::Endless { ended, tasks: tasks.count(), seconds });
    }
    Ok(cluster.figures())
}
