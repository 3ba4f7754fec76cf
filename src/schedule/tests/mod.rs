//! The protocol's rules as tests, each on a small virtual machine.

mod benching;
mod faults;
mod policy;
mod regression;

use super::{Policy, Settings};
use crate::simulate::testing::{Behaviour, Ended, Room};
use crate::simulate::{Figures, Layout, Model, Numbers, Simulation, Tasks, simulate};
use crate::task::{Rank, Shape as TaskShape, Status};

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
fn depth(levels: u8) -> Layout {
    match levels {
        1 => layout(1, 8, 2, 64),
        2 => layout(4, 2, 2, 64),
        _ => layout(4, 2, 2, 2),
    }
}

fn layout(nodes: u32, ranks_per_node: u32, slots: u32, fan_out: u32) -> Layout {
    Layout { nodes, ranks_per_node, slots, fan_out, dedicated_manager: false }
}

fn run(layout: Layout, settings: Settings, tasks: u64, retries: u32, behaviour: Behaviour) -> Ended {
    Room::new(layout, settings).run(tasks, one_core(retries), behaviour)
}

fn on_slingshot(layout: Layout, tasks: &dyn Tasks) -> Figures {
    on_machine(Model::named("slingshot").expect("a model").numbers(), layout, tasks)
}

fn on_machine(numbers: Numbers, layout: Layout, tasks: &dyn Tasks) -> Figures {
    let what = Simulation {
        layout,
        numbers,
        policy: Policy::default(),
        records: true,
        losses: None,
        until: 1_000_000_000_000,
    };
    simulate(&what, tasks).expect("it ends")
}

fn rank(n: u32) -> Rank {
    Rank(n)
}
