/* Local alignment of pairs of sequences: each task's line holds two, with a tab between them, and its value is their best
 * score (Smith and Waterman, J. Mol. Biol. 147, 1981; match +2, mismatch -1, gap -2).
 *
 *     cc -O3 -shared -fPIC -I bindings/c -o align.so examples/plugin/align.c
 *     mpiexec -n 4 myriarch run --each-line pairs.tsv --call ./align.so:align
 *     myriarch output
 */

#define MYRIARCH_TASK_PLUGIN
#include "myriarch_task.h"

enum { MATCH = 2, MISMATCH = -1, GAP = -2, LONGEST = 4096 };

static int larger(int a, int b)
{
    return a > b ? a : b;
}

/* Best score of any part of one sequence against any part of the other, in memory for one row. */
static int score(const char *a, size_t a_length, const char *b, size_t b_length)
{
    int row[LONGEST + 1] = {0};
    int best = 0;
    for (size_t i = 0; i < a_length; i++) {
        int diagonal = 0;
        for (size_t j = 0; j < b_length; j++) {
            int here = diagonal + (a[i] == b[j] ? MATCH : MISMATCH);
            here = larger(larger(here, 0), larger(row[j + 1], row[j]) + GAP);
            diagonal = row[j + 1];
            row[j + 1] = here;
            best = larger(best, here);
        }
    }
    return best;
}

MYRIARCH_TASK_EXPORT int align(struct myriarch_task *task)
{
    const char *text = task->payload;
    const char *tab = memchr(text, '\t', task->payload_bytes);
    if (!tab) {
        myriarch_print(task, "there is no tab between two sequences\n");
        return 2;
    }
    size_t a_length = (size_t)(tab - text), b_length = task->payload_bytes - a_length - 1;
    if (b_length > LONGEST) {
        myriarch_print(task, "the second sequence is longer than %d\n", LONGEST);
        return 3;
    }
    return myriarch_print(task, "%d\n", score(text, a_length, tab + 1, b_length));
}
