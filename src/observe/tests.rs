//! What is printed for typical runs, word for word, under a time that the tests make up.

use super::*;
use crate::fabric::{Launcher, LossSurvival};
use crate::task::FailureGroup;
use std::io::{self, Write};

/// What was written to it, kept for the test.
#[derive(Clone, Default)]
struct Paper(Shared<Vec<u8>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    /// What was written since the last look.
    fn news(&self) -> String {
        String::from_utf8(std::mem::take(&mut *lock(&self.0))).unwrap()
    }
}

fn facts() -> Facts {
    Facts {
        ranks: 4,
        nodes: 2,
        slots: 8,
        cores_used: 8,
        cores_allotted: 16,
        machine_cores: 16,
        tasks: 1_000,
        already_ended: 0,
        put_back: 0,
        dir: "runs/7".into(),
        source: "tasks.txt".into(),
        launcher: Launcher::OpenMpi { recovery: Some(true), oversubscribe: false },
        survival: LossSurvival::Ends("start srun with -K0".into()),
        gives_up: true,
        pinned: true,
    }
}

fn observer(mode: ProgressMode, facts: &Facts) -> (Observer, Paper) {
    let paper = Paper::default();
    (Observer::writing_to(Sink::new(Box::new(paper.clone())), mode, facts, &[]), paper)
}

/// Past its start, in lines.
fn started() -> (Observer, Paper) {
    let (observer, paper) = observer(ProgressMode::Lines, &facts());
    paper.news();
    (observer, paper)
}

const NAMES: Names<'static> = Names {
    label: &|position| position + 100,
    describe: &|position| format!("task {} (tasks.txt:{})", position + 100, position + 1),
    node: &|node| format!("n{node}"),
};

fn at(seconds: f64, ok: u64, failed: u64) -> Snapshot {
    Snapshot {
        ok,
        failed,
        cancelled: 0,
        tasks: 1_000,
        running: 8,
        ended_this_start: ok + failed,
        elapsed: Duration::from_secs_f64(seconds),
        busy_core_seconds: seconds * 8.0 * 0.97,
        draining: None,
        grace_left: None,
    }
}

fn failure(position: u64, status: &str, last_line: &str, count: u64) -> FailureGroup {
    FailureGroup { status: status.into(), last_line: last_line.into(), count, example: position, node: 1 }
}

fn digest(groups: &[FailureGroup]) -> FailureDigest {
    FailureDigest { groups: groups.to_vec(), others: 0 }
}

fn summary(ok: u64, failed: u64, ended_by: EndedBy) -> Summary {
    Summary {
        tasks: 1_000,
        ok,
        failed,
        cancelled: 0,
        unfinished: 1_000 - ok - failed,
        ended_by,
        wall_seconds: 12.34,
        tasks_per_second: 81.2,
        utilisation: 0.971,
        ranks: 4,
        nodes: 2,
        slots: 8,
        exit_status: 0,
        start_seconds: 0.3,
        end_seconds: 0.1,
        manager_messages: 20,
        benched: Vec::new(),
        lost: Vec::new(),
    }
}

#[test]
fn the_start_says_who_takes_part_and_how_to_stop_and_go_on() {
    let (_observer, paper) = observer(ProgressMode::None, &facts());
    assert_eq!(
        paper.news(),
        "myriarch: 4 ranks on 2 nodes, 8 slots, 8 of 16 cores allotted; 1,000 tasks of tasks.txt; runs/7; a \
         lost rank ends it\n\
         myriarch: stop with: myriarch stop runs/7; go on later with: mpiexec --enable-recovery -n 4 myriarch run --resume --out runs/7\n"
    );
    let alone = Facts {
        ranks: 1,
        nodes: 1,
        slots: 1,
        tasks: 1,
        already_ended: 1,
        pinned: false,
        dir: "my runs".into(),
        ..facts()
    };
    let (_observer, paper) = observer(ProgressMode::None, &alone);
    let text = paper.news();
    assert!(text.starts_with(
        "myriarch: 1 rank on 1 node, 1 slot, 8 of 16 cores allotted, not pinned; 1 task of tasks.txt, 1 ended before; my runs\n"
    ));
    assert!(text.contains("myriarch stop 'my runs';"), "{text}");
    let again = Facts { already_ended: 900, put_back: 300, ..facts() };
    let (_observer, paper) = observer(ProgressMode::None, &again);
    assert!(paper.news().contains("of tasks.txt, 900 ended before, of which 300 are put back; runs/7"));
}

