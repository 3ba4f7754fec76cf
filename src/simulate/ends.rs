//! When tasks ran: how many a second at each time, in a table of fixed size.

use super::Nanos;

const BUCKETS: usize = 1 << 12;

/// By how much the rate of tasks a second rises or falls in each stretch of time.
pub(super) struct Ends {
    /// Length of a stretch: doubles when the table is full.
    width: Nanos,
    rises: Vec<f64>,
    last: Nanos,
}

impl Ends {
    pub(super) fn new() -> Self {
        Self { width: 1, rises: vec![0.0; BUCKETS], last: 0 }
    }

    /// So many tasks were run one after the other in that time.
    pub(super) fn add(&mut self, since: Nanos, until: Nanos, tasks: u64) {
        while until.max(since + 1) / self.width + 1 >= BUCKETS as Nanos {
            self.double();
        }
        self.last = self.last.max(until);
        let first = (since / self.width) as usize;
        let after = ((until / self.width) as usize).max(first + 1);
        let rate = tasks as f64 / (after - first) as f64;
        self.rises[first] += rate;
        self.rises[after] -= rate;
    }

    /// Of two stretches one: so many in each of two are twice as many in both together.
    fn double(&mut self) {
        let (mut rate, mut before) = (0.0, 0.0);
        let mut joined = Vec::with_capacity(BUCKETS);
        for pair in self.rises.chunks(2) {
            let first = rate + pair[0];
            rate = first + pair[1];
            joined.push(first + rate - before);
            before = first + rate;
        }
        joined.push(-before);
        joined.resize(BUCKETS, 0.0);
        (self.width, self.rises) = (2 * self.width, joined);
    }

    /// When the last task ended.
    pub(super) fn last(&self) -> Nanos {
        self.last
    }

    /// Tasks a second between the times when a quarter and when three quarters of all had ended.
    pub(super) fn plateau(&self) -> f64 {
        let mut rate = 0.0;
        let rates: Vec<f64> = self
            .rises
            .iter()
            .map(|rise| {
                rate += rise;
                rate
            })
            .collect();
        let all: f64 = rates.iter().sum();
        // When so many had ended, in stretches.
        let when = |share: f64| {
            let mut left = share * all;
            for (at, rate) in rates.iter().enumerate() {
                if left <= *rate {
                    return at as f64 + if *rate > 0.0 { left / rate } else { 0.0 };
                }
                left -= rate;
            }
            rates.len() as f64
        };
        let stretches = when(0.75) - when(0.25);
        if stretches > 0.0 { all / 2.0 / stretches / self.width as f64 * 1e9 } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plateau_is_the_rate_in_the_middle_whatever_beginning_and_end_are_like() {
        let mut ends = Ends::new();
        assert_eq!(ends.plateau(), 0.0);
        // Eight slots, tasks of a millisecond; one slot begins a second late, and goes on for five seconds alone.
        for slot in 0..8 {
            let (since, until) = if slot == 0 { (1_000, 9_000) } else { (0, 4_000) };
            for batch in (since..until).step_by(50) {
                ends.add(batch * 1_000_000, (batch + 50) * 1_000_000, 50);
            }
        }
        assert_eq!(ends.last(), 9_000_000_000);
        // 36,000 tasks: a quarter of them in 1.25 s, three quarters in 3.5 s.
        let plateau = ends.plateau();
        assert!((7_900.0..8_100.0).contains(&plateau), "{plateau}");
    }

    #[test]
    fn what_takes_no_time_counts_too() {
        let mut ends = Ends::new();
        for at in 0..1_000_000 {
            ends.add(at, at, 1);
        }
        assert!((0.99e9..1.01e9).contains(&ends.plateau()), "{}", ends.plateau());
    }
}
