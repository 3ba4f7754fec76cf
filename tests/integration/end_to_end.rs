//! The binary from the command line to the outcomes: sources of tasks, placeholders, what a task gets, limits, and
//! where outcomes lie afterwards.

use crate::common::json::{rows, stream};
use crate::common::{BINARY, Launch, World, eventually, outputs, summary, tasks};
use serde_json::Value;
use std::fs::{self, File};
use std::process::Stdio;

/// Runs these words after `run` into the folder `run`, and returns the standard output of all tasks.
#[track_caller]
fn printed(world: &World, launch: Launch, words: &[&str]) -> String {
    let words = [&["run", "--out", "run"], words].concat();
    world.run(launch, &words).with(0);
    let text = world.alone(&["output", "run"]).with(0).text().to_owned();
    fs::remove_dir_all(world.path("run")).unwrap();
    text
}

/// The value of a key in every row.
fn column<'a>(rows: &'a [Value], key: &str) -> Vec<&'a Value> {
    rows.iter().map(|row| &row[key]).collect()
}

#[test]
fn every_task_runs_once_on_every_launch() {
    const TASKS: u64 = 1000;
    for launch in Launch::all() {
        let world = World::new();
        let array = format!("0-{}", TASKS - 1);
        world.run(launch, &["run", "--out", "run", "--array", &array, "--", "echo {} >> ran"]).with(0);
        let mut ran: Vec<u64> = world.lines("ran").iter().map(|line| line.parse().unwrap()).collect();
        ran.sort_unstable();
        assert!(ran.iter().copied().eq(0..TASKS), "{}: {} tasks ran", launch.name, ran.len());
        let rows = tasks(&world, "run");
        assert!(column(&rows, "index").into_iter().map(|index| index.as_u64().unwrap()).eq(0..TASKS));
        assert!(rows.iter().all(|row| row["status"] == "ok" && row["attempts"] == 1), "{}", launch.name);
        let summary = summary(&world, "run");
        assert_eq!(
            (&summary["tasks"], &summary["ok"], &summary["unfinished"]),
            (&1000.into(), &1000.into(), &0.into())
        );
        assert_eq!((&summary["ended_by"], &summary["exit_status"]), (&"complete".into(), &0.into()));
        assert!(!world.has("run/failed.jsonl"));
    }
}

#[test]
fn an_array_keeps_its_own_numbers() {
    let world = World::new();
    for launch in Launch::each_kind() {
        assert_eq!(
            printed(&world, launch, &["--array", "5-9", "--", "echo", "{}", "{:03}"]),
            "5 005\n6 006\n7 007\n8 008\n9 009\n"
        );
        assert_eq!(
            printed(&world, launch, &["--array", "0-10:5", "--", "echo {} $MYRIARCH_INDEX"]),
            "0 0\n5 5\n10 10\n"
        );
    }
    world.alone(&["run", "--out", "run", "--array", "5-9", "--", "printf", "%s\\n\\n", "{}"]).with(0);
    assert_eq!(column(&tasks(&world, "run"), "index"), [5, 6, 7, 8, 9]);
    assert_eq!(world.alone(&["output", "run", "--task", "7"]).with(0).text(), "7\n\n");
    let several = ["output", "run", "--task", "9", "--task", "5-6"];
    assert_eq!(world.alone(&several).with(0).text(), "5\n\n6\n\n9\n\n");
    world.alone(&["output", "run", "--task", "9-5"]).with(2).says_once("9 is larger than 5");
    assert!(world.alone(&["output", "run", "--task", "4"]).with(2).says("the tasks are 5 to 9") == 1);
}

#[test]
fn other_braces_stay_and_another_string_can_stand_for_the_index() {
    let world = World::new();
    let words = ["--array", "3", "--", "echo", "{a}", "{}{}", "{ }", "${x}", "{/"];
    assert_eq!(printed(&world, Launch::ALONE, &words), "{a} 33 { } ${x} {/\n");
    assert_eq!(printed(&world, Launch::ALONE, &["--array", "3", "-I", "@", "--", "echo", "{}", "x@y"]), "{} x3y\n");
    assert_eq!(printed(&world, Launch::ALONE, &["--array", "3-4", "--", "echo", "constant"]), "constant\nconstant\n");
}

