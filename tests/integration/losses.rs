//! Ranks that die, or are silent for a while: the run goes on without them, and nothing is lost or told twice. Launchers that
//! outlive a rank have to be told to (docs/src/how-to/lost-ranks.md).
//!
//! `MYRIARCH_TEST_FAULTS`: how many random faults (2); `MYRIARCH_TEST_SEED` chooses them.

use crate::common::launch::by_srun;
use crate::common::processes::{Process, program_of, signal, signal_all};
use crate::common::{BINARY, Ended, Launch, Random, Running, World, eventually, setting, summary, tasks};
use crate::functions::plugin;
use myriarch::fabric::{MpiLibrary, environment};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Tasks that note that they run, and wait until they are let go.
const WAITS: &str = "echo {} >> ran; while [ ! -e go ]; do sleep 0.05; done";

/// The words of a run of such tasks.
fn waiting(last: &str) -> Vec<&str> {
    vec!["run", "--out", "run", "--progress", "none", "--array", last, "--", WAITS]
}

fn launches() -> Vec<Launch> {
    Launch::possible(&[Launch::OUTLIVES, Launch::OUTLIVES_DEEP])
}

/// Hydra mostly ends the other ranks of the node of one that a signal ended, whatever it was told: the run goes on if that is
/// not the node of rank 0, and is resumed if it is.
fn ends_whole_nodes() -> bool {
    environment().library == MpiLibrary::Mpich && !by_srun()
}

fn begun(world: &World, running: &Running<'_>, tasks: usize) {
    eventually("tasks run", || (world.lines("ran").len() >= tasks).then_some(()));
    assert_eq!(running.ranks().len(), 8);
}

fn rank(running: &Running<'_>, number: u32) -> Process {
    running.ranks().into_iter().find(|process| process.rank == Some(number)).expect("it is there")
}

fn says(running: &Running<'_>, what: &str) {
    eventually(what, || running.stderr().contains(what).then_some(()));
}

/// Lets it come to its end, and checks that each task has one outcome, a good one.
fn ends_well(world: &World, running: Running<'_>, count: u64) -> Ended {
    world.write("go", "");
    let ended = running.wait();
    assert!(world.has("run/summary.json"), "it did not come to its end\n{}", ended.stderr);
    all_are_ok(world, count, &ended.stderr);
    assert_eq!(summary(world, "run")["exit_status"], 0);
    ended
}

/// Ranks that were given up, and whether they came back.
fn lost(world: &World) -> BTreeMap<u64, bool> {
    let summary = summary(world, "run");
    let lost = summary["lost"].as_array().expect("a list").iter();
    lost.map(|lost| (lost["rank"].as_u64().unwrap(), lost["came_back"] == true)).collect()
}

#[test]
fn a_run_goes_on_without_a_worker_and_without_a_sub_manager() {
    for launch in launches() {
        // Rank 3 is a worker alone, rank 2 its sub-manager too, and in the deep tree rank 4 one of sub-managers.
        for victim in [3, 2, 4] {
            let world = World::new();
            let running = world.start(launch, &waiting("0-31"));
            begun(&world, &running, 8);
            rank(&running, victim).kill();
            says(&running, " is lost");
            ends_well(&world, running, 32);
            let lost = lost(&world);
            let is_known = lost.get(&u64::from(victim)) == Some(&false);
            assert!(is_known || (ends_whole_nodes() && !lost.is_empty()), "{}, rank {victim}: {lost:?}", launch.name);
        }
    }
}

#[test]
fn a_rank_that_was_given_up_and_goes_on_works_again() {
    for launch in launches() {
        for victim in [3, 2] {
            let world = World::new();
            let running = world.start(launch, &waiting("0-63"));
            begun(&world, &running, 8);
            let stopped = rank(&running, victim);
            stopped.signal("STOP");
            says(&running, &format!("rank {victim} on "));
            stopped.signal("CONT");
            says(&running, &format!("rank {victim} is there again"));
            ends_well(&world, running, 64);
            assert_eq!(lost(&world).get(&u64::from(victim)), Some(&true), "{}", launch.name);
        }
    }
}

