#!/usr/bin/env bash
# Builds the C library, shared and static, with the chosen MPI.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

cargo build --release --target-dir "$target_dir" --package myriarch-c
echo "Built $target_dir/release/libmyriarch_c.so and .a ($MPI)"
