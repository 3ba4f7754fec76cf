#!/usr/bin/env bash
# Half of 20,000 lines with a wrong path: the first failure at once, one line for all at the end, an early stop with
# --max-fails, and after the mend only that half runs again.
#   LINES_OF_LIST=20000      RANKS=4
. "$(dirname "$0")/common.sh"
count=${LINES_OF_LIST:-20000}
run=("${mpiexec[@]}" -n "${RANKS:-4}" "$myriarch" run)
printf '#!/bin/sh\necho >>ran\n' >right
chmod +x right
awk -v n="$count" 'BEGIN { for (i = 0; i < n; i++) print (i % 2 ? "./wrong " : "./right ") i }' >tasks.txt
: >ran
say "the whole list"
show_status 1 "${run[@]}" tasks.txt --out whole --progress lines
say "what failed"
show "$myriarch" failed whole | head -n 5
say "with --max-fails 5%"
show_status 3 "${run[@]}" tasks.txt --out stopped --max-fails '5%' --progress lines
value_of stopped/summary.json failed | sed 's/$/ had failed when it stopped/'
say "after the mend only the failed half runs again, in the same folder"
cp right wrong
: >ran
show "${run[@]}" --resume --retry-failed --out whole --progress lines
echo "$(wc -l <ran) tasks ran"
[ "$(wc -l <ran)" = $((count / 2)) ]
show "$myriarch" status whole
