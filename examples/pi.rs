//! Estimates pi: throws random points at a square and counts those within the circle. The small program that `make run`
//! runs thousands of times with different seeds; it knows nothing of Myriarch.
//!
//! Usage: `pi --seed N [--samples N]`. Prints the estimate.

use std::process::ExitCode;

/// Points when none are asked for.
const SAMPLES: u64 = 4_000_000;

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok((seed, samples)) => {
            println!("{:.9}", estimate(seed, samples));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("pi: {why}; usage: pi --seed N [--samples N]");
            ExitCode::from(2)
        }
    }
}

/// The seed and the number of points.
fn parse(mut words: impl Iterator<Item = String>) -> Result<(u64, u64), String> {
    let (mut seed, mut samples) = (None, SAMPLES);
    while let Some(option) = words.next() {
        let value = words.next().ok_or_else(|| format!("{option} has no value"))?;
        let number = value.parse::<u64>().map_err(|_| format!("{option} {value} is no number"))?;
        match option.as_str() {
            "--seed" => seed = Some(number),
            "--samples" if number > 0 => samples = number,
            _ => return Err(format!("{option} {value} is not known")),
        }
    }
    Ok((seed.ok_or("--seed is missing")?, samples))
}

/// Four times the share of points within the quarter circle.
fn estimate(seed: u64, samples: u64) -> f64 {
    // SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014). Neighbouring seeds
    // are spread first, or the streams of two tasks would overlap.
    let mut state = mix(seed.wrapping_add(1));
    let mut unit = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(state) >> 11) as f64 / (1u64 << 53) as f64
    };
    let within = (0..samples)
        .filter(|_| {
            let (x, y) = (unit(), unit());
            x * x + y * y < 1.0
        })
        .count();
    4.0 * within as f64 / samples as f64
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
