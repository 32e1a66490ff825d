/* Rows over a vocabulary, on a CPU: softmax and filters, the likeliest tokens, evidence.
 *
 * The same that filters.py, draws.py and blocks.py do in torch; why it has to be just this is said
 * there. Here a row is swept a few times while it lies in the cache, each by one thread and always
 * in the same order, so that it comes out the same alone and beside others. Between sweeps stands
 * what each span of 64 entries has at most, or in sum: most spans of a row hold nothing that
 * matters, and are not looked at again. Coupled choices are by noise that coupling.py tells of.
 *
 * Letters: n entries in a row.
 */

#include "rows.h"

#include <float.h>

#include "vectors.h"

#define SPAN 64                  /* entries that are summed up by one number */
#define WHOLE 4503599627370496.0 /* quanta of a probability of 1: 2^52 */
#define TABLE 2048
#define MANY 400000              /* entries of all rows, from which on threads that sleep are worth waking */

/* SplitMix64, as `sampling/randomness.py` has it. */
#define STEP 0x9E3779B97F4A7C15u
#define FACTOR_1 0xBF58476D1CE4E5B9u
#define FACTOR_2 0x94D049BB133111EBu

typedef double Doubles __attribute__((vector_size(4 * LANES)));
typedef float Half __attribute__((vector_size(2 * LANES)));
typedef union {
    Vec whole;
    Half halves[2];
} Halves;

static inline Vec all(float number) { return (Vec){0} + number; }

static inline Doubles add_halves(Vec v) {
    Halves pair = {v};
    return __builtin_convertvector(pair.halves[0], Doubles) +
           __builtin_convertvector(pair.halves[1], Doubles);
}

static inline double total_of(Doubles v) {
    double total = 0;
    for (int i = 0; i < LANES / 2; i++) total += v[i];
    return total;
}

/* SPAN entries from `start` on; in `spare`, filled up, where the row ends before. */
static inline const float *span_of(const float *row, long n, long start, float fill, float *spare) {
    if (n - start >= SPAN) return row + start;
    for (long i = 0; i < SPAN; i++) spare[i] = start + i < n ? row[start + i] : fill;
    return spare;
}

/* Where a span's results go before `put_back`: to the row itself, if it has room for a span. */
static inline float *room_of(float *row, long n, long start, float *spare) {
    return n - start >= SPAN ? row + start : spare;
}

static inline void put_back(float *row, long n, long start, const float *spare) {
    if (n - start < SPAN) memcpy(row + start, spare, sizeof(float) * (size_t)(n - start));
}

static inline double sum_of_span(const float *span) {
    Doubles sum = {0};
    for (int v = 0; v < SPAN; v += LANES) sum += add_halves(*(const Vec *)(span + v));
    return total_of(sum);
}

/* The largest of a span. Numbers that are not negative are ordered as their bits are. */
static inline float most_of_span(const float *span) {
    int32_t bits[SPAN], most = 0;
    memcpy(bits, span, sizeof bits);
#pragma omp simd reduction(max : most)
    for (int i = 0; i < SPAN; i++) most = bits[i] > most ? bits[i] : most;
    float number;
    memcpy(&number, &most, 4);
    return number;
}

static inline long count_spans(long n) { return (n + SPAN - 1) / SPAN; }

/* What each span of probabilities has at most; returns the largest of all. */
static float fill_maxima(const float *probs, long n, float *maxima) {
    float spare[SPAN], most = 0;
    for (long s = 0; s < count_spans(n); s++) {
        maxima[s] = most_of_span(span_of(probs, n, s * SPAN, 0, spare));
        most = maxima[s] > most ? maxima[s] : most;
    }
    return most;
}

/* The largest logit; NaN if there is any. */
static float most_of_logits(const float *logits, long n) {
    Vec most[4];
    Ints is_none = {0};
    float spare[SPAN];
    for (int v = 0; v < 4; v++) most[v] = all(-INFINITY);
    for (long start = 0; start < n; start += SPAN) {
        const float *span = span_of(logits, n, start, -INFINITY, spare);
        for (int v = 0; v < SPAN / LANES; v++) {
            Vec x = *(const Vec *)(span + v * LANES);
            is_none |= x != x;
            most[v % 4] = larger(most[v % 4], x);
        }
    }
    Vec rest = larger(larger(most[0], most[1]), larger(most[2], most[3]));
    float largest = rest[0];
    for (int i = 0; i < LANES; i++) {
        if (is_none[i]) return NAN;
        largest = rest[i] > largest ? rest[i] : largest;
    }
    return largest;
}

