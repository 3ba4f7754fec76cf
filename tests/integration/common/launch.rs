//! The ways in which a run is started, as a table.

use super::{BINARY, World};
#[cfg(feature = "mpi")]
use myriarch::fabric::{MpiLibrary, environment};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// A way to start ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// For messages.
    pub name: &'static str,
    /// Ranks that mpiexec starts; 0 where there is no mpiexec.
    mpi_ranks: u32,
    options: &'static [&'static str],
    /// The launcher is told to let the others go on when a rank dies.
    outlives: bool,
}

const fn threads(name: &'static str, options: &'static [&'static str]) -> Launch {
    Launch { name, mpi_ranks: 0, options, outlives: false }
}

const fn mpi(name: &'static str, mpi_ranks: u32, options: &'static [&'static str]) -> Launch {
    Launch { name, mpi_ranks, options, outlives: false }
}

impl Launch {
    /// No mpiexec, no options.
    pub const ALONE: Launch = threads("without mpiexec", &[]);
    /// Ranks that are threads.
    pub const FOUR_THREADS: Launch = threads("--ranks 4", &["--ranks", "4"]);
    /// A tree of depth 3 in one process.
    pub const DEEP_THREADS: Launch =
        threads("--ranks 8, depth 3", &["--ranks", "8", "--ranks-per-node", "2", "--fan-out", "2"]);
    /// One rank of MPI.
    pub const MPI_1: Launch = mpi("mpiexec -n 1", 1, &[]);
    /// Two ranks.
    pub const MPI_2: Launch = mpi("mpiexec -n 2", 2, &[]);
    /// Four ranks.
    pub const MPI_4: Launch = mpi("mpiexec -n 4", 4, &[]);
    /// Eight ranks.
    pub const MPI_8: Launch = mpi("mpiexec -n 8", 8, &[]);
    /// Four virtual nodes of two ranks.
    pub const MPI_8_NODES: Launch = mpi("mpiexec -n 8, nodes of 2", 8, &["--ranks-per-node", "2"]);
    /// The same, with sub-managers above sub-managers.
    pub const MPI_8_DEEP: Launch = mpi("mpiexec -n 8, depth 3", 8, &["--ranks-per-node", "2", "--fan-out", "2"]);

    /// Four virtual nodes of two ranks, and the launcher lets the others go on when one dies.
    pub const OUTLIVES: Launch = Launch {
        outlives: true,
        ..mpi("mpiexec that outlives ranks", 8, &["--ranks-per-node", "2", "--lost-after", "1"])
    };
    /// The same with sub-managers above sub-managers.
    pub const OUTLIVES_DEEP: Launch = Launch {
        outlives: true,
        ..mpi(
            "mpiexec that outlives ranks, depth 3",
            8,
            &["--ranks-per-node", "2", "--fan-out", "2", "--lost-after", "1"],
        )
    };

    /// All that this build can do.
    pub fn all() -> Vec<Launch> {
        Self::possible(&[
            Self::ALONE,
            Self::FOUR_THREADS,
            Self::DEEP_THREADS,
            Self::MPI_1,
            Self::MPI_2,
            Self::MPI_4,
            Self::MPI_8,
            Self::MPI_8_NODES,
            Self::MPI_8_DEEP,
        ])
    }

    /// Those of them that this build can do: without MPI there is no mpiexec. With `MYRIARCH_TEST_LAUNCHES=mpi` only those
    /// under MPI: what runs without a launcher is the same under every MPI, and need not be seen again under each.
    pub fn possible(some: &[Launch]) -> Vec<Launch> {
        let all = std::env::var_os("MYRIARCH_TEST_LAUNCHES").is_none_or(|which| which != "mpi");
        let can = |launch: &Launch| if launch.is_mpi() { cfg!(feature = "mpi") } else { all || !cfg!(feature = "mpi") };
        some.iter().copied().filter(can).collect()
    }

    /// Threads, and MPI where there is MPI: for what does not depend on the number of ranks.
    pub fn each_kind() -> Vec<Launch> {
        Self::possible(&[Self::ALONE, Self::MPI_4])
    }

    /// Whether mpiexec starts it.
    pub fn is_mpi(self) -> bool {
        self.mpi_ranks > 0
    }

    /// What is printed before a command that is to be started like this.
    pub fn printed(self) -> String {
        if !self.is_mpi() {
            return String::new();
        }
        // It is told so below, and so is the user.
        let oversubscribes = self.command(Path::new("")).get_args().any(|word| word == "--oversubscribe");
        format!("mpiexec {}-n {} ", if oversubscribes { "--oversubscribe " } else { "" }, self.mpi_ranks)
    }

    /// Options of `myriarch run` that belong to it.
    pub fn options(self) -> &'static [&'static str] {
        self.options
    }

    /// The command up to the binary. Whatever the MPI puts into files goes to `folder`.
    pub(super) fn command(self, folder: &Path) -> Command {
        self.command_of(BINARY.as_ref(), folder)
    }

    /// The command up to another program in place of the binary.
    pub fn command_of(self, program: &Path, folder: &Path) -> Command {
        let mut command = if self.is_mpi() { self.mpiexec(program) } else { Command::new(program) };
        for name in ["OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT"] {
            command.env(name, "1").env(format!("{name}_CONFIRM"), "1");
        }
        // A test of a test runner that itself runs under mpiexec or in a batch job.
        for name in ["SLURM_JOB_END_TIME", "PBS_WALLTIME"] {
            command.env_remove(name);
        }
        command.env("OMPI_MCA_orte_tmpdir_base", folder);
        command
    }

    /// The whole command as a line of a shell script, with the variables that it needs.
    pub fn shell_line(self, world: &World, words: &[&str]) -> String {
        let command = self.command(&world.path("launches"));
        let variable = |(name, value): (&OsStr, Option<&OsStr>)| match value {
            Some(value) => format!("{}={}", name.display(), quoted(value)),
            None => format!("-u {}", name.display()),
        };
        // `env` wants what is taken away before what is set.
        let (set, unset): (Vec<_>, Vec<_>) = command.get_envs().partition(|(_, value)| value.is_some());
        let mut parts = vec!["env".to_owned()];
        parts.extend(unset.into_iter().chain(set).map(variable));
        parts.push(quoted(command.get_program()));
        parts.extend(command.get_args().map(quoted));
        let (first, rest) = words.split_first().expect("a sub-command");
        let words = [*first].into_iter().chain(self.options().iter().copied()).chain(rest.iter().copied());
        parts.extend(words.map(|word| quoted(word.as_ref())));
        parts.join(" ")
    }

    #[cfg(feature = "mpi")]
    fn mpiexec(self, program: &Path) -> Command {
        let library = environment().library;
        if self.outlives && by_srun() {
            let mut command = Command::new("srun");
            command.args(["-K0", "--no-kill", "--mpi=pmi2", "-N4", "--ntasks-per-node=2", "-c1"]).arg(program);
            return command;
        }
        let mut command = mpiexec_of(library);
        if library == MpiLibrary::OpenMpi {
            command.args(["--oversubscribe", "--bind-to", "none", "-q"]);
        }
        match library {
            MpiLibrary::OpenMpi if self.outlives => drop(command.arg("--enable-recovery")),
            // Hydra ends the other ranks of a node, whatever it is told: so there are several nodes, as far as it knows.
            MpiLibrary::Mpich if self.outlives => {
                command.args(["-disable-auto-cleanup", "-launcher", "fork", "-hosts", "n0,n1,n2,n3", "-ppn", "2"]);
            }
            _ => {}
        }
        command.args(["-n", &self.mpi_ranks.to_string()]).arg(program);
        command
    }

    #[cfg(not(feature = "mpi"))]
    fn mpiexec(self, _: &Path) -> Command {
        panic!("{}: this build has no MPI", self.name)
    }
}

/// Whether launches that outlive ranks are Slurm's, with a node for each two ranks: `MYRIARCH_TEST_LAUNCHER=srun`.
pub fn by_srun() -> bool {
    std::env::var_os("MYRIARCH_TEST_LAUNCHER").is_some_and(|launcher| launcher == "srun")
}

/// A word of a shell script.
fn quoted(word: &OsStr) -> String {
    format!("'{}'", word.to_str().expect("tests use UTF-8").replace('\'', "'\\''"))
}

/// The same command, started by another program: that one's words, then the command's.
pub fn started_by(command: &Command, words: &[&str]) -> Command {
    let mut outer = Command::new(words[0]);
    outer.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    outer.stdin(std::process::Stdio::null());
    outer
}

/// The launcher of an MPI: the one named by MPIEXEC, else the one with the MPI's name (both of Debian's have one when
/// they are installed side by side), else plain mpiexec.
#[cfg(feature = "mpi")]
fn mpiexec_of(library: MpiLibrary) -> Command {
    if let Ok(named) = std::env::var("MPIEXEC") {
        let mut words = named.split_whitespace();
        let mut command = Command::new(words.next().expect("MPIEXEC names a program"));
        command.args(words);
        return command;
    }
    Command::new(named_for(library, "mpiexec"))
}

/// `mpiexec` or `mpicc` under the MPI's own name, where there is one.
#[cfg(feature = "mpi")]
pub fn named_for(library: MpiLibrary, tool: &str) -> String {
    let suffix = match library {
        MpiLibrary::OpenMpi => "openmpi",
        MpiLibrary::Mpich => "mpich",
        MpiLibrary::Other => return tool.to_owned(),
    };
    let named = format!("{tool}.{suffix}");
    let folders = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&folders).any(|folder| folder.join(&named).exists()) { named } else { tool.to_owned() }
}
