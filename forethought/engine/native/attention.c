/* Attention over the pool, on a CPU: what each token of a pass makes of its context.
 *
 * A block of the pool holds 16 tokens: its keys are [J, D, 16], so that a vector holds one number of several keys; its
 * values are [J, 16, D]. See attention.py. Arithmetic is float32, whatever the pool holds.
 *
 * A token gets the same numbers, to the last bit, whatever else is in the pass, however its prompt is cut, and however
 * many threads there are. A context is cut into chunks of 128 keys, counted from its beginning. What a chunk makes of a
 * query depends on those two alone, and chunks are put together in their order. Keys that a token must not see have
 * weights of 0, which change no sum. Two ways lead to the same sums:
 *
 * - of few queries each chunk is a piece of work, and keys and values are read where they lie: the pass is bound by
 *   memory, and a long context shared by all threads;
 * - of many queries a block is a piece of work. It lays each chunk out once, for dozens of queries, as many at a time
 *   as there are registers for: the pass is bound by arithmetic.
 *
 * Letters: T tokens, H query heads, J key-value heads, G = H / J, D head size (a multiple of 16). The queries of a
 * sequence that share a key-value head are numbered token by token.
 */

#include "attention.h"

#include <omp.h>

#define CHUNK 128    /* keys */
#define MAX_DIM 1024 /* of a head */
#define ABREAST 2 /* vectors that a number of a query is multiplied with */
#define FEW 4     /* queries that share what is read of a block */
#define MANY (LANES == 16 ? 12 : 6) /* queries at once: as many as there are registers for */
#define MANY_FROM 24                /* queries of a sequence and key-value head, from which on they are many */
#define MOST_IN_BLOCK (8 * MANY)    /* queries that share a chunk that is laid out */
#define MOST_NUMBERS 1048576        /* that a block keeps until its chunks are put together */

/* What a chunk of keys makes of a query: its largest score, sum of e^(score - largest), and the
 * values weighted by it. Pieces are put together by `merge_row`. */
typedef struct {
    float largest, sum;
} Part;

/* Makes weights of scores, e^(score - largest), of which those outside [hidden, seen) are 0. */
static Part weigh(float *scores, long count, long hidden, long seen, float softcap) {
    if (softcap)
        for (long t = 0; t < count; t += LANES) *(Vec *)(scores + t) = softcap * tanh_of(*(Vec *)(scores + t) / softcap);
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
    float totals[MAX_DIM] = {0};
    for (long c = 0; c < num_chunks; c++)
        for (long d = 0; d < dim; d++) totals[d] += mixed[c * stride * dim + d] * weights[c];
    for (long d = 0; d < dim; d++) store_one(out, place + (size_t)d, dtype, totals[d] / sum);
}

/* Few queries. */