#[test]
fn each_line_of_a_file_is_an_entry_and_its_parts_have_names() {
    let world = World::new();
    world.write("names", "a/b.tar.gz\n\n# no comment\n  spaces  \nplain");
    for launch in Launch::each_kind() {
        let words = ["--each-line", "names", "--", "printf", "[%s]", "{}", "{.}", "{/}", "{//}", "{/.}"];
        let text = printed(&world, launch, &words);
        let first = "[a/b.tar.gz][a/b.tar][b.tar.gz][a][b.tar]";
        assert!(text.starts_with(first), "{text}");
        assert_eq!(text.matches("[# no comment]").count(), 4, "{text}");
        assert!(text.contains("[  spaces  ]") && text.contains("[][]"), "{text}");
        assert!(text.ends_with("[plain][plain][plain][.][plain]"), "{text}");
    }
}

#[test]
fn a_carriage_return_before_the_newline_is_dropped_with_one_warning() {
    let world = World::new();
    world.write("names", "a\r\nb\r\nc\r\n");
    for launch in Launch::each_kind() {
        let ended = world.run(launch, &["run", "--each-line", "names", "--", "printf", "[%s]", "{}"]).with(0);
        assert_eq!(world.alone(&["output"]).with(0).text(), "[a][b][c]");
        ended.says_once("names has Windows line ends (the first in line 1)");
    }
}

#[test]
fn entries_may_end_with_nul() {
    let world = World::new();
    world.write("names", "one\ntwo\0three\0");
    let words = ["--each-line", "names", "-0", "--", "printf", "<%s>", "{}"];
    assert_eq!(printed(&world, Launch::ALONE, &words), "<one\ntwo><three>");
}

#[test]
fn a_value_in_a_shell_line_stays_a_value() {
    let world = World::new();
    world.write("names", "it's\n$(touch pwned)\n`touch pwned`\n; touch pwned #\n\"a\" b\\\n*\n");
    for launch in Launch::each_kind() {
        let text = printed(&world, launch, &["--each-line", "names", "--", "printf '<%s>\\n' {} \"{}\" '{}'"]);
        let expected: String = world.lines("names").iter().map(|name| format!("<{name}>\n").repeat(3)).collect();
        assert_eq!(text, expected);
        assert!(!world.has("pwned"));
    }
}

#[test]
fn a_grid_is_a_product_whose_last_name_runs_fastest() {
    let world = World::new();
    let words = ["--grid", "a=x,y", "--grid", "b=0:10:5", "--", "echo", "{a}{b}"];
    for launch in Launch::each_kind() {
        assert_eq!(printed(&world, launch, &words), "x0\nx5\nx10\ny0\ny5\ny10\n");
    }
}

#[test]
fn a_table_has_a_task_for_each_row() {
    let world = World::new();
    world.write("t.csv", "mass,name\n1.5,\"a, \"\"b\"\"\"\n2,\"two\nlines\"\n");
    world.write("t.tsv", "mass\tname\n3\tc\n");
    for launch in Launch::each_kind() {
        let text = printed(&world, launch, &["--table", "t.csv", "--", "printf", "%s|", "{name}", "{mass}"]);
        assert_eq!(text, "a, \"b\"|1.5|two\nlines|2|");
    }
    assert_eq!(printed(&world, Launch::ALONE, &["--table", "t.tsv", "--", "echo {name}{mass}"]), "c3\n");
}

