//! Which cores a rank has, and how the working ranks of a node share theirs out into slots.
//!
//! A core here is what the operating system schedules on: a processing unit. The plan is pure: every rank of a node
//! computes the same from what all have told.

use super::gpus::Gpus;
use super::sys::CpuSet;
use super::topology;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What slots are bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Pin {
    /// To nothing.
    None,
    /// Each to cores of its own.
    #[default]
    Core,
    /// Each to the cores that its rank has on one NUMA node.
    Numa,
}

/// What one rank may use, as it finds it at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankCores {
    /// Processing units of its affinity mask, ascending.
    pub mask: Vec<u32>,
    /// NUMA node of each.
    pub numa: Vec<u32>,
    /// Processing units of the machine.
    pub machine_cores: u32,
    /// GPUs that it sees.
    pub gpus: Gpus,
}

impl RankCores {
    /// Those of the calling thread; to be asked before MPI_Init, or from a thread that was not bound since.
    pub fn of_this_process() -> Self {
        let machine_cores = topology::units_of_machine();
        // Refused nowhere that Linux runs; without a mask, the whole machine.
        let mask = CpuSet::of_this_thread().unwrap_or_else(|_| (0..machine_cores).collect());
        let nodes = topology::numa_of_units();
        let numa = mask.iter().map(|unit| nodes.get(unit).copied().unwrap_or(0)).collect();
        Self { mask, numa, machine_cores, gpus: Gpus::of_this_process() }
    }
}

/// What one rank of a node gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RankPlan {
    /// The cores of each slot; none where it is not bound.
    pub slots: Vec<Option<Vec<u32>>>,
    /// Number of its first slot on the node.
    pub first_slot: u32,
    /// GPUs that it may give to tasks.
    pub gpus: Gpus,
}

/// Shares the cores of a node out. `working[i]` says whether rank i takes tasks; the others get no slot.
///
/// Cores that one working rank has alone are its own; cores that several have are shared out between them. There are as
/// many slots as cores, but at least one per working rank; or `slots_per_node`, and then the last ranks may get none. Where fewer slots than cores are asked
/// for, each gets several. Where slots outnumber the cores of the node, nothing is bound.
///
/// # Panics
/// Where `ranks` and `working` differ in length.
pub fn plan_node(ranks: &[RankCores], working: &[bool], slots_per_node: Option<u32>, pin: Pin) -> Vec<RankPlan> {
    assert_eq!(ranks.len(), working.len(), "one word for each rank");
    let shares = share_out(ranks, working);
    let counts = slot_counts(ranks, &shares, working, slots_per_node);
    // More slots than cores: a slot that is bound would lose to those that are not.
    let crowded = counts.iter().sum::<u32>() as usize > shares.iter().map(Vec::len).sum::<usize>();
    let pin = if crowded { Pin::None } else { pin };
    let gpus = Gpus::share_out(&ranks.iter().map(|rank| &rank.gpus).collect::<Vec<_>>(), working);
    let mut first_slot = 0;
    let plan = |(rank, gpus): (usize, Gpus)| {
        let slots = bind(&ranks[rank], &shares[rank], counts[rank], pin);
        let plan = RankPlan { slots, first_slot, gpus };
        first_slot += counts[rank];
        plan
    };
    gpus.into_iter().enumerate().map(plan).collect()
}

/// The cores of each working rank; no core twice.
fn share_out(ranks: &[RankCores], working: &[bool]) -> Vec<Vec<u32>> {
    // Who may use each core: cores with the same claimants are shared out together.
    let mut claims: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
    for (rank, cores) in ranks.iter().enumerate().filter(|&(rank, _)| working[rank]) {
        for (at, &unit) in cores.mask.iter().enumerate() {
            let claimants = claims.entry((cores.numa.get(at).copied().unwrap_or(0), unit)).or_default();
            if claimants.last() != Some(&rank) {
                claimants.push(rank);
            }
        }
    }
    let mut parts: BTreeMap<Vec<usize>, Vec<u32>> = BTreeMap::new();
    for ((_, unit), claimants) in claims {
        parts.entry(claimants).or_default().push(unit);
    }
    // Fewest claimants first, so that what only some can use is theirs before what all can use is divided.
    let mut parts: Vec<(Vec<usize>, Vec<u32>)> = parts.into_iter().collect();
    parts.sort_by_key(|(claimants, _)| claimants.len());
    let mut shares = vec![Vec::new(); ranks.len()];
    for (claimants, units) in parts {
        let mut gets = vec![0usize; ranks.len()];
        for _ in &units {
            let poorest = claimants.iter().min_by_key(|&&rank| shares[rank].len() + gets[rank]);
            gets[*poorest.unwrap_or(&claimants[0])] += 1;
        }
        // Neighbouring cores stay together.
        let mut rest = &units[..];
        for &rank in &claimants {
            let (own, others) = rest.split_at(gets[rank]);
            shares[rank].extend_from_slice(own);
            rest = others;
        }
    }
    shares
}

