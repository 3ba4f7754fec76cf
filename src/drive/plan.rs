//! The start of a run: every rank says what it has, rank 0 decides who does what, and tells all.

use crate::execute::functions::Recording;
use crate::execute::{Pin, RankCores, RankPlan, Spawner, plan_node};
use crate::fabric::{HostIdentity, host_identity};
use crate::ledger::ProcessIdentity;
use crate::schedule::{NodeRanks, Tree};
use crate::task::{NodeId, Rank, Resources};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What a rank says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RankReport {
    /// Its host.
    pub host: HostIdentity,
    /// Which numbering of processes on that host.
    pub(super) pid_namespace: String,
    /// Its process, and its spawner's, which outlives it until nothing is left of its tasks: each by its number and when it
    /// started, in the kernel's ticks. As short as that, since there may be very many.
    pub(super) processes: Vec<(u32, u64)>,
    /// Its cores and GPUs.
    pub cores: RankCores,
}

impl RankReport {
    /// Of this process. Asked before `MPI_Init` binds anything.
    pub fn of_this_process() -> Self {
        let ProcessIdentity { pid_namespace, pid, pid_started, .. } = ProcessIdentity::of_this_process();
        let processes = vec![(pid, pid_started)];
        Self { host: host_identity(), pid_namespace, processes, cores: RankCores::of_this_process() }
    }

    #[cfg(test)]
    pub(crate) fn without_processes(host: HostIdentity, cores: RankCores) -> Self {
        Self { host, pid_namespace: String::new(), processes: Vec::new(), cores }
    }

    /// Of its processes, where they are those of that boot and numbering.
    pub(super) fn processes_in(&self, boot: &str, pid_namespace: &str) -> Option<Vec<ProcessIdentity>> {
        let is_there =
            (self.host.boot_id.as_str(), self.pid_namespace.as_str()) == (boot, pid_namespace) && !boot.is_empty();
        let process = |(pid, pid_started): &(u32, u64)| ProcessIdentity {
            boot: boot.to_owned(),
            pid_namespace: pid_namespace.to_owned(),
            pid: *pid,
            pid_started: *pid_started,
        };
        is_there.then(|| self.processes.iter().map(process).collect())
    }

    pub(super) fn with_spawner(mut self, spawner: &Spawner) -> Self {
        let ProcessIdentity { pid, pid_started, .. } = ProcessIdentity::of(spawner.pid());
        self.processes.push((pid, pid_started));
        self
    }
}

/// Slots of one rank, as they are told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct RankSlots {
    pub(super) node: u32,
    pub(super) slots: Vec<Option<Vec<u32>>>,
    pub(super) first_slot: u32,
    pub(super) gpus: crate::execute::Gpus,
}

/// Who sits where: nodes, and the slots of every rank.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Layout {
    /// Names of the nodes, in order of their first rank.
    pub nodes: Vec<String>,
    pub(super) ranks: Vec<RankSlots>,
    /// Processing units that the ranks may use, all nodes.
    pub cores_allotted: u64,
    /// Processing units of the machines, all nodes.
    pub machine_cores: u64,
}

/// How ranks are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayoutOptions {
    pub(super) ranks_per_node: Option<u32>,
    pub(super) dedicated_manager: bool,
    pub(super) slots_per_node: Option<u32>,
    pub(super) pin: Pin,
}