#[test]
fn json_lines_say_for_each_task_what_it_gets() {
    let world = World::new();
    fs::create_dir(world.path("there")).unwrap();
    world.write("there/input", "from a file");
    world.write(
        "t.jsonl",
        concat!(
            "{\"argv\": [\"printf\", \"%s|\", \"a b\", \"$HOME\", \"{}\"]}\n",
            "{\"shell\": \"echo $A $B | tr a-z A-Z\", \"env\": {\"A\": \"one\", \"B\": \"two\"}}\n",
            "\n",
            "{\"shell\": \"basename $(pwd); cat\", \"cwd\": \"new/deep\", \"stdin\": \"../../there/input\"}\n",
            "{\"shell\": \"sleep 100\", \"timeout\": 0.2}\n",
            "{\"shell\": \"echo $MYRIARCH_CORES $OMP_NUM_THREADS\", \"cores\": 2}\n",
            "{\"shell\": \"exit $((3 - MYRIARCH_ATTEMPT))\", \"retries\": 5}\n",
            "{\"argv\": [\"/no/such/program\"]}\n",
        ),
    );
    for (number, launch) in Launch::each_kind().into_iter().enumerate() {
        let dir = format!("run-{number}");
        world.run(launch, &["run", "t.jsonl", "--out", &dir, "-j", "8", "--env", "B=other"]).with(1);
        let rows = outputs(&world, &dir);
        assert_eq!(column(&rows, "line"), [1, 2, 4, 5, 6, 7, 8]);
        let printed: Vec<_> = rows.iter().map(|row| row["stdout"].as_str().unwrap()).collect();
        assert_eq!(printed[..3], ["a b|$HOME|{}|", "ONE TWO\n", "deep\nfrom a file"]);
        assert_eq!((printed[4], &rows[3]["status"]), ("2 2\n", &"timeout".into()));
        assert_eq!((&rows[5]["status"], &tasks(&world, &dir)[5]["attempts"]), (&"ok".into(), &3.into()));
        let not_started = rows[6]["status"].as_str().unwrap();
        assert!(not_started.starts_with("not-started: ") && not_started.contains("/no/such/program"), "{not_started}");
    }
}

#[test]
fn tasks_may_come_from_standard_input() {
    let world = World::new();
    world.write("list", "echo one\n# two\n\necho three\n");
    for launch in Launch::each_kind() {
        let input = File::open(world.path("list")).unwrap();
        let run = world.start_with(launch, &["run", "-"], |command| {
            command.stdin(Stdio::from(input));
        });
        run.wait().with(0);
        assert_eq!(world.alone(&["output"]).with(0).text(), "one\nthree\n");
    }
}

#[test]
fn folder_input_and_variables_of_each_task_take_placeholders() {
    let world = World::new();
    world.write("in-1", "first");
    world.write("in-2", "second");
    let options =
        ["--cwd", "made/{:02}", "--stdin", &world.path("in-{}").display().to_string(), "--env", "V=v{}", "--env", "E="];
    for launch in Launch::each_kind() {
        let words = [&options[..], &["--array", "1-2", "--", "cat; echo \":$V:${E-unset}\"; basename $(pwd)"]].concat();
        assert_eq!(printed(&world, launch, &words), "first:v1:\n01\nsecond:v2:\n02\n");
        assert!(world.has("made/02"));
        fs::remove_dir_all(world.path("made")).unwrap();
    }
}

#[test]
fn standard_input_is_empty_and_missing_input_is_a_task_that_did_not_start() {
    let world = World::new();
    assert_eq!(printed(&world, Launch::ALONE, &["--array", "0", "--", "cat; readlink /proc/self/fd/0"]), "/dev/null\n");
    world.alone(&["run", "--array", "0-1", "--out", "run", "--stdin", "none", "--", "echo", "{}"]).with(1);
    for row in tasks(&world, "run") {
        let status = row["status"].as_str().unwrap();
        assert!(status.starts_with("not-started: ") && status.contains("none"), "{status}");
    }
}

