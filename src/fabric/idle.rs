//! How a rank waits where nothing can wake it: it spins for microseconds, then yields, then sleeps with a growing,
//! bounded pause. A pure state machine over the time that it is told; it knows neither MPI nor descriptors.

use super::Listen;
use std::time::{Duration, Instant};

/// Spinning: an answer that is on its way through shared memory is there by then.
const SPIN: Duration = Duration::from_micros(10);
/// Yielding: the peer that was descheduled gets its turn.
const YIELD: Duration = Duration::from_micros(40);
/// The shortest pause: with the time that it takes to wake up it is shorter than the yielding of a peer that waits for this
/// rank.
const FIRST_PAUSE: Duration = Duration::from_micros(10);
/// The first pause of a rank that listens lazily: what it waits for wakes it by a descriptor, and a core that it looks
/// around on is missing to the tasks.
const FIRST_LAZY_PAUSE: Duration = Duration::from_millis(8);
/// What has been waited for so long is looked for again after this part of it.
const PART_OF_WAIT: u32 = 4;
/// The longest pause: 100 wake-ups a second cost a rank about 0.2 % of a core.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause while a message is in mid-transfer, which goes on only when this rank looks after it.
const TRANSFER_PAUSE: Duration = Duration::from_micros(128);

/// How a rank that listens eagerly waits, as numbers: for whoever reckons with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EagerPauses {
    /// It does not sleep before.
    pub awake: Duration,
    /// Then it sleeps for this part of the time that it has waited …
    pub part: f64,
    /// … but not for less, …
    pub shortest: Duration,
    /// … and not for longer.
    pub longest: Duration,
}

/// See [`EagerPauses`].
pub fn eager_pauses() -> EagerPauses {
    EagerPauses { awake: YIELD, part: 1.0 / f64::from(PART_OF_WAIT), shortest: FIRST_PAUSE, longest: LONGEST_PAUSE }
}

/// What to do before looking again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Spin,
    /// Give up the core for once.
    Yield,
    /// Sleep for so long.
    Sleep(Duration),
}

/// Where a rank stands between active and asleep. It carries over from one wait to the next.
#[derive(Debug, Default)]
pub(super) struct Idle {
    since: Option<Instant>,
    pause: Duration,
}

impl Idle {
    /// Something happened: the next wait spins first.
    pub(super) fn reset(&mut self) {
        self.since = None;
    }

    /// Nothing happened until `now`. While `transferring`, pauses stay short; who does not listen eagerly sleeps at once.
    pub(super) fn next(&mut self, now: Instant, transferring: bool, listen: Listen) -> Step {
        let since = *self.since.get_or_insert_with(|| {
            self.pause = FIRST_PAUSE;
            now
        });
        let idle = now.saturating_duration_since(since);
        let longest = match listen {
            Listen::Eagerly => None,
            Listen::Lazily(longest) => Some(longest.min(LONGEST_PAUSE)),
            Listen::No => Some(LONGEST_PAUSE),
        };
        if let (Some(longest), false) = (longest, transferring) {
            let pause = self.pause.max(FIRST_LAZY_PAUSE).min(longest);
            self.pause = (pause * 2).min(LONGEST_PAUSE);
            Step::Sleep(pause)
        } else if idle < SPIN {
            Step::Spin
        } else if idle < YIELD {
            Step::Yield
        } else if transferring {
            Step::Sleep(self.pause.min(TRANSFER_PAUSE))
        } else {
            // A part of the time waited so far: two ranks that take turns would otherwise each find the other asleep for as
            // long as it had slept itself, for ever. So each answer comes sooner than the one before.
            Step::Sleep((idle / PART_OF_WAIT).clamp(FIRST_PAUSE, LONGEST_PAUSE))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps of a rank to which nothing happens; a spin or yield takes a microsecond.
    fn steps(idle: &mut Idle, start: Instant, count: usize, transferring: bool) -> Vec<Step> {
        let mut now = start;
        (0..count)
            .map(|_| {
                let step = idle.next(now, transferring, Listen::Eagerly);
                now += match step {
                    Step::Sleep(pause) => pause,
                    _ => Duration::from_micros(1),
                };
                step
            })
            .collect()
    }

    #[test]
    fn an_idle_rank_spins_then_yields_then_sleeps_ever_longer_up_to_the_bound() {
        let steps = steps(&mut Idle::default(), Instant::now(), 80, false);
        assert_eq!(steps[..10], [Step::Spin; 10]);
        assert_eq!(steps[10..40], [Step::Yield; 30]);
        let pauses: Vec<_> = steps[40..]
            .iter()
            .map(|step| match step {
                Step::Sleep(pause) => *pause,
                other => panic!("{other:?} after the first pause"),
            })
            .collect();
        assert_eq!(pauses[0], FIRST_PAUSE);
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
    }

    #[test]
    fn two_that_take_turns_wake_each_other_up() {
        // Each waits while the other sleeps; both have slept for long.
        let (mut idle, mut waited) = (Idle::default(), Duration::from_millis(40));
        for _ in 0..40 {
            idle.reset();
            let (start, mut now) = (Instant::now(), Instant::now());
            let arrives = now + waited;
            // The answer comes when the pause in which it arrived is over.
            while now < arrives {
                now += match idle.next(now, false, Listen::Eagerly) {
                    Step::Sleep(pause) => pause,
                    _ => Duration::from_micros(1),
                };
            }
            waited = now.duration_since(start) - waited + Duration::from_micros(2);
        }
        assert!(waited < YIELD, "each still waits for {waited:?}");
    }

    #[test]
    fn activity_starts_it_over() {
        let mut idle = Idle::default();
        let start = Instant::now();
        steps(&mut idle, start, 60, false);
        idle.reset();
        assert_eq!(idle.next(start + Duration::from_secs(1), false, Listen::Eagerly), Step::Spin);
        let later = start + Duration::from_secs(1) + YIELD;
        assert_eq!(idle.next(later, false, Listen::Eagerly), Step::Sleep(FIRST_PAUSE));
    }

    #[test]
    fn who_listens_lazily_sleeps_at_once_and_not_longer_than_it_said() {
        let (mut idle, start) = (Idle::default(), Instant::now());
        let mut next = |listen| idle.next(start, false, listen);
        assert_eq!(next(Listen::Lazily(LONGEST_PAUSE)), Step::Sleep(FIRST_LAZY_PAUSE));
        assert_eq!(next(Listen::Lazily(LONGEST_PAUSE)), Step::Sleep((2 * FIRST_LAZY_PAUSE).min(LONGEST_PAUSE)));
        assert_eq!(next(Listen::Lazily(FIRST_LAZY_PAUSE)), Step::Sleep(FIRST_LAZY_PAUSE));
        assert!(matches!(next(Listen::No), Step::Sleep(_)));
    }

    #[test]
    fn pauses_stay_short_in_mid_transfer() {
        let mut idle = Idle::default();
        for step in steps(&mut idle, Instant::now(), 200, true) {
            assert!(!matches!(step, Step::Sleep(pause) if pause > TRANSFER_PAUSE));
        }
    }
}
