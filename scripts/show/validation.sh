#!/usr/bin/env bash
# The simulator beside real runs: the same tasks on the same number of ranks and slots, measured and simulated. Time is that
# of summary.json, from the first hand-out to the last record, as in the simulator. Efficiency is the time that the tasks ask
# for ÷ (time × slots). Each real figure is the median of the rounds; restless machines make real runs slower.
# A sleep takes longer than it is asked for, whoever sleeps: what is simulated is as long as one of bare threads that sleep
# side by side just before.
#   MODEL=local|FILE      ROUNDS=5      SECONDS_EACH=1      RATIO=1.25: fails where one is off by more
MODEL=${MODEL:-local}
if [ -f "$MODEL" ]; then MODEL=$(realpath "$MODEL"); fi
. "$(dirname "$0")/common.sh"
ROUNDS=${ROUNDS:-5}
RATIO=${RATIO:-}
seconds=${SECONDS_EACH:-1}
cc -O2 -pthread -o sleepers "$here/sleep.c"

median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
# The value of a key of JSON in one line.
key_of() { sed -n "s/.*\"$1\":\([0-9.e+-]*\)[,}].*/\1/p"; }

# What, ranks, tasks, µs that each asks for, µs that each is simulated with, options of simulate, tasks of run …
compare() {
    local what=$1 ranks=$2 tasks=$3 us=$4 simulated_us=$5 options=$6 round
    shift 6
    for ((round = 0; round < ROUNDS; round++)); do
        rm -rf run
        "${mpiexec[@]}" -n "$ranks" "$myriarch" run -j "$ranks" --progress none --out run --array "0-$((tasks - 1))" "$@" 2>said ||
            { cat said >&2; return 1; }
        value_of run/summary.json wall_seconds
    done | median >wall
    # shellcheck disable=SC2086 # options are words
    "$myriarch" simulate --model "$MODEL" --nodes 1 --ranks-per-node "$ranks" --tasks "$tasks" \
        --duration "${simulated_us}us" --json $options >simulated
    awk -v what="$what" -v ranks="$ranks" -v tasks="$tasks" -v us="$us" -v real="$(cat wall)" \
        -v simulated="$(key_of makespan_seconds <simulated)" 'BEGIN {
        printf "%-22s %5d %9d %12.0f %12.0f %7.3f", what, ranks, tasks, tasks / real, tasks / simulated, real / simulated
        if (us > 0) printf " %9.1f %9.1f", us * tasks / ranks / real / 1e4, us * tasks / ranks / simulated / 1e4
        print ""
        print real / simulated, what, ranks >>"ratios"
    }'
}

# So many tasks that they take about as long as they should, and no more than 200,000.
count() { awk -v ranks="$1" -v us="$2" -v seconds="$seconds" 'BEGIN { n = int(seconds * 1e6 * ranks / us); print (n > 200000 ? 200000 : n) }'; }

say "model $MODEL, medians of $ROUNDS rounds; load $(cut -d' ' -f1 /proc/loadavg)"
printf '%-22s %5s %9s %12s %12s %7s %9s %9s\n' tasks ranks number real/s simulated/s ratio 'real %' 'simul. %'
for ranks in 1 2; do
    for us in 10 100 1000 10000; do
        compare "spin $us µs" $ranks "$(count $ranks $us)" $us $us "" --call builtin:spin --call-arg $us
    done
    compare "100 spins of 1 ms" $ranks $((100 * ranks)) 1000 1000 "" --call builtin:spin --call-arg 1000
    compare "no-op" $ranks 10000000 0 0 "" --call builtin:noop
    compare "/bin/true" $ranks $((2000 * ranks)) 0 0 --processes -- /bin/true
done
for ranks in 2 4 8; do
    for us in 1000 2000 5000 10000; do
        bare=$(for ((round = 0; round < ROUNDS; round++)); do ./sleepers $ranks $us 200; done | median)
        compare "sleep $us µs" $ranks "$(count $ranks $us)" $us "$bare" "" --call builtin:sleep --call-arg $us
    done
done
echo "load $(cut -d' ' -f1 /proc/loadavg) at the end"
if [ -n "$RATIO" ]; then
    awk -v most="$RATIO" '$1 > most || $1 < 1 / most { print "off by more than", most ":", $0; bad = 1 } END { exit bad }' ratios
fi
