/* What the machine gives to threads that only spin, one on each core: spin US COUNT prints what share of the cores' time
 * was in the COUNT spins of US microseconds, in percent. The yardstick for tasks that spin, which take as long in the same
 * moment: a machine that is shared, or virtual, takes its share from both. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double us;
static atomic_long left;

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static void *spin(void *core)
{
    sched_setaffinity(0, sizeof(cpu_set_t), core);
    while (atomic_fetch_sub(&left, 1) > 0)
        for (double end = now_us() + us; now_us() < end;)
            ;
    return NULL;
}

int main(int count, char **words)
{
    static pthread_t threads[CPU_SETSIZE];
    static cpu_set_t all, each[CPU_SETSIZE];
    if (count != 3 || sched_getaffinity(0, sizeof all, &all))
        return 2;
    us = atof(words[1]);
    long spins = left = atol(words[2]);
    int cores = 0;
    double start = now_us();
    for (int core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, &all)) {
            CPU_SET(core, &each[cores]);
            if (pthread_create(&threads[cores], NULL, spin, &each[cores]))
                return 1;
            cores++;
        }
    for (int thread = 0; thread < cores; thread++)
        pthread_join(threads[thread], NULL);
    printf("%.2f\n", 100 * us * spins / cores / (now_us() - start));
    return 0;
}
