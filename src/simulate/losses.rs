//! Nodes that are lost in a run in which nothing else goes wrong, what goes with them, and what is run again.

use super::Nanos;
use super::cluster::Cluster;
use super::faults::{Fault, Faults};
use super::layout::Layout;
use super::roles::Machine;
use crate::schedule::{PATIENCE_WITH_PARENTS, TaskRun};
use crate::task::{IndexRange, RangeSet, Rank};
use std::collections::BTreeSet;

/// Nodes all of whose ranks die at one moment, for good.
#[derive(Clone, Debug)]
pub struct Losses {
    /// The nodes; not that of rank 0, which cannot be spared.
    pub nodes: Vec<u32>,
    /// From the start of the run.
    pub at: Nanos,
    /// How long they are silent until their parents give them up, and until those below them start nothing more.
    pub patience: Nanos,
}

impl Losses {
    /// As a plan of faults. Whoever is below a dead rank and not dead itself is an orphan, and nobody adopts it: as in
    /// `schedule/watch.rs` it starts nothing when its parent has been silent for one patience, and ends after three.
    pub(super) fn faults(&self, layout: &Layout) -> Faults {
        let Self { nodes, at, patience } = self;
        let nodes: BTreeSet<u32> = nodes.iter().copied().collect();
        let first = |node: u32| node * layout.ranks_per_node;
        let ranks = || nodes.iter().flat_map(|node| first(*node)..first(*node + 1)).map(Rank);
        let tree = layout.tree();
        let below: BTreeSet<Rank> = ranks().flat_map(|rank| tree.below(rank)).collect();
        let orphans = || below.iter().filter(|rank| !nodes.contains(&layout.node_of(**rank).0));
        let ends = PATIENCE_WITH_PARENTS * patience;
        let mut events: Vec<(Nanos, Fault)> =
            nodes.iter().map(|node| (*at, Fault::LoseNode(Rank(first(*node))))).collect();
        // Held back until after its end: nobody lets it go.
        events.extend(orphans().map(|rank| (at + patience, Fault::HoldBack(*rank, ends))));
        events.extend(orphans().map(|rank| (at + ends, Fault::Lose(*rank))));
        Faults { patience: *patience, events, ..Faults::none(0) }
    }
}

/// Tasks that were begun, and those of them that came back when a rank was lost.
#[derive(Debug, Default)]
pub(super) struct Begun {
    tasks: RangeSet,
    /// Put back when a rank was lost, begun or not.
    requeued: u64,
    /// Begun again after that.
    rerun: u64,
}

impl Begun {
    pub(super) fn started(&mut self, run: &TaskRun) {
        if run.work.crashes > 0 {
            self.rerun += self.tasks.overlapping(run.range).map(IndexRange::len).sum::<u64>();
        }
        self.tasks.insert(run.range);
    }

    /// These tasks of a batch were not called.
    pub(super) fn cut(&mut self, rest: IndexRange) {
        self.tasks.remove(rest);
    }

    /// A parent has given up whoever held so many tasks.
    pub(super) fn requeued(&mut self, tasks: u64) {
        self.requeued += tasks;
    }
}

/// What went with the ranks that were lost.
#[derive(Debug, Default)]
pub(super) struct Lost {
    pub(super) nodes: Vec<u32>,
    /// On those nodes, and on others below them.
    pub(super) slots: u64,
    /// Those on others.
    pub(super) orphaned_slots: u64,
    pub(super) requeued_tasks: u64,
    pub(super) rerun_tasks: u64,
}

impl Cluster<'_> {
    pub(super) fn lost(&self) -> Lost {
        let Some(troubles) = &self.troubles else { return Lost::default() };
        let is_lost = |fault: &Fault| match fault {
            Fault::LoseNode(first) if self.has_died(*first) => Some(self.layout.node_of(*first).0),
            _ => None,
        };
        let nodes: Vec<u32> = troubles.faults.events.iter().filter_map(|(_, fault)| is_lost(fault)).collect();
        let workers = (0..self.ranks.len() as u32).map(Rank).filter(|rank| {
            let role = self.roles_of(*rank).last();
            role.is_some_and(|role| matches!(self.roles[role].machine, Machine::Worker(..))) && self.is_gone(*rank)
        });
        let (on_them, on_others): (Vec<Rank>, Vec<Rank>) =
            workers.partition(|rank| nodes.contains(&self.layout.node_of(*rank).0));
        let slots_of = |ranks: &[Rank]| ranks.len() as u64 * u64::from(self.layout.slots);
        Lost {
            slots: slots_of(&on_them) + slots_of(&on_others),
            orphaned_slots: slots_of(&on_others),
            requeued_tasks: troubles.begun.requeued,
            rerun_tasks: troubles.begun.rerun,
            nodes,
        }
    }

    fn has_died(&self, rank: Rank) -> bool {
        let state = &self.ranks[rank.position()];
        !state.is_alive && !state.has_left
    }

    /// Whether the rank or one above it has died: then it is lost, or will be.
    fn is_gone(&self, rank: Rank) -> bool {
        let above = self.roles_of(rank).next().and_then(|role| self.roles[role].parent);
        self.has_died(rank) || above.is_some_and(|parent| self.is_gone(parent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orphans_are_held_back_after_one_patience_and_end_after_three() {
        // Groups of nodes 0 to 2, 3 to 5, 6 to 8.
        let layout = Layout { nodes: 9, ranks_per_node: 2, slots: 1, fan_out: 3, dedicated_manager: false };
        let plan = |nodes: &[u32]| Losses { nodes: nodes.to_vec(), at: 100, patience: 10 }.faults(&layout).events;
        assert_eq!(plan(&[5]), [(100, Fault::LoseNode(Rank(10)))]);
        let mut expected = vec![(100, Fault::LoseNode(Rank(6))), (100, Fault::LoseNode(Rank(8)))];
        expected.extend([10, 11].map(|rank| (110, Fault::HoldBack(Rank(rank), 30))));
        expected.extend([10, 11].map(|rank| (130, Fault::Lose(Rank(rank)))));
        assert_eq!(plan(&[4, 3, 4]), expected);
    }
}
