//! `--print` and those who read it: one who does not read holds up nothing but the printing, and one who goes away
//! costs nothing but it.

use crate::common::launch::started_by;
use crate::common::{Launch, Running, World, eventually, outputs, summary};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

/// More than pipes and launchers keep.
const TASKS: u64 = 200;
const BYTES: usize = 100_000;

/// Starts tasks whose outputs go to a pipe; the reader's end does not wait for something to read.
fn start<'w>(world: &'w World, launch: Launch) -> (Running<'w>, File) {
    let pipe = world.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap();
    let (last, line) = ((TASKS - 1).to_string(), format!("head -c {} /dev/zero | tr '\\0' x; echo", BYTES - 1));
    let array = format!("0-{last}");
    let words = ["run", "--print", "--out", "run", "--array", &array, "--", &line];
    let run = world.start_with(launch, &words, |command| {
        *command = started_by(command, &["sh", "-c", "exec \"$0\" \"$@\" > pipe"]);
    });
    (run, reader)
}

/// The work is done and recorded, whoever reads.
fn work_ends(world: &World, run: &mut Running<'_>) {
    eventually("the account of a run whose outputs nobody reads", || {
        assert!(run.is_running() || world.has("run/summary.json"), "it ended too soon:\n{}", run.stderr());
        world.has("run/summary.json").then_some(())
    });
    assert_eq!(summary(world, "run")["ok"], TASKS);
    assert!(outputs(world, "run").iter().all(|row| row["stdout"].as_str().unwrap().len() == BYTES));
}

/// Reads all until no writer is left.
fn read_all(mut reader: File) -> Vec<u8> {
    let mut all = Vec::new();
    eventually("the end of what is printed", || match reader.read_to_end(&mut all) {
        Ok(_) => Some(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    });
    all
}

#[test]
fn a_reader_who_does_not_read_holds_up_the_printing_alone() {
    for launch in Launch::possible(&[Launch::ALONE, Launch::DEEP_THREADS, Launch::MPI_2]) {
        let world = World::new();
        let (mut run, reader) = start(&world, launch);
        work_ends(&world, &mut run);
        // Whoever reads after all finds each output whole.
        let all = read_all(reader);
        assert_eq!(all.len(), TASKS as usize * BYTES, "{}", launch.name);
        assert!(all.split_inclusive(|byte| *byte == b'\n').all(|line| line.len() == BYTES), "{}", launch.name);
        run.wait().with(0);
    }
}

#[test]
fn a_run_that_only_waits_for_its_reader_can_be_ended_by_a_signal() {
    let world = World::new();
    let (mut run, reader) = start(&world, Launch::ALONE);
    work_ends(&world, &mut run);
    eventually("the run gives its folder back", || {
        world.alone(&["status", "run"]).text().contains("ended").then_some(())
    });
    assert!(run.is_running(), "it waits for its reader");
    run.ranks()[0].signal("TERM");
    // All is recorded: to stop waiting costs nothing, and the status is that of the run.
    run.wait().with(0);
    drop(reader);
    world.alone(&["run", "--resume", "--out", "run"]).with(0);
}

#[test]
fn a_reader_who_goes_away_costs_no_task_its_outcome() {
    for launch in Launch::possible(&[Launch::ALONE, Launch::DEEP_THREADS]) {
        let world = World::new();
        let (run, mut reader) = start(&world, launch);
        let mut first = [0; 1000];
        eventually("something is printed", || reader.read(&mut first).ok().filter(|count| *count > 0));
        drop(reader);
        let ended = run.wait().with(0);
        assert_eq!(ended.says("panicked"), 0, "{}", ended.stderr);
        assert_eq!(summary(&world, "run")["ok"], TASKS, "{}", launch.name);
        assert!(outputs(&world, "run").iter().all(|row| row["stdout"].as_str().unwrap().len() == BYTES));
    }
}
