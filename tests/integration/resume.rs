//! A run that was killed, stopped or ran out of time goes on where it stopped: what had ended does not run again, and
//! no task is called failed because the run was ended.
//!
//! `MYRIARCH_TEST_ROUNDS`: how often a job is killed (3); `MYRIARCH_TEST_SEED` chooses the moments.

use crate::common::processes::{Process, signal_all};
use crate::common::{Launch, Random, Running, World, eventually, outputs, setting, summary, tasks};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often each task has run, by what the tasks wrote.
fn runs_of_each(world: &World) -> BTreeMap<u64, u64> {
    let mut runs = BTreeMap::new();
    for line in world.lines("ran") {
        *runs.entry(line.parse().unwrap()).or_default() += 1;
    }
    runs
}

/// The indexes of tasks that have an outcome; none where there is no folder yet.
fn recorded(world: &World) -> Vec<u64> {
    if !world.has("run/bundle") {
        return Vec::new();
    }
    let rows = tasks(world, "run");
    let ended = rows.iter().filter(|row| row["status"] != "unfinished");
    ended.map(|row| row["index"].as_u64().unwrap()).collect()
}

/// All tasks have exactly one outcome, a good one.
fn all_ended_well(world: &World, count: u64) {
    let rows = tasks(world, "run");
    assert!(rows.iter().map(|row| row["index"].as_u64().unwrap()).eq(0..count));
    let other: Vec<_> = rows.iter().filter(|row| row["status"] != "ok").take(5).collect();
    assert!(other.is_empty(), "{other:?}");
    let summary = summary(world, "run");
    assert_eq!((&summary["ok"], &summary["exit_status"]), (&count.into(), &0.into()));
}

