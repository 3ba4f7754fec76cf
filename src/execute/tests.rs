//! The executor on real processes: what a task gets, what is kept of it, and that nothing outlives it.

mod lines;

use super::*;
use crate::task::{Captured, Command, Program, Resources, Status};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A hang is a failure.
const DEADLINE: Duration = Duration::from_secs(60);

/// The variable by which a test finds the processes that it is to blame for.
const MARK: &str = "MYRIARCH_TEST_MARK";

/// The variable that tells this test binary to play a rank.
const PLAY_RANK: &str = "MYRIARCH_TEST_PLAY_RANK";

fn command(program: Program) -> Command {
    let resources = Resources::ONE_CORE;
    Command { program, env: Vec::new(), cwd: None, stdin: None, timeout: None, resources, entry: None, label: 0 }
}

fn line(line: impl AsRef<[u8]>) -> Command {
    command(Program::Shell(line.as_ref().to_vec()))
}

fn argv(words: &[&str]) -> Command {
    command(Program::Argv(words.iter().map(|word| word.as_bytes().to_vec()).collect()))
}

fn marked(mut command: Command, mark: &str) -> Command {
    command.env.push((MARK.into(), mark.into()));
    command
}

fn executor_of(slots: &[SlotCores], settings: Settings) -> Executor {
    Executor::new(Spawner::prepare().unwrap(), slots, settings).unwrap()
}

fn executor() -> Executor {
    executor_of(&[None], Settings::default())
}

/// Waits until so many attempts have ended.
fn wait_for(executor: &mut Executor, count: usize) -> Vec<Ended> {
    let (mut ended, mut entries) = (Vec::new(), Vec::new());
    let give_up = Instant::now() + DEADLINE;
    loop {
        executor.poll(&mut ended);
        if ended.len() >= count {
            return ended;
        }
        assert!(Instant::now() < give_up, "{} of {count} attempts ended in time", ended.len());
        entries.clear();
        executor.wait_descriptors(&mut entries);
        sys::poll(&mut entries, Some(sys::until(give_up))).unwrap();
    }
}

fn run(executor: &mut Executor, command: &Command) -> Ended {
    executor.start(&[0], command, 1);
    let mut ended = wait_for(executor, 1);
    assert_eq!(ended.len(), 1);
    ended.remove(0)
}

fn text(captured: &Captured) -> &str {
    assert_eq!(captured.dropped, 0);
    std::str::from_utf8(&captured.bytes).unwrap()
}

/// Processes with this mark in the environment that they were started with; zombies have none.
fn with_mark(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}").into_bytes();
    let has_mark = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|entry| entry == wanted)
    };
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(has_mark).collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < give_up, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A name that no other test and no other run of this test has.
fn new_mark(test: &str) -> String {
    format!("{test}-{}-{:?}", std::process::id(), Instant::now())
}

#[test]
fn a_program_that_cannot_be_started_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let script = script.to_str().unwrap();
    let mut executor = executor();
    let mut why = |command: &Command| match run(&mut executor, command).status {
        Status::NotStarted(why) => why,
        other => panic!("{other}"),
    };
    assert_eq!(why(&argv(&["no-such-program-anywhere"])), "no-such-program-anywhere: no such program on PATH");
    assert_eq!(why(&argv(&["/no/such/program"])), "/no/such/program: No such file or directory");
    assert_eq!(why(&argv(&[script])), format!("{script}: Permission denied"));
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(why(&argv(&[script])), format!("{script}: the interpreter that it names is missing"));
    assert_eq!(why(&argv(&[])), "the command is empty");
    assert_eq!(why(&argv(&[""])), "the command is empty");
    assert_eq!(why(&argv(&["/bin/echo", "a\0b"])), "an argument holds a NUL byte");
    assert_eq!(why(&line(b"echo \0")), "the line holds a NUL byte");
    assert!(why(&argv(&["/bin/echo", &"x".repeat(200_000)])).contains("Argument list too long"));
    assert!(why(&argv(&["/bin/echo", &"x".repeat(wire::MAX_REQUEST_BYTES)])).contains("larger than any system takes"));
    let mut task = argv(&["/bin/true"]);
    task.stdin = Some(b"/no/such/input".to_vec());
    assert_eq!(why(&task), "stdin /no/such/input: No such file or directory");
    task.stdin = None;
    task.cwd = Some(b"/dev/null/x".to_vec());
    assert_eq!(why(&task), "working directory /dev/null/x: Not a directory");
    assert_eq!(run(&mut executor, &argv(&["true"])).status, Status::Ok, "the slot is none the worse");
}

