//! The loop of one rank: messages in, processes watched, ledger followed, messages out; asleep in between.

use super::error::DriveError;
use super::keeper::Keeper;
use super::parts::{Parts, put_parcel};
use super::plan::Shared;
use super::roles::{Outbox, Outgoing, SubRole};
use super::root::Root;
use super::signals;
use super::slots::Slots;
use super::stage::{Play, Stage};
use super::wire::{Control, pack, unpack};
use super::worker::{Runner, WorkerRole};
use crate::execute::functions::{FunctionSlots, Isolation};
use crate::execute::{Executor, Spawner};
use crate::fabric::{Fabric, Listen, Received};
use crate::ledger::RunDir;
use crate::schedule::{
    BATCH_US, Down, Place, Policy, Pulse, Role, SubManager, Tree, Up, Watch, Worker, decode, encode,
};
use crate::task::{EndedBy, IndexRange, NodeId, Rank, Resources};
use crate::wake::Wake;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages taken up before the rest of the loop has its turn.
const MESSAGES_AT_ONCE: usize = 512;
/// See `RankLoop::full_bytes`.
const FULL_BYTES: u64 = if cfg!(test) { 5_000 } else { 128 << 20 };
/// How long a rank with children may sleep while its own slots are busy and nothing comes: they wait for it. Each time that
/// it looks costs its slot some 30 µs, and each time that it is late the slots of its children wait: the more of these there
/// are, the sooner it looks. For one or two children.
const PARENTS_WAIT: Duration = Duration::from_millis(10);
/// The same for very many.
const BIG_PARENTS_WAIT: Duration = Duration::from_millis(1);
/// How long a rank that can take up or start no more waits before it looks whether it can again.
const FULL_WAIT: Duration = Duration::from_millis(10);
/// Bytes of tasks that go along with what is handed out.
const ATTACHED_BYTES: usize = 16 << 10;
/// A rank that calls functions in its own thread is heard by another when they take longer: longer than a batch should, since
/// each change of threads costs the calls some 100 µs.
const CALLERS_PATIENCE: Duration = Duration::from_micros(BATCH_US);
/// After calls that took longer than this all that has come meanwhile is taken up before the next: perhaps a cancel waits
/// behind many hand-outs. After shorter ones the next call is not kept waiting for a look that finds nothing.
const BRIEF_CALLS: Duration = Duration::from_micros(50);
/// While ranks get to know each other and the first tasks show how long they take, each word is answered by one that is
/// waited for: for so long no rank leaves messages lying for more than this.
const STARTING: Duration = Duration::from_millis(200);
const STARTING_WAIT: Duration = Duration::from_millis(1);
/// Longest sleep.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Who calls functions on a rank.
#[derive(Debug)]
pub(super) enum CallsBy {
    /// A thread for each slot.
    Threads,
    /// The thread that plays the rank, where the rank has one slot: no thread has to be woken for a task. Another one goes
    /// on talking when a task takes long.
    Player,
    /// A process for each slot.
    Processes(Arc<Isolation>),
}

impl CallsBy {
    /// A rank with children never runs tasks in its talking thread.
    pub(super) fn of(fabric: &dyn Fabric, tree: &Tree) -> Self {
        let is_leaf = tree.places(fabric.rank()).iter().all(|place| place.role == Role::Worker);
        if is_leaf && fabric.may_change_threads() { CallsBy::Player } else { CallsBy::Threads }
    }
}

/// All is over for this rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// All ranks leave together.
    Together,
    /// Some are gone, or do not answer: nobody waits for them.
    WithoutAll,
}

/// Whether this rank is the first child of its parent, the parent itself left aside.
fn speaks_for_siblings(tree: &Tree, me: Rank) -> bool {
    let Some((parent, depth)) = tree.places(me).first().and_then(|place| Some((place.parent?, place.depth))) else {
        return false;
    };
    let of_parent = tree.places(parent).iter().find(|place| place.depth + 1 == depth);
    of_parent.and_then(|place| place.children.iter().find(|child| **child != parent)) == Some(&me)
}

