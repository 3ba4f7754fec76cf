//! Ranks under a virtual clock. Each runs the production state machines and takes up one message at a time, so that a busy
//! parent is a busy parent; messages take their way through the network of a model, and outcomes through its file system.

use super::Nanos;
use super::figures::Tally;
use super::files::{Appender, FileServer};
use super::layout::Layout;
use super::model::Numbers;
use super::network::Message;
use super::queue::Queue;
use super::roles::{Machine, RoleState};
use super::tasks::Tasks;
use super::turns::{NEVER, RankState};
use super::waiting::Looks;
use crate::schedule::{Policy, Settings, Violation};
use crate::task::{BundleId, RangeSet, Rank};
use std::collections::VecDeque;

/// The one bundle of a simulation.
pub(super) const BUNDLE: BundleId = BundleId(0);

pub(super) enum Event {
    /// A message has arrived.
    Arrive(Box<Message>),
    /// The rank looks around.
    Look(Rank),
    /// What ran on a slot may have ended.
    Ended { rank: Rank, slot: u32, run: u64 },
    /// A batch has run for long.
    Long { rank: Rank, slot: u32, run: u64 },
}

/// The machine room at work.
pub(super) struct Cluster<'t> {
    pub(super) layout: Layout,
    pub(super) tasks: &'t dyn Tasks,
    pub(super) numbers: Numbers,
    pub(super) looks: Looks,
    pub(super) now: Nanos,
    pub(super) events: Queue<Event>,
    pub(super) ranks: Vec<RankState>,
    pub(super) roles: Vec<RoleState>,
    pub(super) runs: u64,
    pub(super) scratch: Vec<u8>,
    /// Bytes of the record of one outcome.
    pub(super) record_bytes: u64,
    pub(super) server: FileServer,
    pub(super) journal: Appender,
    /// Tasks with an outcome.
    pub(super) ended: RangeSet,
    pub(super) first_hand: Option<Nanos>,
    pub(super) last_record: Nanos,
    pub(super) done: bool,
    pub(super) tally: Tally,
    pub(super) steps: u64,
}

impl<'t> Cluster<'t> {
    pub(super) fn new(
        layout: Layout,
        settings: Settings,
        policy: Policy,
        tasks: &'t dyn Tasks,
        numbers: Numbers,
    ) -> Self {
        let tree = layout.tree();
        let shape = tasks.shape();
        let mut roles = Vec::new();
        let mut ranks = Vec::with_capacity(layout.ranks() as usize);
        for rank in (0..layout.ranks()).map(Rank) {
            let first_role = roles.len() as u32;
            for place in tree.places(rank) {
                let machine = Self::machine(&layout, settings, policy, tasks, place, rank, shape.calls);
                roles.push(RoleState {
                    depth: place.depth,
                    parent: place.parent,
                    machine,
                    down_arrives: 0,
                    up_arrives: 0,
                });
            }
            ranks.push(RankState {
                first_role,
                roles: (roles.len() as u32 - first_role) as u8,
                inbox: VecDeque::new(),
                busy_until: 0,
                busy: 0,
                since: 0,
                looks: NEVER,
                messages: 0,
            });
        }
        let mut cluster = Self {
            layout,
            tasks,
            looks: Looks::new(numbers.idle.clone()),
            server: FileServer::new(&numbers.files),
            journal: Appender::default(),
            numbers,
            now: 0,
            events: Queue::new(),
            ranks,
            roles,
            runs: 0,
            scratch: Vec::new(),
            record_bytes: if shape.calls { 2 } else { 64 },
            ended: RangeSet::new(),
            first_hand: None,
            last_record: 0,
            done: false,
            tally: Tally::new(tree.levels),
            steps: 0,
        };
        (0..cluster.ranks.len() as u32).for_each(|rank| cluster.open(Rank(rank)));
        cluster
    }

    pub(super) fn roles_of(&self, rank: Rank) -> std::ops::Range<usize> {
        let RankState { first_role, roles, .. } = self.ranks[rank.position()];
        first_role as usize..first_role as usize + usize::from(roles)
    }

    pub(super) fn role_at(&self, rank: Rank, depth: u8) -> usize {
        let roles = self.roles_of(rank);
        let role = roles.start + usize::from(depth - self.roles[roles.start].depth);
        debug_assert!(roles.contains(&role) && self.roles[role].depth == depth);
        role
    }

    /// Runs until the manager is done, or until this time; whether it is done.
    pub(super) fn run(&mut self, until: Nanos) -> bool {
        while !self.done {
            let Some((at, event)) = self.events.pop() else { return false };
            if at > until {
                return false;
            }
            self.now = at;
            self.steps += 1;
            match event {
                Event::Arrive(message) => self.arrive(message),
                Event::Look(rank) => {
                    if self.ranks[rank.position()].looks == at {
                        self.look_around(rank);
                    }
                }
                Event::Ended { rank, slot, run } => self.run_may_have_ended(rank, slot, run),
                Event::Long { rank, slot, run } => self.cut_long(rank, slot, run),
            }
        }
        true
    }

    /// Virtual time so far.
    pub(super) fn now(&self) -> Nanos {
        self.now
    }

    /// Checks what must hold between any two events, on every machine.
    pub(super) fn check(&self) -> Result<(), Violation> {
        self.roles.iter().try_for_each(|role| match &role.machine {
            Machine::Manager(manager) => manager.check(),
            Machine::Sub { machine, .. } => machine.check(),
            Machine::Worker(slots, _) => slots.machine.check(),
        })
    }
}
