//! Programs whose ranks die in a session, or are silent for a while: the session goes on, each task of each bundle has one
//! outcome, and the program ends. This very test program is the program: the ignored test `the_program` is what every rank runs.
//!
//! `MYRIARCH_TEST_FAULTS`: how many random faults (2); `MYRIARCH_TEST_SEED` chooses them.

use crate::common::processes::signal_all;
use crate::common::{Launch, Random, Running, World, eventually, setting};
use mpi::Threading;
use myriarch::embed::{
    self, EnterError, Process, Program, RawOutcome, Session, SessionError, Settings, Status, TaskOptions,
};
use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

/// Says to the program what to do.
const ROLE: &str = "MYRIARCH_TEST_SESSION_ROLE";
/// Tasks of each bundle.
const DOUBLES: u64 = 3_000;
const ARRAY: u64 = 1_000;
const PROCESSES: u64 = 150;
/// For longer than this the program does something else; ranks may be silent for half of it.
const RESTS_MS: u64 = 2_000;

type Anything = Result<(), Box<dyn std::error::Error + Send + Sync>>;

#[test]
#[ignore = "started by the other tests, under mpiexec"]
fn the_program() {
    let role = std::env::var(ROLE).unwrap();
    embed::prepare().unwrap();
    let mut program = Program::new();
    let double = program.function("double", |_, x: u64| {
        std::thread::sleep(Duration::from_millis(2));
        2 * x
    });
    let settings = Settings {
        ranks_per_node: Some(2),
        lost_after: Some(Duration::from_secs(1)),
        talks_on: role == "talks on",
        dir: (role == "is stopped").then(|| "session".into()),
        ..Settings::default()
    };
    let level = match role.as_str() {
        "is silent" | "just exits" => Threading::Funneled,
        "is shared" => Threading::Multiple,
        _ => Threading::Serialized,
    };
    let (universe, _) = mpi::initialize_with_threading(level).unwrap();
    let Some(session) = program.enter(&universe.world(), &settings).unwrap() else {
        // Without losses all come here.
        return;
    };
    if role == "is stopped" {
        is_stopped(&session, &double).unwrap();
    } else {
        three_bundles(&session, &double).unwrap();
    }
    match session.finish() {
        Err(SessionError::Stopped) if role == "is stopped" => {}
        ended => ended.unwrap(),
    }
    if embed::is_without_all() {
        let again = program.enter(&universe.world(), &settings);
        assert!(matches!(again, Err(EnterError::Lost)), "without all ranks nobody enters again");
    }
    fs::write("ended", if embed::is_without_all() { "without all" } else { "together" }).unwrap();
    match role.as_str() {
        "talks on" => {
            // For longer than the others would wait for a rank 0 that is gone.
            std::thread::sleep(Duration::from_secs(4));
            fs::write("ends", "").unwrap();
            embed::end_program(0);
        }
        "just exits" if embed::is_without_all() => std::process::exit(0),
        // MPI_Finalize.
        _ => drop(universe),
    }
}

/// A session that somebody stops when it has lost a rank.
fn is_stopped(session: &Session, double: &embed::TaskFunction<u64, u64>) -> Anything {
    let mut many = session.array(double, 0..1_000_000, &1)?;
    fs::write("begun", "")?;
    loop {
        match many.next() {
            Ok(outcome) => assert!(outcome.is_some(), "it cannot have run all"),
            Err(SessionError::Stopped) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if !session.lost().is_empty() {
            fs::write("lost", "")?;
        }
    }
}

/// Three bundles at once, of which outcomes are taken as they come: each task has one, and the right one.
fn three_bundles(session: &Session, double: &embed::TaskFunction<u64, u64>) -> Anything {
    let mut doubles = session.map(double, 0..DOUBLES)?;
    let mut array = session.array_raw("builtin:sleep", 0..ARRAY, b"5000", TaskOptions::default())?;
    let mut processes = session.processes(TaskOptions::default())?;
    for number in 0..PROCESSES {
        processes.submit(&Process::shell(format!("echo {number}; sleep 0.02")))?;
    }
    processes.close();
    fs::write("begun", "")?;
    let mut seen = [const { BTreeSet::new() }; 3];
    let mut note = |bundle: usize, outcome: &RawOutcome| {
        assert_eq!(outcome.status, Status::Ok, "task {} of bundle {bundle}", outcome.index);
        assert!(seen[bundle].insert(outcome.index), "task {} of bundle {bundle} is told twice", outcome.index);
        [DOUBLES, ARRAY, PROCESSES].iter().zip(&seen).all(|(all, seen)| seen.len() as u64 == *all)
    };
    let (mut ended, mut rests) = (false, true);
    while !ended {
        if let Some(outcome) = doubles.try_next()? {
            assert_eq!(outcome.value()?, 2 * outcome.index());
            ended |= note(0, &outcome.into_raw());
        }
        if let Some(outcome) = array.try_next()? {
            ended |= note(1, &outcome);
        }
        if let Some(outcome) = processes.try_next()? {
            assert_eq!(outcome.stdout.bytes, format!("{}\n", outcome.index).as_bytes());
            ended |= note(2, &outcome);
        }
        // The program does something else for longer than ranks may be silent.
        if std::mem::take(&mut rests) {
            std::thread::sleep(Duration::from_millis(RESTS_MS + 500));
        }
    }
    for nothing in [array.next()?, processes.next()?] {
        assert!(nothing.is_none());
    }
    Ok(())
}

fn start<'w>(world: &'w World, launch: Launch, role: &str) -> Running<'w> {
    let mut command = launch.command_of(&std::env::current_exe().unwrap(), &world.path("launches"));
    command.args(["--exact", "session_losses::the_program", "--ignored", "--nocapture", "--test-threads=1"]);
    // A rank may die while others are still in the start.
    command.env("MYRIARCH_START_PATIENCE", "5");
    command.env(ROLE, role).current_dir(world.path("")).stdin(Stdio::null());
    world.spawn(command)
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    KillNode,
    KillTwo,
    Stop,
    StopBriefly,
}

