//! Owners that come, live, die and are taken over.

use super::super::host::process_start;
use super::super::testing::eventually;
use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

fn quick() -> Patience {
    Patience { stale_after: Duration::from_millis(300), beat_every: Duration::from_millis(20) }
}

fn run_dir() -> (tempfile::TempDir, RunDir) {
    let folder = tempfile::tempdir().unwrap();
    let dir = RunDir::create(Some(&folder.path().join("run"))).unwrap();
    (folder, dir)
}

fn quiet(_: &str) {}

/// The record of an owner that nobody can ask.
fn foreign(generation: u32) -> OwnerRecord {
    let process = ProcessIdentity { boot: "another".into(), ..ProcessIdentity::of_this_process() };
    OwnerRecord { process, host: "far".into(), ..OwnerRecord::of_this_process(generation) }
}

fn put(dir: &RunDir, record: &OwnerRecord) {
    std::fs::write(dir.owner(record.generation), record.to_bytes()).unwrap();
}

fn generation_of(result: Result<Owner, OwnerError>) -> u32 {
    result.unwrap().generation()
}

#[test]
fn of_many_who_try_at_once_exactly_one_wins_each_time() {
    let (_folder, dir) = run_dir();
    for turn in 1..=5 {
        let barrier = std::sync::Barrier::new(8);
        let won: Vec<Owner> = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        Owner::acquire_with(&dir, quick(), quiet)
                    })
                })
                .collect();
            tries.into_iter().filter_map(|t| t.join().unwrap().ok()).collect()
        });
        assert_eq!(won.iter().map(Owner::generation).collect::<Vec<_>>(), [turn]);
    }
}

#[test]
fn a_living_owner_is_named_and_one_that_ended_is_followed_at_once() {
    let (_folder, dir) = run_dir();
    let first = Owner::acquire_with(&dir, quick(), quiet).unwrap();
    let error = Owner::acquire_with(&dir, quick(), quiet).unwrap_err().to_string();
    assert!(error.contains("belongs to a running job") && error.contains(host_name()), "{error}");
    assert!(matches!(OwnerState::look(&dir), Ok(OwnerState::Alive(r)) if r.generation == 1));
    drop(first);
    assert!(matches!(OwnerState::look(&dir), Ok(OwnerState::Released(_))));
    assert_eq!(generation_of(Owner::acquire_with(&dir, quick(), |_| panic!("waited"))), 2);
}

#[test]
fn a_dead_process_of_this_host_is_taken_over_without_waiting() {
    let (_folder, dir) = run_dir();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let pid = child.id();
    let mut record = OwnerRecord::of_this_process(1);
    (record.process.pid, record.process.pid_started) = (pid, process_start(pid).unwrap());
    put(&dir, &record);
    assert!(matches!(Owner::acquire_with(&dir, quick(), quiet), Err(OwnerError::Running { .. })));
    child.kill().unwrap();
    // Even before anybody has waited for it.
    eventually("the process is dead", || process_start(pid).is_none());
    assert_eq!(generation_of(Owner::acquire_with(&dir, quick(), |_| panic!("waited"))), 2);
    child.wait().unwrap();
}

#[test]
fn another_process_with_the_number_of_the_owner_is_not_the_owner() {
    let (_folder, dir) = run_dir();
    let mut record = OwnerRecord::of_this_process(1);
    record.process.pid_started += 1;
    put(&dir, &record);
    assert_eq!(generation_of(Owner::acquire_with(&dir, quick(), quiet)), 2);
}

#[test]
fn an_owner_elsewhere_is_taken_over_once_its_beat_stands_still() {
    let (_folder, dir) = run_dir();
    put(&dir, &foreign(1));
    let mut notices = Vec::new();
    let owner = Owner::acquire_with(&dir, quick(), |what| notices.push(what.to_owned())).unwrap();
    assert_eq!(owner.generation(), 2);
    assert!(notices.len() == 1 && notices[0].contains("far"), "{notices:?}");
}

#[test]
fn an_owner_elsewhere_that_beats_is_left_alone() {
    let (_folder, dir) = run_dir();
    put(&dir, &foreign(1));
    let stop = AtomicBool::new(false);
    let patience = Patience { stale_after: Duration::from_secs(20), ..quick() };
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::options().write(true).open(dir.owner(1)).unwrap();
            let mut record = foreign(1);
            while !stop.load(Ordering::Relaxed) {
                record.beat += 1;
                file.write_all_at(&record.to_bytes(), 0).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let result = Owner::acquire_with(&dir, patience, quiet);
        stop.store(true, Ordering::Relaxed);
        result
    });
    assert!(matches!(result, Err(OwnerError::Running { owner, .. }) if owner.contains("far")));
}

