//! Arguments in, one checked value or one clear message out.

use super::*;
use crate::execute::functions::{Calls, Function, FunctionSlots};
use crate::task::{IndexRange, write_bundle};
use clap::{CommandFactory, FromArgMatches, Parser};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

#[derive(Debug, Parser)]
struct Probe {
    #[command(flatten)]
    run: RunArgs,
}

fn check(line: &[&str]) -> Result<RunOptions, String> {
    let parse = || {
        let matches = Probe::command().try_get_matches_from([&["run"], line].concat())?;
        let mut probe = Probe::from_arg_matches(&matches)?;
        probe.run.note_said(&matches);
        Ok(probe)
    };
    let probe = parse().map_err(|error: clap::Error| error.to_string())?;
    probe.run.check().map_err(|error| error.to_string())
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[test]
fn defaults_are_those_of_the_help() {
    let options = check(&["tasks.txt"]).unwrap();
    assert_eq!(options.source, Some(Source::Lines(Input::File(b"tasks.txt".to_vec()))));
    assert_eq!(options.defaults, TemplateOptions::default());
    assert_eq!((options.crash_limit, options.fan_out, options.max_output), (5, 128, 64 << 20));
    assert_eq!((options.grace, options.sync), (Duration::from_secs(20), Duration::from_secs(1)));
    assert_eq!((options.progress, options.keep_stdout, options.pin), (ProgressMode::Auto, KeepStdout::All, Pin::Core));
    assert_eq!((options.out, options.walltime, options.max_fails, options.ranks), (None, None, None, None));
}

#[test]
fn each_source_is_told_from_its_options() {
    let source = |line: &[&str]| check(line).unwrap().source.unwrap();
    assert_eq!(source(&["-"]), Source::Lines(Input::Stdin));
    assert_eq!(source(&["a/t.jsonl"]), Source::Json(Input::File(b"a/t.jsonl".to_vec())));
    assert_eq!(source(&["-", "--format", "json"]), Source::Json(Input::Stdin));
    assert_eq!(source(&["t.jsonl", "--format", "lines"]), Source::Lines(Input::File(b"t.jsonl".to_vec())));
    let command = words(&["./sim", "--seed", "{}"]);
    let array = |first, last, step| Source::Array { first, last, step, command: command.clone() };
    assert_eq!(source(&["--array", "5-9", "--", "./sim", "--seed", "{}"]), array(5, 9, 1));
    assert_eq!(source(&["--array", "0-9:3", "--", "./sim", "--seed", "{}"]), array(0, 9, 3));
    assert_eq!(source(&["--array", "7", "--", "./sim", "--seed", "{}"]), array(7, 7, 1));
    assert_eq!(
        source(&["--each-line", "-", "-0", "--", "p"]),
        Source::EachLine { input: Input::Stdin, nul_separated: true, command: words(&["p"]) }
    );
    assert_eq!(
        source(&["--grid", "a=1,2", "--grid", "b=0:1", "--", "p"]),
        Source::Grid { axes: words(&["a=1,2", "b=0:1"]), command: words(&["p"]) }
    );
    assert_eq!(
        source(&["--table", "t.csv", "--", "p"]),
        Source::Table { input: Input::File(b"t.csv".to_vec()), command: words(&["p"]) }
    );
    assert_eq!(check(&["--resume", "--out", "D"]).unwrap().source, None);
}

#[test]
fn every_option_reaches_its_place_and_survives_the_way_to_other_ranks() {
    let options = check(&[
        "t.txt",
        "--out",
        "D",
        "--resume",
        "--retry-failed",
        "--retries",
        "2",
        "--crash-limit",
        "3",
        "--timeout",
        "30s",
        "--walltime",
        "2:00:00",
        "--grace",
        "5",
        "--max-fails",
        "2.5%",
        "--cpus",
        "4",
        "--gpus",
        "1",
        "-j",
        "8",
        "--max-running",
        "99",
        "--cwd",
        "d-{}",
        "--env",
        "A=b=c",
        "--env",
        "E=",
        "--stdin",
        "f",
        "--name",
        "n",
        "--print",
        "--progress",
        "lines",
        "--stdout",
        "failed",
        "--max-output",
        "1K",
        "--sync",
        "0",
        "--pin",
        "numa",
        "--ranks-per-node",
        "2",
        "--dedicated-manager",
        "--fan-out",
        "3",
        "--ranks",
        "6",
        "-I",
        "@",
    ])
    .unwrap();
    let env = vec![(b"A".to_vec(), b"b=c".to_vec()), (b"E".to_vec(), Vec::new())];
    assert_eq!((options.defaults.cores, options.defaults.gpus, options.defaults.retries), (Some(4), Some(1), 2));
    assert_eq!((&options.defaults.env, options.defaults.timeout), (&env, Some(Duration::from_secs(30))));
    assert_eq!((options.walltime, options.grace), (Some(Duration::from_secs(7200)), Duration::from_secs(5)));
    assert_eq!((options.max_fails, options.max_output), (Some(MaxFails::Percent(2.5)), 1024));
    assert_eq!((options.sync, options.fan_out, options.ranks), (Duration::ZERO, 3, Some(6)));
    let wire = postcard::to_stdvec(&options).unwrap();
    assert_eq!(postcard::from_bytes::<RunOptions>(&wire).unwrap(), options);
    let mut odd = options;
    odd.out = Some(PathBuf::from(OsStr::from_bytes(b"caf\xe9")));
    let text = serde_json::to_string(&odd).unwrap();
    assert_eq!(serde_json::from_str::<RunOptions>(&text).unwrap(), odd);
}

#[test]
fn bad_usage_is_named_with_a_way_out() {
    for (line, part) in [
        (&[][..], "which tasks?"),
        (&["t", "--array", "0-9", "--", "p"], "given are a task list and --array"),
        (&["t", "--", "p"], "(did you mean --each-line t?)"),
        (&["--", "p"], "needs --array, --each-line, --grid or --table"),
        (&["--array", "0-9"], "--array needs the command"),
        (&["--array", "9-0", "--", "p"], "--array: the range 9-0 runs backwards (did you mean 0-9?)"),
        (&["--array", "0-9:0", "--", "p"], "the step must be at least 1"),
        (&["--array", "0-9%5", "--", "p"], "did you mean --array 0-9 --max-running N?"),
        (&["--array", "1,2", "--", "p"], "did you mean --grid i=1,2 and {i}?"),
        (&["--array", "-5-5", "--", "p"], "for '--array <RANGE>': negative numbers are not possible"),
        (&["--array", "-5--1", "--", "p"], "negative numbers are not possible"),
        (&["--array", "--out", "D", "--", "p"], "a range such as 0-999 is missing"),
        (&["--array", "--", "p"], "a range such as 0-999 is missing"),
        (&["--array", "+1-2", "--", "p"], "\"+1-2\" is no range"),
        (&["--array", "0-99999999999999999999", "--", "p"], "is no range"),
        (&["--grid", "a=3:1", "--", "p"], "--grid: the range \"3:1\" runs backwards"),
        (&["t", "--env", "A"], "--env: \"A\" is not NAME=VALUE"),
        (&["t", "--env", "=A"], "is no name for a variable"),
        (&["t", "--cores", "0"], "--cores"),
        (&["t", "--timeout", "5x"], "\"5x\" is no length of time"),
        (&["t", "--timeout", "0"], "longer than zero"),
        (&["t", "--max-fails", "0"], "write a number of tasks from 1 on"),
        (&["t", "--max-fails", "101%"], "write a number of tasks from 1 on"),
        (&["t", "--max-output", "1X"], "write bytes, or a size"),
        (&["t", "--fan-out", "1"], "--fan-out"),
        (&["t", "-0"], "--each-line"),
        (&["t", "--retry-failed"], "--resume"),
        (&["t", "--resume-now"], "--resume"),
        (&["t", "--timout", "5"], "--timeout"),
        (&["t", "--retry"], "--retries <N>"),
        (&["t", "-I", ""], "-I"),
    ] {
        let message = check(line).unwrap_err();
        assert!(message.contains(part), "{line:?}: {message}");
    }
}

#[test]
fn sizes_and_shares_are_read_as_people_mean_them() {
    for (text, bytes) in
        [("0", 0), ("12", 12), ("1k", 1024), ("2MiB", 2 << 20), ("1GB", 1_000_000_000), ("3 T", 3 << 40)]
    {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    for text in ["", "k", "-1", "1.5M", "99999999999T", "1kk"] {
        assert!(parse_size(text).is_err(), "{text}");
    }
    assert_eq!(MaxFails::Percent(5.0).limit(20_000), 1000);
    assert_eq!(MaxFails::Percent(0.1).limit(10), 1);
    assert_eq!(MaxFails::Count(7).limit(3), 7);
}

#[test]
fn the_help_has_groups_and_ends_with_examples() {
    let help = <Probe as clap::CommandFactory>::command().render_long_help().to_string();
    for part in ["Tasks:", "What each task gets:", "Failures and the end:", "Ranks and slots:", "Examples:", "--cpus"] {
        assert!(help.contains(part), "{part}\n{help}");
    }
    assert!(help.trim_end().ends_with("(go on with --resume)."));
}

fn bundle_of(line: &[&str]) -> crate::task::Bundle {
    let folder = tempfile::tempdir().unwrap();
    let options = check(line).unwrap();
    write_bundle(&options.source.unwrap(), &options.defaults, &folder.path().join("bundle")).unwrap().bundle
}

#[test]
fn a_dry_run_shows_both_ends_and_what_is_not_found() {
    let shown = dry_run(&bundle_of(&["--array", "5-104", "--", "./no-such-sim", "a b", "{}"]));
    assert_eq!((shown.count, shown.first.len(), shown.last.len(), shown.looked_at), (100, 3, 3, 100));
    assert_eq!((shown.first[0].label, shown.last[2].label), (5, 104));
    assert_eq!(shown.last[2].text, "./no-such-sim 'a b' 104");
    let missing = &shown.missing[0];
    assert_eq!((missing.program.as_str(), missing.tasks, missing.label), ("./no-such-sim", 100, 5));
    let text = shown.to_string();
    assert!(text.starts_with("100 tasks from --array 5-104\n  5  ./no-such-sim 'a b' 5\n"), "{text}");
    assert!(text.contains("  …\n  102  "), "{text}");
    assert!(
        text.ends_with("program not found here: ./no-such-sim (100 of 100 tasks looked at, such as 5)\n"),
        "{text}"
    );
}

#[test]
fn a_dry_run_looks_only_where_the_program_is_plain() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("tasks.txt");
    std::fs::write(
        &list,
        "sh -c true\nno-such-program | cat\ncd x; no\nA=b no\n\"no\" x\nif no; then :; fi\nno() { :; }\n",
    )
    .unwrap();
    let shown = dry_run(&bundle_of(&[&list.to_string_lossy()]));
    let missing: Vec<_> = shown.missing.iter().map(|missing| (missing.program.as_str(), missing.line)).collect();
    assert_eq!(missing, [("no-such-program", Some(2))]);
    let huge = dry_run(&bundle_of(&["--array", "0-999999999999", "--", "sh", "{}"]));
    assert_eq!((huge.looked_at, huge.missing.len()), (10_000, 0));
    let one = dry_run(&bundle_of(&["--array", "3", "--cores", "2", "--", "sh", "{}"]));
    assert_eq!((one.first.len(), one.last.len()), (1, 0));
    assert_eq!(
        one.to_string(),
        "1 task from --array 3-3, up to 2 cores and 0 GPUs each\n  3  OMP_NUM_THREADS=2 sh 3\n"
    );
}

#[test]
fn names_from_other_programs_are_taken() {
    let options = check(&["t", "--jobs", "3", "--retry", "2"]).unwrap();
    assert_eq!((options.slots_per_node, options.defaults.retries), (Some(3), 2));
    assert!(options.said.contains(&"slots_per_node".to_owned()), "{:?}", options.said);
}

#[test]
fn a_panic_inside_of_a_function_is_said_and_ends_nothing_but_its_task() {
    static SAID: AtomicU32 = AtomicU32::new(0);
    let folder = tempfile::tempdir().unwrap();
    let options = check(&["--array", "0-1", "--call", "builtin:noop"]).unwrap();
    let written = write_bundle(&options.source.unwrap(), &options.defaults, &folder.path().join("bundle")).unwrap();
    let function: Function = Arc::new(|call| panic!("no luck with {}", call.index));
    let mut slots = FunctionSlots::new(&[None], 0, Recording::All, None).unwrap();
    std::panic::set_hook(Box::new(|_| {
        SAID.fetch_add(1, Ordering::Relaxed);
    }));
    start::end_with_panics();
    let calls = Calls { bundle: Arc::new(written.bundle), base: 0, first: 0, functions: Arc::new([function]) };
    slots.start(&[0], Arc::new(calls), IndexRange::new(0, 2), 1);
    let (deadline, mut ended) = (Instant::now() + Duration::from_secs(30), Vec::new());
    while ended.is_empty() && Instant::now() < deadline {
        slots.poll(&mut ended);
        std::thread::sleep(Duration::from_millis(1));
    }
    // The default one again.
    drop(std::panic::take_hook());
    slots.shutdown();
    let failed: Vec<_> = ended[0].failed.iter().map(|failed| failed.status.to_string()).collect();
    assert_eq!(failed, ["panic: no luck with 0", "panic: no luck with 1"]);
    assert_eq!(SAID.load(Ordering::Relaxed), 2);
}