#[test]
fn a_task_knows_itself_and_not_the_launcher() {
    let world = World::new();
    world.write("names", "entry one\nentry two\n");
    for launch in Launch::all() {
        world.run(launch, &["run", "--each-line", "names", "--out", "run", "-j", "8", "--", "env"]).with(0);
        let outputs = outputs(&world, "run");
        for (index, row) in outputs.iter().enumerate() {
            let text = row["stdout"].as_str().unwrap();
            let value = |name: &str| {
                let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
                found.unwrap_or_else(|| panic!("{}: no {name} in\n{text}", launch.name))
            };
            assert_eq!(value("MYRIARCH_INDEX"), index.to_string());
            assert_eq!(value("MYRIARCH_ENTRY"), ["entry one", "entry two"][index]);
            assert_eq!((value("MYRIARCH_ATTEMPT"), value("MYRIARCH_CORES")), ("1", "1"));
            assert!(value("MYRIARCH_SLOT").parse::<u32>().unwrap() < 8, "{text}");
            assert_eq!(value("MYRIARCH_OUT"), fs::canonicalize(world.path("run")).unwrap().to_str().unwrap());
            assert!(text.lines().all(|line| !line.starts_with("OMP_NUM_THREADS=")), "only where --cores is given");
            let of_launcher = |line: &&str| {
                let kept = ["OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT", "MPIR_CVAR_"];
                let prefixes = ["OMPI_", "PMIX", "PMI_", "OPAL_", "HYDI_", "HYDRA_", "MPIR_", "PRTE_", "MPI_LOCAL"];
                let starts = |some: &[&str]| some.iter().any(|prefix| line.starts_with(prefix));
                starts(&prefixes) && !starts(&kept)
            };
            assert_eq!(text.lines().find(of_launcher), None, "{}", launch.name);
        }
        fs::remove_dir_all(world.path("run")).unwrap();
    }
}

#[test]
fn a_task_has_no_descriptor_but_its_three() {
    let world = World::new();
    for launch in Launch::each_kind() {
        // ls has one of its own, for the folder that it lists.
        let text = printed(&world, launch, &["--array", "0-3", "--", "ls", "/proc/self/fd"]);
        assert_eq!(text, "0\n1\n2\n3\n".repeat(4), "{}", launch.name);
    }
}

#[test]
fn a_dry_run_runs_nothing_and_leaves_nothing() {
    let world = World::new();
    world.write("list", "touch ran\nno-such-program-here a\n");
    for launch in Launch::each_kind() {
        let ended = world.run(launch, &["run", "list", "--dry-run"]).with(0);
        let text = ended.text();
        assert!(text.contains("2 tasks") && text.contains("touch ran"), "{text}");
        assert!(text.matches("no-such-program-here").count() >= 2, "shown, and named as missing: {text}");
        assert_eq!(world.listing(), ["list"], "{}", launch.name);
    }
    let ended = world.alone(&["run", "--dry-run", "--array", "0-999999999", "--", "echo", "{:010}"]).with(0);
    for part in ["echo 0000000000", "echo 0000000001", "echo 0999999999"] {
        assert_eq!(ended.text().matches(part).count(), 1, "{}", ended.text());
    }
}

#[test]
fn of_a_large_output_head_and_tail_are_kept_and_the_cut_is_marked() {
    let world = World::new();
    let line = "printf first; head -c 3000000 /dev/zero | tr '\\0' x; printf last; seq 1 9 >&2";
    for launch in Launch::each_kind() {
        world.run(launch, &["run", "--out", "run", "--max-output", "10K", "--array", "0", "--", line]).with(0);
        let row = &outputs(&world, "run")[0];
        let kept = stream(row, "stdout");
        assert!(kept.starts_with(b"firstx") && kept.ends_with(b"xlast"));
        assert!(kept.len() <= 10_240, "{} bytes kept", kept.len());
        assert_eq!(row["stdout_dropped_bytes"].as_u64().unwrap() + kept.len() as u64, 3_000_009);
        assert!(row["stdout_head_bytes"].as_u64().unwrap() < kept.len() as u64);
        assert_eq!((&row["stderr"], row.get("stderr_dropped_bytes")), (&"1\n2\n3\n4\n5\n6\n7\n8\n9\n".into(), None));
        let shown = world.alone(&["output", "run", "--task", "0"]).with(0);
        let (head, dropped) = (row["stdout_head_bytes"].as_u64().unwrap(), 3_000_009 - kept.len() as u64);
        let marked = |digits: &str| format!("\n[myriarch: {digits} bytes left out]\n");
        let thousands = format!("{},{:03},{:03}", dropped / 1_000_000, dropped / 1_000 % 1_000, dropped % 1_000);
        let (head, tail) = kept.split_at(head as usize);
        assert_eq!(shown.stdout, [head, marked(&thousands).as_bytes(), tail].concat());
        shown.says_once("of 1 stream only");
        shown.says_once("--max-output");
        fs::remove_dir_all(world.path("run")).unwrap();
    }
}

