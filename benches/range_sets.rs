//! Sets of task positions: what each run costs that is put into one.

mod common;

use criterion::{BatchSize, Criterion, Throughput};
use myriarch::task::{IndexRange, RangeSet};
use std::hint::black_box;

/// Positions put in, one by one.
const POSITIONS: u64 = 4096;
/// Runs that the account has when a report comes, and runs of the report.
const KNOWN: u64 = 4096;
const TOLD: u64 = 256;

fn main() {
    common::measure(&[insert, insert_new]);
}

fn insert(criterion: &mut Criterion) {
    let evens = (0..POSITIONS).filter(|at| at % 2 == 0);
    let odds = (0..POSITIONS).filter(|at| at % 2 == 1);
    let orders: [(&str, Vec<u64>); 3] = [
        ("in order", (0..POSITIONS).collect()),
        ("in random order", common::shuffled(POSITIONS)),
        ("every other, then the gaps", evens.chain(odds).collect()),
    ];
    let mut group = criterion.benchmark_group("range sets/insert");
    group.throughput(Throughput::Elements(POSITIONS));
    for (name, positions) in orders {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut set = RangeSet::new();
                positions.iter().for_each(|at| set.insert(IndexRange::one(*at)));
                assert_eq!(black_box(set).runs(), 1);
            });
        });
    }
}

/// The runs of a report, in order, all new: some that stay apart from what is known, and some that fill its gaps.
fn insert_new(criterion: &mut Criterion) {
    // Runs of two with gaps of two.
    let known: RangeSet = (0..KNOWN).map(|run| IndexRange::new(4 * run, 4 * run + 2)).collect();
    let apart = |run: u64| IndexRange::new(4 * KNOWN + 4 * run, 4 * KNOWN + 4 * run + 2);
    let gap = |run: u64| IndexRange::new(4 * run + 2, 4 * run + 4);
    let first = (KNOWN - TOLD) / 2;
    let reports: [(&str, Vec<IndexRange>); 2] = [
        ("256 runs apart", (0..TOLD).map(apart).collect()),
        ("256 runs that fill gaps", (first..first + TOLD).map(gap).collect()),
    ];
    let mut group = criterion.benchmark_group("range sets/insert_new");
    group.throughput(Throughput::Elements(TOLD));
    for (name, report) in reports {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || known.clone(),
                |set| {
                    for run in &report {
                        let mut parts = 0;
                        set.insert_new(*run, |part| parts += u64::from(!black_box(part).is_empty()));
                        assert_eq!(parts, 1);
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
}
