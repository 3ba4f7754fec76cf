//! The numbers of the policy, in one place: how far ahead a child is supplied, and how often it reports.

use super::Micros;

/// How far ahead children are supplied and how often they report. See `README.md`, "Demand and lookahead".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Shortest pace of reports, microseconds.
    pub pace_min_us: u64,
    /// Longest pace, microseconds.
    pub pace_max_us: u64,
    /// What one report costs its parent, generously, times how idle the parent is to be: the pace grows by this for
    /// each sibling. Microseconds.
    pub pace_per_child_us: u64,
    /// Most cores of work that a child may hold for each of its cores before anything has ended.
    pub most_first_per_core: u64,
    /// So many times as much a child may hold after each report of attempts that ended, until it has what is wanted.
    pub growth: u64,
    /// Runs of ended tasks that a child may tell in the time of a pace: so many more of them wait so much longer, and join with
    /// their neighbours meanwhile. They take the parent some 10 µs of the 200 that a child has of its time.
    pub runs_at_pace: u64,
    /// Time that an answer takes to come back, sleeping ranks included. Microseconds.
    pub round_trip_us: u64,
    /// Tasks longer than this many horizons are not handed out ahead: waiting for the next one costs nothing then.
    pub ahead_limit: u64,
    /// Most tasks that one child may hold for each of its cores: bounds memory when tasks take no time.
    pub max_held_per_core: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            pace_min_us: 10_000,
            pace_max_us: 50_000,
            pace_per_child_us: 200,
            most_first_per_core: 128,
            growth: 8,
            runs_at_pace: 32,
            round_trip_us: 2_000,
            ahead_limit: 200,
            max_held_per_core: 1 << 20,
        }
    }
}

impl Policy {
    /// The pace at which each of so many siblings reports.
    pub fn pace_us(&self, children: usize) -> Micros {
        (children as u64 * self.pace_per_child_us).clamp(self.pace_min_us, self.pace_max_us)
    }

    /// The time in which the news of siblings that belong together have come: what they lead to waits for so long.
    pub fn gather_us(pace_us: Micros) -> Micros {
        pace_us / 8
    }

    /// The time that a child with siblings at this pace is supplied ahead, on top of what it needs for its own.
    pub fn horizon_us(&self, pace_us: Micros) -> Micros {
        2 * pace_us + self.round_trip_us
    }

    /// Tasks to hold for each core so that a core stays busy over the horizon, the running one included; a fraction
    /// because a child with many cores shares what waits among them. `mean_us` is the mean duration, where known.
    pub fn held_per_core(&self, horizon_us: Micros, mean_us: Option<f64>) -> f64 {
        let Some(mean) = mean_us else { return 1.0 };
        let horizons = horizon_us as f64 / mean.max(0.01);
        // One task ahead for each core bridges the gap between equal tasks that all end at once.
        let ahead = if horizons * (self.ahead_limit as f64) < 1.0 { 0.0 } else { horizons.max(1.0) };
        (1.0 + ahead).min(self.max_held_per_core as f64)
    }
}

/// A running mean of durations, weighted by cores, that forgets slowly.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Durations {
    core_us: f64,
    cores: f64,
}

impl Durations {
    /// Attempts (on one core) after which the weight of the past is halved.
    const MEMORY: f64 = 4096.0;

    /// Adds attempts that took so many cores and so much slot-time (cores × microseconds) all together.
    pub(super) fn add(&mut self, cores: u64, core_us: u64) {
        self.core_us += core_us as f64;
        self.cores += cores as f64;
        while self.cores > Self::MEMORY {
            self.core_us /= 2.0;
            self.cores /= 2.0;
        }
    }

    /// Mean duration, microseconds. `None` before the first attempt has ended.
    pub(super) fn mean_us(&self) -> Option<f64> {
        (self.cores > 0.0).then(|| self.core_us / self.cores)
    }
}
