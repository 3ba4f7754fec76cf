//! The conformance suite over real MPI. Each test starts this very test program again under the mpiexec of the MPI it
//! was built with; there the ignored test `rank_side` is what every rank runs. Ranks report through files, since
//! launchers lose output and statuses.
#![cfg(feature = "mpi")]

use crate::fabric_support::{DEADLINE, SCENARIOS, connect, finish};
use myriarch::fabric::{Fabric, Listen, MpiFabric, MpiLibrary, StartError, Woken, environment, leave};
use myriarch::task::Rank;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Says to the ranks what they shall do, and where to report.
const ROLE: &str = "MYRIARCH_TEST_ROLE";
const REPORTS: &str = "MYRIARCH_TEST_REPORTS";
/// How long four idle ranks are watched.
const IDLE_FOR: Duration = Duration::from_secs(2);

// ---- The side that starts the ranks. ----

/// A launch that ends with this value, in good order or by force.
struct Launch {
    launcher: Child,
}

impl Launch {
    /// Starts `ranks` ranks of this program in a process group of their own.
    fn of(library: MpiLibrary, flags: &[&str], ranks: u32, role: &str, reports: &Path) -> Launch {
        let mut command = Command::new(launcher_of(library));
        if library == MpiLibrary::OpenMpi {
            command.args(["--oversubscribe", "--bind-to", "none", "-q"]);
        }
        command.args(flags).args(["-n", &ranks.to_string()]);
        if library == MpiLibrary::Mpich {
            // Hydra ends all ranks of a node when it reaps one that a signal killed, whatever its flags; not so when its
            // own child, which waits for the rank, ends well.
            command.args(["sh", "-c", "trap '' USR1 PIPE; \"$@\"; exit 0", "guard"]);
        }
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "fabric_mpi::rank_side", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).env(REPORTS, reports).env("RUST_BACKTRACE", "0");
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command.stdin(Stdio::null()).process_group(0);
        let started = command.spawn();
        let launcher = started.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Launch { launcher }
    }

    /// Waits for the end, at most until the deadline. The status is that of the launcher, which is not to be trusted.
    fn ended(mut self) {
        let start = Instant::now();
        while self.launcher.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < DEADLINE, "the launch hangs");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        // The ranks end by themselves: each has a watchdog.
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
    }
}

/// The launcher of an MPI; both of Debian's have a name of their own when they are installed side by side.
fn launcher_of(library: MpiLibrary) -> String {
    let suffix = match library {
        MpiLibrary::OpenMpi => "openmpi",
        MpiLibrary::Mpich => "mpich",
        MpiLibrary::Other => "",
    };
    let named = format!("mpiexec.{suffix}");
    let is_there =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(&named).exists());
    if is_there { named } else { "mpiexec".to_owned() }
}

/// Runs a role on so many ranks and returns what each reported.
fn reports_of(flags: &[&str], ranks: u32, role: &str) -> Vec<Option<String>> {
    let folder = tempfile::tempdir().unwrap();
    Launch::of(environment().library, flags, ranks, role, folder.path()).ended();
    (0..ranks).map(|rank| fs::read_to_string(folder.path().join(rank.to_string())).ok()).collect()
}

fn conforms_with(ranks: u32, role: &str) {
    let reports = reports_of(&[], ranks, role);
    assert_eq!(reports, vec![Some("well".to_owned()); ranks as usize]);
}

