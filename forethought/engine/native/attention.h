/* Attention over the pool. See attention.c. */

#ifndef FORETHOUGHT_ATTENTION_H
#define FORETHOUGHT_ATTENTION_H

#include "vectors.h"

/* What each token makes of its context, for all sequences of a pass. */
typedef struct {
    long num_heads, num_kv_heads, head_dim;
    Dtype dtype, kv_dtype;
    const float *queries;       /* [T, H, D], scaled */
    const char *keys, *values;  /* a layer of the pool */
    const int32_t *positions;   /* [T] */
    long window;                /* latest tokens seen, itself included; 0 is all */
    float softcap;              /* scores become softcap * tanh(score / softcap), unless it is 0 */
    const int32_t *starts;      /* [S + 1] first token of each sequence */
    const int32_t *tables;      /* [S, width] block ids */
    long num_sequences, width;
    char *out;                  /* [T, H, D] in `dtype`, to fill */
} Attention;

/* -1 without memory. */
int attend(const Attention *attention);

#endif
