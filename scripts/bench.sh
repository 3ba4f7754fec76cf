#!/usr/bin/env bash
# Runs the benches of benches/; see docs/src/how-to/benches.md. All arguments go to Criterion.
#   MPI=openmpi|mpich   which MPI (default openmpi)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
# Figures of one MPI are not compared with those of the other.
export CRITERION_HOME=${CRITERION_HOME:-$PWD/$target_dir/criterion}
run=(cargo bench --target-dir "$target_dir" --benches)
"${run[@]}" --no-run

# Criterion says nothing where no name matches. What it would list is what it would measure, but for options that a list
# cannot have; where it refuses to list for another reason, it says so itself below.
names=()
for ((i = 1; i <= $#; i++)); do
    case ${!i} in
    -h | --help | -V | --version) exec "${run[@]}" -- "$@" ;;
    --test | --list | --profile-time=*) ;;
    --profile-time) i=$((i + 1)) ;;
    *) names+=("${!i}") ;;
    esac
done
if listed=$("${run[@]}" --quiet -- --list "${names[@]}" 2>/dev/null) && ! grep -q ': benchmark$' <<<"$listed"; then
    echo "make bench: nothing matches: ${names[*]}; make bench ARGS=--list names all" >&2
    exit 1
fi
exec "${run[@]}" -- "$@"
