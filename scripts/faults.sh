#!/usr/bin/env bash
# Ranks that are killed and stopped at random moments, on real MPI: under Open MPI, under MPICH's Hydra and, where there is a
# Slurm with four nodes of two processors (SLURM=yes), under srun. Each run has to end by itself, with one outcome for each task.
#   FAULTS=100   so many for each launcher      SEED=1   the first of them; each prints its own
set -euo pipefail
cd "$(dirname "$0")/.."
faults=${FAULTS:-100}
seed=${SEED:-$RANDOM}

# The tests of one MPI, as scripts/test.sh builds them.
tests_of() {
    local mpi=$1 folder=$2
    (
        unset MPICC MPI_PKG_CONFIG MPIEXEC
        export MPI=$mpi MYRIARCH_TEST_FAULTS=$faults MYRIARCH_TEST_SEED=$seed
        . scripts/environment.sh
        cargo test --target-dir "$folder" --test integration losses:: -- --nocapture --test-threads 1 |
            grep --line-buffered -E '^MYRIARCH_TEST_SEED|^test |panicked|FAILED'
    )
}

echo "SEED=$seed FAULTS=$faults"
for launcher in ${LAUNCHERS:-mpirun mpiexec ${SLURM:+srun}}; do
    echo "==== $launcher"
    case $launcher in
    mpirun) tests_of openmpi target ;;
    mpiexec) tests_of mpich target-mpich ;;
    srun) MYRIARCH_TEST_LAUNCHER=srun tests_of mpich target-mpich ;;
    esac
done
