#!/usr/bin/env bash
# Builds the release binary, and the example that `make run` runs, with the chosen MPI.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

cargo build --release --target-dir "$target_dir" --bins --example pi
echo "Built $target_dir/release/myriarch ($MPI)"
