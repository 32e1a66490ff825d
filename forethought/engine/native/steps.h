/* What stands between the products of a decoder. See steps.c. */

#ifndef FORETHOUGHT_STEPS_H
#define FORETHOUGHT_STEPS_H

#include "vectors.h"

typedef struct {
    long num_heads, num_kv_heads, head_dim;
    Dtype dtype, kv_dtype;
    const void *qkv;         /* [T, (H + 2 J) D], numbers that rotate together side by side */
    const float *rotation;   /* [T, D]: cosine and sine of each pair, see `turn` */
    const float *norm;       /* [H + J, D] weights of q and k norms, or none */
    float eps, scale;        /* of the norms; of the scores */
    const int64_t *slots;    /* [T]: where in the pool each token goes */
    float *queries;          /* [T, H, D] to fill */
    char *keys, *values;     /* a layer of the pool */
} Rope;

typedef struct {
    long num_heads, num_kv_heads, head_dim;
    Dtype dtype, kv_dtype;
    const float *queries;       /* [T, H, D], scaled */
    const char *keys, *values;  /* a layer of the pool */
    const int32_t *positions;   /* [T] */
    long window;                /* latest tokens seen, itself included; 0 is all */
} Attention;

/* x += delta if there is one; y = x / sqrt(mean(x^2) + eps) * weight. Rows of N; x is float32. */
void norm(char *x, const char *delta, const float *weight, char *y, Dtype dtype, long rows, long n, float eps);

/* silu(gate) * up, gate and up side by side: rows of 2 N -> N, a multiple of 16. */
void gate(const char *gate_up, char *y, Dtype dtype, long rows, long n);

/* [T] positions, [D / 2] frequencies -> [T, D]: scaled cosine and sine of each product. */
void turn(const int32_t *positions, const float *frequencies, float scale, float *rotation, long tokens, long pairs);

/* q, k and v of T tokens from their product, rotated: q to its buffer, k and v to the pool. */
void rotate(const Rope *rope, long tokens);

/* What each token makes of its context: [T, H, D] in `dtype` to out, for all sequences of a pass.
 * starts: [S + 1] first token of each. tables: [S, width] block ids. -1 without memory, else 0. */
int attend(Attention a, const int32_t *starts, const int32_t *tables, long num_sequences, long width, char *out);

#endif
