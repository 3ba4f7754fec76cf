#!/usr/bin/env bash
# While eight `sleep 10` run on 4 ranks: the processor time of all ranks and spawners together, in percent of one core.
# The launcher and the sleeps do not count.
. "$(dirname "$0")/common.sh"

# Processor seconds of all processes of the binary that are there, by their /proc/*/stat: user and system time.
used() {
    local pid ticks=0 fields
    for pid in $(processes_here); do
        # The name, in parentheses, may hold blanks: count from behind it.
        fields=($(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null)) || continue
        ticks=$((ticks + fields[11] + fields[12]))
    done
    echo "$ticks"
}

say "eight sleeps of 10 s on ${RANKS:-4} ranks"
printf '$ %s\n' "${mpiexec[*]} -n ${RANKS:-4} myriarch run -j 8 --array 0-7 -- sleep 10"
"${mpiexec[@]}" -n "${RANKS:-4}" "$myriarch" run --out run -j 8 --progress none --array 0-7 -- sleep 10 &
launch=$!
until [ "$(value_of run/progress.json running 2>/dev/null)" = 8 ]; do sleep 0.1; done
first=$(used)
sleep 6
last=$(used)
processes=$(processes_here | wc -l)
wait "$launch"
awk -v ticks=$((last - first)) -v hz="$(getconf CLK_TCK)" -v processes="$processes" 'BEGIN {
    printf "%d processes of Myriarch used %.2f s of processor time in 6 s: %.2f %% of one core\n", processes, ticks / hz, 100 * ticks / hz / 6
}'
