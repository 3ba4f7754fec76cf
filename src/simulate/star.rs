//! A flat star, to compare with: a hub that speaks to every worker itself, hands out one task at a time to whoever has asked
//! for one, and looks ahead for nobody. Three messages a task: a worker asks, is handed a task, says how it ended. The hub
//! takes up one message after the other, in the order in which they came.
//!
//! Knows the models' network and how long tasks take, and nothing of the scheduler.

use super::Nanos;
use super::model::{Link, Numbers};
use super::queue::Queue;
use super::tasks::Tasks;
use crate::task::Rank;
use serde::Serialize;
use std::collections::VecDeque;

/// Bytes of a message: a short task, or its result.
const MESSAGE_BYTES: u64 = 256;
/// Messages of a task that the hub has to do with.
const MESSAGES: f64 = 3.0;

/// A star.
#[derive(Clone, Debug)]
pub struct Star {
    /// Workers. The hub is none of them, and on no node of theirs.
    pub workers: u32,
    /// What things cost there.
    pub numbers: Numbers,
    /// Tasks a second for which the hub has time, at most, beside the network; a third of that goes into each message of a
    /// task. Without it the hub is as fast as a rank of the model: each message that it takes up costs `handle_ns` and
    /// `range_ns`.
    pub hub_rate: Option<f64>,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StarFigures {
    /// Tasks with a result.
    pub tasks: u64,
    /// Workers.
    pub slots: u64,
    /// From the first hand-out to the last result.
    pub makespan_seconds: f64,
    /// Share of the workers' time in tasks.
    pub utilisation: f64,
    /// Tasks by makespan.
    pub tasks_per_second: f64,
    /// Share of the makespan in which the hub was at work.
    pub hub_busy: f64,
    /// Messages that the hub received.
    pub manager_messages: u64,
    /// Messages that waited for it, at the most.
    pub queue_peak: usize,
    /// The longest time from the end of a task to when the hub took up its result.
    pub longest_wait_seconds: f64,
    /// Events that were simulated.
    pub events: u64,
}

/// What has come to the hub.
enum Said {
    /// This worker wants a task.
    Ready(u32),
    /// A task has ended, then.
    Result { ended: Nanos },
}

/// The hub: one message after the other.
struct Hub<'s> {
    link: &'s Link,
    /// Its own work for a message received, and for one sent.
    taking: Nanos,
    handing: Nanos,
    free_at: Nanos,
    busy: Nanos,
    messages: u64,
    /// When each message that has not been taken up yet will be.
    waiting: VecDeque<Nanos>,
    queue_peak: usize,
}

impl<'s> Hub<'s> {
    fn new(star: &'s Star) -> Self {
        let rank = &star.numbers.rank;
        let (taking, handing) = match star.hub_rate {
            Some(rate) => {
                let each = (1e9 / rate / MESSAGES) as Nanos;
                (each, each)
            }
            None => (rank.handle_ns + rank.range_ns, 0),
        };
        let link = &star.numbers.network.remote;
        Self { link, taking, handing, free_at: 0, busy: 0, messages: 0, waiting: VecDeque::new(), queue_peak: 0 }
    }

    /// Takes up what came then, and has perhaps waited; when that is done. What comes of it is its own work, or nothing.
    fn take_up(&mut self, came: Nanos, has_work: bool) -> Nanos {
        while self.waiting.front().is_some_and(|taken| *taken <= came) {
            self.waiting.pop_front();
        }
        let start = self.free_at.max(came);
        if start > came {
            self.waiting.push_back(start);
            self.queue_peak = self.queue_peak.max(self.waiting.len());
        }
        self.messages += 1;
        self.works(start, self.link.receive_ns + if has_work { self.taking } else { 0 })
    }

    /// Hands a task to a worker; when it is sent, and when the worker has it.
    fn hand(&mut self) -> (Nanos, Nanos) {
        let sent = self.works(self.free_at, self.handing + self.link.send_ns);
        (sent, sent + self.link.way_ns(MESSAGE_BYTES) + self.link.receive_ns)
    }

    fn works(&mut self, from: Nanos, takes: Nanos) -> Nanos {
        self.busy += takes;
        self.free_at = from + takes;
        self.free_at
    }
}