#[test]
fn a_task_finds_its_variables_and_its_own_go_before_the_ranks() {
    let settings = Settings { out_dir: Some("/some/out".into()), first_slot: 40, ..Settings::default() };
    let mut executor = executor_of(&[None, None], settings);
    let mut task = argv(&["/usr/bin/env"]);
    task.label = 17;
    task.entry = Some("the entry =".into());
    task.resources.cores = 2;
    task.env = vec![("A".into(), "1".into()), ("HOME".into(), "/nowhere".into()), ("A".into(), "2".into())];
    executor.start(&[1, 0], &task, 3);
    let ended = wait_for(&mut executor, 1).remove(0);
    assert_eq!(ended.slot, 1);
    let variables: Vec<&str> = text(&ended.stdout).lines().collect();
    let expected = [
        "MYRIARCH_INDEX=17",
        "MYRIARCH_ENTRY=the entry =",
        "MYRIARCH_ATTEMPT=3",
        "MYRIARCH_SLOT=41",
        "MYRIARCH_CORES=2",
        "MYRIARCH_OUT=/some/out",
        "OMP_NUM_THREADS=2",
        "A=2",
        "HOME=/nowhere",
    ];
    for one in expected {
        let name = &one[..=one.find('=').unwrap()];
        let values: Vec<_> = variables.iter().filter(|variable| variable.starts_with(name)).collect();
        assert_eq!(values, [&one]);
    }
    let ended = run(&mut executor, &argv(&["/usr/bin/env"]));
    assert!(!text(&ended.stdout).contains("the entry"), "nothing stays for the next task");
}

