//! Ranks under a virtual clock. Each runs the production state machines and takes up one message at a time, so that a busy
//! parent is a busy parent; messages take their way through the network of a model, and outcomes through its file system.

use super::Nanos;
use super::account::Account;
use super::ends::Ends;
use super::faults::Faults;
use super::figures::Tally;
use super::files::FileServer;
use super::layout::Layout;
use super::ledger::Ledger;
use super::model::Numbers;
use super::network::Message;
use super::queue::Queue;
use super::roles::{Machine, PASSED_FIRST, RoleState};
use super::tasks::Tasks;
use super::trace::Trace;
use super::trial::MOST_EVENTS;
use super::troubles::{StartEnd, Troubles};
use super::turns::{NEVER, RankState, parents_wait};
use super::waiting::Looks;
use crate::schedule::{Policy, Settings, Violation};
use crate::task::{BundleId, EndedBy, IndexRange, RangeSet, Rank, Resources};
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
    /// The fault at this place of the plan.
    Fault(usize),
    /// A parent gives up a child: if it is silent, or in any case.
    GiveUp { parent: Rank, child: Rank, in_any_case: bool },
    /// A rank that was given up is heard again.
    Beat(Rank),
    /// The rank may start tasks again.
    LetGo(Rank),
    /// The run has to stop.
    Stop(EndedBy),
    /// Rank 0 looks whether the start can go on.
    Chore,
}

/// One start of a run.
pub(super) struct Start<'t> {
    pub(super) layout: Layout,
    pub(super) settings: Settings,
    pub(super) policy: Policy,
    pub(super) tasks: &'t dyn Tasks,
    pub(super) numbers: Numbers,
    /// Tasks that have an outcome already.
    pub(super) ended: RangeSet,
    /// What goes wrong.
    pub(super) faults: Option<Faults>,
    /// With faults: accounts are kept, and what must hold is checked after every event. Too much for large runs.
    pub(super) is_checked: bool,
}

/// The machine room at work.
pub(super) struct Cluster<'t> {
    pub(super) layout: Layout,
    pub(super) settings: Settings,
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
    pub(super) ledger: Ledger,
    pub(super) first_hand: Option<Nanos>,
    pub(super) ends: Ends,
    /// Nodes of which the manager said that they are benched, and tasks that failed for good.
    pub(super) benched: Vec<u32>,
    pub(super) failed_tasks: u64,
    pub(super) end: Option<StartEnd>,
    pub(super) tally: Tally,
    pub(super) steps: u64,
    pub(super) trace: Trace,
    pub(super) troubles: Option<Troubles>,
    /// The first rule that did not hold.
    pub(super) broken: Option<Violation>,
    /// The rank whose machines have changed in this event.
    pub(super) touched: Option<Rank>,
}

impl<'t> Cluster<'t> {
    pub(super) fn new(start: Start<'t>) -> Self {
        let Start { layout, settings, policy, tasks, numbers, ended, faults, is_checked } = start;
        let tree = layout.tree();
        let calls = tasks.calls();
        let total = Resources { cores: layout.slots, gpus: tasks.gpus() };
        let submitted = faults.as_ref().and_then(|faults| faults.submitted);
        let dies_ns = faults.as_ref().map_or(5_000, |faults| faults.stubborn);
        let may_pass = faults.as_ref().map_or(PASSED_FIRST, |faults| faults.passed_first);
        let mut server = FileServer::new(&numbers.files);
        server.slow_down(faults.as_ref().map_or(0, |faults| faults.slow_files));
        let mut roles = Vec::new();
        let mut ranks = Vec::with_capacity(layout.ranks() as usize);
        for rank in (0..layout.ranks()).map(Rank) {
            let first_role = roles.len() as u32;
            let children = tree.places(rank).iter().map(|place| place.children.len()).max().unwrap_or(0);
            for place in tree.places(rank) {
                let machine = match place.parent {
                    None => Machine::root(settings, policy, tasks, place, (&ended, submitted)),
                    Some(_) => {
                        let (node, limits) = (layout.node_of(rank), (dies_ns, may_pass));
                        Machine::below(node, (settings, policy), place, rank, (total, calls), limits)
                    }
                };
                roles.push(RoleState::new(place, machine));
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
                slowness: tasks.slowness(rank),
                is_alive: true,
                has_left: false,
                parents_wait: parents_wait(children),
            });
        }
        let mut events = Queue::new();
        let planned = faults.iter().flat_map(|faults| &faults.events).enumerate();
        planned.for_each(|(place, (at, _))| events.push(*at, Event::Fault(place)));
        let troubles = faults.map(|faults| {
            let mut accounts: Vec<Account> = roles.iter().filter(|_| is_checked).map(|_| Account::default()).collect();
            let known = IndexRange::new(0, submitted.unwrap_or(tasks.count()));
            accounts.iter_mut().take(1).for_each(|root| root.add(ended.missing(known)));
            Troubles::new(faults, accounts, ended.clone(), tasks.count())
        });
        let mut cluster = Self {
            layout,
            settings,
            tasks,
            looks: Looks::new(numbers.idle.clone()),
            server,
            ledger: Ledger::new(ended, is_checked),
            numbers,
            now: 0,
            events,
            ranks,
            roles,
            runs: 0,
            scratch: Vec::new(),
            record_bytes: if calls { 2 } else { 64 },
            first_hand: None,
            ends: Ends::new(),
            benched: Vec::new(),
            failed_tasks: 0,
            end: None,
            tally: Tally::new(tree.levels),
            steps: 0,
            trace: Trace::default(),
            troubles,
            broken: None,
            touched: None,
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

    /// Runs until the start has ended, or nothing more happens, or until this time, or until a rule does not hold.
    pub(super) fn run(&mut self, until: Nanos) -> Option<StartEnd> {
        while self.end.is_none() && self.broken.is_none() {
            let (at, event) = self.events.pop()?;
            if at > until || (self.is_checked() && self.steps > MOST_EVENTS) {
                self.events.push(at, event);
                return None;
            }
            self.now = at;
            self.steps += 1;
            self.step(event);
            if self.troubles.is_some() {
                self.look_for_cores();
            }
            if self.is_checked() {
                self.check_touched();
            }
        }
        self.end
    }

    fn step(&mut self, event: Event) {
        let number = |rank: Rank| u64::from(rank.0);
        match event {
            Event::Arrive(message) => {
                self.trace.note(self.now, 0, number(message.to));
                self.arrive(message);
            }
            Event::Look(rank) => {
                if self.ranks[rank.position()].looks == self.now {
                    self.trace.note(self.now, 1, number(rank));
                    self.look_around(rank);
                }
            }
            Event::Ended { rank, slot, run } => {
                self.trace.note(self.now, 2, run);
                self.run_may_have_ended(rank, slot, run);
            }
            Event::Long { rank, slot, run } => {
                self.trace.note(self.now, 3, run);
                self.cut_long(rank, slot, run);
            }
            Event::Fault(place) => {
                self.trace.note(self.now, 4, place as u64);
                self.happen(place);
            }
            Event::GiveUp { parent, child, in_any_case } => {
                self.trace.note(self.now, 5, number(child));
                self.give_up(parent, child, in_any_case);
            }
            Event::Beat(rank) => {
                self.trace.note(self.now, 6, number(rank));
                self.beat(rank);
            }
            Event::LetGo(rank) => self.hold_back(rank, false),
            Event::Stop(why) => self.drain(why, 1_000 * self.settings.grace_us),
            Event::Chore => self.chores(),
        }
    }

    /// Virtual time so far.
    pub(super) fn now(&self) -> Nanos {
        self.now
    }
}
