//! For the tests of `schedule/`: a machine room in which nothing but tasks and the way of messages takes time.

use super::Nanos;
use super::cluster::{Cluster, Start};
use super::faults::{Fault, Faults};
use super::layout::Layout;
use super::ledger::Outcomes;
use super::model::{Files, IdlePauses, Link, Network, Numbers, RankCosts};
use super::roles::Machine;
use super::tasks::Tasks;
use super::troubles::StartEnd;
use crate::schedule::{Policy, Settings, Shapes};
use crate::task::{EndedBy, Rank, Shape, Status};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// What becomes of an attempt: (task, attempt number from 0, rank) → (microseconds, status).
pub(crate) type Behaviour = Box<dyn Fn(u64, u32, Rank) -> (u64, Status)>;

/// Tasks that do as they are told.
pub(crate) struct Behaving {
    count: u64,
    shape: Shape,
    behaviour: Behaviour,
    /// Attempts that ended, by task.
    attempts: RefCell<HashMap<u64, u32>>,
}

impl Tasks for Behaving {
    fn count(&self) -> u64 {
        self.count
    }

    fn shapes(&self) -> Arc<dyn Shapes> {
        Arc::new(self.shape)
    }

    fn calls(&self) -> bool {
        self.shape.calls
    }

    fn duration_ns(&self, index: u64, attempt: u32, rank: Rank) -> Nanos {
        1_000 * (self.behaviour)(index, attempt, rank).0
    }

    fn status(&self, index: u64, attempt: u32, rank: Rank) -> Status {
        *self.attempts.borrow_mut().entry(index).or_default() += 1;
        (self.behaviour)(index, attempt, rank).1
    }

    fn may_fail(&self) -> bool {
        true
    }
}

/// A machine room and what happens in it.
pub(crate) struct Room {
    pub(crate) layout: Layout,
    pub(crate) settings: Settings,
    pub(crate) faults: Faults,
}

/// A run that has ended.
pub(crate) struct Ended {
    tasks: u64,
    pub(crate) outcomes: Outcomes,
    pub(crate) attempts: HashMap<u64, u32>,
    pub(crate) ended_by: EndedBy,
    pub(crate) last_end_us: u64,
    pub(crate) now_us: u64,
    /// Attempts or batches that were started.
    pub(crate) runs: u64,
    pub(crate) messages_to_manager: u64,
    /// Nodes that were benched.
    pub(crate) benched: Vec<u32>,
}

impl Room {
    pub(crate) fn new(layout: Layout, settings: Settings) -> Self {
        let settings = Settings { nodes: layout.nodes, ..settings };
        Self { layout, settings, faults: Faults::none(1) }
    }

    /// This happens after so many microseconds.
    pub(crate) fn at(mut self, at_us: u64, fault: Fault) -> Self {
        self.faults.events.push((1_000 * at_us, fault));
        self
    }

    /// Runs to the end; fails where a rule does not hold after some event.
    pub(crate) fn run(self, tasks: u64, shape: Shape, behaviour: Behaviour) -> Ended {
        let behaving = Behaving { count: tasks, shape, behaviour, attempts: RefCell::default() };
        let Self { layout, settings, faults } = self;
        let mut cluster = Cluster::new(Start {
            layout,
            settings,
            policy: Policy::default(),
            tasks: &behaving,
            numbers: numbers(),
            ended: Default::default(),
            faults: Some(faults),
            is_checked: true,
        });
        let end = cluster.run(3_600_000_000_000);
        cluster.check().expect("every rule holds at the end");
        assert_eq!(cluster.broken, None, "after {} ns", cluster.now());
        let Some(StartEnd::Ended(ended_by)) = end else { panic!("{}", cluster.stands_still()) };
        let mut outcomes = Outcomes::default();
        outcomes.add(&cluster.ledger.closes()).expect("no task has two outcomes");
        let Machine::Manager(manager) = &cluster.roles[0].machine else { panic!("rank 0 is the manager") };
        Ended {
            tasks,
            outcomes,
            ended_by,
            last_end_us: cluster.ledger.last / 1_000,
            now_us: cluster.now() / 1_000,
            runs: cluster.runs,
            messages_to_manager: manager.messages(),
            benched: cluster.benched.clone(),
            attempts: behaving.attempts.take(),
        }
    }
}

impl Ended {
    pub(crate) fn all_ended_once(self) -> Self {
        assert_eq!(self.outcomes.ended.len(), self.tasks, "every task has an outcome");
        self
    }
}

/// 20 µs between any two ranks, and nothing else.
fn numbers() -> Numbers {
    let link = Link { latency_ns: 20_000, send_ns: 0, receive_ns: 0, byte_ns: 0.0, hop_ns: 0, hops: 0.0 };
    Numbers {
        network: Network { local: link.clone(), remote: link },
        rank: RankCosts { handle_ns: 0, range_ns: 0, call_ns: 0, batch_ns: 0, spawn_ns: 0, process_ns: 0 },
        idle: IdlePauses { spin_ns: Nanos::MAX / 4, part: 0.0, least_ns: 1, most_ns: 1 },
        files: Files { write_ns: 0, create_ns: 0, sync_ns: 0, operations_per_second: 1e9 },
    }
}
