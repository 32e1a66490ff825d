/* What stands between the products of a decoder, on a CPU.
 *
 * A pass over a few tokens of a small model is hundreds of small operations. As tensor operations
 * each costs some microseconds before any work, and attention has to gather its keys and values
 * from their blocks first. Here each step between two products is one function.
 *
 * Callers vouch for what lies at the addresses that they pass. Activations are float32 or bfloat16 (as the neighbouring product wants them), keys and values as their pool
 * has them. All arithmetic is float32.
 *
 * Letters: T tokens, N width, H query heads, J key-value heads, D head size (a multiple of 16).
 * A block of the pool holds 16 tokens: its keys are [J, D, 16], so that a vector holds one number
 * of several keys; its values are [J, 16, D]. See attention.py.
 *
 * Threads are those of OpenMP, which torch has started already. What a thread computes never
 * depends on how many there are.
 */

#include "steps.h"

#define CHUNK 128 /* keys that one piece of work attends to */
#define ROWS 4    /* queries that share what is read */
#define ABREAST 2 /* vectors of a value that are added up at once */

/* x += delta if there is one; y = x / sqrt(mean(x^2) + eps) * weight. Of one row of N. */
static void norm_row(float *x, const void *delta, const float *weight, void *y, Dtype dtype, long n,
                float eps) {
    float sum = 0;
    if (delta) {
#pragma omp simd
        for (long i = 0; i < n; i++) x[i] += load_one(delta, i, dtype);
    }
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < n; i++) sum += x[i] * x[i];
    float factor = 1.0f / sqrtf(sum / (float)n + eps);
#pragma omp simd
    for (long i = 0; i < n; i++) store_one(y, i, dtype, x[i] * factor * weight[i]);
}

/* silu(gate) * up, of one row: gate and up side by side, [2 N] -> [N]; N is a multiple of 16. */
static void gate_row(const void *gate_up, void *y, Dtype dtype, long n) {
    for (long i = 0; i < n; i += LANES) {
        Vec gate = load(gate_up, (size_t)i, dtype), up = load(gate_up, (size_t)(n + i), dtype);
        Ints is_negative = gate < 0.0f;
        Vec size = (Vec)((Ints)gate & 0x7fffffff);
        Vec power = exp_of_negative(-size); /* e^-|g|: a sigmoid without overflow */
        Vec one = (Vec){0} + 1.0f;
        Vec above = (Vec)(((Ints)power & is_negative) | ((Ints)one & ~is_negative));
        store(y, (size_t)i, dtype, gate * above / (1.0f + power) * up);
    }
}

/* One token: q, k and v from their product, rotated, q to its buffer, k and v to the pool. */
static void rotate_token(const Rope *rope, long token) {
    long dim = rope->head_dim, heads = rope->num_heads, kv_heads = rope->num_kv_heads;
    const float *turn = rope->rotation + token * dim;
    size_t row = (size_t)token * (size_t)((heads + 2 * kv_heads) * dim);
    size_t block = (size_t)(rope->slots[token] / BLOCK), place = (size_t)(rope->slots[token] % BLOCK);
    float head[1024];
    for (long h = 0; h < heads + 2 * kv_heads; h++) {
        for (long d = 0; d < dim; d++) head[d] = load_one(rope->qkv, row + (size_t)(h * dim + d), rope->dtype);
        if (h < heads + kv_heads) {
            if (rope->norm) {
                float sum = 0;
#pragma omp simd reduction(+ : sum)
                for (long d = 0; d < dim; d++) sum += head[d] * head[d];
                float factor = 1.0f / sqrtf(sum / (float)dim + rope->eps);
                for (long d = 0; d < dim; d++) head[d] *= factor * rope->norm[h * dim + d];
            }
            for (long d = 0; d < dim; d += 2) {
                float a = head[d], b = head[d + 1];
                head[d] = a * turn[d] - b * turn[d + 1];
                head[d + 1] = a * turn[d + 1] + b * turn[d];
            }
        }
        if (h < heads) {
            float *query = rope->queries + (token * heads + h) * dim;
            for (long d = 0; d < dim; d++) query[d] = head[d] * rope->scale;
        } else if (h < heads + kv_heads) {
            size_t start = (block * (size_t)kv_heads + (size_t)(h - heads)) * (size_t)dim * BLOCK;
            for (long d = 0; d < dim; d++)
                store_one(rope->keys, start + (size_t)d * BLOCK + place, rope->kv_dtype, head[d]);
        } else {
            size_t start = ((block * (size_t)kv_heads + (size_t)(h - heads - kv_heads)) * BLOCK + place) * (size_t)dim;
            for (long d = 0; d < dim; d++) store_one(rope->values, start + (size_t)d, rope->kv_dtype, head[d]);
        }
    }
}

