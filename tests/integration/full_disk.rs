//! A disk that fills up stops a run as a time limit does: what was recorded stays, and the run goes on once there is
//! room.
//!
//! The limit of a file's size stands for a quota, and works everywhere. A file system that is really full is a small
//! one in memory, mounted where only the run sees it; where the machine does not allow that, those tests say so.

use crate::common::launch::started_by;
use crate::common::{BINARY, Launch, World, outputs, rows, summary, tasks};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

// The runs have a grace beyond the tests' deadline: nobody may wait for outcomes that could not be written.

/// Each writes down that it runs, and prints a page or more.
fn printing(kib: u32) -> String {
    format!("echo {{}} >> ran; head -c {} /dev/zero | tr '\\0' {{}}", kib * 1024)
}

/// How often each task has run, by what the tasks wrote.
fn runs_of_each(world: &World) -> BTreeMap<u64, u64> {
    let mut runs = BTreeMap::new();
    for line in world.lines("ran") {
        *runs.entry(line.parse().unwrap()).or_default() += 1;
    }
    runs
}

fn ok_ones(rows: &[Value]) -> Vec<u64> {
    rows.iter().filter(|row| row["status"] == "ok").map(|row| row["index"].as_u64().unwrap()).collect()
}

/// The run went on: all tasks have ended well, with their whole outputs, and what was recorded before ran once.
fn went_on(world: &World, launch: Launch, count: u64, kib: u32, recorded: &[u64]) {
    assert_eq!(ok_ones(&tasks(world, "run")).len() as u64, count, "{}", launch.name);
    let runs = runs_of_each(world);
    let again: Vec<_> = recorded.iter().filter(|index| runs[index] != 1).collect();
    assert!(again.is_empty(), "{}: ran again after their outcomes were recorded: {again:?}", launch.name);
    for row in outputs(world, "run") {
        let first = row["index"].to_string().into_bytes()[0];
        let stdout = row["stdout"].as_str().unwrap().as_bytes();
        assert!(stdout.len() == kib as usize * 1024 && stdout.iter().all(|byte| *byte == first));
    }
}

/// A run of `count` tasks of so many KiB of output each, none of whose files may grow beyond `limit` KiB.
fn under_a_limit(launch: Launch, count: u64, kib: u32, limit_kib: u32) {
    let world = World::new();
    let (array, line) = (format!("0-{}", count - 1), printing(kib));
    let words = ["run", "--out", "run", "-j", "2", "--grace", "1h", "--array", &array, "--", &line];
    // The shell's unit is half a KiB, or a whole one in bash: far below what the tasks print, either way.
    let limited = format!("ulimit -f {} && exec \"$0\" \"$@\"", limit_kib * 2);
    let limit = |command: &mut Command| *command = started_by(command, &["sh", "-c", &limited]);
    let ended = world.start_with(launch, &words, limit).wait();
    assert_eq!(ended.signal, None, "{}: {}", launch.name, ended.stderr);
    let ended = ended.with(3);
    ended.says_once("File too large");
    ended.says_once("the run stops and can be resumed");
    ended.says_once("files could not be written");
    let first = summary(&world, "run");
    assert_eq!((&first["ended_by"], &first["exit_status"]), (&"disk".into(), &3.into()), "{}", launch.name);
    world.alone(&["status", "run"]).with(3);
    let recorded = ok_ones(&tasks(&world, "run"));
    assert!(!recorded.is_empty() && (recorded.len() as u64) < count, "{}: {recorded:?}", launch.name);
    world.run(launch, &["run", "--resume", "--out", "run"]).with(0);
    went_on(&world, launch, count, kib, &recorded);
}

#[test]
fn a_file_that_may_not_grow_any_more_stops_a_run_that_can_be_resumed() {
    for launch in [Launch::ALONE, Launch::DEEP_THREADS] {
        under_a_limit(launch, 400, 8, 128);
    }
    // What MPI itself keeps in files must fit under the limit.
    for launch in Launch::possible(&[Launch::MPI_2]) {
        under_a_limit(launch, 100, 1024, 24 << 10);
    }
}

