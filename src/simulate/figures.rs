//! What is counted while the machine room is at work.

use super::cluster::Cluster;
use super::losses::Lost;
use super::roles::Machine;
use super::run::{Figures, LevelFigures};
use serde::Serialize;

/// Messages on the links of one level: between a depth and the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Counts by level.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Downwards and upwards, between ranks; by level.
    pub(super) down: Vec<Traffic>,
    pub(super) up: Vec<Traffic>,
    /// The most messages that waited at a rank whose highest role has this depth.
    pub(super) queue_peaks: Vec<usize>,
}

impl Tally {
    pub(super) fn new(levels: u8) -> Self {
        let levels = usize::from(levels);
        Self {
            down: vec![Traffic::default(); levels],
            up: vec![Traffic::default(); levels],
            queue_peaks: vec![0; levels + 1],
        }
    }

    /// A message was sent on a level; one within a rank costs no network.
    pub(super) fn sent(&mut self, level: u8, down: bool, bytes: u64, within_rank: bool) {
        if within_rank {
            return;
        }
        let traffic = &mut if down { &mut self.down } else { &mut self.up }[usize::from(level)];
        traffic.messages += 1;
        traffic.bytes += bytes;
    }

    pub(super) fn queued(&mut self, depth: u8, waiting: usize) {
        let peak = &mut self.queue_peaks[usize::from(depth)];
        *peak = (*peak).max(waiting);
    }
}

impl Cluster<'_> {
    /// What was counted.
    pub(super) fn figures(&self) -> Figures {
        let first = self.first_hand.unwrap_or(0);
        let makespan = self.ledger.last.saturating_sub(first).max(1) as f64;
        let mut levels: Vec<LevelFigures> = (0..=self.tally.down.len())
            .map(|depth| LevelFigures {
                depth: depth as u8,
                down: self.tally.down.get(depth).copied().unwrap_or_default(),
                up: self.tally.up.get(depth).copied().unwrap_or_default(),
                queue_peak: self.tally.queue_peaks[depth],
                ..LevelFigures::default()
            })
            .collect();
        let (mut busiest, mut tasks_ns, mut slots, mut failed_attempts) = ((0, 0), 0u64, 0, 0);
        for (rank, state) in self.ranks.iter().enumerate().filter(|(_, state)| state.roles > 0) {
            let level = &mut levels[usize::from(self.roles[state.first_role as usize].depth)];
            let busy = state.busy as f64 / makespan;
            level.ranks += 1;
            level.mean_busy += busy;
            level.most_busy = level.most_busy.max(busy);
            busiest = busiest.max((state.busy, rank as u32));
            let last = state.first_role as usize + usize::from(state.roles) - 1;
            if let Machine::Worker(worker, _) = &self.roles[last].machine {
                tasks_ns += worker.busy;
                failed_attempts += worker.failed;
                slots += u64::from(self.layout.slots);
            }
        }
        for level in &mut levels {
            level.mean_busy /= level.ranks.max(1) as f64;
        }
        let Lost { nodes: lost_nodes, slots: lost_slots, orphaned_slots, requeued_tasks, rerun_tasks } = self.lost();
        Figures {
            tasks: self.ledger.ended.len(),
            failed_tasks: self.failed_tasks,
            failed_attempts,
            benched_nodes: self.benched.clone(),
            lost_nodes,
            lost_slots,
            orphaned_slots,
            requeued_tasks,
            rerun_tasks,
            slots,
            makespan_seconds: makespan / 1e9,
            utilisation: tasks_ns as f64 / makespan / slots.max(1) as f64,
            last_end_seconds: self.ends.last().saturating_sub(first) as f64 / 1e9,
            plateau_tasks_per_second: self.ends.plateau(),
            tasks_per_second: self.ledger.ended.len() as f64 * 1e9 / makespan,
            messages_by_level: self
                .tally
                .up
                .iter()
                .zip(&self.tally.down)
                .map(|(up, down)| up.messages + down.messages)
                .collect(),
            busy_by_level: levels.iter().map(|level| level.mean_busy).collect(),
            levels,
            busiest_rank: busiest.1,
            busiest_rank_busy: busiest.0 as f64 / makespan,
            manager_messages: self.ranks[0].messages,
            file_creates: self.server.creates,
            file_writes: self.server.writes,
            file_bytes: self.server.bytes,
            events: self.steps,
            trace: self.trace.to_string(),
        }
    }
}
