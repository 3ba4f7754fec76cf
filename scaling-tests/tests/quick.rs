//! The whole way from the command line to table and plots, with the real program and ranks as threads: it takes no MPI.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// It takes seconds; what takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(120);
const PROGRAM: &str = env!("CARGO_BIN_EXE_scaling-tests");

/// The program to measure lies beside this crate's own: tests of the workspace have built it.
fn myriarch() -> PathBuf {
    let path = Path::new(PROGRAM).with_file_name("myriarch");
    assert!(path.exists(), "{} is not there: `cargo build` builds it", path.display());
    path
}

/// Runs the program to its end. What it says goes into files of the folder, which no child can keep open for ever.
fn scaling_tests(folder: &Path, arguments: &[&str]) -> Output {
    let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
    let file = |path: &Path| std::fs::File::create(path).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(arguments).current_dir(folder).env("TMPDIR", folder).stdin(Stdio::null());
    let mut child = command.stdout(file(&stdout)).stderr(file(&stderr)).spawn().unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > DEADLINE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{arguments:?} hangs: {}", std::fs::read_to_string(&stderr).unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    Output { status, stdout: std::fs::read(stdout).unwrap(), stderr: std::fs::read(stderr).unwrap() }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn modified(path: &Path) -> std::time::SystemTime {
    std::fs::metadata(path).unwrap().modified().unwrap()
}

#[test]
fn a_quick_look_writes_json_table_and_plots_and_keeps_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let myriarch = myriarch();
    let arguments =
        ["--quick", "--skip", "peers", "--out", "results", "--machine", "test-machine", "--launcher", "threads"];
    let arguments = [&arguments[..], &["--myriarch", myriarch.to_str().unwrap()]].concat();
    let output = scaling_tests(folder.path(), &arguments);
    assert!(output.status.success(), "{}", said(&output));

    let results = folder.path().join("results");
    let page = std::fs::read_to_string(results.join("README.md")).unwrap();
    for title in ["## Strong scaling", "## Weak scaling", "## Throughput", "## Latency", "## METG", "## Processes"] {
        assert!(page.contains(title), "{title} is not in\n{page}");
    }
    assert!(
        page.contains("**Quick look, figures that mean little: ") && page.contains("| measured, quick |"),
        "{page}"
    );
    for name in ["strong", "weak", "throughput", "latency", "metg", "processes", "simulated"] {
        let json = std::fs::read_to_string(results.join(format!("{name}.json"))).unwrap();
        assert!(json.contains("\"kind\": \"test-machine\"") && json.contains("\"quick\": \"yes\""), "{json}");
        let own = folder.path().to_str().unwrap();
        assert!(
            !json.contains(own) && !json.contains(env!("CARGO_MANIFEST_DIR")),
            "a path of this machine is in {json}"
        );
    }
    for name in ["strong", "weak", "throughput", "latency", "metg", "processes"] {
        assert!(std::fs::read(results.join(format!("{name}.png"))).unwrap().starts_with(b"\x89PNG"), "{name}");
        assert!(std::fs::read_to_string(results.join(format!("{name}.svg"))).unwrap().contains("QUICK LOOK"), "{name}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".scaling")), "scratch is left: {left:?}");

    let before = modified(&results.join("weak.json"));
    std::fs::remove_file(results.join("latency.json")).unwrap();
    let again = scaling_tests(folder.path(), &arguments);
    assert!(again.status.success() && said(&again).contains("weak: kept"), "{}", said(&again));
    assert!(results.join("latency.json").exists(), "what was missing is measured");
    assert_eq!(modified(&results.join("weak.json")), before);

    std::fs::write(results.join("latency.json"), "{").unwrap();
    for broken in [&arguments[..], &["plot", "results"]] {
        let said_of = scaling_tests(folder.path(), broken);
        assert!(!said_of.status.success() && said(&said_of).contains("latency.json is broken"), "{}", said(&said_of));
    }
    std::fs::remove_file(results.join("latency.json")).unwrap();

    std::fs::remove_file(results.join("weak.svg")).unwrap();
    let plot = scaling_tests(folder.path(), &["plot", "results"]);
    assert!(plot.status.success() && results.join("weak.svg").exists(), "{}", said(&plot));
}

#[test]
fn systems_that_cannot_be_had_are_left_out_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let myriarch = myriarch();
    let names = ["mpi4py", "parsl", "distributed", "hyperqueue", "parallel"];
    let list: String = names.iter().map(|name| format!("{name}\t\tno network for {name}\n")).collect();
    std::fs::create_dir(folder.path().join("peers")).unwrap();
    std::fs::write(folder.path().join("peers/peers.tsv"), list + "xargs\t4.9.0\t\n").unwrap();
    let arguments = ["--quick", "--only", "peers", "--out", "results", "--peers", "peers", "--launcher", "threads"];
    let output = scaling_tests(folder.path(), &[&arguments[..], &["--myriarch", myriarch.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", said(&output));
    let page = std::fs::read_to_string(folder.path().join("results/README.md")).unwrap();
    for line in [
        "- parsl: no network for parsl",
        "| measured, quick | xargs |",
        "| measured, quick | Myriarch, whole command |",
        "xargs 4.9.0",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    assert!(!page.contains("measured, quick | Parsl"), "{page}");
}

#[test]
fn simulations_take_the_model_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let myriarch = myriarch();
    let local = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/simulate/models/local.toml");
    std::fs::copy(local, folder.path().join("here.toml")).unwrap();
    let simulated = |more: &[&str]| {
        let words = ["--only", "simulated", "--launcher", "threads", "--out", "results", "--myriarch"];
        scaling_tests(folder.path(), &[&words[..], &[myriarch.to_str().unwrap()], more].concat())
    };
    let output = simulated(&["--quick", "--model", "here.toml"]);
    assert!(output.status.success(), "{}", said(&output));
    let json = std::fs::read_to_string(folder.path().join("results/simulated.json")).unwrap();
    assert!(json.contains("\"machine\": \"here.toml\"") && !json.contains("\"machine\": \"local\""), "{json}");
    assert!(json.contains("simulate --model here.toml ") && !json.contains(folder.path().to_str().unwrap()), "{json}");

    let other = simulated(&["--quick", "--model", "gemini"]);
    let expected = "simulated.json was made with other options: --model here.toml (";
    assert!(!other.status.success() && said(&other).contains(expected), "{}", said(&other));
    let nothing = simulated(&["--quick", "--again", "--model", "nope"]);
    assert!(!nothing.status.success() && said(&nothing).contains("--model nope: "), "{}", said(&nothing));
    assert!(said(&nothing).contains("gemini, infiniband, local, slingshot"), "{}", said(&nothing));
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = scaling_tests(folder.path(), &["--out", "results", "--only", "latency"]);
    assert!(!output.status.success());
    assert!(said(&output).contains("target/release/myriarch is not there"), "{}", said(&output));
    let output = scaling_tests(folder.path(), &["plot", "nowhere"]);
    assert!(!output.status.success() && said(&output).contains("nowhere cannot be read"), "{}", said(&output));
}
