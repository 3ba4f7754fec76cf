#!/usr/bin/env bash
# Every check and every test: formatting, lints, documentation, then all tests on Open MPI, the integration tests on
# MPICH, and all tests without MPI. `test.sh check` stops before the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
export RUST_BACKTRACE=${RUST_BACKTRACE:-1}

step() { printf '\n==== %s (%d min %02d s so far)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); }

# The runner that is there. The arguments are those that both know.
tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --no-fail-fast "$@"
    else
        cargo test --no-fail-fast "$@"
    fi
}

# Runs a command with the variables of one MPI, without those of another.
with_mpi() {
    local mpi=$1
    shift
    (
        if [ "$MPI" != "$mpi" ]; then
            unset MPICC MPI_PKG_CONFIG MPIEXEC
        fi
        MPI=$mpi
        . scripts/environment.sh
        "$@"
    )
}

step "formatting"
cargo fmt --all --check
step "lints"
with_mpi openmpi cargo clippy --workspace --all-targets -- -D warnings
with_mpi openmpi cargo clippy --workspace --all-targets --no-default-features -- -D warnings
step "documentation"
RUSTDOCFLAGS="-D warnings" with_mpi openmpi cargo doc --workspace --no-deps --document-private-items
[ "${1:-}" = check ] && exit 0

step "shell scripts"
for script in scripts/*.sh scripts/show/*.sh .ci/run; do
    bash -n "$script"
done
step "all tests, without MPI"
tests --workspace --no-default-features
# What runs without a launcher was seen there.
export MYRIARCH_TEST_LAUNCHES=mpi
step "integration tests, MPICH"
with_mpi mpich tests --target-dir target-mpich --test '*'
step "documentation tests"
with_mpi openmpi cargo test --workspace --doc
step "all tests, Open MPI"
with_mpi openmpi tests --workspace