#[test]
fn standard_output_is_kept_of_whom_the_user_says() {
    let world = World::new();
    for (whose, expected) in [("all", ["out0\n", "out1\n"]), ("failed", ["", "out1\n"]), ("none", ["", ""])] {
        let line = "echo out{}; echo err{} >&2; exit {}";
        world.alone(&["run", "--out", whose, "--stdout", whose, "--array", "0-1", "--", line]).with(1);
        let rows = outputs(&world, whose);
        assert_eq!(column(&rows, "stdout"), expected, "--stdout {whose}");
        assert_eq!(column(&rows, "stderr"), ["err0\n", "err1\n"]);
    }
}

#[test]
fn a_task_that_takes_too_long_ends_with_all_that_it_started() {
    let world = World::new();
    let line = "trap '' TERM; (trap '' TERM; sleep 300) & setsid sleep 300 & echo begun; sleep 300; sleep 300";
    for launch in Launch::each_kind() {
        let words = ["run", "--out", "run", "--timeout", "300ms", "--grace", "1s", "--array", "0-1", "--", line];
        // That nothing is left is checked at the end of every launch.
        world.run(launch, &words).with(1);
        let rows = outputs(&world, "run");
        assert_eq!(column(&rows, "status"), ["timeout", "timeout"]);
        assert_eq!(column(&rows, "stdout"), ["begun\n", "begun\n"]);
        fs::remove_dir_all(world.path("run")).unwrap();
    }
}

#[test]
fn what_a_task_leaves_behind_ends_with_it() {
    let world = World::new();
    for launch in Launch::each_kind() {
        world.write("list", "setsid sleep 300 & echo $! >> left\nnohup sleep 300 & echo $! >> left\ntouch go\n");
        // The last task waits until the processes of the others are gone, while the run goes on.
        let gone = "while test \"$(wc -l < left)\" != 2; do sleep 0.01; done; \
                    for p in $(cat left); do while grep -qs sleep /proc/$p/cmdline; do sleep 0.01; done; done; echo gone";
        world.write("list", world.read("list") + gone + "\n");
        world.run(launch, &["run", "list", "--out", "run", "-j", "4", "--timeout", "60s"]).with(0);
        assert_eq!(outputs(&world, "run")[3]["stdout"], "gone\n");
        fs::remove_dir_all(world.path("run")).unwrap();
        fs::remove_file(world.path("left")).unwrap();
    }
}

#[test]
fn a_failed_attempt_is_tried_again_as_often_as_the_user_says() {
    let world = World::new();
    let line = "echo {}.$MYRIARCH_ATTEMPT >> ran; test $MYRIARCH_ATTEMPT -gt {}";
    for launch in Launch::each_kind() {
        world.run(launch, &["run", "--out", "run", "--retries", "2", "--array", "0-3", "--", line]).with(1);
        let rows = tasks(&world, "run");
        assert_eq!(column(&rows, "status"), ["ok", "ok", "ok", "exit:1"]);
        assert_eq!(column(&rows, "attempts"), [1, 2, 3, 3]);
        let mut ran = world.lines("ran");
        ran.sort();
        assert_eq!(ran, ["0.1", "1.1", "1.2", "2.1", "2.2", "2.3", "3.1", "3.2", "3.3"]);
        fs::remove_dir_all(world.path("run")).unwrap();
        fs::remove_file(world.path("ran")).unwrap();
    }
}

/// The most tasks that ran at once, from what they wrote at their start and end.
fn most_at_once(world: &World, launch: Launch, options: &[&str]) -> usize {
    let list = ["--array", "0-23", "--", "echo + >> log; sleep 0.05; echo - >> log"];
    world.run(launch, &[&["run", "--out", "run"], options, &list].concat()).with(0);
    let log = world.lines("log");
    fs::remove_dir_all(world.path("run")).unwrap();
    fs::remove_file(world.path("log")).unwrap();
    assert_eq!(log.len(), 48);
    let mut now = 0;
    log.iter()
        .map(|mark| {
            if mark == "+" {
                now += 1;
                now
            } else {
                now -= 1;
                now
            }
        })
        .max()
        .unwrap()
}

