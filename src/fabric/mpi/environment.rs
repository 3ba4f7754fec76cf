//! What this process can tell of its MPI and its launcher: for the start line and for `myriarch doctor`. Starts nothing.

use super::calls;
use crate::fabric::launcher::{Environment, Launcher, LossSurvival};
use mpi::environment::Threading;
use std::fmt;

/// The MPI libraries that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MpiLibrary {
    /// Open MPI.
    OpenMpi,
    /// MPICH, and its kin with the same launcher and binary interface (Intel MPI, Cray MPICH, MVAPICH).
    Mpich,
    /// Another one.
    Other,
}

/// How far threads may call MPI. Myriarch needs `Funneled` and asks for `Serialized`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadLevel {
    /// Only one thread may exist.
    Single,
    /// Threads may exist; one calls MPI.
    Funneled,
    /// Any thread may call, one at a time.
    Serialized,
    /// All may call.
    Multiple,
}

impl fmt::Display for ThreadLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ThreadLevel::Single => "single",
            ThreadLevel::Funneled => "funneled",
            ThreadLevel::Serialized => "serialized",
            ThreadLevel::Multiple => "multiple",
        })
    }
}

/// The MPI that this program was built with, and how this process was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MpiEnvironment {
    /// The library's name and version, one line.
    pub version: String,
    /// Which library it is.
    pub library: MpiLibrary,
    /// The level of threading that was got; `None` before MPI was started.
    pub thread_level: Option<ThreadLevel>,
    /// What started this process.
    pub launcher: Launcher,
    /// Whether the other ranks would go on if one died.
    pub loss: LossSurvival,
}

/// Looks around. May be called before MPI is started, and without a launcher.
pub fn environment() -> MpiEnvironment {
    let full = calls::library_version();
    let launched = Environment::of_this_process();
    let started = mpi::environment::is_initialized() && !mpi::environment::is_finalized();
    let thread_level = started.then(|| match mpi::environment::threading_support() {
        Threading::Single => ThreadLevel::Single,
        Threading::Funneled => ThreadLevel::Funneled,
        Threading::Serialized => ThreadLevel::Serialized,
        Threading::Multiple => ThreadLevel::Multiple,
    });
    MpiEnvironment {
        version: short_version(&full),
        library: library_of(&full),
        thread_level,
        launcher: launched.launcher(),
        loss: launched.loss_survival(),
    }
}

fn library_of(version: &str) -> MpiLibrary {
    let version = version.to_ascii_lowercase();
    if version.contains("open mpi") {
        MpiLibrary::OpenMpi
    } else if ["mpich", "intel(r) mpi", "mvapich"].iter().any(|name| version.contains(name)) {
        MpiLibrary::Mpich
    } else {
        MpiLibrary::Other
    }
}

/// Name and number out of what a library says of itself, which may be pages: `Open MPI v4.1.4`, `MPICH 4.0.2`.
pub(super) fn short_version(full: &str) -> String {
    let first = full.lines().next().unwrap_or("").trim();
    let short = first.split(',').next().unwrap_or(first).replace("Version:", "");
    let words: Vec<_> = short.split_whitespace().collect();
    if words.is_empty() { "an MPI without a name".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_cut_down_to_name_and_number() {
        let open_mpi = "Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4, repo rev: v4.1.4, May 26, 2022";
        assert_eq!(short_version(open_mpi), "Open MPI v4.1.4");
        assert_eq!(library_of(open_mpi), MpiLibrary::OpenMpi);
        let mpich = "MPICH Version:\t4.0.2\nMPICH Release date:\tThu Apr  7\nMPICH Device:\tch4:ucx";
        assert_eq!(short_version(mpich), "MPICH 4.0.2");
        assert_eq!(library_of(mpich), MpiLibrary::Mpich);
        assert_eq!(library_of("Intel(R) MPI Library 2021.8 for Linux* OS"), MpiLibrary::Mpich);
    }

    #[test]
    fn the_library_is_known_before_mpi_starts() {
        let found = environment();
        assert!(!found.version.is_empty());
        assert_eq!(found.thread_level, None);
    }
}