#[test]
fn relative_names_mean_the_folder_of_the_run_wherever_the_rank_is() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().canonicalize().unwrap();
    std::fs::write(folder.join("input"), "from the folder").unwrap();
    std::fs::write(folder.join("prog"), "#!/bin/sh\npwd; echo $PWD; cat\n").unwrap();
    std::fs::set_permissions(folder.join("prog"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut executor = executor_of(&[None], Settings { folder: Some(folder.clone()), ..Settings::default() });
    let (shown, below) = (folder.display(), folder.join("made/below"));
    let mut task = argv(&["./prog"]);
    task.stdin = Some(b"input".to_vec());
    assert_eq!(text(&run(&mut executor, &task).stdout), format!("{shown}\n{shown}\nfrom the folder"));
    let mut task = line(b"./prog < input");
    assert_eq!(text(&run(&mut executor, &task).stdout), format!("{shown}\n{shown}\nfrom the folder"));
    task = line(b"pwd; cat ../../input");
    task.cwd = Some(b"made/below".to_vec());
    assert_eq!(text(&run(&mut executor, &task).stdout), format!("{}\nfrom the folder", below.display()));
}

#[test]
fn where_the_folder_of_the_run_is_not_seen_nothing_runs() {
    let settings = Settings { folder: Some("/no/such/folder".into()), ..Settings::default() };
    let ended = run(&mut executor_of(&[None], settings), &argv(&["true"]));
    let why = "the folder of the run, /no/such/folder: No such file or directory";
    assert_eq!(ended.status, Status::NotStarted(why.to_owned()));
}

#[test]
fn a_task_gets_three_descriptors_default_signals_and_a_group_of_its_own() {
    use std::os::fd::AsRawFd;
    // A descriptor of the rank's that would be inherited: dup leaves close-on-exec unset.
    let null = std::fs::File::open("/dev/null").unwrap();
    // SAFETY: dup takes a plain number.
    let inheritable = unsafe { libc::dup(null.as_raw_fd()) };
    assert!(inheritable >= 0);
    let mut executor = executor();
    let ended = run(&mut executor, &argv(&["ls", "/proc/self/fd"]));
    assert_eq!(text(&ended.stdout), "0\n1\n2\n3\n", "the last is the folder that ls reads");
    let status = run(&mut executor, &argv(&["cat", "/proc/self/status"]));
    for kind in ["SigBlk:\t", "SigIgn:\t"] {
        let set = text(&status.stdout).lines().find_map(|line| line.strip_prefix(kind)).unwrap();
        // The C library's own two signals, which it leaves ignored in what it spawns, are nobody's business.
        assert_eq!(u64::from_str_radix(set, 16).unwrap() & !(3 << 31), 0, "{kind}{set}");
    }
    // pid (comm) state ppid pgrp session tty
    let stat = run(&mut executor, &argv(&["cat", "/proc/self/stat"]));
    let fields: Vec<&str> = text(&stat.stdout).split(' ').collect();
    assert_eq!(fields[0], fields[4], "leads its group");
    assert_eq!(fields[6], "0", "no terminal");
    // SAFETY: it was made above, and nothing else uses it.
    unsafe { libc::close(inheritable) };
}

#[test]
fn five_megabytes_on_both_streams_are_kept_to_the_byte() {
    let mut executor = executor();
    let ended = run(&mut executor, &line("seq 1 800000; seq 800000 -1 1 >&2"));
    let numbers = |numbers: &mut dyn Iterator<Item = u32>| numbers.map(|n| format!("{n}\n")).collect::<String>();
    assert!(text(&ended.stdout) == numbers(&mut (1..=800_000)));
    assert!(text(&ended.stderr) == numbers(&mut (1..=800_000).rev()));
    assert_eq!(ended.status, Status::Ok);
}

#[test]
fn a_task_that_prints_more_than_is_kept_ends_well_with_head_and_tail() {
    let settings = Settings { max_output: 1000, ..Settings::default() };
    let mut executor = executor_of(&[None], settings);
    let ended = run(&mut executor, &line("seq 1 300000; echo short >&2"));
    let all: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    let kept = Captured {
        bytes: [&all.as_bytes()[..500], &all.as_bytes()[all.len() - 500..]].concat(),
        head: 500,
        dropped: all.len() as u64 - 1000,
    };
    assert_eq!(ended.stdout, kept);
    assert_eq!(text(&ended.stderr), "short\n");
    assert_eq!(ended.status, Status::Ok);
}

#[test]
fn standard_output_that_is_not_kept_goes_nowhere() {
    let mut executor = executor_of(&[None], Settings { keep_stdout: false, ..Settings::default() });
    let ended = run(&mut executor, &line("echo a; echo b >&2; [ /proc/self/fd/1 -ef /dev/null ] && echo null >&2"));
    assert_eq!((text(&ended.stdout), text(&ended.stderr)), ("", "b\nnull\n"));
}

#[test]
fn a_background_child_holds_neither_task_nor_pipes_and_dies_with_it() {
    let mark = new_mark("background");
    let mut executor = executor();
    let ended = run(&mut executor, &marked(line("sleep 1000 & sleep 1000 & echo started; exit 5"), &mark));
    assert_eq!((ended.status, text(&ended.stdout)), (Status::Exit(5), "started\n"));
    assert_eq!(with_mark(&mark), [0u32; 0]);
}

#[test]
fn a_child_that_never_stops_printing_does_not_hold_the_end_of_its_task() {
    let mark = new_mark("yes");
    let mut executor = executor_of(&[None], Settings { max_output: 100, ..Settings::default() });
    let ended = run(&mut executor, &marked(line("yes & sleep 0.1; exit 1"), &mark));
    assert_eq!(ended.status, Status::Exit(1));
    assert_eq!(with_mark(&mark), [0u32; 0]);
}

#[test]
fn a_daemon_in_a_session_of_its_own_dies_with_its_task() {
    let mark = new_mark("daemon");
    let mut executor = executor();
    // The second one is the child of a process that has ended, and ignores what can be ignored.
    let daemons =
        "setsid sleep 1000 & setsid sh -c 'trap \"\" TERM HUP; (setsid sleep 1000 & ) ; sleep 1000' & sleep 0.2";
    let ended = run(&mut executor, &marked(line(daemons), &mark));
    assert_eq!(ended.status, Status::Ok);
    assert_eq!(with_mark(&mark), [0u32; 0]);
}

#[test]
fn a_time_limit_ends_the_group_and_what_ignores_it() {
    let mark = new_mark("timeout");
    let mut executor = executor_of(&[None], Settings { kill_grace: Duration::from_millis(200), ..Settings::default() });
    let mut task = marked(line("trap '' TERM; setsid sleep 1000 & echo up; while :; do sleep 1000; done"), &mark);
    task.timeout = Some(Duration::from_millis(300));
    let ended = run(&mut executor, &task);
    assert_eq!((ended.status, ended.killed), (Status::Timeout, false));
    assert_eq!(text(&ended.stdout), "up\n");
    assert!(ended.duration_us >= 500_000, "limit and grace have passed: {}", ended.duration_us);
    assert_eq!(with_mark(&mark), [0u32; 0]);
}

#[test]
fn a_task_that_is_told_to_end_may_use_its_grace_even_if_its_shell_does_not() {
    let mut executor = executor();
    // The shell dies of the signal at once; its child takes its time to save something.
    let child = "trap 'sleep 0.3; echo saved; exit' TERM; echo up; while :; do sleep 0.02; done";
    let mut task = line(format!("sh -c {child:?}; true"));
    task.timeout = Some(Duration::from_millis(300));
    let ended = run(&mut executor, &task);
    assert_eq!((ended.status, text(&ended.stdout)), (Status::Timeout, "up\nsaved\n"));
    assert!(ended.duration_us < 4_000_000, "it does not wait for the whole grace time: {}", ended.duration_us);
}

#[test]
fn a_task_within_its_time_limit_is_left_alone() {
    let mut executor = executor();
    let mut task = line("echo a");
    task.timeout = Some(Duration::MAX);
    assert_eq!(run(&mut executor, &task).status, Status::Ok);
    task.timeout = Some(Duration::from_secs(30));
    assert_eq!(run(&mut executor, &task).status, Status::Ok);
}

#[test]
fn a_kill_is_marked_and_the_slot_serves_on() {
    let mark = new_mark("kill");
    let mut executor = executor_of(&[None, None], Settings::default());
    executor.start(&[0], &marked(line("trap 'exit 3' TERM; sleep 1000 & wait"), &mark), 1);
    executor.start(&[1], &marked(line("trap '' TERM; while :; do sleep 1000; done"), &mark), 1);
    // A shell's child that is not yet another program may lose the signal.
    let is_sleep = |pid: u32| std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"sleep\n");
    wait_until("both run", || with_mark(&mark).into_iter().filter(|pid| is_sleep(*pid)).count() == 2);
    executor.kill(0, Duration::from_secs(30));
    executor.kill(1, Duration::ZERO);
    let ended: BTreeMap<u32, Ended> = wait_for(&mut executor, 2).into_iter().map(|end| (end.slot, end)).collect();
    assert_eq!((&ended[&0].status, ended[&0].killed), (&Status::Exit(3), true));
    assert_eq!((&ended[&1].status, ended[&1].killed), (&Status::Signal(9), true));
    assert_eq!(with_mark(&mark), [0u32; 0]);
    executor.kill(0, Duration::ZERO);
    let next = run(&mut executor, &line("echo next"));
    assert_eq!((next.status, next.killed), (Status::Ok, false), "a kill of nothing does not hit what comes next");
}

