//! Messages between two ranks of real MPI. This very program is started again under the mpiexec of the MPI that it was built
//! with; rank 0 measures there.

mod common;

use myriarch::fabric::{Fabric, MpiFabric, MpiLibrary, environment, leave};
use std::process::{Command, ExitCode, Stdio};

/// Says that this process is one of the ranks.
const IS_RANK: &str = "MYRIARCH_BENCH_IS_RANK";

fn main() -> ExitCode {
    if std::env::var_os(IS_RANK).is_some() {
        take_part();
        return ExitCode::SUCCESS;
    }
    // What is wrong with the options is said once, before there are ranks.
    drop(common::criterion());
    let mut command = mpiexec();
    command.args(["-n", "2"]).arg(std::env::current_exe().expect("this program has a path"));
    command.args(std::env::args_os().skip(1)).env(IS_RANK, "1").stdin(Stdio::null());
    for name in ["OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT"] {
        command.env(name, "1").env(format!("{name}_CONFIRM"), "1");
    }
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot start {command:?}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn take_part() {
    let mut fabric = MpiFabric::start().unwrap_or_else(|error| panic!("{error}"));
    common::echo::take_part(&mut fabric, "MPI", common::criterion);
    if !Box::new(fabric).finish(false) {
        leave(0);
    }
}

/// The launcher that MPIEXEC names, with its options; else that of the MPI, which has a name of its own where two are
/// installed side by side.
fn mpiexec() -> Command {
    if let Ok(named) = std::env::var("MPIEXEC") {
        let mut words = named.split_whitespace();
        let mut command = Command::new(words.next().expect("MPIEXEC names a program"));
        command.args(words);
        return command;
    }
    let (name, options) = match environment().library {
        MpiLibrary::OpenMpi => ("mpiexec.openmpi", &["--oversubscribe"][..]),
        MpiLibrary::Mpich => ("mpiexec.mpich", &[][..]),
        MpiLibrary::Other => ("mpiexec", &[][..]),
    };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&folders).any(|folder| folder.join(name).exists());
    let mut command = Command::new(if is_there { name } else { "mpiexec" });
    command.args(options);
    command
}
