//! Sessions: a program's ranks become manager and workers for a while. Rank 0 goes on with the program and submits tasks; the
//! others run them until rank 0 is done.
//!
//! | file | what it holds |
//! |---|---|
//! | `settings` | what rank 0 decides |
//! | `error` | why a session cannot do what it was asked for |
//! | `dir` | opening the DIR, where there is one |
//! | `held` | what remains when ranks are gone |

mod dir;
mod error;
mod held;
mod settings;

pub(super) use dir::SessionDir;
pub use error::SessionError;
pub use held::{end_program, is_without_all};
pub use settings::SessionSettings;

use super::DriveError;
use super::memory::{Kept, MemoryManager, Taken};
use super::parts::{FindFunction, Parts};
use super::plan::{Keep, Layout, LayoutOptions, RankReport, SHORTEST_LOST_AFTER, Shared};
use super::rank::{CallsBy, RankLoop};
use super::stage::{OnStage, Stage};
use crate::execute::Spawner;
use crate::execute::functions::{Function, find_builtin, missing};
use crate::fabric::Fabric;
use crate::ledger::{Counts, ExtentReader, LostRank, RunDir};
use crate::schedule::{Role, decode, encode};
use crate::task::{Bundle, IndexRange, Outcome, Rank, Shape};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most bytes kept of a stream of a process: outcomes travel in messages.
const MAX_OUTPUT_BYTES: u64 = 256 << 20;

/// Largest payload of a task: what is larger belongs into a file.
pub const MAX_ENTRY_BYTES: usize = 64 << 20;

/// How a rank came out of [`enter`].
pub enum Entered {
    /// This is rank 0: the session is open.
    Manager(Session),
    /// The session is over.
    Left,
}

/// What each rank tells at the start.
#[derive(Serialize, Deserialize)]
struct Introduction {
    report: RankReport,
    spawns: bool,
    names: Vec<String>,
}

/// What rank 0 tells all.
type Plan = Result<Box<Shared>, String>;

/// Enters: collective over the ranks of the fabric. Rank 0's settings hold. Returns on rank 0 at once, on the others when
/// the session is over.
///
/// # Errors
/// The same on all ranks where they do not fit each other (other functions, no slots), or where the DIR cannot be had.
pub fn enter(
    mut fabric: Box<dyn Fabric>,
    spawner: Option<Spawner>,
    report: &RankReport,
    functions: BTreeMap<String, Function>,
    settings: &SessionSettings,
) -> Result<Entered, DriveError> {
    let names = functions.keys().cloned().collect();
    let began = Instant::now();
    let report = match &spawner {
        Some(spawner) => report.clone().with_spawner(spawner),
        None => report.clone(),
    };
    let introduction = Introduction { report, spawns: spawner.is_some(), names };
    let told = fabric.gather(encode(&introduction))?;
    let (mut spawns, mut dir) = (false, None);
    let plan: Option<Plan> = told.map(|told| {
        let all: Vec<Introduction> = told
            .iter()
            .map(|bytes| decode(bytes))
            .collect::<Result<_, _>>()
            .map_err(|_| DriveError::Plan.to_string())?;
        spawns = all.iter().all(|one| one.spawns);
        let mut shared = plan(&all, settings, &*fabric)?;
        dir = SessionDir::open(settings, &*fabric)?;
        if let Some(dir) = &dir {
            let ranks: Vec<RankReport> = all.iter().map(|one| one.report.clone()).collect();
            dir.plan(&mut shared, settings, &ranks)?;
        }
        Ok(Box::new(shared))
    });
    let told = fabric.broadcast(plan.map(|plan| encode(&plan)))?;
    let shared = match decode::<Plan>(&told).map_err(|_| DriveError::Plan)? {
        Ok(shared) => shared,
        Err(why) => {
            fabric.finish(false);
            return Err(DriveError::Unfit(why));
        }
    };
    if shared.lost_after.is_some() {
        fabric.bound_the_start();
    }
    let names: Vec<String> = functions.keys().cloned().collect();
    let is_manager = fabric.rank() == Rank::MANAGER;
    let made = Discarded(dir.as_ref().filter(|dir| dir.is_new).map(|dir| dir.dir.clone()));
    let (mut rank, ready) = rank_of(fabric, spawner, functions, &shared)?;
    let trouble = ready.err().map(|error| error.to_string());
    if let Some(trouble) = rank.first_trouble(trouble)? {
        return Err(not_begun(rank, trouble));
    }
    // Not before all ranks can: the DIR of earlier starts knows of this one from here on.
    let (reader, trouble) = match dir.map(|dir| keep_in(&mut rank, dir, &shared, began)).transpose() {
        Ok(reader) => (reader, None),
        Err(error) => (None, Some(error.to_string())),
    };
    if let Some(trouble) = rank.first_trouble(trouble)? {
        return Err(not_begun(rank, trouble));
    }
    made.keep();
    if is_manager {
        return Ok(Entered::Manager(Session::open(rank, &shared, names, spawns, (settings, reader))?));
    }
    let rank = rank.play_to_the_end()?;
    let without_all = rank.leaves_without_all();
    let orderly = rank.finish().1.finish(without_all);
    if without_all {
        crate::fabric::leave_written(0);
    }
    if !orderly && shared.lost_after.is_some() {
        held::end_at_finalize();
    }
    Ok(Entered::Left)
}

