#!/usr/bin/env bash
# 20,000 times /bin/true through the whole of Myriarch, beside what two bare loops of posix_spawn and waitpid reach
# just before and just after.
#   TASKS=20000      SLOTS=2      ROUNDS=3
. "$(dirname "$0")/common.sh"
TASKS=${TASKS:-20000}
SLOTS=${SLOTS:-2}
ROUNDS=${ROUNDS:-3}

# Processes per second of bare loops.
bare() {
    local said
    said=$("$myriarch" bench spawn --bare --slots "$SLOTS" --seconds 3)
    echo "$said" >&2
    sed -n 's|.*: \([0-9]*\) /s$|\1|p' <<<"$said"
}

for ((round = 1; round <= ROUNDS; round++)); do
    say "round $round of $ROUNDS"
    before=$(bare)
    show "${mpiexec[@]}" -n "${RANKS:-2}" "$myriarch" run -j "$SLOTS" --out "run-$round" --progress none \
        --array "0-$((TASKS - 1))" -- /bin/true
    after=$(bare)
    rate=$(value_of "run-$round/summary.json" tasks_per_second)
    start=$(value_of "run-$round/summary.json" start_seconds)
    end=$(value_of "run-$round/summary.json" end_seconds)
    awk -v rate="$rate" -v before="$before" -v after="$after" -v start="$start" -v end="$end" 'BEGIN {
        bare = (before + after) / 2
        printf "%.0f tasks/s; bare loops %.0f and %.0f /s; ratio %.1f %%\n", rate, before, after, 100 * rate / bare
        printf "launch to first task %.3f s; last outcome to exit %.3f s\n", start, end
    }'
done