#[test]
fn the_death_of_a_slot_process_costs_its_task_and_no_more() {
    let mark = new_mark("slot-death");
    let mut executor = executor_of(&[None, None], Settings::default());
    executor.start(&[1], &line("sleep 0.5; echo other"), 1);
    executor.start(&[0], &marked(line("setsid sleep 1000 & sleep 0.1; kill -9 $PPID; sleep 1000"), &mark), 1);
    let ended: BTreeMap<u32, Ended> = wait_for(&mut executor, 2).into_iter().map(|end| (end.slot, end)).collect();
    assert_eq!((&ended[&0].status, ended[&0].crashed), (&Status::Lost, true));
    assert_eq!(text(&ended[&1].stdout), "other\n");
    wait_until("its processes are gone", || with_mark(&mark).is_empty());
    assert_eq!(text(&run(&mut executor, &line("echo anew")).stdout), "anew\n");
    assert!(executor.broken().is_none());
}

#[test]
fn without_its_spawner_an_executor_says_that_it_is_broken() {
    let mut executor = executor_of(&[None, None], Settings::default());
    // A slot process's parent is the spawner.
    let parent = "kill -9 $(sed 's/.*) . \\([0-9]*\\) .*/\\1/' /proc/$PPID/stat); echo killed";
    assert_eq!(text(&run(&mut executor, &line(parent)).stdout), "killed\n");
    assert_eq!(text(&run(&mut executor, &line("echo goes on")).stdout), "goes on\n", "what is there serves on");
    // One that is killed may live on for a moment: what is asked of it then is lost too.
    for _ in 0..3 {
        executor.start(&[1], &line("echo"), 1);
        let ended = wait_for(&mut executor, 1).remove(0);
        assert_eq!((ended.slot, ended.status, ended.crashed), (1, Status::Lost, true));
    }
    assert!(matches!(executor.broken(), Some(ExecuteError::SpawnerGone)));
    executor.shutdown();
}

