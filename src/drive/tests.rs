//! Whole runs on ranks that are threads: nodes that do not see DIR.

use super::slots::Slots;
use super::{DrainPatience, Job, Keep, RankReport, RunEnd, run};
use crate::execute::{Ended, Pin, Spawner};
use crate::fabric::{Fabric, ThreadFabric};
use crate::ledger::{Owner, Reader, RunDir, Selection, Streams, Summary, load};
use crate::observe::ProgressMode;
use crate::task::{Bundle, Command, EndedBy, Input, Source, Status, TemplateOptions, write_bundle};
use std::cell::Cell;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

thread_local! {
    /// The rank that this thread plays does not see DIR.
    pub(super) static BLIND: Cell<bool> = const { Cell::new(false) };
    /// What the rank runs cannot be killed.
    static STUBBORN: Cell<bool> = const { Cell::new(false) };
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
    /// The rank whose tasks cannot be killed.
    stubborn: Option<u32>,
}

fn job(path: &Path, source: &Source, cluster: Cluster) -> Job {
    let dir = RunDir::create(Some(path)).unwrap();
    write_bundle(source, &TemplateOptions::default(), &dir.bundle()).unwrap();
    resumed(path, cluster)
}

/// A start in a folder that has its tasks.
fn resumed(path: &Path, cluster: Cluster) -> Job {
    let dir = RunDir::open(path).unwrap();
    let owner = Owner::acquire(&dir).unwrap();
    dir.begin().unwrap();
    Job {
        loaded: load(&dir).unwrap(),
        owner,
        bundle: Bundle::open(&dir.bundle()).unwrap(),
        dir,
        folder: None,
        retry_failed: false,
        slots_per_node: Some(2),
        ranks_per_node: Some(cluster.ranks_per_node),
        dedicated_manager: false,
        pin: Pin::None,
        fan_out: cluster.fan_out,
        crash_limit: 5,
        lost_after: Some(Duration::from_secs(30)),
        max_fails: None,
        max_running: None,
        walltime: None,
        grace: Duration::from_secs(1),
        patience: DrainPatience::default(),
        sync: Duration::from_millis(100),
        max_output: 1 << 20,
        keep: Keep::All,
        recording: Default::default(),
        isolate: false,
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
            STUBBORN.set(cluster.stubborn == Some(rank));
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

/// A list of which every so manieth task is a process and the others are calls.
fn calls(folder: &Path, every: u64) -> Source {
    let path = folder.join("tasks.jsonl");
    let line = |index: u64| match index % every {
        1 => format!("{{\"shell\":\"echo {index}\"}}\n"),
        _ => format!("{{\"call\":\"builtin:echo\",\"payload\":\"{index}\\n\"}}\n"),
    };
    std::fs::write(&path, (0..TASKS).map(line).collect::<String>()).unwrap();
    Source::Json(Input::new(&path))
}

fn symbolic() -> Source {
    Source::Array { first: 0, last: TASKS - 1, step: 1, command: vec![b"echo {}".to_vec()] }
}

#[test]
fn a_node_that_does_not_see_the_folder_is_given_its_tasks_and_its_outputs_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster { ranks: 6, ranks_per_node: 2, fan_out: 64, blind: &[2, 3], stubborn: None };
    all_outputs_are_there(cluster, TASKS, &lines(folder.path()));
    all_outputs_are_there(cluster, TASKS, &symbolic());
}

#[test]
fn a_single_rank_that_does_not_see_the_folder_is_given_its_tasks_by_its_node() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster { ranks: 4, ranks_per_node: 2, fan_out: 64, blind: &[3], stubborn: None };
    all_outputs_are_there(cluster, TASKS, &lines(folder.path()));
}

#[test]
fn tasks_and_outputs_pass_through_several_levels_that_do_not_see_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster { ranks: 8, ranks_per_node: 2, fan_out: 2, blind: &[1, 2, 3, 4, 5, 6, 7], stubborn: None };
    all_outputs_are_there(cluster, TASKS, &lines(folder.path()));
}

#[test]
fn calls_of_a_list_reach_nodes_that_do_not_see_the_folder_beside_processes_and_alone() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster { ranks: 8, ranks_per_node: 2, fan_out: 2, blind: &[1, 2, 3, 4, 5, 6, 7], stubborn: None };
    all_outputs_are_there(cluster, TASKS, &calls(folder.path(), 2));
    all_outputs_are_there(cluster, TASKS, &calls(folder.path(), 7));
    all_outputs_are_there(cluster, TASKS, &calls(folder.path(), u64::MAX));
}

/// Ranks are full at a few kilobytes here: tasks on their way down must not keep outputs from going up.
#[test]
fn large_tasks_and_large_outputs_pass_each_other_on_ranks_that_are_full() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster { ranks: 8, ranks_per_node: 2, fan_out: 2, blind: &[1, 2, 3, 4, 5, 6, 7], stubborn: None };
    let path = folder.path().join("tasks.txt");
    let filling = "x".repeat(2_000);
    let line = |index: u64| format!("echo {index}; head -c 3000 /dev/zero >&2 # {filling}\n");
    std::fs::write(&path, (0..TASKS).map(line).collect::<String>()).unwrap();
    all_outputs_are_there(cluster, TASKS, &Source::Lines(Input::new(&path)));
}

