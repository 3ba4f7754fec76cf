#!/usr/bin/env bash
# The main job: estimates pi from many small runs with different seeds, each a process of its own, on real MPI.
#   RUNS=2000   how many      RANKS=4   MPI ranks      SAMPLES=4000000   random points per run
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

RUNS=${RUNS:-2000}
RANKS=${RANKS:-4}
SAMPLES=${SAMPLES:-4000000}
myriarch=$target_dir/release/myriarch
pi=$target_dir/release/examples/pi

echo "Estimating pi: $RUNS runs of $SAMPLES random points each, on $RANKS ranks of MPI ($MPI)."
# The launcher takes the ranks' output through pipes: whether there is a screen is known here alone.
progress=lines
if [ -t 2 ]; then progress=bar; fi
launch=("${mpiexec[@]}" -n "$RANKS" "$myriarch" run --array "0-$((RUNS - 1))" --progress "$progress" --
    "$pi" --seed '{}' --samples "$SAMPLES")
printf '$ %s\n\n' "${launch[*]}"
status=0
"${launch[@]}" || status=$?
if [ "$status" != 0 ]; then
    echo "The run ended with status $status; see: $myriarch failed" >&2
    exit "$status"
fi

# Every estimate is the standard output of one task.
echo
"$myriarch" output | awk -v expected="$RUNS" '
    { n++; sum += $1; squares += $1 * $1 }
    END {
        pi = atan2(0, -1)
        if (n != expected) { printf "%d estimates, but %d runs\n", n, expected; exit 1 }
        mean = sum / n
        variance = n > 1 ? (squares - n * mean * mean) / (n - 1) : 0
        error = sqrt((variance > 0 ? variance : 0) / n)
        printf "average of %d estimates   %.7f ± %.7f (standard error)\n", n, mean, error
        printf "pi                          %.7f\n", pi
        printf "off by                      %+.7f\n", mean - pi
        if (error > 0 && (mean - pi > 6 * error || pi - mean > 6 * error)) { print "that is too far off"; exit 1 }
    }'

cat <<TEXT

What you need next (the run lies in myriarch-runs/last, which these commands take when none is named):
    $myriarch status                 how the run went
    $myriarch output --task 7        what one task printed
    ${mpiexec[*]} -n $RANKS $myriarch run my-commands.txt      your own commands, one per line
TEXT
