//! When a rank that waits notices what has come: it spins, then sleeps with growing pauses, as `fabric/idle.rs` does.

use super::Nanos;
use super::model::IdlePauses;

/// How a rank waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    /// It spins, then sleeps for a part of the time that it has waited.
    Eagerly,
    /// It sleeps at once, since its slots are busy and wake it: for ever longer, up to this.
    Lazily(Nanos),
}

/// The first pause of a rank that listens lazily.
const FIRST_LAZY_PAUSE: Nanos = 8_000_000;

/// The moments, from the beginning of a wait, at which a rank looks around.
pub(super) struct Looks {
    idle: IdlePauses,
    /// Those after the spinning, until pauses grow no more.
    growing: Vec<Nanos>,
}

impl Looks {
    pub(super) fn new(idle: IdlePauses) -> Self {
        let mut growing = vec![idle.spin_ns];
        while let Some(last) = growing.last().copied()
            && pause(&idle, last) < idle.most_ns
        {
            growing.push(last + pause(&idle, last).max(1));
        }
        Self { idle, growing }
    }

    /// When a rank that has waited since `since` notices what comes at `at`.
    pub(super) fn notices(&self, since: Nanos, at: Nanos, listening: Listening) -> Nanos {
        let waited = at.saturating_sub(since);
        since.min(at)
            + match listening {
                Listening::Eagerly => self.eagerly(waited),
                Listening::Lazily(longest) => self.lazily(waited, longest.min(self.idle.most_ns)),
            }
    }

    fn eagerly(&self, waited: Nanos) -> Nanos {
        if waited <= self.idle.spin_ns {
            return waited;
        }
        match self.growing.get(self.growing.partition_point(|look| *look < waited)) {
            Some(look) => *look,
            None => after(self.growing.last().copied().unwrap_or(0), waited, self.idle.most_ns),
        }
    }

    fn lazily(&self, waited: Nanos, longest: Nanos) -> Nanos {
        let (mut look, mut pause) = (0, FIRST_LAZY_PAUSE.min(longest));
        while look < waited && pause < longest {
            look += pause;
            pause = (2 * pause).min(longest);
        }
        after(look, waited, longest)
    }
}

/// The first of the looks that follow `last` with this pause at or after `waited`.
fn after(last: Nanos, waited: Nanos, pause: Nanos) -> Nanos {
    last + waited.saturating_sub(last).div_ceil(pause.max(1)) * pause.max(1)
}

fn pause(idle: &IdlePauses, waited: Nanos) -> Nanos {
    ((waited as f64 * idle.part) as Nanos).clamp(idle.least_ns, idle.most_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks() -> Looks {
        Looks::new(IdlePauses { spin_ns: 40_000, part: 0.25, least_ns: 10_000, most_ns: 10_000_000 })
    }

    #[test]
    fn what_comes_soon_is_noticed_at_once_and_what_comes_late_within_a_quarter() {
        let looks = looks();
        assert_eq!(looks.notices(1_000, 30_000, Listening::Eagerly), 30_000);
        for waited in [50_000, 1_000_000, 39_000_000, 1_000_000_000] {
            let late = looks.notices(0, waited, Listening::Eagerly) - waited;
            assert!(late <= (waited / 4).clamp(10_000, 10_000_000), "{late} after {waited}");
        }
    }

    #[test]
    fn who_listens_lazily_looks_after_ever_longer_pauses() {
        let noticed = |at| looks().notices(0, at, Listening::Lazily(10_000_000));
        assert_eq!(
            [1, 8_000_001, 18_000_001, 28_000_000].map(noticed),
            [8_000_000, 18_000_000, 28_000_000, 28_000_000]
        );
    }
}