/// Nothing ran; all ranks know why.
fn not_begun(mut rank: RankLoop<MemoryManager>, why: String) -> DriveError {
    rank.manager = None;
    rank.finish().1.finish(false);
    DriveError::Unfit(why)
}

/// A new DIR, which is taken away again where the session does not come about.
struct Discarded(Option<RunDir>);

impl Discarded {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Discarded {
    fn drop(&mut self) {
        let _ = self.0.take().map(RunDir::discard);
    }
}

/// Has rank 0 keep the session in its DIR.
fn keep_in(
    rank: &mut RankLoop<MemoryManager>,
    dir: SessionDir,
    shared: &Shared,
    began: Instant,
) -> Result<ExtentReader, DriveError> {
    let (kept, reader, nodes) = Kept::start(dir, shared, began, &rank.wake)?;
    if let Some(manager) = &mut rank.manager {
        manager.set_nodes(nodes);
        manager.keep_in(kept, &mut rank.parts)?;
    }
    Ok(reader)
}

fn plan(all: &[Introduction], settings: &SessionSettings, fabric: &dyn Fabric) -> Result<Shared, String> {
    if let Some(rank) = all.iter().position(|one| one.names != all[0].names) {
        return Err(format!(
            "rank {rank} has registered other functions ({}) than rank 0 ({}): register the same on every rank",
            all[rank].names.join(", "),
            all[0].names.join(", ")
        ));
    }
    if settings.lost_after.is_some_and(|patience| patience < SHORTEST_LOST_AFTER) {
        return Err(format!("lost_after: {} s is the least", SHORTEST_LOST_AFTER.as_secs_f64()));
    }
    let reports: Vec<RankReport> = all.iter().map(|one| one.report.clone()).collect();
    let options = LayoutOptions {
        ranks_per_node: settings.ranks_per_node,
        dedicated_manager: settings.dedicated_manager,
        slots_per_node: settings.slots_per_node,
        pin: settings.pin,
    };
    Ok(Shared {
        layout: Layout::new(&reports, options)?,
        fan_out: settings.fan_out,
        dir: Default::default(),
        folder: None,
        bundle: 0,
        generation: 1,
        round: 0,
        first_segment: 0,
        sync: Duration::ZERO,
        crash_limit: settings.crash_limit,
        // Threads end with the program.
        lost_after: settings.lost_after.filter(|_| fabric.is_own_process()),
        silent_manager: (!may_talk_on(fabric, settings.talks_on)).then_some(settings.longest_absence),
        max_output: settings.max_output.min(MAX_OUTPUT_BYTES),
        keep: Keep::All,
        functions: Vec::new(),
        has_processes: true,
        recording: settings.recording,
        isolate: false,
    })
}

fn rank_of(
    fabric: Box<dyn Fabric>,
    mut spawner: Option<Spawner>,
    functions: BTreeMap<String, Function>,
    shared: &Shared,
) -> Result<(RankLoop<MemoryManager>, Result<(), DriveError>), DriveError> {
    let me = fabric.rank();
    let tree = shared.layout.tree(shared.fan_out);
    let mut calls = Some(CallsBy::of(&*fabric, &tree));
    let find: FindFunction = Arc::new(move |name| match functions.get(name) {
        Some(function) => function.clone(),
        None => find_builtin(name).unwrap_or_else(|| missing(name)),
    });
    let parts = Parts::new(find, me == Rank::MANAGER);
    let mut rank = RankLoop::without_roles(fabric, &tree, parts, true, shared)?;
    if me != Rank::MANAGER && rank.fabric.is_own_process() {
        rank.ends_with_process();
    }
    let mut ready = Ok(());
    for place in tree.places(me) {
        match place.role {
            Role::Manager => {
                rank.manager = Some(MemoryManager::new(place, shared));
                rank.outlives_the_session();
            }
            Role::SubManager => rank.subs.push(rank.sub_role(place.clone(), None, shared)),
            Role::Worker => match rank.worker_role(place.clone(), spawner.take(), calls.take(), shared) {
                Ok(worker) => rank.worker = Some(worker),
                Err(error) => ready = Err(error),
            },
        }
    }
    Ok((rank, ready))
}

/// Rank 0's hold on a session. Its methods may sleep; while none of them is called, another thread talks for the rank, where
/// the fabric allows for that.
pub struct Session {
    stage: Option<Stage<RankLoop<MemoryManager>>>,
    names: Vec<String>,
    spawns: bool,
    widest: crate::task::Resources,
    slots: u64,
    ranks: u32,
    max_waiting_bytes: u64,
    max_unread_bytes: u64,
    talks_on: bool,
    /// Ranks that are silent are given up.
    gives_up: bool,
    /// Reads outcomes from the DIR, where there is one.
    reader: RefCell<Option<Box<ExtentReader>>>,
    /// Where MPI was started for one thread, the session stays in that thread.
    stays: PhantomData<*const ()>,
}

/// How long the program may do something else before another thread talks for rank 0.
const PATIENCE: Duration = Duration::from_millis(3);

/// How long a rank that is only told of tasks may go without a turn.
const TURN: Duration = Duration::from_millis(1);

impl Session {
    fn open(
        mut rank: RankLoop<MemoryManager>,
        shared: &Shared,
        names: Vec<String>,
        spawns: bool,
        (settings, reader): (&SessionSettings, Option<ExtentReader>),
    ) -> Result<Self, DriveError> {
        rank.set_full_bytes(settings.max_unread_bytes);
        rank.open();
        let talks_on = may_talk_on(&*rank.fabric, settings.talks_on);
        let ranks = shared.layout.ranks.len() as u32;
        let (widest, slots) = (shared.layout.widest(), shared.layout.slots());
        let stage = Some(Stage::new(rank, talks_on.then_some(PATIENCE))?);
        Ok(Self {
            stage,
            names,
            spawns,
            widest,
            slots,
            ranks,
            max_waiting_bytes: settings.max_waiting_bytes,
            max_unread_bytes: settings.max_unread_bytes,
            talks_on,
            gives_up: shared.lost_after.is_some(),
            reader: RefCell::new(reader.map(Box::new)),
            stays: PhantomData,
        })
    }