#[test]
fn the_end_of_the_thread_that_prepared_it_is_not_the_end_of_the_spawner() {
    let spawner = std::thread::spawn(Spawner::prepare).join().unwrap().unwrap();
    let mut executor = Executor::new(spawner, &[None, None], Settings::default()).unwrap();
    for slot in [0, 1] {
        // The second slot process is forked well after that thread has ended.
        executor.start(&[slot], &line("sleep 0.1; echo here"), 1);
        assert_eq!(text(&wait_for(&mut executor, 1)[0].stdout), "here\n");
    }
    assert!(executor.broken().is_none());
}

#[test]
fn shutdown_kills_what_runs() {
    let mark = new_mark("shutdown");
    let mut executor = executor_of(&[None, None], Settings::default());
    executor.start(&[0], &marked(line("trap '' TERM; setsid sleep 1000 & while :; do sleep 1000; done"), &mark), 1);
    wait_until("it runs", || with_mark(&mark).len() >= 3);
    executor.shutdown();
    assert_eq!(with_mark(&mark), [0u32; 0]);
}

/// Plays the rank for `nothing_outlives_a_rank_that_is_killed`, in a process of its own; without its variable no test.
#[test]
fn play_a_rank() {
    let Some(folder) = std::env::var_os(PLAY_RANK) else { return };
    let folder = Path::new(&folder);
    let mut executor = executor_of(&[None, None], Settings::default());
    executor.start(&[0], &line("trap '' TERM HUP; setsid sleep 1000 & while :; do sleep 1000; done"), 1);
    executor.start(&[1], &argv(&["sleep", "1000"]), 1);
    std::fs::write(folder.join("started"), "").unwrap();
    wait_for(&mut executor, 1);
}

#[test]
fn nothing_outlives_a_rank_that_is_killed() {
    let mark = new_mark("rank-death");
    let folder = tempfile::tempdir().unwrap();
    let mut rank = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "execute::tests::play_a_rank", "--nocapture"])
        .env(PLAY_RANK, folder.path())
        .env(MARK, &mark)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The rank, its spawner, two slot processes, a shell, its two children, and a program.
    wait_until("all run", || folder.path().join("started").exists() && with_mark(&mark).len() >= 8);
    rank.kill().unwrap();
    rank.wait().unwrap();
    wait_until("all are gone", || with_mark(&mark).is_empty());
}

