//! What a rank's own work takes: sessions of the real scheduler on two ranks, of which rank 0 hands out and the other, with
//! one slot, runs.

use super::timed::{Timed, Work};
use super::{median, sampled, undisturbed};
use crate::drive::{self, Entered, RankReport, Session, SessionSettings};
use crate::execute::Spawner;
use crate::fabric::Fabric;
use crate::schedule::{
    Capacity, Down, Manager, ManagerAction, Policy, Report, Settings, Unstarted, Up, decode, encode,
};
use crate::task::{
    BundleId, IndexRange, NodeId, OutcomeClass, Program, RangeSet, Rank, Resources, Shape, array_of_calls,
    process_entry,
};
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most tasks of one measurement: their outcomes are in memory.
const MOST_CALLS: u64 = 50_000_000;
/// A spin of the tasks between whose batches gaps are looked for.
const SPIN_US: u64 = 1_000;
/// What is more than this between the end of a task and the next one's start lies between two batches: within one there is
/// less than a microsecond, and these numbers are whole ones.
const GAP_US: u64 = 3;

/// Plays a session on two ranks: what rank 0 got out of it, and what this rank did meanwhile, after its first messages.
pub(super) fn with_two<T>(
    fabric: Box<dyn Fabric>,
    spawner: Option<Spawner>,
    report: &RankReport,
    warm_up: u64,
    play: impl FnOnce(&Session) -> anyhow::Result<T>,
) -> anyhow::Result<(Option<T>, Work)> {
    let (fabric, meter) = Timed::new(fabric, warm_up);
    // Each task travels, to one slot that has a core to itself.
    let settings = SessionSettings { dedicated_manager: true, slots_per_node: Some(1), ..SessionSettings::default() };
    match drive::enter(Box::new(fabric), spawner, report, BTreeMap::new(), &settings)? {
        Entered::Left => Ok((None, meter.read())),
        Entered::Manager(session) => {
            let got = play(&session);
            let work = meter.read();
            session.finish(false)?;
            Ok((Some(got?), work))
        }
    }
}

/// One task at a time, there and back, nanoseconds.
pub(super) fn latency(session: &Session, length: Duration) -> anyhow::Result<f64> {
    let bundle = session.open_bundle(Some("builtin:echo"), Shape::CALL)?;
    sampled(length, || {
        let start = Instant::now();
        session.submit(bundle, b"12345678")?;
        let outcomes = session.take(bundle, true)?;
        let took = start.elapsed();
        ensure!(outcomes.len() == 1, "a task has {} outcomes", outcomes.len());
        Ok(took.as_nanos() as f64)
    })
}

/// What a call takes of its slot besides the function itself, nanoseconds.
pub(super) fn call(session: &Session, length: Duration) -> anyhow::Result<f64> {
    let noops = |tasks: u64| -> anyhow::Result<f64> {
        let bundle = session.open_bundle(Some("builtin:noop"), Shape::CALL)?;
        let start = Instant::now();
        session.submit_array(bundle, 0, array_of_calls("builtin:noop", b"", 0, tasks, Shape::CALL))?;
        session.wait(bundle)?;
        let took = start.elapsed();
        session.drop_outcomes(bundle);
        Ok(took.as_nanos() as f64 / tasks as f64)
    };
    // How long they take has to be known to the scheduler too.
    let about = (1..=3).try_fold(0.0, |_, power| noops(10u64.pow(power + 2)))?;
    // Where something else had the core for one of them, the others tell.
    const RUNS: u64 = 5;
    let tasks = ((length.as_nanos() as f64 / about.max(1.0)) as u64 / RUNS).clamp(1_000, MOST_CALLS);
    Ok(undisturbed((0..RUNS).map(|_| noops(tasks)).collect::<anyhow::Result<_>>()?))
}

