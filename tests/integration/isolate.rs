//! Functions in processes of their own: what a crash costs, and what can be ended that does not return.

use crate::common::{Launch, World, eventually, outputs, summary, tasks};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Ways to start that differ for functions.
fn launches() -> Vec<Launch> {
    Launch::possible(&[Launch::ALONE, Launch::DEEP_THREADS, Launch::MPI_2, Launch::MPI_8_DEEP])
}

/// Builds `plugin.so` of functions that are given as C.
fn plugin(world: &World, functions: &str) {
    let head = "#define _GNU_SOURCE\n#define MYRIARCH_TASK_PLUGIN\n#include \"myriarch_task.h\"\n#include <fcntl.h>\n\
                #include <sched.h>\n#include <signal.h>\n#include <stdlib.h>\n#include <sys/mman.h>\n#include <unistd.h>\n";
    world.write("plugin.c", format!("{head}{functions}"));
    let headers = Path::new(env!("CARGO_MANIFEST_DIR")).join("bindings/c");
    let built = Command::new("cc")
        .args(["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .args([world.path("plugin.so"), world.path("plugin.c")])
        .arg("-I")
        .arg(headers)
        .status()
        .expect("there is a C compiler");
    assert!(built.success());
}

const CRASHES: &str = r#"
MYRIARCH_TASK_EXPORT int crashes(struct myriarch_task *task)
{
    switch (task->index % 500) {
    case 7: raise(SIGSEGV); break;
    case 8: abort();
    case 9: exit(3);
    case 300: exit(0);
    case 301: return 5;
    }
    return myriarch_print(task, "%lu\n", (unsigned long)task->index);
}
"#;

/// How a task of `crashes` ends.
fn end_of(index: u64) -> &'static str {
    match index % 500 {
        7 => "signal:11",
        8 => "signal:6",
        9 => "exit:3",
        300 => "exit:0",
        301 => "exit:5",
        _ => "ok",
    }
}

fn index_of(row: &Value) -> u64 {
    row["index"].as_u64().unwrap()
}

#[test]
fn a_crash_costs_one_task_and_is_told_as_the_signal_that_it_was() {
    for launch in launches() {
        let world = World::new();
        plugin(&world, CRASHES);
        let words = ["run", "--out", "run", "--array", "0-4999", "--call", "plugin.so:crashes", "--isolate"];
        world.run(launch, &words).with(1);
        let told = summary(&world, "run");
        assert_eq!((&told["ok"], &told["failed"]), (&4950.into(), &50.into()), "{}", launch.name);
        let rows = tasks(&world, "run");
        assert_eq!(rows.len(), 5000);
        for row in &rows {
            assert_eq!((&row["status"], &row["attempts"]), (&end_of(index_of(row)).into(), &1.into()), "{row}");
        }
        for row in outputs(&world, "run") {
            let index = index_of(&row);
            let (value, error) = match end_of(index) {
                "ok" => (format!("{index}\n"), ""),
                "exit:3" | "exit:0" => (String::new(), "the function ended its process\n"),
                _ => (String::new(), ""),
            };
            assert_eq!((&row["stdout"], &row["stderr"]), (&value.into(), &error.into()));
        }
    }
}

#[test]
fn what_is_recorded_is_the_user_s_choice_here_too() {
    let world = World::new();
    plugin(&world, CRASHES);
    for (record, expected) in [("all", 4950 + 20), ("failures", 20), ("none", 0)] {
        let words = ["run", "--out", record, "--array", "0-4999", "--call", "plugin.so:crashes", "--isolate"];
        world.alone(&[&words[..], &["--record", record]].concat()).with(1);
        let rows = tasks(&world, record);
        assert!(rows.iter().all(|row| row["status"] == end_of(index_of(row))), "{record}");
        let is_kept = |row: &&Value| row["stdout"] != "" || row["stderr"] != "";
        let values = outputs(&world, record).iter().filter(is_kept).count();
        assert_eq!(values, expected, "{record}");
    }
}

#[test]
fn payloads_and_values_of_any_size_arrive_and_a_task_of_several_cores_is_told_so() {
    let echo = r#"
MYRIARCH_TASK_EXPORT int ends(struct myriarch_task *task)
{
    const char *payload = task->payload;
    size_t bytes = task->payload_bytes;
    return myriarch_print(task, "%zu %.*s %.*s %u", bytes, bytes < 3 ? (int)bytes : 3, payload,
                          bytes < 3 ? (int)bytes : 3, payload + (bytes < 3 ? 0 : bytes - 3), task->cores);
}
"#;
    for launch in launches() {
        let world = World::new();
        plugin(&world, echo);
        let line = |n: usize| format!("{n:03}{}{n:03}", "-".repeat(if n == 100 { 3_000_000 } else { n * 7 }));
        world.write("lines", (0..200).map(|n| line(n) + "\n").collect::<String>());
        let words = ["run", "--out", "run", "--each-line", "lines", "--call", "plugin.so:ends", "--isolate", "-j", "2"];
        world.run(launch, &[&words[..], &["--cores", "1"]].concat()).with(0);
        for (n, row) in outputs(&world, "run").iter().enumerate() {
            assert_eq!(row["stdout"], format!("{} {n:03} {n:03} 1", line(n).len()), "{}", launch.name);
        }
        let big = ["run", "--out", "big", "--array", "0-29", "--call", "builtin:echo", "--isolate", "--call-arg"];
        let arg = "x".repeat(60_000);
        world.run(launch, &[&big[..], &[&arg]].concat()).with(0);
        assert!(outputs(&world, "big").iter().all(|row| row["stdout"] == arg));
    }
    let world = World::new();
    plugin(&world, echo);
    let wide = ["run", "--out", "wide", "--array", "0-99", "--call", "plugin.so:ends", "--isolate", "-j", "2"];
    world.alone(&[&wide[..], &["--cores", "2"]].concat()).with(0);
    assert!(outputs(&world, "wide").iter().all(|row| row["stdout"] == "0   2"));
}

#[test]
fn a_crash_is_tried_again_as_often_as_the_user_says() {
    let third = r#"
MYRIARCH_TASK_EXPORT int third_time(struct myriarch_task *task)
{
    if (task->attempt < 3 && task->index % 10 == 0)
        abort();
    return 0;
}
"#;
    let world = World::new();
    plugin(&world, third);
    let run = |out, retries| {
        let call = ["--array", "0-99", "--call", "plugin.so:third_time", "--isolate"];
        world.alone(&[&["run", "--out", out, "--retries", retries], &call[..]].concat())
    };
    run("enough", "2").with(0);
    let attempts = |index: u64| if index.is_multiple_of(10) { 3 } else { 1 };
    assert!(tasks(&world, "enough").iter().all(|task| task["attempts"] == attempts(index_of(task))));
    run("fewer", "1").with(1);
    let failed: Vec<_> = tasks(&world, "fewer").into_iter().filter(|task| task["status"] != "ok").collect();
    assert!(failed.len() == 10 && failed.iter().all(|task| task["status"] == "signal:6" && task["attempts"] == 2));
}

/// Says its process in a file of its own, and does not return unless it is tried again.
const HANGS: &str = r#"
MYRIARCH_TASK_EXPORT int hangs(struct myriarch_task *task)
{
    char name[64];
    FILE *file;
    if (task->index % 100 != 3 || task->attempt > 1)
        return 0;
    if (task->index == 103)
        signal(SIGTERM, SIG_IGN);
    snprintf(name, sizeof name, "pid-%lu.part", (unsigned long)task->index);
    file = fopen(name, "w");
    fprintf(file, "%d", (int)getpid());
    fclose(file);
    snprintf(name + 32, 32, "pid-%lu", (unsigned long)task->index);
    rename(name, name + 32);
    for (;;)
        pause();
}
"#;

fn pid_of(world: &World, index: u64) -> u32 {
    let name = format!("pid-{index}");
    eventually("the task runs", || world.has(&name).then(|| world.read(&name).parse().unwrap()))
}

#[test]
fn who_stops_a_run_does_not_wait_for_functions_that_do_not_return() {
    for launch in launches() {
        let world = World::new();
        plugin(&world, HANGS);
        let words = ["run", "--out", "run", "--array", "0-199", "--call", "plugin.so:hangs", "--isolate", "-j", "2"];
        let run = world.start(launch, &[&words[..], &["--grace", "1s"]].concat());
        let _both = [3, 103].map(|index| pid_of(&world, index));
        let asked = Instant::now();
        world.alone(&["stop", "run"]).with(0);
        run.wait();
        assert!(asked.elapsed() < Duration::from_secs(50), "{}: calls that can be killed were waited for", launch.name);
        let told = summary(&world, "run");
        assert_eq!((&told["failed"], &told["exit_status"]), (&0.into(), &3.into()), "{}", launch.name);
        let (ok, unfinished) = (told["ok"].as_u64().unwrap(), told["unfinished"].as_u64().unwrap());
        assert!(ok + unfinished == 200 && unfinished >= 2, "{told:?}");
    }
}

#[test]
fn tasks_behind_a_function_that_does_not_return_run_elsewhere() {
    let world = World::new();
    plugin(&world, HANGS);
    let words = ["run", "--out", "run", "--array", "0-99", "--call", "plugin.so:hangs", "--isolate", "-j", "2"];
    let run = world.start(Launch::ALONE, &[&words[..], &["--grace", "0s"]].concat());
    eventually("all others have ended", || {
        let progress = std::fs::read_to_string(world.path("run/progress.json")).ok()?;
        let progress: Value = serde_json::from_str(&progress).ok()?;
        (progress["ok"] == 99).then_some(())
    });
    world.alone(&["stop", "run"]).with(0);
    run.wait();
    assert_eq!(summary(&world, "run")["unfinished"], 1);
}

#[test]
fn a_time_limit_ends_the_call_and_no_other() {
    for launch in launches() {
        let world = World::new();
        plugin(&world, HANGS);
        let words = ["run", "--out", "run", "--array", "0-199", "--call", "plugin.so:hangs", "--isolate"];
        world.run(launch, &[&words[..], &["--timeout", "300ms"]].concat()).with(1);
        let rows = tasks(&world, "run");
        let expected = |index: u64| if index % 100 == 3 { "timeout" } else { "ok" };
        assert!(rows.len() == 200 && rows.iter().all(|row| row["status"] == expected(index_of(row))), "{rows:?}");
    }
}

#[test]
fn a_process_that_is_killed_from_outside_costs_one_attempt() {
    let world = World::new();
    plugin(&world, HANGS);
    let words = ["run", "--out", "run", "--array", "0-99", "--call", "plugin.so:hangs", "--isolate", "--retries", "1"];
    let run = world.start(Launch::ALONE, &words);
    assert!(crate::common::processes::signal(pid_of(&world, 3), "KILL"));
    run.wait().with(0);
    let rows = tasks(&world, "run");
    assert!(rows.iter().all(|row| row["attempts"] == if index_of(row) == 3 { 2 } else { 1 }), "{rows:?}");
}

#[test]
fn a_process_that_is_told_to_end_with_its_whole_job_costs_nothing() {
    let world = World::new();
    plugin(&world, HANGS);
    let words = ["run", "--out", "run", "--array", "0-99", "--call", "plugin.so:hangs", "--isolate", "--grace", "0s"];
    let run = world.start(Launch::ALONE, &words);
    pid_of(&world, 3);
    run.processes().iter().for_each(|process| process.signal("TERM"));
    run.wait().with(3);
    let told = summary(&world, "run");
    assert_eq!(told["failed"], 0);
    assert_eq!(told["ok"].as_u64().unwrap() + told["unfinished"].as_u64().unwrap(), 100);
}

#[test]
fn nothing_is_left_of_a_job_that_is_killed() {
    for launch in launches() {
        let world = World::new();
        plugin(&world, HANGS);
        let words = ["run", "--out", "run", "--array", "0-199", "--call", "plugin.so:hangs", "--isolate", "-j", "2"];
        let run = world.start(launch, &words);
        let _both = [3, 103].map(|index| pid_of(&world, index));
        run.kill_job();
    }
}

#[test]
fn what_cannot_be_called_stops_the_run_before_it_starts_and_hurts_no_rank() {
    for launch in Launch::each_kind() {
        let world = World::new();
        plugin(
            &world,
            "__attribute__((constructor)) static void first(void) { if (access(\"crash\", F_OK) == 0) abort(); }\n\
             MYRIARCH_TASK_EXPORT int f(struct myriarch_task *task) { (void)task; return 0; }\n",
        );
        world.write("crash", "");
        for (call, cause) in [
            ("builtin:nop", "there is no such function; there are noop"),
            ("missing.so:f", "missing.so: it cannot be loaded: "),
            ("plugin.so:f", "plugin.so:f: the process that loaded it has ended: signal:6"),
        ] {
            let before = world.listing();
            let words = ["run", "--out", "run", "--array", "0-9", "--call", call, "--isolate"];
            let ended = world.run(launch, &words);
            if !launch.is_mpi() {
                assert_eq!(ended.code, Some(2), "{}", ended.stderr);
            }
            ended.says_once(cause);
            assert_eq!(world.listing(), before, "{call} leaves no folder");
        }
    }
}

#[test]
fn a_task_that_writes_over_memory_costs_no_other_task_its_outcome() {
    // The memory that a call process shares with its rank, and its socket.
    let wild = r#"
MYRIARCH_TASK_EXPORT int wild(struct myriarch_task *task)
{
    char line[512], *end;
    FILE *maps;
    if (task->index == 60 && write(3, "nonsense", 8) != 8)
        return 9;
    if (task->index == 90 && write(3, "d\0\0\0", 5) != 5)
        return 9;
    if (task->index != 50 && task->index != 70 && task->index != 80)
        return myriarch_print(task, "%lu", (unsigned long)task->index);
    maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) {
        char *from = (char *)strtoul(line, &end, 16);
        char *to = (char *)strtoul(end + 1, &end, 16);
        if (!strstr(line, "memfd:myriarch-call"))
            continue;
        if (task->index == 80)
            mprotect(from, (size_t)(to - from), PROT_READ);
        else
            memset(from, task->index == 50 ? 0xff : 0, (size_t)(to - from));
    }
    fclose(maps);
    return 0;
}
"#;
    for launch in launches() {
        let world = World::new();
        plugin(&world, wild);
        let words = ["run", "--out", "run", "--array", "0-199", "--call", "plugin.so:wild", "--isolate"];
        world.run(launch, &words).with(1);
        let rows = tasks(&world, "run");
        let wild = [50, 60, 70, 80, 90];
        assert!(rows.len() == 200 && rows[80]["status"] == "signal:11", "{}", rows[80]);
        let is_right = |row: &Value| row["status"] == "ok" || wild.contains(&index_of(row));
        assert_eq!(rows.iter().find(|row| !is_right(row)), None, "{}", launch.name);
        for row in outputs(&world, "run").iter().filter(|row| !wild.contains(&index_of(row))) {
            assert_eq!(row["stdout"], index_of(row).to_string());
        }
    }
}