/// How many slots each rank has.
fn slot_counts(ranks: &[RankCores], shares: &[Vec<u32>], working: &[bool], slots_per_node: Option<u32>) -> Vec<u32> {
    let Some(wanted) = slots_per_node else {
        let own = |(share, works): (&Vec<u32>, &bool)| if *works { (share.len() as u32).max(1) } else { 0 };
        return shares.iter().zip(working).map(own).collect();
    };
    let weights = weights(ranks, working);
    // One for each rank that works, as far as they go.
    let mut given = 0;
    let one = |works: &bool| {
        let gets = *works && given < wanted;
        given += u32::from(gets);
        u32::from(gets)
    };
    let mut counts: Vec<u32> = working.iter().map(one).collect();
    for _ in given..wanted {
        // First the ranks that have a core for another slot; of those the one with the most per slot, compared by
        // cross-multiplication.
        let richer = |&a: &usize, &b: &usize| {
            let has_core = |rank: usize| (counts[rank] as usize) < shares[rank].len();
            let per_slot = (weights[a] * u64::from(counts[b] + 1)).cmp(&(weights[b] * u64::from(counts[a] + 1)));
            has_core(a).cmp(&has_core(b)).then(per_slot).then(b.cmp(&a))
        };
        let Some(rank) = (0..shares.len()).filter(|&rank| working[rank]).max_by(richer) else { break };
        counts[rank] += 1;
    }
    counts
}

/// What each rank may use, in 2^-20 of a core; a core that several may use counts for each in part.
fn weights(ranks: &[RankCores], working: &[bool]) -> Vec<u64> {
    let mut claimants: BTreeMap<u32, u64> = BTreeMap::new();
    for (rank, _) in ranks.iter().zip(working).filter(|(_, works)| **works) {
        rank.mask.iter().for_each(|unit| *claimants.entry(*unit).or_default() += 1);
    }
    let part = |unit: &u32| (1 << 20) / claimants.get(unit).copied().unwrap_or(1);
    ranks.iter().map(|rank| rank.mask.iter().map(part).sum()).collect()
}

