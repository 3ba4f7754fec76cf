#!/usr/bin/env bash
# Functions of half a minute on every slot, rank 0's included: how soon the run answers meanwhile, to those who look, to ranks
# that lack work, and to a request to stop.
#   RANKS=2      SECONDS_EACH=30
. "$(dirname "$0")/common.sh"
RANKS=${RANKS:-2}
each=${SECONDS_EACH:-30}
run=("${mpiexec[@]}" -n "$RANKS" "$myriarch" run --progress none -j "$RANKS")

now() { date +%s.%N; }
since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.2f s", to - from }'; }
# Waits until the status of a run says this. Its own exit status is that of the run.
until_said() {
    until [[ "$("$myriarch" status "$1" --json 2>/dev/null)" == *"$2"* ]]; do sleep 0.02; done
}

say "recalls: one slot has a call of $each s, and behind it short ones; the other slots take these over"
# Long calls stand where hand-outs are many tasks already.
for ((task = 0; task < 400; task++)); do
    if ((task % 100 == 50 && task < RANKS * 100 - 100)); then echo "${each}000000"; else echo 10000; fi
done >mixed
show "${run[@]}" --out mixed.run --each-line mixed --call builtin:spin &
launch=$!
began=$(now)
# Tasks of a batch are told when it is over: a few that stand before the long call in its batch are not.
until_said mixed.run '"ok":39'
echo "after $(since "$began") nothing is left but the batches with calls of $each s: $("$myriarch" status mixed.run --json | grep -o '"ok":[0-9]*' | head -n 1 || true) of 400 tasks have ended"
wait "$launch"
"$myriarch" tasks mixed.run --json |
    sed -n 's/.*"start":"[^T]*T\([0-9]*\):\([0-9]*\):\([0-9.]*\)Z","seconds":\([0-9.]*\),.*/\1 \2 \3 \4/p' |
    awk '$4 < 1 { start = $1 * 3600 + $2 * 60 + $3; printf "%.6f %.6f\n", start, start + $4 }' | sort -n | awk '
    NR > 1 && $1 - last > most { most = $1 - last }
    $2 > last { last = $2 }
    END { printf "longest time in which none of the short tasks ran, from the first to the last of them: %.3f s\n", most }'

say "calls of $each s on all slots: status --follow, and a request to stop"
show "${run[@]}" --out long.run --grace 5s --array 0-9 --call builtin:spin --call-arg "${each}000000" 2>long.said &
launch=$!
until_said long.run "\"running\":$RANKS,"
"$myriarch" status --follow --json long.run >followed &
sleep 5
asked=$(now)
show "$myriarch" stop long.run
until_said long.run '"state":"draining"'
echo "$(since "$asked") later status says that it is being stopped"
wait "$launch" || true
echo "$(since "$asked") later the launcher has ended; calls cannot be killed without --isolate"
cat long.said
wait
sed -n 's/.*"updated_unix":\([0-9.]*\),.*/\1/p' followed | awk '
    NR > 1 { n++; sum += $1 - last; if ($1 - last > most) most = $1 - last } { last = $1 }
    END { printf "status --follow: %d looks with news, %.2f s apart, %.2f s at most\n", n + 1, sum / n, most }'
show_status 3 "$myriarch" status long.run

say "the same with --isolate"
show "${run[@]}" --out isolated.run --grace 0s --isolate --array 0-9 --call builtin:spin --call-arg "${each}000000" 2>isolated.said &
launch=$!
until_said isolated.run "\"running\":$RANKS,"
sleep 2
asked=$(now)
show "$myriarch" stop isolated.run
wait "$launch" || true
echo "$(since "$asked") later the launcher has ended"
cat isolated.said
