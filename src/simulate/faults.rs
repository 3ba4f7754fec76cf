//! What goes wrong in a simulated start: drawn from a seed, swarm style (Groce, Zhang, Eide, Chen, Regehr: Swarm Testing,
//! ISSTA 2012): first which kinds of faults there are at all, then their moments and places, so that some runs have much of
//! one kind and none of another.

use super::Nanos;
use super::draws::Draws;
use super::layout::Layout;
use super::roles::PASSED_FIRST;
use crate::task::{EndedBy, IndexRange, Rank};
use serde::Serialize;
use std::fmt;

const MILLI: Nanos = 1_000_000;
const SECOND: Nanos = 1_000_000_000;

/// Something that goes wrong, or is asked for, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Fault {
    /// The rank does nothing for so long; its tasks go on.
    Stall(Rank, Nanos),
    /// The rank dies, and its tasks with it.
    Lose(Rank),
    /// All ranks of a node die; the node's first rank.
    LoseNode(Rank),
    /// The parent gives up a rank that is well.
    GiveUp(Rank),
    /// The rank can start no process any more; what runs ends as crashed.
    Break(Rank),
    /// The rank starts nothing for so long: its outputs wait to be sent.
    HoldBack(Rank, Nanos),
    /// Tasks are cancelled.
    Cancel(IndexRange),
    /// The run is to stop. Grace in nanoseconds.
    Drain(EndedBy, Nanos),
    /// Nothing can be written any more.
    FullDisk,
    /// All ranks die at once, and what is not written is lost.
    Crash,
    /// Tasks up to this one are submitted.
    Submit(u64),
}

/// All that goes wrong in one start.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Faults {
    /// The kinds that there may be.
    pub kinds: Vec<&'static str>,
    /// One message of so many is late, by up to so long.
    pub late: Option<(u64, Nanos)>,
    /// How long a rank is silent until its parent gives it up.
    pub patience: Nanos,
    /// Writing takes no less than this.
    pub slow_files: Nanos,
    /// How long a task goes on that is told to end.
    pub stubborn: Nanos,
    /// Bytes of outcomes that come before a node makes a segment of its own.
    pub passed_first: u64,
    /// Tasks that are there at the start; the others are submitted later.
    pub submitted: Option<u64>,
    /// The run stops when more tasks than this have failed.
    pub max_fails: Option<u64>,
    /// When what happens.
    pub events: Vec<(Nanos, Fault)>,
    /// For what is drawn meanwhile.
    pub(super) seed: u64,
}

/// Kinds that there are at bad moments too.
pub(super) const GIVEN_UP: &str = "given up though well";
pub(super) const STALLS: &str = "stalls";
pub(super) const LOSSES: &str = "losses";
const KINDS: [&str; 14] = [
    STALLS,
    "late messages",
    LOSSES,
    "lost nodes",
    GIVEN_UP,
    "broken slots",
    "held back",
    "cancels",
    "drains",
    "full disk",
    "slow disk",
    "crash",
    "stubborn tasks",
    "tasks in parts",
];

impl Faults {
    /// A start in which nothing goes wrong.
    pub(super) fn none(seed: u64) -> Self {
        Self {
            kinds: Vec::new(),
            late: None,
            patience: SECOND,
            slow_files: 0,
            stubborn: 5_000,
            passed_first: PASSED_FIRST,
            submitted: None,
            max_fails: None,
            events: Vec::new(),
            seed,
        }
    }

