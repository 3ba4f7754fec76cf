// Threads that sleep, with timers as sharp as those of a rank: how long one sleep takes on the average, in microseconds.
//   ./sleep THREADS MICROSECONDS SLEEPS_OF_EACH
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

static long sleeps;
static struct timespec pause_of_each;

static void *sleeper(void *unused) {
    prctl(PR_SET_TIMERSLACK, 1);
    for (long i = 0; i < sleeps; i++) nanosleep(&pause_of_each, NULL);
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    long threads = atol(argv[1]), us = atol(argv[2]);
    sleeps = atol(argv[3]);
    pause_of_each = (struct timespec){us / 1000000, us % 1000000 * 1000};
    pthread_t all[threads];
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (long i = 0; i < threads; i++) pthread_create(&all[i], NULL, sleeper, NULL);
    for (long i = 0; i < threads; i++) pthread_join(all[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.1f\n", ((end.tv_sec - start.tv_sec) * 1e6 + (end.tv_nsec - start.tv_nsec) / 1e3) / sleeps);
}
