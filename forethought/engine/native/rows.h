/* Rows over a vocabulary: from logits to distributions, drafts and evidence. See rows.c. */

#ifndef FORETHOUGHT_ROWS_H
#define FORETHOUGHT_ROWS_H

#include <stdint.h>

/* How a row of logits becomes a distribution: the fields of SamplingParams with the same names. */
typedef struct {
    double temperature, top_k, top_p, min_p;
} Shape;

/* What `measure` finds out about n rows of probabilities. */
typedef struct {
    const int64_t *bounds;   /* [n + 1]: where the support of each row begins */
    const int64_t *supports; /* token ids of all supports, each in [0, V) */
    const double *uniforms;  /* [n] from [0, 1), which choose the tail tokens */
    const uint64_t *keys;    /* [n] of the noise that chooses them instead, or NULL */
    double *on_support;      /* to fill: probabilities of all supports */
    double *tail_masses;     /* [n] to fill: of all that is outside the support */
    double *tail_probs;      /* [n] to fill: of the tail token */
    int64_t *tail_ids;       /* [n] to fill: drawn from outside the support */
    int64_t *greedy_ids;     /* [n] to fill: the first of the likeliest tokens */
} Measured;

/* [n, V] logits -> [n, V] probabilities. 1 if a row has logits that are not numbers, -1 without
 * memory, else 0. */
int shape_all(const float *logits, float *probs, const Shape *shapes, long rows, long n);

/* [n, V] probabilities -> [n, M] the largest and their ids, largest first, the first of equals
 * first; probability and id 0 where a row has fewer above zero. -1 without memory, else 0. */
int top_all(const float *probs, double *top_probs, int64_t *top_ids, long rows, long n, long count);

/* [n, V] probabilities -> [n] the choices by the noise of n keys; see coupling.py. */
void choose_all(const float *probs, const uint64_t *keys, int64_t *ids, long rows, long n);

void measure_all(const float *probs, const Measured *measured, long rows, long n);

#endif