/// Runs all tasks, as functions.
pub fn simulate_star(star: &Star, tasks: &dyn Tasks) -> StarFigures {
    let link = &star.numbers.network.remote;
    let way = link.way_ns(MESSAGE_BYTES);
    let mut hub = Hub::new(star);
    let mut events = Queue::new();
    (0..star.workers).for_each(|worker| events.push(link.send_ns + way, Said::Ready(worker)));
    let (mut next, mut steps) = (0, 0);
    let (mut first, mut last, mut in_tasks, mut longest_wait) = (None, 0, 0, 0);
    while let Some((came, said)) = events.pop() {
        steps += 1;
        // Who asks when nothing is left costs nothing but the message: the rate of a hub has it in it.
        let has_work = next < tasks.count() || matches!(said, Said::Result { .. });
        let taken = hub.take_up(came, has_work);
        match said {
            Said::Ready(worker) if has_work => {
                let (sent, begins) = hub.hand();
                first.get_or_insert(sent);
                let takes = tasks.duration_ns(next, 0, Rank(worker)) + star.numbers.rank.call_ns;
                let ended = begins + takes;
                in_tasks += takes;
                next += 1;
                // It says how the task ended, and asks for the next.
                events.push(ended + link.send_ns + way, Said::Result { ended });
                events.push(ended + 2 * link.send_ns + way, Said::Ready(worker));
            }
            Said::Ready(_) => {}
            Said::Result { ended } => {
                last = taken;
                longest_wait = longest_wait.max(taken - ended);
            }
        }
    }
    let makespan = last.saturating_sub(first.unwrap_or(0)).max(1) as f64;
    StarFigures {
        tasks: next,
        slots: u64::from(star.workers),
        makespan_seconds: makespan / 1e9,
        utilisation: in_tasks as f64 / makespan / f64::from(star.workers.max(1)),
        tasks_per_second: next as f64 * 1e9 / makespan,
        hub_busy: (hub.busy as f64 / makespan).min(1.0),
        manager_messages: hub.messages,
        queue_peak: hub.queue_peak,
        longest_wait_seconds: longest_wait as f64 / 1e9,
        events: steps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::{Drawn, Durations, Model};
    use crate::task::Shape;

    fn star(model: &str, workers: u32, hub_rate: Option<f64>) -> Star {
        Star { workers, numbers: Model::named(model).expect(model).numbers(), hub_rate }
    }

    fn tasks(tasks: u64, each: &str) -> Drawn {
        Drawn { tasks, shape: Shape::CALL, durations: Durations::parse(each).expect(each), seed: 1 }
    }

    #[test]
    fn ten_no_ops_for_each_of_262144_workers_take_as_long_as_published() {
        // Parsl's EXEX, HPDC'19: about 415 tasks a second, some 6,300 s.
        let figures = simulate_star(&star("gemini", 262_144, Some(415.0)), &tasks(2_621_440, "0"));
        assert_eq!(figures.tasks, 2_621_440);
        assert!((5_670.0..6_930.0).contains(&figures.makespan_seconds), "{figures:?}");
        assert!((373.0..457.0).contains(&figures.tasks_per_second), "{figures:?}");
        assert!(figures.hub_busy > 0.99 && figures.queue_peak > 200_000, "{figures:?}");
    }

    #[test]
    fn few_workers_are_kept_busy_and_many_wait_for_the_hub() {
        let run = |workers: u32, ms: u64| {
            simulate_star(&star("gemini", workers, Some(1_000.0)), &tasks(10 * u64::from(workers), &format!("{ms}ms")))
        };
        // 100 workers with tasks of 1 s ask for 100 tasks a second, 10,000 for ten times as many as the hub can hand out.
        let few = run(100, 1_000);
        assert!((10.0..10.3).contains(&few.makespan_seconds), "{few:?}");
        let many = run(10_000, 1_000);
        assert!((99.0..102.0).contains(&many.makespan_seconds), "{many:?}");
        assert!(few.utilisation > 0.97 && many.utilisation < 0.11, "{few:?} {many:?}");
    }

    #[test]
    fn a_hub_gives_its_rate_and_no_more_however_long_no_ops_are_waited_for() {
        for rate in [415.0, 1_176.0] {
            let figures = simulate_star(&star("infiniband", 64, Some(rate)), &tasks(20_000, "0"));
            let share = figures.tasks_per_second / rate;
            assert!((0.97..=1.0).contains(&share), "{share} of {rate}: the network takes its part");
        }
    }

    #[test]
    fn one_worker_pays_each_way_for_each_task() {
        let star = star("slingshot", 1, None);
        let (link, rank) = (&star.numbers.network.remote, &star.numbers.rank);
        let figures = simulate_star(&star, &tasks(1_000, "0"));
        let way = link.way_ns(MESSAGE_BYTES);
        // There and back, and what each end does; its result is taken up before it is handed the next.
        let least = 2 * (link.send_ns + way + link.receive_ns) + rank.call_ns + rank.handle_ns;
        let most = least + 2 * (link.send_ns + link.receive_ns + rank.handle_ns + rank.range_ns);
        let each = figures.makespan_seconds * 1e9 / 1_000.0;
        assert!(each > least as f64 && each < most as f64, "{each}, {least} to {most}");
    }

    #[test]
    fn the_longest_queue_is_that_of_all_who_ask_at_once() {
        let figures = simulate_star(&star("local", 100, Some(100.0)), &tasks(100, "1s"));
        assert_eq!(figures.queue_peak, 99, "the first is taken up at once");
        assert_eq!(figures.manager_messages, 300, "each asks twice and tells once");
    }
}