/* The first entry that equals a number of the row. */
static long first_equal(const float *row, long n, float number) {
    float spare[SPAN];
    for (long start = 0; start < n; start += SPAN) {
        const float *span = span_of(row, n, start, NAN, spare);
        Ints found = {0};
        for (int v = 0; v < SPAN; v += LANES) found |= *(const Vec *)(span + v) == number;
        int is_here = 0;
        for (int i = 0; i < LANES; i++) is_here |= found[i];
        if (is_here)
            for (long i = start; i < n; i++)
                if (row[i] == number) return i;
    }
    return 0;
}

/* Softmax of logits times `inverse`; 1 if they are not all numbers, or all minus infinity. */
static int soften(const float *logits, float *probs, long n, float inverse) {
    float largest = most_of_logits(logits, n), spare[SPAN];
    Doubles sum = {0};
    for (long start = 0; start < n; start += SPAN) {
        const float *span = span_of(logits, n, start, -INFINITY, spare);
        float *room = room_of(probs, n, start, spare);
        Vec part = {0};
        for (int v = 0; v < SPAN; v += LANES) {
            /* The largest is 0, so that a temperature near 0 cannot overflow. */
            Vec weights = exp_of_negative((*(const Vec *)(span + v) - largest) * inverse);
            *(Vec *)(room + v) = weights;
            part += weights;
        }
        put_back(probs, n, start, spare);
        sum += add_halves(part);
    }
    double total = total_of(sum);
    if (!(total > 0)) return 1;
    float factor = (float)(1 / total);
#pragma omp simd
    for (long i = 0; i < n; i++) probs[i] *= factor;
    return 0;
}

/* By what `least_to_reach` counts: each number as one, or as its quanta. Whole numbers, where the
 * order of a sum does not matter. */
typedef enum { BY_COUNT, BY_MASS } Weighing;

static inline int64_t weigh(float prob, Weighing weighing) {
    return weighing == BY_COUNT ? 1 : (int64_t)((double)prob * WHOLE);
}

/* The largest probability that together with all at or above it reaches a weight; 0 if none does.
 * Found digit by digit of its bits, from what weighs each value of the digit. */
static float least_to_reach(float *probs, long count, double wanted, Weighing weighing) {
    static const int ends[] = {31, 20, 10, 0};
    uint32_t found = 0;
    int64_t above = 0;
    for (int d = 0; d < 3; d++) {
        int64_t table[TABLE] = {0};
        int low = ends[d + 1], width = ends[d] - low;
        for (long i = 0; i < count; i++) {
            uint32_t bits;
            memcpy(&bits, probs + i, 4);
            if (bits >> ends[d] == found) table[bits >> low & ((1u << width) - 1)] += weigh(probs[i], weighing);
        }
        uint32_t digit = (1u << width) - 1;
        while ((double)(above + table[digit]) < wanted) {
            above += table[digit];
            if (!digit--) return 0;
        }
        found = found << width | digit;
    }
    float prob;
    memcpy(&prob, &found, 4);
    return prob;
}

/* Those at or above a probability, and their ids if wanted; returns how many. */
static long gather(const float *probs, long n, const float *maxima, float least, float *kept, int32_t *ids) {
    long count = 0;
    for (long s = 0; s < count_spans(n); s++) {
        if (maxima[s] < least) continue;
        long end = (s + 1) * SPAN < n ? (s + 1) * SPAN : n;
        for (long i = s * SPAN; i < end; i++) {
            kept[count] = probs[i];
            if (ids) ids[count] = (int32_t)i;
            count += probs[i] >= least;
        }
    }
    return count;
}

/* The least probability that top-k and then top-p keep. room: [n]. */
static float least_of_top_k(const float *probs, long n, float *maxima, const Shape *shape, float *room) {
    /* At least k entries reach the k-th largest of the maxima. */
    float bound = least_to_reach(maxima, count_spans(n), shape->top_k, BY_COUNT);
    long count = gather(probs, n, maxima, bound, room, NULL);
    float least = least_to_reach(room, count, shape->top_k, BY_COUNT);
    if (shape->top_p >= 1) return least;
    /* What top-k keeps is the whole for top-p. */
    long num_kept = 0;
    int64_t whole = 0;
    for (long i = 0; i < count; i++) {
        if (room[i] < least) continue;
        whole += weigh(room[i], BY_MASS);
        room[num_kept++] = room[i];
    }
    float in_nucleus = least_to_reach(room, num_kept, shape->top_p * (double)whole, BY_MASS);
    return in_nucleus > least ? in_nucleus : least;
}