/// Kills jobs of `count` tasks at random moments until `rounds` were killed, then lets the last one end.
fn kill_and_resume(launch: Launch, rounds: u64, count: u64) {
    let seed = setting("MYRIARCH_TEST_SEED", 7);
    println!("MYRIARCH_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let world = World::new();
    let array = format!("0-{}", count - 1);
    let words = ["run", "--resume", "--out", "run", "-j", "4", "--array", &array, "--", "echo {} >> ran"];
    let mut known: BTreeMap<u64, u64> = BTreeMap::new();
    let check = |known: &BTreeMap<u64, u64>, when: &str| {
        let runs = runs_of_each(&world);
        for (index, before) in known {
            assert_eq!(runs[index], *before, "task {index} had an outcome and ran again {when}");
        }
    };
    for round in 0..rounds {
        // Early ones too: before there is a folder, and while it is made.
        let pause = Duration::from_millis(random.below(if round % 3 == 2 { 60 } else { 900 }));
        println!("{}, round {round}: killed after {pause:?}", launch.name);
        let run = world.start(launch, &words);
        std::thread::sleep(pause);
        run.kill_job();
        check(&known, &format!("in round {round}"));
        let runs = runs_of_each(&world);
        for index in recorded(&world) {
            let times = runs.get(&index).unwrap_or_else(|| panic!("task {index} has an outcome and never ran"));
            known.insert(index, *times);
        }
    }
    world.run(launch, &words).with(0);
    check(&known, "at the end");
    all_ended_well(&world, count);
    assert_eq!(runs_of_each(&world).len() as u64, count);
}

#[test]
fn a_job_that_is_killed_at_any_moment_goes_on_where_it_stopped() {
    for launch in Launch::possible(&[Launch::ALONE, Launch::DEEP_THREADS, Launch::MPI_4, Launch::MPI_8_NODES]) {
        kill_and_resume(launch, setting("MYRIARCH_TEST_ROUNDS", 3), 3000);
    }
}

#[test]
fn a_job_that_is_killed_while_it_reads_its_tasks_can_be_started_again() {
    for launch in Launch::each_kind() {
        let world = World::new();
        world.write("list", "echo {} >> ran\n");
        // A list whose end never comes.
        let (reader, _writer) = std::io::pipe().unwrap();
        let run = world.start_with(launch, &["run", "--resume", "--out", "run", "-"], |command| {
            command.stdin(reader);
        });
        eventually("the folder is taken", || world.has("run/owner.1").then_some(()));
        run.kill_job();
        world.run(launch, &["run", "--resume", "--out", "run", "list"]).with(0);
        all_ended_well(&world, 1);
        let left = std::fs::read_dir(world.path("run")).unwrap().map(|entry| entry.unwrap().file_name());
        let parts: Vec<_> = left.filter(|name| name.to_string_lossy().contains(".part")).collect();
        assert!(parts.is_empty(), "{parts:?}");
    }
}

#[test]
fn the_command_that_goes_on_starts_as_many_ranks_with_the_launcher() {
    for launch in Launch::each_kind() {
        let world = World::new();
        let ended =
            world.run(launch, &["run", "--out", "run", "--max-fails", "1", "--array", "0-99", "--", "test -z {}"]);
        let prefix = format!(" {}myriarch", launch.printed());
        let resume = format!("{prefix} run --resume --out run\n");
        assert_eq!(ended.says(&resume), 2, "at the start and at the end of {}:\n{}", launch.name, ended.stderr);
        ended.says_once(&format!("{prefix} run --resume --retry-failed --out run\n"));
        let status = world.alone(&["status", "run"]).with(3);
        assert!(status.text().contains(&format!("resume with:{resume}")), "{}", status.text());
    }
}

#[test]
fn a_killed_job_counts_as_died_until_it_is_resumed() {
    let world = World::new();
    let run = world.start(Launch::ALONE, &["run", "--out", "run", "--array", "0-1", "--", "test {} = 0 || sleep 300"]);
    eventually("a task has ended", || (world.has("run/bundle") && !recorded(&world).is_empty()).then_some(()));
    run.kill_job();
    let status = world.alone(&["status", "run"]).with(3);
    assert!(status.text().contains("died") && status.text().contains("myriarch run --resume"), "{}", status.text());
    let row = &tasks(&world, "run")[1];
    assert_eq!(row["status"], "unfinished");
}

/// Starts 200 tasks of which each writes a line and takes a moment, but the first, which takes five minutes where
/// `go` is missing. Comes back when some have ended.
fn start_tasks<'w>(world: &'w World, launch: Launch, options: &[&str]) -> Running<'w> {
    let line = "echo {} >> ran; if test {} = 0 && ! test -e go; then sleep 300; else sleep 0.02; fi";
    let words = [&["run", "--out", "run", "-j", "4", "--array", "0-199"], options, &["--", line]].concat();
    let mut run = world.start(launch, &words);
    eventually("some tasks have ended", || {
        assert!(run.is_running(), "it ended too soon; {:?} ran; it said:\n{}", world.lines("ran"), run.stderr());
        let lines = world.lines("ran");
        (lines.len() > 8 && lines.contains(&"0".to_owned()) && recorded(world).len() > 4).then_some(())
    });
    run
}

/// The run was stopped and can be resumed; resumes it to its end.
fn stopped_then_resumed(world: &World, launch: Launch, ended_by: &str) {
    let summary = summary(world, "run");
    assert_eq!((&summary["ended_by"], &summary["exit_status"]), (&ended_by.into(), &3.into()), "{}", launch.name);
    assert_eq!((&summary["failed"], &summary["cancelled"]), (&0.into(), &0.into()), "{}", launch.name);
    assert!(summary["unfinished"].as_u64().unwrap() > 0);
    world.alone(&["status", "run"]).with(3);
    let known = recorded(world);
    assert!(!known.contains(&0), "a task that the end of the run killed is unfinished");
    world.write("go", "");
    world.run(launch, &["run", "--resume", "--out", "run"]).with(0);
    all_ended_well(world, 200);
    let runs = runs_of_each(world);
    let again: Vec<_> = known.iter().filter(|index| runs[index] != 1).collect();
    assert!(again.is_empty(), "{}: ran again after their outcomes were known: {again:?}", launch.name);
}

fn stop_by_signal(launch: Launch, which: fn(&[Process]) -> &Process, signal: &str) {
    let world = World::new();
    let run = start_tasks(&world, launch, &["--grace", "1s"]);
    which(&run.ranks()).signal(signal);
    run.wait().with(3);
    stopped_then_resumed(&world, launch, "signal");
}

