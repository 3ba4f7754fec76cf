//! Programs whose sessions have a DIR: killed at any moment and started again, they go on where they were. This very test
//! program is the program: the ignored test `the_program` is what every rank runs.
//!
//! `MYRIARCH_TEST_ROUNDS`: how often a program is killed (5); `MYRIARCH_TEST_SEED` chooses the moments.

use crate::common::processes::{Process, signal_all};
use crate::common::{Launch, Random, Running, World, eventually, rows, setting, summary, tasks};
use myriarch::embed::{self, Bundle, Program, Session, Settings, TaskOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

/// Says to the program what to do.
const ROLE: &str = "MYRIARCH_TEST_SESSION_ROLE";
/// Ranks that are threads, where there is no mpiexec.
const RANKS: &str = "MYRIARCH_TEST_SESSION_RANKS";

type Anything = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Tasks with which the search begins, and all that it makes of them.
const FIRST: u64 = 200;
const ALL: u64 = 1_200;
/// Tasks of the array.
const ARRAY: u64 = 600;

#[test]
#[ignore = "started by the other tests"]
fn the_program() {
    let role = std::env::var(ROLE).unwrap();
    let mut program = Program::new();
    // What has run is told in a file, a line at a time.
    let note = program.fallible("note", |task, (bundle, parent): (u64, u64)| {
        let mut ran = OpenOptions::new().append(true).create(true).open("ran").map_err(|error| error.to_string())?;
        ran.write_all(format!("{bundle}:{}\n", task.index).as_bytes()).map_err(|error| error.to_string())?;
        std::thread::sleep(Duration::from_micros(task.index * 37 % 6_000));
        let fails = role_is("fails") && task.index % 10 == 3 && !fs::exists("mended").unwrap_or(false);
        if fails { Err("broken".to_owned()) } else { Ok(parent + 1) }
    });
    if role == "processes" {
        embed::prepare().unwrap();
    }
    let settings = Settings {
        dir: Some("session".into()),
        resume: true,
        retry_failed: role == "fails" && fs::exists("mended").unwrap(),
        slots_per_node: Some(4),
        ..Settings::default()
    };
    let main = |session: &Session| -> Anything {
        if role == "processes" {
            return processes(session);
        }
        let search = session.open(&note)?;
        let array = session.array(&note, 0..ARRAY, &(1, 0))?;
        match role.as_str() {
            "differs" => differs(search),
            _ => campaign(search, array),
        }
    };
    match std::env::var(RANKS) {
        Ok(ranks) => program.on_threads(ranks.parse().unwrap(), &settings, main).unwrap().unwrap(),
        Err(_) => under_mpi(&program, &settings, main),
    }
}

fn role_is(role: &str) -> bool {
    std::env::var(ROLE).as_deref() == Ok(role)
}

#[cfg(feature = "mpi")]
fn under_mpi(program: &Program, settings: &Settings, main: impl FnOnce(&Session) -> Anything) {
    let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Serialized).unwrap();
    if let Some(session) = program.enter(&universe.world(), settings).unwrap() {
        main(&session).unwrap();
        session.finish().unwrap();
    }
}

#[cfg(not(feature = "mpi"))]
fn under_mpi(_: &Program, _: &Settings, _: impl FnOnce(&Session) -> Anything) {
    panic!("this build has no MPI");
}

/// A search whose next tasks say upon which outcome they come: they differ, where outcomes come in another order.
fn campaign(mut search: Bundle<'_, (u64, u64), u64>, mut array: Bundle<'_, (u64, u64), u64>) -> Anything {
    // Where failed tasks are put back, outcomes come in another order.
    let first = if role_is("fails") { ALL } else { FIRST };
    let mut submitted = 0;
    while submitted < first {
        submitted = 1 + search.submit(&(0, submitted))?;
    }
    let mut told = BTreeSet::new();
    while let Some(outcome) = search.next()? {
        assert!(told.insert(outcome.index()), "task {} is told twice", outcome.index());
        for _ in 0..5 {
            if submitted < ALL {
                submitted = 1 + search.submit(&(0, outcome.index()))?;
            }
        }
    }
    assert!(told.len() as u64 == ALL && told.last() == Some(&(ALL - 1)), "{} told", told.len());
    let mut of_array = BTreeSet::new();
    while let Some(outcome) = array.next()? {
        assert!(of_array.insert(outcome.index()), "task {} is told twice", outcome.index());
    }
    assert_eq!(of_array.len() as u64, ARRAY);
    fs::write("told", format!("{}", told.len() + of_array.len()))?;
    Ok(())
}