#[test]
fn whatever_dies_in_a_session_each_task_of_each_bundle_has_one_outcome() {
    let seed = setting("MYRIARCH_TEST_SEED", 11);
    let launches = Launch::possible(&[Launch::OUTLIVES]);
    for number in 0..if launches.is_empty() { 0 } else { setting("MYRIARCH_TEST_FAULTS", 2) } {
        let mut random = Random::new(seed + number);
        let role = *random.one_of(&["is silent", "talks on", "is shared", "just exits"]);
        let fault = *random.one_of(&[Fault::Kill, Fault::KillNode, Fault::KillTwo, Fault::Stop, Fault::StopBriefly]);
        // Before the session ends: after it a loss is the program's own affair. Not on the node of rank 0: Hydra mostly ends the
        // other ranks of a node.
        let (pause, victim) = (Duration::from_millis(random.below(RESTS_MS)), 2 + random.below(6) as u32);
        println!("MYRIARCH_TEST_SEED={}: {role}, {fault:?} of rank {victim} after {pause:?}", seed + number);
        let world = World::new();
        let running = start(&world, launches[0], role);
        eventually("the session begins", || world.has("begun").then_some(()));
        std::thread::sleep(pause);
        let ranks = running.ranks_of(&std::env::current_exe().unwrap());
        let of = |number: u32| ranks.iter().filter(move |process| process.rank == Some(number));
        let other = 2 + (victim + 1) % 6;
        match fault {
            Fault::Kill => signal_all(of(victim), "KILL"),
            Fault::KillNode => signal_all(of(victim).chain(of(victim ^ 1)), "KILL"),
            Fault::KillTwo => {
                signal_all(of(victim), "KILL");
                // Hydra itself may end when two of its nodes do in the same moment.
                std::thread::sleep(Duration::from_millis(300));
                signal_all(of(other), "KILL");
            }
            Fault::Stop | Fault::StopBriefly => {
                signal_all(of(victim), "STOP");
                let brief = matches!(fault, Fault::StopBriefly);
                std::thread::sleep(Duration::from_millis(if brief { 400 } else { 2_000 }));
                signal_all(of(victim), "CONT");
            }
        }
        // Nothing is left running: `wait` looks for it.
        let ended = running.wait();
        assert!(world.has("ended"), "{:?}, {:?}\n{}", ended.code, ended.signal, ended.stderr);
        if matches!(fault, Fault::Kill | Fault::KillNode | Fault::KillTwo) {
            assert_eq!(world.read("ended"), "without all");
        }
        assert!(role != "talks on" || world.has("ends"), "rank 0 went on to its own end\n{}", ended.stderr);
    }
}

#[test]
fn a_session_that_lost_a_rank_can_be_stopped() {
    for launch in Launch::possible(&[Launch::OUTLIVES]) {
        let world = World::new();
        let running = start(&world, launch, "is stopped");
        eventually("the session begins", || world.has("begun").then_some(()));
        let ranks = running.ranks_of(&std::env::current_exe().unwrap());
        signal_all(ranks.iter().filter(|process| process.rank == Some(3)), "KILL");
        eventually("the loss is noticed", || world.has("lost").then_some(()));
        world.alone(&["stop", "session"]).with(0);
        let ended = running.wait();
        assert!(world.has("ended") && world.read("ended") == "without all", "{}", ended.stderr);
    }
}

#[test]
fn all_end_when_the_program_of_rank_0_dies_and_somebody_talked_for_it() {
    for launch in Launch::possible(&[Launch::OUTLIVES]) {
        for role in ["talks on", "is shared"] {
            let world = World::new();
            let running = start(&world, launch, role);
            eventually("the session begins", || world.has("begun").then_some(()));
            let ranks = running.ranks_of(&std::env::current_exe().unwrap());
            signal_all(ranks.iter().filter(|process| process.rank == Some(0)), "KILL");
            // It would hang otherwise; and nothing is left running.
            running.wait();
            assert!(!world.has("ended"));
        }
    }
}
