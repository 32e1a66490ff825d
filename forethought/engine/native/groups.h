/* Products with matrices of small whole numbers in groups that share their factors. See groups.c. */

#ifndef FORETHOUGHT_GROUPS_H
#define FORETHOUGHT_GROUPS_H

#include "vectors.h"

#define GROUP 32     /* weights of a row that share their factors */
#define TILE_ROWS 16 /* rows whose numbers lie together */

/* A group of each of 16 rows: weight = scale * value + minimum, value in 0..15. A row's 16 bytes are
 * those of ggml: byte i holds value i in its lower and value i + 16 in its upper half. */
typedef struct {
    uint32_t values[4][TILE_ROWS]; /* bytes 4 q to 4 q + 3 of each row */
    uint16_t scales[TILE_ROWS];    /* float16 */
    uint16_t minimums[TILE_ROWS];  /* float16 */
} Tile4;

/* The same with weight = scale * value, value in -128..127. */
typedef struct {
    int8_t values[GROUP / 2][TILE_ROWS][2]; /* two neighbours of each row */
    uint16_t scales[TILE_ROWS];             /* float16 */
} Tile8;

/* The same of weights in bfloat16, as they are. */
typedef struct {
    uint32_t pairs[GROUP / 2][TILE_ROWS]; /* two neighbours of each row, the first in the lower half */
} Tile16;

/* N rows and K columns, a multiple of 32. */
typedef struct {
    int bits;          /* 4, 8 or 16 */
    const void *tiles; /* [N / 16, rounded up, K / 32] */
    float unit;        /* of scales and minimums */
    const float *bias; /* [N] or NULL */
    long n, k;
} GroupMatrix;

/* x W^T + bias: [T, K] -> [T, N]. x is bfloat16; or float32 with 8 bits. -1 without memory, else 0. */
int multiply_groups(const GroupMatrix *matrix, const void *x, Dtype x_dtype, void *y, Dtype y_dtype, long tokens);

/* Whether this is the build for bfloat16 instructions, on a machine whose float32 ones are faster: Intel's do one
 * in two cycles, and two of those that multiply and add float32 in each. */
int has_slow_pairs(void);

#endif