#[test]
fn all_end_when_rank_0_is_gone_and_the_run_can_be_resumed() {
    for launch in launches() {
        let world = World::new();
        let running = world.start(launch, &waiting("0-31"));
        begun(&world, &running, 8);
        rank(&running, 0).kill();
        // Nothing is left running: `wait` looks for it.
        running.wait();
        assert!(!world.has("run/summary.json"));
        world.write("go", "");
        let again = world.start(launch, &RESUME);
        let ended = ends_well(&world, again, 32);
        assert_eq!(ended.says("waiting"), 0, "there is nobody to wait for\n{}", ended.stderr);
    }
}

const RESUME: [&str; 6] = ["run", "--resume", "--out", "run", "--progress", "none"];

#[test]
fn a_resume_at_once_waits_for_the_ranks_that_outlive_rank_0_and_no_task_runs_twice_at_a_time() {
    for launch in launches() {
        let world = World::new();
        // A task that still runs elsewhere has its lock, and makes the other one fail.
        let locked = "exec flock -n lock.{} sh -c 'echo {} >> ran; while [ ! -e go ]; do sleep 0.05; done'";
        let words = ["run", "--out", "run", "--progress", "none", "--array", "0-31", "--", locked];
        let running = world.start(launch, &words);
        begun(&world, &running, 8);
        rank(&running, 0).kill();
        let again = world.start(launch, &RESUME);
        says(&again, "8 ranks on ");
        assert_eq!(running.ranks().len(), 0, "{}: it did not wait\n{}", launch.name, again.stderr());
        println!("{}: {}", launch.name, again.stderr());
        ends_well(&world, again, 32);
        running.wait();
    }
}

#[test]
fn a_resume_that_is_told_so_does_not_wait_and_each_task_has_one_outcome() {
    for launch in launches().into_iter().take(1) {
        let world = World::new();
        let running = world.start(launch, &waiting("0-31"));
        begun(&world, &running, 8);
        rank(&running, 0).kill();
        let again = world.start(launch, &[&RESUME[..], &["--resume-now"]].concat());
        says(&again, "8 ranks on ");
        let ended = ends_well(&world, again, 32);
        assert_eq!(ended.says("waiting"), 0, "{}", ended.stderr);
        running.wait();
    }
}

#[test]
fn functions_that_never_return_keep_no_rank_when_rank_0_is_gone() {
    for launch in launches() {
        let world = World::new();
        let ten_minutes = ["--call", "builtin:sleep", "--call-arg", "600000000"];
        let words = [&["run", "--out", "run", "--progress", "none", "--array", "0-31"][..], &ten_minutes].concat();
        let running = world.start(launch, &words);
        eventually("tasks are handed out", || world.has("run/progress.json").then_some(()));
        rank(&running, 0).kill();
        // It would hang otherwise.
        running.wait();
        assert!(!world.has("run/summary.json"));
    }
}

#[test]
fn a_launcher_that_outlives_nobody_does_not_end_rank_0_before_it_has_told_the_end() {
    for launch in Launch::possible(&[Launch::MPI_8_NODES]) {
        let world = World::new();
        let mut words = waiting("0-31");
        words.splice(1..1, ["--lost-after", "1"]);
        let running = world.start(launch, &words);
        begun(&world, &running, 8);
        let stopped = rank(&running, 3);
        stopped.signal("STOP");
        says(&running, "rank 3 on ");
        world.write("go", "");
        eventually("the end is told", || world.has("run/summary.json").then_some(()));
        assert_eq!((&summary(&world, "run")["ok"], lost(&world)), (&32.into(), BTreeMap::from([(3, false)])));
        // It hears that all is over, or that nobody is there any more.
        stopped.signal("CONT");
        let ended = running.wait();
        assert!(ended.stderr.contains("32 tasks: 32 ok"), "{}", ended.stderr);
    }
}

const DIES: &str = r#"
#define MYRIARCH_TASK_PLUGIN
#include "myriarch_task.h"
#include <signal.h>
#include <unistd.h>

MYRIARCH_TASK_EXPORT int dies(struct myriarch_task *task)
{
    if (task->index == 700)
        kill(getpid(), SIGKILL);
    return usleep(1000);
}
"#;

