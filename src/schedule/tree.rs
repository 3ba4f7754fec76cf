//! Which rank plays which roles: a balanced tree over the nodes, workers at its leaves, all at one depth.

use crate::task::{NodeId, Rank};
use std::collections::BTreeMap;

/// Most children of a rank where nobody says otherwise: with it 16,384 nodes make groups, and no groups of groups.
pub const FAN_OUT: u32 = 128;

/// The ranks of one node, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRanks {
    /// The node.
    pub node: NodeId,
    /// Its ranks that run tasks, in order; the first hosts the node's sub-manager.
    pub workers: Vec<Rank>,
}

/// What a role does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The root.
    Manager,
    /// Between.
    SubManager,
    /// A leaf.
    Worker,
}

/// One role of one rank: where it stands in the tree. The links between depth `d` and `d + 1` are level `d`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it does.
    pub role: Role,
    /// Distance from the manager.
    pub depth: u8,
    /// The parent's rank; `None` for the manager.
    pub parent: Option<Rank>,
    /// The children's ranks, one level down.
    pub children: Vec<Rank>,
    /// Whether all workers below are on one node and this is the highest such sub-manager (or the manager of a
    /// single node): it keeps their segment.
    pub keeper: bool,
}

/// The roles of every rank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    places: BTreeMap<Rank, Vec<Place>>,
    /// Levels of links.
    pub levels: u8,
}

impl Tree {
    /// A tree over these nodes in which no parent has more than `fan_out` children. Rank 0 is the manager; whether it
    /// also works is decided by whether it is among its node's workers.
    ///
    /// # Panics
    /// When there is no worker, or `fan_out < 2`.
    pub fn build(nodes: &[NodeRanks], fan_out: usize) -> Self {
        assert!(fan_out >= 2, "a tree needs a fan-out of 2");
        // Families of leaves: a node, or a part of one that has more ranks than a parent may have children.
        let mut families: Vec<Vec<Rank>> = Vec::new();
        for node in nodes.iter().filter(|node| !node.workers.is_empty()) {
            let parts = node.workers.len().div_ceil(fan_out);
            families.extend(even_parts(&node.workers, parts));
        }
        assert!(!families.is_empty(), "a tree needs a worker");
        // From the leaves up: each layer is a list of (leader, children).
        let mut layers = vec![families];
        while layers.last().expect("there is a layer").len() > 1 {
            let leaders: Vec<Rank> = layers.last().expect("there is a layer").iter().map(|family| family[0]).collect();
            layers.push(Self::group(&leaders, fan_out));
        }
        layers.reverse();
        let levels = layers.len() as u8;
        let mut tree = Self { places: BTreeMap::new(), levels };
        tree.add(Rank::MANAGER, Role::Manager, 0, None, layers[0][0].clone(), levels == 1);
        for (depth, layer) in layers.iter().enumerate() {
            let parent_of = |family: &[Rank]| if depth == 0 { Rank::MANAGER } else { family[0] };
            for family in layer {
                for &child in family {
                    let below = layers.get(depth + 1).and_then(|next| next.iter().find(|f| f[0] == child));
                    let (role, children) = match below {
                        Some(children) => (Role::SubManager, children.clone()),
                        None => (Role::Worker, Vec::new()),
                    };
                    let keeper = role == Role::SubManager && depth + 2 == layers.len();
                    tree.add(child, role, depth as u8 + 1, Some(parent_of(family)), children, keeper);
                }
            }
        }
        tree
    }

    /// Groups the leaders of a layer so that the layers above come out balanced: with `n` leaders and `k` layers
    /// needed, each parent gets about the k-th root of `n`.
    fn group(leaders: &[Rank], fan_out: usize) -> Vec<Vec<Rank>> {
        let mut layers = 1;
        while fan_out.saturating_pow(layers) < leaders.len() {
            layers += 1;
        }
        let size = (leaders.len() as f64).powf(1.0 / f64::from(layers)).ceil().max(2.0) as usize;
        even_parts(leaders, leaders.len().div_ceil(size.min(fan_out)).max(1))
    }

    fn add(&mut self, rank: Rank, role: Role, depth: u8, parent: Option<Rank>, children: Vec<Rank>, keeper: bool) {
        self.places.entry(rank).or_default().push(Place { role, depth, parent, children, keeper });
    }

    /// The roles of a rank, from the root downwards; none for a rank that does nothing.
    pub fn places(&self, rank: Rank) -> &[Place] {
        self.places.get(&rank).map_or(&[], Vec::as_slice)
    }

