/* All layers of a decoder in one call. See layers.c. */

#ifndef FORETHOUGHT_LAYERS_H
#define FORETHOUGHT_LAYERS_H

#include "groups.h"

typedef struct {
    const float *attention_norm, *mlp_norm; /* [hidden] */
    const float *qk_norm;                   /* [H + J, D] or NULL */
    const float *post_attention_norm, *post_mlp_norm; /* [hidden], of what is added to x; or NULL */
    float attention_eps, mlp_eps, qk_eps, post_attention_eps, post_mlp_eps;
    long rope;           /* which of the rotations of the pass */
    long window;         /* latest tokens seen, itself included; 0 is all */
    char *keys, *values; /* of the pool */
    GroupMatrix qkv, out, gate_up, down;
} Layer;

typedef struct {
    long num_heads, num_kv_heads, head_dim, hidden_size, intermediate_size;
    float scale;    /* of the scores */
    float softcap;  /* see attention.h */
    int is_gelu;    /* see `Gate` */
    Dtype dtype;    /* of all that enters a product and comes out of it */
    Dtype kv_dtype; /* of the pool */
    long num_layers;
    const Layer *layers;
} Stack;

/* T tokens of S sequences. Each layer adds to x what the one before gave out. */
typedef struct {
    const Stack *stack;
    long num_tokens, num_sequences, width;
    const float *rotations;   /* [rotations, T, D], each as `rotary_embedding` makes it */
    const int32_t *positions; /* [T] */
    const int64_t *slots;     /* [T] */
    const int32_t *starts;    /* [S + 1] */
    const int32_t *tables;    /* [S, width] block ids */
    char *x;                  /* [T, hidden] float32 */
    const char *delta;        /* [T, hidden] in `dtype`: what the first one adds to x, or NULL */
    char *out;                /* [T, hidden] in `dtype`, to fill: what the last one gives out */
} Pass;

/* -1 without memory, NO_KERNEL as `multiply`. */
int run_layers(const Pass *pass);

#endif
