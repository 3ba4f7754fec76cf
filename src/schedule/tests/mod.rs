//! The protocol's rules as tests, each on a small virtual cluster.

mod cluster;
mod faults;
mod policy;
mod regression;

use super::Settings;
use crate::task::{Rank, Shape as TaskShape, Status};
use cluster::{Behaviour, Cluster, Shape};

fn settings() -> Settings {
    Settings { crash_limit: 5, max_fails: None, max_running: None, grace_us: 1_000_000, nodes: 1 }
}

fn one_core(retries: u32) -> TaskShape {
    TaskShape { retries, ..TaskShape::PROCESS }
}

fn each_takes(us: u64) -> Behaviour {
    Box::new(move |_, _, _| (us, Status::Ok))
}

/// A tree of 1, 2 or 3 levels of links over 8 workers with 2 slots.
fn depth(levels: u8) -> Shape {
    match levels {
        1 => Shape { nodes: 1, ranks_per_node: 8, slots: 2, fan_out: 64 },
        2 => Shape { nodes: 4, ranks_per_node: 2, slots: 2, fan_out: 64 },
        _ => Shape { nodes: 4, ranks_per_node: 2, slots: 2, fan_out: 2 },
    }
}

fn run(shape: &Shape, settings: Settings, tasks: u64, retries: u32, behaviour: Behaviour) -> Cluster {
    let settings = Settings { nodes: shape.nodes, ..settings };
    Cluster::new(shape, settings, tasks, one_core(retries), behaviour).run(3_600_000_000)
}

/// A cheap, repeatable source of numbers for durations and faults.
#[derive(Clone)]
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn rank(n: u32) -> Rank {
    Rank(n)
}