/* What a chunk of keys makes of a query: its largest score, sum of e^(score - largest), and the
 * values weighted by it. Pieces are put together by `merge_row`. */
typedef struct {
    float largest, sum;
} Part;

/* Some of a block's keys, [D, 16] from the place of the first one on, times some queries. */
INLINE void score(const char *keys, Dtype dtype, const float *const *queries, long dim, int rows,
                  float (*scores)[CHUNK], long place) {
    Vec even[ROWS], odd[ROWS];
    for (int r = 0; r < rows; r++) even[r] = odd[r] = (Vec){0};
    for (long d = 0; d < dim; d += 2) {
        Vec key = load(keys, (size_t)d * BLOCK, dtype), next = load(keys, (size_t)(d + 1) * BLOCK, dtype);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            even[r] += key * queries[r][d];
            odd[r] += next * queries[r][d + 1];
        }
    }
    for (int r = 0; r < rows; r++) *(Vec *)&scores[r][place] = even[r] + odd[r];
}

/* Makes weights of scores, e^(score - largest), of which those outside [hidden, seen) are 0. */
static Part weigh(float *scores, long count, long hidden, long seen) {
    for (long t = 0; t < hidden && t < count; t++) scores[t] = -INFINITY;
    for (long t = seen < 0 ? 0 : seen; t < count; t++) scores[t] = -INFINITY;
    Vec most = *(Vec *)scores, sum = {0};
    for (long t = LANES; t < count; t += LANES) most = larger(most, *(Vec *)(scores + t));
    float largest = most[0];
    for (int i = 1; i < LANES; i++) largest = most[i] > largest ? most[i] : largest;
    /* Nothing seen: weights of 0, where -inf less -inf would be no number. */
    float shift = largest == -INFINITY ? 0 : largest;
    for (long t = 0; t < count; t += LANES) {
        Vec weights = exp_of_negative(*(Vec *)(scores + t) - shift);
        *(Vec *)(scores + t) = weights;
        sum += weights;
    }
    return (Part){largest, sum_of(sum)};
}

/* Adds a block's values to some sums, weighted: `vectors` of the numbers of each from the place of the first on. */
INLINE void mix(const char *values, Dtype dtype, float (*weights)[CHUNK], long place, long tokens, long dim,
                int rows, int vectors, Vec (*sums)[ABREAST]) {
    for (long t = 0; t < tokens; t++) {
        Vec value[ABREAST];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) value[v] = load(values, (size_t)(t * dim + v * LANES), dtype);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sums[r][v] += value[v] * weights[r][place + t];
    }
}

