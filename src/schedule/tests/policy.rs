//! How well slots are kept busy, and at what cost in messages.

use super::{depth, each_takes, layout, on_machine, on_slingshot, run, settings};
use crate::schedule::Settings;
use crate::simulate::testing::{Behaviour, Ended, Room};
use crate::simulate::{Drawn, Draws, Durations, Layout, Model};
use crate::task::{Resources, Shape as TaskShape, Status};

/// Zero-cost list scheduling: each task in order to the slot that is free first.
fn list_schedule(durations: &[u64], slots: usize) -> u64 {
    let mut free = vec![0u64; slots];
    for duration in durations {
        let first = free.iter_mut().min().expect("there is a slot");
        *first += duration;
    }
    free.into_iter().max().unwrap_or(0)
}

#[test]
fn ten_equal_tasks_for_each_slot_take_ten_rounds_at_every_depth() {
    for levels in 1..=3 {
        for task_us in [10_000, 1_000_000, 60_000_000] {
            let done = run(depth(levels), settings(), 160, 0, each_takes(task_us)).all_ended_once();
            let rounds = done.last_end_us as f64 / task_us as f64;
            assert!(rounds < 10.5, "{rounds} rounds of {task_us} µs at depth {levels}");
        }
    }
}

#[test]
fn ten_equal_tasks_for_each_slot_of_very_many_leave_nobody_an_eleventh() {
    let shape = TaskShape { resources: Resources::ONE_CORE, retries: 0, calls: true };
    // At 10 ms news from one end of the tree to the other takes as long as a task.
    for (task_ms, least, messages) in [(10, 0.85, 2_000), (100, 0.96, 3_000), (1_000, 0.99, 3_000)] {
        let layout = Layout { nodes: 256, ranks_per_node: 8, slots: 1, fan_out: 16, dedicated_manager: false };
        let tasks = 10 * layout.all_slots().expect("so many there are");
        let durations = Durations::parse(&format!("{task_ms}ms")).expect("a duration");
        let figures = on_slingshot(layout, &Drawn { tasks, shape, durations, seed: 1 });
        let utilisation = figures.utilisation;
        assert!(utilisation > least, "{utilisation} for tasks of {task_ms} ms");
        assert!(figures.manager_messages < messages, "{} messages, {task_ms} ms", figures.manager_messages);
    }
}

#[test]
fn a_slow_file_system_delays_the_telling_and_not_the_tasks() {
    let layout = Layout { nodes: 8, ranks_per_node: 4, slots: 1, fan_out: 4, dedicated_manager: false };
    let shape = TaskShape { resources: Resources::ONE_CORE, retries: 0, calls: false };
    let durations = Durations::parse("10ms").expect("a duration");
    let drawn = Drawn { tasks: 100_000, shape, durations, seed: 1 };
    let with_writes_of = |seconds: u64| {
        let mut numbers = Model::named("slingshot").expect("a model").numbers();
        numbers.files.write_ns = seconds * 1_000_000_000;
        on_machine(numbers, layout, &drawn)
    };
    let (quick, slow) = (with_writes_of(0), with_writes_of(10));
    let more = slow.last_end_seconds / quick.last_end_seconds;
    assert!((0.99..1.01).contains(&more), "{more} of the time without a wait");
    assert!(slow.makespan_seconds > slow.last_end_seconds + 5.0, "{} s", slow.makespan_seconds);
}

#[test]
fn a_lognormal_tail_ends_within_five_percent_of_list_scheduling() {
    let shapes = [layout(1, 1, 8, 64), layout(1, 8, 1, 64), layout(4, 2, 1, 64), layout(4, 2, 1, 2)];
    for (seed, shape) in (1..=5).flat_map(|seed| shapes.map(move |shape| (seed, shape))) {
        let mut draws = Draws::new(seed);
        let normal = |draws: &mut Draws| {
            (-2.0 * (1.0 - draws.unit()).ln()).sqrt() * (std::f64::consts::TAU * draws.unit()).cos()
        };
        let durations: Vec<u64> = (0..1000).map(|_| (1e6 * normal(&mut draws).exp()) as u64).collect();
        let ideal = list_schedule(&durations, 8);
        let behaviour = Box::new(move |index: u64, _, _| (durations[index as usize], Status::Ok));
        let done = run(shape, settings(), 1000, 0, behaviour).all_ended_once();
        let ratio = done.last_end_us as f64 / ideal as f64;
        assert!(ratio < 1.05, "seed {seed}, {} ranks a node: {ratio} of list scheduling", shape.ranks_per_node);
    }
}

#[test]
fn a_few_long_tasks_after_very_many_short_ones_run_side_by_side() {
    for levels in 1..=3 {
        for batches in [false, true] {
            let behaviour = Box::new(|index, _, _| (if index < 50_000 { 10 } else { 10_000_000 }, Status::Ok));
            let done = run_as(batches, depth(levels), 50_016, behaviour);
            let seconds = done.last_end_us as f64 / 1e6;
            assert!(seconds < 10.5, "{seconds} s for one round of 10 s at depth {levels}, in batches: {batches}");
        }
    }
}