/* The least probability that top-p keeps of a whole that sums to 1. room: [n]. */
static float least_of_nucleus(const float *probs, long n, const float *maxima, double top_p, float *room) {
    /* All that is less likely than this makes up half of what may be missing, at most. */
    float bound = (float)((1 - top_p) / 2 / (double)n);
    long count = gather(probs, n, maxima, bound, room, NULL);
    float least = least_to_reach(room, count, top_p * WHOLE, BY_MASS);
    if (least > 0) return least;
    count = gather(probs, n, maxima, 0, room, NULL);
    return least_to_reach(room, count, top_p * WHOLE, BY_MASS);
}

/* Keeps what all of top-k, top-p and min-p keep, normalised. -1 without memory. */
static int cut(float *probs, long n, const Shape *shape) {
    float maxima[count_spans(n)], *room = malloc(sizeof(float) * (size_t)n);
    if (!room) return -1;
    float least = (float)shape->min_p * fill_maxima(probs, n, maxima), by_rank = 0;
    if (shape->top_k)
        by_rank = least_of_top_k(probs, n, maxima, shape, room);
    else if (shape->top_p < 1)
        by_rank = least_of_nucleus(probs, n, maxima, shape->top_p, room);
    least = by_rank > least ? by_rank : least;
    free(room);

    double sum = 0;
    for (long s = 0; s < count_spans(n); s++) {
        long start = s * SPAN, size = n - start < SPAN ? n - start : SPAN;
        float *own = probs + start, spare[SPAN];
        if (maxima[s] < least) {
            memset(own, 0, sizeof(float) * (size_t)size);
            continue;
        }
        for (long i = 0; i < size; i++) own[i] = own[i] >= least ? own[i] : 0;
        sum += sum_of_span(span_of(probs, n, start, 0, spare));
    }
    for (long s = 0; s < count_spans(n); s++) {
        long end = (s + 1) * SPAN < n ? (s + 1) * SPAN : n;
        if (maxima[s] >= least)
            for (long i = s * SPAN; i < end; i++) probs[i] /= (float)sum;
    }
    return 0;
}

/* All on the first of the largest logits, in one pass over the row; 1 as `soften`. */
static int choose_largest(const float *logits, float *probs, long n) {
    Vec most = all(-INFINITY);
    Ints is_none = {0}, where = {0}; /* span in which each lane has its largest */
    float spare[SPAN];
    for (long s = 0; s < count_spans(n); s++) {
        const float *span = span_of(logits, n, s * SPAN, -INFINITY, spare);
        Vec own = *(const Vec *)span;
        is_none |= own != own;
        for (int v = LANES; v < SPAN; v += LANES) {
            Vec x = *(const Vec *)(span + v);
            is_none |= x != x;
            own = larger(own, x);
        }
        Ints is_more = own > most;
        most = (Vec)(((Ints)own & is_more) | ((Ints)most & ~is_more));
        where = (((Ints){0} + (int32_t)s) & is_more) | (where & ~is_more);
        memset(probs + s * SPAN, 0, sizeof(float) * (size_t)(n - s * SPAN < SPAN ? n - s * SPAN : SPAN));
    }
    float largest = most[0];
    for (int i = 0; i < LANES; i++) {
        if (is_none[i]) return 1;
        largest = most[i] > largest ? most[i] : largest;
    }
    if (!isfinite(largest)) return 1;
    long first = count_spans(n);
    for (int i = 0; i < LANES; i++)
        if (most[i] == largest && where[i] < first) first = where[i];
    first *= SPAN;
    while (logits[first] != largest) first++;
    probs[first] = 1;
    return 0;
}

static int shape_row(const float *logits, float *probs, long n, const Shape *shape) {
    if (shape->temperature == 0) return choose_largest(logits, probs, n);
    /* Below 1e-37 one-hot all the same, but the reciprocal would no longer be a number. */
    double temperature = shape->temperature > 1e-37 ? shape->temperature : 1e-37;
    if (soften(logits, probs, n, (float)(1 / temperature))) return 1;
    int has_cut = shape->top_k || shape->top_p < 1 || shape->min_p;
    return has_cut ? cut(probs, n, shape) : 0;
}

