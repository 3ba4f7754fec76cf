//! Round trips of messages between two ranks of any fabric: rank 0 measures, the other one answers until it is told to end.

use criterion::{Criterion, Throughput};
use myriarch::fabric::{Fabric, Listen};
use myriarch::task::Rank;
use std::time::{Duration, Instant};

/// A small message, a report of some hundred runs, and what travels with the outcomes of a batch.
const BYTES: [usize; 3] = [16, 2 << 10, 64 << 10];
/// Rounds before each sample, and their time at most: who waited long sleeps, and wakes up ever sooner only when messages go
/// to and fro.
const WAKING_UP: u64 = 100;
const WAKING_UP_FOR: Duration = Duration::from_millis(10);
/// The first byte of a message that ends it.
const END: u8 = 1;

/// Takes part in the measurement as the rank that the fabric says.
pub fn take_part(fabric: &mut dyn Fabric, name: &str, criterion: impl FnOnce() -> Criterion) {
    fabric.connect(&[Some(Rank::MANAGER)]).expect("both ranks are there");
    if fabric.rank() == Rank::MANAGER {
        measure(fabric, name, criterion());
        fabric.send(0, Rank(1), vec![END]);
    } else {
        answer(fabric);
    }
}

fn measure(fabric: &mut dyn Fabric, name: &str, mut criterion: Criterion) {
    let mut group = criterion.benchmark_group(format!("links/{name}"));
    for bytes in BYTES {
        group.throughput(Throughput::Bytes(2 * bytes as u64));
        group.bench_function(format!("there and back, {bytes} bytes"), |bencher| {
            bencher.iter_custom(|times| {
                let start = Instant::now();
                (0..WAKING_UP).take_while(|_| start.elapsed() < WAKING_UP_FOR).for_each(|_| _ = round(fabric, bytes));
                // Something else has the core now and then, and then both ranks fall asleep: the median tells of neither.
                let mut took: Vec<Duration> = (0..times).map(|_| round(fabric, bytes)).collect();
                took.sort_unstable();
                took[took.len() / 2] * times as u32
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

fn round(fabric: &mut dyn Fabric, bytes: usize) -> Duration {
    let start = Instant::now();
    fabric.send(0, Rank(1), vec![0; bytes]);
    assert_eq!(next(fabric).len(), bytes);
    start.elapsed()
}

fn answer(fabric: &mut dyn Fabric) {
    loop {
        let message = next(fabric);
        if message.first() == Some(&END) {
            return;
        }
        fabric.send(0, Rank::MANAGER, message);
    }
}

/// Waits for the next message as a rank does.
fn next(fabric: &mut dyn Fabric) -> Vec<u8> {
    loop {
        if let Some((_, _, message)) = fabric.receive().expect("the fabric is of use") {
            return message;
        }
        fabric.wait(&mut Vec::new(), Duration::from_secs(1), Listen::Eagerly).expect("the fabric is of use");
    }
}
