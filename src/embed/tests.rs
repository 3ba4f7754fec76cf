//! Sessions on ranks that are threads.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
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

/// Ranks with a slot each, or two where there is one rank.
fn settings(ranks: u32) -> Settings {
    Settings { slots_per_node: Some(ranks.max(2)), pin: Pin::None, ..Settings::default() }
}

/// On one rank, on several of a node, and on several nodes.
fn on_all(test: impl Fn(&Session, &TaskFunction<u64, u64>) + Send + Sync + 'static) {
    let test = Arc::new(test);
    for (ranks, ranks_per_node) in [(1, None), (4, None), (5, Some(2))] {
        let test = test.clone();
        within_deadline(move || {
            let mut program = Program::new();
            let square = program.function("square", |_, x: u64| x * x);
            let settings = Settings { ranks_per_node, fan_out: 2, slots_per_node: Some(2), ..settings(ranks) };
            program.on_threads(ranks, &settings, |session| test(session, &square)).expect("the session ends well");
        });
    }
}

#[test]
fn each_argument_gives_its_value_once() {
    on_all(|session, square| {
        let mut bundle = session.map(square, 0..10_000).unwrap();
        let mut seen = vec![false; 10_000];
        while let Some(outcome) = bundle.next().unwrap() {
            assert_eq!(outcome.value().unwrap(), outcome.index() * outcome.index());
            assert!(!std::mem::replace(&mut seen[outcome.index() as usize], true), "{} twice", outcome.index());
        }
        assert!(seen.iter().all(|seen| *seen));
        assert_eq!(bundle.wait().unwrap().ok, 10_000);
    });
}

#[test]
fn tasks_are_added_while_others_run_and_bundles_go_side_by_side() {
    on_all(|session, square| {
        let (mut first, mut second) = (session.open(square).unwrap(), session.open(square).unwrap());
        for n in 0..50 {
            first.submit(&n).unwrap();
            second.submit(&(1_000 + n)).unwrap();
        }
        let mut sums = [0; 2];
        let mut open = 2;
        while open > 0 {
            let at = session.wait_any(&[first.raw(), second.raw()]).unwrap().unwrap();
            let bundle = if at == 0 { &mut first } else { &mut second };
            match bundle.try_next().unwrap() {
                Some(outcome) => {
                    let value = outcome.value().unwrap();
                    sums[at] += value;
                    // What comes next depends on what came.
                    if value < 100 && outcome.index() < 50 {
                        bundle.submit(&(10 * value)).unwrap();
                    }
                }
                None => {
                    bundle.close();
                    let other = if at == 0 { &mut second } else { &mut first };
                    while let Some(outcome) = other.next().unwrap() {
                        sums[1 - at] += outcome.value().unwrap();
                        if at == 1 && outcome.value().unwrap() < 100 && outcome.index() < 50 {
                            other.submit(&(10 * outcome.value().unwrap())).unwrap();
                        }
                    }
                    open = 0;
                }
            }
        }
        let squares = |range: std::ops::Range<u64>| range.map(|n| n * n).sum::<u64>();
        let more: u64 = (0..10).map(|n| 100 * (n * n) * (n * n)).sum();
        assert_eq!(sums, [squares(0..50) + more, squares(1_000..1_050)]);
    });
}

#[test]
fn an_array_is_called_with_its_own_numbers() {
    within_deadline(|| {
        let mut program = Program::new();
        let place = program.function("place", |task, offset: u64| task.index + offset);
        let sum = program.on_threads(3, &settings(3), |session| {
            let mut array = session.array(&place, 100..50_100, &7).unwrap();
            let mut sum = 0;
            while let Some(outcome) = array.next().unwrap() {
                assert_eq!(outcome.value().unwrap(), outcome.index() + 7);
                sum += outcome.index();
            }
            sum
        });
        assert_eq!(sum.unwrap(), (100..50_100).sum::<u64>());
    });
}

