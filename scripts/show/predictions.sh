#!/usr/bin/env bash
# What the models of large machines predict: each simulation's JSON in a folder, and a table of all. Simulated, not measured.
#   OUT=predictions   the folder; what is there already is not simulated again      BIN=FILE   the binary      LARGE=0: up to 1,024 nodes
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BIN=${BIN:-$root/target/release/myriarch}
OUT=${OUT:-predictions}
LARGE=${LARGE:-1}
mkdir -p "$OUT"

# A name, the nodes, then options of simulate.
predict() {
    local name=$1 nodes=$2 file=$OUT/$1.json
    shift 2
    if [ "$LARGE" = 0 ] && [ "$nodes" -gt 1024 ]; then
        return
    fi
    if [ ! -e "$file" ]; then
        "$BIN" simulate --nodes "$nodes" --ranks-per-node 32 "$@" --json >"$file.part"
        mv "$file.part" "$file"
    fi
    row "$file" "$name"
}

# The value of a key of JSON in one line, the first of that name.
key_of() { grep -o "\"$1\":[0-9.e+-]*" "$2" | head -n 1 | cut -d: -f2; }

row() {
    local list makespan last
    list=$(key_of list_scheduling_seconds "$1")
    makespan=$(key_of makespan_seconds "$1")
    last=$(key_of last_end_seconds "$1")
    awk -v name="$2" -v list="$list" -v makespan="$makespan" -v last="$last" -v rate="$(key_of tasks_per_second "$1")" 'BEGIN {
        printf "%-44s %12.6f s %7.2f %% of list scheduling, to the last end %7.2f %% %16.0f tasks/s\n",
            name, makespan, 100 * list / makespan, (last > 0 ? 100 * list / last : 0), rate }'
}

for length in 10ms 100ms; do
    for nodes in 16 64 256 1024; do
        predict "slingshot-$nodes-$length" $nodes --model slingshot --duration $length
    done
done
for model in slingshot gemini; do
    for length in 0 10ms 100ms 1s; do
        predict "$model-8192-$length" 8192 --model $model --duration $length
    done
done
for nodes in 16 64 256 1024; do
    predict "slingshot-$nodes-1000-of-40us" $nodes --model slingshot --duration 40us --tasks $((nodes * 32 * 1000))
done
for nodes in 256 1024 8192; do
    predict "slingshot-$nodes-1000-of-40us-no-records" $nodes --model slingshot --duration 40us --tasks $((nodes * 32 * 1000)) \
        --no-records
done
for nodes in 16 64 256 1024; do
    predict "slingshot-$nodes-300-lognormal" $nodes --model slingshot --duration lognormal:0.33ms,0.5 --tasks $((nodes * 32 * 300))
done
for nodes in 256 1024 4096 16384; do
    predict "slingshot-$nodes-300-lognormal-no-records" $nodes --model slingshot --duration lognormal:0.33ms,0.5 \
        --tasks $((nodes * 32 * 300)) --no-records
done
predict slingshot-8192-bad-node-100ms 8192 --model slingshot --duration 100ms --bad-node 77
predict slingshot-8192-million-processes 8192 --model slingshot --duration 1s --tasks 1000000 --processes
predict gemini-16384-10ms 16384 --model gemini --duration 10ms
predict gemini-16384-100ms 16384 --model gemini --duration 100ms
