//! A slot's thread where functions run in call processes: a batch as a row of orders, and what becomes of it when a process
//! dies.

use super::super::slots::{BATCH_BYTES, Batch, BatchOrder, Recording, within};
use super::area::Area;
use super::lead::Lead;
use super::leavings::{Leavings, Reading};
use super::process::{CallProcess, Kill, OrderEnd};
use super::wire::{OrderWriter, Setup};
use crate::execute::slot::status_of;
use crate::execute::{ExecuteError, SlotCores, Spawner, system};
use crate::task::{IndexRange, Status};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// An order ends with the task that makes it so large: both sides keep it in memory, and copy it through a socket.
const ORDER_BYTES: usize = 128 << 10;
/// Most tasks of an order.
const ORDER_TASKS: u32 = 1 << 14;
/// How often in a row a process may be lost that has ended no task and of which no task is known to be the cause.
const LOSSES: u32 = 3;
/// Before another is started.
const LOSS_PAUSE: Duration = Duration::from_millis(100);
/// Between SIGTERM and SIGKILL when a task's time limit has run out.
const TIMEOUT_GRACE: Duration = Duration::from_secs(5);
/// The status of a task that left nothing that could be read.
const UNREADABLE: i32 = -2;

/// What the call processes of a rank come from.
#[derive(Debug)]
pub struct Isolation {
    spawner: Spawner,
    functions: Vec<String>,
    /// The last number that was given to a process.
    number: AtomicU32,
    broken: AtomicBool,
}

impl Isolation {
    /// Call processes for the functions of these names, which go by their numbers.
    pub fn new(spawner: Spawner, functions: &[String]) -> Arc<Isolation> {
        let (number, broken) = (AtomicU32::new(0), AtomicBool::new(false));
        Arc::new(Isolation { spawner, functions: functions.to_vec(), number, broken })
    }

    /// Has a call process try whether there is the function of this name: its library may do harm already when it is
    /// loaded.
    pub fn probe(self: &Arc<Self>, name: &str) -> Result<(), String> {
        let failed = |error: io::Error| system("start a process for calls")(error).to_string();
        let setup = Setup { functions: vec![name.to_owned()], ..self.setup(0, None, Recording::None) };
        CallProcess::start(self, &setup).map_err(failed)?.wait_ready(name)
    }

    fn setup(&self, slot: u32, units: SlotCores, recording: Recording) -> Setup {
        Setup { functions: self.functions.clone(), slot, units, recording }
    }

    /// Whether no process can be made any more.
    pub(in super::super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(super) fn fork(&self) -> io::Result<(u32, OwnedFd)> {
        let number = self.number.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        Ok((number, self.spawner.fork_call(number)?))
    }

    pub(super) fn signal(&self, number: u32, signal: libc::c_int) {
        self.spawner.signal_call(number, signal);
    }
}

/// What a slot's thread knows.
pub(in super::super) struct Driver {
    isolation: Arc<Isolation>,
    lead: Arc<Lead>,
    setup: Setup,
    /// The slot's number in its rank.
    number: u32,
    /// None until there is a task, and after a crash.
    process: Option<CallProcess>,
    writer: OrderWriter,
    /// A payload that has to be made.
    row: Vec<u8>,
    /// Orders so far.
    orders: u32,
    results: Vec<u8>,
    losses: u32,
    /// Up to this offset each task has an order of its own: one of them left an order's results unreadable.
    single_until: u32,
}

impl Driver {
    pub(in super::super) fn new(
        isolation: &Arc<Isolation>,
        lead: &Arc<Lead>,
        (number, slot): (u32, u32),
        units: &SlotCores,
        recording: Recording,
    ) -> Driver {
        Driver {
            isolation: isolation.clone(),
            lead: lead.clone(),
            setup: isolation.setup(slot, units.clone(), recording),
            number,
            process: None,
            writer: OrderWriter::default(),
            row: Vec::new(),
            orders: 0,
            results: Vec::new(),
            losses: 0,
            single_until: 0,
        }
    }

    /// Runs a batch. What has ended when it is cut goes to `tell`.
    pub(in super::super) fn call_all(&mut self, order: &BatchOrder, tell: &mut dyn FnMut(Batch)) -> Batch {
        let mut left = Leavings::new(Batch::new(self.number, order.attempt), self.setup.recording == Recording::All);
        self.single_until = 0;
        while left.kept_bytes <= BATCH_BYTES
            && !self.isolation.is_broken()
            && let Some((next, end)) = self.lead.left()
        {
            if self.has_process().is_ok() {
                self.write_order(order, next, end);
                self.run_order(order, next, &mut left, tell);
            } else {
                self.note_loss();
            }
        }
        left.finish(self.lead.cut().map(|cut| within(order.range, cut)))
    }

    fn has_process(&mut self) -> Result<(), ExecuteError> {
        if self.process.is_none() {
            let process = CallProcess::start(&self.isolation, &self.setup);
            self.process = Some(process.map_err(system("start a process for calls"))?);
        }
        Ok(())
    }

    /// A process could not be made, or was lost, through no task's fault.
    fn note_loss(&mut self) {
        self.losses += 1;
        if self.losses >= LOSSES {
            tracing::error!("slot {}: no process can be started to call functions in", self.setup.slot);
            self.isolation.broken.store(true, Ordering::Relaxed);
        } else {
            std::thread::sleep(LOSS_PAUSE);
        }
    }

