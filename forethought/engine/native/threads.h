/* Where OpenMP's threads run. See threads.c. */

#ifndef FORETHOUGHT_THREADS_H
#define FORETHOUGHT_THREADS_H

#include <stdint.h>

typedef struct {
    const int64_t *cpus; /* [count] */
    int count;
} Binding;

/* Binds the calling thread and those of its team, `count` in all, to a processor each: the i-th to cpus[i].
 * Returns how many are bound; 0 where the system cannot. Threads that they start are bound as they are. */
int bind_threads(const Binding *binding);

#endif
