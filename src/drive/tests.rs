//! Whole runs on ranks that are threads: nodes that do not see DIR.

use super::{Job, Keep, RankReport, RunEnd, run};
use crate::execute::{Pin, Spawner};
use crate::fabric::{Fabric, ThreadFabric};
use crate::ledger::{Owner, Reader, RunDir, Selection, Streams, load};
use crate::observe::ProgressMode;
use crate::task::{Input, Source, Status, TemplateOptions, write_bundle};
use std::cell::Cell;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

thread_local! {
    /// The rank that this thread plays does not see DIR.
    pub(super) static BLIND: Cell<bool> = const { Cell::new(false) };
}

/// A hang is a failure.
const DEADLINE: Duration = Duration::from_secs(120);

/// Ranks, how they are laid out, and which of them do not see DIR.
#[derive(Clone, Copy)]
struct Cluster {
    ranks: u32,
    ranks_per_node: u32,
    fan_out: u32,
    blind: &'static [u32],
}

fn job(path: &Path, source: &Source, cluster: Cluster) -> Job {
    let dir = RunDir::create(Some(path)).unwrap();
    let owner = Owner::acquire(&dir).unwrap();
    let written = write_bundle(source, &TemplateOptions::default(), &dir.bundle()).unwrap();
    dir.begin().unwrap();
    Job {
        loaded: load(&dir).unwrap(),
        dir,
        owner,
        bundle: written.bundle,
        folder: None,
        retry_failed: false,
        slots_per_node: Some(2),
        ranks_per_node: Some(cluster.ranks_per_node),
        dedicated_manager: false,
        pin: Pin::None,
        fan_out: cluster.fan_out,
        crash_limit: 5,
        max_fails: None,
        max_running: None,
        walltime: None,
        grace: Duration::from_secs(1),
        sync: Duration::from_millis(100),
        max_output: 1 << 20,
        keep: Keep::All,
        print: false,
        progress: ProgressMode::None,
        began: Instant::now(),
        notes: Vec::new(),
    }
}

/// Runs the tasks on the cluster and returns the exit status.
fn run_on(cluster: Cluster, job: Job) -> i32 {
    let (done, ended) = mpsc::channel();
    let mut job = Some(job);
    for fabric in ThreadFabric::group(cluster.ranks).unwrap() {
        let rank = fabric.rank().0;
        let spawner = Spawner::prepare().unwrap();
        let (job, done) = (if rank == 0 { job.take() } else { None }, done.clone());
        std::thread::spawn(move || {
            BLIND.set(cluster.blind.contains(&rank));
            let end = run(Box::new(fabric), spawner, &RankReport::of_this_process(), job);
            done.send((rank, end.map(|end| end.map(RunEnd::wait)).map_err(|error| error.to_string())))
        });
    }
    // A rank that panics never says how it ended.
    drop(done);
    let mut status = None;
    let give_up = Instant::now() + DEADLINE;
    for _ in 0..cluster.ranks {
        let left = give_up.saturating_duration_since(Instant::now());
        let (rank, end) = ended.recv_timeout(left).expect("every rank ends in time");
        status = status.or(end.unwrap_or_else(|error| panic!("rank {rank}: {error}")));
    }
    status.expect("rank 0 tells")
}

/// Every task has printed its own index, some of them on a rank that does not see DIR.
fn all_outputs_are_there(cluster: Cluster, tasks: u64, source: &Source) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    assert_eq!(run_on(cluster, job(&path, source, cluster)), 0);
    let reader = Reader::open(&RunDir::open(&path).unwrap()).unwrap();
    assert_eq!(reader.counts().ok, tasks);
    let (mut next, mut on_blind) = (0, 0);
    for outcome in reader.outcomes(Selection::ALL, Streams::STDOUT) {
        let outcome = outcome.unwrap();
        assert_eq!((outcome.index, &outcome.status), (next, &Status::Ok));
        assert_eq!(String::from_utf8_lossy(&outcome.stdout.bytes), format!("{next}\n"));
        on_blind += u64::from(cluster.blind.contains(&outcome.rank));
        next += 1;
    }
    assert_eq!(next, tasks);
    assert!(on_blind > 0, "no task ran where DIR is not seen: this shows nothing");
}

const TASKS: u64 = 400;

/// Tasks that are nowhere but in the bundle.
fn lines(folder: &Path) -> Source {
    let path = folder.join("tasks.txt");
    let text: String = (0..TASKS).map(|index| format!("echo {index}\n")).collect();
    std::fs::write(&path, text).unwrap();
    Source::Lines(Input::new(&path))
}

fn symbolic() -> Source {
    Source::Array { first: 0, last: TASKS - 1, step: 1, command: vec![b"echo {}".to_vec()] }
}

#[test]
fn a_node_that_does_not_see_the_folder_is_given_its_tasks_and_its_outputs_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster { ranks: 6, ranks_per_node: 2, fan_out: 64, blind: &[2, 3] };
    all_outputs_are_there(cluster, TASKS, &lines(folder.path()));
    all_outputs_are_there(cluster, TASKS, &symbolic());
}

#[test]
fn a_single_rank_that_does_not_see_the_folder_is_given_its_tasks_by_its_node() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster { ranks: 4, ranks_per_node: 2, fan_out: 64, blind: &[3] };
    all_outputs_are_there(cluster, TASKS, &lines(folder.path()));
}

#[test]
fn tasks_and_outputs_pass_through_several_levels_that_do_not_see_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster { ranks: 8, ranks_per_node: 2, fan_out: 2, blind: &[1, 2, 3, 4, 5, 6, 7] };
    all_outputs_are_there(cluster, TASKS, &lines(folder.path()));
}