#[test]
fn a_function_that_ends_its_rank_each_time_is_lost_and_costs_no_more_ranks_than_the_limit() {
    if ends_whole_nodes() {
        // A node, a little later than the rank, counts as another loss; and there are too few of them here.
        return;
    }
    for launch in launches() {
        let world = World::new();
        let source = format!("#define _GNU_SOURCE\n{DIES}");
        plugin(&world, "dies.so", &source);
        // Where it runs first decides chance: not on rank 0, which nothing outlives.
        let words = ["run", "--out", "run", "--progress", "none", "--array", "0-1499", "--call", "dies.so:dies"];
        let words = [&words[..], &["--crash-limit", "2", "--dedicated-manager"]].concat();
        let ended = world.run(launch, &words);
        let told = summary(&world, "run");
        assert_eq!((&told["ok"], &told["failed"]), (&1_499.into(), &1.into()), "{}", ended.stderr);
        let bad = tasks(&world, "run").into_iter().find(|row| row["index"] == 700).expect("it has an outcome");
        assert_eq!((&bad["status"], &bad["attempts"]), (&"lost".into(), &2.into()));
        assert!(ended.stderr.contains("1 x lost"), "{}", ended.stderr);
    }
}

#[test]
fn with_isolate_a_function_that_ends_its_process_costs_no_rank() {
    let launch = Launch::OUTLIVES;
    if Launch::possible(&[launch]).is_empty() {
        return;
    }
    let world = World::new();
    plugin(&world, "dies.so", &format!("#define _GNU_SOURCE\n{DIES}"));
    let words = ["run", "--out", "run", "--array", "0-1499", "--isolate", "--call", "dies.so:dies"];
    world.run(launch, &words);
    assert_eq!(summary(&world, "run")["ok"], 1_499);
    assert_eq!(lost(&world), BTreeMap::new());
}

#[test]
fn a_rank_that_dies_before_all_have_met_does_not_keep_the_others_waiting() {
    for launch in launches() {
        let world = World::new();
        let words = waiting("0-31");
        let running = world.start_with(launch, &words, |command| {
            command.env("MYRIARCH_START_PATIENCE", "3");
        });
        let ranks = eventually("ranks are there", || Some(running.ranks()).filter(|ranks| ranks.len() == 8));
        // Where its start is already over the run goes on without it; either way it comes to an end.
        signal_all(ranks.iter().filter(|process| process.rank == Some(5)), "KILL");
        world.write("go", "");
        let ended = running.wait();
        let told = ended.stderr.contains("did not take part in the start") || world.has("run/summary.json");
        assert!(told || ended.code != Some(0), "{}", ended.stderr);
        world.run(launch, &["run", "--resume", "--out", "run", "--progress", "none", "--array", "0-31", "--", WAITS]);
        assert_eq!(summary(&world, "run")["ok"], 32);
    }
}

/// What happens in a round of the random faults.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    KillNode,
    KillSpawner,
    /// For less than ranks are given up.
    StopBriefly,
    /// For longer.
    Stop,
    KillTwo,
    /// Rank 0 too: the run is resumed.
    KillAll,
}

/// A node of Slurm that dies with all that runs there, until this is dropped.
struct SlurmNode {
    name: String,
    step_daemon: u32,
}

impl SlurmNode {
    /// That of a rank.
    fn of(rank: &Process) -> Option<Self> {
        let environment = std::fs::read(format!("/proc/{}/environ", rank.pid)).ok()?;
        let name =
            environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"SLURMD_NODENAME="))?;
        Some(Self { name: String::from_utf8(name.to_vec()).ok()?, step_daemon: rank.parent })
    }

    /// Its step daemon dies, and Slurm finds the node to be down; by itself it would find out after some minutes.
    fn goes_down(&self) {
        signal(self.step_daemon, "KILL");
        assert!(self.is_set_to("DOWN"), "scontrol does not do it");
    }

    fn is_set_to(&self, state: &str) -> bool {
        let words = ["update", &format!("NodeName={}", self.name), &format!("State={state}"), "Reason=test"];
        std::process::Command::new("scontrol").args(words).status().is_ok_and(|status| status.success())
    }
}

impl Drop for SlurmNode {
    fn drop(&mut self) {
        // By then it may be in use again by itself.
        let _ = self.is_set_to("RESUME");
    }
}

