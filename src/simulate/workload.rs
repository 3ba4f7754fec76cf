//! How long tasks take: a distribution from which the duration of the n-th task is computed, whoever asks and in whatever
//! order. And the best that could be made of such tasks: the makespan of a list scheduler that costs nothing.
//!
//! Knows nothing of machines. Durations are written as numbers with `ns`, `us` (or `µs`), `ms`, `s`, `m` or `h`; plain
//! numbers are seconds. That is not the parser of `--timeout`, which knows nothing shorter than a microsecond.

use super::normal::normal_quantile;
use crate::task::io_cause;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::sync::Arc;

/// The longest duration, nanoseconds: a year of 365 days. What is drawn beyond it is cut to it.
const LONGEST_NS: u64 = 365 * 24 * 3_600_000_000_000;
/// The largest σ: beyond it the mean lies in tasks that hardly any run has.
const LARGEST_SIGMA: f64 = 5.0;
/// Each unit with its nanoseconds, so that no unit ends in one that stands before it.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
/// The step of SplitMix64, 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Why durations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The text is not of a known form.
    #[error("\"{text}\": {cause}")]
    Form {
        /// As the user wrote it.
        text: String,
        /// What is wrong.
        cause: String,
    },
    /// The trace is missing or cannot be read.
    #[error("{file}: {}", io_cause(source))]
    Unreadable {
        /// As the user wrote it.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line of the trace is wrong.
    #[error("{file}:{line}: {cause}")]
    Line {
        /// As the user wrote it.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        cause: String,
    },
    /// The trace has no durations.
    #[error("{0}: no durations in it")]
    Empty(String),
}

/// How long tasks take.
///
/// | text | durations |
/// |---|---|
/// | `10ms` | all the same |
/// | `lognormal:0.33ms,0.5` | log-normal: the mean, and σ of the logarithm |
/// | `exp:5ms` | exponential: the mean |
/// | `bimodal:1ms,10s,0.01` | short or long: the share of long ones |
/// | `trace:FILE` | a duration in each line; blank lines and those that begin with `#` are skipped. It starts over at its end |
///
/// Displayed in the same form, so that it can be read again.
#[derive(Clone, Debug, PartialEq)]
pub struct Durations(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Constant { ns: u64 },
    LogNormal { mean_ns: u64, sigma: f64 },
    Exponential { mean_ns: u64 },
    Bimodal { short_ns: u64, long_ns: u64, long_share: f64 },
    Trace { file: String, ns: Arc<[u64]> },
}

impl Durations {
    /// Reads a text of the table above; of `trace:`, the file too.
    pub fn parse(text: &str) -> Result<Durations, WorkloadError> {
        if let Some(file) = text.strip_prefix("trace:") {
            let ns = read_trace(file)?;
            return Ok(Durations(Kind::Trace { file: file.to_owned(), ns }));
        }
        let kind = match text.split_once(':') {
            None => duration_ns(text).map(|ns| Kind::Constant { ns }),
            Some(("lognormal", rest)) => lognormal(rest),
            Some(("exp", rest)) => mean_ns(rest).map(|mean_ns| Kind::Exponential { mean_ns }),
            Some(("bimodal", rest)) => bimodal(rest),
            Some((other, _)) => Err(format!("\"{other}\" is none of lognormal, exp, bimodal, trace")),
        };
        kind.map(Durations).map_err(|cause| WorkloadError::Form { text: text.to_owned(), cause })
    }

    /// The duration of task `index`, nanoseconds. The same for the same seed and index, always.
    #[inline]
    pub fn duration_ns(&self, seed: u64, index: u64) -> u64 {
        match &self.0 {
            Kind::Constant { ns } => *ns,
            Kind::LogNormal { mean_ns, sigma } => {
                // The mean of exp(σZ − σ²/2) is 1.
                let factor = (sigma * (normal_quantile(uniform(seed, index)) - sigma / 2.0)).exp();
                whole_ns(*mean_ns as f64 * factor)
            }
            Kind::Exponential { mean_ns } => whole_ns(*mean_ns as f64 * -uniform(seed, index).ln()),
            Kind::Bimodal { short_ns, long_ns, long_share } => {
                if uniform(seed, index) < *long_share {
                    *long_ns
                } else {
                    *short_ns
                }
            }
            Kind::Trace { ns, .. } => ns[(index % ns.len() as u64) as usize],
        }
    }

    /// The duration of every task, nanoseconds, where all take the same time.
    pub fn fixed_ns(&self) -> Option<u64> {
        if let Kind::Constant { ns } = self.0 { Some(ns) } else { None }
    }

    /// The mean of the distribution, nanoseconds; of a trace, that of its lines.
    pub fn mean_ns(&self) -> f64 {
        match &self.0 {
            Kind::Constant { ns } => *ns as f64,
            Kind::LogNormal { mean_ns, .. } | Kind::Exponential { mean_ns } => *mean_ns as f64,
            Kind::Bimodal { short_ns, long_ns, long_share } => {
                *short_ns as f64 * (1.0 - long_share) + *long_ns as f64 * long_share
            }
            Kind::Trace { ns, .. } => ns.iter().map(|ns| *ns as f64).sum::<f64>() / ns.len() as f64,
        }
    }
}

impl fmt::Display for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Constant { ns } => write!(f, "{}", Exact(*ns)),
            Kind::LogNormal { mean_ns, sigma } => write!(f, "lognormal:{},{sigma}", Exact(*mean_ns)),
            Kind::Exponential { mean_ns } => write!(f, "exp:{}", Exact(*mean_ns)),
            Kind::Bimodal { short_ns, long_ns, long_share } => {
                write!(f, "bimodal:{},{},{long_share}", Exact(*short_ns), Exact(*long_ns))
            }
            Kind::Trace { file, .. } => write!(f, "trace:{file}"),
        }
    }
}

