//! The names of ranks that were given up, and of those that are gone with them.

use super::manager::name_of;
use super::plan::Shared;
use crate::ledger::LostRank;
use crate::observe::text::of;
use crate::schedule::{Manager, Tree};
use crate::task::Rank;
use std::collections::BTreeMap;
use std::time::Duration;

/// Which rank is where, and who is below whom.
#[derive(Clone, Debug)]
pub(super) struct Losses {
    node_of: Vec<u32>,
    tree: Tree,
    lost_after: Option<Duration>,
}

impl Losses {
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            node_of: shared.layout.ranks.iter().map(|rank| rank.node).collect(),
            tree: shared.layout.tree(shared.fan_out),
            lost_after: shared.lost_after,
        }
    }

    /// Ranks that were given up, with those that are gone with one of them. `nodes`: their names, by number.
    pub(super) fn all(&self, machine: &Manager, nodes: &[String]) -> Vec<LostRank> {
        let given_up = machine.given_up();
        let gone = given_up.iter().filter(|(_, came_back)| !**came_back);
        let below = gone.flat_map(|(rank, _)| self.tree.below(*rank)).map(|rank| (rank, false));
        let all: BTreeMap<Rank, bool> = below.chain(given_up.iter().map(|(rank, back)| (*rank, *back))).collect();
        let named =
            |(rank, came_back): (Rank, bool)| LostRank { rank: rank.0, node: self.node(rank, nodes), came_back };
        all.into_iter().map(named).collect()
    }

    /// How many ranks are gone.
    pub(super) fn count(&self, machine: &Manager) -> u32 {
        if !machine.has_lost() {
            return 0;
        }
        self.all(machine, &[]).iter().filter(|lost| !lost.came_back).count() as u32
    }

    /// A rank is given up, in words.
    pub(super) fn note(&self, rank: Rank, machine: &Manager, nodes: &[String]) -> String {
        let below = match self.tree.below(rank).len() as u64 {
            0 => String::new(),
            some => format!(", and with it {}", of(some, "rank")),
        };
        let silent = self.lost_after.unwrap_or_default().as_secs_f64();
        let had = if machine.ending().is_some() { "is not finished" } else { "runs elsewhere" };
        let is_lost = format!("rank {rank} on {} is lost{below}", self.node(rank, nodes));
        format!("{is_lost}: nothing was heard of it for {silent:.1} s; what it had {had}")
    }

    fn node(&self, rank: Rank, nodes: &[String]) -> String {
        self.node_of.get(rank.position()).map_or(String::new(), |node| name_of(nodes, *node))
    }
}

/// A rank that was given up is heard again, in words.
pub(super) fn back_note(rank: Rank) -> String {
    format!("rank {rank} is there again, and gets tasks")
}
