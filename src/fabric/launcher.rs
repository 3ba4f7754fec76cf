//! What the launcher of this process says in the environment: how many ranks it started, and whether the others would
//! survive the loss of one. Reads the environment and the parents' command lines; calls no MPI and runs without it.

use super::StartError;
use std::env;
use std::fmt;
use std::fs;

/// What started this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// Open MPI's mpirun (mpiexec, prterun).
    OpenMpi {
        /// `--enable-recovery` (version 5: `--rtos RECOVERABLE,CONTINUOUS`) was given. `None`: not to be seen from here.
        recovery: Option<bool>,
        /// `--oversubscribe` was given, as far as can be seen.
        oversubscribe: bool,
    },
    /// Hydra: the mpiexec of MPICH, Intel MPI and their kin.
    Hydra {
        /// `-disable-auto-cleanup` was given. `None`: not to be seen from here.
        auto_cleanup_disabled: Option<bool>,
    },
    /// Slurm's srun.
    Srun {
        /// `-K0` (`--kill-on-bad-exit=0`) was given. `None`: not to be seen from here.
        keeps_going: Option<bool>,
        /// Ranks meet through PMIx rather than PMI-1 or PMI-2.
        pmix: bool,
    },
    /// Another one: a PMI, PMIx, PALS or ALPS launcher of the site.
    Other(String),
    /// None: the process was started by itself.
    None,
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Launcher::OpenMpi { .. } => f.write_str("Open MPI's mpirun"),
            Launcher::Hydra { .. } => f.write_str("Hydra (mpiexec of MPICH)"),
            Launcher::Srun { .. } => f.write_str("srun"),
            Launcher::Other(name) => f.write_str(name),
            Launcher::None => f.write_str("no launcher"),
        }
    }
}

impl Launcher {
    /// What stands before a command that is to be started like this, with its blank; empty without a launcher.
    pub fn prefix(&self, ranks: u32) -> String {
        let name = match self {
            Launcher::None => return String::new(),
            Launcher::Srun { .. } => "srun",
            Launcher::Other(name) if name == "aprun" => "aprun",
            Launcher::OpenMpi { recovery, oversubscribe } => {
                let recovery = if *recovery == Some(true) { " --enable-recovery" } else { "" };
                let oversubscribe = if *oversubscribe { " --oversubscribe" } else { "" };
                return format!("mpiexec{recovery}{oversubscribe} -n {ranks} ");
            }
            Launcher::Hydra { auto_cleanup_disabled: Some(true) } => "mpiexec -disable-auto-cleanup",
            Launcher::Hydra { .. } | Launcher::Other(_) => "mpiexec",
        };
        format!("{name} -n {ranks} ")
    }
}

/// Of an option of Open MPI that its variable holds.
fn is_set(value: &str) -> bool {
    value != "0" && value != "false"
}

/// Whether the others go on when one rank dies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossSurvival {
    /// They do.
    Survives,
    /// The launcher kills all; what to do about it.
    Ends(String),
    /// Not to be seen from here; what it takes.
    Unknown(String),
}

/// How many ranks a launcher's variables speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The variable that says so.
    pub variable: &'static str,
    /// The launcher that sets it.
    pub launcher: Launcher,
    /// How many ranks.
    pub ranks: u32,
    /// The number of this process among them.
    pub number: Option<u32>,
}

/// Whether a launcher started this process as a rank. No MPI call is made: where this is false, a single process need
/// not start MPI at all.
pub fn under_launcher() -> bool {
    Environment::of_this_process().launcher() != Launcher::None
}

/// What started this process.
pub fn launcher() -> Launcher {
    Environment::of_this_process().launcher()
}

/// Whether the other ranks go on when one dies, as far as it can be seen from here.
pub fn loss_survival() -> LossSurvival {
    Environment::of_this_process().loss_survival()
}

/// Whether this process is the first of its launch, or was started by itself: the one that says what all would say. No
/// MPI call is made.
pub fn is_first_of_launch() -> bool {
    number_in_launch() == 0
}

/// Where this process stands among those of its launch.
fn number_in_launch() -> u32 {
    let environment = Environment::of_this_process();
    environment.broken_promise(0).and_then(|promise| promise.number).unwrap_or(0)
}

/// Whether this process is one of the first two of its launch: what the first cannot say any more, the second may.
#[cfg(feature = "mpi")]
pub(super) fn is_among_the_first() -> bool {
    number_in_launch() <= 1
}

