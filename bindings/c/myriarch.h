/* Ranks of an MPI program become manager and workers of many short tasks for a while, and go on with MPI afterwards.
 *
 *     struct myriarch_program *program = myriarch_program_new();
 *     struct myriarch_session *session;
 *     myriarch_register(program, "square", square);           // on every rank the same
 *     myriarch_enter(program, MPI_COMM_WORLD, NULL, &session);
 *     if (session) {                                          // rank 0; the others have run tasks when they come here
 *         myriarch_open(session, "square", NULL, &bundle);
 *         myriarch_submit(session, bundle, &x, sizeof x, NULL);
 *         while (myriarch_next(session, bundle, &outcome) == 1) ...
 *         myriarch_finish(session);
 *     }
 *     myriarch_program_free(program);
 *
 * Functions return MYRIARCH_OK or a negative code, unless they say otherwise; myriarch_error() says more. Link with
 * -lmyriarch_c, or as `pkg-config myriarch` says. */


#ifndef MYRIARCH_H
#define MYRIARCH_H

/* Written by cbindgen from bindings/c/src: change it there. */

#include <mpi.h>
#include <stddef.h>
#include <stdint.h>
#include "myriarch_task.h"

// What functions return; those that tell something by a number give it as 0 or more.
enum myriarch_code {
    // It went well.
    MYRIARCH_OK = 0,
    // An argument is NULL where it must not be, is not UTF-8, or makes no sense.
    MYRIARCH_ERROR_ARGUMENT = -1,
    // Not now: MPI is not running, or runs already, a session is open already or has lost ranks, or the bundle is closed.
    MYRIARCH_ERROR_STATE = -2,
    // A payload is larger than any that can be sent (64 MiB).
    MYRIARCH_ERROR_TOO_LARGE = -3,
    // Outcomes that nobody took fill the memory: take those of other bundles, or drop the bundles.
    MYRIARCH_ERROR_UNREAD = -4,
    // No function of this name is registered.
    MYRIARCH_ERROR_NO_FUNCTION = -5,
    // Processes cannot be started: myriarch_prepare() was not called on every rank.
    MYRIARCH_ERROR_NOT_PREPARED = -6,
    // The ranks do not fit each other, no rank has as many cores as a task takes, or the session's folder is not to be had.
    MYRIARCH_ERROR_UNFIT = -7,
    // The session is broken: messages cannot be moved any more.
    MYRIARCH_ERROR_BROKEN = -8,
    // A fault of Myriarch's own.
    MYRIARCH_ERROR_PANIC = -9,
    // The session is gone on with, and the task is not the one that lies in its folder.
    MYRIARCH_ERROR_DIFFERS = -10,
    // Someone asked the session to stop: it can be gone on with in its folder.
    MYRIARCH_ERROR_STOPPED = -11,
    // The folder of the session cannot be written or read.
    MYRIARCH_ERROR_DIR = -12,
};

// What slots are bound to, for myriarch_options.
enum myriarch_pin {
    // What is best as a rule: cores.
    MYRIARCH_PIN_DEFAULT = 0,
    // Each to cores of its own.
    MYRIARCH_PIN_CORE = 1,
    // Each to the cores that its rank has on one NUMA node.
    MYRIARCH_PIN_NUMA = 2,
    // To nothing.
    MYRIARCH_PIN_NONE = 3,
};

// What is recorded of calls, for myriarch_options.
enum myriarch_recording {
    // All of it.
    MYRIARCH_RECORD_DEFAULT = 0,
    // Status, duration and value of every task.
    MYRIARCH_RECORD_ALL = 1,
    // Those of failed tasks; of the others only that they ended well.
    MYRIARCH_RECORD_FAILURES = 2,
    // The status of each task, and nothing else.
    MYRIARCH_RECORD_NONE = 3,
};

// The functions that tasks may call. Every rank registers the same ones.
struct myriarch_program;

// Rank 0's handle on a session. One thread at a time may use it; which ones may is for the level to say that MPI was
// started with.
struct myriarch_session;