impl Layout {
    /// Ranks on one host are a node, or so many in a row when the width is given by hand.
    pub(super) fn new(reports: &[RankReport], options: LayoutOptions) -> Result<Self, String> {
        let mut ids: BTreeMap<(String, String, u32), u32> = BTreeMap::new();
        let mut nodes: Vec<(String, Vec<usize>)> = Vec::new();
        let mut hosts: BTreeMap<(&str, &str), &RankCores> = BTreeMap::new();
        for (rank, report) in reports.iter().enumerate() {
            let part = options.ranks_per_node.map_or(0, |width| rank as u32 / width.max(1));
            let key = (report.host.name.clone(), report.host.boot_id.clone(), part);
            let next = nodes.len() as u32;
            let id = *ids.entry(key).or_insert(next);
            if id == next {
                let name = &report.host.name;
                let virtual_name = || format!("{name}/{part}");
                nodes.push((options.ranks_per_node.map_or(name.clone(), |_| virtual_name()), Vec::new()));
            }
            nodes[id as usize].1.push(rank);
            hosts.insert((&report.host.name, &report.host.boot_id), &report.cores);
        }
        let mut layout = Layout {
            nodes: nodes.iter().map(|(name, _)| name.clone()).collect(),
            ranks: vec![RankSlots::default(); reports.len()],
            cores_allotted: 0,
            machine_cores: hosts.values().map(|cores| u64::from(cores.machine_cores)).sum(),
        };
        layout.cores_allotted = allotted(reports);
        let shared_hosts = nodes.len() > hosts.len();
        for (id, (_, ranks)) in nodes.iter().enumerate() {
            let manager_here = options.dedicated_manager && ranks.contains(&0);
            let idle = |rank: usize| manager_here && (nodes.len() > 1 || rank == 0);
            let working: Vec<bool> = ranks.iter().map(|rank| !idle(*rank)).collect();
            let cores: Vec<RankCores> = ranks.iter().map(|rank| reports[*rank].cores.clone()).collect();
            // Virtual nodes of one host would all be bound to the same cores.
            let pin = if shared_hosts { Pin::None } else { options.pin };
            let plans = plan_node(&cores, &working, options.slots_per_node, pin);
            for (rank, RankPlan { slots, first_slot, gpus }) in ranks.iter().zip(plans) {
                layout.ranks[*rank] = RankSlots { node: id as u32, slots, first_slot, gpus };
            }
        }
        if layout.slots() == 0 {
            return Err("no rank is left to run tasks: --dedicated-manager needs a second rank".to_owned());
        }
        Ok(layout)
    }

    /// All slots.
    pub fn slots(&self) -> u64 {
        self.ranks.iter().map(|rank| rank.slots.len() as u64).sum()
    }

    /// Distinct cores that slots are bound to, or the slots where none is.
    pub fn cores_used(&self) -> u64 {
        self.slots().min(self.cores_allotted)
    }

    /// Whether any slot is bound to cores.
    pub fn pinned(&self) -> bool {
        self.ranks.iter().flat_map(|rank| &rank.slots).any(Option::is_some)
    }

    /// The most that one worker has.
    pub(super) fn widest(&self) -> Resources {
        let most = |of: fn(&RankSlots) -> usize| self.ranks.iter().map(of).max().unwrap_or(0) as u32;
        Resources { cores: most(|rank| rank.slots.len()), gpus: most(|rank| rank.gpus.ids.len()) }
    }

    pub(super) fn tree(&self, fan_out: u32) -> Tree {
        let mut nodes: Vec<NodeRanks> =
            (0..self.nodes.len() as u32).map(|id| NodeRanks { node: NodeId(id), workers: Vec::new() }).collect();
        for (rank, slots) in self.ranks.iter().enumerate() {
            if !slots.slots.is_empty() {
                nodes[slots.node as usize].workers.push(Rank(rank as u32));
            }
        }
        Tree::build(&nodes, fan_out.max(2) as usize)
    }
}

/// Distinct processing units of all hosts that some rank may use.
fn allotted(reports: &[RankReport]) -> u64 {
    let mut hosts: BTreeMap<(&str, &str), std::collections::BTreeSet<u32>> = BTreeMap::new();
    for report in reports {
        hosts.entry((&report.host.name, &report.host.boot_id)).or_default().extend(&report.cores.mask);
    }
    hosts.values().map(|units| units.len() as u64).sum()
}