#[test]
fn less_than_half_of_the_cores_is_a_warning_that_names_the_missing_option() {
    let third_line = |facts: Facts| observer(ProgressMode::None, &facts).1.news().lines().nth(2).map(str::to_owned);
    let bound =
        |launcher| Facts { ranks: 4, cores_used: 4, cores_allotted: 4, machine_cores: 256, launcher, ..facts() };
    assert_eq!(
        third_line(bound(Launcher::Srun { keeps_going: None, pmix: false })).unwrap(),
        "myriarch: warning: only 4 cores of 256 of the machines are used: give srun -c 64 (srun does not take it over from sbatch)"
    );
    let mpirun = third_line(bound(Launcher::OpenMpi { recovery: None, oversubscribe: false })).unwrap();
    assert!(mpirun.ends_with("give mpirun --bind-to none"), "{mpirun}");
    let aprun = third_line(bound(Launcher::Other("aprun".into()))).unwrap();
    assert!(aprun.ends_with("give aprun -d 64 -cc none"), "{aprun}");
    assert_eq!(third_line(bound(Launcher::None)), None);
    let idle = third_line(Facts { cores_used: 7, ..facts() }).unwrap();
    assert!(idle.contains("only 7 cores of 16 allotted are used: -j"), "{idle}");
    assert_eq!(third_line(Facts { cores_used: 8, ..facts() }), None, "half is no warning");
}

#[test]
fn the_first_line_says_what_becomes_of_the_run_when_a_rank_is_lost() {
    let told = |survival, gives_up| {
        let launcher = Launcher::OpenMpi { recovery: None, oversubscribe: false };
        let lines = Facts { ranks: 4, launcher, survival, gives_up, ..facts() }.lines();
        lines[0].rsplit_once("; ").expect("it has several parts").1.to_owned()
    };
    assert_eq!(told(LossSurvival::Survives, true), "goes on without lost ranks");
    assert_eq!(told(LossSurvival::Survives, false), "waits for lost ranks");
    assert_eq!(told(LossSurvival::Ends("so".into()), true), "a lost rank ends it");
    assert_eq!(told(LossSurvival::Unknown("so".into()), true), "a lost rank may end it");
    let alone = Facts { ranks: 1, ..facts() }.lines();
    assert!(!alone[0].contains("lost"), "{}", alone[0]);
}

#[test]
fn lines_come_sooner_at_first_and_then_once_a_minute() {
    let (mut observer, paper) = started();
    let mut seen = Vec::new();
    for tenth in 0..3_000_u32 {
        observer.update(&at(f64::from(tenth) / 10.0, 0, 0));
        if !paper.news().is_empty() {
            seen.push(tenth / 10);
        }
    }
    assert_eq!(seen, [1, 10, 30, 60, 120, 180, 240]);
    observer.update(&at(1_000.0, 0, 0));
    observer.update(&at(1_059.0, 0, 0));
    assert_eq!(paper.news().lines().count(), 1, "after a pause there is one line, and no catching up");
}

