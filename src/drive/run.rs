//! A run of the command on one rank: what each has is gathered, rank 0 decides, the roles are set up, and the loop runs.

use super::error::DriveError;
use super::functions::{Functions, functions_everywhere};
use super::manager::{Job, ManagerRole, RunEnd};
use super::orphans;
use super::parts::{FindFunction, PartPlace, Parts};
use super::plan::{Layout, RankReport, Shared, Start};
use super::rank::{CallsBy, Farewell, RankLoop};
use super::signals;
use crate::execute::Spawner;
use crate::execute::functions::Isolation;
use crate::fabric::{Fabric, launcher, loss_survival};
use crate::ledger::RunDir;
use crate::observe::Facts;
use crate::observe::text::of;
use crate::schedule::{Place, Role, decode, encode};
use crate::task::{Bundle, IndexRange, Resources};
use std::path::Path;
use std::sync::Arc;

/// Takes part in a run until it ends. Rank 0 brings the job; `None` there dismisses the others. Returns how the run
/// ended on rank 0, `None` elsewhere. Calls [`Fabric::finish`] last.
pub fn run(
    mut fabric: Box<dyn Fabric>,
    spawner: Spawner,
    report: &RankReport,
    job: Option<Job>,
) -> Result<Option<RunEnd>, DriveError> {
    let report = report.clone().with_spawner(&spawner);
    let reports = fabric.gather(encode(&report))?;
    let start = match (reports, &job) {
        (Some(reports), Some(job)) => plan(&reports, job).map(|shared| Start::Go(Box::new(shared))),
        _ => Ok(Start::Leave),
    };
    let told = fabric.broadcast(Some(encode(start.as_ref().unwrap_or(&Start::Leave))))?;
    let mut lost = false;
    let end = match (start, decode::<Start>(&told)) {
        (Err(unfit), _) => Err(unfit),
        (_, Ok(Start::Go(shared))) => {
            let isolation = isolation(&spawner, &shared);
            match functions_everywhere(&mut *fabric, &shared.functions, isolation.as_ref())? {
                Err(missing) => match &job {
                    Some(job) => Err(DriveError::Unfit(missing.describe(&job.bundle))),
                    None => Ok(None),
                },
                Ok(functions) => {
                    let callees = Callees { functions, isolation };
                    let is_own_process = fabric.is_own_process();
                    let mut rank = RankLoop::new(fabric, spawner, callees, *shared, job)?;
                    if is_own_process {
                        rank.ends_with_process();
                    }
                    let rank = rank.play_to_the_end()?;
                    lost = rank.leaves_without_all();
                    let farewell = rank.farewell();
                    let end;
                    (end, fabric) = rank.finish();
                    let end = match end {
                        Some(end) if lost => last_of_all(end, &farewell, fabric),
                        end => end,
                    };
                    Ok(end)
                }
            }
        }
        (_, Ok(Start::Leave)) => Ok(None),
        (_, Err(_)) => Err(DriveError::Plan),
    };
    let orderly = fabric.finish(lost);
    match end {
        // Ranks that do not answer would be waited for at an ordinary end.
        Ok(Some(end)) if !orderly => crate::fabric::leave(end.wait()),
        Ok(None) if !orderly => crate::fabric::leave(0),
        end => end,
    }
}

/// Rank 0 where not all leave together: the first process that ends without MPI_Finalize may make the launcher end the others, so
/// nobody is let go before all is written and said.
fn last_of_all(end: RunEnd, farewell: &Farewell, mut fabric: Box<dyn Fabric>) -> ! {
    let status = end.wait();
    farewell.say(&mut *fabric);
    fabric.finish(true);
    crate::fabric::leave(status)
}

/// What tasks call.
struct Callees {
    functions: Functions,
    /// Where they run in processes of their own: they are not loaded in the rank then.
    isolation: Option<Arc<Isolation>>,
}

fn isolation(spawner: &Spawner, shared: &Shared) -> Option<Arc<Isolation>> {
    let isolates = shared.isolate && !shared.functions.is_empty();
    isolates.then(|| Isolation::new(spawner.clone(), &shared.functions))
}

fn plan(reports: &[Vec<u8>], job: &Job) -> Result<Shared, DriveError> {
    let reports: Vec<RankReport> =
        reports.iter().map(|bytes| decode(bytes)).collect::<Result<_, _>>().map_err(|_| DriveError::Plan)?;
    let layout = Layout::new(&reports, job.layout_options()).map_err(DriveError::Unfit)?;
    let (need, have) = (job.bundle.max_resources(), layout.widest());
    if !have.fits(need) {
        return Err(DriveError::Unfit(unfit(&job.bundle, have)));
    }
    let shared = job.shared(layout);
    orphans::launch_record(&reports, &shared).write(&job.dir)?;
    Ok(shared)
}