#[test]
fn one_call_after_the_other() {
    on_all(|session, square| {
        for n in 0..200 {
            assert_eq!(session.call(square, &n).unwrap(), n * n);
        }
    });
}

#[test]
fn errors_and_panics_are_the_task_s_own_and_retries_are_made() {
    within_deadline(|| {
        let mut program = Program::new();
        let odd =
            program.fallible("odd", |_, x: u64| if x.is_multiple_of(2) { Err(format!("{x} is even")) } else { Ok(x) });
        let stumble = program.function("stumble", |_, x: u64| -> u64 { panic!("{x} hurts") });
        let late =
            program.fallible("late", |task, ()| if task.attempt < 3 { Err("too soon") } else { Ok(task.attempt) });
        program
            .on_threads(2, &settings(2), |session| {
                let CallError::Task(error) = session.call(&odd, &4).unwrap_err() else { panic!("the task fails") };
                assert_eq!(error.to_string(), "task 0: exit:1: 4 is even");
                assert_eq!(session.call(&odd, &5).unwrap(), 5);
                let error = session.call(&stumble, &1).unwrap_err().to_string();
                assert_eq!(error, "task 0: panic: 1 hurts");
                let options = TaskOptions { retries: 2, ..TaskOptions::default() };
                let mut tried = session.open_with(&late, options).unwrap();
                tried.submit(&()).unwrap();
                let outcome = tried.next().unwrap().unwrap();
                assert_eq!((outcome.value().unwrap(), outcome.attempts()), (3, 3));
                assert!(tried.next().unwrap().is_none());
            })
            .unwrap();
    });
}

#[test]
fn what_has_not_started_can_be_cancelled() {
    within_deadline(|| {
        let (go, wait) = crossbeam_channel::unbounded::<()>();
        let mut program = Program::new();
        let hold = program.function("hold", move |_, x: u64| {
            let _ = wait.recv_timeout(DEADLINE);
            x
        });
        program
            .on_threads(2, &settings(2), |session| {
                let mut bundle = session.map(&hold, 0..1_000).unwrap();
                bundle.cancel(500..1_000).unwrap();
                let cancelled = |session: &Session, bundle: &Bundle<'_, u64, u64>| {
                    session.progress().unwrap();
                    bundle.counts().unwrap().1.cancelled
                };
                let deadline = Instant::now() + DEADLINE;
                while cancelled(session, &bundle) < 490 {
                    assert!(Instant::now() < deadline, "{} cancelled", cancelled(session, &bundle));
                    std::thread::sleep(Duration::from_millis(1));
                }
                (0..1_000).for_each(|_| go.send(()).unwrap());
                let counts = bundle.wait().unwrap();
                assert_eq!(counts.ended(), 1_000);
                assert!(counts.ok >= 500 && counts.cancelled >= 490, "{counts:?}");
                let mut outcomes = 0;
                while bundle.next().unwrap().is_some() {
                    outcomes += 1;
                }
                assert_eq!(outcomes, 1_000);
            })
            .unwrap();
    });
}

#[test]
fn outcomes_that_nobody_takes_stop_the_session_with_a_word_and_not_without() {
    within_deadline(|| {
        let mut program = Program::new();
        let large = program.function("large", |_, _: u64| vec![0u8; 50_000]);
        program
            .on_threads(2, &Settings { max_unread_bytes: 1 << 20, ..settings(2) }, |session| {
                let mut unread = session.map(&large, 0..200).unwrap();
                assert!(matches!(unread.wait(), Err(SessionError::Unread { bytes }) if bytes > 1 << 20));
                assert!(matches!(session.call(&large, &0), Err(CallError::Session(SessionError::Unread { .. }))));
                let mut count = 0;
                while unread.next().unwrap().is_some() {
                    count += 1;
                }
                assert_eq!(count, 200);
                assert_eq!(
                    session.call(&large, &1).unwrap().len(),
                    50_000,
                    "its own value, not that of a call given up"
                );
                let again = session.map(&large, 0..200).unwrap();
                drop(again);
                assert_eq!(session.call(&large, &0).unwrap().len(), 50_000, "a dropped bundle takes no room");
            })
            .unwrap();
    });
}

