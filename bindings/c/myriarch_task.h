/* Tasks that are functions of a shared object: myriarch run --call PATH.so:SYMBOL
 *
 *     #define MYRIARCH_TASK_PLUGIN        // in one source file of the shared object
 *     #include "myriarch_task.h"
 *     #include <stdlib.h>
 *
 *     MYRIARCH_TASK_EXPORT int square(struct myriarch_task *task)
 *     {
 *         char text[64];
 *         if (myriarch_text(task, text, sizeof text))
 *             return 2;
 *         double x = strtod(text, NULL);
 *         return myriarch_print(task, "%g\n", x * x);
 *     }
 *
 *     cc -I PREFIX/include -shared -fPIC -o square.so square.c
 *     mpiexec -n 4 myriarch run --each-line numbers.txt --call ./square.so:square
 *
 * A function is called from several threads at once, one per slot. It must not call MPI, must not end the process or the
 * thread, and no exception or longjmp may leave it: whatever ends the process takes the rank along, and as a rule the run,
 * which `myriarch run --resume` goes on with. With `--isolate` each slot has a process that calls it from one thread, and
 * what ends that one costs the task alone. */

#ifndef MYRIARCH_TASK_H
#define MYRIARCH_TASK_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Before a function that tasks call: makes it visible under its name, in C++ too. */
#if defined(__GNUC__)
#define MYRIARCH_TASK_VISIBLE __attribute__((visibility("default")))
#else
#define MYRIARCH_TASK_VISIBLE
#endif
#ifdef __cplusplus
#define MYRIARCH_TASK_EXPORT extern "C" MYRIARCH_TASK_VISIBLE
#else
#define MYRIARCH_TASK_EXPORT MYRIARCH_TASK_VISIBLE
#endif

/* Version of this interface. A shared object that was built for another one is refused before anything runs. */
#define MYRIARCH_TASK_VERSION 1

struct myriarch_task {
    uint64_t index;         /* the task's index: the number of the array, or its position in the list, from 0 */
    const void *payload;    /* its line, its row, its values of --grid with commas between ("2,0.5"), or what --call-arg
                               says; no NUL ends it; not to be changed or kept */
    size_t payload_bytes;
    void *value;            /* room for what the task gives back; printed by `myriarch output`, or by
                               `myriarch output --stderr` where the task fails */
    size_t value_capacity;  /* bytes of room */
    size_t value_bytes;     /* set this to what was written; 0 at the start */
    uint32_t attempt;       /* from 1 */
    uint32_t slot;          /* the slot that runs it, unique on the node */
    uint32_t cores;         /* cores that it may use; the calling thread is bound to them where slots are bound */
};

/* Returns 0 when the task ended well, and otherwise the status that it failed with. */
typedef int (*myriarch_task_function)(struct myriarch_task *task);

/* Copies the payload into a buffer, with a NUL behind it. Returns 0, or -1 where the buffer is too small. */
#if defined(__GNUC__)
__attribute__((unused))
#endif
static int myriarch_text(const struct myriarch_task *task, char *text, size_t size)
{
    if (task->payload_bytes >= size)
        return -1;
    memcpy(text, task->payload, task->payload_bytes);
    text[task->payload_bytes] = '\0';
    return 0;
}

/* Appends text to the task's value. Returns 0, or -1 where there is no room for all of it; nothing is appended then. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3), unused))
#endif
static int myriarch_print(struct myriarch_task *task, const char *format, ...)
{
    size_t room;
    va_list arguments;
    int length;
    if (task->value_bytes > task->value_capacity)
        return -1;
    room = task->value_capacity - task->value_bytes;
    va_start(arguments, format);
    length = vsnprintf((char *)task->value + task->value_bytes, room, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= room)
        return -1;
    task->value_bytes += (size_t)length;
    return 0;
}

#ifdef __cplusplus
}
#endif

#endif

/* Outside of the guard: another header may have included this one without the macro. */
#if defined(MYRIARCH_TASK_PLUGIN) && !defined(MYRIARCH_TASK_PLUGIN_SAID)
#define MYRIARCH_TASK_PLUGIN_SAID
#ifdef __cplusplus
extern "C" {
#endif
extern MYRIARCH_TASK_VISIBLE const uint32_t myriarch_task_version;
const uint32_t myriarch_task_version = MYRIARCH_TASK_VERSION;
#ifdef __cplusplus
}
#endif
#endif
