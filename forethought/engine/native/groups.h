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

/* The same of weights in float32. */
typedef struct {
    float numbers[GROUP][TILE_ROWS];
} Tile32;

/* How weights are stored: Tile4, Tile8, Tile16, Tile32, or as quants.h says. `WeightFormat` in structures.py has the
 * same names. */
typedef enum { GROUPS_4, GROUPS_8, BFLOATS_16, FLOATS_32, QUANTISED, NUM_FORMATS } WeightFormat;
#define WEIGHT_FORMAT_NAMES {"GROUPS_4", "GROUPS_8", "BFLOATS_16", "FLOATS_32", "QUANTISED"}

/* N rows and K columns, a multiple of 32 but for tensors of floats in `QuantParts`. */
typedef struct {
    WeightFormat format;
    const void *tiles; /* [N / 16, rounded up, K / 32]; or `QuantParts` */
    float unit;        /* of scales and minimums */
    const float *bias; /* [N] or NULL */
    long n, k;
} GroupMatrix;

/* x W^T + bias. */
typedef struct {
    const GroupMatrix *matrix;
    const void *x; /* [T, K] */
    void *y;       /* [T, N], to fill */
    Dtype x_dtype, y_dtype;
    long num_tokens;
} Product;

#define NO_KERNEL (-2)

/* -1 without memory, NO_KERNEL where the format takes no activations of x's type. */
int multiply(const Product *product);

#define MOST (LANES == 16 ? 16 : 6) /* tokens at once: as many as there are registers for */

/* Some tokens of x, laid out by a kernel. */
typedef struct {
    char *numbers; /* [K / 32, tokens, 32], ordered */
    float *units;  /* [K / 32, tokens] of the numbers */
    float *sums;   /* [K / 32, tokens] of the numbers, where there are minimums */
} Tokens;

/* How matrices of a format are multiplied with numbers of a type; the table is in groups.c. */
typedef struct {
    size_t number_size; /* of what x becomes */
    long group;         /* columns of a tile */
    size_t tile_size;   /* of 16 rows and as many columns */
    /* Tokens `first` to `first` + `tokens` of x, [T, k]. */
    void (*lay_out)(const void *x, Dtype dtype, Tokens to, long first, long tokens, long k);
    /* One row of tiles with at most MOST tokens: [tokens, 16] sums. */
    void (*multiply)(const char *tiles, long num_tiles, Tokens x, float (*sums)[TILE_ROWS], long tokens);
} Kernel;

/* Whether this is the build for bfloat16 instructions, on a machine whose float32 ones are faster: Intel's do one
 * in two cycles, and two of those that multiply and add float32 in each. */
int has_slow_pairs(void);

#endif
