//! What `myriarch doctor` makes of its measurements: one finding each, with a verdict and what to do. Measures nothing.

use super::probe::FileTimes;
use super::{RankFacts, loss_word};
use crate::fabric::{HostIdentity, Launcher, LossSurvival};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Fewer starts per second and core mean that something slows them down; a few thousand are usual.
const SLOW_STARTS: f64 = 300.0;
/// A file system that takes longer for one file is far away or overloaded.
const SLOW_FILE_US: f64 = 20_000.0;
/// A sync that takes longer holds up the ledger.
const SLOW_SYNC_US: f64 = 200_000.0;

/// Whether there is something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    Warning,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
        })
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) topic: &'static str,
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) text: String,
    /// What to do about it; empty when there is nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) todo: String,
    /// The same as numbers, for programs.
    pub(super) values: Value,
}

impl Finding {
    fn ok(topic: &'static str, text: String, values: Value) -> Self {
        Self { topic, verdict: Verdict::Ok, text, todo: String::new(), values }
    }

    fn warning(topic: &'static str, text: String, todo: impl Into<String>, values: Value) -> Self {
        Self { topic, verdict: Verdict::Warning, text, todo: todo.into(), values }
    }

    fn of(topic: &'static str, text: String, todo: Option<String>, values: Value) -> Self {
        match todo {
            Some(todo) => Self::warning(topic, text, todo, values),
            None => Self::ok(topic, text, values),
        }
    }
}

/// The MPI of ranks that were brought together.
#[cfg(feature = "mpi")]
pub(super) fn mpi(version: &str, threads: Option<crate::fabric::ThreadLevel>) -> Finding {
    use crate::fabric::ThreadLevel;
    let level = threads.map_or_else(|| "unknown".to_owned(), |level| level.to_string());
    let todo = (threads == Some(ThreadLevel::Single))
        .then(|| "Myriarch needs at least \"funneled\": use an MPI that was built with threads".to_owned());
    let values = json!({ "version": version, "threads": level });
    Finding::of("MPI", format!("{version}, thread level {level}"), todo, values)
}

/// Started without a launcher.
pub(super) fn alone(version: Option<String>) -> Finding {
    let text = match &version {
        Some(version) => format!("built with {version}; started without mpiexec, so ranks would be threads here"),
        None => "built without MPI: ranks are threads of one process".to_owned(),
    };
    Finding::ok("MPI", text, json!({ "version": version, "threads": null }))
}

/// Whether the loss of a rank ends the run.
#[cfg_attr(not(feature = "mpi"), allow(dead_code, reason = "there is no rank to lose without MPI"))]
pub(super) fn loss(launcher: &Launcher, loss: &LossSurvival) -> Finding {
    let values = json!({ "launcher": launcher.to_string(), "loss": loss_word(loss) });
    match loss {
        LossSurvival::Survives => Finding::ok(
            "lost rank",
            format!(
                "started by {launcher}: when a rank dies the run goes on without it; rank 0 alone cannot be spared"
            ),
            values,
        ),
        LossSurvival::Ends(todo) => Finding::warning(
            "lost rank",
            format!(
                "started by {launcher}: a rank that dies ends the run, and run --resume, started alike, goes on with it"
            ),
            format!("to go on without the rank: {todo}"),
            values,
        ),
        LossSurvival::Unknown(todo) => Finding::warning(
            "lost rank",
            format!("started by {launcher}: whether the others go on when a rank dies cannot be seen from here"),
            todo,
            values,
        ),
    }
}

/// All that was measured.
pub(super) struct Machine {
    pub(super) ranks: Vec<RankFacts>,
    pub(super) starts_per_second: Result<f64, String>,
    /// Loops that started processes side by side.
    pub(super) starters: u32,
    pub(super) files: Result<FileTimes, String>,
    pub(super) dir: String,
}

