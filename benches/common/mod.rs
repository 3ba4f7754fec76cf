//! What the benches have in common: Criterion's settings, and inputs that are the same in every run.

// Each bench uses a part of it.
#![allow(dead_code)]

pub mod echo;
#[path = "../../tests/integration/common/random.rs"]
mod random;

pub use random::Random;

use criterion::Criterion;
use std::time::Duration;

/// Measures these, as the command line says.
pub fn measure(benches: &[fn(&mut Criterion)]) {
    let mut criterion = criterion();
    benches.iter().for_each(|bench| bench(&mut criterion));
    criterion.final_summary();
}

/// Short enough that all benches together take some minutes; options of the command line come before these.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args()
}

/// The numbers below `n` in an order that looks like none.
pub fn shuffled(n: u64) -> Vec<u64> {
    let mut random = Random::new(1);
    let mut numbers: Vec<u64> = (0..n).collect();
    for last in (1..numbers.len()).rev() {
        numbers.swap(last, random.below(last as u64 + 1) as usize);
    }
    numbers
}

/// A folder that goes away with what is in it: in memory where there is such a place, so that no disk is measured.
pub fn folder_in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder for files")
}
