//! Sessions with a DIR, on ranks that are threads: left early, and gone on with.

use super::*;
use crate::ledger::{Reader, RunDir, StopRequest, Summary};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// A hang is a failure.
const DEADLINE: Duration = Duration::from_secs(60);

fn within_deadline<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || done.send(test()));
    match ended.recv_timeout(DEADLINE) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the session hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the session panicked"),
    }
}

/// A folder for a session that is begun and gone on with, on three ranks of two nodes.
struct World {
    folder: tempfile::TempDir,
    program: Program,
    square: TaskFunction<u64, u64>,
    odd: TaskFunction<u64, u64>,
    calls: Arc<AtomicU64>,
    is_mended: Arc<AtomicU64>,
}

impl World {
    fn new() -> Self {
        let (calls, is_mended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut program = Program::new();
        let counted = calls.clone();
        let square = program.function("square", move |_, x: u64| {
            counted.fetch_add(1, Ordering::SeqCst);
            x * x
        });
        let (counted, mended) = (calls.clone(), is_mended.clone());
        let odd = program.fallible("odd", move |_, x: u64| {
            counted.fetch_add(1, Ordering::SeqCst);
            if x % 2 == 1 || mended.load(Ordering::SeqCst) == 1 { Ok(x) } else { Err("even") }
        });
        Self { folder: tempfile::tempdir().unwrap(), program, square, odd, calls, is_mended }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("session")
    }

    fn settings(&self) -> Settings {
        Settings {
            slots_per_node: Some(2),
            ranks_per_node: Some(2),
            fan_out: 2,
            pin: Pin::None,
            dir: Some(self.path()),
            resume: true,
            ..Settings::default()
        }
    }

    fn enter<T>(&self, main: impl FnOnce(&Session) -> T) -> T {
        self.enter_with(&self.settings(), main).unwrap()
    }

    fn enter_with<T>(&self, settings: &Settings, main: impl FnOnce(&Session) -> T) -> Result<T, EnterError> {
        self.program.on_threads(3, settings, main)
    }

    /// Calls since the last time that it was asked for.
    fn calls(&self) -> u64 {
        self.calls.swap(0, Ordering::SeqCst)
    }

    fn counts(&self) -> (u64, Counts) {
        let reader = Reader::open(&RunDir::open(&self.path()).unwrap()).unwrap();
        (reader.tasks(), reader.counts())
    }
}

/// All outcomes of a bundle: statuses by index, each once.
fn taken<A, V>(bundle: &mut Bundle<'_, A, V>) -> BTreeMap<u64, String> {
    let mut all = BTreeMap::new();
    while let Some(outcome) = bundle.next().unwrap() {
        let status = outcome.status().to_string();
        assert_eq!(all.insert(outcome.index(), status), None, "{} twice", outcome.index());
    }
    all
}

fn files(path: &Path) -> Vec<String> {
    let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn what_has_ended_is_told_again_and_does_not_run_again() {
    within_deadline(|| {
        let world = World::new();
        let play = |session: &Session| {
            let mut squares = session.map(&world.square, 0..10_000).unwrap();
            let mut array = session.array(&world.square, 100..5_100, &3).unwrap();
            let mut values = BTreeMap::new();
            while let Some(outcome) = squares.next().unwrap() {
                values.insert(outcome.index(), outcome.value().unwrap());
                assert!(session.node_name(outcome.node()).contains('/'), "{}", session.node_name(outcome.node()));
            }
            assert!(values.iter().all(|(index, value)| index * index == *value) && values.len() == 10_000);
            let all = taken(&mut array);
            assert_eq!((all.len(), all.keys().next(), all.keys().last()), (5_000, Some(&100), Some(&5_099)));
            assert_eq!(session.call(&world.square, &12).unwrap(), 144);
        };
        world.enter(play);
        assert_eq!(world.calls(), 15_001);
        for _ in 0..2 {
            world.enter(play);
            assert_eq!(world.calls(), 0, "all of it lay there");
        }
        world.enter(|session| {
            play(session);
            assert_eq!(session.call(&world.square, &5).unwrap(), 25, "more may come");
        });
        assert_eq!(world.calls(), 1);
        assert_eq!(world.counts(), (15_002, Counts { ok: 15_002, ..Counts::default() }));
        let summary = Summary::read(&RunDir::open(&world.path()).unwrap()).unwrap().expect("there is one");
        assert_eq!((summary.tasks, summary.unfinished, summary.exit_status), (15_002, 0, 0));
        let names = files(&world.path());
        assert!(
            ["session.json", "summary.json", "progress.json", "parts.1", "parts.4", "journal.4"]
                .iter()
                .all(|name| names.iter().any(|known| known == name)),
            "{names:?}"
        );
    });
}

#[test]
fn what_was_left_runs_at_once_and_is_told_when_it_is_submitted_again() {
    within_deadline(|| {
        let world = World::new();
        let (go, wait) = crossbeam_channel::unbounded::<()>();
        let mut program = world.program.clone();
        let calls = world.calls.clone();
        let hold = program.function("hold", move |_, x: u64| {
            let _ = wait.recv_timeout(DEADLINE);
            calls.fetch_add(1, Ordering::SeqCst);
            x
        });
        let settings = world.settings();
        program
            .on_threads(3, &settings, |session| {
                let mut bundle = session.map(&hold, 0..500).unwrap();
                (0..100).for_each(|_| go.send(()).unwrap());
                let mut taken = 0;
                while taken < 80 {
                    taken += u64::from(bundle.next().unwrap().is_some());
                }
                // Those that run go on to their end.
                (0..50).for_each(|_| go.send(()).unwrap());
            })
            .unwrap();
        let (tasks, before) = world.counts();
        assert!(tasks == 500 && before.ok >= 100 && before.ok < 500, "{before:?} of {tasks}");
        (0..1_000).for_each(|_| go.send(()).unwrap());
        program
            .on_threads(3, &settings, |session| {
                let deadline = Instant::now() + DEADLINE;
                while world.counts().1.ok < 500 {
                    assert!(Instant::now() < deadline, "what was left does not run");
                    session.progress().unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
                let mut bundle = session.open(&hold).unwrap();
                assert!(bundle.next().unwrap().is_none(), "nothing was submitted yet");
                bundle.submit(&0).unwrap();
                assert_eq!(bundle.next().unwrap().map(|outcome| outcome.index()), Some(0));
                assert!(bundle.next().unwrap().is_none());
                (1..600).for_each(|n| assert_eq!(bundle.submit(&n).unwrap(), n));
                assert_eq!(taken(&mut bundle).len(), 599);
                assert_eq!(bundle.wait().unwrap().ok, 600);
            })
            .unwrap();
        assert_eq!(world.calls(), 600, "each ran once");
    });
}

#[test]
fn another_task_than_before_is_refused_by_bundle_and_number() {
    within_deadline(|| {
        let world = World::new();
        world.enter(|session| {
            session.map(&world.square, 0..100).unwrap().wait().unwrap();
            session.array(&world.square, 10..20, &1).unwrap().wait().unwrap();
        });
        let differs = |error: SessionError, bundle: usize, task: u64| {
            assert!(
                matches!(error, SessionError::Differs { bundle: b, task: t } if (b, t) == (bundle, task)),
                "{error}"
            );
        };
        world.enter(|session| {
            let mut bundle = session.open(&world.square).unwrap();
            (0..50).for_each(|n| assert_eq!(bundle.submit(&n).unwrap(), n));
            differs(bundle.submit(&51).unwrap_err(), 0, 50);
            assert_eq!(bundle.submit(&50).unwrap(), 50, "the right one is taken all the same");
            differs(session.array(&world.square, 11..21, &1).map(drop).unwrap_err(), 1, 11);
        });
        world.enter(|session| {
            let mut bundle = session.open(&world.odd).unwrap();
            differs(bundle.submit(&0).unwrap_err(), 0, 0);
            differs(session.array(&world.square, 10..20, &2).map(drop).unwrap_err(), 1, 10);
        });
        world.enter(|session| {
            let options = TaskOptions { retries: 1, ..TaskOptions::default() };
            let mut bundle = session.open_with(&world.square, options).unwrap();
            differs(bundle.submit(&0).unwrap_err(), 0, 0);
            let mut bundle = session.open(&world.square).unwrap();
            differs(bundle.submit(&0).unwrap_err(), 1, 0);
        });
    });
}

#[test]
fn failed_tasks_stay_failed_until_they_are_put_back() {
    within_deadline(|| {
        let world = World::new();
        let play = |session: &Session| taken(&mut session.map(&world.odd, 0..200).unwrap());
        let first = world.enter(play);
        assert_eq!(first.values().filter(|status| *status == "exit:1").count(), 100);
        world.is_mended.store(1, Ordering::SeqCst);
        assert_eq!((world.calls(), world.enter(play), world.calls()), (200, first, 0));
        let failed = std::fs::read_to_string(world.path().join("failed.jsonl")).unwrap();
        assert_eq!(failed.lines().count(), 100);
        assert!(failed.contains(r#""call":"odd""#) && failed.contains(r#""bundle":0"#), "{failed}");
        for ran in [100, 0] {
            let again = world.enter_with(&Settings { retry_failed: true, ..world.settings() }, play).unwrap();
            assert_eq!((again.len(), world.calls()), (200, ran));
            assert!(again.values().all(|status| status == "ok"));
        }
        assert_eq!(world.counts(), (200, Counts { ok: 200, ..Counts::default() }));
    });
}

#[test]
fn a_folder_that_cannot_be_taken_is_told_on_all_ranks() {
    within_deadline(|| {
        let world = World::new();
        let fresh = Settings { resume: false, ..world.settings() };
        world.enter_with(&fresh, |session| session.call(&world.square, &2).unwrap()).unwrap();
        let refused = |settings: &Settings| world.enter_with(settings, |_| ()).unwrap_err().to_string();
        assert!(
            refused(&fresh)
                .ends_with("holds a session already: go on with it by the option `resume`, or give another DIR")
        );
        let of_the_command = world.folder.path().join("run");
        std::fs::create_dir(&of_the_command).unwrap();
        std::fs::write(of_the_command.join("bundle"), "").unwrap();
        let told = refused(&Settings { dir: Some(of_the_command), ..world.settings() });
        assert!(told.contains("holds a run of the command, no session"), "{told}");
        let unfit = world.folder.path().join("unfit");
        let dedicated = Settings { dedicated_manager: true, dir: Some(unfit.clone()), ..world.settings() };
        let error = world.program.on_threads(1, &dedicated, |_| ()).unwrap_err();
        assert!(matches!(error, EnterError::Unfit(_)) && !unfit.exists(), "{error}");
        world.enter(|_| {
            let told = refused(&world.settings());
            assert!(told.contains("belongs to") || told.contains("running"), "{told}");
        });
    });
}

#[test]
fn a_session_that_is_asked_to_stop_says_so_and_can_be_gone_on_with() {
    within_deadline(|| {
        let world = World::new();
        let mut program = world.program.clone();
        let slow = program.function("slow", |_, _: u64| std::thread::sleep(Duration::from_millis(2)));
        let settings = world.settings();
        program
            .on_threads(3, &settings, |session| {
                let mut bundle = session.map(&slow, 0..100_000).unwrap();
                RunDir::open(&world.path()).unwrap().request_stop(StopRequest::WithGrace, "a test").unwrap();
                let error = loop {
                    match bundle.next() {
                        Ok(outcome) => assert!(outcome.is_some(), "it has not ended"),
                        Err(error) => break error,
                    }
                };
                assert!(matches!(error, SessionError::Stopped), "{error}");
                assert!(matches!(bundle.submit(&1), Err(SessionError::Closed)));
                assert!(matches!(session.call(&slow, &1), Err(CallError::Session(SessionError::Stopped))));
                assert!(matches!(session.progress(), Err(SessionError::Stopped)));
            })
            .unwrap();
        let summary = Summary::read(&RunDir::open(&world.path()).unwrap()).unwrap().expect("there is one");
        assert_eq!((summary.ended_by, summary.exit_status), (crate::task::EndedBy::Stop, 3));
        assert!(summary.ok > 0 && summary.unfinished > 0, "{summary:?}");
        program
            .on_threads(3, &settings, |session| {
                let mut bundle = session.open(&slow).unwrap();
                (0..100).for_each(|n| assert_eq!(bundle.submit(&n).unwrap(), n));
                assert_eq!(taken(&mut bundle).len(), 100);
            })
            .unwrap();
    });
}

#[test]
fn outcomes_that_nobody_takes_wait_in_the_folder_and_stop_nothing() {
    within_deadline(|| {
        let mut world = World::new();
        let large = world.program.function("large", |_, _: u64| vec![0u8; 50_000]);
        let settings = Settings { max_unread_bytes: 1 << 20, sync: Duration::ZERO, ..world.settings() };
        let play = |session: &Session| {
            let mut unread = session.map(&large, 0..200).unwrap();
            assert_eq!(unread.wait().unwrap().ok, 200);
            assert_eq!(session.call(&large, &0).unwrap().len(), 50_000);
            assert_eq!(taken(&mut unread).len(), 200);
        };
        world.enter_with(&settings, play).unwrap();
        world.enter_with(&settings, play).unwrap();
    });
}

#[test]
fn what_is_told_is_written_already() {
    within_deadline(|| {
        let world = World::new();
        for sync in [Duration::ZERO, Duration::from_secs(3_600)] {
            let settings =
                Settings { sync, dir: Some(world.folder.path().join(format!("{sync:?}"))), ..world.settings() };
            let counted = |session: &Session, n: u64| {
                assert_eq!(session.call(&world.square, &n).unwrap(), n * n);
                let reader = Reader::open(&RunDir::open(settings.dir.as_ref().unwrap()).unwrap()).unwrap();
                (reader.tasks(), reader.counts().ok)
            };
            let main = |session: &Session| (0..50).for_each(|n| assert_eq!(counted(session, n), (n + 1, n + 1)));
            world.enter_with(&settings, main).unwrap();
        }
    });
}

#[test]
fn what_was_cancelled_stays_cancelled() {
    within_deadline(|| {
        let world = World::new();
        let (go, wait) = crossbeam_channel::unbounded::<()>();
        let mut program = world.program.clone();
        let calls = world.calls.clone();
        let hold = program.function("hold", move |_, _: u64| {
            let _ = wait.recv_timeout(DEADLINE);
            calls.fetch_add(1, Ordering::SeqCst);
        });
        let play = |session: &Session| {
            let mut bundle = session.map(&hold, 0..1_000).unwrap();
            bundle.cancel(500..1_000).unwrap();
            (0..1_000).for_each(|_| go.send(()).unwrap());
            let counts = bundle.wait().unwrap();
            assert!(counts.cancelled > 0 && counts.ended() == 1_000, "{counts:?}");
            (counts, taken(&mut bundle))
        };
        let first = program.on_threads(3, &world.settings(), play).unwrap();
        assert_eq!(world.calls(), first.0.ok);
        let again = program.on_threads(3, &world.settings(), play).unwrap();
        assert!(again == first && world.calls() == 0);
    });
}

#[test]
fn a_folder_that_cannot_be_written_ends_the_session_with_the_reason() {
    within_deadline(|| {
        let world = World::new();
        // What the first start wants to write its parts to.
        std::fs::create_dir_all(world.path().join("parts.1")).unwrap();
        let ended = world.enter_with(&world.settings(), |session| {
            let error = loop {
                if let Err(error) = session.call(&world.square, &1) {
                    break error.to_string();
                }
            };
            assert!(error.contains("parts.1"), "{error}");
            assert!(matches!(session.open(&world.square).unwrap().submit(&1), Err(SessionError::Dir(_))));
        });
        assert!(ended.unwrap_err().to_string().contains("parts.1"));
        std::fs::remove_dir(world.path().join("parts.1")).unwrap();
        world.enter(|session| assert_eq!(session.call(&world.square, &3).unwrap(), 9));
    });
}