#[test]
fn no_more_tasks_run_at_once_than_slots_cores_and_the_user_allow() {
    let world = World::new();
    for launch in Launch::each_kind() {
        assert!(most_at_once(&world, launch, &["-j", "5"]) <= 5, "{}: -j", launch.name);
        assert!(
            most_at_once(&world, launch, &["-j", "8", "--max-running", "2"]) <= 2,
            "{}: --max-running",
            launch.name
        );
    }
    let at_once = most_at_once(&world, Launch::ALONE, &["-j", "8", "--cores", "3"]);
    assert!(at_once <= 2, "{at_once} tasks of 3 cores at once on 8 slots");
}

#[test]
fn slots_of_a_node_are_as_many_as_the_user_says_even_where_ranks_are_more() {
    for launch in Launch::possible(&[Launch::FOUR_THREADS, Launch::MPI_4]) {
        let world = World::new();
        assert!(most_at_once(&world, launch, &["-j", "2"]) <= 2, "{}", launch.name);
    }
}

#[test]
fn slots_of_tasks_that_run_at_once_differ() {
    let world = World::new();
    for launch in Launch::each_kind() {
        // Each waits until all four run.
        let line = "echo {%} >> slots; while test \"$(wc -l < slots)\" -lt 4; do sleep 0.01; done";
        world
            .run(launch, &["run", "--out", "run", "-j", "4", "--timeout", "60s", "--array", "0-3", "--", line])
            .with(0);
        let mut slots = world.lines("slots");
        slots.sort();
        assert_eq!(slots, ["0", "1", "2", "3"], "{}", launch.name);
        fs::remove_dir_all(world.path("run")).unwrap();
        fs::remove_file(world.path("slots")).unwrap();
    }
}

#[test]
fn outputs_are_printed_whole_when_the_user_asks_for_them() {
    let world = World::new();
    for launch in Launch::each_kind() {
        let line = "for i in a b c; do echo {}$i; sleep 0.01; done";
        let ended = world.run(launch, &["run", "--print", "-j", "4", "--array", "0-9", "--", line]).with(0);
        let mut parts: Vec<_> = ended.text().split_inclusive("c\n").collect();
        parts.sort_unstable();
        let expected: Vec<_> = (0..10).map(|i| format!("{i}a\n{i}b\n{i}c\n")).collect();
        assert_eq!(parts, expected, "{}", launch.name);
    }
}

#[test]
fn runs_without_a_name_are_numbered_and_the_last_is_found() {
    let world = World::new();
    for number in 1..=2 {
        world.alone(&["run", "--array", "0", "--", &format!("echo {number}")]).with(0);
        assert_eq!(world.alone(&["output"]).with(0).text(), format!("{number}\n"));
    }
    let link = fs::read_link(world.path("myriarch-runs/last")).unwrap();
    assert_eq!(link.to_str(), Some("2"));
    assert_eq!(world.alone(&["output", "myriarch-runs/1"]).with(0).text(), "1\n");
}

#[test]
fn a_run_can_be_looked_at_while_it_goes_on() {
    let world = World::new();
    let line = "echo {}; while test {} = 9 && ! test -e go; do sleep 0.01; done";
    for launch in Launch::each_kind() {
        let run = world.start(launch, &["run", "--out", "run", "-j", "2", "--array", "0-9", "--", line]);
        eventually("nine tasks have ended", || {
            let ended = world.alone(&["tasks", "run", "--ok", "--json"]);
            (ended.code == Some(0) && rows(ended.text()).len() == 9).then_some(())
        });
        assert_eq!(world.alone(&["output", "run"]).with(0).text(), "0\n1\n2\n3\n4\n5\n6\n7\n8\n");
        let status = world.alone(&["status", "run", "--json"]).with(3);
        let status: Value = serde_json::from_str(status.text()).unwrap();
        assert_eq!((&status["state"], &status["unfinished"]), (&"running".into(), &1.into()));
        world.write("go", "");
        run.wait().with(0);
        world.alone(&["status", "run"]).with(0);
        fs::remove_dir_all(world.path("run")).unwrap();
        fs::remove_file(world.path("go")).unwrap();
    }
}