/// What rank 0 tells every rank.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Shared {
    pub(super) layout: Layout,
    pub(super) fan_out: u32,
    /// DIR, absolute.
    pub(super) dir: PathBuf,
    /// The bytes of the folder that tasks run in, where it is not that of the ranks.
    pub(super) folder: Option<Vec<u8>>,
    /// Identity of the bundle in DIR.
    pub(super) bundle: u64,
    pub(super) generation: u32,
    pub(super) round: u32,
    pub(super) first_segment: u32,
    pub(super) sync: Duration,
    pub(super) crash_limit: u32,
    /// A rank that is silent for so long is given up; none: nobody ever is.
    pub(super) lost_after: Option<Duration>,
    /// Rank 0 may be silent for so long: its program does something else meanwhile, and nobody talks for it.
    pub(super) silent_manager: Option<Duration>,
    pub(super) max_output: u64,
    pub(super) keep: Keep,
    /// The functions that tasks call, by their numbers in the bundle.
    pub(super) functions: Vec<String>,
    /// Some tasks are processes.
    pub(super) has_processes: bool,
    pub(super) recording: Recording,
    /// Functions run in processes of their own.
    pub(super) isolate: bool,
}

/// When a silent rank may be given up at the earliest: one that waits for its core for some tenths of a second is not lost.
pub const SHORTEST_LOST_AFTER: Duration = Duration::from_millis(500);

/// Whose standard output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keep {
    /// Nobody's.
    None,
    /// That of failed tasks.
    Failed,
    /// That of all tasks.
    All,
}

/// The manager's word at the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Start {
    /// Here is the plan.
    Go(Box<Shared>),
    /// There is nothing to run: end quietly, rank 0 has said why.
    Leave,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(host: &str, mask: &[u32]) -> RankReport {
        let host = HostIdentity { name: host.to_owned(), boot_id: "b".to_owned() };
        let cores =
            RankCores { mask: mask.to_vec(), numa: vec![0; mask.len()], machine_cores: 4, ..Default::default() };
        RankReport::without_processes(host, cores)
    }

    const OPTIONS: LayoutOptions =
        LayoutOptions { ranks_per_node: None, dedicated_manager: false, slots_per_node: None, pin: Pin::Core };

    #[test]
    fn ranks_of_a_host_are_a_node_wherever_they_stand() {
        let reports = [report("a", &[0, 1]), report("b", &[0, 1]), report("a", &[2, 3])];
        let layout = Layout::new(&reports, OPTIONS).expect("it can be laid out");
        assert_eq!(layout.nodes, ["a", "b"]);
        assert_eq!(layout.ranks.iter().map(|rank| rank.node).collect::<Vec<_>>(), [0, 1, 0]);
        assert_eq!((layout.slots(), layout.cores_allotted, layout.machine_cores), (6, 6, 8));
    }

    #[test]
    fn a_dedicated_manager_runs_nothing() {
        let options = LayoutOptions { dedicated_manager: true, ..OPTIONS };
        let one_node = [report("a", &[0, 1]), report("a", &[0, 1])];
        let layout = Layout::new(&one_node, options).expect("it can be laid out");
        assert!(layout.ranks[0].slots.is_empty() && !layout.ranks[1].slots.is_empty());
        assert!(Layout::new(&one_node[..1], options).is_err(), "nobody is left to work");
        let two_nodes = [report("a", &[0]), report("a", &[1]), report("b", &[0])];
        let layout = Layout::new(&two_nodes, options).expect("it can be laid out");
        assert!(layout.ranks[1].slots.is_empty(), "its node takes no part");
    }

    #[test]
    fn virtual_nodes_are_not_bound_to_the_same_cores() {
        let options = LayoutOptions { ranks_per_node: Some(2), ..OPTIONS };
        let reports = vec![report("a", &[0, 1]); 4];
        let layout = Layout::new(&reports, options).expect("it can be laid out");
        assert_eq!(layout.nodes, ["a/0", "a/1"]);
        assert!(!layout.pinned());
    }
}
