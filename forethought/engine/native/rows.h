/* Rows over a vocabulary: from logits to distributions, drafts and evidence. See rows.c. */

#ifndef FORETHOUGHT_ROWS_H
#define FORETHOUGHT_ROWS_H

#include <stdint.h>

/* How a row of logits becomes a distribution: the fields of SamplingParams with the same names. */
typedef struct {
    double temperature, top_k, top_p, min_p;
} Shape;

/* From logits to probabilities. */
typedef struct {
    const float *logits; /* [rows, n] */
    float *probs;        /* [rows, n] to fill */
    const Shape *shapes; /* [rows] */
    long rows, n;
} Shaping;

/* The largest of each row and their ids, largest first, the first of equals first. */
typedef struct {
    const float *probs; /* [rows, n] */
    double *top_probs;  /* [rows, count] to fill, with 0 where a row has fewer above zero */
    int64_t *top_ids;   /* [rows, count] to fill, likewise */
    long rows, n, count;
} Top;

/* Choices by noise; see coupling.py. */
typedef struct {
    const float *probs;   /* [rows, n] */
    const uint64_t *keys; /* [rows] of the noise */
    int64_t *ids;         /* [rows] to fill */
    long rows, n;
} Choice;

/* What is to be found out about rows of probabilities. */
typedef struct {
    const float *probs;      /* [rows, n] */
    long rows, n;
    const int64_t *bounds;   /* [rows + 1]: where the support of each row begins */
    const int64_t *supports; /* token ids of all supports, each in [0, n) */
    const double *uniforms;  /* [rows] from [0, 1), which choose the tail tokens */
    const uint64_t *keys;    /* [rows] of the noise that chooses them instead, or NULL */
    double *on_support;      /* to fill: probabilities of all supports */
    double *tail_masses;     /* [rows] to fill: of all that is outside the support */
    double *tail_probs;      /* [rows] to fill: of the tail token */
    int64_t *tail_ids;       /* [rows] to fill: drawn from outside the support */
    int64_t *greedy_ids;     /* [rows] to fill: the first of the likeliest tokens */
} Measuring;

/* -1 without memory, 1 if a row has logits that are not numbers. */
int shape(const Shaping *shaping);

/* -1 without memory. */
int top(const Top *top);

int choose(const Choice *choice);
int measure(const Measuring *measuring);

#endif
