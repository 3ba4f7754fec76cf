#!/usr/bin/env bash
# Every check and every test: formatting, lints, documentation, then the integration tests without MPI, on MPICH and on
# Open MPI, and once what needs no ranks of MPI. `test.sh check` stops before the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
export RUST_BACKTRACE=${RUST_BACKTRACE:-1}

# Ranks sleep most of the time: four tests at once keep two cores busy.
threads=$(nproc)
if [ "$threads" -lt 4 ]; then threads=4; fi
export NEXTEST_TEST_THREADS=${NEXTEST_TEST_THREADS:-$threads} RUST_TEST_THREADS=${RUST_TEST_THREADS:-$threads}

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
        export MPI=$mpi
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
# Always the whole workspace, and of it the tests that are named: with some packages alone the libraries below would have
# other features, and be built anew.
step "integration tests without MPI, and those of the scaling tests, which know no MPI"
tests --workspace --no-default-features --bins --test integration --test quick
# What runs without a launcher was seen there. So were ranks that are threads: no line of theirs depends on MPI.
export MYRIARCH_TEST_LAUNCHES=mpi
of_mpi=(-- --skip fabric_threads::)
if [ -d target/debug ] && [ ! -e target-mpich ]; then
    # The libraries below are the same; only what knows the MPI is not, and what is our own. Times of files count, to the
    # fraction of a second: by them cargo sees what is fresh.
    mkdir -p target/for-mpich
    tar --create --format=posix --directory=target --exclude='*myriarch*' --exclude='*scaling*' --exclude='*integration*' \
        --exclude='incremental' --exclude='mpi-*' --exclude='libmpi*' debug | tar --extract --directory=target/for-mpich
    mv target/for-mpich target-mpich
fi
step "integration tests, MPICH"
with_mpi mpich tests --target-dir target-mpich --workspace --test integration "${of_mpi[@]}"
# Unit tests with all features: there are none that are only there without one.
step "unit tests and integration tests, Open MPI"
with_mpi openmpi tests --workspace --lib --test integration --test header "${of_mpi[@]}"
step "documentation tests"
with_mpi openmpi cargo test --workspace --doc
step "done"