#[test]
fn files_of_a_run_do_not_grow_with_its_tasks() {
    let files = |tasks: u64| {
        let world = World::new();
        let array = format!("1-{tasks}");
        world.alone(&["run", "--out", "run", "--ranks", "4", "-j", "4", "--array", &array, "--", "echo", "{}"]).with(0);
        let found = std::process::Command::new("find").arg(world.path("run")).output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().count()
    };
    let (few, many) = (files(20), files(600));
    assert!(many <= few, "{few} files of 20 tasks, {many} of 600");
}

#[test]
fn a_node_makes_a_file_only_when_it_has_much_to_keep() {
    for launch in Launch::possible(&[Launch::DEEP_THREADS, Launch::MPI_8_NODES]) {
        for (bytes, least, most) in [(10, 1, 1), (20_000, 2, 5)] {
            let world = World::new();
            let line = format!("head -c {bytes} /dev/zero | tr '\\0' x; sleep 0.01; : {{}}");
            world.run(launch, &["run", "--out", "run", "--array", "1-100", "--", &line]).with(0);
            let segments =
                std::process::Command::new("find").arg(world.path("run/segments")).args(["-type", "f"]).output();
            let segments = String::from_utf8(segments.unwrap().stdout).unwrap().lines().count();
            assert!((least..=most).contains(&segments), "{launch:?}: {segments} files with {bytes} bytes of each task");
            let printed = world.alone(&["output", "run"]).with(0).stdout;
            assert_eq!(printed.len(), 100 * bytes, "{launch:?}");
        }
    }
}

#[test]
fn outcomes_name_where_a_task_ran() {
    for launch in Launch::possible(&[Launch::DEEP_THREADS, Launch::MPI_8_NODES]) {
        let world = World::new();
        // Eight tasks on eight slots of four nodes, each of which waits for all: so every node takes part.
        let line = "echo >> all; while test \"$(wc -l < all)\" -lt 8; do sleep 0.01; done";
        world
            .run(launch, &["run", "--out", "run", "-j", "2", "--timeout", "60s", "--array", "0-7", "--", line])
            .with(0);
        let rows = tasks(&world, "run");
        let mut nodes = column(&rows, "node").into_iter().map(|node| node.as_str().unwrap()).collect::<Vec<_>>();
        nodes.sort_unstable();
        nodes.dedup();
        assert_eq!(nodes.len(), 4, "{}: {nodes:?}", launch.name);
        assert!(rows.iter().all(|row| row["rank"].as_u64().unwrap() < 8 && row["seconds"].as_f64().unwrap() > 0.0));
        let summary = summary(&world, "run");
        assert_eq!((&summary["nodes"], &summary["ranks"], &summary["slots"]), (&4.into(), &8.into(), &8.into()));
    }
}

#[test]
fn the_command_says_how_it_is_used() {
    let world = World::new();
    assert!(world.alone(&["--version"]).with(0).text().starts_with("myriarch "));
    for command in ["run", "status", "tasks", "failed", "output", "stop", "doctor"] {
        assert!(world.alone(&[command, "--help"]).with(0).text().contains("Usage: myriarch"), "{command}");
    }
    assert!(std::path::Path::new(BINARY).exists());
}

#[test]
fn likely_slips_are_told_once_before_the_run_starts_and_in_a_dry_run() {
    for launch in Launch::each_kind() {
        let world = World::new();
        let words = ["run", "--grid", "mass=1,2", "--cwd", "c-{mas}", "--", "echo", "{mass}"];
        let slip = "{mas} stays as it is: there is no such --grid name (did you mean \"mass\"?)";
        let ended = world.run(launch, &words).with(0);
        ended.says_once(slip);
        assert!(ended.stderr.find(slip) < ended.stderr.find("stop with:"), "{}", ended.stderr);
        world.run(launch, &[&words[..1], &["--dry-run"], &words[1..]].concat()).with(0).says_once(slip);
    }
}