/// How long a slot is idle between two batches, nanoseconds, and how often it was; none where there was one batch.
pub(super) fn batch_gap(session: &Session, length: Duration) -> anyhow::Result<Option<(f64, usize)>> {
    let tasks = (length.as_micros() as u64 / SPIN_US).max(50);
    let bundle = session.open_bundle(Some("builtin:spin"), Shape::CALL)?;
    let payload = SPIN_US.to_string();
    session.submit_array(bundle, 0, array_of_calls("builtin:spin", payload.as_bytes(), 0, tasks, Shape::CALL))?;
    let mut spans = spans(session, bundle)?;
    spans.sort_unstable();
    let between = spans.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].1));
    let gaps: Vec<f64> = between.filter(|gap| *gap > GAP_US).map(|gap| gap as f64 * 1e3).collect();
    Ok((!gaps.is_empty()).then(|| (median(gaps.clone()), gaps.len())))
}

/// Start and end of all tasks of a bundle, microseconds by their worker's clock.
fn spans(session: &Session, bundle: usize) -> anyhow::Result<Vec<(u64, u64)>> {
    let mut spans = Vec::new();
    loop {
        let outcomes = session.take(bundle, true)?;
        if outcomes.is_empty() {
            return Ok(spans);
        }
        spans.extend(
            outcomes.iter().map(|outcome| (outcome.started_unix_us, outcome.started_unix_us + outcome.duration_us)),
        );
    }
}

/// How long a slot takes for each `/bin/true`, nanoseconds, and how many there were in all.
pub(super) fn processes(session: &Session, length: Duration) -> anyhow::Result<(f64, u64)> {
    let program = Program::Argv(vec![b"/bin/true".to_vec()]);
    let entry = process_entry(program, Vec::new(), None, None, None).map_err(anyhow::Error::msg)?;
    let run = |tasks: u64| -> anyhow::Result<f64> {
        let bundle = session.open_bundle(None, Shape::PROCESS)?;
        for _ in 0..tasks {
            session.submit(bundle, &entry)?;
        }
        session.close(bundle);
        let mut starts: Vec<u64> = spans(session, bundle)?.into_iter().map(|(start, _)| start).collect();
        starts.sort_unstable();
        ensure!(starts.len() as u64 == tasks, "{} of {tasks} processes have an outcome", starts.len());
        // By the mean of some: what comes between them now and then is theirs too.
        let some = |starts: &[u64]| (starts[SOME - 1] - starts[0]) as f64 * 1e3 / (SOME - 1) as f64;
        Ok(undisturbed(starts.windows(SOME).map(some).collect()))
    };
    const FIRST: u64 = 20;
    const SOME: usize = 16;
    let about = run(FIRST)?;
    let tasks = ((length.as_nanos() as f64 / about.max(1.0)) as u64).clamp(FIRST, 1_000_000);
    Ok((run(tasks)?, FIRST + tasks))
}

/// What a manager takes for each run of tasks in a report, nanoseconds: writing it into the message, reading it and noting
/// it. The manager is the real one, by itself.
pub(super) fn range(length: Duration) -> anyhow::Result<f64> {
    const TASKS: u32 = 1 << 17;
    const RUNS: [u64; 2] = [1, 257];
    let child = Rank(1);
    let mut samples: [Vec<f64>; 2] = Default::default();
    let start = Instant::now();
    while samples[0].is_empty() || start.elapsed() < length {
        let (mut manager, epoch, hands, held) = with_tasks_out(child, TASKS)?;
        let mut next = 0;
        while next + 2 * RUNS[1] <= held {
            for (runs, samples) in RUNS.iter().zip(&mut samples) {
                let message = alternate(epoch, hands, next, *runs, held);
                next += 2 * runs;
                let mut out = Vec::new();
                let start = Instant::now();
                let message: Up = decode(&encode(&message)).context("a report cannot be read")?;
                manager.on_child(1_000, child, message, &mut out);
                samples.push(start.elapsed().as_nanos() as f64);
            }
        }
    }
    let [few, many] = samples.map(undisturbed);
    Ok((many - few).max(0.0) / (RUNS[1] - RUNS[0]) as f64)
}