/// Slots whose tasks cannot be killed, as where a file system hangs.
struct Unkillable(Box<dyn Slots>);

/// The slots that the rank of this thread is to have.
pub(super) fn perhaps_unkillable(slots: Box<dyn Slots>) -> Box<dyn Slots> {
    if STUBBORN.get() { Box::new(Unkillable(slots)) } else { slots }
}

impl Slots for Unkillable {
    fn start(&mut self, slots: &[u32], command: &Command, attempt: u32) {
        self.0.start(slots, command, attempt);
    }

    fn kill(&mut self, _: u32, _: Duration) {}

    fn poll(&mut self, ended: &mut Vec<Ended>) {
        self.0.poll(ended);
    }

    fn is_due(&self) -> bool {
        self.0.is_due()
    }

    fn is_broken(&self) -> bool {
        self.0.is_broken()
    }

    fn records(&self) -> bool {
        self.0.records()
    }

    fn wait_descriptors(&self, into: &mut Vec<libc::pollfd>) {
        self.0.wait_descriptors(into);
    }

    fn shutdown(self: Box<Self>) {
        self.0.shutdown();
    }
}

/// Where the player of the next test finds its folder, and which of its ranks is stubborn.
const PLAYER: [&str; 2] = ["MYRIARCH_TEST_PLAYER_FOLDER", "MYRIARCH_TEST_PLAYER_STUBBORN"];
const STUBBORN_CLUSTER: Cluster = Cluster { ranks: 4, ranks_per_node: 2, fan_out: 64, blind: &[], stubborn: None };

/// Eight tasks, of which the first four end, and the others once there is a file.
fn half_endless(folder: &Path) -> Source {
    let command = format!("test {{}} -lt 4 || test -e {}/go || sleep 300", folder.display());
    Source::Array { first: 0, last: 7, step: 1, command: vec![command.into_bytes()] }
}

/// Plays a run that is ended by force, which ends the process.
fn play_a_run_that_is_ended_by_force(folder: &Path, stubborn: u32) -> ! {
    let cluster = Cluster { stubborn: Some(stubborn), ..STUBBORN_CLUSTER };
    let mut job = job(&folder.join("run"), &half_endless(folder), cluster);
    job.walltime = Some(Duration::from_secs(3));
    job.grace = Duration::from_millis(100);
    let short = Duration::from_millis(500);
    job.patience = DrainPatience { with_tasks: short, with_ranks: short };
    run_on(cluster, job);
    panic!("a run that is ended by force does not come back");
}

#[test]
fn a_look_at_the_folder_that_does_not_return_holds_up_neither_the_run_nor_its_end() {
    let cluster = Cluster { ranks: 3, ranks_per_node: 1, fan_out: 64, blind: &[], stubborn: None };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let source = Source::Array { first: 0, last: 19, step: 1, command: vec![b"sleep 0.1".to_vec()] };
    let job = job(&path, &source, cluster);
    // Whoever opens it to read waits for a writer, as for a file system that stands still.
    let made = std::process::Command::new("mkfifo").arg(job.dir.stop()).status().unwrap();
    assert!(made.success());
    assert_eq!(run_on(cluster, job), 0);
    assert_eq!(Summary::read(&RunDir::open(&path).unwrap()).unwrap().expect("it is written").ok, 20);
}

#[test]
fn a_drain_ends_although_a_task_cannot_be_killed_and_the_run_can_be_resumed() {
    // This test starts itself again as the player.
    if let [Ok(folder), Ok(rank)] = PLAYER.map(std::env::var) {
        play_a_run_that_is_ended_by_force(Path::new(&folder), rank.parse().unwrap());
    }
    // A rank elsewhere; the first of a node, which keeps its outcomes; and rank 0 itself.
    for rank in [3, 2, 0] {
        let folder = tempfile::tempdir().unwrap();
        let mut player = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", std::thread::current().name().expect("a test's thread has its name")])
            .env(PLAYER[0], folder.path())
            .env(PLAYER[1], rank.to_string())
            .spawn()
            .unwrap();
        let give_up = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = player.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > give_up {
                player.kill().unwrap();
                panic!("the run hangs while rank {rank} cannot kill its task");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(crate::cli::EXIT_UNFINISHED), "rank {rank}");
        let path = folder.path().join("run");
        let summary = Summary::read(&RunDir::open(&path).unwrap()).unwrap().expect("the account is written");
        assert_eq!((summary.ended_by, summary.exit_status), (EndedBy::Walltime, crate::cli::EXIT_UNFINISHED));
        assert_eq!((summary.ok, summary.failed, summary.unfinished), (4, 0, 4), "rank {rank}");
        assert!(summary.utilisation <= 1.0, "busy beyond the last record: {}", summary.utilisation);
        std::fs::write(folder.path().join("go"), "").unwrap();
        assert_eq!(run_on(STUBBORN_CLUSTER, resumed(&path, STUBBORN_CLUSTER)), 0, "rank {rank}");
        assert_eq!(Reader::open(&RunDir::open(&path).unwrap()).unwrap().counts().ok, 8, "rank {rank}");
    }
}
