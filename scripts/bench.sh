#!/usr/bin/env bash
# Runs the benches of benches/; see docs/src/how-to/benches.md. All arguments go to Criterion.
#   MPI=openmpi|mpich   which MPI (default openmpi)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
# Figures of one MPI are not compared with those of the other.
export CRITERION_HOME=${CRITERION_HOME:-$PWD/$target_dir/criterion}
exec cargo bench --target-dir "$target_dir" --benches -- "$@"