/// Spawners of a rank.
fn spawners(running: &Running<'_>, of: &Process) -> Vec<Process> {
    let ours = |process: &Process| program_of(process.pid).is_some_and(|program| program == Path::new(BINARY));
    running.processes().into_iter().filter(|process| process.parent == of.pid && ours(process)).collect()
}

/// How often each task has run.
fn runs_of_each(world: &World) -> BTreeMap<u64, u64> {
    let mut runs = BTreeMap::new();
    for index in world.lines("ran").iter().filter_map(|line| line.parse().ok()) {
        *runs.entry(index).or_default() += 1;
    }
    runs
}

#[test]
fn whatever_dies_and_whenever_each_task_has_one_outcome() {
    let seed = setting("MYRIARCH_TEST_SEED", 11);
    let launches = launches();
    for number in 0..if launches.is_empty() { 0 } else { setting("MYRIARCH_TEST_FAULTS", 2) } {
        let mut random = Random::new(seed + number);
        let launch = *random.one_of(&launches);
        let (count, work): (u64, &[&str]) = *random.one_of(&[
            (400, &["--", "echo {} >> ran; sleep 0.0{}"] as &[&str]),
            (400, &["--retries", "1", "--", "echo {} >> ran; sleep 0.02"]),
            (3_000, &["--call", "builtin:sleep", "--call-arg", "5000"]),
            (3_000, &["--isolate", "--call", "builtin:sleep", "--call-arg", "5000"]),
        ]);
        let fault = *random.one_of(&[
            Fault::Kill,
            Fault::KillNode,
            Fault::KillSpawner,
            Fault::StopBriefly,
            Fault::Stop,
            Fault::KillTwo,
            Fault::KillAll,
        ]);
        let (pause, victim) = (Duration::from_millis(random.below(2_500)), 1 + random.below(7) as u32);
        println!(
            "MYRIARCH_TEST_SEED={}: {}, {work:?}, {fault:?} of rank {victim} after {pause:?}",
            seed + number,
            launch.name
        );
        let world = World::new();
        let last = format!("0-{}", count - 1);
        let words = [&["run", "--out", "run", "--progress", "none", "--array", &last][..], work].concat();
        let running = world.start_with(launch, &words, |command| {
            command.env("MYRIARCH_START_PATIENCE", "5");
        });
        eventually("the run begins", || world.has("run/log").then_some(()));
        std::thread::sleep(pause);
        let ranks = running.ranks();
        let of = |number: u32| ranks.iter().filter(move |process| process.rank == Some(number));
        let other = 1 + (victim + 2) % 7;
        let mut down = None;
        match fault {
            Fault::Kill => signal_all(of(victim), "KILL"),
            // The manager's own node cannot be spared.
            Fault::KillNode => {
                let first = 2 * victim.div_ceil(2).min(3);
                let there: Vec<&Process> = of(first).chain(of(first + 1)).collect();
                down = there.first().filter(|_| by_srun()).and_then(|rank| SlurmNode::of(rank));
                signal_all(there.into_iter(), "KILL");
                if let Some(node) = &down {
                    node.goes_down();
                }
            }
            Fault::KillSpawner => of(victim).for_each(|rank| signal_all(spawners(&running, rank).iter(), "KILL")),
            Fault::StopBriefly | Fault::Stop => {
                signal_all(of(victim), "STOP");
                let brief = matches!(fault, Fault::StopBriefly);
                std::thread::sleep(Duration::from_millis(if brief { 400 } else { 2_000 }));
                signal_all(of(victim), "CONT");
            }
            Fault::KillTwo => {
                signal_all(of(victim), "KILL");
                if ends_whole_nodes() {
                    // Hydra itself may end when two of its nodes do in the same moment.
                    std::thread::sleep(Duration::from_millis(300));
                }
                signal_all(of(other), "KILL");
            }
            Fault::KillAll => signal_all(ranks.iter(), "KILL"),
        }
        let recorded = Recorded::by_now(&world);
        let ended = running.wait();
        drop(down);
        if !world.has("run/summary.json") {
            // Nothing outlives rank 0, and no start goes on without somebody.
            let rank_0 = matches!(fault, Fault::KillAll) || (ends_whole_nodes() && (victim == 1 || other == 1));
            let at_start = ended.stderr.contains("did not take part in the start");
            assert!(rank_0 || at_start, "{}", ended.stderr);
            world.run(launch, &["run", "--resume", "--out", "run", "--progress", "none"]);
        }
        recorded.has_not_run_since(&world, &ended.stderr);
        all_are_ok(&world, count, &ended.stderr);
    }
}

