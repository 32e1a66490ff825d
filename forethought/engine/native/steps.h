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

/* y = y / sqrt(mean(y^2) + eps) * weight. */
typedef struct {
    char *y;             /* [rows, n] in `dtype` */
    const float *weight; /* [n] */
    Dtype dtype;
    float eps;
    long rows, n;
} PostNorm;

/* silu(gate) * up, or that of gelu by its tanh; gate and up side by side. */
typedef struct {
    const char *gate_up; /* [rows, 2 n] */
    char *y;             /* [rows, n], to fill */
    Dtype dtype;
    int is_gelu;
    long rows, n;        /* n is a multiple of 16 */
} Gate;

/* x = cap * tanh(x / cap). */
typedef struct {
    float *x; /* [n] */
    float cap;
    long n;
} Softcap;

/* Scaled cosine and sine of each product of a position and a frequency. */
typedef struct {
    const int32_t *positions; /* [T] */
    const float *frequencies; /* [D / 2] */
    float *rotation;          /* [T, D], to fill */
    float scale;
    long num_tokens, num_pairs;
} RotaryEmbedding;

/* q, k and v of some tokens from their product, rotated: q to its buffer, k and v to the pool. */
typedef struct {
    long num_tokens, num_heads, num_kv_heads, head_dim;
    Dtype dtype, kv_dtype;
    const void *qkv;         /* [T, (H + 2 J) D], numbers that rotate together side by side */
    const float *rotation;   /* [T, D]: cosine and sine of each pair, see `rotary_embedding` */
    const float *norm;       /* [H + J, D] weights of q and k norms, or none */
    float eps, scale;        /* of the norms; of the scores */
    const int64_t *slots;    /* [T]: where in the pool each token goes */
    float *queries;          /* [T, H, D] to fill */
    char *keys, *values;     /* a layer of the pool */
} Rope;

int norm(const Norm *norm);
int post_norm(const PostNorm *norm);
int softcap(const Softcap *softcap);
int gate(const Gate *gate);
int rotary_embedding(const RotaryEmbedding *of);
int rotate(const Rope *rope);

#endif