/// The last word of a rank to those below.
pub(super) struct Farewell {
    below: Vec<(u8, Rank)>,
    silent: Vec<Rank>,
    without_all: bool,
}

impl Farewell {
    pub(super) fn say(&self, fabric: &mut dyn Fabric) {
        // One that is only slow may still hear it, behind what it did not take up; nobody waits for that.
        self.silent.iter().for_each(|rank| fabric.abandon(*rank));
        let leave = pack(&Control::Leave { without_all: self.without_all }, &[]);
        for (level, to) in &self.below {
            fabric.send(*level, *to, leave.clone());
        }
    }
}

fn parents_wait(children: usize) -> Duration {
    (2 * PARENTS_WAIT / children.max(2) as u32).max(BIG_PARENTS_WAIT)
}

/// One rank, with the roles that it plays.
pub(super) struct RankLoop<M> {
    pub(super) fabric: Box<dyn Fabric>,
    pub(super) me: Rank,
    began: Instant,
    pub(super) manager: Option<M>,
    pub(super) subs: Vec<SubRole>,
    pub(super) worker: Option<WorkerRole>,
    pub(super) parts: Parts,
    /// Other ranks see no bundle file: what is handed out takes its tasks along, where they are few.
    attaches: bool,
    /// Messages from one role of this rank to another.
    local: VecDeque<Outgoing>,
    pub(super) wake: Wake,
    signals: u32,
    /// Unsent or unwritten bytes above which no task is started and nothing is taken up.
    full_bytes: u64,
    descriptors: Vec<libc::pollfd>,
    /// What ended the loop before its time.
    failed: Option<DriveError>,
    watch: Watch,
    was_cut_off: bool,
    /// The process ends with this rank, whatever its other threads do.
    is_all_of_the_process: bool,
    /// What all children of its parent would say it says alone.
    speaks_for_siblings: bool,
    leaving: Option<Leaving>,
    /// This rank plays the manager for a program, which goes on when all tasks have ended.
    program_goes_on: bool,
    /// All tasks have ended, but not all ranks can leave together: the others wait until the program ends as well.
    is_settled: bool,
    /// Start of the last turn.
    turned: Instant,
    /// See [`PARENTS_WAIT`].
    parents_wait: Duration,
}

impl<M: Root + Send + 'static> Play for RankLoop<M> {
    fn play(&mut self, leave: &dyn Fn() -> bool) {
        self.go_on(leave);
        if self.leaves_without_all() && self.is_all_of_the_process {
            // The other thread is in a call, which may never return.
            crate::fabric::leave_written(0);
        }
    }

    fn bell(&self) -> Wake {
        self.wake.clone()
    }
}

impl<M: Root> RankLoop<M> {
    /// Joins the families of the tree. The roles are the caller's to add. `attaches`: other ranks see no bundle file.
    pub(super) fn without_roles(
        mut fabric: Box<dyn Fabric>,
        tree: &Tree,
        parts: Parts,
        attaches: bool,
        shared: &Shared,
    ) -> Result<Self, DriveError> {
        let me = fabric.rank();
        let patience_us = shared.lost_after.map(|patience| patience.as_micros() as u64);
        let watch = Watch::new(tree, me, fabric.size(), patience_us);
        let watch = match shared.silent_manager {
            Some(most) => watch.with_silent_manager(most.as_micros() as u64),
            None => watch,
        };
        fabric.connect(&tree.families_of(me))?;
        let children = tree.places(me).iter().map(|place| place.children.len()).max().unwrap_or(0);
        Ok(Self {
            fabric,
            me,
            began: Instant::now(),
            manager: None,
            subs: Vec::new(),
            worker: None,
            parts,
            attaches,
            local: VecDeque::new(),
            wake: Wake::new()?,
            signals: 0,
            full_bytes: FULL_BYTES,
            descriptors: Vec::new(),
            failed: None,
            watch,
            was_cut_off: false,
            is_all_of_the_process: false,
            speaks_for_siblings: speaks_for_siblings(tree, me),
            leaving: None,
            program_goes_on: false,
            is_settled: false,
            turned: Instant::now(),
            parents_wait: parents_wait(children),
        })
    }