/// The cores of each slot of one rank.
fn bind(rank: &RankCores, share: &[u32], count: u32, pin: Pin) -> Vec<Option<Vec<u32>>> {
    let count = count as usize;
    if pin == Pin::None || count > share.len() {
        return vec![None; count];
    }
    let nodes: BTreeMap<u32, u32> = rank.mask.iter().copied().zip(rank.numa.iter().copied()).collect();
    let own = |slot: usize| &share[slot * share.len() / count..(slot + 1) * share.len() / count];
    let neighbours = |slot: usize| {
        let here: Vec<_> = own(slot).iter().map(|unit| nodes.get(unit)).collect();
        rank.mask.iter().copied().filter(|unit| here.contains(&nodes.get(unit))).collect()
    };
    match pin {
        Pin::Numa => (0..count).map(|slot| Some(neighbours(slot))).collect(),
        _ => (0..count).map(|slot| Some(own(slot).to_vec())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A rank that may use these units; four to a NUMA node.
    fn rank(mask: impl IntoIterator<Item = u32>) -> RankCores {
        let mask: Vec<u32> = mask.into_iter().collect();
        RankCores { numa: mask.iter().map(|unit| unit / 4).collect(), mask, machine_cores: 64, gpus: Gpus::default() }
    }

    fn bound(plan: &RankPlan) -> Vec<Vec<u32>> {
        plan.slots.iter().map(|cores| cores.clone().unwrap_or_default()).collect()
    }

    #[test]
    fn masks_that_do_not_overlap_are_kept() {
        let plan = plan_node(&[rank([0]), rank([4, 5])], &[true; 2], None, Pin::Core);
        assert_eq!((bound(&plan[0]), plan[0].first_slot), (vec![vec![0]], 0));
        assert_eq!((bound(&plan[1]), plan[1].first_slot), (vec![vec![4], vec![5]], 1));
    }

    #[test]
    fn equal_masks_are_shared_out_in_neighbouring_cores() {
        let plan = plan_node(&[rank(0..8), rank(0..8)], &[true; 2], None, Pin::Core);
        assert_eq!(bound(&plan[0]).concat(), [0, 1, 2, 3]);
        assert_eq!(bound(&plan[1]).concat(), [4, 5, 6, 7]);
    }

    #[test]
    fn a_rank_that_takes_no_tasks_leaves_its_cores_to_the_others() {
        let plan = plan_node(&[rank(0..4), rank(0..4)], &[false, true], None, Pin::Core);
        assert_eq!(plan[0].slots, []);
        assert_eq!(bound(&plan[1]).concat(), [0, 1, 2, 3]);
    }

    #[test]
    fn overlapping_masks_leave_each_rank_what_only_it_can_use() {
        let plan = plan_node(&[rank(0..3), rank(2..5)], &[true; 2], None, Pin::Core);
        assert_eq!(bound(&plan[0]).concat(), [0, 1, 2]);
        assert_eq!(bound(&plan[1]).concat(), [3, 4]);
    }

    #[test]
    fn more_ranks_than_cores_have_a_slot_each_and_are_not_bound() {
        let plan = plan_node(&vec![rank(0..2); 4], &[true; 4], None, Pin::Core);
        assert_eq!(plan.iter().map(|plan| plan.slots.len()).collect::<Vec<_>>(), [1; 4]);
        assert!(plan.iter().all(|plan| plan.slots == [None]));
    }

    #[test]
    fn fewer_slots_than_cores_have_several_cores_each() {
        let plan = plan_node(&[rank(0..8)], &[true], Some(3), Pin::Core);
        assert_eq!(bound(&plan[0]), [vec![0, 1], vec![2, 3, 4], vec![5, 6, 7]]);
    }

    #[test]
    fn more_slots_than_cores_are_not_bound() {
        let plan = plan_node(&[rank(0..2)], &[true], Some(5), Pin::Core);
        assert_eq!(plan[0].slots, vec![None; 5]);
    }

    #[test]
    fn slots_follow_the_cores_of_the_ranks() {
        let plan = plan_node(&[rank(0..2), rank(4..10)], &[true; 2], Some(4), Pin::None);
        assert_eq!(plan.iter().map(|plan| plan.slots.len()).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn numa_binds_to_what_the_rank_has_on_the_node_of_the_slot() {
        let plan = plan_node(&[rank(2..6)], &[true], None, Pin::Numa);
        assert_eq!(bound(&plan[0]), [vec![2, 3], vec![2, 3], vec![4, 5], vec![4, 5]]);
    }

    #[test]
    fn this_process_has_cores_and_knows_their_numa_nodes() {
        let cores = RankCores::of_this_process();
        assert!(!cores.mask.is_empty() && cores.mask.is_sorted());
        assert_eq!(cores.mask.len(), cores.numa.len());
        assert!(cores.machine_cores as usize >= cores.mask.len());
    }

    proptest! {
        #[test]
        fn every_plan_is_sound(
            masks in prop::collection::vec((prop::collection::btree_set(0u32..24, 1..12), any::<bool>()), 1..8),
            equal: bool,
            slots in prop::option::of(1u32..40),
            pin in prop::sample::select(vec![Pin::None, Pin::Core, Pin::Numa]),
        ) {
            let first = masks[0].0.clone();
            let ranks: Vec<RankCores> =
                masks.iter().map(|(mask, _)| rank(if equal { first.clone() } else { mask.clone() })).collect();
            let working: Vec<bool> = masks.iter().map(|(_, works)| *works).collect();
            let plans = plan_node(&ranks, &working, slots, pin);

            let mut used = BTreeSet::new();
            let mut next = 0;
            for ((plan, rank), works) in plans.iter().zip(&ranks).zip(&working) {
                let scarce = slots.is_some_and(|wanted| wanted < working.iter().filter(|works| **works).count() as u32);
                prop_assert!(plan.slots.is_empty() || *works, "a slot where nothing may run");
                prop_assert!(!plan.slots.is_empty() || !works || scarce, "a rank without a slot");
                prop_assert_eq!(plan.first_slot, next);
                next += plan.slots.len() as u32;
                for cores in plan.slots.iter().flatten() {
                    prop_assert!(!cores.is_empty() && cores.iter().all(|unit| rank.mask.contains(unit)));
                    prop_assert!(pin == Pin::Numa || cores.iter().all(|unit| used.insert(*unit)), "a core twice");
                }
                prop_assert!(pin != Pin::None || plan.slots.iter().all(Option::is_none));
            }
            let workers = working.iter().filter(|works| **works).count() as u32;
            let cores: BTreeSet<u32> = ranks.iter().zip(&working).filter(|(_, works)| **works)
                .flat_map(|(rank, _)| rank.mask.iter().copied()).collect();
            match slots {
                Some(wanted) if workers > 0 => prop_assert_eq!(next, wanted),
                _ => prop_assert!(next >= cores.len() as u32 && next <= cores.len() as u32 + workers),
            }
            if equal && workers > 0 {
                let counts = plans.iter().map(|plan| plan.slots.len()).filter(|count| *count > 0);
                prop_assert!(counts.clone().max() <= counts.min().map(|least| least + 1), "unfair");
            }
        }
    }
}
