//! The loop of a rank with nothing at its ends: tasks end as soon as they are started, and no ledger is kept. What
//! remains is what Myriarch itself costs.

use super::DriveError;
use super::parts::{PartPlace, Parts};
use super::plan::{Keep, Layout, LayoutOptions, RankReport, Shared};
use super::rank::RankLoop;
use super::roles::{Outbox, Outgoing, SubRole};
use super::root::Root;
use super::slots::NullSlots;
use super::wire::{Control, pack};
use super::worker::{Runner, WorkerRole};
use crate::execute::Pin;
use crate::execute::functions::Recording;
use crate::fabric::Fabric;
use crate::schedule::{
    Down, Manager, ManagerAction, Place, Policy, Role, Settings, SubManager, Up, Worker, decode, encode,
};
use crate::task::{Bundle, BundleId, EndedBy, NodeId, RangeSet, Rank, Resources, Shape};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Clone, Debug)]
pub struct NullRun {
    /// The tasks: the bytes of a bundle.
    pub bundle: Vec<u8>,
    /// Slots of each rank.
    pub slots: u32,
    /// Width of a node by hand.
    pub ranks_per_node: Option<u32>,
    /// Most children of a rank.
    pub fan_out: u32,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NullFigures {
    /// Tasks that ended.
    pub tasks: u64,
    /// Ranks that took part.
    pub ranks: u32,
    /// Their nodes.
    pub nodes: u32,
    /// Levels of links in the tree.
    pub levels: u8,
    /// Slots of all ranks.
    pub slots: u64,
    /// From the first hand-out to the last report.
    pub seconds: f64,
    /// Messages that the manager received.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The share of the time from its start to the last report in which the manager was at work.
    pub manager_busy: f64,
}

/// Takes part in a measurement; rank 0 brings what is measured and gets the figures.
///
/// # Errors
/// As [`run`](super::run()).
pub fn run_null(mut fabric: Box<dyn Fabric>, wanted: Option<&NullRun>) -> Result<Option<NullFigures>, DriveError> {
    let reports = fabric.gather(encode(&RankReport::of_this_process()))?;
    let plan = match (reports, wanted) {
        (Some(reports), Some(wanted)) => Some(encode(&(share(&reports, wanted)?, &wanted.bundle))),
        _ => None,
    };
    let told = fabric.broadcast(plan)?;
    let (shared, bytes) = decode::<(Shared, Vec<u8>)>(&told).map_err(|_| DriveError::Plan)?;
    let bundle = Bundle::from_bytes(bytes).map_err(|_| DriveError::Plan)?;
    let mut rank = with_roles(fabric, &shared, bundle)?;
    rank.run()?;
    let (figures, fabric) = rank.finish();
    fabric.finish(false);
    Ok(figures)
}

fn share(reports: &[Vec<u8>], wanted: &NullRun) -> Result<Shared, DriveError> {
    let reports: Vec<RankReport> =
        reports.iter().map(|bytes| decode(bytes)).collect::<Result<_, _>>().map_err(|_| DriveError::Plan)?;
    let options = LayoutOptions {
        ranks_per_node: wanted.ranks_per_node,
        dedicated_manager: false,
        slots_per_node: None,
        pin: Pin::None,
    };
    let mut layout = Layout::new(&reports, options).map_err(DriveError::Unfit)?;
    for rank in &mut layout.ranks {
        rank.slots = vec![None; wanted.slots.max(1) as usize];
    }
    let bundle = Bundle::from_bytes(wanted.bundle.clone()).map_err(|_| DriveError::Plan)?;
    Ok(Shared {
        layout,
        fan_out: wanted.fan_out,
        dir: Default::default(),
        folder: None,
        bundle: bundle.id(),
        generation: 1,
        round: 0,
        first_segment: 0,
        sync: Duration::ZERO,
        crash_limit: 1,
        lost_after: None,
        silent_manager: None,
        max_output: 0,
        keep: Keep::None,
        functions: Vec::new(),
        has_processes: true,
        recording: Recording::All,
        isolate: false,
    })
}

fn with_roles(fabric: Box<dyn Fabric>, shared: &Shared, bundle: Bundle) -> Result<RankLoop<NullManager>, DriveError> {
    let (me, ranks) = (fabric.rank(), fabric.size());
    let tree = shared.layout.tree(shared.fan_out);
    let tasks = bundle.len();
    let mut parts = Parts::new(Arc::new(crate::execute::functions::missing), true);
    parts.add(PartPlace::default(), bundle);
    let mut rank = RankLoop::without_roles(fabric, &tree, parts, false, shared)?;
    for place in tree.places(me) {
        match place.role {
            Role::Manager => {
                let figures = NullFigures {
                    tasks: 0,
                    ranks,
                    nodes: shared.layout.nodes.len() as u32,
                    levels: tree.levels,
                    slots: shared.layout.slots(),
                    seconds: 0.0,
                    messages: 0,
                    bytes: 0,
                    manager_busy: 0.0,
                };
                rank.manager = Some(NullManager::new(place, tasks, figures));
            }
            Role::SubManager => {
                let machine = SubManager::new(Policy::default(), &place.children);
                rank.subs.push(SubRole::new(place.clone(), machine, None));
            }
            Role::Worker => {
                let own = &shared.layout.ranks[me.position()];
                let total = Resources { cores: own.slots.len() as u32, gpus: 0 };
                let machine = Worker::new(NodeId(own.node), total, shared.crash_limit);
                let runner = Runner::processes(Box::<NullSlots>::default());
                rank.worker = Some(WorkerRole::new(place.clone(), machine, runner, me, shared));
            }
        }
    }
    Ok(rank)
}

/// A manager that only counts.
struct NullManager {
    machine: Manager,
    figures: NullFigures,
    first_hand_us: Option<u64>,
    last_report_us: u64,
    busy: Duration,
    done: bool,
}

impl NullManager {
    fn new(place: &Place, tasks: u64, figures: NullFigures) -> Self {
        let settings =
            Settings { crash_limit: 1, max_fails: None, max_running: None, grace_us: 0, nodes: figures.nodes };
        let mut machine = Manager::new(Policy::default(), settings, &place.children);
        machine.add_bundle(BundleId(0), tasks, RangeSet::new(), Arc::new(Shape::PROCESS));
        Self { machine, figures, first_hand_us: None, last_report_us: 0, busy: Duration::ZERO, done: false }
    }