#[test]
fn what_a_function_prints_is_seen_where_the_run_is() {
    let prints = r#"
MYRIARCH_TASK_EXPORT int prints(struct myriarch_task *task)
{
    if (task->index != 5)
        return 0;
    fprintf(stderr, "the last words of task %lu\n", (unsigned long)task->index);
    abort();
}
"#;
    for launch in launches() {
        let world = World::new();
        plugin(&world, prints);
        let words = ["run", "--out", "run", "--array", "0-9", "--call", "plugin.so:prints", "--isolate"];
        world.run(launch, &words).with(1).says_once("the last words of task 5");
    }
}

#[test]
fn a_call_process_is_bound_as_its_slot_is_and_sees_no_launcher() {
    let sees = r#"
MYRIARCH_TASK_EXPORT int sees(struct myriarch_task *task)
{
    const char *names[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMI_FD", "PMIX_RANK"};
    cpu_set_t set;
    size_t at;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set))
        return 1;
    for (at = 0; at < sizeof names / sizeof *names; at++)
        if (getenv(names[at]))
            return 2;
    return myriarch_print(task, "%d", CPU_COUNT(&set));
}
"#;
    for launch in launches() {
        let world = World::new();
        plugin(&world, sees);
        let words = ["run", "--array", "0-499", "--call", "plugin.so:sees", "--out"];
        world.run(launch, &[&words[..], &["isolated", "--isolate"]].concat()).with(0);
        if launch == Launch::ALONE {
            world.run(launch, &[&words[..], &["run"]].concat()).with(0);
            let cores = |out: &str| -> BTreeSet<String> {
                outputs(&world, out).iter().map(|row| row["stdout"].as_str().unwrap().to_owned()).collect()
            };
            assert_eq!(cores("isolated"), cores("run"));
        }
    }
}