#[test]
fn a_signal_to_any_rank_stops_the_run_and_it_can_be_resumed() {
    for launch in Launch::possible(&[Launch::ALONE, Launch::MPI_4]) {
        stop_by_signal(launch, |ranks| &ranks[0], "TERM");
        stop_by_signal(launch, |ranks| &ranks[ranks.len() - 1], "TERM");
        stop_by_signal(launch, |ranks| &ranks[ranks.len() / 2], "INT");
    }
    for launch in Launch::possible(&[Launch::DEEP_THREADS, Launch::MPI_8_DEEP]) {
        stop_by_signal(launch, |ranks| &ranks[ranks.len() - 1], "TERM");
    }
}

#[test]
fn a_batch_system_that_signals_every_process_of_the_job_lets_no_task_fail() {
    for launch in Launch::possible(&[Launch::ALONE, Launch::DEEP_THREADS, Launch::MPI_4]) {
        let world = World::new();
        let run = start_tasks(&world, launch, &["--grace", "1s"]);
        let mut below: Vec<u32> = run.ranks().iter().map(|rank| rank.pid).collect();
        let mut all = run.processes();
        // The launcher is none of them: it has processes of its own below it, which are no tasks.
        all.sort_by_key(|one| one.pid);
        all.retain(|one| {
            let is_ours = below.contains(&one.pid) || below.contains(&one.parent);
            below.extend(is_ours.then_some(one.pid));
            is_ours
        });
        // Tasks first: their ends are seen before the ranks know why.
        let known = recorded(&world);
        signal_all(all.iter().rev(), "TERM");
        run.wait().with(3);
        let summary = summary(&world, "run");
        assert_eq!((&summary["ended_by"], &summary["failed"]), (&"signal".into(), &0.into()), "{}", launch.name);
        world.write("go", "");
        world.run(launch, &["run", "--resume", "--out", "run"]).with(0);
        all_ended_well(&world, 200);
        // One that the signal ended may have begun anew within the grace.
        let runs = runs_of_each(&world);
        assert!(known.iter().all(|index| runs[index] == 1), "{}", launch.name);
    }
}

#[test]
fn who_asks_twice_does_not_want_to_wait() {
    let world = World::new();
    let run = start_tasks(&world, Launch::ALONE, &["--grace", "1h"]);
    for _ in 0..2 {
        run.ranks()[0].signal("TERM");
        std::thread::sleep(Duration::from_millis(500));
    }
    run.wait().with(3);
    stopped_then_resumed(&world, Launch::ALONE, "signal");
}

#[test]
fn stop_ends_a_run_that_can_be_resumed() {
    for launch in Launch::possible(&[Launch::ALONE, Launch::MPI_4, Launch::MPI_8_DEEP]) {
        let world = World::new();
        let run = start_tasks(&world, launch, &["--grace", "1s"]);
        world.alone(&["stop", "run", "--wait"]).with(3);
        run.wait().with(3);
        stopped_then_resumed(&world, launch, "stop");
        // Asked again, nothing runs, and the next start is not stopped by it.
        world.alone(&["stop", "run"]).with(0).says_once("nothing runs in run");
        world.run(launch, &["run", "--resume", "--out", "run"]).with(0);
    }
}

#[test]
fn who_asks_twice_to_stop_does_not_want_to_wait_for_the_grace() {
    for launch in Launch::possible(&[Launch::ALONE, Launch::MPI_8_DEEP]) {
        let world = World::new();
        let run = start_tasks(&world, launch, &["--grace", "1h"]);
        world.alone(&["stop", "run"]).with(0).says_once("grace time");
        world.alone(&["stop", "run", "--wait"]).with(3).says_once("again to stop: running tasks get no more time");
        run.wait().with(3);
        stopped_then_resumed(&world, launch, "stop");
    }
}

#[test]
fn who_asks_to_stop_now_need_not_ask_twice() {
    let world = World::new();
    let run = start_tasks(&world, Launch::ALONE, &["--grace", "1h"]);
    world.alone(&["stop", "run", "--now", "--wait"]).with(3).says_once("get no more time");
    run.wait().with(3);
    stopped_then_resumed(&world, Launch::ALONE, "stop");
}

#[test]
fn the_end_of_its_time_stops_a_run_that_can_be_resumed() {
    for launch in Launch::each_kind() {
        let world = World::new();
        start_tasks(&world, launch, &["--walltime", "5s", "--grace", "1s"]).wait().with(3);
        stopped_then_resumed(&world, launch, "walltime");
    }
}