// What rank 0 decides of a session. 0 stands for the default everywhere: see myriarch_options_init().
struct myriarch_options {
    // Slots on each node; by default a slot for each core.
    uint32_t slots_per_node;
    // Width of a node by hand; by default as MPI and the host names say.
    uint32_t ranks_per_node;
    // Other than 0: rank 0's node runs no tasks; where there is one node, rank 0 alone runs none.
    int dedicated_manager;
    // One of enum myriarch_pin.
    int pin;
    // One of enum myriarch_recording.
    int recording;
    // The folder in which tasks and outcomes are kept, so that a later start of the program can go on with them; NULL: they
    // are in memory only. It is read by myriarch_enter() alone.
    const char *dir;
    // Other than 0: goes on with what lies in dir, if anything does. Else a folder that holds a session is an error.
    int resume;
    // Other than 0, with resume: tasks that failed run again.
    int retry_failed;
    // With a folder: most seconds between an outcome being written, which is when the program is told, and being synced; by
    // default 1. Less than 0: it is synced before the program is told.
    double sync_seconds;
    // A rank of which nothing was heard for so many seconds is given up, and what it had runs elsewhere; by default 30, at least
    // half a second. Less than 0: nobody is. See myriarch_lost().
    double lost_after_seconds;
    // Other than 0: with MPI_THREAD_SERIALIZED another thread may talk for rank 0 while the program does something else. The program
    // makes no calls of MPI on rank 0 then until the session has ended, or, where it ended without some ranks, until
    // myriarch_end() or MPI_Finalize().
    int talks_on;
    // Where nobody talks for rank 0: the longest time that the program stays outside of the functions of the session, in seconds;
    // by default an hour. The other ranks end when they hear nothing of rank 0 for longer.
    double longest_absence_seconds;
};

// What the tasks of a bundle take, and how often each is tried. 0 stands for the default everywhere.
struct myriarch_task_options {
    // Cores of one rank; by default 1.
    uint32_t cores;
    // Further attempts after a failed one.
    uint32_t retries;
};

// How one task ended. What its pointers lead to stays valid until the next call with the same bundle.
struct myriarch_outcome {
    // Its number in its bundle: what myriarch_submit() gave, or the index of the array.
    uint64_t index;
    // 1 where it ended well, else 0.
    int ok;
    // "ok", "exit:3", "signal:9", "panic: WHY", "cancelled" and the like.
    const char *status;
    // What the function gave where it ended well; of a process, standard output. Nothing is known of its
    // alignment, and no NUL follows: text ends after value_bytes.
    const void *value;
    // Its length.
    size_t value_bytes;
    // What the function gave where it failed; of a process, standard error. No NUL follows.
    const void *error_output;
    // Its length.
    size_t error_output_bytes;
    // Attempts made, the last included.
    uint32_t attempts;
    // The rank that ran it.
    uint32_t rank;
    // The node that ran it, from 0.
    uint32_t node;
    // Length of the last attempt; 0 where it was not recorded.
    double seconds;
};

