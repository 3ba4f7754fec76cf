//! What tasks are bound to, by their own word. Where there is one core only, some of it shows nothing, and says so.

use crate::common::{Launch, World, outputs};
use std::collections::{BTreeMap, BTreeSet};

type Cores = BTreeSet<u32>;

/// `0-3,8` as Linux writes it.
fn cores(list: &str) -> Cores {
    let number = |text: &str| text.parse::<u32>().unwrap_or_else(|_| panic!("{list:?} is no list of cores"));
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        number(first)..=number(last)
    };
    list.trim().split(',').flat_map(range).collect()
}

/// What this process may use, and with it what the ranks may.
fn own() -> Cores {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    cores(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap())
}

/// Those of the own cores that lie on one NUMA node, for each node.
fn numa_nodes() -> Vec<Cores> {
    let entries = std::fs::read_dir("/sys/devices/system/node").into_iter().flatten().flatten();
    let lists = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cpulist")).ok());
    let nodes: Vec<Cores> = lists.filter(|list| !list.trim().is_empty()).map(|list| cores(&list)).collect();
    let own = own();
    if nodes.is_empty() { vec![own] } else { nodes.iter().map(|node| node & &own).collect() }
}

/// Runs as many tasks as slots, all at once, and returns what those of each slot may use.
fn bound(launch: Launch, slots: usize, options: &[&str]) -> BTreeMap<u32, Cores> {
    let world = World::new();
    let (slots, last) = (slots.to_string(), (slots - 1).to_string());
    let all_run = format!("touch here.{{}}; while test $(ls here.* | wc -l) -le {last}; do sleep 0.01; done");
    let line = format!("{all_run}; echo {{%}}; grep Cpus_allowed_list: /proc/self/status");
    let array = format!("0-{last}");
    let words = [&["run", "--out", "run", "-j", &slots, "--array", &array], options, &["--", &line]].concat();
    world.run(launch, &words).with(0);
    let said = outputs(&world, "run");
    let of = |row: &serde_json::Value| {
        let mut lines = row["stdout"].as_str().unwrap().lines();
        let slot = lines.next().unwrap().parse().unwrap();
        (slot, cores(lines.next().unwrap().strip_prefix("Cpus_allowed_list:").unwrap()))
    };
    let bound: BTreeMap<u32, Cores> = said.iter().map(of).collect();
    assert_eq!(bound.len(), said.len(), "{}: each ran on a slot of its own: {said:?}", launch.name);
    bound
}

/// Threads, and two ranks that share the cores.
fn launches() -> Vec<Launch> {
    Launch::possible(&[Launch::ALONE, Launch::MPI_2])
}

/// Whether there are two cores to share out.
fn has_two_cores() -> bool {
    let two = own().len() >= 2;
    if !two {
        eprintln!("skipped: this takes two cores, and there is one");
    }
    two
}

#[test]
fn each_slot_has_cores_of_its_own() {
    if !has_two_cores() {
        return;
    }
    for launch in launches() {
        // Cores is the default.
        for options in [&["--pin", "core"][..], &[]] {
            let bound = bound(launch, 2, options);
            assert!(bound.values().all(|cores| !cores.is_empty()), "{}: {bound:?}", launch.name);
            assert!(bound[&0].is_disjoint(&bound[&1]), "{}: {bound:?}", launch.name);
            assert_eq!(&bound[&0] | &bound[&1], own(), "{}: no core is left over", launch.name);
            assert!(bound[&0].len().abs_diff(bound[&1].len()) <= 1, "{}: {bound:?}", launch.name);
        }
    }
}

#[test]
fn as_many_slots_as_cores_have_a_core_each() {
    let own = own();
    if own.len() > 64 {
        return eprintln!("skipped: a task for each of {} cores is too much of a load for a test", own.len());
    }
    let bound = bound(Launch::ALONE, own.len(), &["--pin", "core"]);
    assert!(bound.values().all(|cores| cores.len() == 1), "{bound:?}");
    assert_eq!(bound.into_values().flatten().collect::<Cores>(), own);
}

#[test]
fn with_numa_a_slot_has_what_its_rank_has_on_the_nodes_of_its_cores() {
    if !has_two_cores() {
        return;
    }
    let nodes = numa_nodes();
    for launch in launches() {
        let numa = bound(launch, 2, &["--pin", "numa"]);
        let core = bound(launch, 2, &["--pin", "core"]);
        for (slot, cores) in &numa {
            let near = nodes.iter().filter(|node| !node.is_disjoint(&core[slot]));
            assert_eq!(*cores, near.flatten().copied().collect::<Cores>(), "{}: slot {slot}", launch.name);
        }
    }
}

#[test]
fn with_none_a_slot_has_what_its_rank_has() {
    for launch in launches() {
        let bound = bound(launch, 2, &["--pin", "none"]);
        assert!(bound.values().all(|cores| *cores == own()), "{}: {bound:?}", launch.name);
    }
}

#[test]
fn nothing_is_bound_where_slots_outnumber_cores() {
    let own = own();
    if own.len() > 64 {
        return eprintln!("skipped: more tasks than {} cores are too much of a load for a test", own.len());
    }
    for launch in launches() {
        for pin in ["core", "numa"] {
            let bound = bound(launch, own.len() + 1, &["--pin", pin]);
            assert!(bound.values().all(|cores| *cores == own), "{}, {pin}: {bound:?}", launch.name);
        }
    }
}

#[test]
fn a_wide_task_has_the_cores_of_all_its_slots() {
    if !has_two_cores() {
        return;
    }
    for launch in Launch::possible(&[Launch::ALONE, Launch::MPI_1]) {
        let world = World::new();
        let line = "grep Cpus_allowed_list: /proc/self/status; echo $OMP_NUM_THREADS";
        let words = ["run", "--out", "run", "-j", "2", "--cores", "2", "--array", "0-3", "--", line];
        world.run(launch, &words).with(0);
        for row in outputs(&world, "run") {
            let said = row["stdout"].as_str().unwrap();
            let (list, threads) = said.split_once('\n').unwrap();
            assert_eq!(cores(list.strip_prefix("Cpus_allowed_list:").unwrap()), own(), "{}", launch.name);
            assert_eq!(threads, "2\n");
        }
    }
}
