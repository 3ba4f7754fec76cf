//! What is run: how many tasks, and what becomes of each attempt.

use super::{Durations, Layout, Nanos};
use crate::schedule::Shapes;
use crate::task::{IndexRange, Rank, Shape, Status};
use std::sync::Arc;

/// The tasks of a simulation. All answers depend on nothing but what is asked, so that it may be asked again.
pub trait Tasks {
    /// How many there are.
    fn count(&self) -> u64;

    /// What each of them takes, by position.
    fn shapes(&self) -> Arc<dyn Shapes>;

    /// Whether some of them are functions.
    fn calls(&self) -> bool;

    /// How long an attempt takes, from 0 on, on this rank. Nanoseconds.
    fn duration_ns(&self, index: u64, attempt: u32, rank: Rank) -> Nanos;

    /// How it ends.
    fn status(&self, _index: u64, _attempt: u32, _rank: Rank) -> Status {
        Status::Ok
    }

    /// Whether an attempt takes with it what runs it. `attempt` counts these too.
    fn crashes(&self, _index: u64, _attempt: u32, _rank: Rank) -> bool {
        false
    }

    /// Whether some attempt may end otherwise than well.
    fn may_fail(&self) -> bool {
        false
    }

    /// GPUs that each rank has.
    fn gpus(&self) -> u32 {
        0
    }

    /// How many times as long a rank's own work takes.
    fn slowness(&self, _rank: Rank) -> u64 {
        1
    }

    /// What one of them takes.
    fn shape_of(&self, index: u64) -> Shape {
        self.shapes().run_at(IndexRange::one(index)).1
    }

    /// How long the attempts of a range take one after the other. Nanoseconds.
    fn sum_ns(&self, range: IndexRange, attempt: u32, rank: Rank) -> Nanos {
        (range.start..range.end).map(|index| self.duration_ns(index, attempt, rank)).sum()
    }
}

/// Tasks of one shape that all end well, and whose durations are drawn.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// How many.
    pub tasks: u64,
    /// What each takes.
    pub shape: Shape,
    /// How long they take.
    pub durations: Durations,
    /// Which draws.
    pub seed: u64,
}

impl Tasks for Drawn {
    fn count(&self) -> u64 {
        self.tasks
    }

    fn shapes(&self) -> Arc<dyn Shapes> {
        Arc::new(self.shape)
    }

    fn calls(&self) -> bool {
        self.shape.calls
    }

    fn duration_ns(&self, index: u64, _: u32, _: Rank) -> Nanos {
        self.durations.duration_ns(self.seed, index)
    }

    fn sum_ns(&self, range: IndexRange, attempt: u32, rank: Rank) -> Nanos {
        match self.durations.fixed_ns() {
            Some(each) => each * range.len(),
            None => (range.start..range.end).map(|index| self.duration_ns(index, attempt, rank)).sum(),
        }
    }
}

/// Tasks on a machine some of whose nodes are bad: whatever starts there fails at once.
#[derive(Clone, Debug)]
pub struct OnBadNodes {
    /// What ends well elsewhere.
    pub drawn: Drawn,
    /// Where the ranks are.
    pub layout: Layout,
    /// The bad nodes.
    pub nodes: Vec<u32>,
}

impl OnBadNodes {
    /// How long it takes there until a task has failed.
    const FAILS_AFTER: Nanos = 1_000_000;

    fn is_bad(&self, rank: Rank) -> bool {
        self.nodes.contains(&self.layout.node_of(rank).0)
    }
}

impl Tasks for OnBadNodes {
    fn count(&self) -> u64 {
        self.drawn.count()
    }

    fn shapes(&self) -> Arc<dyn Shapes> {
        self.drawn.shapes()
    }

    fn calls(&self) -> bool {
        self.drawn.calls()
    }

    fn duration_ns(&self, index: u64, attempt: u32, rank: Rank) -> Nanos {
        if self.is_bad(rank) { Self::FAILS_AFTER } else { self.drawn.duration_ns(index, attempt, rank) }
    }

    fn status(&self, _: u64, _: u32, rank: Rank) -> Status {
        if self.is_bad(rank) { Status::Exit(1) } else { Status::Ok }
    }

    fn may_fail(&self) -> bool {
        !self.nodes.is_empty()
    }

    fn sum_ns(&self, range: IndexRange, attempt: u32, rank: Rank) -> Nanos {
        if self.is_bad(rank) { Self::FAILS_AFTER * range.len() } else { self.drawn.sum_ns(range, attempt, rank) }
    }
}