/* Queries of one key-value head against one chunk of keys, at most ROWS of them. */
INLINE void attend_rows(const Attention *a, Dtype dtype, const int32_t *blocks, long kv_head, long start, long end,
                        const float *const *queries, const long *positions, int rows, Part *parts, float *mixed) {
    long dim = a->head_dim, num_blocks = (end - start + BLOCK - 1) / BLOCK;
    size_t stride = (size_t)(a->num_kv_heads * dim * BLOCK), head = (size_t)(kv_head * dim * BLOCK);
    float scores[ROWS][CHUNK] __attribute__((aligned(64)));
    for (long b = 0; b < num_blocks; b++) {
        const char *keys = a->keys + ((size_t)blocks[b] * stride + head) * size_of(dtype);
        for (long v = 0; v < BLOCK; v += LANES)
            score(keys + (size_t)v * size_of(dtype), dtype, queries, dim, rows, scores, b * BLOCK + v);
    }
    for (int r = 0; r < rows; r++) {
        long seen = positions[r] + 1 - start, hidden = a->window ? seen - a->window : 0;
        parts[r] = weigh(scores[r], num_blocks * BLOCK, hidden, seen);
    }
    for (long d = 0; d < dim; d += ABREAST * LANES) {
        Vec sums[ROWS][ABREAST] = {{{0}}};
        for (long b = 0; b < num_blocks; b++) {
            const char *values = a->values + ((size_t)blocks[b] * stride + head + (size_t)d) * size_of(dtype);
            /* Slots beyond the last token were never written, and may hold anything. */
            long place = b * BLOCK, tokens = end - start - place < BLOCK ? end - start - place : BLOCK;
            if (d + ABREAST * LANES <= dim)
                mix(values, dtype, scores, place, tokens, dim, rows, ABREAST, sums);
            else
                mix(values, dtype, scores, place, tokens, dim, rows, 1, sums);
        }
        for (int r = 0; r < rows; r++)
            for (long v = 0; v < ABREAST && d + v * LANES < dim; v++)
                *(Vec *)&mixed[r * dim + d + v * LANES] = sums[r][v];
    }
}

/* The queries [first, first + count) x G heads of one key-value head against one chunk of keys.
 * parts: of each query; mixed: [queries, D]. Queries are numbered token by token. */
INLINE void attend_in(const Attention *a, Dtype dtype, const int32_t *blocks, long kv_head, long first, long count,
                      long chunk, Part *parts, float *mixed) {
    long dim = a->head_dim, group = a->num_heads / a->num_kv_heads, num_queries = count * group;
    long last = a->positions[first + count - 1];
    long start = chunk * CHUNK, end = start + CHUNK <= last + 1 ? start + CHUNK : last + 1;
    for (long from = 0; from < num_queries; from += ROWS) {
        long rows = num_queries - from < ROWS ? num_queries - from : ROWS;
        const float *queries[ROWS];
        long positions[ROWS];
        for (long r = 0; r < rows; r++) {
            long token = first + (from + r) / group, head = kv_head * group + (from + r) % group;
            queries[r] = a->queries + (token * a->num_heads + head) * dim;
            positions[r] = a->positions[token];
        }
#define ATTEND(number)                                                                                 \
    case number:                                                                                       \
        attend_rows(a, dtype, blocks + start / BLOCK, kv_head, start, end, queries, positions, number, \
                    parts + from, mixed + from * dim);                                                 \
        break
        switch (rows) { ATTEND(1); ATTEND(2); ATTEND(3); ATTEND(4); }
#undef ATTEND
    }
}

static void attend_chunk(const Attention *a, const int32_t *blocks, long kv_head, long first, long count, long chunk,
                         Part *parts, float *mixed) {
    if (a->kv_dtype == BFLOAT16)
        attend_in(a, BFLOAT16, blocks, kv_head, first, count, chunk, parts, mixed);
    else
        attend_in(a, FLOAT32, blocks, kv_head, first, count, chunk, parts, mixed);
}

/* The chunks of one query put together: [chunks, stride, D] -> [D]. */
static void merge_row(const Part *parts, const float *mixed, long num_chunks, long stride, long dim,
                 void *out, size_t place, Dtype dtype) {
    float largest = -INFINITY, sum = 0;
    for (long c = 0; c < num_chunks; c++)
        largest = parts[c * stride].largest > largest ? parts[c * stride].largest : largest;
    float weights[num_chunks];
    for (long c = 0; c < num_chunks; c++) {
        Part part = parts[c * stride];
        weights[c] = part.sum == 0 ? 0 : expf(part.largest - largest);
        sum += part.sum * weights[c];
    }
    for (long d = 0; d < dim; d++) {
        float total = 0;
        for (long c = 0; c < num_chunks; c++) total += mixed[c * stride * dim + d] * weights[c];
        store_one(out, place + (size_t)d, dtype, total / sum);
    }
}

/* From here on: work shared out to threads. */