#[test]
fn submitting_waits_where_too_much_waits_already() {
    within_deadline(|| {
        let mut program = Program::new();
        let started = Arc::new(AtomicU64::new(0));
        let counted = started.clone();
        let length = program.function("length", move |_, bytes: Vec<u8>| {
            counted.fetch_add(1, Ordering::Relaxed);
            bytes.len() as u64
        });
        program
            .on_threads(3, &Settings { max_waiting_bytes: 1 << 20, ..settings(3) }, |session| {
                let mut bundle = session.open(&length).unwrap();
                let mut most = 0;
                for n in 0..500u64 {
                    bundle.submit(&vec![0; 100_000]).unwrap();
                    most = most.max(n - started.load(Ordering::Relaxed).min(n));
                }
                assert!(most < 100, "{most} tasks of 100 kB waited");
                assert_eq!(bundle.wait().unwrap().ok, 500);
            })
            .unwrap();
    });
}

#[test]
fn ranks_with_other_functions_and_tasks_that_fit_nowhere_are_refused() {
    within_deadline(|| {
        let mut program = Program::new();
        let one = program.function("one", |_, (): ()| 1u64);
        let mut other = Program::new();
        let unknown = other.function("unknown", |_, (): ()| 1u64);
        program
            .on_threads(2, &settings(2), |session| {
                assert!(matches!(session.open(&unknown), Err(SessionError::NoFunction { name }) if name == "unknown"));
                let wide = TaskOptions { cores: 64, ..TaskOptions::default() };
                assert!(matches!(session.open_with(&one, wide), Err(SessionError::Unfit { .. })));
                assert!(matches!(session.processes(TaskOptions::default()), Err(SessionError::NotPrepared)));
                let mut closed = session.map(&one, [()]).unwrap();
                assert!(matches!(closed.submit(&()), Err(SessionError::Closed)));
                let mut builtin = session.open_raw("builtin:echo", TaskOptions::default()).unwrap();
                builtin.submit(b"said").unwrap();
                assert_eq!(builtin.next().unwrap().unwrap().stdout.bytes, b"said");
            })
            .unwrap();
    });
}

#[test]
fn a_task_of_several_cores_has_threads_for_them() {
    within_deadline(|| {
        let mut program = Program::new();
        let wide = program.function("wide", |task, n: u64| {
            use rayon::prelude::*;
            task.pool().install(|| (rayon::current_num_threads(), (0..n).into_par_iter().sum::<u64>()))
        });
        program
            .on_threads(1, &Settings { slots_per_node: Some(4), ..settings(1) }, |session| {
                let mut bundle = session.open_with(&wide, TaskOptions { cores: 3, ..TaskOptions::default() }).unwrap();
                for n in 0..20 {
                    bundle.submit(&n).unwrap();
                }
                while let Some(outcome) = bundle.next().unwrap() {
                    assert_eq!(outcome.value().unwrap(), (3, (0..outcome.index()).sum()));
                }
            })
            .unwrap();
    });
}

#[test]
fn a_session_that_is_left_does_not_wait_for_what_has_not_started() {
    within_deadline(|| {
        let mut program = Program::new();
        let started = Arc::new(AtomicU64::new(0));
        let counted = started.clone();
        let slow = program.function("slow", move |_, _: u64| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
        });
        program
            .on_threads(3, &settings(3), |session| {
                let _bundle = session.map(&slow, 0..100_000).unwrap();
            })
            .unwrap();
        assert!(started.load(Ordering::Relaxed) < 1_000);
    });
}

