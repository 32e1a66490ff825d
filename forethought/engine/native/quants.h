/* Products with tensors of GGUF files. See quants.c. */

#ifndef FORETHOUGHT_QUANTS_H
#define FORETHOUGHT_QUANTS_H

#include "groups.h"

/* Of ggml, which says what a block of each holds (ggml-common.h). QUANTISED_KINDS in gguf_formats.py has the same. */
typedef enum { Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS, MXFP4, F16, BF16, F32,
               NUM_QUANT_KINDS } QuantKind;

/* N rows and K columns, and where they go. */
typedef struct {
    QuantKind kind;
    const uint8_t *blocks; /* of a file, row after row */
    long rows, k;
    char *tiles; /* [N / 16, rounded up, `quant_block_bytes`], to fill */
} QuantTensor;

/* Of 16 rows that are laid out; 0 if K columns are no whole blocks of the kind. */
int quant_block_bytes(const QuantTensor *tensor);

/* Returns 0. */
int lay_out_quants(const QuantTensor *tensor);

/* A tensor that is laid out. */
typedef struct {
    QuantKind kind;
    const char *tiles;
    long rows;
} QuantPart;

/* The `tiles` of a matrix: the rows of up to three tensors of any kinds. */
typedef struct {
    int num_parts;
    int keeps_floats; /* x stays in float32; else it is rounded to 8 bits, but for tensors of floats */
    QuantPart parts[3];
} QuantParts;

/* `multiply` with such a matrix; x and y are float32. */
int multiply_quants(const Product *product);

#endif