/// The first tasks are those of the campaign, and the last is not.
fn differs(mut search: Bundle<'_, (u64, u64), u64>) -> Anything {
    (0..20).try_for_each(|n| search.submit(&(0, n)).map(drop))?;
    let error = search.submit(&(0, 999)).map(drop).unwrap_err().to_string();
    fs::write("refused", error)?;
    Ok(())
}

/// Processes that tell what has run as well.
fn processes(session: &Session) -> Anything {
    let mut bundle = session.processes(TaskOptions::default())?;
    for n in 0..20 {
        bundle.submit(&embed::Process::shell(format!("echo 0:{n} >> ran; echo out {n}; exit {}", n % 2)))?;
    }
    let mut told = 0;
    while let Some(outcome) = bundle.next()? {
        assert_eq!(String::from_utf8_lossy(&outcome.stdout.bytes), format!("out {}\n", outcome.index));
        told += 1;
    }
    assert_eq!(told, 20);
    Ok(())
}

/// Starts the program.
fn start<'w>(world: &'w World, launch: Launch, role: &str) -> Running<'w> {
    let mut command = launch.command_of(&std::env::current_exe().unwrap(), &world.path("launches"));
    command.args(["--exact", "session_dir::the_program", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).current_dir(world.path("")).stdin(std::process::Stdio::null());
    if !launch.is_mpi() {
        // Only one rank that is a thread can start processes.
        command.env(RANKS, if role == "processes" { "1" } else { "4" });
    }
    world.spawn(command)
}

/// How often each task has run.
fn runs_of_each(world: &World) -> BTreeMap<String, u64> {
    let mut runs = BTreeMap::new();
    for line in world.lines("ran") {
        *runs.entry(line).or_default() += 1;
    }
    runs
}

/// The tasks that have an outcome.
fn recorded(world: &World) -> Vec<String> {
    if !world.has("session/session.json") {
        return Vec::new();
    }
    let rows = tasks(world, "session");
    let ended = rows.iter().filter(|row| row["status"] != "unfinished");
    ended.map(|row| format!("{}:{}", row["bundle"], row["index"])).collect()
}

fn kill_and_go_on(launch: Launch, rounds: u64) {
    let seed = setting("MYRIARCH_TEST_SEED", 11);
    println!("MYRIARCH_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let world = World::new();
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    let check = |known: &BTreeMap<String, u64>, when: &str| {
        let runs = runs_of_each(&world);
        for (task, before) in known {
            assert_eq!(runs[task], *before, "task {task} had an outcome and ran again {when}");
        }
    };
    for round in 0..rounds {
        // Soon, perhaps before there is a folder; or when some more tasks have run.
        let more = if round % 3 == 2 { 0 } else { 1 + random.below(400) as usize };
        let pause = Duration::from_micros(random.below(if more == 0 { 500_000 } else { 20_000 }));
        let of_all = random.below(2) == 0;
        let who = if of_all { "all" } else { "rank 0" };
        println!("{}, round {round}: {who} killed {pause:?} after {more} tasks", launch.name);
        let before = world.lines("ran").len();
        let mut run = start(&world, launch, "campaign");
        eventually("some tasks have run", || {
            (world.lines("ran").len() >= before + more || !run.is_running()).then_some(())
        });
        std::thread::sleep(pause);
        let processes = run.processes();
        let is_hit = |process: &&Process| {
            let is_launcher = launch.is_mpi() && process.rank.is_none();
            !is_launcher && (of_all || process.rank.is_none_or(|rank| rank == 0))
        };
        signal_all(processes.iter().filter(is_hit), "KILL");
        // A launcher ends the other ranks; where it does not come to that, the batch system ends it.
        let killed = Instant::now();
        while run.is_running() && !of_all && killed.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(10));
        }
        signal_all(run.processes().iter(), "KILL");
        run.wait();
        check(&known, &format!("in round {round}"));
        let runs = runs_of_each(&world);
        for task in recorded(&world) {
            let times = runs.get(&task).unwrap_or_else(|| panic!("task {task} has an outcome and never ran"));
            known.insert(task, *times);
        }
        println!("{} of {} have an outcome", known.len(), ALL + ARRAY);
    }
    start(&world, launch, "campaign").wait().with(0);
    check(&known, "at the end");
    assert_eq!(world.read("told"), (ALL + ARRAY).to_string());
    let rows = tasks(&world, "session");
    let told: BTreeSet<String> = rows.iter().map(|row| format!("{}:{}", row["bundle"], row["index"])).collect();
    assert_eq!((rows.len() as u64, told.len() as u64), (ALL + ARRAY, ALL + ARRAY), "each has one outcome");
    assert!(rows.iter().all(|row| row["status"] == "ok"));
    let summary = summary(&world, "session");
    assert_eq!((&summary["ok"], &summary["exit_status"]), (&(ALL + ARRAY).into(), &0.into()));
    let before = runs_of_each(&world);
    start(&world, launch, "campaign").wait().with(0);
    assert_eq!(runs_of_each(&world), before, "all of it lay there");
}