/// A report of every other task from there on: so many runs.
fn alternate(epoch: u32, hands: u32, first: u64, runs: u64, held: u64) -> Up {
    let mut report =
        Report { attempts: runs, attempt_cores: runs, busy_core_us: 1_000 * runs, hands, ..Report::default() };
    for run in 0..runs {
        let task = first + 2 * run;
        report.ended(BundleId(0), IndexRange::new(task, task + 1), OutcomeClass::Ok);
    }
    report.unstarted = Unstarted { cores: held / 2, gpu_cores: 0 };
    Up::Report { epoch, report }
}

/// A manager whose only child holds tasks: with the link's epoch, how often it was handed some, and how many.
fn with_tasks_out(child: Rank, cores: u32) -> anyhow::Result<(Manager, u32, u32, u64)> {
    let settings = Settings { crash_limit: 1, max_fails: None, max_running: None, grace_us: 0, nodes: 1 };
    let mut manager = Manager::new(Policy::default(), settings, &[child]);
    manager.add_bundle(BundleId(0), u64::from(cores), RangeSet::new(), Arc::new(Shape::CALL));
    let mut out = Vec::new();
    manager.open(0, &mut out);
    let welcome = out.iter().find_map(|action| match action {
        ManagerAction::ToChild(_, Down::Welcome { epoch, .. }) => Some(*epoch),
        _ => None,
    });
    let epoch = welcome.context("a manager welcomes its child")?;
    let total = Resources { cores, gpus: 0 };
    let capacity =
        Capacity { total, widest: Resources::ONE_CORE, node: Some(NodeId(0)), horizon_us: 0, workers: cores, nodes: 1 };
    manager.on_child(0, child, Up::Hello { epoch, capacity }, &mut out);
    let (mut hands, mut held) = (0, 0);
    for action in &out {
        if let ManagerAction::ToChild(_, Down::Hand { ranges, .. }) = action {
            hands += 1;
            held += ranges.iter().map(|given| given.range.len()).sum::<u64>();
        }
    }
    ensure!(held == u64::from(cores), "{held} of {cores} tasks were handed out");
    Ok((manager, epoch, hands, held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::ThreadFabric;

    /// What rank 0 of two threads gets out of a session.
    fn played<T: Send>(play: impl FnOnce(&Session) -> anyhow::Result<T> + Send) -> (T, Work) {
        let report = RankReport::of_this_process();
        let mut fabrics = ThreadFabric::group(2).expect("two ranks");
        let (other, first) = (fabrics.remove(1), fabrics.remove(0));
        std::thread::scope(|scope| {
            let report = &report;
            scope.spawn(move || with_two(Box::new(other), None, report, 0, |_| Ok(())).expect("it takes part"));
            let (got, work) = with_two(Box::new(first), None, report, 0, play).expect("it plays");
            (got.expect("it is rank 0"), work)
        })
    }

    #[test]
    fn each_measurement_gives_a_time_above_zero() {
        let short = Duration::from_millis(30);
        let (latency, work) = played(|session| latency(session, short));
        assert!(latency > 0.0 && !work.by_message.is_empty() && work.outside > Duration::ZERO, "{latency}, {work:?}");
        assert!(played(|session| call(session, short)).0 > 0.0);
        assert!(range(Duration::from_millis(5)).expect("it measures") > 0.0);
    }

    #[test]
    fn gaps_between_batches_are_found() {
        let (gap, _) = played(|session| batch_gap(session, Duration::from_millis(200)));
        let (gap_ns, gaps) = gap.expect("the first batches are short");
        assert!(gap_ns > 1e3 * GAP_US as f64 && gaps < 200, "{gap_ns}, {gaps}");
    }
}