#[test]
fn long_tasks_stop_neither_hand_outs_nor_other_bundles() {
    within_deadline(|| {
        let (go, wait) = crossbeam_channel::unbounded::<()>();
        let mut program = Program::new();
        let hold = program.function("hold", move |_, (): ()| wait.recv_timeout(DEADLINE).is_ok());
        let quick = program.function("quick", |_, x: u64| x + 1);
        // Ranks with one slot call functions in the thread that talks.
        program
            .on_threads(3, &settings(3), |session| {
                let mut held = session.map(&hold, [(), ()]).unwrap();
                let mut quickly = session.map(&quick, 0..1_000).unwrap();
                let mut sum = 0;
                while let Some(outcome) = quickly.next().unwrap() {
                    sum += outcome.value().unwrap();
                }
                assert_eq!(sum, (1..=1_000).sum::<u64>());
                assert!(held.try_next().unwrap().is_none(), "both are still held");
                [(); 2].iter().for_each(|()| go.send(()).unwrap());
                assert!(held.next().unwrap().unwrap().value().unwrap());
                assert!(held.next().unwrap().unwrap().value().unwrap());
                assert!(held.next().unwrap().is_none());
            })
            .unwrap();
    });
}

#[test]
fn rank_0_talks_on_while_the_program_does_something_else() {
    within_deadline(|| {
        let mut program = Program::new();
        let count = Arc::new(AtomicU64::new(0));
        let counted = count.clone();
        let step = program.function("step", move |_, _: u64| {
            std::thread::sleep(Duration::from_millis(1));
            counted.fetch_add(1, Ordering::Relaxed);
        });
        program
            .on_threads(3, &settings(3), |session| {
                assert!(session.talks_on());
                let _bundle = session.map(&step, 0..2_000).unwrap();
                // What is handed out at first is far less than all of it.
                let deadline = Instant::now() + DEADLINE;
                while count.load(Ordering::Relaxed) < 2_000 {
                    assert!(Instant::now() < deadline, "{} of 2000 were handed out", count.load(Ordering::Relaxed));
                    std::thread::sleep(Duration::from_millis(5));
                }
            })
            .unwrap();
    });
}

#[test]
fn very_many_tasks_can_be_cancelled_at_once() {
    within_deadline(|| {
        let (go, wait) = crossbeam_channel::unbounded::<()>();
        let mut program = Program::new();
        let hold = program.function("hold", move |_, (): ()| wait.recv_timeout(DEADLINE).is_ok());
        program
            .on_threads(2, &settings(2), |session| {
                let mut bundle = session.array(&hold, 0..1_000_000_000, &()).unwrap();
                bundle.cancel(0..1_000_000_000).unwrap();
                drop(go);
                let counts = bundle.wait().unwrap();
                assert!(counts.ended() == 1_000_000_000 && counts.ok < 100, "{counts:?}");
                let some = (0..20_000).map(|_| bundle.next().unwrap().unwrap());
                assert!(some.filter(|outcome| *outcome.status() == Status::Cancelled).count() > 19_000);
            })
            .unwrap();
    });
}

#[test]
fn a_cancel_does_not_wait_behind_hand_outs_of_tasks_that_are_longer_than_those_before_them() {
    within_deadline(|| {
        let mut program = Program::new();
        let brief = program.function("brief", |_, x: u64| x);
        let long = program.function("long", |_, x: u64| {
            std::thread::sleep(Duration::from_millis(15));
            x
        });
        program
            .on_threads(2, &settings(2), |session| {
                // Each rank is supplied with very many of these, and each of those comes in a message of its own.
                let mut before = session.open(&brief).unwrap();
                for x in 0..2_000 {
                    before.submit(&x).unwrap();
                }
                before.wait().unwrap();
                let mut bundle = session.open(&long).unwrap();
                for x in 0..600 {
                    bundle.submit(&x).unwrap();
                }
                bundle.next().unwrap().expect("one ends");
                bundle.cancel(0..600).unwrap();
                let counts = bundle.wait().unwrap();
                assert!(counts.ended() == 600 && counts.ok < 300, "{counts:?}");
            })
            .unwrap();
    });
}