    fn enter(&self) -> OnStage<'_, RankLoop<MemoryManager>> {
        self.stage.as_ref().expect("a session is used before its end").enter()
    }

    /// All slots.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// All ranks.
    pub fn ranks(&self) -> u32 {
        self.ranks
    }

    /// Whether rank 0 answers the others while none of the session's methods is called.
    pub fn talks_on(&self) -> bool {
        self.talks_on
    }

    /// A new bundle, without tasks; of calls of this function, or of processes.
    ///
    /// # Errors
    /// There is no such function, or its tasks could run nowhere.
    pub fn open_bundle(&self, function: Option<&str>, shape: Shape) -> Result<usize, SessionError> {
        match function {
            Some(name) if !self.names.iter().any(|known| known == name) && find_builtin(name).is_none() => {
                return Err(SessionError::NoFunction { name: name.to_owned() });
            }
            None if !self.spawns => return Err(SessionError::NotPrepared),
            _ => {}
        }
        if !self.widest.fits(shape.resources) {
            let crate::task::Resources { cores, gpus } = shape.resources;
            return Err(SessionError::Unfit { what: format!("{cores} cores and {gpus} GPUs") });
        }
        Ok(manager_of(&mut self.enter()).open_bundle(function.map(str::to_owned), shape))
    }

