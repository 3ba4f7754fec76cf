//! Failures are told at once, grouped at the end, and can be mended and run again in the same folder.

use crate::common::{Launch, World, eventually, json, outputs, summary, tasks};
use std::os::unix::fs::PermissionsExt;

const LINES: u64 = 400;

/// A list of which every second line names a program that is not there (yet).
fn half_wrong(world: &World) {
    put_program(world, "right");
    let program = |i: u64| if i.is_multiple_of(2) { "./right" } else { "./wrong" };
    let lines: String = (0..LINES).map(|i| format!("{} {i}\n", program(i))).collect();
    world.write("tasks.txt", lines);
}

fn put_program(world: &World, name: &str) {
    world.write(name, "#!/bin/sh\necho $MYRIARCH_INDEX >> ran\necho \"$0 $1\"\n");
    std::fs::set_permissions(world.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The indexes that ran since this was asked last, sorted.
fn ran(world: &World) -> Vec<u64> {
    let mut ran: Vec<u64> = world.lines("ran").iter().map(|line| line.parse().unwrap()).collect();
    let _ = std::fs::remove_file(world.path("ran"));
    ran.sort_unstable();
    ran
}

#[test]
fn the_first_failure_is_told_at_once_and_all_are_grouped_in_one_line_at_the_end() {
    for launch in Launch::each_kind() {
        let world = World::new();
        half_wrong(&world);
        let list = world.read("tasks.txt") + "while ! test -e go; do sleep 0.01; done\n";
        world.write("tasks.txt", list);
        let mut run = world.start(launch, &["run", "tasks.txt", "--out", "run", "-j", "4", "--timeout", "100s"]);
        eventually("the first failure is told", || {
            assert!(run.is_running());
            let said = run.stderr();
            (said.contains("(tasks.txt:") && said.contains("./wrong") && said.contains("exit:127")).then_some(())
        });
        world.write("go", "");
        let ended = run.wait().with(1);
        let half = (LINES / 2).to_string();
        let grouped = ended.stderr.lines().filter(|line| line.contains(&half) && line.contains("exit:127")).count();
        assert_eq!(grouped, 1, "{}:\n{}", launch.name, ended.stderr);
        assert!(ended.stderr.lines().count() < 25, "many failures, few lines:\n{}", ended.stderr);
        assert!(ended.says("myriarch failed") > 0, "where to look next:\n{}", ended.stderr);
        let listed = world.alone(&["failed", "run"]).with(0);
        assert!(listed.text().starts_with(&format!("{half} of {} tasks failed\n", LINES + 1)), "{}", listed.text());
        let rows = json::rows(&world.read("run/failed.jsonl"));
        assert!(rows.iter().map(|row| row["index"].as_u64().unwrap()).eq((0..LINES).filter(|i| i % 2 == 1)));
        assert_eq!((&rows[0]["line"], &rows[0]["status"]), (&2.into(), &"exit:127".into()));
        assert!(rows[0]["stderr_tail"].as_str().unwrap().contains("./wrong"));
        let failed = world.alone(&["output", "run", "--failed", "--stderr"]).with(0);
        assert_eq!(failed.text().matches("./wrong").count() as u64, LINES / 2);
    }
}

#[test]
fn failures_that_differ_only_in_numbers_are_one_line_at_the_end_and_in_the_list() {
    for launch in Launch::each_kind() {
        let world = World::new();
        let words = ["run", "--out", "run", "--array", "0-199", "--", "echo err in case {} >&2; exit 3"];
        let ended = world.run(launch, &words).with(1);
        ended.says_once(" 200 x exit:3  err in case ");
        assert_eq!(ended.says("other ways"), 0, "{}", ended.stderr);
        let listed = world.alone(&["failed", "run"]).with(0);
        let lines: Vec<_> = listed.text().lines().collect();
        assert!(lines[1].contains(" 200  exit:3 ") && lines[1].contains("err in case 0 "), "{}", listed.text());
        assert_eq!(lines[2], "", "there is no other group:\n{}", listed.text());
        assert!(lines[3].starts_with("task 0 [echo err in case 0 >&2; exit 3]: exit:3 after "), "{}", listed.text());
        assert_eq!(tasks(&world, "run")[7]["command"], "echo err in case 7 >&2; exit 3");
    }
}

#[test]
fn after_the_mend_only_the_failed_half_runs_again_under_the_same_indexes() {
    for launch in Launch::each_kind() {
        let world = World::new();
        half_wrong(&world);
        world.run(launch, &["run", "tasks.txt", "--out", "run"]).with(1);
        assert!(ran(&world).into_iter().eq((0..LINES).step_by(2)));
        // Failed tasks stay failed where nobody asks for them.
        world.run(launch, &["run", "--resume", "--out", "run"]).with(1);
        assert!(ran(&world).is_empty());
        assert_eq!(summary(&world, "run")["failed"], LINES / 2);
        put_program(&world, "wrong");
        world.run(launch, &["run", "--resume", "--retry-failed", "--out", "run"]).with(0);
        assert!(ran(&world).into_iter().eq((1..LINES).step_by(2)), "{}", launch.name);
        let expected: String =
            (0..LINES).map(|i| format!("./{} {i}\n", if i % 2 == 0 { "right" } else { "wrong" })).collect();
        assert_eq!(world.alone(&["output", "run"]).with(0).text(), expected);
        assert_eq!((&summary(&world, "run")["failed"], world.has("run/failed.jsonl")), (&0.into(), false));
        // And then there is nothing left to do.
        world.run(launch, &["run", "--resume", "--retry-failed", "--out", "run"]).with(0);
        assert!(ran(&world).is_empty());
    }
}

#[test]
fn a_mended_list_takes_the_place_of_the_failed_lines() {
    let world = World::new();
    half_wrong(&world);
    world.alone(&["run", "tasks.txt", "--out", "run"]).with(1);
    ran(&world);
    world.write("tasks.txt", world.read("tasks.txt").replace("./wrong", "./right"));
    world.alone(&["run", "tasks.txt", "--resume", "--retry-failed", "--out", "run"]).with(0);
    assert!(ran(&world).into_iter().eq((1..LINES).step_by(2)));
    assert!(outputs(&world, "run").iter().enumerate().all(|(i, row)| row["stdout"] == format!("./right {i}\n")));
    // A line that had not failed may not change.
    world.write("tasks.txt", world.read("tasks.txt").replace("./right 10\n", "./right 11\n"));
    let ended = world.alone(&["run", "tasks.txt", "--resume", "--retry-failed", "--out", "run"]).with(2);
    ended.says_once("tasks.txt:11");
    assert!(ran(&world).is_empty());
}

#[test]
fn too_many_failures_stop_the_run_early_and_it_can_be_resumed() {
    for launch in Launch::each_kind() {
        let world = World::new();
        half_wrong(&world);
        world.run(launch, &["run", "tasks.txt", "--out", "run", "-j", "2", "--max-fails", "5%"]).with(3);
        let first = summary(&world, "run");
        assert_eq!((&first["ended_by"], &first["exit_status"]), (&"max-fails".into(), &3.into()));
        let (failed, unfinished) = (first["failed"].as_u64().unwrap(), first["unfinished"].as_u64().unwrap());
        assert!(failed >= LINES / 20 && unfinished > LINES / 4, "{}: {failed} failed, {unfinished} left", launch.name);
        world.alone(&["status", "run"]).with(3);
        let ran_first = ran(&world);
        put_program(&world, "wrong");
        world.run(launch, &["run", "--resume", "--retry-failed", "--out", "run"]).with(0);
        let mut all = [ran_first, ran(&world)].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..LINES), "{}: no task that ended well ran again", launch.name);
    }
}

