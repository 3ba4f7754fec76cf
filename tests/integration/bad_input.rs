//! Bad input gets one clear message and exit status 2, however many ranks there are; nothing runs, and no folder is
//! left behind.

use crate::common::{Ended, Launch, World, eventually, outputs, tasks};
use std::fs;

/// Checks that a run is refused: status 2, one message that says this, and the world as it was before.
#[track_caller]
fn refused(world: &World, launch: Launch, words: &[&str], parts: &[&str]) {
    let before = world.listing();
    let ended = world.run(launch, &[&["run"], words].concat());
    is_refusal(launch, words, &ended, parts);
    // Checked by a test of its own; gone, it hides nothing else here.
    let _ = fs::remove_dir(world.path("myriarch-runs"));
    assert_eq!(world.listing(), before, "{}: {words:?} left something behind, or ran something", launch.name);
}

#[track_caller]
fn is_refusal(launch: Launch, words: &[&str], ended: &Ended, parts: &[&str]) {
    let said = &ended.stderr;
    assert_eq!(ended.code, Some(2), "{}: {words:?} said:\n{said}", launch.name);
    let is_message = |line: &&str| line.starts_with("myriarch: ") || line.starts_with("error: ");
    assert_eq!(said.lines().filter(is_message).count(), 1, "{}: {words:?}: not one message:\n{said}", launch.name);
    for part in parts {
        assert!(said.contains(part), "{}: {words:?} does not say {part:?}:\n{said}", launch.name);
    }
    assert!(!said.contains("os error"), "{}: {words:?}:\n{said}", launch.name);
    assert_eq!(ended.stdout, b"", "{}: {words:?}", launch.name);
}

/// A world with lists of all kinds that are wrong somewhere. Each would leave the file `ran`.
fn world_of_lists() -> World {
    let world = World::new();
    fs::create_dir(world.path("folder")).unwrap();
    world.write("good.txt", "touch ran\n");
    world.write("nul.txt", "touch ran\ntouch r\0an\n");
    world.write("long.txt", ["touch ran\n".to_owned(), "x".repeat(5 << 20)].concat());
    world.write("syntax.jsonl", "{\"shell\": \"touch ran\"}\n{\"shell\": \"touch ran\"\n");
    world.write("key.jsonl", "{\"shell\": \"touch ran\"}\n{\"shell\": \"touch ran\", \"timout\": 3}\n");
    world.write("empty.jsonl", "{\"shell\": \"touch ran\"}\n\n{\"argv\": []}\n");
    world.write("cores.jsonl", "{\"shell\": \"touch ran\"}\n{\"shell\": \"touch ran\", \"cores\": 5000}\n");
    world.write("type.jsonl", "{\"argv\": \"touch ran\"}\n");
    world.write("short.csv", "a,b\n1,2\n3\n");
    world.write("twice.csv", "a,a\n1,2\n");
    world
}

/// Words after `run`, and what the message says.
type Case = (&'static [&'static str], &'static [&'static str]);

const BAD_LISTS: &[Case] = &[
    (&["none.txt"], &["none.txt: No such file or directory\n"]),
    (&["folder"], &["folder: Is a directory\n"]),
    (&["nul.txt"], &["nul.txt:2: ", "NUL"]),
    (&["long.txt"], &["long.txt:2: ", "longer than"]),
    (&["syntax.jsonl"], &["syntax.jsonl:2: not valid JSON"]),
    (&["key.jsonl"], &["key.jsonl:2: unknown key \"timout\" (did you mean \"timeout\"?)"]),
    (&["empty.jsonl"], &["empty.jsonl:3: ", "empty"]),
    (&["type.jsonl"], &["type.jsonl:1: \"argv\": it is a list of words; for a shell line write \"shell\""]),
    (&["--each-line", "none.txt", "--", "touch", "ran"], &["none.txt: No such file or directory"]),
    (&["--table", "none.csv", "--", "touch", "ran"], &["none.csv: No such file or directory"]),
    (&["--table", "short.csv", "--", "touch", "ran"], &["short.csv:3: 1 fields"]),
    (&["--table", "twice.csv", "--", "touch", "ran"], &["twice.csv:1: ", "\"a\""]),
];

