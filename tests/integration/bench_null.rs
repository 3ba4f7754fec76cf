//! What a million tasks cost the manager, by the program's own figures: messages by ranges and not by tasks, and
//! memory that does not grow with tasks.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A hang is a failure.
const DEADLINE: Duration = Duration::from_secs(120);

/// The figures of `bench null` with these arguments.
fn bench_null(arguments: &[&str]) -> serde_json::Value {
    let mut program = Command::new(env!("CARGO_BIN_EXE_myriarch"))
        .args(["bench", "null", "--json"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let give_up = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = program.try_wait().expect("it can be waited for") {
            break status;
        }
        if Instant::now() > give_up {
            let _ = program.kill();
            panic!("bench null {arguments:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut printed = String::new();
    program.stdout.take().expect("it is piped").read_to_string(&mut printed).expect("it prints text");
    assert!(status.success(), "{status}: {printed}");
    serde_json::from_str(&printed).expect("it prints one JSON object")
}

/// A million tasks on this tree: each ends once, at few messages and little memory.
fn a_million_tasks_are_cheap(arguments: &[&str], levels: u64) {
    let figures = bench_null(&[&["--tasks", "1000000"], arguments].concat());
    let number = |name: &str| figures[name].as_u64().unwrap_or_else(|| panic!("no {name} in {figures}"));
    assert_eq!(number("tasks"), 1_000_000, "{figures}");
    assert_eq!(number("levels"), levels, "{figures}");
    let messages = number("manager_messages");
    // A hello, a report and a good-bye of each child of rank 0 at least: the count counts.
    assert!(messages >= 3, "{figures}");
    assert!(messages * 100 < 1_000_000, "1 message per 100 tasks or more: {figures}");
    assert!(number("resident_bytes") < 100_000_000, "{figures}");
}

#[test]
fn a_million_tasks_cost_the_manager_of_one_node_few_messages_and_little_memory() {
    a_million_tasks_are_cheap(&["--ranks", "8"], 1);
}

#[test]
fn a_million_tasks_cost_the_manager_of_several_nodes_few_messages_and_little_memory() {
    a_million_tasks_are_cheap(&["--ranks", "8", "--ranks-per-node", "2"], 2);
    a_million_tasks_are_cheap(&["--ranks", "16", "--ranks-per-node", "2", "--fan-out", "3"], 3);
}

#[test]
fn few_slots_do_not_cost_more_messages() {
    a_million_tasks_are_cheap(&["--ranks", "4", "--slots", "1"], 1);
}
