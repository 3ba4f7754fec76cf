//! The machine room: how many nodes and ranks there are, and which rank plays which roles.

use crate::schedule::{NodeRanks, Tree};
use crate::task::{NodeId, Rank};
use serde::Serialize;

/// The machine room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Nodes.
    pub nodes: u32,
    /// Ranks on each.
    pub ranks_per_node: u32,
    /// Slots of each rank.
    pub slots: u32,
    /// Most children of a rank.
    pub fan_out: u32,
    /// Rank 0's node runs no tasks; where there is one node, rank 0 alone runs none.
    pub dedicated_manager: bool,
}

impl Layout {
    /// All ranks.
    pub fn ranks(&self) -> u32 {
        self.nodes * self.ranks_per_node
    }

    /// All slots that run tasks; none where they are more than can be counted.
    pub fn all_slots(&self) -> Option<u64> {
        let ranks = self.nodes.checked_mul(self.ranks_per_node)?.checked_sub(self.idle_ranks())?;
        Some(u64::from(ranks) * u64::from(self.slots))
    }

    /// The first so many ranks run no tasks.
    fn idle_ranks(&self) -> u32 {
        match (self.dedicated_manager, self.nodes) {
            (false, _) => 0,
            (true, 1) => 1,
            (true, _) => self.ranks_per_node,
        }
    }

    pub(crate) fn node_of(&self, rank: Rank) -> NodeId {
        NodeId(rank.0 / self.ranks_per_node)
    }

    pub(super) fn tree(&self) -> Tree {
        let nodes: Vec<NodeRanks> = (0..self.nodes)
            .map(|node| {
                let first = node * self.ranks_per_node;
                let skipped = if node == 0 { self.idle_ranks() } else { 0 };
                NodeRanks {
                    node: NodeId(node),
                    workers: (first + skipped..first + self.ranks_per_node).map(Rank).collect(),
                }
            })
            .collect();
        Tree::build(&nodes, self.fan_out as usize)
    }
}
