//! The figures of a start, as `progress.json` and `summary.json` show them.

use super::losses::Losses;
use super::manager::name_of;
use crate::ledger::{Counts, LongTask, Progress, RunState, Summary};
use crate::schedule::Manager;
use crate::task::EndedBy;

/// What they are made of.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) ranks: u32,
    pub(super) nodes: u32,
    pub(super) slots: u64,
    /// What earlier starts had told.
    pub(super) told_before: Counts,
    pub(super) first_hand_us: Option<u64>,
    pub(super) last_record_us: u64,
    /// Time from the start of the process to the role's time 0.
    pub(super) before_us: u64,
    pub(super) losses: Losses,
}

impl Figures {
    /// Tasks that ended in this start.
    pub(super) fn ended(&self, told: Counts) -> u64 {
        told.ended() - self.told_before.ended()
    }

    /// Tasks that run, as far as rank 0 has heard.
    pub(super) fn running(&self, machine: &Manager) -> u64 {
        machine.held_tasks().min(self.slots).min(u64::from(machine.cores()))
    }

    fn wall_seconds(&self, until: u64) -> f64 {
        self.first_hand_us.map_or(0.0, |first| until.saturating_sub(first) as f64 / 1e6)
    }

    /// Attempts that a drain ended after the last record are busy time beyond `wall`: never more than all of it.
    fn utilisation(&self, wall: f64, machine: &Manager) -> f64 {
        if wall > 0.0 { (machine.busy_core_us() as f64 / 1e6 / (wall * self.slots as f64)).min(1.0) } else { 0.0 }
    }

    /// For `progress.json`.
    pub(super) fn progress(
        &self,
        now: u64,
        state: RunState,
        told: Counts,
        tasks: u64,
        machine: &Manager,
        longest: Vec<LongTask>,
    ) -> Progress {
        let wall = self.wall_seconds(now);
        Progress {
            state,
            updated_unix: super::durable::unix_us() as f64 / 1e6,
            tasks,
            ok: told.ok,
            failed: told.failed,
            cancelled: told.cancelled,
            unfinished: tasks - told.ended(),
            running: if state == RunState::Ended { 0 } else { self.running(machine) },
            wall_seconds: wall,
            tasks_per_second: rate(self.ended(told), wall),
            utilisation: self.utilisation(wall, machine),
            ranks: self.ranks,
            nodes: self.nodes,
            slots: self.slots,
            lost: self.losses.count(machine),
            longest,
        }
    }

    /// For `summary.json`, at the end of the start.
    pub(super) fn summary(&self, now: u64, told: Counts, tasks: u64, machine: &Manager, nodes: &[String]) -> Summary {
        let wall = self.wall_seconds(self.last_record_us);
        let unfinished = tasks - told.ended();
        Summary {
            tasks,
            ok: told.ok,
            failed: told.failed,
            cancelled: told.cancelled,
            unfinished,
            ended_by: match machine.ending() {
                _ if unfinished == 0 => EndedBy::Complete,
                Some(EndedBy::Complete) | None => EndedBy::Disk,
                Some(why) => why,
            },
            wall_seconds: wall,
            tasks_per_second: rate(self.ended(told), wall),
            utilisation: self.utilisation(wall, machine),
            ranks: self.ranks,
            nodes: self.nodes,
            slots: self.slots,
            exit_status: match (unfinished, told.failed) {
                (1.., _) => crate::cli::EXIT_UNFINISHED,
                (0, 1..) => crate::cli::EXIT_FAILED,
                (0, 0) => crate::cli::EXIT_OK,
            },
            start_seconds: self.first_hand_us.map_or(0.0, |first| (self.before_us + first) as f64 / 1e6),
            end_seconds: now.saturating_sub(self.last_record_us) as f64 / 1e6,
            manager_messages: machine.messages(),
            benched: machine.benched().iter().map(|node| name_of(nodes, node.0)).collect(),
            lost: self.losses.all(machine, nodes),
        }
    }
}

fn rate(ended: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { ended as f64 / seconds } else { 0.0 }
}