    /// Adds a task to a bundle; its number there, from 0. Where very many wait, it waits until some have ended.
    ///
    /// # Errors
    /// The bundle is closed, the task too large, or the session broken.
    pub fn submit(&self, bundle: usize, entry: &[u8]) -> Result<u64, SessionError> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(SessionError::TooLarge { bytes: entry.len() });
        }
        let mut rank = self.enter();
        let manager = manager_of(&mut rank);
        if manager.is_closed(bundle) {
            return Err(SessionError::Closed);
        }
        if let Some(why) = manager.ends_early() {
            return Err(why);
        }
        if manager.live_bytes() > self.max_waiting_bytes {
            let enough = self.max_waiting_bytes / 2;
            self.go_on(&mut rank, |manager| (manager.live_bytes() <= enough).then_some(()))?;
        }
        let manager = manager_of(&mut rank);
        let number = manager.submit(bundle, entry)?;
        let starts = manager.has_appetite();
        if rank.since_turn() > TURN {
            turn(&mut rank)?;
        } else if starts {
            rank.push();
        }
        Ok(number)
    }

    /// Adds the tasks of an array to a bundle and closes it. `first` is the number of the first.
    ///
    /// # Errors
    /// The bundle is closed, or the session broken.
    pub fn submit_array(&self, bundle: usize, first: u64, array: Bundle) -> Result<(), SessionError> {
        let mut rank = self.enter();
        let manager = manager_of(&mut rank);
        if manager.is_closed(bundle) {
            return Err(SessionError::Closed);
        }
        if let Some(why) = manager.ends_early() {
            return Err(why);
        }
        manager.submit_array(bundle, first, array)?;
        manager.close(bundle);
        turn(&mut rank)
    }

    /// No more tasks will be added to the bundle.
    pub fn close(&self, bundle: usize) {
        manager_of(&mut self.enter()).close(bundle);
    }

    /// Some outcomes of the bundle, as they came. Where there is none yet and `waits`, it waits for one; none then means that
    /// every task of the bundle so far has ended and was given.
    ///
    /// # Errors
    /// The session is broken, or outcomes of other bundles fill the memory.
    pub fn take(&self, bundle: usize, waits: bool) -> Result<Vec<Outcome>, SessionError> {
        let taken = {
            let mut rank = self.enter();
            if manager_of(&mut rank).has_outcomes(bundle) {
                manager_of(&mut rank).take_outcomes(bundle)
            } else {
                manager_of(&mut rank).send_on(bundle);
                self.take_next(&mut rank, bundle, waits)?
            }
        };
        // Files are read while the rank talks on.
        match (taken, &mut *self.reader.borrow_mut()) {
            (Taken::Here(outcomes), _) => Ok(outcomes),
            (Taken::Kept(mut due, most), Some(reader)) => {
                let outcomes = due.read(most, reader);
                // What cannot be read now may be asked for again.
                if !due.is_empty() {
                    manager_of(&mut self.enter()).put_back(bundle, due);
                }
                Ok(outcomes?)
            }
            (Taken::Kept(..), None) => Err(SessionError::Ended),
        }
    }

    fn take_next(&self, rank: &mut RankLoop<MemoryManager>, bundle: usize, waits: bool) -> Result<Taken, SessionError> {
        if waits {
            return self.go_on(rank, |manager| {
                (manager.has_outcomes(bundle) || manager.has_ended(bundle)).then(|| manager.take_outcomes(bundle))
            });
        }
        turn(rank)?;
        let manager = manager_of(rank);
        if !manager.has_outcomes(bundle) && manager.unread_bytes() > self.max_unread_bytes {
            return Err(SessionError::Unread { bytes: manager.unread_bytes() });
        }
        Ok(manager.take_outcomes(bundle))
    }

    /// Waits until outcomes of one of the bundles wait to be taken, or one of them has ended; its place in the list. None
    /// where the list is empty.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn wait_any(&self, bundles: &[usize]) -> Result<Option<usize>, SessionError> {
        if bundles.is_empty() {
            return Ok(None);
        }
        let mut rank = self.enter();
        bundles.iter().for_each(|bundle| manager_of(&mut rank).send_on(*bundle));
        self.go_on(&mut rank, |manager| {
            let has = bundles.iter().position(|bundle| manager.has_outcomes(*bundle));
            has.or_else(|| bundles.iter().position(|bundle| manager.has_ended(*bundle))).map(Some)
        })
    }

    /// Waits until every task of the bundle so far has ended.
    ///
    /// # Errors
    /// The session is broken, or outcomes fill the memory.
    pub fn wait(&self, bundle: usize) -> Result<Counts, SessionError> {
        let mut rank = self.enter();
        manager_of(&mut rank).send_on(bundle);
        self.go_on(&mut rank, |manager| manager.has_ended(bundle).then(|| manager.counts(bundle).1))
    }

    /// How many tasks the bundle has, and how many of them have ended, as far as this rank has heard.
    ///
    /// # Errors
    /// The session is broken.
    pub fn counts(&self, bundle: usize) -> Result<(u64, Counts), SessionError> {
        let mut rank = self.enter();
        turn(&mut rank)?;
        Ok(manager_of(&mut rank).counts(bundle))
    }

    /// Takes tasks of the bundle back, by their numbers: those that have not started end as cancelled, functions that run go
    /// on to their end, processes that run are killed.
    ///
    /// # Errors
    /// The session is broken.
    pub fn cancel(&self, bundle: usize, numbers: IndexRange) -> Result<(), SessionError> {
        let mut rank = self.enter();
        rank.by_manager(|manager, now, parts, out| manager.cancel(now, bundle, numbers, parts, out));
        turn(&mut rank)
    }

    /// The program takes no outcomes of this bundle any more.
    pub fn drop_outcomes(&self, bundle: usize) {
        manager_of(&mut self.enter()).drop_outcomes(bundle);
    }

    /// The name of a node, by its number in an outcome.
    pub fn node_name(&self, node: u32) -> String {
        manager_of(&mut self.enter()).nodes().get(node as usize).cloned().unwrap_or_else(|| format!("node {node}"))
    }

    /// Ranks that were given up since nothing was heard of them, and those below them in the tree, which are gone with them.
    pub fn lost(&self) -> Vec<LostRank> {
        manager_of(&mut self.enter()).lost()
    }

    /// Slot-time of all attempts that rank 0 has heard of: cores × microseconds.
    pub fn busy_core_us(&self) -> u64 {
        manager_of(&mut self.enter()).busy_core_us()
    }

    /// Talks: to be called now and then by a program that does something else for long, where nobody
    /// [talks on](Self::talks_on) for it.
    ///
    /// # Errors
    /// The session is broken.
    pub fn progress(&self) -> Result<(), SessionError> {
        turn(&mut self.enter())
    }

    /// Goes on until `look` finds something.
    fn go_on<T>(
        &self,
        rank: &mut RankLoop<MemoryManager>,
        mut look: impl FnMut(&mut MemoryManager) -> Option<T>,
    ) -> Result<T, SessionError> {
        let mut found = None;
        rank.checked_run_until(|rank| {
            if found.is_none() {
                found = rank.manager.as_mut().and_then(&mut look);
            }
            found.is_some() || rank.is_settled() || manager_of(rank).unread_bytes() > self.max_unread_bytes
        })?;
        // What the last turn told is found, too, where the rank is over upon it.
        match found.or_else(|| look(manager_of(rank))) {
            Some(found) => Ok(found),
            None => {
                let (manager, most) = (manager_of(rank), self.max_unread_bytes);
                let unread = Some(manager.unread_bytes()).filter(|bytes| *bytes > most);
                let unread = unread.map(|bytes| SessionError::Unread { bytes });
                Err(unread.or_else(|| manager.ends_early()).unwrap_or(SessionError::Ended))
            }
        }
    }

    /// Ends the session: waits for all tasks or, where `waits` is not set, for those functions alone that run. Outcomes that
    /// nobody took are gone. The other ranks return from [`enter`]. Where some are gone they do not: they end there, when the
    /// program of rank 0 calls [`end_program`] or `MPI_Finalize`.
    ///
    /// # Errors
    /// The session broke.
    pub fn finish(mut self, waits: bool) -> Result<(), SessionError> {
        self.end(waits)
    }

    fn end(&mut self, waits: bool) -> Result<(), SessionError> {
        let Some(stage) = self.stage.take() else { return Ok(()) };
        let mut rank = stage.enter();
        rank.by_manager(|manager, now, parts, out| manager.end(now, waits, parts, out));
        let ended = rank.checked_run_until(|rank| rank.is_settled());
        if rank.is_settled() {
            let stopped = early_end(&mut rank, waits);
            let kept = rank.close_roles();
            drop(rank);
            held::hold(stage);
            return ended_as(kept, stopped);
        }
        drop(rank);
        let mut rank = stage.close();
        let stopped = early_end(&mut rank, waits);
        let (kept, fabric) = rank.finish();
        let orderly = fabric.finish(ended.is_err());
        if !orderly && self.gives_up {
            held::end_at_finalize();
        }
        ended?;
        ended_as(kept, stopped)
    }
}

