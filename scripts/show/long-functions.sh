#!/usr/bin/env bash
# A function of 30 seconds on every slot, rank 0's included: how soon the run answers meanwhile. First short functions behind
# long ones (they are taken back and run elsewhere), then `status` while all slots are taken, then a stop.
#   RANKS=2      SECONDS_EACH=30
. "$(dirname "$0")/common.sh"
each=${SECONDS_EACH:-30}
ranks=${RANKS:-2}

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.2f", b - a }'; }

say "one function of $each s, then 1,000 of 1 ms: what waits behind the long one runs on the other slot"
{
    printf '{"call": "builtin:sleep", "payload": "%d"}\n' $((each * 1000000))
    yes '{"call": "builtin:sleep", "payload": "1000"}' | head -n 1000
} >mixed.jsonl
"${mpiexec[@]}" -n "$ranks" "$myriarch" run --progress none --out mixed mixed.jsonl &
began=$(now)
until [ "$("$myriarch" status mixed --json 2>/dev/null | sed -n 's/.*"ok": *\([0-9]*\).*/\1/p' | head -n 1)" = 1000 ]; do
    sleep 0.1
    awk -v since="$(since "$began")" -v limit="$each" 'BEGIN { exit since > limit - 1 }' || { echo "they wait for the long one" >&2; exit 1; }
done
echo "all 1,000 short ones had ended after $(since "$began") s, while the long one ran"
"$myriarch" stop mixed >/dev/null 2>&1 || true
wait

say "a function of $each s on every slot"
slots=$("$myriarch" status mixed --json | sed -n 's/.*"slots": *\([0-9]*\).*/\1/p' | head -n 1)
"${mpiexec[@]}" -n "$ranks" "$myriarch" run --progress none --out long --grace 0s --array "0-$((slots - 1))" \
    --call builtin:sleep --call-arg $((each * 1000000)) &
sleep 3
asked=$(now)
show "$myriarch" status long
echo "status answered in $(since "$asked") s"
asked=$(now)
timeout 10 "$myriarch" status --follow long >followed 2>&1 &
follower=$!
until [ -s followed ]; do sleep 0.02; done
echo "status --follow said its first line after $(since "$asked") s"
updated=$(value_of long/progress.json updated_unix)
echo "rank 0 wrote its progress $(awk -v at="$updated" -v now="$(now)" 'BEGIN { printf "%.1f", now - at }') s ago"
asked=$(now)
: >long/.asked
"$myriarch" stop long >stopped 2>&1 &
until grep -qs drain long/log*; do
    sleep 0.02
    awk -v since="$(since "$asked")" 'BEGIN { exit since > 20 }' || break
done
echo "the drain began $(since "$asked") s after it was asked for"
kill "$follower" 2>/dev/null || true
wait
