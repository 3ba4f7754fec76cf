//! Tasks that are functions of the worker: builtins and those of a shared object, end to end.

use crate::common::json::stream;
use crate::common::{Launch, World, eventually, outputs, summary, tasks};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

/// Ways to start that differ for functions: with and without MPI, through levels of sub-managers, a manager beside them.
fn launches() -> Vec<Launch> {
    Launch::possible(&[Launch::ALONE, Launch::DEEP_THREADS, Launch::MPI_2, Launch::MPI_8_DEEP])
}

/// Builds a shared object of this C source, with the header of the project.
pub fn plugin(world: &World, name: &str, source: &str) {
    build(world, name, source, &["cc", "-std=c99"]);
}

fn build(world: &World, name: &str, source: &str, compiler: &[&str]) {
    world.write("plugin.c", source);
    let headers = Path::new(env!("CARGO_MANIFEST_DIR")).join("bindings/c");
    let built = Command::new(compiler[0])
        .args(&compiler[1..])
        .args(["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .args([world.path(name), world.path("plugin.c")])
        .arg("-I")
        .arg(headers)
        .status()
        .expect("there is a C compiler");
    assert!(built.success());
}

const SQUARE: &str = r#"
#define MYRIARCH_TASK_PLUGIN
#include "myriarch_task.h"
#include <stdlib.h>

MYRIARCH_TASK_EXPORT int square(struct myriarch_task *task)
{
    char text[32];
    double x;
    if (myriarch_text(task, text, sizeof text))
        return 2;
    x = strtod(text, NULL);
    if (x < 0) {
        myriarch_print(task, "no squares of %g\n", x);
        return 3;
    }
    return myriarch_print(task, "%lu: %g\n", (unsigned long)task->index, x * x);
}
"#;

#[test]
fn each_line_is_the_payload_of_its_task_and_values_come_back_in_order() {
    for launch in launches() {
        let world = World::new();
        let lines: String = (0..20_000).map(|n| format!("payload {n}\n")).collect();
        world.write("lines", &lines);
        world.run(launch, &["run", "--out", "run", "--each-line", "lines", "--call", "builtin:echo"]).with(0);
        let values = outputs(&world, "run");
        assert_eq!(values.len(), 20_000, "{}", launch.name);
        for (index, value) in values.iter().enumerate() {
            assert_eq!((&value["stdout"], &value["stderr"]), (&format!("payload {index}").into(), &"".into()));
        }
        let last = world.alone(&["output", "run", "--task", "19999"]).with(0);
        assert_eq!(last.text(), "payload 19999");
    }
}

#[test]
fn very_many_calls_leave_few_messages_and_small_files() {
    for launch in launches() {
        let world = World::new();
        world.run(launch, &["run", "--out", "run", "--array", "0-999999", "--call", "builtin:noop"]).with(0);
        let told = summary(&world, "run");
        assert_eq!((&told["ok"], &told["unfinished"]), (&1_000_000.into(), &0.into()), "{}", launch.name);
        assert!(told["manager_messages"].as_u64().unwrap() < 10_000, "{told:?}");
        let journal = std::fs::metadata(world.path("run/journal.1")).unwrap().len();
        assert!(journal < 1 << 20, "a journal of {journal} bytes");
    }
}

#[test]
fn a_function_of_a_shared_object_is_given_its_task_and_gives_value_and_status() {
    for launch in launches() {
        let world = World::new();
        plugin(&world, "square.so", SQUARE);
        world.write("numbers", "1\n2\n-3\n0.5\n");
        let call = "square.so:square";
        let ended = world.run(launch, &["run", "--out", "run", "--each-line", "numbers", "--call", call]).with(1);
        ended.says_once("first failure: task 2 (numbers:3)");
        let values = outputs(&world, "run");
        let text = |index: usize| values[index]["stdout"].as_str().unwrap();
        assert_eq!([text(0), text(1), text(2), text(3)], ["0: 1\n", "1: 4\n", "", "3: 0.25\n"]);
        assert_eq!(values[2]["stderr"], "no squares of -3\n", "what failed says why");
        assert!(world.read("run/failed.jsonl").contains(r#""stderr_tail":"no squares of -3\n""#));
        let rows = tasks(&world, "run");
        assert_eq!(rows[2]["status"], "exit:3");
        assert!(rows[0]["seconds"].is_number());
    }
}

#[test]
fn a_value_that_is_too_large_fails_its_task_and_says_so_whatever_gave_it() {
    let claims = r#"
#define MYRIARCH_TASK_PLUGIN
#include "myriarch_task.h"
MYRIARCH_TASK_EXPORT int claims(struct myriarch_task *task)
{
    size_t given = task->value_capacity + (task->payload_bytes > 65536);
    memset(task->value, 'x', task->value_capacity);
    task->value_bytes = given;
    return 0;
}
"#;
    for launch in Launch::each_kind() {
        let world = World::new();
        plugin(&world, "claims.so", claims);
        world.write("lines", format!("{}\n{}\n", "x".repeat(65536), "x".repeat(65537)));
        for (out, call) in [("echo", "builtin:echo"), ("claims", "claims.so:claims")] {
            world.run(launch, &["run", "--out", out, "--each-line", "lines", "--call", call]).with(1);
            let statuses: Vec<_> = tasks(&world, out).iter().map(|row| row["status"].clone()).collect();
            assert_eq!(statuses, ["ok", "exit:-1"], "{call}, {}", launch.name);
            let values = outputs(&world, out);
            assert_eq!(values[0]["stdout"], "x".repeat(65536));
            assert_eq!(values[1]["stderr"], "the value is larger than the 65536 bytes there is room for\n");
        }
    }
}

#[test]
fn printing_stops_where_there_is_no_room_even_behind_a_size_that_is_wrong() {
    let prints = r#"
#define MYRIARCH_TASK_PLUGIN
#include "myriarch_task.h"
MYRIARCH_TASK_EXPORT int prints(struct myriarch_task *task)
{
    task->value_bytes = task->value_capacity - 2 + task->index;
    memset(task->value, 'x', task->value_capacity);
    if (myriarch_print(task, "y") == 0)
        return 0;
    task->value_bytes = 0;
    myriarch_print(task, "no room");
    return 1;
}
"#;
    let world = World::new();
    plugin(&world, "prints.so", prints);
    world.alone(&["run", "--out", "run", "--array", "0-9", "--call", "prints.so:prints"]).with(1);
    let values = outputs(&world, "run");
    assert!(values[0]["stdout"].as_str().unwrap().ends_with("xy"));
    assert!(values[1..].iter().all(|row| row["stderr"] == "no room"), "{:?}", values[3]);
}

#[test]
fn what_a_function_says_to_have_written_and_has_not_is_zeros_and_no_earlier_value() {
    let claims = r#"
#define MYRIARCH_TASK_PLUGIN
#include "myriarch_task.h"
MYRIARCH_TASK_EXPORT int claims(struct myriarch_task *task)
{
    if (task->index % 2 == 0)
        memset(task->value, 'x', 1000);
    task->value_bytes = task->index % 4 == 3 ? task->value_capacity : 1000;
    return 0;
}
"#;
    let world = World::new();
    plugin(&world, "claims.so", claims);
    world.alone(&["run", "--out", "run", "--array", "0-19", "-j", "1", "--call", "claims.so:claims"]).with(0);
    for (index, row) in outputs(&world, "run").iter().enumerate() {
        let wanted = match index % 4 {
            0 | 2 => vec![b'x'; 1000],
            1 => vec![0; 1000],
            _ => vec![0; 65536],
        };
        assert!(stream(row, "stdout") == wanted, "task {index}");
    }
}

#[test]
fn the_values_of_a_grid_are_the_payload_with_commas_between() {
    let area = r#"
#define MYRIARCH_TASK_PLUGIN
#include "myriarch_task.h"
MYRIARCH_TASK_EXPORT int area(struct myriarch_task *task)
{
    char text[64], unit[8];
    double width, height;
    if (myriarch_text(task, text, sizeof text) || sscanf(text, "%lf,%lf,%7s", &width, &height, unit) != 3)
        return 2;
    return myriarch_print(task, "%s: %g %s\n", text, width * height, unit);
}
"#;
    for launch in launches() {
        let world = World::new();
        plugin(&world, "area.so", area);
        let grids = ["--grid", "w=2,3", "--grid", "h=-0.5:1:0.5", "--grid", "unit=m,cm"];
        let words = [&["run", "--out", "run", "--call", "area.so:area"], &grids[..]].concat();
        world.run(launch, &words).with(0);
        let said = world.alone(&["output", "run"]).with(0);
        let said: Vec<_> = said.text().lines().collect();
        assert_eq!(said.len(), 16, "{}", launch.name);
        assert_eq!(said[..3], ["2,-0.5,m: -1 m", "2,-0.5,cm: -1 cm", "2,0.0,m: 0 m"]);
        assert_eq!(said[15], "3,1.0,cm: 3 cm");
        let listed = world.alone(&["tasks", "run"]).with(0);
        assert_eq!(listed.text().matches("area.so:area 3,1.0,cm").count(), 1, "{}", listed.text());
    }
}

#[test]
fn a_shared_object_in_cpp_that_hides_its_names_can_be_called() {
    let world = World::new();
    build(&world, "square.so", SQUARE, &["c++", "-x", "c++", "-fvisibility=hidden"]);
    world.write("numbers", "1\n2\n");
    world.alone(&["run", "--out", "run", "--each-line", "numbers", "--call", "square.so:square"]).with(0);
    assert_eq!(world.alone(&["output", "run"]).with(0).text(), "0: 1\n1: 4\n");
}

#[test]
fn a_function_of_two_cores_is_told_so_and_waits_where_one_is_free() {
    let counts = r#"
#define _DEFAULT_SOURCE
#define MYRIARCH_TASK_PLUGIN
#include "myriarch_task.h"
#include <unistd.h>
static int running;
MYRIARCH_TASK_EXPORT int counts(struct myriarch_task *task)
{
    int at_once = __sync_add_and_fetch(&running, 1);
    usleep(2000);
    __sync_sub_and_fetch(&running, 1);
    return myriarch_print(task, "%u cores, %d at once", task->cores, at_once);
}
"#;
    // Three slots, of one rank or of two: there is never room for a second task.
    for launch in Launch::possible(&[Launch::ALONE, Launch::MPI_2]) {
        let world = World::new();
        plugin(&world, "counts.so", counts);
        let words = ["run", "--out", "run", "-j", "3", "--cores", "2", "--array", "0-99", "--call", "counts.so:counts"];
        world.run(launch, &words).with(0);
        let values = outputs(&world, "run");
        assert_eq!(values.len(), 100, "{}", launch.name);
        assert!(values.iter().all(|row| row["stdout"] == "2 cores, 1 at once"), "{}: {values:?}", launch.name);
    }
}

#[test]
fn a_failed_call_is_tried_again_as_often_as_the_user_says() {
    let again = r#"
#define MYRIARCH_TASK_PLUGIN
#include "myriarch_task.h"
MYRIARCH_TASK_EXPORT int third_time(struct myriarch_task *task)
{
    myriarch_print(task, "attempt %u\n", task->attempt);
    return task->attempt < 3 ? 1 : 0;
}
"#;
    let world = World::new();
    plugin(&world, "again.so", again);
    let run = |out, retries| {
        let call = ["--array", "0-99", "--call", "./again.so:third_time"];
        world.alone(&[&["run", "--out", out, "--retries", retries], &call[..]].concat())
    };
    run("enough", "2").with(0);
    assert!(tasks(&world, "enough").iter().all(|task| task["attempts"] == 3));
    run("fewer", "1").with(1);
    assert_eq!(summary(&world, "fewer")["failed"], 100);
}

#[test]
fn what_cannot_be_called_stops_the_run_before_it_starts() {
    let other_version = "#include <stdint.h>\nconst uint32_t myriarch_task_version = 77;\nint f(void) { return 0; }\n";
    for launch in Launch::each_kind() {
        let world = World::new();
        plugin(&world, "square.so", SQUARE);
        plugin(&world, "newer.so", other_version);
        plugin(&world, "plain.so", "int f(void) { return 0; }\n");
        for (call, cause) in [
            ("builtin:nop", "there is no such function; there are noop"),
            ("square.so", "write builtin:NAME, or PATH.so:SYMBOL"),
            ("missing.so:f", "missing.so: it cannot be loaded: "),
            ("square.so:cube", "square.so has no symbol cube of its own"),
            ("square.so:strtod", "square.so has no symbol strtod of its own"),
            ("plain.so:f", "it does not include myriarch_task.h"),
            ("newer.so:f", "version 77 of myriarch_task.h"),
        ] {
            let before = world.listing();
            let ended = world.run(launch, &["run", "--out", "run", "--array", "0-9", "--call", call]);
            if !launch.is_mpi() {
                assert_eq!(ended.code, Some(2), "{}", ended.stderr);
            }
            ended.says_once(cause);
            assert_eq!(ended.says("myriarch:"), 1, "{call}: {}", ended.stderr);
            assert_eq!(world.listing(), before, "{call} leaves no folder");
        }
    }
}

#[test]
fn a_shared_object_whose_path_is_not_utf8_is_refused_in_one_message() {
    let folder = OsStr::from_bytes(b"folder-\xff");
    for launch in Launch::each_kind() {
        let world = World::new();
        plugin(&world, "square.so", SQUARE);
        std::fs::create_dir(world.path(folder)).unwrap();
        std::fs::rename(world.path("square.so"), world.path(folder).join("square.so")).unwrap();
        let path = Path::new(folder).join("square.so:square");
        // Named by its whole path, or from within its folder.
        for (call, started_in) in [(path.as_os_str(), Path::new("")), (OsStr::new("square.so:square"), folder.as_ref())]
        {
            let words = ["run", "--out", "run", "--array", "0-9", "--call"].map(OsStr::new);
            let words = [&words[..], &[call]].concat();
            let started_in = world.path(started_in);
            let run = world.start_with(launch, &words, |command| {
                command.current_dir(&started_in);
            });
            let ended = run.wait();
            if !launch.is_mpi() {
                assert_eq!(ended.code, Some(2), "{}", ended.stderr);
            }
            ended.says_once("square.so:square\" is not UTF-8");
            assert_eq!((ended.says("myriarch:"), ended.says("Usage")), (1, 0), "{}", ended.stderr);
            assert!(!world.has("run") && !started_in.join("run").exists());
        }
    }
}

#[test]
fn a_function_that_ends_its_process_has_the_last_word_and_a_resume_goes_on() {
    let aborts = r#"
#define MYRIARCH_TASK_PLUGIN
#include "myriarch_task.h"
#include <stdexcept>
#include <stdlib.h>
MYRIARCH_TASK_EXPORT int ends(struct myriarch_task *task)
{
    FILE *fuse = fopen("fuse", "r");
    char how[16] = "";
    if (!fuse || task->index != 7)
        return 0;
    if (fscanf(fuse, "%15s", how) == 1 && strcmp(how, "throws") == 0)
        throw std::runtime_error("no luck");
    fprintf(stderr, "no luck with task %d\n", (int)task->index);
    abort();
}
"#;
    for launch in Launch::possible(&[Launch::ALONE, Launch::FOUR_THREADS, Launch::MPI_2]) {
        for (how, last_word) in [("aborts", "no luck with task 7"), ("throws", "cannot catch foreign exceptions")] {
            let world = World::new();
            build(&world, "ends.so", aborts, &["c++", "-x", "c++"]);
            world.write("fuse", how);
            let ended = world.run(launch, &["run", "--out", "run", "--array", "0-9", "--call", "ends.so:ends"]);
            assert_ne!(ended.code, Some(0), "{}, {how}", launch.name);
            ended.says_once(last_word);
            std::fs::remove_file(world.path("fuse")).unwrap();
            world.run(launch, &["run", "--resume", "--out", "run"]).with(0);
            assert!(tasks(&world, "run").iter().all(|task| task["status"] == "ok"), "{}, {how}", launch.name);
        }
    }
}

#[test]
fn a_signal_neither_disturbs_a_function_nor_is_kept_from_the_processes_that_it_starts() {
    let signals = r#"
#define _GNU_SOURCE
#define MYRIARCH_TASK_PLUGIN
#include "myriarch_task.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

static pthread_t reader;
static int ends[2];

static void *interrupt(void *unused)
{
    usleep(50000);
    pthread_kill(reader, SIGTERM);
    usleep(50000);
    if (write(ends[1], "x", 1) != 1)
        close(ends[1]);
    return unused;
}

MYRIARCH_TASK_EXPORT int reads(struct myriarch_task *task)
{
    pthread_t other;
    char byte;
    ssize_t length;
    reader = pthread_self();
    if (pipe(ends) != 0 || pthread_create(&other, NULL, interrupt, NULL) != 0)
        return 1;
    length = read(ends[0], &byte, 1);
    if (length != 1)
        myriarch_print(task, "%s\n", strerror(errno));
    pthread_join(other, NULL);
    return length != 1;
}

MYRIARCH_TASK_EXPORT int starts(struct myriarch_task *task)
{
    char line[100] = "";
    FILE *child = popen("grep SigBlk /proc/self/status", "r");
    if (!child || !fgets(line, sizeof line, child))
        return 1;
    pclose(child);
    return myriarch_print(task, "%s", line);
}
"#;
    for launch in Launch::each_kind() {
        let world = World::new();
        build(&world, "signals.so", signals, &["cc", "-std=c99", "-pthread"]);
        for (out, call, value) in
            [("reads", "signals.so:reads", ""), ("starts", "signals.so:starts", "SigBlk:\t0000000000000000\n")]
        {
            // A signal asks for the end of the run, but its only task ends well before.
            world.run(launch, &["run", "--out", out, "--array", "0-0", "--call", call]);
            assert_eq!(tasks(&world, out)[0]["status"], "ok", "{call}, {}: {:?}", launch.name, outputs(&world, out));
            assert_eq!(outputs(&world, out)[0]["stdout"], value, "{call}, {}", launch.name);
        }
    }
}

#[test]
fn a_list_mixes_calls_of_several_functions_and_processes() {
    // In turns, and in long rows of one kind.
    for row in [1, 50] {
        let line = |n: u64| match n / row % 3 {
            0 => format!("{{\"call\":\"builtin:echo\",\"payload\":\"value {n}\"}}\n"),
            1 => format!("{{\"shell\":\"echo process {n}; echo beside >&2\"}}\n"),
            _ => "{\"call\":\"builtin:spin\",\"payload\":\"20\"}\n".to_owned(),
        };
        for launch in launches() {
            let world = World::new();
            world.write("list.jsonl", (0..300).map(line).collect::<String>());
            world.run(launch, &["run", "--out", "run", "list.jsonl"]).with(0);
            let values = outputs(&world, "run");
            assert_eq!(values.len(), 300, "{}", launch.name);
            for (n, value) in (0..).zip(&values) {
                let (stdout, stderr) = match n / row % 3 {
                    0 => (format!("value {n}"), ""),
                    1 => (format!("process {n}\n"), "beside\n"),
                    _ => (String::new(), ""),
                };
                assert_eq!((&value["stdout"], &value["stderr"]), (&stdout.into(), &stderr.into()), "{}", launch.name);
            }
            assert_eq!(tasks(&world, "run")[0]["command"], "builtin:echo 'value 0'");
        }
    }
}

#[test]
fn failed_calls_are_a_list_that_runs_again() {
    let ready = r#"
#define MYRIARCH_TASK_PLUGIN
#include "myriarch_task.h"
MYRIARCH_TASK_EXPORT int ready(struct myriarch_task *task)
{
    char text[32];
    FILE *go = fopen("go", "r");
    if (!go || myriarch_text(task, text, sizeof text))
        return 3;
    fclose(go);
    return myriarch_print(task, "%s is ready\n", text);
}
"#;
    let world = World::new();
    plugin(&world, "ready.so", ready);
    world.write("lines", "one\ntwo\n");
    let call = "{\"call\":\"./ready.so:ready\",\"payload\":\"two\",\"retries\":1}\n";
    let others = "{\"shell\":\"true\"}\n{\"call\":\"builtin:noop\"}\n";
    world.write("list.jsonl", format!("{}{others}{call}", call.replace("two", "one")));
    for (out, words) in
        [("option", &["--each-line", "lines", "--call", "ready.so:ready"][..]), ("list", &["list.jsonl"])]
    {
        world.alone(&[&["run", "--out", out], words].concat()).with(1);
        world.write("go", "");
        let again = format!("{out}-again");
        world.alone(&["run", "--out", &again, &format!("{out}/failed.jsonl")]).with(0);
        std::fs::remove_file(world.path("go")).unwrap();
        assert_eq!(world.alone(&["output", &again]).with(0).text(), "one is ready\ntwo is ready\n", "{out}");
    }
}

#[test]
fn a_function_of_a_list_that_is_not_there_stops_the_run_before_it_starts() {
    for launch in Launch::each_kind() {
        for call in ["builtin:nop", "missing.so:f"] {
            let world = World::new();
            let before = "{\"shell\":\"touch ran\"}\n{\"call\":\"builtin:noop\"}\n\n".repeat(2);
            world.write("list.jsonl", format!("{before}{{\"call\":\"{call}\"}}\n{{\"call\":\"builtin:nip\"}}\n"));
            let listing = world.listing();
            let ended = world.run(launch, &["run", "--out", "run", "list.jsonl"]);
            if !launch.is_mpi() {
                assert_eq!(ended.code, Some(2), "{}", ended.stderr);
            }
            ended.says_once("list.jsonl:7: ");
            assert_eq!(ended.says("myriarch:"), 1, "{}: {}", launch.name, ended.stderr);
            assert_eq!(world.listing(), listing, "nothing ran, and no folder is left");
        }
    }
}

#[test]
fn a_mixed_list_that_is_stopped_goes_on_where_it_was() {
    for launch in launches() {
        let world = World::new();
        let line = |n: u64| match n % 4 {
            0 => "{\"shell\":\"sleep 0.01\"}\n",
            _ => "{\"call\":\"builtin:sleep\",\"payload\":\"5000\"}\n",
        };
        world.write("list.jsonl", (0..2_000).map(line).collect::<String>());
        let run = world.start(launch, &["run", "--out", "run", "-j", "2", "list.jsonl"]);
        eventually("some tasks have ended", || {
            let progress = std::fs::read_to_string(world.path("run/progress.json")).ok()?;
            let progress: serde_json::Value = serde_json::from_str(&progress).ok()?;
            (progress["ok"].as_u64()? > 0).then_some(())
        });
        world.alone(&["stop", "run"]).with(0);
        run.wait();
        let told = summary(&world, "run");
        assert_eq!((&told["failed"], &told["exit_status"]), (&0.into(), &3.into()), "{}", launch.name);
        world.run(launch, &["run", "--resume", "--out", "run", "list.jsonl"]).with(0);
        let rows = tasks(&world, "run");
        assert!(rows.len() == 2_000 && rows.iter().all(|row| row["status"] == "ok" && row["attempts"] == 1));
    }
}

#[test]
fn options_of_processes_are_refused_with_functions() {
    let world = World::new();
    for (words, cause) in [
        (&["--array", "0-9", "--timeout", "5"][..], "--timeout: it is for processes, and --call starts none"),
        (&["--array", "0-9", "--cwd", "x"], "--cwd: it is for processes"),
        (&["--array", "0-9", "--gpus", "1"], "--gpus: it is for processes"),
        (&["--array", "0-9", "--stdout", "none"], "--stdout: it is for processes"),
        (&["list.txt"], "--call takes its tasks from --array, --each-line, --grid or --table"),
    ] {
        let ended = world.alone(&[&["run", "--out", "run", "--call", "builtin:noop"], words].concat()).with(2);
        ended.says_once(cause);
        assert!(!world.has("run"));
    }
}

#[test]
fn a_run_of_functions_that_is_stopped_goes_on_where_it_was() {
    for launch in launches() {
        let world = World::new();
        let words =
            ["run", "--out", "run", "--array", "0-3999", "--call", "builtin:sleep", "--call-arg", "3000", "-j", "2"];
        let run = world.start(launch, &words);
        eventually("some tasks have ended", || {
            let progress = std::fs::read_to_string(world.path("run/progress.json")).ok()?;
            let progress: serde_json::Value = serde_json::from_str(&progress).ok()?;
            (progress["ok"].as_u64()? > 0).then_some(())
        });
        world.alone(&["stop", "run"]).with(0);
        run.wait();
        let told = summary(&world, "run");
        assert_eq!((&told["failed"], &told["exit_status"]), (&0.into(), &3.into()), "{}", launch.name);
        assert!(told["unfinished"].as_u64().unwrap() > 0);
        world.run(launch, &["run", "--resume", "--out", "run"]).with(0);
        let rows = tasks(&world, "run");
        assert!(rows.len() == 4_000 && rows.iter().all(|row| row["status"] == "ok" && row["attempts"] == 1));
    }
}

#[test]
fn what_is_recorded_is_the_user_s_choice() {
    let world = World::new();
    let seconds = |out: &str| tasks(&world, out).iter().filter(|row| row["seconds"].as_f64() > Some(0.0)).count();
    for (record, with_seconds) in [("all", 1000), ("failures", 0), ("none", 0)] {
        let words = ["run", "--out", record, "--record", record, "--array", "0-999", "--call", "builtin:spin"];
        world.alone(&[&words[..], &["--call-arg", "20"]].concat()).with(0);
        assert_eq!((tasks(&world, record).len(), seconds(record)), (1000, with_seconds), "{record}");
    }
    let words = ["run", "--out", "failed", "--record", "failures", "--array", "0-9", "--call", "builtin:spin"];
    world.alone(&words).with(1);
    let said =
        |value: &serde_json::Value| value["stderr"].as_str().unwrap().ends_with("is no number of microseconds\n");
    assert!(outputs(&world, "failed").iter().all(said));
}

#[test]
fn the_example_of_a_shared_object_aligns_sequences() {
    let world = World::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/plugin/align.c");
    plugin(&world, "align.so", &std::fs::read_to_string(example).unwrap());
    // The second is the example of Smith and Waterman's recurrence by hand: ACG-T against ACGGT, 4 matches and a gap.
    world.write("pairs.tsv", "ACGT\tACGT\nACGT\tACGGT\nAAAA\tCCCC\nno tab\n");
    world.alone(&["run", "--out", "run", "--each-line", "pairs.tsv", "--call", "align.so:align"]).with(1);
    let values = outputs(&world, "run");
    let text = |index: usize| values[index]["stdout"].as_str().unwrap();
    assert_eq!([text(0), text(1), text(2)], ["8\n", "6\n", "0\n"]);
    assert_eq!(values[3]["stderr"], "there is no tab between two sequences\n");
}
