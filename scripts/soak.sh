#!/usr/bin/env bash
# Runs with faults of fresh seeds, on all cores, until the time is over or one of them breaks a rule.
#   SOAK=10m   how long: 90s, 10m, 8h
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
myriarch=$target_dir/release/myriarch
soak=${SOAK:-10m}
if ! [[ $soak =~ ^[0-9]+[smh]?$ ]]; then
    echo "SOAK=$soak is no time: 90s, 10m, 8h" >&2
    exit 2
fi
case $soak in
*h) limit=$((${soak%h} * 3600)) ;;
*m) limit=$((${soak%m} * 60)) ;;
*) limit=${soak%s} ;;
esac

runs=0
while [ "$SECONDS" -lt "$limit" ]; do
    first=$(date +%s%N)
    "$myriarch" simulate --faults "$first..$((first + 1000))"
    runs=$((runs + 1000))
done
echo "$runs seeds in $SECONDS s, and no rule was broken"