const BAD_SOURCES: &[Case] = &[
    (&[], &["which tasks?"]),
    (&["good.txt", "--array", "0-3", "--", "touch", "ran"], &["a task list and --array"]),
    (&["good.txt", "--", "touch", "ran"], &["already says what runs"]),
    (&["--array", "0-3"], &["--array needs the command"]),
    (&["--", "touch", "ran"], &["needs --array"]),
    (&["--array", "9-3", "--", "touch", "ran"], &["--array", "9-3", "backwards"]),
    (&["--array", "0-x", "--", "touch", "ran"], &["--array", "\"0-x\" is no range"]),
    (&["--array", "0-9%2", "--", "touch", "ran"], &["--max-running"]),
    (&["--array", "0-3", "--", ""], &["empty"]),
    (&["--array", "0-3", "--", "touch ran '{}"], &["not closed"]),
    (&["--grid", "a=", "--", "touch", "ran"], &["--grid: \"a\" has no values"]),
    (&["--grid", "a=5:1", "--", "touch", "ran"], &["--grid", "backwards"]),
    (&["--array", "0-18446744073709551615", "--", "touch", "ran"], &["more tasks than can be counted"]),
];

const BAD_OPTIONS: &[Case] = &[
    (&["good.txt", "--no-such-option"], &["--no-such-option"]),
    (&["good.txt", "--env", "X"], &["--env: \"X\" is not NAME=VALUE"]),
    (&["good.txt", "--timeout", "5x"], &["--timeout", "5x"]),
    (&["good.txt", "--timeout", "0"], &["--timeout", "longer than zero"]),
    (&["good.txt", "--walltime", "soon"], &["--walltime", "soon"]),
    (&["good.txt", "--retries", "many"], &["--retries"]),
    (&["good.txt", "-j", "0"], &["--slots-per-node"]),
    (&["good.txt", "--cores", "0"], &["--cores"]),
    (&["good.txt", "--max-running", "0"], &["--max-running"]),
    (&["good.txt", "--max-fails", "0"], &["--max-fails"]),
    (&["good.txt", "--max-fails", "101%"], &["--max-fails"]),
    (&["good.txt", "--max-output", "5X"], &["--max-output"]),
    (&["good.txt", "--fan-out", "1"], &["--fan-out"]),
    (&["good.txt", "--ranks-per-node", "0"], &["--ranks-per-node"]),
    (&["good.txt", "--retry-failed"], &["--resume"]),
];

/// What only the machine can say no to, after the ranks have met.
const UNFIT: &[Case] = &[
    (
        &["good.txt", "--cores", "5000"],
        &["myriarch: --cores 5000: ", "5,000 cores", "srun --ntasks-per-node=1 -c CORES"],
    ),
    (&["good.txt", "--gpus", "5000"], &["myriarch: --gpus 5000: ", "5,000 GPUs"]),
    (&["--array", "1", "--gpus", "9999", "--", "touch", "ran"], &["myriarch: --gpus 9999: "]),
    (&["good.txt", "--out", "good.txt"], &["good.txt: it is not a folder"]),
    (&["good.txt", "--out", "good.txt/run"], &["good.txt: it is not a folder"]),
    (&["--resume", "--out", "good.txt"], &["good.txt: it is not a folder"]),
    (&["good.txt", "--out", "/proc/myriarch-run"], &["/proc/myriarch-run"]),
    (&["--resume", "--out", "none"], &["there is no run in none, and no tasks are given"]),
    (&["--resume", "--out", "folder"], &["there is no run in folder, and no tasks are given"]),
    (&["--resume"], &["myriarch-runs/last"]),
];

fn all_refused(cases: &[Case]) {
    let world = world_of_lists();
    for launch in Launch::each_kind() {
        for (words, parts) in cases {
            refused(&world, launch, words, parts);
        }
    }
}

