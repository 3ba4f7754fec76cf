//! Messages between a parent and a child: writing and reading reports and hand-outs.

mod common;

use common::Random;
use criterion::{Criterion, Throughput};
use myriarch::schedule::{Down, Report, Unstarted, Up, Work, WorkRange, decode, encode};
use myriarch::task::{BundleId, IndexRange, OutcomeClass, Resources};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::hint::black_box;

fn main() {
    common::measure(&[reports, hands]);
}

fn reports(criterion: &mut Criterion) {
    for runs in [1, 16, 256] {
        there_and_back(criterion, "report", runs, &report(runs));
    }
}

fn hands(criterion: &mut Criterion) {
    for ranges in [1, 256] {
        there_and_back(criterion, "hand-out", ranges, &hand(ranges));
    }
}

fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    criterion: &mut Criterion,
    name: &str,
    runs: u64,
    message: &T,
) {
    let bytes = encode(message);
    assert_eq!(&decode::<T>(&bytes).expect("it can be read"), message);
    let mut group = criterion.benchmark_group(format!("messages/{name}"));
    group.throughput(Throughput::ElementsAndBytes { elements: runs, bytes: bytes.len() as u64 });
    group.bench_function(format!("encode {runs}"), |bencher| bencher.iter(|| encode(black_box(message))));
    group.bench_function(format!("decode {runs}"), |bencher| {
        bencher.iter(|| decode::<T>(black_box(&bytes)).expect("it can be read"));
    });
}

/// So many ranges with gaps between them, somewhere among ten million tasks.
fn ranges(count: u64) -> impl Iterator<Item = IndexRange> {
    let mut random = Random::new(2);
    let mut at = 5_000_000;
    (0..count).map(move |_| {
        let start = at + 1 + random.below(1_000);
        at = start + 1 + random.below(1_000);
        IndexRange::new(start, at)
    })
}

fn report(runs: u64) -> Up {
    let mut report = Report { hands: 70, ..Report::default() };
    for range in ranges(runs) {
        report.ended(BundleId(0), range, OutcomeClass::Ok);
        report.attempts += range.len();
    }
    (report.attempt_cores, report.busy_core_us) = (report.attempts, 250 * report.attempts);
    report.unstarted = Unstarted { cores: report.attempts, gpu_cores: 0 };
    Up::Report { epoch: 1, report }
}

fn hand(count: u64) -> Down {
    let work = Work {
        bundle: BundleId(0),
        resources: Resources::ONE_CORE,
        retries: 0,
        calls: false,
        attempt: 0,
        crashes: 0,
        apart: false,
        avoid: None,
    };
    Down::Hand { epoch: 1, ranges: ranges(count).map(|range| WorkRange { work, range }).collect() }
}
