//! The threads that call functions: one per slot, each with a batch of tasks at a time. The rank that owns them goes on
//! talking meanwhile, however long a function takes.
//!
//! A batch can be cut at any moment: what it has not started is the owner's again. Per task a thread claims the next
//! index (one compare-and-swap), calls, and notes how long it took (one look at the clock, if that is recorded at all).

use super::function::{Call, Function, MAX_VALUE_BYTES, panic_text, refuse_value};
use super::isolate::{Driver, Isolation, Lead};
use super::notes::Notes;
use crate::execute::executor::cores_together;
use crate::execute::sys::CpuSet;
use crate::execute::{ExecuteError, SlotCores, system};
use crate::schedule::BATCH_US;
use crate::task::{Bundle, IndexRange, PackedCalls, Status};
use crate::wake::Wake;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
// Not crossbeam's: it yields for a while before it sleeps.
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What is recorded of tasks that are functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Recording {
    /// Status, duration and value of every task
    #[default]
    All,
    /// Those of failed tasks; of the others only that they ended well
    Failures,
    /// The status of each task, and nothing else
    None,
}

/// Tasks that are calls, perhaps with others among them.
pub struct Calls {
    /// Holds them.
    pub bundle: Arc<Bundle>,
    /// The position in the run of the bundle's position 0.
    pub base: u64,
    /// Added to what the bundle calls a task, for what the user calls it.
    pub first: u64,
    /// What they call, by the numbers that the bundle gives.
    pub functions: Arc<[Function]>,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").field("bundle", &self.bundle).field("base", &self.base).finish_non_exhaustive()
    }
}

/// Tasks to call in a row.
#[derive(Debug)]
pub struct BatchOrder {
    /// Holds them.
    pub calls: Arc<Calls>,
    /// Which, by their positions in the run; fewer than 2³².
    pub range: IndexRange,
    /// Which attempt it is of each, from 1.
    pub attempt: u32,
    /// Cores that each may use.
    pub cores: u32,
    /// What the thread is bound to, where it is not its own slot.
    pub units: SlotCores,
}

/// Consecutive tasks that ended well.
#[derive(Debug)]
pub struct OkCalls {
    /// Which.
    pub range: IndexRange,
    /// Start of the first, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// Their durations and values, where they are recorded.
    pub calls: PackedCalls,
}

/// A task that did not end well.
#[derive(Debug)]
pub struct FailedCall {
    /// Position.
    pub index: u64,
    /// How.
    pub status: Status,
    /// Start, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// Microseconds.
    pub duration_us: u64,
    /// What it gave all the same.
    pub value: Vec<u8>,
}

/// What a batch has done. Of one that was cut its owner hears what had ended by then, and later the rest.
#[derive(Debug)]
pub struct Batch {
    /// The first of the slots that it was started on.
    pub slot: u32,
    /// Which attempt it was.
    pub attempt: u32,
    /// What ended well, in order, and is not told yet.
    pub ok: Vec<OkCalls>,
    /// What failed, in order, and is not told yet.
    pub failed: Vec<FailedCall>,
    /// What was left because the rest had grown large: not started, the owner's again.
    pub rest: Option<IndexRange>,
    /// Whether the slot is free again. Else these were the first of its tasks, and it goes on.
    pub is_over: bool,
}

impl Batch {
    /// Of which nothing is known yet.
    pub fn new(slot: u32, attempt: u32) -> Self {
        Self { slot, attempt, ok: Vec::new(), failed: Vec::new(), rest: None, is_over: true }
    }
}

/// The part of a batch that is not started yet, as offsets from its first task: the next in the low half, the end in the
/// high half, so that taking one and cutting all off are single steps that exclude each other.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(super) struct Window(AtomicU64);

impl Window {
    pub(super) fn open(&self, tasks: u32) {
        self.0.store(u64::from(tasks) << 32, Ordering::Release);
    }

    fn parts(state: u64) -> (u32, u32) {
        (state as u32, (state >> 32) as u32)
    }

    /// How many were taken, each by itself.
    pub(super) fn claimed(&self) -> u32 {
        Self::parts(self.0.load(Ordering::Acquire)).0
    }