    /// Lets the machine act and does what it wants.
    fn act(&mut self, now: u64, out: &mut Outbox, acts: impl FnOnce(&mut Manager, &mut Vec<ManagerAction>)) {
        let began = Instant::now();
        let mut actions = Vec::new();
        acts(&mut self.machine, &mut actions);
        for action in actions {
            match action {
                ManagerAction::ToChild(to, message) => {
                    if matches!(message, Down::Hand { .. }) {
                        self.first_hand_us.get_or_insert(now);
                    }
                    let control = Control::Down(message);
                    out.push(Outgoing { level: 0, to, control, attached: Vec::new() });
                }
                ManagerAction::Record(section) => {
                    self.figures.tasks += section.runs.iter().map(|run| run.range.len()).sum::<u64>();
                    self.last_report_us = now;
                }
                ManagerAction::RecordOwn { .. }
                | ManagerAction::Failures(_)
                | ManagerAction::Benched(_)
                | ManagerAction::Lost(_)
                | ManagerAction::Back(_) => {}
                ManagerAction::Done => self.done = true,
            }
        }
        self.busy += began.elapsed();
    }
}

impl Root for NullManager {
    type End = NullFigures;

    fn open(&mut self, now: u64, out: &mut Outbox) {
        self.act(now, out, |machine, actions| machine.open(now, actions));
    }

    fn on_child(&mut self, now: u64, from: Rank, message: Up, blocks: Vec<u8>, out: &mut Outbox) {
        let control = Control::Up(message);
        self.figures.bytes += pack(&control, &blocks).len() as u64;
        let Control::Up(message) = control else { return };
        self.act(now, out, |machine, actions| machine.on_child(now, from, message, actions));
    }

    fn on_lost(&mut self, now: u64, child: Rank, out: &mut Outbox) {
        self.act(now, out, |machine, actions| machine.on_lost(now, child, actions));
    }

    fn has_lost(&self) -> bool {
        self.machine.has_lost()
    }

    fn on_stop(&mut self, now: u64, why: EndedBy, _: &str, out: &mut Outbox) {
        self.act(now, out, |machine, actions| machine.drain(now, why, 0, actions));
    }

    fn turn(&mut self, now: u64, _: &mut Parts, out: &mut Outbox) {
        if self.next_tick().is_some_and(|at| at <= now) {
            self.act(now, out, |machine, actions| machine.step(now, actions));
        }
    }

    fn next_tick(&self) -> Option<u64> {
        self.machine.next_tick()
    }

    fn has_reserve(&self) -> bool {
        self.machine.has_reserve()
    }

    fn is_over(&self) -> bool {
        self.done
    }

    fn finish(self, _: u64) -> NullFigures {
        let first = self.first_hand_us.unwrap_or(self.last_report_us);
        let seconds = self.last_report_us.saturating_sub(first) as f64 / 1e6;
        // The first hand-outs are the work of hellos that came before them.
        let until = Duration::from_micros(self.last_report_us.max(1));
        let manager_busy = (self.busy.as_secs_f64() / until.as_secs_f64()).min(1.0);
        NullFigures { seconds, manager_busy, messages: self.machine.messages(), ..self.figures }
    }
}