/// Nanoseconds, displayed in the largest unit of which they are a whole number.
struct Exact(u64);

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        let whole = |(_, unit_ns): &&(&str, f64)| self.0.is_multiple_of(*unit_ns as u64);
        // Of the three ways to write microseconds, the one that every terminal has.
        let (unit, unit_ns) = UNITS.iter().filter(|(unit, _)| unit.is_ascii()).rfind(whole).expect("nanoseconds fit");
        write!(f, "{}{unit}", self.0 / *unit_ns as u64)
    }
}

fn lognormal(text: &str) -> Result<Kind, String> {
    let parts: Vec<&str> = text.split(',').collect();
    let [mean, sigma] = parts[..] else { return Err("wants a mean and σ, as lognormal:0.33ms,0.5".to_owned()) };
    let (mean_ns, sigma) = (mean_ns(mean)?, plain_number(sigma)?);
    if sigma > LARGEST_SIGMA {
        return Err(format!("σ {sigma} is more than {LARGEST_SIGMA}"));
    }
    Ok(Kind::LogNormal { mean_ns, sigma })
}

fn bimodal(text: &str) -> Result<Kind, String> {
    let parts: Vec<&str> = text.split(',').collect();
    let [short, long, share] = parts[..] else {
        return Err("wants a short and a long duration and the share of long ones, as bimodal:1ms,10s,0.01".to_owned());
    };
    let (short_ns, long_ns, long_share) = (duration_ns(short)?, duration_ns(long)?, plain_number(share)?);
    if short_ns > long_ns {
        return Err(format!("the short duration, {short}, is longer than the long one, {long}"));
    }
    if long_share > 1.0 {
        return Err(format!("the share of long ones, {long_share}, is more than 1"));
    }
    Ok(Kind::Bimodal { short_ns, long_ns, long_share })
}

/// A duration above zero: no distribution but the constant one has the mean 0.
fn mean_ns(text: &str) -> Result<u64, String> {
    match duration_ns(text)? {
        0 => Err("the mean is zero".to_owned()),
        ns => Ok(ns),
    }
}

/// A duration, rounded to whole nanoseconds.
fn duration_ns(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let with_unit = UNITS.iter().find_map(|(unit, ns)| Some((trimmed.strip_suffix(unit)?, *ns)));
    let (number, unit_ns) = with_unit.unwrap_or((trimmed, 1e9));
    let no_duration =
        || format!("\"{text}\" is no duration (write 10ms, 0.33ms, 500ns, 20us, 5s, 2m, 1h, or plain seconds)");
    let ns = (plain_number(number).map_err(|_| no_duration())? * unit_ns).round();
    if ns > LONGEST_NS as f64 {
        return Err(format!("\"{text}\" is longer than a year"));
    }
    Ok(ns as u64)
}

/// A number that is finite and not negative.
fn plain_number(text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok().filter(|number: &f64| number.is_finite() && number.is_sign_positive());
    number.ok_or_else(|| format!("\"{text}\" is no number that is not negative"))
}

fn read_trace(file: &str) -> Result<Arc<[u64]>, WorkloadError> {
    let unreadable = |source| WorkloadError::Unreadable { file: file.to_owned(), source };
    let lines = BufReader::new(std::fs::File::open(file).map_err(unreadable)?).lines();
    let mut trace = Vec::new();
    for (number, line) in lines.enumerate() {
        let line = line.map_err(unreadable)?;
        if !line.trim().is_empty() && !line.starts_with('#') {
            let wrong = |cause| WorkloadError::Line { file: file.to_owned(), line: number + 1, cause };
            trace.push(duration_ns(&line).map_err(wrong)?);
        }
    }
    if trace.is_empty() { Err(WorkloadError::Empty(file.to_owned())) } else { Ok(trace.into()) }
}

fn whole_ns(ns: f64) -> u64 {
    (ns.round() as u64).min(LONGEST_NS)
}

/// A number strictly between 0 and 1, the `index`-th of the sequence that `seed` gives: a multiple of 2⁻⁵³ less half of
/// that. The sequence is SplitMix64's; its start is mixed too, or two seeds that differ by its step would share it.
#[inline]
fn uniform(seed: u64, index: u64) -> f64 {
    let bits = mix(mix(seed).wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN)));
    ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// The output function of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// When the last of the tasks ends, in nanoseconds from the start, if each starts in its order on the slot that is free
/// first, and nothing costs anything: list scheduling (Graham: Bounds on Multiprocessing Timing Anomalies, SIAM Journal on
/// Applied Mathematics 17, 1969). Without tasks 0.
///
/// # Panics
/// Without slots.
pub fn list_scheduling_makespan_ns(durations: impl Iterator<Item = u64>, slots: usize) -> u64 {
    assert!(slots > 0, "tasks need a slot");
    let mut durations = durations;
    // The first tasks start at once; slots that are left over then never matter.
    let mut free_at: BinaryHeap<Reverse<u64>> = durations.by_ref().take(slots).map(Reverse).collect();
    for duration in durations {
        // Changed in place: one way down the heap, not one for taking out and another for putting in.
        let mut first = free_at.peek_mut().expect("as many as there are slots");
        first.0 = first.0.saturating_add(duration);
    }
    free_at.into_iter().map(|Reverse(end)| end).max().unwrap_or(0)
}

#[cfg(test)]
mod tests;