int norm(const Norm *of) {
    long rows = of->rows, n = of->n;
#pragma omp parallel for if (rows * n > PARALLEL_FROM)
    for (long r = 0; r < rows; r++) {
        size_t place = (size_t)(r * n) * size_of(of->dtype);
        norm_row((float *)of->x + r * n, of->delta ? of->delta + place : NULL, of->weight, of->y + place, of->dtype,
                 n, of->eps);
    }
    return 0;
}

int gate(const Gate *of) {
    long rows = of->rows, n = of->n;
#pragma omp parallel for if (rows * n > PARALLEL_FROM)
    for (long r = 0; r < rows; r++) {
        size_t place = (size_t)(r * n) * size_of(of->dtype);
        gate_row(of->gate_up + 2 * place, of->y + place, of->dtype, n);
    }
    return 0;
}

int turn(const Turn *of) {
    long tokens = of->num_tokens, pairs = of->num_pairs;
#pragma omp parallel for if (tokens * pairs > PARALLEL_FROM)
    for (long t = 0; t < tokens; t++)
        for (long d = 0; d < pairs; d++) {
            float angle = (float)of->positions[t] * of->frequencies[d], *pair = of->rotation + 2 * (t * pairs + d);
            pair[0] = of->scale * cosf(angle);
            pair[1] = of->scale * sinf(angle);
        }
    return 0;
}

int rotate(const Rope *rope) {
    long numbers = rope->num_tokens * (rope->num_heads + 2 * rope->num_kv_heads) * rope->head_dim;
#pragma omp parallel for if (numbers > PARALLEL_FROM)
    for (long t = 0; t < rope->num_tokens; t++) rotate_token(rope, t);
    return 0;
}

int attend(const Attention *of) {
    Attention a = *of;
    const int32_t *starts = a.starts;
    long num_sequences = a.num_sequences;
    long group = a.num_heads / a.num_kv_heads, num_items = 0, num_parts = 0;
    long *items = malloc(sizeof(long) * (size_t)(num_sequences + 1) * 2), *parts_of = items + num_sequences + 1;
    if (!items) return -1;
    for (long s = 0; s < num_sequences; s++) {
        long count = starts[s + 1] - starts[s], chunks = a.positions[starts[s + 1] - 1] / CHUNK + 1;
        items[s] = num_items;
        parts_of[s] = num_parts;
        num_items += chunks * a.num_kv_heads;
        num_parts += chunks * a.num_heads * count;
    }
    items[num_sequences] = num_items;
    Part *parts = malloc(sizeof(Part) * (size_t)num_parts);
    float *mixed = malloc(sizeof(float) * (size_t)(num_parts * a.head_dim));
    if (!parts || !mixed) {
        free(items), free(parts), free(mixed);
        return -1;
    }
#pragma omp parallel
    {
        /* Parts of a sequence: [J, chunks, count * group]. */
#pragma omp for schedule(dynamic)
        for (long i = 0; i < num_items; i++) {
            long s = 0;
            while (items[s + 1] <= i) s++;
            long count = starts[s + 1] - starts[s], chunks = (items[s + 1] - items[s]) / a.num_kv_heads;
            long kv_head = (i - items[s]) / chunks, chunk = (i - items[s]) % chunks;
            long part = parts_of[s] + (kv_head * chunks + chunk) * count * group;
            attend_chunk(&a, a.tables + s * a.width, kv_head, starts[s], count, chunk, parts + part,
                         mixed + part * a.head_dim);
        }
#pragma omp for
        for (long s = 0; s < num_sequences; s++) {
            long count = starts[s + 1] - starts[s], chunks = (items[s + 1] - items[s]) / a.num_kv_heads;
            for (long q = 0; q < count * a.num_heads; q++) {
                long kv_head = q / (count * group), query = q % (count * group);
                long token = starts[s] + query / group, head = kv_head * group + query % group;
                long part = parts_of[s] + kv_head * chunks * count * group + query;
                merge_row(parts + part, mixed + part * a.head_dim, chunks, count * group, a.head_dim, a.out,
                          (size_t)((token * a.num_heads + head) * a.head_dim), a.dtype);
            }
        }
    }
    free(items), free(parts), free(mixed);
    return 0;
}
