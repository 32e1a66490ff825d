/* What stands between the products of a decoder. See steps.c. */

#ifndef FORETHOUGHT_STEPS_H
#define FORETHOUGHT_STEPS_H

#include "vectors.h"

/* x += delta if there is one; y = x / sqrt(mean(x^2) + eps) * weight. */
typedef struct {
    char *x;             /* [rows, n] float32 */
    const char *delta;   /* [rows, n] in `dtype`, or NULL */
    const float *weight; /* [n] */
    char *y;             /* [rows, n] in `dtype`, to fill */
    Dtype dtype;
    float eps;
    long rows, n;
} Norm;

/* silu(gate) * up, gate and up side by side. */
typedef struct {
    const char *gate_up; /* [rows, 2 n] */
    char *y;             /* [rows, n], to fill */
    Dtype dtype;
    long rows, n;        /* n is a multiple of 16 */
} Gate;

/* Scaled cosine and sine of each product of a position and a frequency. */
typedef struct {
    const int32_t *positions; /* [T] */
    const float *frequencies; /* [D / 2] */
    float *rotation;          /* [T, D], to fill */
    float scale;
    long num_tokens, num_pairs;
} Turn;

/* q, k and v of some tokens from their product, rotated: q to its buffer, k and v to the pool. */
typedef struct {
    long num_tokens, num_heads, num_kv_heads, head_dim;
    Dtype dtype, kv_dtype;
    const void *qkv;         /* [T, (H + 2 J) D], numbers that rotate together side by side */
    const float *rotation;   /* [T, D]: cosine and sine of each pair, see `turn` */
    const float *norm;       /* [H + J, D] weights of q and k norms, or none */
    float eps, scale;        /* of the norms; of the scores */
    const int64_t *slots;    /* [T]: where in the pool each token goes */
    float *queries;          /* [T, H, D] to fill */
    char *keys, *values;     /* a layer of the pool */
} Rope;

/* What each token makes of its context, for all sequences of a pass. */
typedef struct {
    long num_heads, num_kv_heads, head_dim;
    Dtype dtype, kv_dtype;
    const float *queries;       /* [T, H, D], scaled */
    const char *keys, *values;  /* a layer of the pool */
    const int32_t *positions;   /* [T] */
    long window;                /* latest tokens seen, itself included; 0 is all */
    const int32_t *starts;      /* [S + 1] first token of each sequence */
    const int32_t *tables;      /* [S, width] block ids */
    long num_sequences, width;
    char *out;                  /* [T, H, D] in `dtype`, to fill */
} Attention;

int norm(const Norm *norm);
int gate(const Gate *gate);
int turn(const Turn *turn);
int rotate(const Rope *rope);
int attend(const Attention *attention); /* -1 without memory */

#endif
