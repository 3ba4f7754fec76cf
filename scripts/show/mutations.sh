#!/usr/bin/env bash
# Plants one mistake after the other into a copy of the scheduler and says after how many seeds the simulator finds it. The
# mistakes are in scripts/mutations/*.patch, each with a sentence on its first line.
#   SEEDS=5000   so many at the most      FIRST=0   the first of them      ONLY=NAME   one mistake
#
# What is built is the scheduler and the simulator alone, so that each mistake takes seconds.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
work=$(mktemp -d "${TMPDIR:-/tmp}/myriarch-mutations.XXXXXX")
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR=$root/target/mutations

# A crate of these three folders, with the root's own dependencies as far as they need them.
mkdir -p "$work/src/bin"
cp Cargo.lock "$work/"
cp scripts/mutations/main.rs "$work/src/bin/mutant.rs"
{
    printf '[package]\nname = "mutant"\nversion = "0.1.0"\nedition = "2024"\n[workspace]\n[profile.dev]\nopt-level = 2\ndebug = false\n[dependencies]\n'
    grep -E '^(crc32c|csv|libc|memchr|memmap2|postcard|rayon|serde|serde_json|strsim|thiserror|toml|zerocopy) = ' Cargo.toml
} >"$work/Cargo.toml"
printf '#![allow(missing_docs, dead_code, unused)]\npub mod schedule;\npub mod simulate;\npub mod task;\n' >"$work/src/lib.rs"

# The sources as they are, and what is changed in them from one mistake to the next.
for part in schedule simulate task; do
    cp -a "src/$part" "$work/src/"
done
cd "$work"

# Builds, and runs the seeds.
try() {
    if ! cargo build --quiet --offline --bin mutant >said 2>&1; then
        grep -m 3 -A 4 '^error' said >&2 || cat said >&2
        printf -- '-\tit does not build\n'
        return
    fi
    timeout 900 "$CARGO_TARGET_DIR/debug/mutant" "${FIRST:-0}" "${SEEDS:-5000}" || printf -- '-\tit hangs\n'
}

missed=0
row() { printf '| %s | %s | %s |\n' "$1" "$2" "$3"; }
row "mistake" "seeds until it is found" "what is said"
row "---" "---" "---"
IFS=$'\t' read -r seeds what < <(SEEDS=${SEEDS_WITHOUT:-200} try)
row "none" "$seeds" "$what"
for patch in "$root"/scripts/mutations/${ONLY:-*}.patch; do
    patch -s -p1 <"$patch"
    IFS=$'\t' read -r seeds what < <(try)
    patch -s -R -p1 <"$patch"
    row "$(head -n 1 "$patch")" "$seeds" "$what"
    if [ "$seeds" = - ]; then
        missed=$((missed + 1))
    fi
done
[ "$missed" = 0 ] || { echo "$missed were not found" >&2 && exit 1; }