    /// Takes the next task.
    pub(super) fn claim(&self) -> Option<u32> {
        let mut state = self.0.load(Ordering::Acquire);
        loop {
            let (next, end) = Self::parts(state);
            if next >= end {
                return None;
            }
            match self.0.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(next),
                Err(now) => state = now,
            }
        }
    }

    /// Takes all that is left.
    pub(super) fn cut(&self) -> Option<(u32, u32)> {
        let mut state = self.0.load(Ordering::Acquire);
        loop {
            let (next, end) = Self::parts(state);
            if next >= end {
                return None;
            }
            let cut = u64::from(next) << 32 | u64::from(next);
            match self.0.compare_exchange_weak(state, cut, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some((next, end)),
                Err(now) => state = now,
            }
        }
    }
}

/// The tasks at these places of a batch.
pub(super) fn within(batch: IndexRange, (next, end): (u32, u32)) -> IndexRange {
    IndexRange::new(batch.start + u64::from(next), batch.start + u64::from(end))
}

/// The slots of one rank.
pub struct FunctionSlots {
    slots: Vec<Slot>,
    ended: Receiver<Batch>,
    /// What had ended of batches when they were cut.
    parts: Vec<Batch>,
    wake: Wake,
    /// Where functions run in processes of their own.
    isolation: Option<Arc<Isolation>>,
    /// Waits to be taken by the thread that will call.
    caller: Option<InlineCaller>,
}

struct Slot {
    /// Where its thread, or the inline caller, waits.
    orders: Option<SyncSender<BatchOrder>>,
    window: Arc<Window>,
    notes: Arc<Notes>,
    /// In place of the window, where functions run in processes of their own.
    lead: Option<Arc<Lead>>,
    units: SlotCores,
    running: Option<Running>,
    thread: Option<JoinHandle<()>>,
}

struct Running {
    range: IndexRange,
    attempt: u32,
    since: Instant,
    is_cut: bool,
}

/// A batch that takes longer than this is cut: what waits in it can go elsewhere.
const LONG: Duration = Duration::from_micros(2 * BATCH_US);
/// Stack of a thread: functions were written for a main thread, which has 8 MiB as a rule.
const STACK_BYTES: usize = 16 << 20;
/// A batch ends when what it leaves behind has grown to this size.
pub(super) const BATCH_BYTES: usize = 8 << 20;

impl FunctionSlots {
    /// Starts a thread for each slot. `first_slot` is the number of the first among those of the node. With `isolation` a
    /// thread has a process of its own call the functions.
    pub fn new(
        slots: &[SlotCores],
        first_slot: u32,
        recording: Recording,
        isolation: Option<Arc<Isolation>>,
    ) -> Result<Self, ExecuteError> {
        let wake = Wake::new().map_err(system("make a socket pair"))?;
        let (tell, ended) = channel();
        let start = |(number, units): (u32, &SlotCores)| {
            let (orders, waiting) = sync_channel::<BatchOrder>(1);
            let (window, notes) = (Arc::new(Window::default()), Arc::new(Notes::default()));
            let shared = (window.clone(), notes.clone());
            let mut caller = Caller::new(shared, number, first_slot + number, recording);
            let lead = isolation.as_ref().map(|_| Arc::new(Lead::default()));
            let mut driver = isolation
                .as_ref()
                .zip(lead.as_ref())
                .map(|(isolation, lead)| Driver::new(isolation, lead, (number, first_slot + number), units, recording));
            let (own, tell, wake) = (units.clone(), tell.clone(), wake.clone());
            let work = move || {
                bind(own.as_deref());
                for order in waiting {
                    if order.units.is_some() {
                        bind(order.units.as_deref());
                    }
                    let batch = match &mut driver {
                        Some(driver) => driver.call_all(&order, &mut |part| {
                            // Where the slots are gone, nobody wants to know.
                            let _ = tell.send(part);
                            wake.wake();
                        }),
                        None => caller.call_all(&order),
                    };
                    if order.units.is_some() {
                        bind(own.as_deref());
                    }
                    drop(order);
                    if tell.send(batch).is_err() {
                        return;
                    }
                    wake.wake();
                }
            };
            let builder = std::thread::Builder::new().name(format!("slot-{number}")).stack_size(STACK_BYTES);
            let thread = builder.spawn(work).map_err(system("start a thread for a slot"))?;
            let units = units.clone();
            Ok(Slot { orders: Some(orders), window, notes, lead, units, running: None, thread: Some(thread) })
        };
        let slots = (0..).zip(slots).map(start).collect::<Result<_, ExecuteError>>()?;
        Ok(Self { slots, ended, parts: Vec::new(), wake, isolation, caller: None })
    }