impl Machine {
    /// One finding per topic.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let nodes = self.nodes();
        vec![ranks(&nodes), cores(&nodes), numa(&nodes), self.pinning(), self.starts(), self.file_system()]
    }

    fn nodes(&self) -> BTreeMap<&HostIdentity, Vec<&RankFacts>> {
        let mut nodes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for rank in &self.ranks {
            nodes.entry(&rank.host).or_default().push(rank);
        }
        nodes
    }

    fn pinning(&self) -> Finding {
        let failed: Vec<_> = self.ranks.iter().filter(|rank| !rank.pinning.is_empty()).collect();
        let values = json!({ "works": failed.is_empty(), "ranks_that_cannot": failed.len() });
        match failed.first() {
            None => Finding::ok("pinning", "threads can be pinned to every core that was allotted".to_owned(), values),
            Some(rank) => Finding::warning(
                "pinning",
                format!("{} cannot pin ({} on {})", plural(failed.len(), "rank"), rank.pinning, rank.host.name),
                "runs work, but start them with --pin none",
                values,
            ),
        }
    }

    fn starts(&self) -> Finding {
        let rate = match &self.starts_per_second {
            Ok(rate) => *rate,
            Err(why) => {
                let todo = "see whether this machine lets you start processes at all (ulimit -u)";
                return Finding::warning("starting", why.clone(), todo, json!({ "per_second": null }));
            }
        };
        let text = format!("{rate:.0} processes per second with {} at a time", self.starters);
        let values = json!({ "per_second": rate.round(), "at_a_time": self.starters });
        let todo = (rate < SLOW_STARTS * f64::from(self.starters)).then(|| {
            "that is slow: look for other work on these cores, and for a tool that traces or checks every start".into()
        });
        Finding::of("starting", text, todo, values)
    }

    fn file_system(&self) -> Finding {
        let dir = &self.dir;
        let times = match &self.files {
            Ok(times) => times,
            Err(why) => {
                let text = format!("{dir} cannot be written to ({why})");
                return Finding::warning("files", text, "choose another folder with --out", json!({ "dir": dir }));
            }
        };
        let FileTimes { create_us, rename_us, fsync_us } = *times;
        let text = format!(
            "create {}, rename {}, fsync {} in {dir}",
            duration(create_us),
            duration(rename_us),
            duration(fsync_us)
        );
        let todo = if fsync_us > SLOW_SYNC_US {
            Some("syncs are slow here: --sync 10 lets more outcomes share one".to_owned())
        } else if create_us.max(rename_us) > SLOW_FILE_US {
            Some("that is slow: choose a folder on a file system that is nearer, with --out".to_owned())
        } else {
            None
        };
        let values = json!({ "dir": dir, "create_us": create_us.round(), "rename_us": rename_us.round(),
            "fsync_us": fsync_us.round() });
        Finding::of("files", text, todo, values)
    }
}

type Nodes<'a> = BTreeMap<&'a HostIdentity, Vec<&'a RankFacts>>;

fn ranks(nodes: &Nodes) -> Finding {
    let counts: Vec<_> = nodes.values().map(Vec::len).collect();
    let total: usize = counts.iter().sum();
    let (least, most) = (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(0));
    let each = if least == most { format!("{most}") } else { format!("{least} to {most}") };
    let each = if nodes.len() > 1 { format!(", {each} per node") } else { String::new() };
    let text = format!("{} on {}{each}", plural(total, "rank"), plural(nodes.len(), "node"));
    let values = json!({ "ranks": total, "nodes": nodes.len(), "per_node_least": least, "per_node_most": most });
    Finding::ok("ranks", text, values)
}

/// Cores seen and allotted: a launcher that was not told gives a rank one core of many.
fn cores(nodes: &Nodes) -> Finding {
    let mut allotted = 0;
    let mut seen = 0;
    for ranks in nodes.values() {
        allotted += ranks.iter().flat_map(|rank| &rank.cores).collect::<BTreeSet<_>>().len();
        seen += ranks.iter().map(|rank| rank.machine_cores).max().unwrap_or(0) as usize;
    }
    let values = json!({ "seen": seen, "allotted": allotted });
    let text = format!("{allotted} allotted of {seen} seen, on {}", plural(nodes.len(), "node"));
    let todo = (allotted * 2 < seen).then(|| {
        "if all are yours, tell the launcher: srun -c CORES, mpirun --bind-to none, mpiexec -bind-to none".to_owned()
    });
    Finding::of("cores", text, todo, values)
}