#[test]
fn a_list_that_is_wrong_is_refused_with_file_line_and_cause() {
    all_refused(BAD_LISTS);
}

#[test]
fn tasks_that_make_no_sense_are_refused() {
    all_refused(BAD_SOURCES);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    all_refused(BAD_OPTIONS);
}

#[test]
fn what_no_rank_can_run_and_no_folder_can_hold_is_refused() {
    all_refused(UNFIT);
}

#[test]
fn the_first_run_of_a_folder_when_refused_leaves_no_folder_of_runs() {
    let world = World::new();
    for launch in Launch::each_kind() {
        world.run(launch, &["run", "none.txt"]).with(2);
        assert!(world.listing().is_empty(), "{}: {:?}", launch.name, world.listing());
    }
}

#[test]
fn what_cannot_be_read_or_written_is_refused() {
    let world = world_of_lists();
    let readonly = world.path("folder");
    set_mode(&readonly, 0o500);
    set_mode(&world.path("good.txt"), 0);
    // Modes do not bind everybody: root may do all.
    if fs::read(world.path("good.txt")).is_err() {
        for launch in Launch::each_kind() {
            refused(&world, launch, &["good.txt"], &["good.txt: Permission denied"]);
            let words = ["--out", "folder/run", "--array", "0", "--", "touch", "ran"];
            refused(&world, launch, &words, &["folder/run", "Permission denied"]);
        }
    }
    set_mode(&readonly, 0o700);
}

fn set_mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_task_of_a_list_that_fits_no_rank_is_named_with_its_line() {
    let world = world_of_lists();
    for launch in Launch::each_kind() {
        refused(&world, launch, &["cores.jsonl"], &["myriarch: cores.jsonl:2: ", "5,000 cores", "-c CORES"]);
    }
}

#[test]
fn a_manager_that_runs_nothing_needs_somebody_who_does() {
    let world = world_of_lists();
    for launch in Launch::possible(&[Launch::ALONE, Launch::MPI_1]) {
        refused(&world, launch, &["good.txt", "--dedicated-manager"], &["--dedicated-manager"]);
    }
}

#[test]
fn ranks_of_threads_are_refused_where_a_launcher_started_ranks() {
    let world = world_of_lists();
    for launch in Launch::possible(&[Launch::MPI_4]) {
        refused(&world, launch, &["good.txt", "--ranks", "2"], &["--ranks"]);
    }
}

#[test]
fn a_folder_that_holds_a_run_is_left_alone() {
    let world = world_of_lists();
    world.alone(&["run", "--out", "run", "--array", "0-3", "--", "echo", "{}"]).with(0);
    let before = outputs(&world, "run");
    for launch in Launch::each_kind() {
        let hint = format!("`{}myriarch run --resume --out run`", launch.printed());
        refused(&world, launch, &["good.txt", "--out", "run"], &["run holds a run already", &hint]);
    }
    assert_eq!(outputs(&world, "run"), before);
}

#[test]
fn a_folder_of_a_running_job_is_left_alone() {
    let world = world_of_lists();
    let line = "echo started >> started; while ! test -e go; do sleep 0.01; done";
    let run = world.start(Launch::ALONE, &["run", "--out", "run", "--array", "0", "--", line]);
    eventually("it runs", || world.has("started").then_some(()));
    for launch in Launch::each_kind() {
        refused(
            &world,
            launch,
            &["--resume", "--out", "run"],
            &["run belongs to a running job", "`myriarch stop run`"],
        );
        refused(&world, launch, &["good.txt", "--out", "run"], &["run holds a run already"]);
    }
    world.write("go", "");
    run.wait().with(0);
    assert_eq!(world.lines("started").len(), 1);
}