    /// One slot without a thread: whoever takes the [caller](Self::take_caller) calls.
    ///
    /// # Panics
    /// Where there is not one slot.
    pub fn inline(slots: &[SlotCores], first_slot: u32, recording: Recording) -> Result<Self, ExecuteError> {
        let [units] = slots else { panic!("{} slots for one caller", slots.len()) };
        let wake = Wake::new().map_err(system("make a socket pair"))?;
        let (tell, ended) = channel();
        let (orders, waiting) = sync_channel::<BatchOrder>(1);
        let (window, notes) = (Arc::new(Window::default()), Arc::new(Notes::default()));
        let caller = Caller::new((window.clone(), notes.clone()), 0, first_slot, recording);
        let caller = InlineCaller { caller, waiting, next: RefCell::default(), tell, units: units.clone() };
        let units = units.clone();
        let slot = Slot { orders: Some(orders), window, notes, lead: None, units, running: None, thread: None };
        Ok(Self { slots: vec![slot], ended, parts: Vec::new(), wake, isolation: None, caller: Some(caller) })
    }

    /// Who calls the functions of a slot without a thread. Once.
    pub fn take_caller(&mut self) -> Option<InlineCaller> {
        self.caller.take()
    }

    /// Starts a batch on the first of these slots, on the cores of all of them.
    ///
    /// # Panics
    /// Where there is no slot, no such slot, or the first is taken.
    pub fn start(&mut self, slots: &[u32], calls: Arc<Calls>, range: IndexRange, attempt: u32) {
        let units = cores_together(slots.iter().map(|slot| &self.slots[*slot as usize].units));
        let slot = &mut self.slots[slots[0] as usize];
        assert!(slot.running.is_none(), "slot {} already runs a batch", slots[0]);
        let tasks = u32::try_from(range.len()).expect("a batch is bounded");
        match &slot.lead {
            Some(lead) => lead.open(tasks),
            None => {
                slot.notes.open();
                slot.window.open(tasks);
            }
        }
        slot.running = Some(Running { range, attempt, since: Instant::now(), is_cut: range.len() < 2 });
        let order = BatchOrder { calls, range, attempt, cores: slots.len() as u32, units };
        let sent = slot.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        assert!(sent, "a slot's thread lives as long as its slot");
    }

    /// Takes back what the batch on this slot has not started. The call that runs goes on; what has ended before it comes
    /// with a later [`poll`](Self::poll), and does not wait for it.
    pub fn cut(&mut self, slot: u32) -> Option<IndexRange> {
        let Slot { lead, window, notes, running, .. } = self.slots.get_mut(slot as usize)?;
        let running = running.as_mut()?;
        running.is_cut = true;
        if let Some(lead) = lead {
            return lead.cut().map(|cut| within(running.range, cut));
        }
        let cut = window.cut();
        let before = running.range.start + u64::from(window.claimed().saturating_sub(1));
        let mut part = Batch { is_over: false, ..Batch::new(slot, running.attempt) };
        if notes.take_until(before, &mut part) {
            self.parts.push(part);
            self.wake.wake();
        }
        cut.map(|cut| within(running.range, cut))
    }

    /// Ends the call that runs on this slot, where it runs in a process of its own: by SIGTERM, and after `grace` by
    /// SIGKILL. Its batch gives it back. Elsewhere no call can be ended.
    pub fn kill(&mut self, slot: u32, grace: Duration) {
        if let Some(Slot { lead: Some(lead), running: Some(_), .. }) = self.slots.get(slot as usize) {
            lead.kill(grace);
        }
    }

    /// Whether nothing can be called any more.
    pub fn is_broken(&self) -> bool {
        self.isolation.as_ref().is_some_and(|isolation| isolation.is_broken())
    }

