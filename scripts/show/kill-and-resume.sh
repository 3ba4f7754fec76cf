#!/usr/bin/env bash
# kill -9 of a whole job at a random moment of 20,000 short tasks, then --resume, 20 times over. Tasks append their
# index to a file; what had an outcome before a kill must not be in the file once more afterwards.
#   TASKS=20000      KILLS=20      SEED=1      RANKS=4
. "$(dirname "$0")/common.sh"
TASKS=${TASKS:-20000}
KILLS=${KILLS:-20}
RANDOM=${SEED:-1}
launch=("${mpiexec[@]}" -n "${RANKS:-4}" "$myriarch" run --resume --out run -j 4 --progress none
    --array "0-$((TASKS - 1))" -- 'echo {} >> ran')

# Indexes that have an outcome, sorted.
recorded() { "$myriarch" tasks run --ok --failed --tsv 2>/dev/null | tail -n +2 | cut -f1 | sort || true; }
: >ran
: >known
kills=0
rounds=0
show_command=$(printf '%q ' "${launch[@]}" | sed "s|$root/||g")
echo "\$ $show_command"
while [ "$kills" -lt "$KILLS" ]; do
    rounds=$((rounds + 1))
    "${launch[@]}" 2>>messages &
    job=$!
    pause=$(awk -v r="$RANDOM" 'BEGIN { printf "%.3f", 0.15 + r / 32768 * 0.6 }')
    sleep "$pause"
    victims=$(descendants "$job")
    if ! kill -0 "$job" 2>/dev/null; then
        echo "all tasks ended after $kills kills: more TASKS are needed" >&2
        exit 1
    fi
    # The launcher and the ranks; what they leave behind has to end by itself.
    # shellcheck disable=SC2086
    kill -KILL $victims 2>/dev/null || true
    wait "$job" 2>/dev/null || true
    until [ -z "$(processes_here)" ]; do sleep 0.05; done
    kills=$((kills + 1))
    # Of what was known before, nothing ran again: as often in the file now as it was then.
    sort ran | uniq -c | awk '{ print $2, $1 }' | sort >runs
    join known runs | awk '$2 != $3 { print "task " $1 " had an outcome and ran again"; bad = 1 } END { exit bad }'
    recorded | join - runs >known
    printf 'kill %2d after %s s: %6d tasks have an outcome, %6d starts\n' "$kills" "$pause" "$(wc -l <known)" "$(wc -l <ran)"
done
say "and to its end"
show "${launch[@]}"
sort ran | uniq -c | awk '{ print $2, $1 }' | sort >runs
join known runs | awk '$2 != $3 { print "task " $1 " had an outcome and ran again"; bad = 1 } END { exit bad }'
outcomes=$("$myriarch" tasks run --ok --tsv | tail -n +2 | cut -f1 | sort -u | wc -l)
echo "$KILLS kills; $outcomes of $TASKS tasks have exactly one outcome; $(wc -l <runs) ran, $(wc -l <ran) starts in all"
[ "$outcomes" = "$TASKS" ] && [ "$(wc -l <runs)" = "$TASKS" ]