#[test]
fn the_end_of_the_batch_job_is_the_end_of_the_time() {
    let world = World::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let words = ["run", "--out", "run", "--grace", "1s", "--array", "0-1", "--", "test {} = 0 || sleep 300"];
    let run = world.start_with(Launch::ALONE, &words, |command| {
        command.env("SLURM_JOB_END_TIME", (now + 4).to_string());
    });
    run.wait().with(3);
    assert_eq!(summary(&world, "run")["ended_by"], "walltime");
}

#[test]
fn tasks_that_end_within_the_grace_are_recorded() {
    let world = World::new();
    let line = "echo {} >> ran; sleep 1; echo done {}";
    let run = world.start(Launch::ALONE, &["run", "--out", "run", "-j", "2", "--array", "0-99", "--", line]);
    eventually("two tasks run", || (world.lines("ran").len() >= 2).then_some(()));
    run.ranks()[0].signal("TERM");
    run.wait().with(3);
    assert_eq!(recorded(&world).len(), world.lines("ran").len(), "what was started has ended, and is known");
    assert!(recorded(&world).len() < 10);
}

#[test]
fn a_launcher_that_is_told_to_end_loses_only_running_tasks() {
    for launch in Launch::possible(&[Launch::MPI_4, Launch::MPI_8_NODES]) {
        let world = World::new();
        let run = start_tasks(&world, launch, &["--grace", "500ms"]);
        run.signal_launcher("TERM");
        run.wait();
        let known = recorded(&world);
        assert!(known.len() > 4 && !known.contains(&0));
        world.write("go", "");
        world.run(launch, &["run", "--resume", "--out", "run"]).with(0);
        all_ended_well(&world, 200);
        assert!(known.iter().all(|index| runs_of_each(&world)[index] == 1), "{}", launch.name);
    }
}

#[test]
fn a_killed_rank_costs_no_task_its_outcome() {
    for launch in Launch::possible(&[Launch::MPI_4, Launch::MPI_8_NODES]) {
        let world = World::new();
        let run = start_tasks(&world, launch, &[]);
        // By default the launcher ends the others too; the spawners end the tasks.
        run.ranks()[3].kill();
        run.wait();
        world.write("go", "");
        world.run(launch, &["run", "--resume", "--out", "run"]).with(0);
        all_ended_well(&world, 200);
    }
}

#[test]
fn a_finished_run_is_not_run_again() {
    for launch in Launch::each_kind() {
        let world = World::new();
        world.run(launch, &["run", "--resume", "--out", "run", "--array", "0-9", "--", "echo {} >> ran"]).with(0);
        assert_eq!(world.lines("ran").len(), 10, "a resume of what never began is a start");
        world.run(launch, &["run", "--resume", "--out", "run"]).with(0);
        assert_eq!(world.lines("ran").len(), 10);
        all_ended_well(&world, 10);
    }
}

#[test]
fn a_run_may_go_on_with_other_ranks_than_it_began_with() {
    let launches = Launch::possible(&[Launch::ALONE, Launch::MPI_8_DEEP, Launch::DEEP_THREADS, Launch::MPI_2]);
    let world = World::new();
    let mut first = true;
    for launch in launches {
        let source: &[&str] = if first { &["--array", "0-1599", "--", "echo {} >> ran; sleep 0.02"] } else { &[] };
        let words = [&["run", "--resume", "--out", "run", "-j", "2"], source].concat();
        let before = world.lines("ran").len();
        let run = world.start(launch, &words);
        eventually("some more have ended", || (world.lines("ran").len() >= before + 20).then_some(()));
        world.alone(&["stop", "run", "--wait"]).with(3);
        run.wait().with(3);
        first = false;
    }
    world.alone(&["run", "--resume", "--out", "run", "-j", "8"]).with(0);
    all_ended_well(&world, 1600);
    assert!(runs_of_each(&world).values().all(|times| *times == 1), "all ended within the grace");
}

