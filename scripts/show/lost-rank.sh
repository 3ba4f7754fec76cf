#!/usr/bin/env bash
# The time from the death of a rank until what it ran runs elsewhere, beside --lost-after: a worker, then a rank that is a
# sub-manager too. All other tasks end then. Tasks note when they begin; the rank is killed, and the first note of one that had begun before counts.
#   ROUNDS=5      AFTER=2 (--lost-after, seconds)
. "$(dirname "$0")/common.sh"
ROUNDS=${ROUNDS:-5}
AFTER=${AFTER:-2}
launch=("${mpiexec[@]}" --enable-recovery -n 8 "$myriarch" run --ranks-per-node 2 --lost-after "$AFTER" --progress none
    --out run --array 0-7 -- 'echo {} $(date +%s.%N) >> ran; while [ ! -e go ]; do sleep 0.02; done')

# The process of a rank: the one whose parent is not the binary.
process_of() {
    local process
    for process in $(processes_here); do
        tr '\0' '\n' <"/proc/$process/environ" 2>/dev/null | grep -qx "OMPI_COMM_WORLD_RANK=$1" || continue
        [ "$(readlink "/proc/$(ps -o ppid= -p "$process" | tr -d ' ')/exe")" = "$myriarch" ] || echo "$process"
    done
}

for rank in 3 2; do
    say "rank $rank of 8 on nodes of two is killed; --lost-after $AFTER"
    for ((round = 0; round < ROUNDS; round++)); do
        rm -rf run ran go
        : >ran
        "${launch[@]}" 2>said &
        while [ "$(wc -l <ran)" -lt 8 ]; do sleep 0.05; done
        sleep "0.$((RANDOM % 900 + 100))"
        killed=$(date +%s.%N)
        kill -9 "$(process_of "$rank")"
        touch go
        while [ "$(wc -l <ran)" -lt 9 ]; do sleep 0.02; done
        sed -n 9p ran | awk -v killed="$killed" '{ printf "%.3f\n", $2 - killed }'
        wait $! || { cat said >&2; exit 1; }
        [ "$(value_of run/summary.json ok)" = 8 ] || { cat said >&2; exit 1; }
    done | sort -g | awk '{ all[NR] = $1 } END { printf "%s s until it runs elsewhere, the median of %d; %s to %s s\n", all[int((NR + 1) / 2)], NR, all[1], all[NR] }'
done