    fn write_order(&mut self, order: &BatchOrder, next: u32, end: u32) {
        let calls = &order.calls;
        self.orders = self.orders.wrapping_add(1);
        self.writer.begin(self.orders, order.attempt, order.cores, order.units.as_deref());
        let most = if next < self.single_until { 1 } else { ORDER_TASKS };
        for offset in next..end.min(next.saturating_add(most)) {
            let within = order.range.start + u64::from(offset) - calls.base;
            let function = calls.bundle.function_of(within);
            self.writer.push(
                function,
                calls.first + calls.bundle.label(within),
                calls.bundle.call_payload(within, &mut self.row),
            );
            if self.writer.len_bytes() > ORDER_BYTES {
                break;
            }
        }
    }

    /// Runs the order that was written, whose first task has this offset in the batch.
    fn run_order(&mut self, order: &BatchOrder, first: u32, left: &mut Leavings, tell: &mut dyn FnMut(Batch)) {
        let Some(process) = &mut self.process else { return };
        let area = process.area.clone();
        if !self.lead.begin_order(&area, self.writer.tasks()) {
            return;
        }
        let index = order.range.start + u64::from(first);
        let first_of = |tasks: u32| IndexRange::new(index, index + u64::from(tasks));
        let mut reading = Reading::begin();
        let mut overdue = Overdue { limit: order.calls.bundle.timeout(), claimed: 0, since: reading.clock, at: None };
        let end = process.exchange(self.orders, self.writer.finish(), || {
            if let Some(ours) = self.lead.asked_to_tell() {
                let ended = area.ended(&mut self.results).min(ours);
                self.lead.note_told(left.take(&self.results, first_of(ended), &mut reading));
                left.part().into_iter().for_each(&mut *tell);
            }
            let (late, limit) = overdue.look(&area);
            (self.lead.asked_to_kill().or(late), limit)
        });
        if end != OrderEnd::Done || !process.is_sound() {
            self.process = None;
        }
        let ours = self.lead.end_order();
        let ended = area.ended(&mut self.results);
        let counted = ended.min(ours);
        let taken = left.take(&self.results, first_of(counted), &mut reading);
        // It ends an order early where there is no more room, and else never.
        let early = end == OrderEnd::Done && taken < ours && Area::has_room(self.results.len());
        let damaged = taken < counted || ended < taken || ended > ours || early || end == OrderEnd::Damaged;
        let is_claimed = area.window().claimed() > taken;
        let blame = match end {
            _ if taken == ours => None,
            _ if damaged && ours > 1 => None,
            _ if damaged => Some((Status::Exit(UNREADABLE), UNREADABLE_TEXT)),
            OrderEnd::Done => None,
            // It is the owner's again: `Lead::left` ends the batch.
            _ if self.lead.asked_to_kill().is_some() => None,
            _ if overdue.at == Some(taken + 1) => Some((Status::Timeout, "")),
            // It has ended in time, and the one that came next was killed in its place.
            _ if overdue.at.is_some() => None,
            // A batch system that ends a job tells all its processes, and the task did not fail.
            OrderEnd::Died(libc::SIGTERM) if self.losses + 1 < LOSSES => None,
            OrderEnd::Died(status) if is_claimed || self.losses + 1 >= LOSSES => Some(death(status)),
            _ => None,
        };
        if damaged {
            self.process = None;
            self.single_until = first + ours;
        }
        let mut accounted = taken;
        if let Some((status, text)) = blame {
            left.fail(index + u64::from(taken), status, text, &area, &reading);
            accounted += 1;
        }
        self.lead.take_back(ours.saturating_sub(accounted));
        if accounted > 0 || damaged || end == OrderEnd::Done {
            self.losses = 0;
        } else if overdue.at.is_none() && self.lead.asked_to_kill().is_none() {
            self.note_loss();
        }
    }
}

const UNREADABLE_TEXT: &str = "what it left behind cannot be read: memory was written over\n";

/// How a task ended that its process died of.
fn death(status: libc::c_int) -> (Status, &'static str) {
    match status_of(status) {
        Status::Ok => (Status::Exit(0), EXIT_TEXT),
        exit @ Status::Exit(_) => (exit, EXIT_TEXT),
        signal => (signal, ""),
    }
}

const EXIT_TEXT: &str = "the function ended its process\n";

/// Sees a task exceed its time limit.
struct Overdue {
    limit: Option<Duration>,
    /// Tasks that were claimed when it was looked last, and since when.
    claimed: u32,
    since: Instant,
    /// How many had been claimed when the last of them was too late.
    at: Option<u32>,
}

impl Overdue {
    /// Whether the process is to be killed, and when to look next.
    fn look(&mut self, area: &Area) -> (Option<Kill>, Option<Duration>) {
        let Some(limit) = self.limit else { return (None, None) };
        let (claimed, now) = (area.window().claimed(), Instant::now());
        if claimed != self.claimed {
            (self.claimed, self.since) = (claimed, now);
        }
        let late = now.duration_since(self.since).checked_sub(limit);
        if late.is_some() && claimed > 0 && self.at.is_none() {
            self.at = Some(claimed);
        }
        let kill = self.at.map(|_| Kill { at: self.since + limit + TIMEOUT_GRACE });
        (kill, Some(limit.saturating_sub(now.duration_since(self.since)).max(Duration::from_millis(1))))
    }
}