#[test]
fn a_program_that_is_killed_at_any_moment_goes_on_where_it_was() {
    for launch in Launch::possible(&[Launch::FOUR_THREADS, Launch::MPI_1, Launch::MPI_4]) {
        kill_and_go_on(launch, setting("MYRIARCH_TEST_ROUNDS", 5));
    }
}

#[test]
fn another_task_is_refused_and_failed_ones_are_put_back() {
    for launch in Launch::possible(&[Launch::FOUR_THREADS, Launch::MPI_2]) {
        let world = World::new();
        start(&world, launch, "fails").wait().with(0);
        let failed = (ALL + ARRAY) / 10;
        world.alone(&["status", "session"]).with(1);
        let listed = rows(world.alone(&["failed", "session", "--json"]).with(0).text());
        assert_eq!(listed.len() as u64, failed);
        let has = |bundle: u64| listed.iter().any(|row| row["bundle"] == bundle && row["index"] == 3);
        assert!(has(0) && has(1) && !has(2), "{:?}", listed[0]);
        assert_eq!(world.lines("session/failed.jsonl").len() as u64, failed);
        let said = world.alone(&["output", "session", "--stderr", "--task", "0:3-3", "--task", "1:13"]).with(0);
        assert_eq!(said.text(), "brokenbroken");
        world.alone(&["output", "session", "--task", "3"]).with(2).says_once("--task BUNDLE:3");
        world.alone(&["output", "session", "--task", "2:3"]).with(2).says_once("bundle 2 has no such task");

        start(&world, launch, "differs").wait().with(0);
        assert!(world.read("refused").starts_with("task 20 of bundle 0 is not the one"), "{}", world.read("refused"));

        world.write("mended", "");
        let before = runs_of_each(&world);
        start(&world, launch, "fails").wait().with(0);
        let after = runs_of_each(&world);
        let again: u64 = after.values().sum::<u64>() - before.values().sum::<u64>();
        assert_eq!(again, failed, "those that had failed ran again");
        world.alone(&["status", "session"]).with(0);
        world.alone(&["run", "--resume", "--out", "session"]).with(2).says_once("start the program again");
    }
}

#[test]
fn processes_do_not_run_again_and_their_output_is_kept() {
    for launch in Launch::possible(&[Launch::FOUR_THREADS, Launch::MPI_2]) {
        let world = World::new();
        for _ in 0..2 {
            start(&world, launch, "processes").wait().with(0);
            let runs = runs_of_each(&world);
            assert!(runs.len() == 20 && runs.values().all(|times| *times == 1), "{runs:?}");
        }
        let printed: String = (0..20).map(|n| format!("out {n}\n")).collect();
        assert_eq!(world.alone(&["output", "session"]).with(0).text(), printed);
        let listed = tasks(&world, "session");
        assert_eq!(listed[7]["command"], "echo 0:7 >> ran; echo out 7; exit 1");
        assert_eq!((&listed[7]["bundle"], &listed[7]["index"]), (&0.into(), &7.into()));
    }
}

#[test]
fn a_session_is_read_and_stopped_while_it_goes_on() {
    for launch in Launch::possible(&[Launch::FOUR_THREADS, Launch::MPI_2]) {
        let world = World::new();
        let run = start(&world, launch, "campaign");
        eventually("some tasks have ended", || (recorded(&world).len() > 20).then_some(()));
        let status = world.alone(&["status", "session", "--json"]).with(3);
        assert_eq!(rows(status.text())[0]["state"], "running");
        world.alone(&["stop", "session"]).with(0);
        // The program does not expect it, and fails.
        assert_ne!(run.wait().code, Some(0));
        let status = world.alone(&["status", "session"]).with(3);
        assert!(status.text().contains("go on by starting its program again: "), "{}", status.text());
        let listed = world.alone(&["tasks", "session", "--ok"]).with(0);
        // Those that were recorded then; which they are is a matter of batches.
        assert!(listed.text().lines().count() > 20, "{}", listed.text());
        start(&world, launch, "campaign").wait().with(0);
        world.alone(&["status", "session"]).with(0);
    }
}