    /// The ranks below this one: its children's, and theirs.
    pub fn below(&self, rank: Rank) -> Vec<Rank> {
        let mut found = Vec::new();
        let children = |rank: Rank| self.places(rank).iter().flat_map(|place| &place.children).copied();
        let mut next: Vec<Rank> = children(rank).filter(|child| *child != rank).collect();
        while let Some(child) = next.pop() {
            found.push(child);
            next.extend(children(child).filter(|other| *other != child));
        }
        found.sort_unstable();
        found
    }

    /// Those of so many ranks that have no role. They hear of the end from rank 0.
    pub(super) fn bystanders(&self, ranks: u32) -> impl Iterator<Item = Rank> + '_ {
        (0..ranks).map(Rank).filter(|rank| self.places(*rank).is_empty())
    }

    /// For each level, the parent whose family the rank belongs to. A rank without a role is in that of rank 0.
    pub fn families_of(&self, rank: Rank) -> Vec<Option<Rank>> {
        let mut families = vec![None; usize::from(self.levels)];
        if self.places(rank).is_empty() {
            families[0] = Some(Rank::MANAGER);
        }
        for place in self.places(rank) {
            if let (Some(parent), true) = (place.parent, place.depth > 0) {
                families[usize::from(place.depth) - 1] = Some(parent);
            }
            if !place.children.is_empty() {
                families[usize::from(place.depth)] = Some(rank);
            }
        }
        families
    }
}

fn even_parts(ranks: &[Rank], parts: usize) -> Vec<Vec<Rank>> {
    (0..parts).map(|part| ranks[part * ranks.len() / parts..(part + 1) * ranks.len() / parts].to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nodes(count: u32, ranks_each: u32) -> Vec<NodeRanks> {
        (0..count)
            .map(|n| NodeRanks { node: NodeId(n), workers: (n * ranks_each..(n + 1) * ranks_each).map(Rank).collect() })
            .collect()
    }

    #[test]
    fn one_node_has_a_manager_and_workers_and_nothing_between() {
        let tree = Tree::build(&nodes(1, 4), 64);
        assert_eq!(tree.levels, 1);
        let roles: Vec<Role> = tree.places(Rank(0)).iter().map(|place| place.role).collect();
        assert_eq!(roles, [Role::Manager, Role::Worker]);
        assert_eq!(tree.places(Rank(0))[0].children, [Rank(0), Rank(1), Rank(2), Rank(3)]);
        assert!(tree.places(Rank(0))[0].keeper);
    }

    #[test]
    fn several_nodes_have_a_keeper_each() {
        let tree = Tree::build(&nodes(3, 2), 64);
        assert_eq!(tree.levels, 2);
        for leader in [0, 2, 4] {
            assert!(tree.places(Rank(leader)).iter().any(|place| place.keeper && place.role == Role::SubManager));
        }
        assert!(!tree.places(Rank(0))[0].keeper);
    }

    #[test]
    fn below_a_rank_are_those_that_it_speaks_for() {
        let tree = Tree::build(&nodes(4, 2), 2);
        let below = |rank| tree.below(Rank(rank)).iter().map(|rank| rank.0).collect::<Vec<_>>();
        assert_eq!(below(0), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((below(2), below(4), below(5)), (vec![3], vec![5, 6, 7], vec![]));
    }

    #[test]
    fn eight_thousand_nodes_are_three_levels_deep() {
        let tree = Tree::build(&nodes(8192, 1), 128);
        assert_eq!(tree.levels, 3);
        assert!(tree.places(Rank(0))[0].children.len() <= 91);
    }

    proptest! {
        #[test]
        fn every_worker_hangs_on_the_manager_and_no_parent_has_too_many(
            sizes in prop::collection::vec(1u32..9, 1..40), fan_out in 2usize..9
        ) {
            let mut next = 0;
            let nodes: Vec<NodeRanks> = sizes.iter().enumerate().map(|(n, size)| {
                let workers = (next..next + size).map(Rank).collect();
                next += size;
                NodeRanks { node: NodeId(n as u32), workers }
            }).collect();
            let tree = Tree::build(&nodes, fan_out);
            let mut workers = 0;
            for rank in (0..next).map(Rank) {
                for place in tree.places(rank) {
                    prop_assert!(place.children.len() <= fan_out);
                    prop_assert_eq!(place.role == Role::Worker, place.children.is_empty());
                    if place.role == Role::Worker {
                        workers += 1;
                        prop_assert_eq!(place.depth, tree.levels);
                    }
                    if let Some(parent) = place.parent {
                        let above = tree.places(parent).iter().find(|p| p.depth + 1 == place.depth);
                        prop_assert!(above.is_some_and(|p| p.children.contains(&rank)));
                    }
                }
            }
            prop_assert_eq!(workers, next);
        }
    }
}
