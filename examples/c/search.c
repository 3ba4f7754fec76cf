/* Looks for the minimum of Rosenbrock's function: each round evaluates a grid on all ranks, and the next grid lies closer
 * around the best point. Then enters a second time.
 *
 *     make install-c PREFIX=$HOME/.local
 *     export PKG_CONFIG_PATH=$HOME/.local/lib/pkgconfig LD_LIBRARY_PATH=$HOME/.local/lib
 *     mpicc -O2 -o search examples/c/search.c $(pkg-config --cflags --libs myriarch)
 *     mpiexec -n 4 ./search
 */

#include <mpi.h>
#include <myriarch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 12, SIDE = 11, REPEATS = 1000, INDEXES = 1000 };

static int rosenbrock(struct myriarch_task *task)
{
    double point[2], f, sum = 0;
    if (task->payload_bytes != sizeof point)
        return 2;
    memcpy(point, task->payload, sizeof point);
    double x = point[0], y = point[1];
    f = (1 - x) * (1 - x) + 100 * ((y - x * x) * (y - x * x));
    /* A task that takes a while, as a true one would. */
    for (int i = 0; i < REPEATS; i++)
        sum += f / REPEATS;
    memcpy(task->value, &sum, sizeof sum);
    task->value_bytes = sizeof sum;
    return 0;
}

static int index_sum(struct myriarch_task *task)
{
    memcpy(task->value, &task->index, sizeof task->index);
    task->value_bytes = sizeof task->index;
    return 0;
}

/* Ends all ranks where a call went wrong; gives what it returned. */
static int check(int code)
{
    if (code < 0) {
        fprintf(stderr, "search: %s\n", myriarch_error());
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    return code;
}

static void fail(const struct myriarch_outcome *outcome)
{
    fprintf(stderr, "search: task %llu: %s\n", (unsigned long long)outcome->index, outcome->status);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static void search(struct myriarch_session *session)
{
    double cx = 0, cy = 0, h = 2;
    for (int round = 0; round < ROUNDS; round++) {
        double points[SIDE * SIDE][2], values[SIDE * SIDE];
        struct myriarch_outcome outcome;
        uint64_t bundle;
        check(myriarch_open(session, "rosenbrock", NULL, &bundle));
        for (int i = 0; i < SIDE; i++)
            for (int j = 0; j < SIDE; j++) {
                double *point = points[SIDE * i + j];
                point[0] = cx - h + 2 * h * i / 10;
                point[1] = cy - h + 2 * h * j / 10;
                check(myriarch_submit(session, bundle, point, sizeof points[0], NULL));
            }
        check(myriarch_close(session, bundle));
        while (check(myriarch_next(session, bundle, &outcome)) == 1) {
            if (!outcome.ok || outcome.value_bytes != sizeof values[0])
                fail(&outcome);
            memcpy(&values[outcome.index], outcome.value, sizeof values[0]);
        }
        check(myriarch_drop(session, bundle));

        int best = 0;
        for (int i = 1; i < SIDE * SIDE; i++)
            if (values[i] < values[best])
                best = i;
        cx = points[best][0];
        cy = points[best][1];
        h *= 0.4;
        printf("round %d: x=%.12f y=%.12f f=%.6e\n", round, cx, cy, values[best]);
    }
}

static void add_indexes(struct myriarch_session *session)
{
    struct myriarch_outcome outcome;
    uint64_t bundle, index, sum = 0;
    check(myriarch_submit_array(session, "index_sum", 0, INDEXES, NULL, 0, &bundle));
    while (check(myriarch_next(session, bundle, &outcome)) == 1) {
        if (!outcome.ok || outcome.value_bytes != sizeof index)
            fail(&outcome);
        memcpy(&index, outcome.value, sizeof index);
        sum += index;
    }
    printf("sum of %d indexes: %llu\n", INDEXES, (unsigned long long)sum);
}

int main(int argc, char **argv)
{
    struct myriarch_program *program = myriarch_program_new();
    struct myriarch_session *session;
    int level;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &level);
    check(myriarch_register(program, "rosenbrock", rosenbrock));
    check(myriarch_register(program, "index_sum", index_sum));

    check(myriarch_enter(program, MPI_COMM_WORLD, NULL, &session));
    if (session) {
        search(session);
        check(myriarch_finish(session));
    }
    /* All ranks are the program's again, and may enter again. */
    MPI_Barrier(MPI_COMM_WORLD);
    check(myriarch_enter(program, MPI_COMM_WORLD, NULL, &session));
    if (session) {
        add_indexes(session);
        check(myriarch_finish(session));
    }
    myriarch_program_free(program);
    MPI_Finalize();
    return 0;
}
