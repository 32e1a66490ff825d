/* How the structures that Python fills in lie in memory. See layouts.c. */

#ifndef FORETHOUGHT_LAYOUTS_H
#define FORETHOUGHT_LAYOUTS_H

#include <stddef.h>

typedef struct {
    const char *name;
    size_t offset, size;
} Field;

typedef struct {
    const char *name;
    size_t size;
    const Field *fields; /* ends with one that has no name */
} Layout;

extern const Layout layouts[]; /* ends with one that has no name */

#endif