#[test]
fn the_working_directory_is_made_and_input_is_read_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("made/for it");
    let mut executor = executor();
    let mut task = line("pwd; echo $PWD");
    task.cwd = Some(inner.to_str().unwrap().into());
    let ended = run(&mut executor, &task);
    assert_eq!(text(&ended.stdout), format!("{0}\n{0}\n", inner.display()));

    std::fs::write(inner.join("input"), "from a file").unwrap();
    task.program = Program::Argv(vec!["cat".into()]);
    task.stdin = Some("input".into());
    assert_eq!(text(&run(&mut executor, &task).stdout), "from a file");
}

#[test]
fn a_wide_task_gets_the_cores_of_all_its_slots() {
    let cores = RankCores::of_this_process();
    let [first, .., last] = cores.mask[..] else { return };
    let mut executor = executor_of(&[Some(vec![first]), Some(vec![last])], Settings::default());
    let mut allowed = |slots: &[u32]| {
        executor.start(slots, &line("taskset -cp $$ | sed 's/.*: //; s/-/,/'"), 1);
        text(&wait_for(&mut executor, 1)[0].stdout).trim().to_owned()
    };
    assert_eq!(allowed(&[1]), last.to_string());
    assert_eq!(allowed(&[0, 1]), format!("{first},{last}"));
    assert_eq!(allowed(&[0]), first.to_string(), "only for that task");
}

#[test]
fn gpus_are_given_to_one_task_at_a_time() {
    let gpus = Gpus { variable: "CUDA_VISIBLE_DEVICES".into(), ids: vec!["4".into(), "6".into()] };
    let mut executor = executor_of(&[None, None, None], Settings { gpus, ..Settings::default() });
    let mut task = line("echo $CUDA_VISIBLE_DEVICES; sleep 0.3");
    task.resources.gpus = 1;
    for slot in 0..3 {
        executor.start(&[slot], &task, 1);
    }
    let ended: BTreeMap<u32, Ended> = wait_for(&mut executor, 3).into_iter().map(|end| (end.slot, end)).collect();
    assert_eq!([text(&ended[&0].stdout), text(&ended[&1].stdout)], ["4\n", "6\n"]);
    assert!(matches!(&ended[&2].status, Status::NotStarted(why) if why.contains("too few GPUs of its worker")));
    task.resources.gpus = 2;
    assert_eq!(text(&run(&mut executor, &task).stdout), "4,6\n");
}

#[test]
fn a_command_larger_than_a_socket_buffer_arrives_whole() {
    let mut executor = executor();
    let mut words = vec!["sh", "-c", "echo $# ${#1} ${#15}", "sh"];
    let word = "x".repeat(100_000);
    words.extend([word.as_str(); 15]);
    assert_eq!(text(&run(&mut executor, &argv(&words)).stdout), "15 100000 100000\n");
}

#[test]
fn hundreds_of_tasks_in_several_slots_each_end_once_with_their_own_output() {
    const TASKS: u64 = 300;
    let mut executor = executor_of(&[None, None, None], Settings::default());
    let task = |index: u64| {
        let mut task = if index.is_multiple_of(2) {
            argv(&["/bin/echo", &index.to_string()])
        } else {
            line(format!("echo {index}; exit 1"))
        };
        task.label = index;
        task
    };
    let mut running: BTreeMap<u32, u64> = BTreeMap::new();
    let mut next = 0;
    let mut done = 0;
    while done < TASKS {
        for slot in 0..3 {
            if next < TASKS && !running.contains_key(&slot) {
                executor.start(&[slot], &task(next), 1);
                running.insert(slot, next);
                next += 1;
            }
        }
        for ended in wait_for(&mut executor, 1) {
            let index = running.remove(&ended.slot).expect("the slot ran a task");
            assert_eq!(text(&ended.stdout), format!("{index}\n"));
            assert_eq!(ended.status, if index.is_multiple_of(2) { Status::Ok } else { Status::Exit(1) });
            done += 1;
        }
    }
}
