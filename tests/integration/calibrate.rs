//! `myriarch bench calibrate` under the MPI of this build: what it writes is a model that the simulator takes. The figures
//! themselves are not judged, since a test has the machine never for itself.
#![cfg(feature = "mpi")]

use crate::common::{Launch, World};

/// Calibrates on a launch, with short measurements; the text of the model.
fn calibrated(world: &World, launch: Launch, more: &[&str]) -> String {
    let words = ["bench", "calibrate", "--seconds", "0.05", "--out", "here.toml", "--dir", "."];
    world.run(launch, &[&words, more].concat()).with(0);
    world.read("here.toml")
}

/// The sources of a model's figures, by section and key.
fn source(model: &str, section: &str, key: &str) -> String {
    let (_, rest) = model.split_once(&format!("[{section}]\n")).expect(section);
    let line = rest.lines().find(|line| line.starts_with(&format!("{key} = "))).expect(key);
    line.split_once("source = ").expect("each figure has one").1.to_owned()
}

#[test]
fn a_machine_that_was_measured_can_be_simulated() {
    for launch in [Launch::MPI_2, Launch::MPI_4] {
        let world = World::new();
        let model = calibrated(&world, launch, &[]);
        assert_eq!(world.listing(), ["here.toml"], "nothing else is left");
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        assert!(host.trim().len() < 4 || !model.contains(host.trim()), "it names the host:\n{model}");
        assert!(source(&model, "network.local", "latency_ns").contains("measured "), "{model}");
        assert!(source(&model, "network.remote", "latency_ns").contains("estimate: as network.local"), "{model}");
        let words = ["simulate", "--model", "here.toml", "--nodes", "3", "--ranks-per-node", "4", "--json"];
        let report: serde_json::Value = serde_json::from_str(world.alone(&words).with(0).text()).unwrap();
        assert_eq!(report["tasks"], 120, "{report}");
        let utilisation = report["utilisation"].as_f64().unwrap();
        assert!(0.0 < utilisation && utilisation <= 1.0, "{report}");
    }
}

#[test]
fn links_between_nodes_are_measured_where_there_are_several() {
    let world = World::new();
    let model = calibrated(&world, Launch::MPI_4, &["--ranks-per-node", "2"]);
    for section in ["network.local", "network.remote"] {
        assert!(source(&model, section, "byte_ns").contains("measured "), "{model}");
    }
    let model = calibrated(&world, Launch::MPI_2, &["--ranks-per-node", "1"]);
    assert!(source(&model, "network.local", "byte_ns").contains("estimate: as network.remote"), "{model}");
    assert!(source(&model, "network.remote", "byte_ns").contains("measured "), "{model}");
}

#[test]
fn without_a_file_the_model_is_printed() {
    let world = World::new();
    let ended = world.run(Launch::MPI_2, &["bench", "calibrate", "--seconds", "0.02"]).with(0);
    assert!(ended.text().contains("\n[rank]\nhandle_ns = { value = "), "{}", ended.text());
    for what in ["messages between ranks of a node", "tasks one at a time", "calls of functions", "processes", "files"]
    {
        ended.says_once(&format!("myriarch: measuring {what}"));
    }
}

#[test]
fn what_cannot_be_measured_or_written_is_told_once_and_nothing_is_left() {
    let world = World::new();
    world.alone(&["bench", "calibrate"]).with(2).says_once("mpiexec -n 2 myriarch bench calibrate");
    let refused = |launch, more: &[&str], says: &str| {
        let ended = world.run(launch, &[&["bench", "calibrate"], more].concat());
        ended.says_once(says);
        assert_ne!(ended.code, Some(0), "{more:?}");
        assert!(ended.stdout.is_empty(), "{}", ended.text());
    };
    refused(Launch::MPI_1, &[], "there is one rank, and two are needed");
    refused(Launch::MPI_2, &["--out", "none/here.toml"], "cannot write none/here.toml: No such file or directory");
    refused(Launch::MPI_2, &["--dir", "none"], "cannot make a folder in none: No such file or directory");
    refused(Launch::MPI_2, &["--dir", "none", "--out", "here.toml"], "cannot make a folder in none");
    refused(Launch::MPI_4, &["--ranks-per-node", "3"], "--ranks-per-node 3: 4 ranks are no such nodes without a rest");
    refused(Launch::MPI_2, &["--ranks-per-node", "4"], "--ranks-per-node 4: there are no more than 2 ranks");
    refused(Launch::MPI_2, &["--seconds", "0"], "\"0\" is no number of seconds above 0");
    assert!(world.listing().is_empty(), "{:?}", world.listing());
}