    /// Draws what goes wrong. `span`: about how long the run takes; `known`: tasks that were submitted before.
    pub(super) fn draw(seed: u64, layout: &Layout, tasks: u64, known: u64, span: Nanos) -> Self {
        let mut draws = Draws::new(seed);
        let few = draws.pick(&[2, 3, 3, 5]);
        let kinds: Vec<&'static str> = KINDS.into_iter().filter(|_| draws.one_in(few)).collect();
        let mut faults = Self { patience: draws.pick(&[20, 100, 500, 2_000]) * MILLI, ..Self::none(draws.next()) };
        faults.passed_first = Draws::of(seed, 9).pick(&[0, 0, 300, PASSED_FIRST]);
        let when = When { span, patience: faults.patience };
        let others = u64::from(layout.ranks().saturating_sub(1));
        for kind in &kinds {
            // The draws of one kind change nothing for the others.
            let number = KINDS.iter().position(|one| one == kind).unwrap_or(0);
            let mut own = Draws::of(seed, 10 + number as u64);
            let draws = &mut own;
            let rank = |draws: &mut Draws| Rank(1 + draws.below(others) as u32);
            let mut events = Vec::new();
            match *kind {
                "late messages" => {
                    let longest = draws.pick(&[MILLI, 30 * MILLI, 2 * faults.patience]);
                    faults.late = Some((draws.pick(&[1, 3, 20, 200]), longest));
                }
                "slow disk" => faults.slow_files = draws.pick(&[1, 30, 1_000]) * MILLI,
                "stubborn tasks" => faults.stubborn = draws.pick(&[5, 100, 5_000]) * MILLI,
                STALLS => {
                    let count = draws.between(1, 6);
                    events.extend((0..count).map(|_| {
                        let rank = Rank(draws.below(others + 1) as u32);
                        (when.draw(draws), Fault::Stall(rank, when.long(draws)))
                    }));
                }
                LOSSES | "lost nodes" | GIVEN_UP | "broken slots" | "held back" if others > 0 => {
                    let most = if *kind == GIVEN_UP { 8 } else { 1 + others / 3 };
                    let count = draws.between(1, most);
                    events.extend((0..count).map(|_| {
                        let (at, rank) = (when.draw(draws), rank(draws));
                        let first = Rank(rank.0 / layout.ranks_per_node * layout.ranks_per_node);
                        let fault = match *kind {
                            LOSSES => Fault::Lose(rank),
                            "lost nodes" if first == Rank::MANAGER => Fault::Lose(rank),
                            "lost nodes" => Fault::LoseNode(first),
                            GIVEN_UP => Fault::GiveUp(rank),
                            "broken slots" => Fault::Break(rank),
                            _ => Fault::HoldBack(rank, when.long(draws)),
                        };
                        (at, fault)
                    }));
                }
                "cancels" => {
                    let count = draws.between(1, 4);
                    events.extend((0..count).map(|_| {
                        let start = draws.below(tasks);
                        let most = draws.pick(&[1, 20, tasks]);
                        let len = 1 + draws.below((tasks - start).min(most));
                        (when.draw(draws), Fault::Cancel(IndexRange::new(start, (start + len).min(tasks))))
                    }));
                }
                "drains" => {
                    let count = draws.pick(&[1, 1, 1, 3]);
                    events.extend((0..count).map(|_| {
                        let why = draws.pick(&[EndedBy::Walltime, EndedBy::Signal, EndedBy::Stop]);
                        let grace = draws.pick(&[0, MILLI, span / 8, 20 * SECOND]);
                        (when.draw(draws), Fault::Drain(why, grace))
                    }));
                    if draws.one_in(4) {
                        faults.max_fails = Some(draws.below(20));
                    }
                }
                "full disk" => events.push((when.draw(draws), Fault::FullDisk)),
                "crash" => events.push((when.draw(draws), Fault::Crash)),
                "tasks in parts" => {
                    let mut parts = vec![known];
                    parts.extend((0..draws.between(1, 5)).map(|_| draws.between(known, tasks)));
                    parts.sort_unstable();
                    let mut moments: Vec<Nanos> = parts.iter().map(|_| when.draw(draws)).collect();
                    moments.sort_unstable();
                    faults.submitted = Some(parts[0]);
                    let last = parts[1..].iter().copied().chain([tasks]);
                    events.extend(moments.into_iter().zip(last.map(Fault::Submit)));
                }
                _ => {}
            }
            faults.events.append(&mut events);
        }
        faults.events.sort_by_key(|(at, _)| *at);
        Self { kinds, ..faults }
    }

    /// What there may be, for people.
    pub fn summary(&self) -> String {
        let Self { kinds, patience, .. } = self;
        let kinds = if kinds.is_empty() { "nothing goes wrong".to_owned() } else { kinds.join(", ") };
        format!("{kinds}; given up after {}", Time(*patience))
    }

    /// When the last of them has passed.
    pub(super) fn end(&self) -> Nanos {
        let end = |(at, fault): &(Nanos, Fault)| match fault {
            Fault::Stall(_, long) | Fault::HoldBack(_, long) | Fault::Drain(_, long) => at + long,
            _ => *at,
        };
        self.events.iter().map(end).max().unwrap_or(0)
    }
}

/// Moments of a run.
struct When {
    span: Nanos,
    patience: Nanos,
}

impl When {
    /// Half of them anywhere in the run, half of them near its beginning or end.
    fn draw(&self, draws: &mut Draws) -> Nanos {
        let early = (self.span as f64 * draws.unit().powi(6)) as Nanos;
        match draws.below(4) {
            0 => early,
            1 => self.span.saturating_sub(early / 2),
            _ => draws.below(self.span + self.span / 4),
        }
    }

    /// How long something lasts: shorter or longer than a parent's patience.
    fn long(&self, draws: &mut Draws) -> Nanos {
        let most = draws.pick(&[self.patience / 8, self.patience, 3 * self.patience]);
        draws.below(most)
    }
}

/// A time, for people.
pub(super) struct Time(pub(super) Nanos);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6} s", self.0 as f64 / 1e9)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Stall(rank, long) => write!(f, "rank {rank} stalls for {}", Time(*long)),
            Fault::Lose(rank) => write!(f, "rank {rank} dies"),
            Fault::LoseNode(first) => write!(f, "the node of rank {first} dies"),
            Fault::GiveUp(rank) => write!(f, "rank {rank} is given up though it is well"),
            Fault::Break(rank) => write!(f, "rank {rank} can start nothing any more"),
            Fault::HoldBack(rank, long) => write!(f, "rank {rank} starts nothing for {}", Time(*long)),
            Fault::Cancel(range) => write!(f, "tasks {} to {} are cancelled", range.start, range.end - 1),
            Fault::Drain(why, grace) => write!(f, "drain ({why}) with a grace of {}", Time(*grace)),
            Fault::FullDisk => write!(f, "the disk is full"),
            Fault::Crash => write!(f, "all ranks die"),
            Fault::Submit(end) => write!(f, "tasks up to {end} are submitted"),
        }
    }
}
