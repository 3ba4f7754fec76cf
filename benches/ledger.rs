//! The ledger: packing outcomes into a block, a record of the journal, and what a task takes when it is kept: a session on one
//! rank of one slot, with its outcomes in memory, written before they are told, and synced before they are told.

mod common;

use criterion::{Criterion, Throughput};
use myriarch::drive::{self, Entered, RankReport, Session, SessionSettings};
use myriarch::fabric::ThreadFabric;
use myriarch::ledger::{BlockBuilder, LedgerState, Record};
use myriarch::schedule::encode;
use myriarch::task::{Captured, EndedRun, Extent, IndexRange, Outcome, OutcomeClass, Shape, Status};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

/// Outcomes in a block.
const OUTCOMES: u64 = 64;
/// Tasks that are submitted at once.
const TASKS: u64 = 1_000;

fn main() {
    common::measure(&[blocks, records, sessions]);
}

fn blocks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ledger/block");
    group.throughput(Throughput::Elements(OUTCOMES));
    for (name, printed) in [("64 outcomes without output", 0), ("64 outcomes of 100 bytes", 100)] {
        let outcomes: Vec<Outcome> = (0..OUTCOMES).map(|index| outcome(index, printed)).collect();
        let mut block = BlockBuilder::new(1, 0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                outcomes.iter().for_each(|outcome| block.push(black_box(outcome)));
                block.finish()
            });
        });
    }
}

fn outcome(index: u64, printed: usize) -> Outcome {
    Outcome {
        index,
        status: Status::Ok,
        attempts: 1,
        started_unix_us: 1_700_000_000_000_000 + 1_000 * index,
        duration_us: 990,
        rank: 1,
        node: 0,
        stdout: Captured::whole(vec![b'x'; printed]),
        stderr: Captured::default(),
    }
}

/// A report of runs that are all new, taken into the account and encoded; without the frame around it.
fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ledger/record of");
    for runs in [1, 16, 256] {
        group.throughput(Throughput::Elements(runs));
        let (mut state, mut at) = (LedgerState::new(), 0);
        let mut gaps = false;
        group.bench_function(format!("{runs} run{}", if runs == 1 { "" } else { "s" }), |bencher| {
            bencher.iter(|| {
                // Every other task, and the next time those between them: the account stays one run.
                let run =
                    |n| EndedRun { range: IndexRange::one(at + 2 * n + u64::from(gaps)), class: OutcomeClass::Ok };
                let told: Vec<EndedRun> = (0..runs).map(run).collect();
                let new = state.accept(0, &told);
                assert_eq!(new.len() as u64, runs);
                at += if gaps { 2 * runs } else { 0 };
                gaps = !gaps;
                let extent = Some(Extent { segment: 3, offset: 1_000 * at, len: 1_000 });
                encode(&Record::Ended { round: 0, extent, runs: new })
            });
        });
    }
}

fn sessions(criterion: &mut Criterion) {
    for (name, sync) in
        [("in memory", None), ("written", Some(Duration::from_secs(1))), ("synced", Some(Duration::ZERO))]
    {
        let folder = tempfile::tempdir().expect("a folder for files");
        let session = session(&SessionSettings {
            slots_per_node: Some(1),
            dir: sync.map(|_| folder.path().join("session")),
            sync: sync.unwrap_or_default(),
            ..SessionSettings::default()
        });
        let mut group = criterion.benchmark_group(format!("ledger/kept {name}"));
        // A sync may take milliseconds.
        group.sample_size(20);
        for tasks in [1, TASKS] {
            let bundle = session.open_bundle(Some("builtin:echo"), Shape::CALL).expect("there is such a function");
            group.throughput(Throughput::Elements(tasks));
            group.bench_function(format!("{tasks} task{}", if tasks == 1 { "" } else { "s" }), |bencher| {
                bencher.iter(|| {
                    for _ in 0..tasks {
                        session.submit(bundle, b"16 bytes or so..").expect("it is taken");
                    }
                    let mut ended = 0;
                    while ended < tasks {
                        ended += session.take(bundle, true).expect("they end").len() as u64;
                    }
                });
            });
        }
        group.finish();
        session.finish(true).expect("it ends in order");
    }
}

/// A session on this process alone.
fn session(settings: &SessionSettings) -> Session {
    let fabric = ThreadFabric::group(1).expect("one rank").remove(0);
    let report = RankReport::of_this_process();
    match drive::enter(Box::new(fabric), None, &report, BTreeMap::new(), settings) {
        Ok(Entered::Manager(session)) => session,
        Ok(Entered::Left) => panic!("the only rank is rank 0"),
        Err(error) => panic!("{error}"),
    }
}