fn numa(nodes: &Nodes) -> Finding {
    let per_node: Vec<_> =
        nodes.values().map(|ranks| ranks.iter().flat_map(|rank| &rank.numa).collect::<BTreeSet<_>>().len()).collect();
    let crossing = nodes.values().flatten().filter(|rank| rank.numa.len() > 1).count();
    let most = per_node.iter().max().copied().unwrap_or(0);
    let across = match crossing {
        0 => String::new(),
        1 => "; 1 rank spans several".to_owned(),
        more => format!("; {more} ranks span several"),
    };
    let values = json!({ "per_node_most": most, "ranks_across": crossing });
    let where_ = if nodes.len() > 1 { "the allotted cores of a node are on" } else { "the allotted cores are on" };
    let most_of = if nodes.len() > 1 && most > 1 { "at most " } else { "" };
    Finding::ok("NUMA", format!("{where_} {most_of}{}{across}", plural(most, "NUMA node")), values)
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

fn duration(microseconds: f64) -> String {
    if microseconds < 1000.0 { format!("{microseconds:.0} µs") } else { format!("{:.1} ms", microseconds / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(host: &str, cores: std::ops::Range<u32>, machine_cores: u32) -> RankFacts {
        let host = HostIdentity { name: host.into(), boot_id: String::new() };
        RankFacts { host, cores: cores.collect(), numa: vec![0], machine_cores, pinning: String::new() }
    }

    fn machine(ranks: Vec<RankFacts>) -> Machine {
        let files = Ok(FileTimes { create_us: 20.0, rename_us: 15.0, fsync_us: 900.0 });
        Machine { ranks, starts_per_second: Ok(3000.0), starters: 2, files, dir: "/scratch".into() }
    }

    fn verdict(machine: &Machine, topic: &str) -> Verdict {
        machine.findings().iter().find(|finding| finding.topic == topic).expect("a finding").verdict
    }

    #[test]
    fn a_sound_machine_gets_no_warning() {
        let sound = machine(vec![rank("a", 0..4, 4), rank("b", 0..4, 4)]);
        for finding in sound.findings() {
            assert_eq!((finding.verdict, finding.todo.as_str()), (Verdict::Ok, ""), "{}", finding.topic);
        }
        assert!(sound.findings()[0].text.starts_with("2 ranks on 2 nodes, 1 per node"));
    }

    #[test]
    fn ranks_that_share_cores_are_counted_once_and_a_forgotten_launcher_option_is_named() {
        assert_eq!(verdict(&machine(vec![rank("a", 0..64, 64), rank("a", 0..64, 64)]), "cores"), Verdict::Ok);
        assert_eq!(verdict(&machine(vec![rank("a", 0..32, 64), rank("a", 32..64, 64)]), "cores"), Verdict::Ok);
        let starved = machine(vec![rank("a", 0..1, 64), rank("a", 1..2, 64)]);
        let finding = cores(&starved.nodes());
        assert_eq!((finding.verdict, finding.text.as_str()), (Verdict::Warning, "2 allotted of 64 seen, on 1 node"));
        assert!(finding.todo.contains("srun -c"));
    }

    #[test]
    fn each_fault_is_a_warning_that_says_what_to_do() {
        let mut faulty = machine(vec![rank("a", 0..4, 4)]);
        faulty.ranks[0].pinning = "not permitted".into();
        faulty.starts_per_second = Ok(40.0);
        faulty.files = Err("Permission denied".into());
        for topic in ["pinning", "starting", "files"] {
            assert_eq!(verdict(&faulty, topic), Verdict::Warning, "{topic}");
        }
        assert!(faulty.findings().iter().all(|finding| finding.todo.is_empty() == (finding.verdict == Verdict::Ok)));
        faulty.starts_per_second = Err("no process can be started".into());
        assert_eq!(verdict(&faulty, "starting"), Verdict::Warning);
        faulty.files = Ok(FileTimes { create_us: 20.0, rename_us: 15.0, fsync_us: 900_000.0 });
        assert_eq!(verdict(&faulty, "files"), Verdict::Warning);
    }

    #[test]
    fn what_becomes_of_a_run_whose_rank_dies_is_told() {
        let launcher = Launcher::OpenMpi { recovery: Some(false), oversubscribe: false };
        let ends = loss(&launcher, &LossSurvival::Ends("use --enable-recovery".into()));
        assert!(ends.verdict == Verdict::Warning && ends.todo.contains("--enable-recovery"), "{}", ends.todo);
        assert_eq!(loss(&launcher, &LossSurvival::Survives).verdict, Verdict::Ok);
    }
}