int shape(const Shaping *of) {
    int is_refused = 0, is_short = 0;
#pragma omp parallel for if (of->rows * of->n > MANY) reduction(| : is_refused, is_short)
    for (long r = 0; r < of->rows; r++) {
        int status = shape_row(of->logits + r * of->n, of->probs + r * of->n, of->n, of->shapes + r);
        is_refused |= status > 0;
        is_short |= status < 0;
    }
    return is_short ? -1 : is_refused;
}

/* room, ids: [n]. */
static void top_row(const float *probs, double *top_probs, int64_t *top_ids, long n, long wanted,
                    float *room, int32_t *ids) {
    float maxima[count_spans(n)];
    fill_maxima(probs, n, maxima);
    float bound = least_to_reach(maxima, count_spans(n), (double)wanted, BY_COUNT);
    /* Above 0 in any case: a greedy row has one entry that matters, and n that are equal. */
    long count = gather(probs, n, maxima, bound > 0 ? bound : FLT_TRUE_MIN, room, ids);
    float least = least_to_reach(room, count, (double)wanted, BY_COUNT);
    long num_above = 0, num_kept = 0;
    for (long i = 0; i < count; i++) num_above += room[i] > least;
    for (long i = 0, num_equal = wanted - num_above; i < count; i++) {
        if (room[i] < least || (room[i] == least && num_equal-- <= 0)) continue;
        /* Those before it in order of size, where equals stay in the order of their ids. */
        long place = num_kept++;
        for (; place && top_probs[place - 1] < room[i]; place--) {
            top_probs[place] = top_probs[place - 1];
            top_ids[place] = top_ids[place - 1];
        }
        top_probs[place] = room[i];
        top_ids[place] = ids[i];
    }
    for (; num_kept < wanted; num_kept++) top_probs[num_kept] = 0, top_ids[num_kept] = 0;
}

int top(const Top *of) {
    long n = of->n, count = of->count;
    int is_short = 0;
#pragma omp parallel for if (of->rows * n > MANY) reduction(| : is_short)
    for (long r = 0; r < of->rows; r++) {
        float *room = malloc((sizeof(float) + sizeof(int32_t)) * (size_t)n);
        if (room)
            top_row(of->probs + r * n, of->top_probs + r * count, of->top_ids + r * count, n, count, room,
                    (int32_t *)(room + n));
        is_short |= !room;
        free(room);
    }
    return is_short ? -1 : 0;
}

/* A span of a row without what the support has of it. */
static void tail_span(const float *row, long n, long start, const int64_t *support, long size, float *tail) {
    memmove(tail, span_of(row, n, start, 0, tail), sizeof(float) * SPAN);
    for (long i = 0; i < size; i++)
        if (support[i] >= start && support[i] < start + SPAN) tail[support[i] - start] = 0;
}

/* The first of some weights with which their sum exceeds a threshold, which counts as the nearest
 * number in [0, total); its weight is above zero, if any is. `before`: what is in front of it. */
static long first_above(const double *weights, long count, double threshold, double total, double *before) {
    double last = nextafter(total, 0), inside = threshold < last ? threshold : last, sum = 0;
    inside = inside > 0 ? inside : 0;
    for (long i = 0; i < count; i++) {
        *before = sum;
        sum += weights[i];
        if (sum > inside) return i;
    }
    return count - 1;
}

/* Number `index` of the sequence of a key. */
static inline uint64_t hash_of(uint64_t key, uint64_t index) {
    uint64_t bits = key + (index + 1) * STEP;
    bits = (bits ^ bits >> 30) * FACTOR_1;
    bits = (bits ^ bits >> 27) * FACTOR_2;
    return bits ^ bits >> 31;
}

/* The noise of a token: -log u, where u is the upper 52 bits of its hash, and a half: above 0, below 1. */
static double noise_of(uint64_t key, long token) {
    return -log(((double)(hash_of(key, (uint64_t)token) >> 12) + 0.5) * 0x1p-52);
}

/* For SPAN tokens a number that their noise is not below: 1 - u, as -log u >= 1 - u; of that the
 * first 31 bits, which is what vectors turn into floats. Where it is above 0, what the bits left
 * out and all rounding can add to it is less than a part in 2^21. */