#[test]
fn several_functions_and_processes_share_a_run() {
    for launch in launches() {
        let world = World::new();
        plugin(&world, CRASHES);
        let path = world.path("plugin.so").to_str().unwrap().to_owned();
        let line = |n: u64| match n % 3 {
            0 => format!("{{\"call\":\"{path}:crashes\"}}\n"),
            1 => format!("{{\"call\":\"builtin:echo\",\"payload\":\"payload {n}\"}}\n"),
            _ => format!("{{\"argv\":[\"echo\",\"process {n}\"]}}\n"),
        };
        world.write("tasks.jsonl", (0..90).map(line).collect::<String>());
        world.run(launch, &["run", "--out", "run", "--isolate", "tasks.jsonl"]).with(1);
        let expected = |n: u64| match n % 3 {
            0 => format!("{n}\n"),
            1 => format!("payload {n}"),
            _ => format!("process {n}\n"),
        };
        for (row, output) in tasks(&world, "run").iter().zip(outputs(&world, "run")) {
            let n = index_of(row);
            if n == 9 {
                assert_eq!(row["status"], "exit:3", "{}", launch.name);
            } else {
                assert_eq!((&row["status"], &output["stdout"]), (&"ok".into(), &expected(n).into()), "{}", launch.name);
            }
        }
    }
}

#[test]
fn it_is_for_functions_and_a_resume_keeps_it() {
    let world = World::new();
    plugin(&world, CRASHES);
    let refused = world.alone(&["run", "--out", "run", "--isolate", "--array", "0-9", "--", "true"]).with(2);
    refused.says_once("--isolate: it is for functions, and there are none without --call");
    world.alone(&["run", "--out", "processes", "--array", "0-9", "--", "true"]).with(0);
    let refused = world.alone(&["run", "--resume", "--out", "processes", "--isolate"]).with(2);
    refused.says_once("--isolate is for functions");
    let words = ["run", "--out", "run", "--array", "0-9", "--call", "plugin.so:crashes", "--isolate"];
    world.alone(&words).with(1);
    world.alone(&["run", "--resume", "--retry-failed", "--out", "run"]).with(1);
    assert_eq!(
        (&tasks(&world, "run")[7]["status"], &summary(&world, "run")["failed"]),
        (&"signal:11".into(), &3.into())
    );
}