/* Some of a block's keys, [D, 16] from the place of the first one on, times some queries. */
INLINE void score(const char *keys, Dtype dtype, const float *const *queries, long dim, int rows,
                  float (*scores)[CHUNK], long place) {
    Vec even[FEW], odd[FEW];
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

/* Queries of one key-value head against one chunk of keys, at most FEW of them. */
INLINE void attend_rows(const Attention *a, Dtype dtype, const int32_t *blocks, long kv_head, long start, long end,
                        const float *const *queries, const long *positions, int rows, Part *parts, float *mixed) {
    long dim = a->head_dim, num_blocks = (end - start + BLOCK - 1) / BLOCK;
    size_t stride = (size_t)(a->num_kv_heads * dim * BLOCK), head = (size_t)(kv_head * dim * BLOCK);
    float scores[FEW][CHUNK] __attribute__((aligned(64)));
    for (long b = 0; b < num_blocks; b++) {
        const char *keys = a->keys + ((size_t)blocks[b] * stride + head) * size_of(dtype);
        for (long v = 0; v < BLOCK; v += LANES)
            score(keys + (size_t)v * size_of(dtype), dtype, queries, dim, rows, scores, b * BLOCK + v);
    }
    for (int r = 0; r < rows; r++) {
        long seen = positions[r] + 1 - start, hidden = a->window ? seen - a->window : 0;
        parts[r] = weigh(scores[r], num_blocks * BLOCK, hidden, seen, a->softcap);
    }
    for (long d = 0; d < dim; d += ABREAST * LANES) {
        Vec sums[FEW][ABREAST] = {{{0}}};
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
    for (long from = 0; from < num_queries; from += FEW) {
        long rows = num_queries - from < FEW ? num_queries - from : FEW;
        const float *queries[FEW];
        long positions[FEW];
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


/* Many queries. All of one key-value head of a sequence: */
typedef struct {
    const Attention *a;
    const int32_t *blocks; /* ids of its context's blocks */
    long kv_head, first;   /* first token in the pass */
    long num_queries; /* of all its tokens and heads */
} Queries;

static inline long group_of(const Attention *a) { return a->num_heads / a->num_kv_heads; }

static inline long position_of(const Queries *q, long query) {
    return q->a->positions[q->first + query / group_of(q->a)];
}

/* In [T, H, D]. */
static inline size_t place_of(const Queries *q, long query) {
    long group = group_of(q->a), token = q->first + query / group, head = q->kv_head * group + query % group;
    return (size_t)((token * q->a->num_heads + head) * q->a->head_dim);
}

/* What a thread works with. */
typedef struct {
    long width;     /* queries of a block, a multiple of MANY */
    float *keys;    /* [D, CHUNK] */
    float *values;  /* [CHUNK, D] */
    float *queries; /* [width / MANY, D, MANY] */
    float *mixed;   /* [chunks, width, D] */
    Part *parts;    /* [chunks, width] */
} Desk;

/* The first `count` keys and values of a chunk. */
INLINE void lay_out_as(const Queries *q, Dtype dtype, long chunk, long count, const Desk *desk) {
    const Attention *a = q->a;
    long dim = a->head_dim;
    for (long at = 0; at < count; at += BLOCK) {
        size_t place = ((size_t)q->blocks[(chunk * CHUNK + at) / BLOCK] * (size_t)a->num_kv_heads + (size_t)q->kv_head) *
                       (size_t)(dim * BLOCK);
        for (long d = 0; d < dim; d++)
            for (long i = 0; i < BLOCK; i += LANES)
                *(Vec *)(desk->keys + d * CHUNK + at + i) = load(a->keys, place + (size_t)(d * BLOCK + i), dtype);
        for (long i = 0; i < BLOCK * dim; i += LANES)
            *(Vec *)(desk->values + at * dim + i) = load(a->values, place + (size_t)i, dtype);
    }
}

static void lay_out(const Queries *q, long chunk, long count, const Desk *desk) {
    if (q->a->kv_dtype == BFLOAT16)
        lay_out_as(q, BFLOAT16, chunk, count, desk);
    else
        lay_out_as(q, FLOAT32, chunk, count, desk);
}

/* MANY queries side by side, [D, MANY]; behind the last one, that one again. */
static void lay_out_queries(const Queries *q, long from, float *to) {
    for (long r = 0; r < MANY; r++) {
        const float *query = q->a->queries + place_of(q, from + r < q->num_queries ? from + r : q->num_queries - 1);
        for (long d = 0; d < q->a->head_dim; d++) to[d * MANY + r] = query[d];
    }
}

/* Keys from `at` on times all queries, of every other number: the even or the odd ones. */
INLINE void score_half(const float *keys, const float *queries, long dim, long at, long half,
                       Vec (*sums)[ABREAST]) {
#pragma GCC unroll 12
    for (int r = 0; r < MANY; r++)
        for (int v = 0; v < ABREAST; v++) sums[r][v] = (Vec){0};
    for (long d = half; d < dim; d += 2) {
        Vec key[ABREAST];
        for (int v = 0; v < ABREAST; v++) key[v] = *(const Vec *)(keys + d * CHUNK + at + v * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < MANY; r++)
#pragma GCC unroll 2
            for (int v = 0; v < ABREAST; v++) sums[r][v] += key[v] * queries[d * MANY + r];
    }
}

static void score_many(const float *keys, const float *queries, long dim, long count, float (*scores)[CHUNK]) {
    for (long at = 0; at < count; at += ABREAST * LANES) {
        Vec even[MANY][ABREAST], odd[MANY][ABREAST];
        score_half(keys, queries, dim, at, 0, even);
        for (int r = 0; r < MANY; r++)
            for (int v = 0; v < ABREAST; v++) *(Vec *)&scores[r][at + v * LANES] = even[r][v];
        score_half(keys, queries, dim, at, 1, odd);
        for (int r = 0; r < MANY; r++)
            for (int v = 0; v < ABREAST; v++) *(Vec *)&scores[r][at + v * LANES] += odd[r][v];
    }
}

/* `vectors` of the numbers of a value from `d` on. */
INLINE void mix_numbers(const float *values, float (*weights)[CHUNK], long dim, long d, long count, int vectors,
                        float *mixed) {
    Vec sums[MANY][ABREAST];
#pragma GCC unroll 12
    for (int r = 0; r < MANY; r++)
        for (int v = 0; v < vectors; v++) sums[r][v] = (Vec){0};
    for (long t = 0; t < count; t++) {
        Vec value[ABREAST];
        for (int v = 0; v < vectors; v++) value[v] = *(const Vec *)(values + t * dim + d + v * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < MANY; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sums[r][v] += value[v] * weights[r][t];
    }
    for (int r = 0; r < MANY; r++)
        for (int v = 0; v < vectors; v++) *(Vec *)(mixed + r * dim + d + v * LANES) = sums[r][v];
}

static void mix_many(const float *values, float (*weights)[CHUNK], long dim, long count, float *mixed) {
    long d = 0;
    for (; d + ABREAST * LANES <= dim; d += ABREAST * LANES)
        mix_numbers(values, weights, dim, d, count, ABREAST, mixed);
    for (; d < dim; d += LANES) mix_numbers(values, weights, dim, d, count, 1, mixed);
}

/* MANY queries from `from` on against a chunk of which the last of them sees `count` keys. */
static void attend_many(const Queries *q, const float *queries, long from, long chunk, long count, const Desk *desk,
                        Part *parts, float *mixed) {
    float scores[MANY][CHUNK] __attribute__((aligned(64)));
    long step = ABREAST * LANES, room = (count + step - 1) / step * step, window = q->a->window;
    score_many(desk->keys, queries, q->a->head_dim, count, scores);
    for (long r = 0; r < MANY; r++) {
        long query = from + r < q->num_queries ? from + r : q->num_queries - 1;
        long seen = position_of(q, query) + 1 - chunk * CHUNK;
        parts[r] = weigh(scores[r], room, window ? seen - window : 0, seen, q->a->softcap);
    }
    mix_many(desk->values, scores, q->a->head_dim, count, mixed);
}

/* Queries [from, to), at most `width`. */
static void attend_block(const Queries *q, long from, long to, const Desk *desk) {
    const Attention *a = q->a;
    long dim = a->head_dim, last = position_of(q, to - 1), end = last / CHUNK + 1, begin = 0;
    if (a->window && position_of(q, from) >= a->window) begin = (position_of(q, from) + 1 - a->window) / CHUNK;
    for (long query = from; query < to; query += MANY) lay_out_queries(q, query, desk->queries + (query - from) * dim);
    for (long chunk = begin; chunk < end; chunk++) {
        long start = chunk * CHUNK, count = last + 1 - start < CHUNK ? last + 1 - start : CHUNK;
        lay_out(q, chunk, count, desk);
        for (long query = from; query < to; query += MANY) {
            long final = query + MANY < to ? query + MANY - 1 : to - 1, seen = position_of(q, final) + 1 - start;
            size_t place = (size_t)((chunk - begin) * desk->width + query - from);
            if (seen > 0)
                attend_many(q, desk->queries + (query - from) * dim, query, chunk, seen < count ? seen : count, desk,
                            desk->parts + place, desk->mixed + place * (size_t)dim);
        }
    }
    for (long query = from; query < to; query++)
        merge_row(desk->parts + query - from, desk->mixed + (query - from) * dim,
                  position_of(q, query) / CHUNK + 1 - begin, desk->width, dim, a->out, place_of(q, query), a->dtype);
}

/* From here on: work shared out to threads. */

/* Where the pieces of a sequence begin among those of all, and their results. */
typedef struct {
    long few, many, parts;
} Share;

typedef struct {
    const Attention *a;
    Share *shares; /* [S + 1] */
    Part *parts;   /* of few queries: of each sequence [J, chunks, queries] */
    float *mixed;  /* the same, D each */
    Desk *desks;   /* of each thread */
} Work;

static long count_of(const Attention *a, long s) { return a->starts[s + 1] - a->starts[s]; }
static long queries_of(const Attention *a, long s) { return count_of(a, s) * group_of(a); } /* of a kv head */
static long chunks_of(const Attention *a, long s) { return a->positions[a->starts[s + 1] - 1] / CHUNK + 1; }
static int are_many(const Attention *a, long s) { return queries_of(a, s) >= MANY_FROM; }
static long blocks_of(const Attention *a, long s, long width) { return (queries_of(a, s) + width - 1) / width; }

/* How many queries a block has: so many that there are blocks for all threads, and that a thread has room. */
static long width_of(const Attention *a, long num_queries, long num_chunks, long num_threads) {
    long width = MOST_IN_BLOCK;
    while (width > MANY && (num_queries < 4 * num_threads * width || num_chunks * width * a->head_dim > MOST_NUMBERS))
        width -= MANY;
    return width;
}

/* One desk for each thread; NULL without memory. Freed as one. */
static Desk *make_desks(const Attention *a, long width, long num_chunks, long num_threads) {
    size_t dim = (size_t)a->head_dim, rows = (size_t)(num_chunks * width);
    size_t numbers = 2 * dim * CHUNK + (size_t)width * dim + rows * dim + rows * sizeof(Part) / sizeof(float);
    Desk *desks = malloc((sizeof(Desk) + sizeof(float) * numbers) * (size_t)num_threads);
    float *room = (float *)(desks + num_threads);
    for (long t = 0; desks && t < num_threads; t++, room += numbers) {
        float *values = room + dim * CHUNK, *queries = values + dim * CHUNK, *mixed = queries + (size_t)width * dim;
        desks[t] = (Desk){width, room, values, queries, mixed, (Part *)(mixed + rows * dim)};
    }
    return desks;
}

/* -1 without memory. */
static int prepare(Work *work) {
    const Attention *a = work->a;
    long num_many = 0, most_chunks = 0, num_threads = omp_get_max_threads(), width = MANY;
    work->shares = malloc(sizeof(Share) * (size_t)(a->num_sequences + 1));
    if (!work->shares) return -1;
    for (long s = 0; s < a->num_sequences; s++)
        if (are_many(a, s)) {
            num_many += queries_of(a, s) * a->num_kv_heads;
            most_chunks = chunks_of(a, s) > most_chunks ? chunks_of(a, s) : most_chunks;
        }
    if (num_many) {
        width = width_of(a, num_many, most_chunks, num_threads);
        work->desks = make_desks(a, width, most_chunks, num_threads);
        if (!work->desks) return -1;
    }
    Share share = {0};
    for (long s = 0; s < a->num_sequences; s++) {
        work->shares[s] = share;
        if (are_many(a, s)) {
            share.many += blocks_of(a, s, width) * a->num_kv_heads;
        } else {
            share.few += chunks_of(a, s) * a->num_kv_heads;
            share.parts += chunks_of(a, s) * a->num_kv_heads * queries_of(a, s);
        }
    }
    work->shares[a->num_sequences] = share;
    work->parts = malloc(sizeof(Part) * (size_t)share.parts + 1);
    work->mixed = malloc(sizeof(float) * (size_t)(share.parts * a->head_dim) + 1);
    return work->parts && work->mixed ? 0 : -1;
}

static void attend_few_piece(const Work *work, long item) {
    const Attention *a = work->a;
    long s = 0;
    while (work->shares[s + 1].few <= item) s++;
    long chunks = chunks_of(a, s), own = item - work->shares[s].few;
    long part = work->shares[s].parts + own * queries_of(a, s);
    attend_chunk(a, a->tables + s * a->width, own / chunks, a->starts[s], count_of(a, s), own % chunks,
                 work->parts + part, work->mixed + part * a->head_dim);
}

static void merge_sequence(const Work *work, long s) {
    const Attention *a = work->a;
    long queries = queries_of(a, s), chunks = chunks_of(a, s);
    for (long kv_head = 0; kv_head < a->num_kv_heads && !are_many(a, s); kv_head++) {
        Queries q = {a, a->tables + s * a->width, kv_head, a->starts[s], queries};
        for (long query = 0; query < queries; query++) {
            long part = work->shares[s].parts + kv_head * chunks * queries + query;
            merge_row(work->parts + part, work->mixed + part * a->head_dim, chunks, queries, a->head_dim, a->out,
                      place_of(&q, query), a->dtype);
        }
    }
}

/* The last ones first: they see most keys. */
static void attend_many_piece(const Work *work, long item) {
    const Attention *a = work->a;
    const Desk *desk = work->desks + omp_get_thread_num();
    long s = 0;
    while (work->shares[s + 1].many <= item) s++;
    long own = item - work->shares[s].many, queries = queries_of(a, s);
    long from = (blocks_of(a, s, desk->width) - 1 - own / a->num_kv_heads) * desk->width;
    Queries q = {a, a->tables + s * a->width, own % a->num_kv_heads, a->starts[s], queries};
    attend_block(&q, from, from + desk->width < queries ? from + desk->width : queries, desk);
}

int attend(const Attention *a) {
    Work work = {.a = a};
    int status = prepare(&work);
    if (!status) {
        Share all = work.shares[a->num_sequences];
#pragma omp parallel
        {
#pragma omp for schedule(dynamic) nowait
            for (long i = 0; i < all.many; i++) attend_many_piece(&work, i);
#pragma omp for schedule(dynamic)
            for (long i = 0; i < all.few; i++) attend_few_piece(&work, i);
#pragma omp for
            for (long s = 0; s < a->num_sequences; s++) merge_sequence(&work, s);
        }
    }
    free(work.shares), free(work.parts), free(work.mixed), free(work.desks);
    return status;
}
