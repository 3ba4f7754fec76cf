# Sourced by the demonstrations: builds the release binary, makes a folder to work in that goes again at the end, and
# shows each command before it runs. Sets myriarch, mpiexec (an array) and $work, which is the present folder then.
#   MPI=openmpi|mpich   which MPI (default openmpi)      RANKS   how many ranks, where the demonstration lets one choose

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
. scripts/environment.sh
scripts/build.sh >&2
myriarch=$root/$target_dir/release/myriarch
work=$(mktemp -d "${TMPDIR:-/tmp}/myriarch-show.XXXXXX")
trap 'cd /; remove_shared_memory; rm -rf "$work"' EXIT
cd "$work"
: >.began

# Shows a command, then runs it.
show() {
    printf '$ %s\n' "$(printf '%q ' "$@" | sed "s|$root/||g")"
    "$@"
}

# As show, for a command that shall end with this status.
show_status() {
    local expected=$1 status=0
    shift
    show "$@" || status=$?
    if [ "$status" != "$expected" ]; then
        echo "status $status where $expected was expected" >&2
        exit 1
    fi
}

say() { printf '\n== %s\n' "$*"; }

# The value of a key of a flat JSON file such as summary.json.
value_of() { sed -n "s/^ *\"$2\": *\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$1"; }

# Numbers of all processes that descend from this one, itself included.
descendants() {
    local child
    echo "$1"
    for child in $(pgrep -P "$1" 2>/dev/null); do
        descendants "$child"
    done
}

# Numbers of the processes of the binary that run here.
processes_here() {
    local process
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/exe" 2>/dev/null)" = "$myriarch" ] && [ "$(readlink "$process/cwd" 2>/dev/null)" = "$work" ]; then
            echo "${process#/proc/}"
        fi
    done
}

# Removes what killed MPI jobs left in shared memory since the demonstration began, if no process has it mapped.
remove_shared_memory() {
    local file
    find /dev/shm -maxdepth 1 -user "$(id -un)" -newer "$work/.began" \( -name 'vader_segment.*' -o -name 'mpich*' \) 2>/dev/null |
        while read -r file; do
            grep -qsF "$file" /proc/[0-9]*/maps || rm -f "$file"
        done
}