/// For a start without MPI.
///
/// # Errors
/// A launcher has started several processes ([`StartError::WrongLauncher`]): each would do all of the work.
pub fn refuse_launcher() -> Result<(), StartError> {
    match Environment::of_this_process().broken_promise(1) {
        Some(promise) => Err(promise.broken(1, "no MPI".to_owned())),
        None => Ok(()),
    }
}

impl Promise {
    /// The error of a start that found only so many ranks.
    pub(super) fn broken(self, found: u32, library: String) -> StartError {
        let advice = match self.launcher {
            Launcher::Srun { .. } => "give srun --mpi=pmi2 for MPICH, --mpi=pmix for Open MPI (srun --mpi=list)",
            _ => "use the mpiexec of that MPI",
        };
        StartError::WrongLauncher {
            launcher: format!("{} ({}={})", self.launcher, self.variable, self.ranks),
            promised: self.ranks,
            found,
            library,
            advice,
            number: self.number,
        }
    }
}

/// Finds the value of a variable.
type Lookup = Box<dyn Fn(&str) -> Option<String>>;

/// The variables of a process, and the command lines of its parents: what a launcher can be recognised by.
pub(super) struct Environment {
    variable: Lookup,
    parents: Vec<Vec<String>>,
}

/// Slurm numbers steps that are no srun of a user (batch, interactive, extern) from here on.
const FIRST_SPECIAL_STEP: u64 = 0xffff_fff0;
/// How far up a launcher is looked for: the rank, a proxy, the launcher, with a wrapper script here and there.
const PARENTS: usize = 6;

