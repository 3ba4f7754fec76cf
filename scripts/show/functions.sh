#!/usr/bin/env bash
# Tasks that are functions: how many a second, with and without a payload of their own, and what share of the cores' time
# is left to tasks that keep them busy. Everything is recorded (`--record all`), grade written.
#   RANKS=2      TASKS=10000000
. "$(dirname "$0")/common.sh"
TASKS=${TASKS:-10000000}
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

# Share of the cores' time that went into tasks: tasks × length ÷ (wall time × slots).
spins() {
    local us=$1 count=$2
    say "$count spins of $us µs"
    show "${run[@]}" --out "spin-$us" --array "0-$((count - 1))" --call builtin:spin --call-arg "$us"
    awk -v us="$us" -v count="$count" -v wall="$(value_of "spin-$us/summary.json" wall_seconds)" \
        -v slots="$(value_of "spin-$us/summary.json" slots)" \
        'BEGIN { printf "%.1f %% of the time of %d cores in tasks of %d µs\n", 100 * us * count / 1e6 / wall / slots, slots, us }'
}
spins 10 1000000
spins 100 200000
spins 1000 20000