#[test]
fn a_line_says_how_far_how_fast_and_how_long_still() {
    let (mut observer, paper) = started();
    observer.update(&at(5.0, 410, 2));
    assert_eq!(
        paper.news(),
        "myriarch: 412 of 1,000 tasks (41 %), 82 tasks/s, 2 failed, 8 running, 97 % busy, 8 s left\n"
    );
    observer.update(&Snapshot { running: 0, ..at(10.0, 1_000, 0) });
    assert_eq!(paper.news(), "myriarch: 1,000 of 1,000 tasks (100 %), 100 tasks/s, 97 % busy\n");
    let resumed = Snapshot { ended_this_start: 0, ..at(30.0, 900, 0) };
    observer.update(&resumed);
    assert_eq!(paper.news(), "myriarch: 900 of 1,000 tasks (90 %), 8 running\n");
    let (draining, grace_left) = (Some(EndedBy::Walltime), Some(Duration::from_secs(14)));
    observer.update(&Snapshot { draining, grace_left, ..at(60.0, 6, 0) });
    assert_eq!(
        paper.news(),
        "myriarch: 6 of 1,000 tasks (0 %), 6.0 tasks/min, 8 running, stopping, 14 s of grace left\n"
    );
}

#[test]
fn only_the_first_failure_is_told_at_once_and_all_are_grouped() {
    let (mut observer, paper) = started();
    observer.failures(&FailureDigest::default(), &NAMES);
    observer.failures(&digest(&[failure(7, "exit:2", "no \x1b[31minput", 1), failure(8, "exit:3", "", 1)]), &NAMES);
    assert_eq!(
        paper.news(),
        "myriarch: first failure: task 107 (tasks.txt:8) on n1: exit:2\n    no  [31minput\n  \
         its stderr: myriarch output runs/7 --task 107 --stderr\n"
    );
    observer.failures(&digest(&[failure(9, "exit:3", "", 5)]), &NAMES);
    assert_eq!(paper.news(), "");
    assert_eq!(observer.groups().groups.iter().map(|group| group.count).collect::<Vec<_>>(), [1, 6]);
}

#[test]
fn a_task_that_took_its_ranks_along_has_no_standard_error_to_look_at() {
    let (mut observer, paper) = started();
    observer.failures(&digest(&[failure(7, "lost", "", 1)]), &NAMES);
    let said = paper.news();
    assert!(said.contains(": lost\n    the ranks that ran it were lost, each time; --isolate"), "{said}");
    assert!(!said.contains("--stderr"), "{said}");
}

#[test]
fn a_drain_is_one_line() {
    let (mut observer, paper) = started();
    observer.draining(EndedBy::Walltime, Duration::from_secs(20), 12, None);
    observer.draining(EndedBy::Disk, Duration::from_secs(90), 1, None);
    observer.draining(EndedBy::Stop, Duration::ZERO, 2, None);
    observer.draining(EndedBy::Stop, Duration::from_secs(5), 1, Some(Duration::from_secs(20)));
    observer.draining(EndedBy::MaxFails, Duration::from_secs(20), 0, None);
    assert_eq!(
        paper.news(),
        "myriarch: the walltime is near: no new tasks; 12 running ones get 20 s\n\
         myriarch: files cannot be written: no new tasks; 1 running one gets 1 min 30 s\n\
         myriarch: asked to stop: no new tasks; 2 running ones are ended now\n\
         myriarch: asked to stop: no new tasks; 1 running one is waited for, 25 s at most\n\
         myriarch: too many tasks failed: no new tasks; none is running\n"
    );
}

#[test]
fn the_end_of_a_good_run_leads_to_its_outputs() {
    let (mut observer, paper) = started();
    observer.finish(&summary(1_000, 0, EndedBy::Complete), Path::new("runs/7"), &NAMES);
    assert_eq!(
        paper.news(),
        "myriarch: 1,000 tasks: 1,000 ok; 12.3 s, 81 tasks/s, 97 % of slot time busy\n  \
         outputs:      myriarch output runs/7\n"
    );
    let nothing_left = Summary { tasks_per_second: 0.0, ..summary(1_000, 0, EndedBy::Complete) };
    observer.finish(&nothing_left, Path::new("runs/7"), &NAMES);
    assert!(paper.news().starts_with("myriarch: 1,000 tasks: 1,000 ok\n"));
}