static void fill_bounds(uint64_t key, long start, float *bounds) {
    int32_t upper[SPAN];
    for (long i = 0; i < SPAN; i++) upper[i] = (int32_t)(~hash_of(key, (uint64_t)(start + i)) >> 33);
    for (long i = 0; i < SPAN; i++) bounds[i] = (float)upper[i] * 0x1p-31f;
}

static int may_any_win(const float *bounds, const float *probs, float limit) {
    int32_t is_any = 0;
#pragma omp simd reduction(| : is_any)
    for (int i = 0; i < SPAN; i++) is_any |= bounds[i] <= limit * probs[i];
    return is_any;
}

/* The token outside the support with the least noise / p; 0 if there is none with p > 0.
 *
 * A logarithm takes longer than all else. A token can only win if a bound of its noise is below
 * p times the least so far, which is about 1 / (the mass so far). So tokens that are worth a
 * logarithm come with odds of p / (the mass so far): a dozen in a row, in whatever order. */
static long choose_outside(const float *probs, long n, uint64_t key, const int64_t *support, long size) {
    float spare[SPAN], bounds[SPAN], limit = INFINITY;
    double least = INFINITY;
    long best = 0;
    for (long start = 0; start < n; start += SPAN) {
        const float *span = span_of(probs, n, start, 0, spare);
        if (most_of_span(span) == 0) continue; /* cut off by a filter */
        fill_bounds(key, start, bounds);
        if (!may_any_win(bounds, span, limit)) continue;
        tail_span(probs, n, start, support, size, spare);
        for (int i = 0; i < SPAN; i++) {
            if (!(spare[i] > 0 && bounds[i] <= limit * spare[i])) continue;
            double score = noise_of(key, start + i) / spare[i];
            if (score >= least) continue;
            least = score;
            best = start + i;
            limit = (float)(least * (1 + 0x1p-20));
        }
    }
    return best;
}

int choose(const Choice *of) {
    long n = of->n;
#pragma omp parallel for if (of->rows * n > MANY)
    for (long r = 0; r < of->rows; r++) of->ids[r] = choose_outside(of->probs + r * n, n, of->keys[r], NULL, 0);
    return 0;
}

/* The token at a threshold of the mass outside the support, from the sums of the spans there. */
static long invert(const float *probs, long n, double threshold, const double *sums, double total,
                   const int64_t *support, long size) {
    double weights[SPAN], before = 0, inside = 0, ignored;
    float spare[SPAN];
    long s = first_above(sums, count_spans(n), threshold, total, &before);
    tail_span(probs, n, s * SPAN, support, size, spare);
    for (long i = 0; i < SPAN; i++) inside += weights[i] = spare[i];
    long tail = s * SPAN + first_above(weights, SPAN, threshold - before, inside, &ignored);
    return tail < n ? tail : n - 1;
}

static void measure_row(const float *probs, const Measuring *m, long r, long n) {
    const int64_t *support = m->supports + m->bounds[r];
    long size = (long)(m->bounds[r + 1] - m->bounds[r]), num_spans = count_spans(n), greedy = 0;
    double sums[num_spans], total = 0;
    float spare[SPAN], most = -1;
    for (long s = 0; s < num_spans; s++) {
        const float *span = span_of(probs, n, s * SPAN, 0, spare);
        float own = most_of_span(span);
        sums[s] = own == 0 ? 0 : sum_of_span(span); /* most spans, where a filter has cut */
        if (own > most) most = own, greedy = s;
    }
    for (long i = 0; i < size; i++) {
        long s = (long)(support[i] / SPAN);
        m->on_support[m->bounds[r] + i] = probs[support[i]];
        tail_span(probs, n, s * SPAN, support, size, spare);
        sums[s] = sum_of_span(spare);
    }
    for (long s = 0; s < num_spans; s++) total += sums[s];
    m->tail_masses[r] = total;
    m->tail_ids[r] = m->keys ? choose_outside(probs, n, m->keys[r], support, size)
                             : invert(probs, n, m->uniforms[r] * total, sums, total, support, size);
    m->tail_probs[r] = probs[m->tail_ids[r]];
    m->greedy_ids[r] = greedy * SPAN + first_equal(probs + greedy * SPAN, n - greedy * SPAN, most);
}

int measure(const Measuring *of) {
#pragma omp parallel for if (of->rows * of->n > MANY)
    for (long r = 0; r < of->rows; r++) measure_row(of->probs + r * of->n, of, r, of->n);
    return 0;
}
