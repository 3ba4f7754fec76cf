#!/usr/bin/env bash
# Measures scaling on this machine with real MPI, simulates the same at larger scale, and compares with other systems; see
# docs/src/how-to/scaling.md. All arguments go to scaling-tests.
#   MPI=openmpi|mpich   which MPI (default openmpi)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
# As `make build` does, so that nothing is built twice.
scripts/build.sh >&2
cargo build --release --target-dir "$target_dir" --package scaling-tests
arguments=(--myriarch "$target_dir/release/myriarch")
# A launcher of one's own is named on the command line, and plot starts no ranks.
case " $* " in
*" plot "*) arguments=() ;;
*" --launcher"[\ =]*) ;;
*) arguments+=(--launcher "${mpiexec[*]}") ;;
esac
exec "$target_dir/release/scaling-tests" "${arguments[@]}" "$@"