#[test]
fn the_end_groups_failures_largest_first_and_says_what_to_do() {
    let (mut observer, paper) = started();
    observer
        .failures(&digest(&[failure(0, "signal:9", "", 1), failure(5, "exit:127", "sh: x: not found", 499)]), &NAMES);
    paper.news();
    observer.finish(&summary(400, 510, EndedBy::Signal), Path::new("runs/7"), &NAMES);
    assert_eq!(
        paper.news(),
        "myriarch: 1,000 tasks: 400 ok, 510 failed, 90 unfinished (stopped by a signal); 12.3 s, 81 tasks/s, 97 % of slot time busy
   499 x exit:127  sh: x: not found  [such as task 105 (tasks.txt:6) on n1]
     1 x signal:9  [task 100 (tasks.txt:1) on n1]
  10 failed in earlier starts
  what failed:  myriarch failed runs/7
  its stderr:   myriarch output runs/7 --task 105 --stderr
  go on:        mpiexec --enable-recovery -n 4 myriarch run --resume --out runs/7
  retry failed: mpiexec --enable-recovery -n 4 myriarch run --resume --retry-failed --out runs/7
  outputs:      myriarch output runs/7
"
    );
}

#[test]
fn the_end_names_nodes_that_are_benched() {
    let (mut observer, paper) = started();
    let benched = |nodes: u32| Summary {
        benched: (1..=nodes).map(|node| format!("n{node}")).collect(),
        ..summary(1_000, 0, EndedBy::Complete)
    };
    observer.finish(&benched(1), Path::new("runs/7"), &NAMES);
    assert!(paper.news().contains("\n  1 node benched, where nearly all failed: n1\n"));
    observer.finish(&benched(12), Path::new("runs/7"), &NAMES);
    assert!(paper.news().contains(
        "\n  12 nodes benched, where nearly all failed: n1, n2, n3, n4, n5, n6, n7, n8, n9, n10 and 2 more\n"
    ));
}

#[test]
fn more_than_ten_groups_are_cut_with_a_count() {
    let (mut observer, paper) = started();
    let groups: Vec<FailureGroup> = (0..15_u8)
        .map(|n| failure(n.into(), "exit:1", &format!("line {}", char::from(b'a' + n)), 20 - u64::from(n)))
        .collect();
    observer.failures(&FailureDigest { groups, others: 5 }, &NAMES);
    paper.news();
    observer.finish(&summary(800, 200, EndedBy::Complete), Path::new("runs/7"), &NAMES);
    let text = paper.news();
    assert_eq!(text.lines().filter(|line| line.contains(" x exit:1")).count(), 10);
    assert!(text.contains("11 x exit:1  line j  [such as task 109"), "{text}");
    assert!(text.contains("\n  and 45 in other ways\n"), "{text}");
}

#[test]
fn a_bar_is_drawn_ten_times_a_second_at_most_and_makes_room_for_messages() {
    let (mut observer, paper) = observer(ProgressMode::Bar, &facts());
    paper.news();
    let drawn: Vec<String> = (0..50_u32)
        .map(|tick| {
            observer.update(&at(5.0 + f64::from(tick) * 0.02, 410 + u64::from(tick), 0));
            paper.news()
        })
        .filter(|text| !text.is_empty())
        .collect();
    assert_eq!(drawn.len(), 10);
    assert!(drawn[0].contains("410/1,000 41 %, 82 tasks/s, 8 running, 8 s left") && drawn[0].contains('━'));
    assert!(drawn.iter().all(|text| !text.contains('\n')));
    observer.note("hello");
    assert_eq!(paper.news(), "\r\x1b[2Kmyriarch: hello\n");
    observer.update(&at(6.0, 500, 0));
    assert!(paper.news().contains("500/1,000"), "the bar comes back");
    observer.update(&at(6.5, 500, 0));
    drop(observer);
    assert!(paper.news().ends_with("\r\x1b[2K"), "and leaves no trace");
}