#[test]
fn other_tasks_than_those_of_the_folder_are_refused() {
    let world = World::new();
    world.write("tasks.txt", "# comment\necho 0\necho 1\necho 2\n");
    world.alone(&["run", "tasks.txt", "--out", "run"]).with(0);
    world.write("tasks.txt", "# comment\necho 0\necho one\necho two\n");
    for launch in Launch::each_kind() {
        refused(&world, launch, &["tasks.txt", "--resume", "--out", "run"], &["tasks.txt:3"]);
        let words = ["--resume", "--out", "run", "--array", "0-9", "--", "echo", "{}"];
        refused(&world, launch, &words, &["10 tasks", "has 3"]);
        let words = ["--resume", "--retry-failed", "--out", "run", "--array", "0-2", "--", "echo", "1{}"];
        refused(&world, launch, &words, &["task 0"]);
    }
    assert!(tasks(&world, "run").iter().all(|row| row["status"] == "ok"));
}

#[test]
fn a_damaged_bundle_is_named_and_not_run() {
    let world = World::new();
    world.write("tasks.txt", "touch ran-{}\n".repeat(50));
    world.alone(&["run", "tasks.txt", "--out", "run"]).with(0);
    fs::remove_file(world.path("ran-{}")).unwrap();
    let bundle = world.path("run/bundle");
    let whole = fs::read(&bundle).unwrap();
    for at in [9, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        fs::write(&bundle, damaged).unwrap();
        for launch in Launch::each_kind() {
            refused(&world, launch, &["--resume", "--out", "run"], &["run/bundle"]);
        }
    }
    fs::write(&bundle, &whole[..whole.len() - 7]).unwrap();
    refused(&world, Launch::ALONE, &["--resume", "--out", "run"], &["run/bundle"]);
    fs::write(&bundle, whole).unwrap();
    world.alone(&["run", "--resume", "--out", "run"]).with(0);
}

#[test]
fn a_damaged_journal_is_told_and_what_it_does_not_know_is_found_or_run_again() {
    let world = World::new();
    let words = ["run", "--out", "run", "--array", "0-299", "--", "echo", "{}"];
    world.alone(&words).with(0);
    let journal = world.path("run/journal.1");
    let mut bytes = fs::read(&journal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&journal, bytes).unwrap();
    let listed = world.alone(&["tasks", "run", "--json"]);
    assert!(listed.says("journal.1") == 1 && listed.says("damaged") == 1, "{}", listed.stderr);
    let resumed = world.alone(&["run", "--resume", "--out", "run"]).with(0);
    assert!(resumed.says("journal.1") >= 1, "{}", resumed.stderr);
    let rows = outputs(&world, "run");
    assert!(rows.len() == 300 && (0..).zip(&rows).all(|(i, row)| row["stdout"] == format!("{i}\n")));
}

#[test]
fn commands_that_look_at_a_run_say_what_is_not_there() {
    let world = World::new();
    world.alone(&["run", "--out", "run", "--array", "0-3", "--", "true"]).with(0);
    for command in ["status", "tasks", "failed", "output", "stop"] {
        world.alone(&[command, "none"]).with(2).says_once("none");
        world.alone(&[command]).with(2).says_once("no DIR was given");
    }
    world.alone(&["output", "run", "--task", "4"]).with(2).says_once("there is no task 4");
    world.alone(&["no-such-command"]).with(2).says_once("error:");
}

#[test]
fn what_cannot_be_simulated_is_refused_with_what_can() {
    let world = World::new();
    let known = "there is no model \"nope\": it is one of gemini, infiniband, local, slingshot, or a file";
    world.alone(&["simulate", "--model", "nope"]).with(2).says_once(known);
    world.alone(&["simulate", "--faults", "1", "--model", "nope"]).with(2).says_once(known);
    world.alone(&["simulate", "--model", "nope.toml"]).with(2).says_once("nope.toml: No such file or directory");
    world.alone(&["simulate", "--faults", "1", "--hub-rate", "415"]).with(2).says_once("cannot be used with");
    assert!(world.listing().is_empty(), "{:?}", world.listing());
}

#[test]
fn a_command_that_does_not_exist_is_a_failed_task_not_a_failed_run() {
    let world = World::new();
    for launch in Launch::each_kind() {
        world.run(launch, &["run", "--array", "0-1", "--", "/no/such/program", "{}"]).with(1);
        world.alone(&["failed"]).with(0);
    }
}
