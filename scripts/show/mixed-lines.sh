#!/usr/bin/env bash
# 1,000 lines of all kinds give what `sh -c` gives one by one: under both MPIs, with 1, 2, 4 and 8 ranks, on virtual
# nodes of 2, and without mpiexec. The comparison is that of tests/integration/mixed_lines.rs, with all lines on every
# launch.
#   LINES_OF_TEST=1000   how many      MYRIARCH_TEST_SEED   which
set -euo pipefail
cd "$(dirname "$0")/../.."
export MYRIARCH_TEST_LINES=${LINES_OF_TEST:-1000}
for MPI in openmpi mpich; do
    echo "== $MPI: $MYRIARCH_TEST_LINES lines on every launch"
    (
        . scripts/environment.sh
        set -x
        cargo test --release --target-dir "$target_dir" --test integration -- --nocapture \
            mixed_lines_give_what_sh_gives_on_every_launch
    )
done