/// Runs tasks as processes, or as functions in batches.
fn run_as(batches: bool, layout: Layout, tasks: u64, behaviour: Behaviour) -> Ended {
    let tasks_are = if batches { TaskShape::CALL } else { TaskShape::PROCESS };
    Room::new(layout, settings()).run(tasks, tasks_are, behaviour).all_ended_once()
}

#[test]
fn functions_of_microseconds_keep_the_slots_busy_with_few_messages() {
    for levels in 1..=3 {
        let done = run_as(true, depth(levels), 1_600_000, each_takes(10));
        let efficiency = 100_000.0 * 10.0 / done.last_end_us as f64;
        assert!(efficiency > 0.95, "{efficiency} at depth {levels}");
        assert!(done.messages_to_manager < 16_000, "{} messages at depth {levels}", done.messages_to_manager);
    }
}

#[test]
fn functions_are_called_many_at_a_time_though_words_take_their_time() {
    for levels in 1..=3 {
        let mut room = Room::new(depth(levels), settings());
        room.faults.late = Some((1, 8_000_000));
        let done = room.run(32_000, TaskShape::CALL, each_takes(1_000)).all_ended_once();
        let each = 32_000 / done.runs;
        assert!(each >= 8, "{each} functions in a batch at depth {levels}");
        let efficiency = 2_000.0 * 1_000.0 / done.last_end_us as f64;
        assert!(efficiency > 0.95, "{efficiency} at depth {levels}");
    }
}

#[test]
fn long_functions_are_spread_as_processes_are() {
    for levels in 1..=3 {
        let done = run_as(true, depth(levels), 160, each_takes(1_000_000));
        let rounds = done.last_end_us as f64 / 1e6;
        assert!(rounds < 10.5, "{rounds} rounds at depth {levels}");
    }
}

#[test]
fn the_manager_hears_of_ranges_and_not_of_tasks() {
    for levels in 1..=3 {
        let done = run(depth(levels), settings(), 100_000, 0, each_takes(10)).all_ended_once();
        assert!(done.messages_to_manager * 100 < 100_000, "{} messages at depth {levels}", done.messages_to_manager);
    }
}

#[test]
fn short_tasks_keep_the_slots_busy() {
    for levels in 1..=3 {
        let done = run(depth(levels), settings(), 160_000, 0, each_takes(1_000)).all_ended_once();
        let efficiency = 10_000.0 * 1_000.0 / done.last_end_us as f64;
        assert!(efficiency > 0.95, "{efficiency} at depth {levels}");
    }
}

#[test]
fn no_more_tasks_are_out_than_the_user_allows() {
    let limited = Settings { max_running: Some(5), ..settings() };
    let done = run(depth(2), limited, 200, 0, each_takes(10_000)).all_ended_once();
    // 5 at a time: 40 rounds.
    assert!(done.last_end_us >= 400_000, "{} µs", done.last_end_us);
}

#[test]
fn wide_tasks_run_where_they_fit_and_are_not_starved() {
    let shape = layout(2, 2, 4, 64);
    let wide = TaskShape { resources: Resources { cores: 3, gpus: 0 }, ..TaskShape::PROCESS };
    let done = Room::new(shape, settings()).run(40, wide, each_takes(100_000)).all_ended_once();
    let rounds = done.last_end_us as f64 / 100_000.0;
    assert!((10.0..11.0).contains(&rounds), "{rounds} rounds of 4 tasks at a time");
}

#[test]
fn a_failed_attempt_is_tried_again_elsewhere() {
    let shape = layout(2, 1, 2, 64);
    // Everything fails on node 1 (rank 1).
    let behaviour =
        Box::new(|_, _, rank: crate::task::Rank| (1_000, if rank.0 == 1 { Status::Exit(1) } else { Status::Ok }));
    let done = run(shape, settings(), 400, 1, behaviour).all_ended_once();
    assert_eq!(done.outcomes.failed.len(), 0);
}

#[test]
fn a_task_that_always_fails_uses_its_attempts_and_no_more() {
    let behaviour = Box::new(|index, _, _| (1_000, if index == 7 { Status::Exit(1) } else { Status::Ok }));
    let done = run(depth(2), settings(), 50, 3, behaviour).all_ended_once();
    assert_eq!(done.attempts[&7], 4);
    assert_eq!(done.outcomes.failed.len(), 1);
}

#[test]
fn too_many_failures_stop_the_run_early() {
    let limited = Settings { max_fails: Some(10), ..settings() };
    let behaviour = Box::new(|_, _, _| (10_000, Status::Exit(1)));
    let done = run(depth(2), limited, 10_000, 0, behaviour);
    assert!(done.outcomes.ended.len() < 200, "{} tasks ran", done.outcomes.ended.len());
    assert_eq!(done.ended_by, crate::task::EndedBy::MaxFails);
}

#[test]
fn a_run_of_no_tasks_ends() {
    run(depth(3), settings(), 0, 0, each_takes(1)).all_ended_once();
}