/// The folder of the run, where this rank's node sees it.
fn visible(dir: &Path) -> Option<RunDir> {
    #[cfg(test)]
    if super::tests::BLIND.get() {
        return None;
    }
    RunDir::open(dir).ok()
}

/// Names the option that asks for more than any rank has, or else the first task that does.
fn unfit(bundle: &Bundle, have: Resources) -> String {
    let mut runs = bundle.shape_runs(IndexRange::new(0, bundle.len()));
    let (task, need) = match runs.find(|(_, shape)| !have.fits(shape.resources)) {
        Some((run, shape)) => (super::manager::place_of(bundle, run.start), shape.resources),
        None => ("a task".to_owned(), bundle.max_resources()),
    };
    let asked = bundle.default_resources();
    let (what, option, asked, need, have, remedy) = if need.cores > have.cores {
        let remedy = "; start one rank per node with all of its cores (srun --ntasks-per-node=1 -c CORES, mpirun \
                      --bind-to none)";
        ("core", "--cores", asked.cores, need.cores, have.cores, remedy)
    } else {
        ("GPU", "--gpus", asked.gpus, need.gpus, have.gpus, "")
    };
    let has = if have == 0 { format!("no rank has a {what}") } else { format!("no rank has more than {have}") };
    let who = if asked == need { format!("{option} {need}") } else { task };
    format!("{who}: a task takes {}, and {has}{remedy}", of(need.into(), what))
}

impl RankLoop<ManagerRole> {
    fn new(
        fabric: Box<dyn Fabric>,
        spawner: Spawner,
        callees: Callees,
        shared: Shared,
        job: Option<Job>,
    ) -> Result<Self, DriveError> {
        let tree = shared.layout.tree(shared.fan_out);
        let dir = visible(&shared.dir);
        let seen = dir.as_ref().and_then(|dir| Bundle::open(&dir.bundle()).ok());
        let bundle = seen.filter(|bundle| bundle.id() == shared.bundle);
        let Callees { functions, isolation } = callees;
        let by = || isolation.map_or_else(|| CallsBy::of(&*fabric, &tree), CallsBy::Processes);
        let mut calls = (!shared.functions.is_empty()).then(by);
        let find: FindFunction = Arc::new(move |name| {
            functions.get(name).cloned().unwrap_or_else(|| crate::execute::functions::missing(name))
        });
        let mut parts = Parts::new(find, bundle.is_some());
        if let Some(bundle) = bundle {
            parts.add(PartPlace::default(), bundle);
        }
        let mut rank = Self::without_roles(fabric, &tree, parts, false, &shared)?;
        signals::listen();
        let mut spawner = Some(spawner);
        let mut job = job;
        for place in tree.places(rank.me) {
            match place.role {
                Role::Manager => {
                    let job = job.take().expect("rank 0 brings the job");
                    rank.manager = Some(rank.manager_role(place, job, &shared)?);
                }
                Role::SubManager => rank.subs.push(rank.sub_role(place.clone(), dir.as_ref(), &shared)),
                Role::Worker => {
                    let spawner = spawner.take().filter(|_| shared.has_processes);
                    rank.worker = Some(rank.worker_role(place.clone(), spawner, calls.take(), &shared)?);
                }
            }
        }
        Ok(rank)
    }

    fn manager_role(&self, place: &Place, job: Job, shared: &Shared) -> Result<ManagerRole, DriveError> {
        let bundle = self.parts.part_of(0).map(|part| part.bundle.clone()).ok_or_else(|| {
            let what = format!("{} was just written and cannot be read back", job.dir.bundle().display());
            std::io::Error::other(what)
        })?;
        let layout = &shared.layout;
        let facts = Facts {
            ranks: self.fabric.size(),
            nodes: layout.nodes.len() as u32,
            slots: layout.slots(),
            cores_used: layout.cores_used(),
            cores_allotted: layout.cores_allotted,
            machine_cores: layout.machine_cores,
            tasks: bundle.len(),
            already_ended: job.loaded.state.ended.len(),
            put_back: if job.retry_failed { job.loaded.state.failed.len() } else { 0 },
            dir: job.dir.path().to_owned(),
            source: bundle.source().to_owned(),
            launcher: launcher(),
            survival: loss_survival(),
            gives_up: shared.lost_after.is_some(),
            pinned: layout.pinned(),
        };
        Ok(ManagerRole::new(place, job, bundle, shared, facts, &self.wake)?)
    }
}