#[test]
fn an_owner_that_was_taken_for_dead_learns_that_it_lost() {
    let (_folder, dir) = run_dir();
    let owner = Owner::acquire_with(&dir, quick(), quiet).unwrap();
    owner.check().unwrap();
    put(&dir, &foreign(2));
    owner.beat();
    eventually("it learns", || owner.check().is_err());
    let before = std::fs::read(dir.owner(1)).unwrap();
    drop(owner);
    assert_eq!(std::fs::read(dir.owner(1)).unwrap(), before, "it writes no more");
}

#[test]
fn a_record_that_cannot_be_read_is_waited_for_and_then_followed() {
    let (_folder, dir) = run_dir();
    std::fs::write(dir.owner(3), b"").unwrap();
    assert_eq!(generation_of(Owner::acquire_with(&dir, quick(), quiet)), 4);
}

#[test]
fn records_of_long_ago_are_taken_away() {
    let (_folder, dir) = run_dir();
    for _ in 0..10 {
        drop(Owner::acquire_with(&dir, quick(), quiet).unwrap());
    }
    assert_eq!(dir.owner_generations().unwrap(), [7, 8, 9, 10]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4, "no temporary file is left");
}

/// Names the folder to a process that tries to own it.
const CONTENDER: &str = "MYRIARCH_TEST_CONTENDER";

/// Not a test of its own: what the processes of the next test run.
#[test]
fn contender() {
    let Some(path) = std::env::var_os(CONTENDER) else { return };
    let dir = RunDir::create(Some(Path::new(&path))).or_else(|_| RunDir::open(Path::new(&path))).unwrap();
    // All wait for the word to go.
    let mut word = String::new();
    io::stdin().read_line(&mut word).unwrap();
    let owner = Owner::acquire_with(&dir, quick(), quiet);
    println!("\ncontender: {}", owner.as_ref().map_or("lost", |_| "won"));
    // Held until the other end goes away.
    io::stdin().read_line(&mut word).unwrap();
}

fn contend(dir: &RunDir) -> (Vec<Child>, usize) {
    let mut children: Vec<Child> = (0..4)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "ledger::owner::tests::contender", "--nocapture"])
                .env(CONTENDER, dir.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in &mut children {
        child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }
    let mut winner = None;
    for (at, child) in children.iter_mut().enumerate() {
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
        let said = lines.into_iter().find(|line| line.starts_with("contender: ")).unwrap();
        if said == "contender: won" {
            assert_eq!(winner.replace(at), None, "two owners");
        }
    }
    (children, winner.expect("no owner"))
}

#[test]
fn of_many_processes_one_wins_and_when_it_is_killed_another_follows() {
    let (_folder, dir) = run_dir();
    for generation in 1..=3 {
        let (mut children, winner) = contend(&dir);
        assert_eq!(newest(&dir).unwrap().unwrap().generation, generation);
        for (at, child) in children.iter_mut().enumerate() {
            if at == winner {
                child.kill().unwrap();
            }
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}

#[test]
fn silence_is_measured_by_the_files_and_ends_with_an_owner_that_gave_the_folder_back() {
    let (_folder, dir) = run_dir();
    let ago = |generation, seconds| {
        let file = File::options().write(true).open(dir.owner(generation)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    };
    for generation in 1..=3 {
        put(&dir, &foreign(generation));
        ago(generation, 100 - 10 * u64::from(generation));
    }
    put(&dir, &OwnerRecord { released: true, ..foreign(4) });
    let owner = Owner::acquire_with(&dir, quick(), quiet).unwrap();
    assert_eq!(owner.generation(), 5);
    let silence = |generation| owner.silence_of(generation).unwrap().map(|time| time.as_secs());
    let about = |seconds: u64| seconds - 4..seconds + 4;
    assert!(about(80).contains(&silence(2).unwrap()));
    assert_eq!(silence(4), None);
    // Taken away by now: no longer than that of the next.
    assert!(!dir.owner(1).exists() && about(80).contains(&silence(1).unwrap()));
    // A clock that was put back.
    let file = File::options().write(true).open(dir.owner(3)).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(100)).unwrap();
    assert_eq!(silence(3), Some(0));
}