    /// Adds the batches, and parts of such, that have ended since the last call. Does not wait.
    pub fn poll(&mut self, ended: &mut Vec<Batch>) {
        self.wake.clear();
        ended.append(&mut self.parts);
        for batch in self.ended.try_iter() {
            if batch.is_over {
                self.slots[batch.slot as usize].running = None;
            }
            ended.push(batch);
        }
    }

    /// Slots whose batch takes so long that it should be cut.
    pub fn long(&self) -> Vec<u32> {
        let is_long = |slot: &Slot| {
            slot.running.as_ref().is_some_and(|running| !running.is_cut && running.since.elapsed() >= LONG)
        };
        (0..).zip(&self.slots).filter(|(_, slot)| is_long(slot)).map(|(number, _)| number).collect()
    }

    /// Time until [`long`](Self::long) may have something new.
    pub fn next_look(&self) -> Option<Duration> {
        let running = self.slots.iter().filter_map(|slot| slot.running.as_ref()).filter(|running| !running.is_cut);
        running.map(|running| LONG.saturating_sub(running.since.elapsed())).min()
    }

    /// What to sleep on: readable when `poll` has something to do.
    pub fn wait_descriptors(&self, into: &mut Vec<libc::pollfd>) {
        use std::os::fd::AsRawFd;
        into.push(libc::pollfd { fd: self.wake.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    }

    /// Ends the threads and their processes. A thread that still calls a function itself is left alone: it cannot be ended.
    pub fn shutdown(mut self) {
        for slot in &mut self.slots {
            slot.window.cut();
            if let Some(lead) = &slot.lead {
                lead.kill(Duration::ZERO);
            }
            slot.orders = None;
        }
        for slot in &mut self.slots {
            if (slot.running.is_none() || slot.lead.is_some())
                && let Some(thread) = slot.thread.take()
            {
                // It has caught every panic of a function.
                let _ = thread.join();
            }
        }
    }
}

/// Calls the functions of a slot without a thread of its own, in the thread of the owner.
pub struct InlineCaller {
    caller: Caller,
    waiting: Receiver<BatchOrder>,
    /// Seen, and not called yet.
    next: RefCell<Option<BatchOrder>>,
    tell: Sender<Batch>,
    units: SlotCores,
}

impl InlineCaller {
    /// Binds this thread to the slot's cores, until the result is dropped.
    pub fn bind(&self) -> Bound {
        let before = self.units.as_ref().and_then(|_| CpuSet::of_this_thread().ok());
        bind(self.units.as_deref());
        Bound(before)
    }

    /// Whether a batch was started and waits to be called.
    pub fn has_order(&self) -> bool {
        let mut next = self.next.borrow_mut();
        if next.is_none() {
            *next = self.waiting.try_recv().ok();
        }
        next.is_some()
    }

    /// Calls the batch that was started, if there is one. Its end comes with the next [`FunctionSlots::poll`]; nobody is
    /// woken for it.
    pub fn call_next(&mut self) {
        if let Some(order) = self.next.take().or_else(|| self.waiting.try_recv().ok()) {
            let batch = self.caller.call_all(&order);
            // Where the slots are gone, nobody wants to know.
            let _ = self.tell.send(batch);
        }
    }
}

/// A thread that is bound; dropping it gives the thread back the cores that it had.
pub struct Bound(SlotCores);

impl Drop for Bound {
    fn drop(&mut self) {
        bind(self.0.as_deref());
    }
}

/// Binding is for speed: where the machine refuses it, functions run unbound.
pub(super) fn bind(units: Option<&[u32]>) {
    if let Some(units) = units {
        let _ = CpuSet::of(units).bind();
    }
}

pub(super) fn unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

thread_local! {
    static CALLING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside of a task's function: a panic is the task's then, and nobody else's.
pub fn is_calling() -> bool {
    CALLING.get()
}

/// What one thread knows.
struct Caller {
    window: Arc<Window>,
    notes: Arc<Notes>,
    number: u32,
    slot: u32,
    recording: Recording,
    value: Vec<u8>,
    row: Vec<u8>,
}

impl Caller {
    fn new((window, notes): (Arc<Window>, Arc<Notes>), number: u32, slot: u32, recording: Recording) -> Self {
        Self { window, notes, number, slot, recording, value: Vec::new(), row: Vec::new() }
    }

    fn call_all(&mut self, order: &BatchOrder) -> Batch {
        let mut batch = Batch::new(self.number, order.attempt);
        let records = self.recording == Recording::All;
        let (started_unix_us, began) = (unix_us(), Instant::now());
        let unix_at = |moment: Instant| started_unix_us + moment.duration_since(began).as_micros() as u64;
        let mut clock = began;
        self.notes.lock().begin(order.range.start, started_unix_us);
        while let Some(offset) = self.window.claim() {
            let index = order.range.start + u64::from(offset);
            // Where no call is timed but those that fail, each has to be: nobody knows before.
            let start = if self.recording == Recording::Failures { Instant::now() } else { clock };
            let status = self.call(order, index);
            if !records && status == Status::Ok {
                continue;
            }
            clock = Instant::now();
            let mut noted = self.notes.lock();
            if status == Status::Ok {
                noted.ok_until(index + 1);
                noted.keep(clock.duration_since(start).as_nanos() as u64, &self.value);
            } else {
                let duration_us = clock.duration_since(start).as_micros() as u64;
                let value = self.value.clone();
                noted.failed(FailedCall { index, status, started_unix_us: unix_at(start), duration_us, value });
            }
            if noted.kept_bytes > BATCH_BYTES {
                batch.rest = self.window.cut().map(|cut| within(order.range, cut));
            }
        }
        self.notes.finish(order.range.start + u64::from(self.window.claimed()), &mut batch);
        batch
    }

    fn call(&mut self, order: &BatchOrder, index: u64) -> Status {
        self.value.clear();
        let Calls { bundle, base, first, functions } = &*order.calls;
        let task = index - base;
        let Some(function) = bundle.function_of(task).and_then(|number| functions.get(number as usize)) else {
            return not_called();
        };
        let mut call = Call {
            index: first + bundle.label(task),
            payload: bundle.call_payload(task, &mut self.row),
            attempt: order.attempt,
            slot: self.slot,
            cores: order.cores,
            value: &mut self.value,
        };
        call_once(function, &mut call)
    }
}

/// The status of a task whose function is none of its bundle.
pub(super) fn not_called() -> Status {
    Status::NotStarted("it calls no function of its bundle".to_owned())
}

/// Calls the function for one task, and says how that went.
pub(super) fn call_once(function: &Function, call: &mut Call<'_>) -> Status {
    CALLING.set(true);
    let status = catch_unwind(AssertUnwindSafe(|| function(call)));
    CALLING.set(false);
    let refused = (call.value.len() > MAX_VALUE_BYTES).then(|| refuse_value(call.value));
    match (status, refused) {
        (Err(panic), _) => Status::Panic(panic_text(&*panic)),
        (Ok(_), Some(status)) => Status::Exit(status),
        (Ok(0), None) => Status::Ok,
        (Ok(status), None) => Status::Exit(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Call as CallOption, Source, TemplateOptions, take_call, write_bundle};

    fn bundle_of(tasks: u64, argument: &str) -> Arc<Bundle> {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::Array { first: 100, last: 99 + tasks, step: 1, command: Vec::new() };
        let call = CallOption { function: "builtin:noop".to_owned(), argument: argument.as_bytes().to_vec() };
        let options = TemplateOptions { call: Some(call), ..TemplateOptions::default() };
        Arc::new(write_bundle(&source, &options, &folder.path().join("bundle")).unwrap().bundle)
    }

    /// Slots whose tasks all call one function.
    struct Tested {
        slots: FunctionSlots,
        function: Function,
        /// Polled and not looked at.
        ended: Vec<Batch>,
    }

    impl std::ops::Deref for Tested {
        type Target = FunctionSlots;

        fn deref(&self) -> &FunctionSlots {
            &self.slots
        }
    }

    impl std::ops::DerefMut for Tested {
        fn deref_mut(&mut self) -> &mut FunctionSlots {
            &mut self.slots
        }
    }

    impl Tested {
        fn start(&mut self, slots: &[u32], bundle: Arc<Bundle>, range: IndexRange, attempt: u32) {
            let calls = Calls { bundle, base: 0, first: 0, functions: Arc::new([self.function.clone()]) };
            self.slots.start(slots, Arc::new(calls), range, attempt);
        }

        fn shutdown(self) {
            self.slots.shutdown();
        }
    }

    fn slots_of(recording: Recording, function: impl Fn(&mut Call<'_>) -> i32 + Send + Sync + 'static) -> Tested {
        let slots = FunctionSlots::new(&[None, None], 0, recording, None).unwrap();
        Tested { slots, function: Arc::new(function), ended: Vec::new() }
    }

    fn ended(slots: &mut Tested) -> Batch {
        let deadline = Instant::now() + Duration::from_secs(30);
        while slots.ended.is_empty() {
            assert!(Instant::now() < deadline, "the batch does not end");
            slots.slots.poll(&mut slots.ended);
            std::thread::sleep(Duration::from_micros(100));
        }
        slots.ended.remove(0)
    }

    #[test]
    fn a_batch_is_called_in_order_with_index_payload_and_value() {
        let mut slots = slots_of(Recording::All, |call| {
            call.value.extend_from_slice(format!("{} {}", call.index, call.payload.len()).as_bytes());
            0
        });
        slots.start(&[1], bundle_of(50, "four"), IndexRange::new(10, 13), 1);
        let batch = ended(&mut slots);
        assert_eq!((batch.slot, batch.failed.len(), batch.ok.len()), (1, 0, 1));
        assert_eq!(batch.ok[0].range, IndexRange::new(10, 13));
        let mut packed = batch.ok[0].calls.bytes();
        let values: Vec<String> = std::iter::from_fn(|| take_call(&mut packed))
            .map(|call| String::from_utf8_lossy(call.value).into_owned())
            .collect();
        assert_eq!(values, ["110 4", "111 4", "112 4"]);
        slots.shutdown();
    }

    #[test]
    fn failures_and_panics_are_the_task_s_own() {
        let mut slots = slots_of(Recording::All, |call| match call.index {
            101 => 7,
            102 => panic!("no {}", call.index),
            _ => 0,
        });
        slots.start(&[0], bundle_of(50, ""), IndexRange::new(0, 5), 1);
        let batch = ended(&mut slots);
        let ranges: Vec<_> = batch.ok.iter().map(|run| run.range).collect();
        assert_eq!(ranges, [IndexRange::new(0, 1), IndexRange::new(3, 5)]);
        let failed: Vec<_> = batch.failed.iter().map(|failed| (failed.index, failed.status.to_string())).collect();
        assert_eq!(failed, [(1, "exit:7".to_owned()), (2, "panic: no 102".to_owned())]);
        slots.shutdown();
    }

    #[test]
    fn what_is_cut_off_is_not_called_and_nothing_is_lost() {
        let (go, wait) = crossbeam_channel::unbounded::<()>();
        let mut slots = slots_of(Recording::None, move |call| {
            if call.index == 100 {
                let _ = wait.recv_timeout(Duration::from_secs(30));
            }
            0
        });
        slots.start(&[0], bundle_of(1000, ""), IndexRange::new(0, 1000), 1);
        let deadline = Instant::now() + Duration::from_secs(30);
        while slots.long().is_empty() {
            assert!(Instant::now() < deadline, "a batch that takes long is noticed");
            std::thread::sleep(Duration::from_millis(1));
        }
        let rest = slots.cut(0).expect("most of it was not started");
        assert!(slots.long().is_empty() && slots.cut(0).is_none(), "it is cut once");
        go.send(()).unwrap();
        let batch = ended(&mut slots);
        let called: u64 = batch.ok.iter().map(|run| run.range.len()).sum();
        assert_eq!((called, rest), (rest.start, IndexRange::new(rest.start, 1000)));
        assert!(batch.ok[0].calls.bytes().is_empty(), "nothing was to be recorded");
        slots.shutdown();
    }

    #[test]
    fn what_ended_before_a_call_that_hangs_is_told_when_its_batch_is_cut() {
        for recording in [Recording::All, Recording::Failures, Recording::None] {
            let (go, wait) = crossbeam_channel::unbounded::<()>();
            let (come, came) = crossbeam_channel::unbounded::<()>();
            let mut slots = slots_of(recording, move |call| {
                if call.index == 105 {
                    come.send(()).unwrap();
                    let _ = wait.recv_timeout(Duration::from_secs(30));
                }
                i32::from(call.index == 102)
            });
            slots.start(&[0], bundle_of(50, ""), IndexRange::new(0, 8), 1);
            came.recv_timeout(Duration::from_secs(30)).expect("the sixth task is called");
            assert_eq!(slots.cut(0), Some(IndexRange::new(6, 8)));
            let told = |batch: &Batch| {
                let ok: Vec<_> = batch.ok.iter().map(|run| (run.range.start, run.range.end)).collect();
                (batch.is_over, ok, batch.failed.iter().map(|failed| failed.index).collect::<Vec<_>>())
            };
            assert_eq!(told(&ended(&mut slots)), (false, vec![(0, 2), (3, 5)], vec![2]));
            assert_eq!(slots.cut(0), None);
            go.send(()).unwrap();
            let last = ended(&mut slots);
            assert_eq!(told(&last), (true, vec![(5, 6)], vec![]), "{recording:?}");
            let packed = last.ok[0].calls.bytes();
            assert_eq!(take_call(&mut &*packed).is_some(), recording == Recording::All);
            slots.start(&[0], bundle_of(50, ""), IndexRange::new(0, 5), 1);
            assert_eq!(told(&ended(&mut slots)), (true, vec![(0, 2), (3, 5)], vec![2]), "the next batch is told whole");
            slots.shutdown();
        }
    }

    #[test]
    fn a_batch_whose_values_grow_large_ends_and_gives_the_rest_back() {
        for status in [0, 1] {
            let mut slots = slots_of(Recording::All, move |call| {
                call.value.resize(MAX_VALUE_BYTES, b'x');
                status
            });
            slots.start(&[0], bundle_of(1000, ""), IndexRange::new(0, 1000), 1);
            let batch = ended(&mut slots);
            let called = batch.ok.iter().map(|run| run.range.len()).sum::<u64>() + batch.failed.len() as u64;
            assert!(called < 200, "{called} values of 64 KiB");
            assert_eq!(batch.rest, Some(IndexRange::new(called, 1000)));
            slots.shutdown();
        }
    }

    #[test]
    fn a_failure_is_timed_alone_where_only_failures_are_recorded() {
        let mut slots = slots_of(Recording::Failures, |call| {
            if call.index < 103 {
                std::thread::sleep(Duration::from_millis(2));
                return 0;
            }
            1
        });
        slots.start(&[0], bundle_of(5, ""), IndexRange::new(0, 4), 1);
        let batch = ended(&mut slots);
        let (first, failed) = (&batch.ok[0], &batch.failed[0]);
        assert!(failed.started_unix_us >= first.started_unix_us + 6_000, "three calls of 2 ms came before it");
        slots.shutdown();
    }

    #[test]
    fn a_batch_that_is_cut_while_it_runs_calls_each_task_once_or_gives_it_back() {
        let calls = Arc::new(AtomicU64::new(0));
        let counted = calls.clone();
        let mut slots = slots_of(Recording::None, move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            0
        });
        let bundle = bundle_of(200_000, "");
        for round in 0..200u64 {
            calls.store(0, Ordering::Relaxed);
            slots.start(&[0], bundle.clone(), IndexRange::new(0, 200_000), 1);
            for _ in 0..round * 50 {
                std::hint::spin_loop();
            }
            let rest = slots.cut(0).map_or(0, |rest| rest.len());
            let mut ok = Vec::new();
            loop {
                let batch = ended(&mut slots);
                ok.extend(batch.ok.iter().map(|run| run.range));
                if batch.is_over {
                    break;
                }
            }
            assert!(ok.windows(2).all(|pair| pair[0].end == pair[1].start), "each once, in order: {ok:?}");
            let ok: u64 = ok.iter().map(|range| range.len()).sum();
            assert_eq!((ok + rest, ok), (200_000, calls.load(Ordering::Relaxed)), "round {round}");
        }
        slots.shutdown();
    }
}