// How many tasks of a bundle ended how.
struct myriarch_counts {
    // Ended well.
    uint64_t ok;
    // Failed for good.
    uint64_t failed;
    // Cancelled.
    uint64_t cancelled;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// What the last error of the calling thread was, in words; empty where there was none. It stays valid until the thread's
// next error.
const char *myriarch_error(void);

// A program without functions; NULL where there is no memory. To be given to myriarch_program_free() at the end.
struct myriarch_program *myriarch_program_new(void);

// Frees a program, or NULL. Sessions that were entered with it go on.
void myriarch_program_free(struct myriarch_program *program);

// Registers a function under a name, before entering. It is called from several threads at once, one per slot, on any rank,
// and must not use MPI nor call the functions of this header: see myriarch_task.h.
int myriarch_register(struct myriarch_program *program,
                      const char *name,
                      myriarch_task_function function);

// Makes it possible for sessions to run processes: to be called on every rank before MPI_Init, and best before there are
// threads. Functions need no preparation.
int myriarch_prepare(void);

// Sets all options to their defaults.
void myriarch_options_init(struct myriarch_options *options);

// Enters with a communicator: collective over it; a duplicate of it is used. On rank 0 it gives the session, at once. On
// the other ranks it runs tasks until that session is over, and *session is NULL then. MPI must be running, and can be used
// as before when the session is over; a program may enter again then. Before MPI_Finalize() rank 0 has to end the session
// by myriarch_finish() or myriarch_leave(): the other ranks wait for that. While a session is open in a process another is
// refused with MYRIARCH_ERROR_STATE.
//
// Rank 0's options hold; NULL stands for the defaults. Where MPI was started with MPI_THREAD_MULTIPLE, another thread talks
// for rank 0 while the program does something else than calling the session. With less, see myriarch_progress(). Functions
// are fastest with MPI_THREAD_SERIALIZED or more.
int myriarch_enter(const struct myriarch_program *program,
                   MPI_Comm communicator,
                   const struct myriarch_options *options,
                   struct myriarch_session **session);

// myriarch_enter() with a communicator of Fortran: an INTEGER, or the MPI_VAL of a TYPE(MPI_Comm).
int myriarch_enter_f(const struct myriarch_program *program,
                     MPI_Fint communicator,
                     const struct myriarch_options *options,
                     struct myriarch_session **session);

// Waits until all tasks of all bundles have ended, ends the session and frees it; outcomes that nobody took are gone. The
// other ranks return from myriarch_enter().
int myriarch_finish(struct myriarch_session *session);

// As myriarch_finish(), without waiting for tasks that have not started.
int myriarch_leave(struct myriarch_session *session);

// How many ranks are lost so far: nothing was heard of them for longer than lost_after_seconds, or they are gone with such a rank;
// what they had runs elsewhere. Those that are there again do not count. The first `capacity` of them go to `ranks`, which may be
// NULL where that is 0. What counts for the end of the program is myriarch_without_all().
int myriarch_lost(struct myriarch_session *session,
                  uint32_t *ranks,
                  size_t capacity);

// 1 where the last session of this process ended without some ranks, else 0. Calls of MPI that all ranks make would wait for those
// for ever then, no other session can be entered, and the program is to end by myriarch_end().
int myriarch_without_all(void);

// Ends the process with this status, in place of MPI_Finalize() and exit(), on any rank. Where a session ended without some ranks,
// MPI is not finalised, and the other ranks, which wait in myriarch_enter(), end as well; MPI_Finalize() then does the same
// with status 0. Streams of C are written; those of C++ and units of Fortran are to be closed before, and functions of atexit()
// are not called.
void myriarch_end(int status);

// Talks to the other ranks without waiting. To be called every few milliseconds by a program that does something else for
// long where MPI was started with less than MPI_THREAD_MULTIPLE; until then no task is handed out.
int myriarch_progress(struct myriarch_session *session);

// Opens a bundle of calls of a registered or builtin function. NULL stands for the default options.
int myriarch_open(struct myriarch_session *session,
                  const char *function,
                  const struct myriarch_task_options *options,
                  uint64_t *bundle);

// Opens a bundle of processes: every rank has called myriarch_prepare(). NULL stands for the default options.
int myriarch_open_processes(struct myriarch_session *session,
                            const struct myriarch_task_options *options,
                            uint64_t *bundle);

// Adds a task with this payload, which is copied; its number in the bundle goes to *index, where that is not NULL. It may be
// sent on together with those that come next, but not later than the next call that takes outcomes or waits. Where very many
// tasks wait, it waits until some have ended.
int myriarch_submit(struct myriarch_session *session,
                    uint64_t bundle,
                    const void *payload,
                    size_t payload_bytes,
                    uint64_t *index);

// Adds a process to a bundle of processes: a line with the meaning that `sh -c LINE` gives it.
int myriarch_submit_shell(struct myriarch_session *session, uint64_t bundle, const char *command, uint64_t *index);

// Opens a bundle of `count` calls with the indexes `first`, `first` + 1 and so on, all with the same argument as payload, and
// closes it. It takes a few bytes, however many indexes there are.
int myriarch_submit_array(struct myriarch_session *session,
                          const char *function,
                          uint64_t first,
                          uint64_t count,
                          const void *argument,
                          size_t argument_bytes,
                          uint64_t *bundle);

// No more tasks will be added to the bundle.
int myriarch_close(struct myriarch_session *session, uint64_t bundle);

// The next outcome of the bundle, in the order in which they come; waits for it. Returns 1, or 0 when every task so far has
// ended and its outcome was given, or a negative code.
int myriarch_next(struct myriarch_session *session,
                  uint64_t bundle,
                  struct myriarch_outcome *outcome);

// As myriarch_next(), but returns 0 also when there is no outcome yet.
int myriarch_try_next(struct myriarch_session *session, uint64_t bundle, struct myriarch_outcome *outcome);

// Waits until every task of the bundle so far has ended; how many ended how goes to *counts, where that is not NULL.
// Outcomes can be taken after it as before.
int myriarch_wait(struct myriarch_session *session, uint64_t bundle, struct myriarch_counts *counts);

// Takes `count` tasks of the bundle back, from number `first` on: those that have not started end as cancelled. Functions
// that run go on to their end, which is their outcome; processes that run are killed.
int myriarch_cancel(struct myriarch_session *session,
                    uint64_t bundle,
                    uint64_t first,
                    uint64_t count);

// Closes the bundle and forgets it: its number means nothing any more, its tasks run on, and nobody takes their outcomes.
int myriarch_drop(struct myriarch_session *session,
                  uint64_t bundle);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MYRIARCH_H */
