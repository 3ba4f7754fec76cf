#!/usr/bin/env bash
# Tasks that are functions: how many a second, with and without a payload of their own; what a hundred million of them take
# of memory and disk; and what share of the cores' time is left to tasks that keep them busy, beside what bare threads that
# spin get in the same moment. Everything is recorded (`--record all`), grade written.
#   RANKS=2      TASKS=10000000      ROUNDS=3
. "$(dirname "$0")/common.sh"
TASKS=${TASKS:-10000000}
ROUNDS=${ROUNDS:-3}
run=("${mpiexec[@]}" -n "${RANKS:-2}" "$myriarch" run --progress none)

say "functions that do nothing"
show "${run[@]}" --out noop --array "0-$((TASKS - 1))" --call builtin:noop
say "a payload of 16 bytes each"
seq -f 'payload-%08.0f' 0 $((TASKS - 1)) >payloads
show "${run[@]}" --out payload --each-line payloads --call builtin:noop
say "a payload of 16 bytes each, given back as the value"
show "${run[@]}" --out echo --each-line payloads --call builtin:echo
say "the same, called in processes of their own"
show "${run[@]}" --out noop-isolated --array "0-$((TASKS - 1))" --call builtin:noop --isolate
show "${run[@]}" --out payload-isolated --each-line payloads --call builtin:noop --isolate
show "${run[@]}" --out echo-isolated --each-line payloads --call builtin:echo --isolate
for kind in noop payload echo; do
    awk -v kind="$kind" -v here="$(value_of "$kind/summary.json" wall_seconds)" \
        -v isolated="$(value_of "$kind-isolated/summary.json" wall_seconds)" -v tasks="$TASKS" \
        'BEGIN { printf "%-8s %.1f million tasks/s, isolated %.1f\n", kind, tasks / here / 1e6, tasks / isolated / 1e6 }'
done
ls -l echo/segments/*/* noop/segments/*/* noop/journal.* | awk '{ print $5, "bytes", $NF }'

say "ten times as many functions of an array"
show "${run[@]}" --out many --array "0-$((10 * TASKS - 1))" --call builtin:noop &
launch=$!
# The most memory that any process has had resident so far, of those that are there.
while kill -0 "$launch" 2>/dev/null; do
    for process in $(processes_here); do
        sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB$/\1/p' "/proc/$process/status" 2>/dev/null || true
    done
    sleep 0.02
done | sort -n | tail -n 1 >most
wait "$launch"
echo "$(cat most) kB resident at most in any process; $(cat many/journal.* | wc -c) bytes of journal, $(cat many/segments/*/* | wc -c) bytes of segments"

cc -O2 -pthread -o spin "$here/spin.c"
# Share of the cores' time that went into tasks: tasks × length ÷ (wall time × slots).
spins() {
    local us=$1 count=$2 round
    say "$count spins of $us µs: % of the time of $(nproc) cores in them"
    printf '$ %s\n' "${run[*]##*/} --array 0-$((count - 1)) --call builtin:spin --call-arg $us"
    for ((round = 0; round < ROUNDS; round++)); do
        bare=$(./spin "$us" "$count")
        rm -rf spins
        "${run[@]}" --out spins --array "0-$((count - 1))" --call builtin:spin --call-arg "$us" 2>/dev/null
        awk -v us="$us" -v count="$count" -v wall="$(value_of spins/summary.json wall_seconds)" -v bare="$bare" \
            -v slots="$(value_of spins/summary.json slots)" \
            'BEGIN { printf "%.2f of Myriarch, %.2f of bare threads\n", 100 * us * count / 1e6 / wall / slots, bare }'
    done | sort -n | awk '{ print } { all[NR] = $0 } END { print "median:", all[int((NR + 1) / 2)] }'
}
spins 10 1000000
spins 100 200000
spins 1000 20000