    pub(super) fn sub_role(&self, place: Place, dir: Option<&RunDir>, shared: &Shared) -> SubRole {
        let machine = SubManager::new(Policy::default(), &place.children);
        // A node that does not see DIR passes its outcomes on to one that does.
        let visible = dir.filter(|_| place.keeper && self.parts.are_complete());
        // Rank 0's own segment is the first; a keeper's number follows from its rank.
        let number = shared.first_segment + 1 + self.me.0;
        let keeper = visible.map(|dir| Keeper::new(&dir.segments(), number, shared.sync, self.wake.clone()));
        let machine = if keeper.is_some() { machine.keeping(number) } else { machine };
        SubRole::new(place, machine, keeper)
    }

    pub(super) fn worker_role(
        &self,
        place: Place,
        spawner: Option<Spawner>,
        calls: Option<CallsBy>,
        shared: &Shared,
    ) -> Result<WorkerRole, DriveError> {
        let slots = &shared.layout.ranks[self.me.position()];
        let settings = crate::execute::Settings {
            max_output: shared.max_output,
            keep_stdout: shared.keep != super::plan::Keep::None,
            out_dir: Some(shared.dir.clone()).filter(|dir| !dir.as_os_str().is_empty()),
            folder: shared.folder.clone().map(|bytes| OsString::from_vec(bytes).into()),
            first_slot: slots.first_slot,
            gpus: slots.gpus.clone(),
            ..Default::default()
        };
        let total = Resources { cores: slots.slots.len() as u32, gpus: slots.gpus.ids.len() as u32 };
        let machine = Worker::new(NodeId(slots.node), total, shared.crash_limit);
        let machine = if calls.is_some() { machine.with_calls() } else { machine };
        let executor = |spawner| -> Result<Box<dyn Slots>, DriveError> {
            let executor: Box<dyn Slots> = Box::new(Executor::new(spawner, &slots.slots, settings)?);
            #[cfg(test)]
            let executor = super::tests::perhaps_unkillable(executor);
            Ok(executor)
        };
        let functions = |by| match by {
            CallsBy::Player if slots.slots.len() == 1 => {
                FunctionSlots::inline(&slots.slots, slots.first_slot, shared.recording)
            }
            CallsBy::Processes(isolation) => {
                FunctionSlots::new(&slots.slots, slots.first_slot, shared.recording, Some(isolation))
            }
            _ => FunctionSlots::new(&slots.slots, slots.first_slot, shared.recording, None),
        };
        let runner = Runner {
            processes: spawner.map(executor).transpose()?,
            functions: calls.map(functions).transpose()?,
            recording: shared.recording,
        };
        Ok(WorkerRole::new(place, machine, runner, self.me, shared))
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    #[inline(never)] // `scripts/show/instructions.sh` counts by its name.
    pub(super) fn run(&mut self) -> Result<(), DriveError> {
        self.open();
        self.run_until(|_| false)
    }

    /// Says the first words.
    pub(super) fn open(&mut self) {
        let mut out = Outbox::new();
        let now = self.now();
        if let Some(manager) = &mut self.manager {
            manager.open(now, &mut out);
        }
        self.subs.iter_mut().for_each(|sub| sub.open(&mut out));
        self.send(&mut out);
    }

    /// Goes on until the rank's part is over, or `leave` says so; it is asked once in each turn.
    pub(super) fn run_until(&mut self, mut leave: impl FnMut(&mut Self) -> bool) -> Result<(), DriveError> {
        while !self.is_over() && !leave(self) {
            let mut out = Outbox::new();
            if self.receive(&mut out, &mut leave)? {
                return Ok(());
            }
            self.turn(&mut out);
            let full = self.is_full();
            if (full || self.local.is_empty()) && !self.is_over() && !leave(self) {
                self.sleep(full)?;
            }
        }
        Ok(())
    }

    /// Takes up what is there and does what is due, without waiting for anything.
    pub(super) fn turn_once(&mut self) -> Result<(), DriveError> {
        let mut out = Outbox::new();
        self.receive(&mut out, &mut |_| false)?;
        self.turn(&mut out);
        Ok(())
    }

    /// Where not all ranks leave together the process ends, though a function may still run in it.
    pub(super) fn ends_with_process(&mut self) {
        self.is_all_of_the_process = true;
    }

    /// Where not all ranks can leave together nobody leaves before the program of this one ends: it is for that to say
    /// [`farewell`](Self::farewell).
    pub(super) fn outlives_the_session(&mut self) {
        self.program_goes_on = true;
    }

    /// See [`outlives_the_session`](Self::outlives_the_session).
    pub(super) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Bytes unread or unsent above which nothing is taken up.
    pub(super) fn set_full_bytes(&mut self, bytes: u64) {
        self.full_bytes = bytes;
    }

    /// Collective, before the first word: the trouble of the first rank that has any, the same on all ranks.
    pub(super) fn first_trouble(&mut self, own: Option<String>) -> Result<Option<String>, DriveError> {
        let troubles = self.fabric.gather(encode(&own))?;
        let first = troubles.map(|troubles| {
            let read = |bytes: &Vec<u8>| decode::<Option<String>>(bytes).unwrap_or_default();
            let name = |(rank, trouble): (usize, Option<String>)| Some(format!("rank {rank}: {}", trouble?));
            encode(&troubles.iter().map(read).enumerate().find_map(name))
        });
        decode(&self.fabric.broadcast(first)?).map_err(|_| DriveError::Plan)
    }

    /// Lets the manager act out of turn.
    pub(super) fn by_manager(&mut self, act: impl FnOnce(&mut M, u64, &mut Parts, &mut Outbox)) {
        let (now, mut out) = (self.now(), Outbox::new());
        if let Some(manager) = &mut self.manager {
            act(manager, now, &mut self.parts, &mut out);
        }
        self.send(&mut out);
    }

    /// Acts on what the program told the manager, and hears nobody.
    pub(super) fn push(&mut self) {
        let (now, mut out) = (self.now(), Outbox::new());
        if let Some(manager) = &mut self.manager {
            manager.turn(now, &mut self.parts, &mut out);
        }
        self.send(&mut out);
        while let Some(own) = self.local.pop_front() {
            self.handle(own.level, self.me, own.control, own.attached, &mut out);
            self.send(&mut out);
        }
    }

    /// Time since the last turn began.
    pub(super) fn since_turn(&self) -> Duration {
        self.turned.elapsed()
    }

    /// Runs to the end; where this thread calls the functions, in turns with them.
    pub(super) fn play_to_the_end(mut self) -> Result<Self, DriveError>
    where
        M: Send + 'static,
    {
        let Some(mut caller) = self.worker.as_mut().and_then(WorkerRole::take_caller) else {
            self.run()?;
            return Ok(self);
        };
        self.open();
        let stage = Stage::new(self, Some(CALLERS_PATIENCE))?;
        let bound = caller.bind();
        loop {
            let mut rank = stage.enter();
            let called_briefly = rank.since_turn() < BRIEF_CALLS;
            rank.go_on_after_a_call(called_briefly, || caller.has_order());
            if rank.is_over() || rank.failed.is_some() {
                break;
            }
            drop(rank);
            caller.call_next();
        }
        drop(bound);
        let mut rank = stage.close();
        match rank.failed.take() {
            Some(error) => Err(error),
            None => Ok(rank),
        }
    }

    /// As [`go_on`](Self::go_on), but what the call gave goes up before anything else; then others have their turn, even where
    /// it is to leave: what has come is taken up, one message at least where it `may_leave_some`.
    #[inline(never)] // `scripts/show/instructions.sh` counts by its name.
    fn go_on_after_a_call(&mut self, may_leave_some: bool, leave: impl Fn() -> bool) {
        self.turn(&mut Outbox::new());
        if self.failed.is_none() {
            let looked = self.receive(&mut Outbox::new(), &mut |_| may_leave_some && leave());
            self.failed = looked.and_then(|_| self.run_until(|_| leave())).err();
        }
    }

    /// Goes on, and remembers what stopped it.
    fn go_on(&mut self, leave: impl Fn() -> bool) {
        if self.failed.is_none() {
            self.failed = self.run_until(|_| leave()).err();
        }
    }

    /// As [`run_until`](Self::run_until), for a rank that another thread may have played meanwhile.
    pub(super) fn checked_run_until(&mut self, leave: impl FnMut(&mut Self) -> bool) -> Result<(), DriveError> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.run_until(leave),
        }
    }

    /// Whether this rank has nothing left to do: everybody has ended, as rank 0 says, or there is no rank 0.
    pub(super) fn is_over(&self) -> bool {
        self.leaving.is_some()
    }

    /// Whether ranks are gone, or do not answer: what all of them would have to do together cannot be done.
    pub(super) fn leaves_without_all(&self) -> bool {
        self.leaving == Some(Leaving::WithoutAll)
    }

    /// On rank 0: whether all have ended, or are waited for no longer.
    fn look_at_end(&mut self) {
        let Some(manager) = self.manager.as_ref().filter(|_| self.leaving.is_none()) else { return };
        let forced = manager.is_forced(&|| self.now());
        let ended = self.local.is_empty()
            && manager.is_over()
            && self.subs.iter().all(|sub| sub.done)
            && self.worker.as_ref().is_none_or(|worker| worker.done);
        if !forced && !ended {
            return;
        }
        match forced || manager.has_lost() {
            true if self.program_goes_on => self.is_settled = true,
            true => self.leave(Leaving::WithoutAll),
            false => self.leave(Leaving::Together),
        }
    }

    /// All is over: tells those below. On rank 0, where not all can leave together, later, by its [`Farewell`].
    fn leave(&mut self, how: Leaving) {
        self.leaving = Some(how);
        if self.manager.is_none() || how == Leaving::Together {
            self.farewell().say(&mut *self.fabric);
        }
    }

    /// What is to be told to those below when this rank leaves.
    pub(super) fn farewell(&self) -> Farewell {
        let (below, silent) = (self.watch.below().collect(), self.watch.silent().collect());
        Farewell { below, silent, without_all: self.leaves_without_all() || self.is_settled }
    }

    /// Whether no more can be taken up for now: what came waits to be written, or to go further up. Its children wait
    /// then, in the end the manager. Only what goes up counts: each wait is for a rank nearer to the root, or for a disk,
    /// so that no two wait for each other.
    pub(super) fn is_full(&self) -> bool {
        let goes_up = |sub: &SubRole| if sub.is_relay() { self.unsent_up(&sub.place) } else { sub.queued_bytes() };
        self.manager.as_ref().is_some_and(|manager| manager.queued_bytes() > self.full_bytes)
            || self.subs.iter().any(|sub| goes_up(sub) > self.full_bytes)
    }

    /// Bytes sent to the parent of a role and not taken up by it. One on the same rank says itself when it is full.
    fn unsent_up(&self, place: &Place) -> u64 {
        place.parent.filter(|parent| *parent != self.me).map_or(0, |parent| self.fabric.unsent_to(parent))
    }

    /// Takes messages up until there are no more, or one of them makes it `leave`; whether it did.
    fn receive(&mut self, out: &mut Outbox, leave: &mut impl FnMut(&mut Self) -> bool) -> Result<bool, DriveError> {
        for _ in 0..MESSAGES_AT_ONCE {
            if self.is_full() {
                break;
            }
            if let Some(own) = self.local.pop_front() {
                self.handle(own.level, self.me, own.control, own.attached, out);
            } else if let Some(received) = self.fabric.receive()? {
                self.take_up(received, out);
            } else {
                break;
            }
            self.send(out);
            if leave(self) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take_up(&mut self, (level, from, bytes): Received, out: &mut Outbox) {
        match unpack(from, bytes) {
            Ok((control, attached)) => self.handle(level, from, control, attached, out),
            Err(error) => tracing::error!("{error}"),
        }
    }

    fn handle(&mut self, level: u8, from: Rank, control: Control, attached: Vec<u8>, out: &mut Outbox) {
        let now = self.now();
        if from != self.me {
            self.watch.heard(now, level, from);
        }
        let depth = if control.is_down() { level + 1 } else { level };
        match control {
            Control::Down(message) => {
                if let Err(why) = self.parts.add_parcels(&attached) {
                    tracing::error!("rank {} was sent a slice that it cannot use: {why}", self.me);
                }
                if let Some(sub) = self.sub_at(depth) {
                    sub.on_parent(now, message, out);
                } else if let Some(worker) = &mut self.worker {
                    worker.on_message(now, message, &self.parts, out);
                }
            }
            Control::Up(message) => {
                if let Some(sub) = self.sub_at(depth) {
                    sub.on_child(now, from, message, attached, out);
                } else if let Some(manager) = &mut self.manager {
                    manager.on_child(now, from, message, attached, out);
                }
            }
            Control::Fetch { range, mut path } => {
                path.push(from);
                match self.parts.extract(range) {
                    Some((place, _, slice)) => {
                        let mut parcel = Vec::new();
                        put_parcel(&mut parcel, place, &slice);
                        Self::pass_slice(level, path, range, parcel, out);
                    }
                    None if self.manager.is_some() => tracing::error!("tasks from {} on are nowhere", range.start),
                    None => self.pass_up(depth, Control::Fetch { range, path }, out),
                }
            }
            Control::Slice { path, asked } => {
                // What is small is perhaps all of an array, which others below will ask for as well.
                if (path.is_empty() || attached.len() < ATTACHED_BYTES)
                    && let Err(why) = self.parts.add_parcels(&attached)
                {
                    tracing::error!("rank {} was sent a slice that it cannot use: {why}", self.me);
                }
                match (path.is_empty(), &mut self.worker) {
                    (true, Some(worker)) => worker.on_slice(now, asked, &self.parts, out),
                    (true, None) => {}
                    (false, _) => Self::pass_slice(depth, path, asked, attached, out),
                }
            }
            Control::Stop { why, what } => match &mut self.manager {
                Some(manager) if depth == 0 => manager.on_stop(now, why, &what, out),
                _ => self.pass_up(depth, Control::Stop { why, what }, out),
            },
            Control::Longest(long) => {
                if let Some(sub) = self.sub_at(depth) {
                    sub.on_longest(now, from, long, out);
                } else if let Some(manager) = &mut self.manager {
                    manager.on_longest(now, from, long);
                }
            }
            Control::Beat { is_cut_off } => self.watch.heard_of_parent(level, from, is_cut_off),
            Control::Leave { without_all } => {
                self.leave(if without_all { Leaving::WithoutAll } else { Leaving::Together });
            }
        }
    }

    /// Tells relatives that this rank is there, and gives up those that are silent.
    #[inline(never)] // `scripts/show/heartbeats.sh` counts by its name.
    fn feel_pulses(&mut self, now: u64, out: &mut Outbox) {
        let full = self.is_full();
        if full && self.watch.has_parents() {
            self.listen_though_full(out);
        }
        let is_cut_off = self.watch.is_cut_off(now);
        for pulse in self.watch.step(now, full) {
            match pulse {
                Pulse::Beat { level, to, is_parent } => {
                    let control = if is_parent { self.beat_up(level) } else { Some(Control::Beat { is_cut_off }) };
                    out.extend(control.map(|control| Outgoing { level, to, control, attached: Vec::new() }));
                }
                Pulse::Lost { level, child } => {
                    self.fabric.abandon(child);
                    if let Some(sub) = self.sub_at(level) {
                        sub.on_lost(now, child, out);
                    } else if let Some(manager) = &mut self.manager {
                        manager.on_lost(now, child, out);
                    }
                }
                Pulse::Orphaned { parent, silent_us } => {
                    if self.speaks_for_siblings {
                        let silent = silent_us as f64 / 1e6;
                        let remedy = if parent == Rank::MANAGER { "; resume what they ran" } else { "" };
                        tracing::error!(
                            "nothing was heard of rank {parent} for {silent:.1} s: those below it end{remedy}"
                        );
                    }
                    self.leave(Leaving::WithoutAll);
                }
            }
        }
    }

    /// A rank that takes up no more hears its parents all the same: a message or two of each level, in turns.
    fn listen_though_full(&mut self, out: &mut Outbox) {
        const MESSAGES: usize = 8;
        for _ in 0..MESSAGES {
            let Ok(Some(received)) = self.fabric.receive() else { return };
            self.take_up(received, out);
        }
    }

    /// What tells the parent at this level that its child here is there; a rank without a role has nobody to tell.
    fn beat_up(&mut self, level: u8) -> Option<Control> {
        let epoch = match self.sub_at(level + 1) {
            Some(sub) => sub.machine.epoch(),
            None => self.worker.as_ref()?.machine.epoch(),
        };
        Some(Control::Up(Up::Beat { epoch }))
    }

    fn sub_at(&mut self, depth: u8) -> Option<&mut SubRole> {
        self.subs.iter_mut().find(|sub| sub.place.depth == depth)
    }

    /// To the parent of this rank's role at that depth.
    fn pass_up(&mut self, depth: u8, control: Control, out: &mut Outbox) {
        let parent = self.sub_at(depth).and_then(|sub| sub.place.parent);
        if let Some(to) = parent {
            out.push(Outgoing { level: depth - 1, to, control, attached: Vec::new() });
        }
    }

    fn pass_slice(level: u8, mut path: Vec<Rank>, asked: IndexRange, slice: Vec<u8>, out: &mut Outbox) {
        if let Some(to) = path.pop() {
            out.push(Outgoing { level, to, control: Control::Slice { path, asked }, attached: slice });
        }
    }

    /// The first of the tasks that are handed out, where they lie here and are small: who runs them need not ask.
    fn attached(&self, message: &Down) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Down::Hand { ranges, .. } = message else { return bytes };
        for mut range in ranges.iter().map(|given| given.range) {
            while !range.is_empty() {
                let left = ATTACHED_BYTES.saturating_sub(bytes.len()) as u64;
                let Some((place, covered, slice)) = self.parts.extract_within(range, left) else { return bytes };
                put_parcel(&mut bytes, place, &slice);
                range.start = covered.end;
            }
        }
        bytes
    }

    /// What the clock, the slots and the ledger ask for.
    fn turn(&mut self, out: &mut Outbox) {
        self.turned = Instant::now();
        let now = self.turned.duration_since(self.began).as_micros() as u64;
        self.wake.clear();
        if self.watch.next_tick().is_some_and(|at| at <= now) {
            self.feel_pulses(now, out);
        }
        for sub in &mut self.subs {
            sub.look_at_segment(now, out);
            if sub.machine.next_tick().is_some_and(|at| at <= now) {
                sub.step(now, out);
            }
        }
        let full = self.is_full();
        let waits_up = self.worker.as_ref().is_some_and(|worker| self.unsent_up(&worker.place) > self.full_bytes);
        let is_cut_off = self.watch.is_cut_off(now);
        if is_cut_off != std::mem::replace(&mut self.was_cut_off, is_cut_off) {
            // Those below should not wait for the next beat to know.
            for place in self.subs.iter().map(|sub| &sub.place) {
                let to_child = |to: &Rank| Outgoing {
                    level: place.depth,
                    to: *to,
                    control: Control::Beat { is_cut_off },
                    attached: Vec::new(),
                };
                out.extend(place.children.iter().filter(|child| **child != self.me).map(to_child));
            }
        }
        if let Some(worker) = &mut self.worker {
            let ended = worker.poll(now, &self.parts, out);
            let paused = full || waits_up || is_cut_off;
            if ended || paused != worker.is_paused() || worker.next_tick().is_some_and(|at| at <= now) {
                worker.step(now, paused, &self.parts, out);
            }
        }
        if let Some(manager) = &mut self.manager {
            manager.turn(now, &mut self.parts, out);
        } else {
            self.pass_signals(out);
        }
        self.send(out);
        self.look_at_end();
    }

    /// A signal to any rank asks for the end of the run.
    fn pass_signals(&mut self, out: &mut Outbox) {
        let asked = signals::asked();
        if asked == self.signals {
            return;
        }
        self.signals = asked;
        let place = self.subs.first().map(|sub| &sub.place).or(self.worker.as_ref().map(|worker| &worker.place));
        if let Some((depth, to)) = place.and_then(|place| Some((place.depth, place.parent?))) {
            let control = Control::Stop { why: EndedBy::Signal, what: format!("rank {} got a signal", self.me) };
            out.push(Outgoing { level: depth - 1, to, control, attached: Vec::new() });
        }
    }

    fn send(&mut self, out: &mut Outbox) {
        for mut message in out.drain(..) {
            if message.to == self.me {
                self.local.push_back(message);
            } else {
                if let (true, Control::Down(down)) = (self.attaches, &message.control) {
                    message.attached = self.attached(down);
                }
                self.fabric.send(message.level, message.to, pack(&message.control, &message.attached));
            }
        }
    }

    /// Sleeps until there is something to do, if nothing is to be done at once; a rank that is `full` hears no messages.
    fn sleep(&mut self, full: bool) -> Result<(), DriveError> {
        let now = self.now();
        let ticks = self.subs.iter().filter_map(|sub| sub.machine.next_tick());
        let ticks = ticks.chain(self.worker.as_ref().and_then(WorkerRole::next_tick));
        let ticks = ticks.chain(self.manager.as_ref().and_then(M::next_tick)).chain(self.watch.next_tick());
        let tick = ticks.min().map(|at| Duration::from_micros(at.saturating_sub(now)));
        let look = self.worker.as_ref().and_then(WorkerRole::next_look);
        let next = tick.into_iter().chain(look).min().unwrap_or(LONGEST_WAIT);
        if next.is_zero() && !full {
            return Ok(());
        }
        let descriptors = &mut self.descriptors;
        descriptors.clear();
        let mut listen = if full { Listen::No } else { Listen::Eagerly };
        if let Some(worker) = &self.worker {
            worker.descriptors(descriptors);
            let is_leaf = self.manager.is_none() && self.subs.is_empty();
            let reserve = self.manager.as_ref().is_none_or(M::has_reserve)
                && self.subs.iter().all(|sub| sub.machine.has_reserve());
            if worker.waits_for_slots() && reserve && !full {
                listen = Listen::Lazily(if is_leaf { LONGEST_WAIT } else { self.parents_wait });
            }
        }
        descriptors.push(libc::pollfd { fd: self.wake.as_raw_fd(), events: libc::POLLIN, revents: 0 });
        let held_back = full || self.worker.as_ref().is_some_and(WorkerRole::is_paused);
        let longest = match held_back {
            true => FULL_WAIT,
            false if self.began.elapsed() < STARTING => STARTING_WAIT,
            false => LONGEST_WAIT,
        };
        self.fabric.wait(descriptors, next.min(longest), listen)?;
        Ok(())
    }

    /// Closes what the roles hold. Gives the fabric back, which outlives them.
    pub(super) fn finish(mut self) -> (Option<M::End>, Box<dyn Fabric>) {
        (self.close_roles(), self.fabric)
    }

    /// Closes what the roles hold: from here on the rank has none, and tells its relatives only that it is there.
    pub(super) fn close_roles(&mut self) -> Option<M::End> {
        let now = self.now();
        if let Some(worker) = self.worker.take() {
            worker.shutdown();
        }
        for sub in self.subs.drain(..) {
            if let Some(error) = sub.finish() {
                tracing::error!("rank {}: {error}", self.me);
            }
        }
        self.manager.take().map(|manager| manager.finish(now))
    }
}
