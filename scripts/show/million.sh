#!/usr/bin/env bash
# From the folder of a finished run of a million tasks to the error output of the one that failed: under a second.
# Each task is a process, so making the run takes about ten minutes on two cores.
#   TASKS=1000000      RANKS=4
. "$(dirname "$0")/common.sh"
TASKS=${TASKS:-1000000}
failing=$((TASKS * 7 / 10 + 3))
printf '#!/bin/sh\n[ "$1" = %s ] || exit 0\necho "task $1 has a problem" >&2\nexit 7\n' "$failing" >simulate
chmod +x simulate
say "a run of $TASKS tasks of which one fails"
show_status 1 "${mpiexec[@]}" -n "${RANKS:-4}" "$myriarch" run --out run --progress lines --array "0-$((TASKS - 1))" -- ./simulate '{}'
show du -sh run
say "its error output"
for what in "failed run" "output run --failed --stderr" "output run --stderr --task $failing" "status run"; do
    begin=$(date +%s.%N)
    # shellcheck disable=SC2086
    show "$myriarch" $what || true
    end=$(date +%s.%N)
    awk -v begin="$begin" -v end="$end" 'BEGIN { printf "   %.3f s\n", end - begin; exit end - begin >= 1 }'
done
