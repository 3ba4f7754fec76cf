#!/usr/bin/env bash
# What it costs to notice lost ranks: the part of all instructions of a rank, waiting included, that goes into
# `src/schedule/watch.rs` and into telling relatives that it is there, in a run of no-ops. One of two ranks runs under callgrind.
#   TASKS=20000000   LOST_AFTER=2s   beats come four times as often, so by default fifteen times as often as in other runs
. "$(dirname "$0")/common.sh"
if ! has valgrind || ! has callgrind_annotate; then
    echo "valgrind with callgrind is missing (Debian, Ubuntu: apt-get install valgrind; dnf install valgrind; module load valgrind)" >&2
    exit 1
fi
TASKS=${TASKS:-20000000}
LOST_AFTER=${LOST_AFTER:-2s}

callgrind=(valgrind -q --tool=callgrind --callgrind-out-file=counts)

count() {
    local role=$1 manager=() worker=()
    shift
    local run=("$myriarch" run --progress none --dedicated-manager --lost-after "$LOST_AFTER" --out run "$@")
    if [ "$role" = manager ]; then manager=("${callgrind[@]}"); else worker=("${callgrind[@]}"); fi
    rm -rf run counts
    timeout 900 "${mpiexec[@]}" -n 1 "${manager[@]}" "${run[@]}" : -n 1 "${worker[@]}" "${run[@]}" >said 2>&1 ||
        { cat said >&2 && exit 1; }
    # The file's own instructions, wherever they were put, and all that happens upon a beat.
    local all watched beats
    all=$(sed -n 's/^totals: //p' counts)
    watched=$(callgrind_annotate --auto=no --threshold=100 counts 2>/dev/null | tr -d , | awk '/watch\.rs:/ { sum += $1 } END { print sum + 0 }')
    beats=$(callgrind_annotate --auto=no --threshold=100 --inclusive=yes counts 2>/dev/null | tr -d , | awk '/feel_pulses/ && !found++ { print $1 }')
    awk -v role="$role" -v all="$all" -v watched="$watched" -v beats="${beats:-0}" -v seconds="$(value_of run/summary.json wall_seconds)" '
        BEGIN { printf "%-8s %13.0f instructions in %5.1f s: watch.rs %9.0f (%.5f %%), beats %9.0f (%.5f %%)\n",
            role, all, seconds, watched, 100 * watched / all, beats, 100 * beats / all }'
}

say "instructions of a run of $TASKS no-ops on two ranks, --lost-after $LOST_AFTER; beats contain a part of watch.rs"
for role in manager worker; do
    count "$role" --array "0-$((TASKS - 1))" --call builtin:noop
done
