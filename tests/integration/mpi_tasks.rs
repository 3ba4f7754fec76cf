//! Programs of MPI as tasks: one that calls `MPI_Init` by itself, and `mpiexec -n 2` of it. A task that saw the
//! variables of the launcher of Myriarch would take itself for one of its ranks, or hang.
#![cfg(feature = "mpi")]

use crate::common::launch::named_for;
use crate::common::{Launch, World, outputs};
use myriarch::fabric::{MpiLibrary, environment};
use std::process::{Command, Stdio};

const PROGRAM: &str = r#"
#include <mpi.h>
#include <stdio.h>

int main(int argc, char **argv) {
    int rank, size, sum, one = 1;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0) printf("%s of %d, all: %d\n", argv[1], size, sum);
    MPI_Finalize();
    return 0;
}
"#;

/// A program in the world, built with the compiler of an MPI; false where there is no such compiler.
fn build(world: &World, library: MpiLibrary, name: &str) -> bool {
    let compiler = named_for(library, "mpicc");
    let found = Command::new(&compiler).arg("-show").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: there is no {compiler}");
        return false;
    }
    world.write("program.c", PROGRAM);
    let mut command = Command::new(compiler);
    command.args(["-o", name, "program.c"]).current_dir(world.path("")).stdin(Stdio::null());
    world.spawn(command).wait().with(0);
    true
}

/// Runs the program by itself and under its mpiexec, as tasks of a launch.
fn runs_in_tasks(library: MpiLibrary) {
    let world = World::new();
    if !build(&world, library, "program") {
        return;
    }
    let mut mpiexec = named_for(library, "mpiexec");
    if library == MpiLibrary::OpenMpi {
        mpiexec += " --oversubscribe --bind-to none";
    }
    let line = |index: u64| match index % 2 {
        0 => format!("./program {index}"),
        _ => format!("{mpiexec} -n 2 ./program {index}"),
    };
    world.write("tasks.txt", (0..8).map(|index| line(index) + "\n").collect::<String>());
    for (number, launch) in Launch::all().into_iter().enumerate() {
        let dir = format!("run-{number}");
        // Cores of a task are not those of its rank alone: two ranks want two.
        let words = ["run", "tasks.txt", "--out", &dir, "-j", "2", "--pin", "none", "--timeout", "60s"];
        let ended = world.run(launch, &words);
        let rows = outputs(&world, &dir);
        for (index, row) in rows.iter().enumerate() {
            let size = 1 + index % 2;
            assert_eq!(row["stdout"], format!("{index} of {size}, all: {size}\n"), "{}: {row}", launch.name);
        }
        assert_eq!(rows.len(), 8);
        ended.with(0);
    }
}

#[test]
fn programs_of_the_same_mpi_run_as_tasks() {
    runs_in_tasks(environment().library);
}

#[test]
fn programs_of_another_mpi_run_as_tasks() {
    let other = match environment().library {
        MpiLibrary::OpenMpi => MpiLibrary::Mpich,
        _ => MpiLibrary::OpenMpi,
    };
    if named_for(other, "mpicc") == "mpicc" {
        eprintln!("skipped: only one MPI is installed here");
        return;
    }
    runs_in_tasks(other);
}

#[test]
fn the_launcher_of_another_mpi_is_refused_once_and_nothing_runs() {
    let other = match environment().library {
        MpiLibrary::OpenMpi => MpiLibrary::Mpich,
        _ => MpiLibrary::OpenMpi,
    };
    let mpiexec = named_for(other, "mpiexec");
    if mpiexec == "mpiexec" {
        eprintln!("skipped: only one MPI is installed here");
        return;
    }
    let world = World::new();
    let mut command = Command::new(mpiexec);
    command.current_dir(world.path("")).stdin(Stdio::null());
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    if other == MpiLibrary::OpenMpi {
        command.args(["--oversubscribe", "-q"]);
    }
    command.args(["-n", "3", crate::common::BINARY, "run", "--array", "0-9", "--", "touch", "ran"]);
    let ended = world.spawn(command).wait().with(2);
    ended.says_once("myriarch: started by");
    assert!(world.listing().is_empty(), "{:?}", world.listing());
}