impl Environment {
    /// That of this process.
    pub(super) fn of_this_process() -> Self {
        Self { variable: Box::new(|name| env::var(name).ok()), parents: command_lines_of_parents() }
    }

    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.trim().parse().ok()
    }

    fn count(&self, name: &str) -> Option<u32> {
        self.number(name).and_then(|n| u32::try_from(n).ok())
    }

    /// Whether this process belongs to a step that a user started with srun. A batch script and the shell of an
    /// interactive step are none, though they too have SLURM_PROCID.
    fn in_srun_step(&self) -> bool {
        self.text("SLURM_PROCID").is_some()
            && self.number("SLURM_STEP_ID").is_some_and(|step| step < FIRST_SPECIAL_STEP)
            && (self.count("SLURM_STEP_NUM_TASKS").is_none_or(|tasks| tasks > 1)
                || self.text("PMI_RANK").is_some()
                || self.text("PMIX_RANK").is_some())
    }

    /// The launcher, the innermost where one was started by another.
    pub(super) fn launcher(&self) -> Launcher {
        if self.text("OMPI_COMM_WORLD_SIZE").is_some() {
            let oversubscribe = self.text("OMPI_MCA_rmaps_base_oversubscribe").is_some_and(|value| is_set(&value));
            return Launcher::OpenMpi { recovery: self.open_mpi_recovery(), oversubscribe };
        }
        if self.in_srun_step() && self.text("MPI_LOCALNRANKS").is_none() {
            let keeps_going = self.text("SLURM_KILL_BAD_EXIT").map(|value| value == "0");
            return Launcher::Srun { keeps_going, pmix: self.text("PMIX_RANK").is_some() };
        }
        if self.text("MPI_LOCALNRANKS").is_some() && self.text("PMI_SIZE").is_some() {
            return Launcher::Hydra { auto_cleanup_disabled: self.hydra_keeps_going() };
        }
        for (variable, name) in [
            ("PALS_RANKID", "PALS (Cray's mpiexec)"),
            ("ALPS_APP_PE", "aprun"),
            ("PMIX_RANK", "a PMIx launcher"),
            ("PMI_RANK", "a PMI launcher"),
        ] {
            if self.text(variable).is_some() {
                return Launcher::Other(name.to_owned());
            }
        }
        Launcher::None
    }

    /// Whether the survivors of a lost rank go on, as far as it can be seen from here.
    pub(super) fn loss_survival(&self) -> LossSurvival {
        use LossSurvival::{Ends, Survives, Unknown};
        let open_mpi = "start mpirun with --enable-recovery (Open MPI 5: --rtos RECOVERABLE,CONTINUOUS)";
        let hydra = "start mpiexec with -disable-auto-cleanup";
        match self.launcher() {
            Launcher::OpenMpi { recovery: Some(true), .. } => Survives,
            // When Hydra reaps a process that a signal killed it kills the rest of its node, in most cases.
            Launcher::Hydra { auto_cleanup_disabled: Some(true) } => {
                Unknown("ranks of other nodes go on, those of the same node may be ended too".to_owned())
            }
            Launcher::OpenMpi { recovery: Some(false), .. } => Ends(open_mpi.to_owned()),
            Launcher::OpenMpi { recovery: None, .. } => Unknown(open_mpi.to_owned()),
            Launcher::Hydra { auto_cleanup_disabled: Some(false) } => Ends(hydra.to_owned()),
            Launcher::Hydra { auto_cleanup_disabled: None } => Unknown(hydra.to_owned()),
            Launcher::Srun { pmix: true, .. } => {
                Ends("Slurm's PMIx plugin ends the step: use mpirun inside the allocation".to_owned())
            }
            Launcher::Srun { keeps_going: Some(true), .. } => Survives,
            Launcher::Srun { keeps_going: _, .. } => {
                Unknown("start srun with -K0 --no-kill --mpi=pmi2, in a job of sbatch --no-kill".to_owned())
            }
            Launcher::Other(name) => Unknown(format!("see how {name} is told to keep a job whose process died")),
            Launcher::None => Unknown("a single process has no other rank to lose".to_owned()),
        }
    }

    /// What the launchers' variables promise; empty outside of any.
    pub(super) fn promises(&self) -> Vec<Promise> {
        let launcher = self.launcher();
        let mut found = Vec::new();
        let mut add = |variable, launcher: Launcher, number: &str| {
            if let Some(ranks) = self.count(variable) {
                found.push(Promise { variable, launcher, ranks, number: self.count(number) });
            }
        };
        add("OMPI_COMM_WORLD_SIZE", Launcher::OpenMpi { recovery: None, oversubscribe: false }, "OMPI_COMM_WORLD_RANK");
        let pmi = match &launcher {
            Launcher::OpenMpi { .. } | Launcher::None => Launcher::Other("a PMI launcher".to_owned()),
            other => other.clone(),
        };
        add("PMI_SIZE", pmi, "PMI_RANK");
        // A step's variables also reach the ranks of an mpirun inside it, where they count its daemons.
        if let Launcher::Srun { .. } = launcher {
            let tasks =
                if self.text("SLURM_STEP_NUM_TASKS").is_some() { "SLURM_STEP_NUM_TASKS" } else { "SLURM_NTASKS" };
            add(tasks, launcher, "SLURM_PROCID");
        }
        found
    }

    /// The promise that MPI broke, if it has `size` ranks: one that speaks of more, where none speaks of just so many.
    pub(super) fn broken_promise(&self, size: u32) -> Option<Promise> {
        let promises = self.promises();
        if promises.iter().any(|promise| promise.ranks == size) {
            return None;
        }
        promises.into_iter().find(|promise| promise.ranks > size)
    }

    fn open_mpi_recovery(&self) -> Option<bool> {
        if self.text("OMPI_MCA_orte_enable_recovery").is_some_and(|value| is_set(&value)) {
            return Some(true);
        }
        if let Some(words) = self.parent_named(&["mpirun", "mpiexec", "orterun", "prterun"]) {
            let given = words.iter().any(|word| {
                word.trim_start_matches('-') == "enable-recovery" || word.to_ascii_uppercase().contains("RECOVERABLE")
            });
            return Some(given);
        }
        // Version 4 always tells its ranks; only the daemons of version 5 leave it open.
        self.text("OMPI_MCA_orte_launch").map(|_| false)
    }

    fn hydra_keeps_going(&self) -> Option<bool> {
        let words = self.parent_named(&["mpiexec", "mpirun"])?;
        Some(words.iter().any(|word| word.trim_start_matches('-') == "disable-auto-cleanup"))
    }

    /// The words of the next parent whose program is called like that, perhaps with a suffix (`mpiexec.hydra`).
    fn parent_named(&self, names: &[&str]) -> Option<&[String]> {
        let is_named = |words: &&Vec<String>| {
            let program = words.first().map_or("", |path| path.rsplit('/').next().unwrap_or(path));
            names.contains(&program.split('.').next().unwrap_or(program))
        };
        self.parents.iter().find(is_named).map(Vec::as_slice)
    }
}

/// The command lines of the parents of this process, the nearest first, as far as /proc shows them.
fn command_lines_of_parents() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut pid = u64::from(std::process::id());
    for _ in 0..PARENTS {
        let Some(parent) = parent_of(pid).filter(|parent| *parent > 1) else { break };
        let Ok(line) = fs::read(format!("/proc/{parent}/cmdline")) else { break };
        let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        found.push(words.filter(|word| !word.is_empty()).collect());
        pid = parent;
    }
    found
}

fn parent_of(pid: u64) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
#[path = "launcher_tests.rs"]
mod tests;