#[test]
fn the_list_of_failed_tasks_is_a_task_list() {
    let world = World::new();
    half_wrong(&world);
    let words = ["run", "tasks.txt", "--out", "run", "--env", "V=kept", "--cwd", "."];
    world.alone(&words).with(1);
    ran(&world);
    put_program(&world, "wrong");
    world.alone(&["run", "run/failed.jsonl", "--out", "again"]).with(0);
    assert_eq!(ran(&world).len() as u64, LINES / 2);
    assert_eq!(outputs(&world, "again")[1]["stdout"], "./wrong 3\n");
}

#[test]
fn each_way_to_end_has_a_name() {
    let world = World::new();
    world.write("list", "exit 3\nkill -KILL $$\nkill -SEGV $$\nno-such-program\nsleep 100\ntrue\n");
    world.alone(&["run", "list", "--out", "run", "-j", "6", "--timeout", "3s"]).with(1);
    let statuses: Vec<_> = tasks(&world, "run").iter().map(|row| row["status"].as_str().unwrap().to_owned()).collect();
    assert_eq!(statuses, ["exit:3", "signal:9", "signal:11", "exit:127", "timeout", "ok"]);
    let summary = summary(&world, "run");
    assert_eq!((&summary["ok"], &summary["failed"], &summary["exit_status"]), (&1.into(), &5.into(), &1.into()));
}

#[test]
fn a_node_where_everything_fails_gets_no_more_tasks_and_is_named() {
    for launch in Launch::possible(&[Launch::MPI_8_NODES]) {
        let world = World::new();
        // The ranks of the third of four nodes give their tasks an environment in which those fail.
        let start = "case ${OMPI_COMM_WORLD_RANK:-$PMI_RANK} in 4 | 5) export BROKEN=1 ;; esac";
        world.write("started", format!("#!/bin/sh\n{start}\nexec {} \"$@\"\n", crate::common::BINARY));
        std::fs::set_permissions(world.path("started"), std::fs::Permissions::from_mode(0o755)).unwrap();
        world.write("tasks.txt", "test -z \"$BROKEN\" && sleep 0.1\n".repeat(LINES as usize));
        let mut command = launch.command_of(&world.path("started"), &world.path("launches"));
        command.arg("run").args(launch.options()).args(["tasks.txt", "--out", "run", "-j", "2", "--retries", "3"]);
        command.current_dir(world.path(".")).stdin(std::process::Stdio::null());
        let ended = world.spawn(command).wait().with(0);
        let summary = summary(&world, "run");
        let benched = summary["benched"].as_array().expect("names of nodes");
        assert_eq!((benched.len(), &summary["ok"]), (1, &LINES.into()), "{summary}");
        let name = benched[0].as_str().expect("a name");
        assert!(name.ends_with("/2"), "{name}");
        ended.says_once(&format!("{name} gets no more tasks"));
        ended.says_once(&format!("1 node benched, where nearly all failed: {name}"));
        let there = tasks(&world, "run").iter().filter(|task| task["node"] == benched[0]).count();
        assert_eq!(there, 0, "none ended well there");
    }
}
