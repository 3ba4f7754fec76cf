#!/usr/bin/env bash
# Instructions of Myriarch itself per task, which a busy machine does not change: for the rank that runs the tasks and
# for rank 0, which hands them out and records them. One of the two runs under callgrind, the other as ever. The figure
# is the slope between two numbers of tasks, so that what a start costs falls out.
#
# What waits does not count: only the loop of the rank without its waiting (and without looking for messages while it
# waits), the threads that call functions while they have some, and those that write. The clock does not count either:
# under valgrind it is a system call.
#   ROUNDS=3
. "$(dirname "$0")/common.sh"
if ! has valgrind || ! has callgrind_annotate; then
    echo "valgrind with callgrind is missing (Debian, Ubuntu: apt-get install valgrind; dnf install valgrind; module load valgrind)" >&2
    exit 1
fi
ROUNDS=${ROUNDS:-3}

# Functions at which counting is switched: on where it is off, and off where it is on.
switches=('RankLoop*::run' 'RankLoop*::go_on_after_a_call' 'Fabric>::wait' 'Caller::call_all' 'appender::Worker::run')
switched=()
nm -C "$myriarch" >functions
for name in "${switches[@]}"; do
    switched+=("--toggle-collect=*$name")
    if ! grep -q "${name/\*/.*}\$" functions; then
        echo "there is no function $name in $myriarch: renamed, or inlined" >&2
        exit 1
    fi
done
callgrind=(valgrind -q --tool=callgrind --callgrind-out-file=counts --collect-atstart=no "${switched[@]}")
# Long copies in steps of 32 bytes: `rep movsb`, which is faster, counts as an instruction a byte here.
export GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=0x40000000

# Instructions of this role in a run of these tasks, and the messages that the manager got.
count() {
    local role=$1 manager=() worker=()
    shift
    local run=("$myriarch" run --progress none --dedicated-manager --out run "$@")
    if [ "$role" = manager ]; then manager=("${callgrind[@]}"); else worker=("${callgrind[@]}"); fi
    rm -rf run counts
    timeout 600 "${mpiexec[@]}" -n 1 "${manager[@]}" "${run[@]}" : -n 1 "${worker[@]}" "${run[@]}" >said 2>&1 ||
        { cat said >&2 && exit 1; }
    echo "$(sed -n 's/^totals: //p' counts) $(value_of run/summary.json manager_messages)"
}

# One line of the table, for the tasks that the function named `tasks_of` puts into $tasks: from so many to so many.
line() {
    local what=$1 role=$2 tasks_of=$3 few=$4 many=$5 round low high
    for ((round = 0; round < ROUNDS; round++)); do
        "$tasks_of" "$few"
        low=$(count "$role" "${tasks[@]}")
        "$tasks_of" "$many"
        high=$(count "$role" "${tasks[@]}")
        echo "$low $high" $((many - few))
    done | awk '{ printf "%.2f %.0f %.1f\n", ($3 - $1) / $5, ($3 - $1) / ($4 - $2), $5 / ($4 - $2) }' | sort -n >figures
    awk -v what="$what" -v role="$role" '
        { task[NR] = $1; message[NR] = $2; of[NR] = $3 }
        END {
            middle = int((NR + 1) / 2)
            printf "%-30s %-8s %8.2f  %8.2f to %8.2f", what, role, task[middle], task[1], task[NR]
            if (role == "manager") printf "  %8d of %6.0f tasks", message[middle], of[middle]
            print ""
        }' figures
}

array_of_noop() { tasks=(--array "0-$(($1 - 1))" --call builtin:noop); }
lines_of() { head -n "$1" all >lines && tasks=(--each-line lines --call "builtin:$2"); }
lines_of_noop() { lines_of "$1" noop; }
lines_of_echo() { lines_of "$1" echo; }
processes() { tasks=(--array "0-$(($1 - 1))" -- /bin/true); }

seq -f 'payload-%08.0f' 0 9999999 >all
printf 'the rank that is looked at, of two: %s\n' "$(printf '%q ' "${callgrind[@]}" myriarch run --dedicated-manager TASKS)"
say "instructions per task: the median of $ROUNDS rounds, the least and the most; of the manager, per message too"
line "noop of an array" worker array_of_noop 200000 600000
line "noop of an array" manager array_of_noop 2000000 10000000
line "noop, 16 bytes each" worker lines_of_noop 200000 600000
line "noop, 16 bytes each" manager lines_of_noop 2000000 10000000
line "echo, 16 bytes each" worker lines_of_echo 200000 600000
line "echo, 16 bytes each" manager lines_of_echo 2000000 10000000
line "process /bin/true" manager processes 1000 3000