#[test]
fn whenever_rank_0_or_the_whole_job_is_killed_the_run_is_resumed_to_its_end() {
    let seed = setting("MYRIARCH_TEST_SEED", 11);
    let launches = Launch::possible(&[Launch::OUTLIVES, Launch::OUTLIVES_DEEP, Launch::MPI_8_NODES]);
    let mut random = Random::new(seed);
    let (mut left, mut runs) = (if launches.is_empty() { 0 } else { setting("MYRIARCH_TEST_FAULTS", 2) }, 0);
    while left > 0 {
        runs += 1;
        let world = World::new();
        // A task that still runs elsewhere has its lock, and makes the other one fail.
        const LOCKED: &str = "exec flock -n lock.{} sh -c 'echo {} >> ran; sleep 0.0{}'";
        let (count, work): (u64, &[&str]) = *random.one_of(&[
            (600, &["--", LOCKED] as &[&str]),
            (600, &["--retries", "1", "--", "echo {} >> ran; sleep 0.03"]),
            (6_000, &["--call", "builtin:sleep", "--call-arg", "5000"]),
            (6_000, &["--isolate", "--call", "builtin:sleep", "--call-arg", "5000"]),
        ]);
        let last = format!("0-{}", count - 1);
        let first = [&["run", "--out", "run", "--progress", "none", "--array", &last][..], work].concat();
        let mut running = world.start(*random.one_of(&launches), &first);
        let mut recorded = Vec::new();
        // Several times the same run, or until it has ended.
        for _ in 0..left.min(3) {
            let (pause, fault) = (Duration::from_millis(random.below(3_000)), random.below(4));
            eventually("the start begins", || running.stderr().contains(" ranks on ").then_some(()));
            std::thread::sleep(pause);
            if world.has("run/summary.json") {
                break;
            }
            left -= 1;
            println!(
                "MYRIARCH_TEST_SEED={seed}: run {runs}, {work:?}: {} after {pause:?}",
                ["rank 0", "rank 0", "all", "the launcher"][fault as usize]
            );
            if fault >= 2 {
                if fault == 3 {
                    running.signal_launcher("KILL");
                    running.wait();
                } else {
                    running.kill_job();
                }
                recorded.push(Recorded::by_now(&world));
                running = world.start(*random.one_of(&launches), &RESUME);
                continue;
            }
            signal_all(running.ranks().iter().filter(|process| process.rank == Some(0)), "KILL");
            recorded.push(Recorded::by_now(&world));
            // At once: it is for the resume to see to it that no task runs twice at a time.
            let again = world.start(*random.one_of(&launches), &RESUME);
            running.wait();
            running = again;
        }
        let ended = running.wait();
        recorded.iter().for_each(|recorded| recorded.has_not_run_since(&world, &ended.stderr));
        all_are_ok(&world, count, &ended.stderr);
    }
}

/// How often tasks that had an outcome at some time had run by then.
struct Recorded(BTreeMap<u64, u64>);

impl Recorded {
    fn by_now(world: &World) -> Self {
        let rows = tasks(world, "run");
        let mut runs = runs_of_each(world);
        let recorded: BTreeSet<u64> =
            rows.iter().filter(|row| row["status"] == "ok").map(|row| row["index"].as_u64().unwrap()).collect();
        runs.retain(|index, _| recorded.contains(index));
        Self(runs)
    }

    fn has_not_run_since(&self, world: &World, stderr: &str) {
        let now = runs_of_each(world);
        for (index, runs) in &self.0 {
            assert_eq!(now.get(index), Some(runs), "task {index} had an outcome and ran again\n{stderr}");
        }
    }
}

fn all_are_ok(world: &World, count: u64, stderr: &str) {
    let rows = tasks(world, "run");
    assert!(rows.iter().map(|row| row["index"].as_u64().unwrap()).eq(0..count), "{} outcomes\n{stderr}", rows.len());
    let other: Vec<_> = rows.iter().filter(|row| row["status"] != "ok").take(5).collect();
    assert!(other.is_empty(), "{other:?}\n{stderr}");
}