#[test]
fn tasks_are_ended_by_the_limit_of_a_files_size_as_everywhere() {
    let world = World::new();
    let limited = "ulimit -f 1; head -c 9999 /dev/zero > large";
    world.alone(&["run", "--out", "run", "--array", "0-0", "--", limited]).with(1);
    // 128 + SIGXFSZ, as the shell says it, or the signal where the shell executes the command in its own place.
    let status = tasks(&world, "run")[0]["status"].as_str().unwrap().to_owned();
    assert!(["exit:153", "signal:25"].contains(&&*status), "{status}");
}

/// A script that has a small file system in `disk`. Exits with 77 where the machine allows no such thing.
fn with_small_disk(world: &World, script: &str) -> Option<i32> {
    std::fs::create_dir(world.path("disk")).unwrap();
    let mut command = Command::new("unshare");
    let mount = format!("mount -t tmpfs -o size=600k tmpfs disk || exit 77\n{script}");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount]);
    command.current_dir(world.path("")).stdin(std::process::Stdio::null());
    let probe = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).output();
    if let Some(why) = match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    } {
        eprintln!("skipped: no file system can be mounted here: unshare: {why}");
        return None;
    }
    let ended = world.spawn(command).wait();
    if ended.code == Some(77) {
        eprintln!("skipped: no file system can be mounted here: {}", ended.stderr);
        return None;
    }
    Some(ended.with(0).code.unwrap())
}

#[test]
fn a_full_disk_stops_a_run_that_can_be_resumed_when_there_is_room() {
    for launch in Launch::possible(&[Launch::ALONE, Launch::DEEP_THREADS, Launch::MPI_2, Launch::MPI_8_NODES]) {
        let world = World::new();
        let line = printing(4);
        let first = ["run", "--out", "disk/run", "-j", "2", "--grace", "1h", "--array", "0-399", "--", &line];
        let resumed = ["run", "--resume", "--out", "disk/run"];
        let script = format!(
            "{} 2> first.txt; echo $? > first
            {BINARY} tasks disk/run --json > recorded.json
            {} 2> refused.txt; echo $? > refused
            {BINARY} tasks disk/run --json > still-recorded.json
            mount -o remount,size=64m tmpfs disk
            {} 2> resumed.txt; echo $? > resumed
            cp -r disk/run run",
            launch.shell_line(&world, &first),
            launch.shell_line(&world, &resumed),
            launch.shell_line(&world, &resumed),
        );
        if with_small_disk(&world, &script).is_none() {
            return;
        }
        let said = world.read("first.txt");
        let told = |part: &str| said.matches(part).count();
        let name = launch.name;
        assert_eq!(world.read("first").trim(), "3", "{name}:\n{said}");
        assert_eq!(told("No space left on device"), 1, "{name}:\n{said}");
        assert_eq!(told("the run stops and can be resumed"), 1, "{name}:\n{said}");
        assert_eq!(told("files could not be written"), 1, "{name}:\n{said}");
        let recorded = world.read("recorded.json");
        let known = ok_ones(&rows(&recorded));
        assert!(!known.is_empty() && known.len() < 400, "{name}: {} recorded", known.len());
        // As long as there is no room it stays as it is.
        let (refused, why) = (world.read("refused"), world.read("refused.txt"));
        assert!(["2", "3"].contains(&refused.trim()) && why.contains("No space left"), "{name}: {refused}{why}");
        assert_eq!(world.read("still-recorded.json"), recorded, "{name}");
        assert_eq!(world.read("resumed").trim(), "0", "{name}:\n{}", world.read("resumed.txt"));
        went_on(&world, launch, 400, 4, &known);
    }
}

#[test]
fn a_disk_that_is_full_from_the_start_is_bad_input() {
    let world = World::new();
    let words = ["run", "--out", "disk/run", "--array", "0-9", "--", "echo {} >> ran"];
    let script = format!(
        "head -c 1m /dev/zero > disk/ballast
        {} 2> said.txt; echo $? > status
        ls disk > left",
        Launch::ALONE.shell_line(&world, &words)
    );
    if with_small_disk(&world, &script).is_none() {
        return;
    }
    let said = world.read("said.txt");
    assert_eq!((world.read("status").trim(), said.matches("No space left").count()), ("2", 1), "{said}");
    assert_eq!((world.read("left").trim(), world.has("ran")), ("ballast", false), "nothing ran, nothing is left");
}