macro_rules! conforms {
    ($($name:ident: $ranks:literal),* $(,)?) => { $(#[test] fn $name() { conforms_with($ranks, "conform"); })* };
}

conforms!(
    one_rank_conforms: 1, two_ranks_conform: 2, three_ranks_conform: 3, four_ranks_conform: 4, five_ranks_conform: 5,
    six_ranks_conform: 6, seven_ranks_conform: 7, eight_ranks_conform: 8,
);

#[test]
fn the_library_is_the_one_that_was_asked_for() {
    let wanted = match std::env::var("MPI").as_deref() {
        Ok("openmpi") => MpiLibrary::OpenMpi,
        Ok("mpich") => MpiLibrary::Mpich,
        // Nobody asked.
        _ => return,
    };
    assert_eq!(environment().library, wanted);
}

#[test]
fn ranks_that_may_not_use_wildcards_conform_too() {
    conforms_with(4, "conform-each");
}

#[test]
fn idle_ranks_cost_next_to_nothing() {
    let shares = reports_of(&[], 4, "idle").into_iter().map(|report| report.unwrap().parse::<f64>().unwrap());
    // One that spins would show 25 (four on one core) to 100; four that sleep stay near 1 together.
    let percent: f64 = shares.sum();
    assert!(percent < 12.0, "four idle ranks use {percent:.2} % of a core");
}

#[test]
fn the_others_go_on_when_a_rank_is_killed() {
    let flag = match environment().library {
        MpiLibrary::OpenMpi => "--enable-recovery",
        _ => "-disable-auto-cleanup",
    };
    let folder = tempfile::tempdir().unwrap();
    let report_of = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    let launch = Launch::of(environment().library, &[flag], 4, "lose-rank-2", folder.path());
    let start = Instant::now();
    while report_of("victim").is_empty() {
        assert!(start.elapsed() < DEADLINE, "the ranks do not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-KILL", &report_of("victim")]).status().unwrap().success());
    launch.ended();
    assert_eq!(["0", "1", "2", "3"].map(report_of), ["went on", "went on", "", "went on"]);
}

#[test]
fn the_launcher_of_another_mpi_is_refused_by_one_rank_with_status_2() {
    let (ours, theirs) = match environment().library {
        MpiLibrary::OpenMpi => ("Open MPI", MpiLibrary::Mpich),
        _ => ("MPICH", MpiLibrary::OpenMpi),
    };
    let launcher = launcher_of(theirs);
    if launcher == "mpiexec" {
        eprintln!("skipped: only one MPI is installed here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    Launch::of(theirs, &[], 3, "start", folder.path()).ended();
    let mut reports: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    reports.sort();
    assert_eq!(reports.len(), 3);
    assert_eq!(reports[..2], ["silent 0", "silent 0"]);
    assert!(reports[2].starts_with("told 2: started by "), "{}", reports[2]);
    assert!(reports[2].contains(ours) && reports[2].contains("one of 3 processes"), "{}", reports[2]);
}

// ---- The side of the ranks. ----

#[test]
#[ignore = "what the ranks run that the other tests start"]
fn rank_side() {
    let (Ok(role), Some(reports)) = (std::env::var(ROLE), std::env::var_os(REPORTS)) else { return };
    std::thread::spawn(|| {
        std::thread::sleep(DEADLINE);
        std::process::abort();
    });
    let report = |name: &str, text: &str| fs::write(Path::new(&reports).join(name), text).unwrap();
    let mut fabric = match MpiFabric::start() {
        Ok(fabric) => Box::new(fabric),
        Err(error @ StartError::WrongLauncher { .. }) if role == "start" => {
            let verb = if error.is_ours_to_tell() {
                format!("told {}: {error}", error.exit_status())
            } else {
                format!("silent {}", error.exit_status())
            };
            report(&std::process::id().to_string(), &verb);
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let name = fabric.rank().to_string();
    let well = match role.as_str() {
        "conform" | "conform-each" => {
            connect(fabric.as_mut());
            if role == "conform-each" {
                fabric.ask_each_peer();
            }
            for (scenario, run) in SCENARIOS {
                // Named by the deadline's victim, if there is one.
                report(&name, scenario);
                run(fabric.as_mut());
            }
            assert!(finish(fabric));
            "well".to_owned()
        }
        "idle" => idle(fabric),
        "lose-rank-2" => {
            go_on_without_rank_2(fabric.as_mut(), report);
            report(&name, "went on");
            assert!(!fabric.finish(true));
            // Rank 0 last: Hydra ends the rest when it goes.
            std::thread::sleep(Duration::from_millis(if name == "0" { 300 } else { 0 }));
            leave(0);
        }
        other => panic!("{other}"),
    };
    report(&name, &well);
}

/// Percent of a core that this rank uses while nothing happens.
fn idle(mut fabric: Box<MpiFabric>) -> String {
    let levels = [Some(Rank(0)), Some(fabric.rank())];
    fabric.connect(&levels).unwrap();
    let used = || {
        let stat = fs::read_to_string("/proc/self/schedstat").unwrap();
        stat.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let (start, before) = (Instant::now(), process_nanoseconds().unwrap_or_else(used));
    while start.elapsed() < IDLE_FOR {
        assert_eq!(fabric.wait(&mut Vec::new(), IDLE_FOR, Listen::Eagerly).unwrap(), Woken::TimeUp);
    }
    let spent = process_nanoseconds().unwrap_or_else(used) - before;
    let share = 100.0 * spent as f64 / start.elapsed().as_nanos() as f64;
    assert!(fabric.finish(false));
    share.to_string()
}

/// Processor time of all threads of this process, MPI's own among them.
fn process_nanoseconds() -> Option<u64> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    tasks
        .map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum()
}

/// Rank 2 dies; ranks 1 and 3 each exchange a thousand messages with rank 0, which goes on sending to all.
fn go_on_without_rank_2(fabric: &mut MpiFabric, report: impl Fn(&str, &str)) {
    const ROUNDS: u32 = 1000;
    fabric.connect(&[Some(Rank::MANAGER)]).unwrap();
    let me = fabric.rank();
    if me == Rank(2) {
        // Killed from outside, as it would be: a child of this rank could keep its descriptors open.
        report("victim", &std::process::id().to_string());
        std::thread::sleep(DEADLINE);
    }
    std::thread::sleep(Duration::from_millis(500));
    if me == Rank::MANAGER {
        let mut heard = 0;
        for round in 0..ROUNDS {
            for peer in 1..4 {
                fabric.send(0, Rank(peer), vec![round as u8; 2000]);
            }
        }
        // Messages to the lost rank wait for ever, until it is given up.
        let start = Instant::now();
        while heard < 2 * ROUNDS {
            if fabric.receive().unwrap().is_some() {
                heard += 1;
            } else {
                fabric.wait(&mut Vec::new(), Duration::from_millis(50), Listen::Eagerly).unwrap();
            }
            assert!(start.elapsed() < DEADLINE);
        }
        fabric.abandon(Rank(2));
        assert_eq!(fabric.unsent_to(Rank(2)), 0);
        for peer in [1, 3] {
            fabric.send(0, Rank(peer), b"the end".to_vec());
        }
        while [1, 3].iter().any(|peer| fabric.unsent_to(Rank(*peer)) > 0) {
            fabric.wait(&mut Vec::new(), Duration::from_millis(1), Listen::Eagerly).unwrap();
        }
    } else {
        loop {
            match fabric.receive().unwrap() {
                Some((_, _, message)) if message == b"the end" => break,
                Some((_, from, message)) => fabric.send(0, from, message),
                None => {
                    fabric.wait(&mut Vec::new(), Duration::from_millis(50), Listen::Eagerly).unwrap();
                }
            }
        }
    }
}