/// Why a session ended before all of its tasks had run, where they were waited for.
fn early_end(rank: &mut RankLoop<MemoryManager>, waits: bool) -> Option<SessionError> {
    manager_of(rank).ends_early().filter(|_| waits && !manager_of(rank).has_run_all())
}

fn ended_as(kept: Option<Result<(), String>>, stopped: Option<SessionError>) -> Result<(), SessionError> {
    kept.unwrap_or(Ok(())).map_err(SessionError::Dir)?;
    stopped.map_or(Ok(()), Err)
}

/// Whether another thread may play rank 0 while this one does something else. `undisturbed`: the program makes no calls of MPI
/// then.
fn may_talk_on(fabric: &dyn Fabric, undisturbed: bool) -> bool {
    fabric.may_be_shared() || (undisturbed && fabric.may_change_threads())
}

impl Drop for Session {
    /// As [`finish`](Session::finish) without waiting for tasks.
    fn drop(&mut self) {
        if let Err(error) = self.end(false) {
            tracing::error!("{error}");
        }
    }
}

/// Takes up what is there, unless the session has ended.
fn turn(rank: &mut RankLoop<MemoryManager>) -> Result<(), SessionError> {
    let has_ended = rank.is_over() || rank.is_settled();
    match manager_of(rank).ends_early().filter(|_| has_ended) {
        Some(why) => Err(why),
        None => Ok(rank.turn_once()?),
    }
}

fn manager_of(rank: &mut RankLoop<MemoryManager>) -> &mut MemoryManager {
    rank.manager.as_mut().expect("rank 0 plays the manager")
}
