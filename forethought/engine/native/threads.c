/* Binding OpenMP's threads to processors, for one team and no other thread of the process.
 *
 * OMP_PROC_BIND does it too, but for the process: its first thread, where the event loop runs, would
 * be bound as well, and all that it starts with it. A team stays as it is for as long as its thread
 * asks for as many, so once is enough.
 */

#define _GNU_SOURCE
#include "threads.h"

#include <omp.h>

#ifdef __linux__
#include <sched.h>

int bind_threads(const Binding *binding) {
    int bound = 0;
#pragma omp parallel num_threads(binding->count) reduction(+ : bound)
    {
        cpu_set_t own;
        CPU_ZERO(&own);
        CPU_SET((int)binding->cpus[omp_get_thread_num()], &own);
        bound += sched_setaffinity(0, sizeof own, &own) == 0;
    }
    return bound;
}
#else
int bind_threads(const Binding *binding) {
    (void)binding;
    return 0;
}
#endif