#[test]
fn the_last_run_is_resumed_where_no_folder_is_named() {
    let world = World::new();
    let run = world.start(
        Launch::ALONE,
        &["run", "--grace", "0s", "--array", "0-1", "--", "test {} = 0 || test -e go || sleep 300"],
    );
    eventually("it runs", || world.has("myriarch-runs/last/progress.json").then_some(()));
    world.alone(&["stop", "--wait"]).with(3);
    run.wait().with(3);
    world.write("go", "");
    world.alone(&["run", "--resume"]).with(0);
    world.alone(&["status"]).with(0);
    assert!(!world.has("myriarch-runs/2"));
}

#[test]
fn an_end_that_was_cut_in_the_middle_of_a_record_is_no_obstacle() {
    let world = World::new();
    let words = ["run", "--resume", "--out", "run", "--array", "0-499", "--", "echo {} >> ran"];
    let run = world.start(Launch::ALONE, &words);
    eventually("many have ended", || (world.lines("ran").len() > 200 && recorded(&world).len() > 100).then_some(()));
    run.kill_job();
    // As after the loss of a node: the newest bytes of the journal never reached the disk.
    let journal = world.path("run/journal.1");
    let length = std::fs::metadata(&journal).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(length - 3).unwrap();
    world.alone(&words).with(0);
    all_ended_well(&world, 500);
}

/// Starts `myriarch` in another folder of the world.
fn run_in(world: &World, launch: Launch, folder: &str, words: &[&str]) -> crate::common::Ended {
    let path = world.path(folder);
    world
        .start_with(launch, words, |command| {
            command.current_dir(path);
        })
        .wait()
}

#[test]
fn a_run_that_is_resumed_from_elsewhere_goes_on_in_the_folder_where_it_was_started() {
    for launch in Launch::each_kind() {
        let world = World::new();
        for folder in ["work", "elsewhere"] {
            std::fs::create_dir(world.path(folder)).unwrap();
        }
        world.write("work/input", "from work\n");
        world.write("work/prog", "#!/bin/sh\ncat > \"$1\"; test -e ../go\n");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(world.path("work/prog"), executable).unwrap();
        let words = ["run", "--out", "../run", "--stdin", "input", "--array", "0-3", "--", "./prog", "ran-{}"];
        run_in(&world, launch, "work", &words).with(1).says_once("4 failed");
        let again = ["run", "--resume", "--retry-failed", "--out", "../run"];
        assert_eq!(run_in(&world, launch, "work", &again).with(1).says("where the run was started"), 0);
        world.write("go", "");
        let ended = run_in(&world, launch, "elsewhere", &again).with(0);
        let work = world.path("work").canonicalize().unwrap();
        ended.says_once(&format!("tasks run in {}, where the run was started", work.display()));
        all_ended_well(&world, 4);
        assert!((0..4).all(|index| world.read(format!("work/ran-{index}")) == "from work\n"));
        assert_eq!(std::fs::read_dir(world.path("elsewhere")).unwrap().count(), 0, "{}", launch.name);
    }
}

#[test]
fn a_run_whose_folder_is_gone_is_refused() {
    let world = World::new();
    std::fs::create_dir(world.path("work")).unwrap();
    run_in(&world, Launch::ALONE, "work", &["run", "--out", "../run", "--array", "0-1", "--", "test -e {}"]).with(1);
    let (work, here) = (world.path("work").canonicalize().unwrap(), world.path(".").canonicalize().unwrap());
    std::fs::remove_dir(&work).unwrap();
    for launch in Launch::each_kind() {
        let ended = world.run(launch, &["run", "--resume", "--retry-failed", "--out", "run"]).with(2);
        ended.says_once(&format!("run was started in {}, which is gone", work.display()));
        ended.says_once(&format!("not run in {} instead", here.display()));
    }
}

#[test]
fn an_option_that_is_said_on_a_resume_counts_even_if_it_is_the_default() {
    let world = World::new();
    let kept = |words: &[&str]| {
        world.alone(&[&["run", "--resume", "--retry-failed", "--out", "run"], words].concat()).with(1);
        outputs(&world, "run")[0]["stdout"].clone()
    };
    world.alone(&["run", "--out", "run", "--stdout", "none", "--array", "0-0", "--", "echo {}; exit 1"]).with(1);
    assert_eq!(kept(&[]), "", "what is not said stays as it was");
    assert_eq!(kept(&["--stdout", "all"]), "0\n");
}
