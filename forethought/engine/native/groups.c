/* Products with matrices of small whole numbers in groups that share their factors, or of floats as they are, on a CPU.
 *
 * A group's part of a product is  scale * sum(value * x) + minimum * sum(x).  The values are small whole
 * numbers, and the factors are float16, as ggml stores them. The numbers of x in a group become whole numbers
 * too, of 16 bits, counted in a power of two: a bfloat16 loses nothing by that unless it is less than a
 * 128th of the group's largest, and then at most a 32,768th of that one. So sums within a group are exact, and
 * nothing else is rounded but float32 sums and the result. Weights in bfloat16 and float32 have no factors, and x stays
 * as it is.
 *
 * A vector holds one number of each of some rows. What is taken out of a tile is used for as many tokens at
 * once as there are registers for, so that more tokens cost their multiplications and little else. With few
 * tokens the tiles, which lie in the order of their use, take as long as they take to arrive.
 *
 * What a row of the result is depends on no other row of x, and on no number of threads: every
 * number of tokens goes through the same sums in the same order.
 */

#include "groups.h"

#include "float16.h"
#include "quants.h"

#define AHEAD 4096 /* bytes that are asked for before their turn */
#define PANEL 128  /* tokens whose numbers stay in a core's cache while all of the matrix passes by */
#define ABREAST (VECTORS < 2 ? VECTORS : 2) /* vectors that a number of x is multiplied with */

/* How the products of a group are computed: in whole numbers, in float32, or in pairs of bfloat16 whose products
 * a vector instruction adds up in float32, where there is one. */
typedef enum { WHOLES_4, WHOLES_8, FLOATS_8, FLOATS_16, PAIRS_16, WIDE_32 } Way;

#define IS_WHOLE(way) ((way) == WHOLES_4 || (way) == WHOLES_8)
#define NUMBER_SIZE(way) (IS_WHOLE(way) || (way) == PAIRS_16 ? sizeof(uint16_t) : sizeof(float))
#define HAS_MINIMUMS(way) ((way) == WHOLES_4)
#define HAS_SCALES(way) (IS_WHOLE(way) || (way) == FLOATS_8)
#define TILE_SIZE(way)                  \
    (HAS_MINIMUMS(way)  ? sizeof(Tile4)  \
     : HAS_SCALES(way)  ? sizeof(Tile8)  \
     : (way) == WIDE_32 ? sizeof(Tile32) \
                        : sizeof(Tile16))

/* `dot` adds up for each token the products of a group's values with its numbers of x; of those
 * `order` made the order in which the values come out of a tile. Values are ABREAST vectors, of the rows from
 * `lane` on. */

/* Pairs of values with pair n of the numbers of each token. */
INLINE void add_wholes(const Ints *pairs, const int16_t *x, int n, Ints (*dots)[ABREAST], int tokens) {
#pragma GCC unroll 16
    for (int t = 0; t < tokens; t++) {
        int32_t pair;
        memcpy(&pair, x + t * GROUP + 2 * n, sizeof pair);
#pragma GCC unroll 2
        for (int v = 0; v < ABREAST; v++) {
#if defined(__AVX512VNNI__)
            dots[t][v] = (Ints)_mm512_dpwssd_epi32((__m512i)dots[t][v], (__m512i)pairs[v], _mm512_set1_epi32(pair));
#elif defined(__AVX512BW__)
            dots[t][v] += (Ints)_mm512_madd_epi16((__m512i)pairs[v], _mm512_set1_epi32(pair));
#elif defined(__AVX2__)
            dots[t][v] += (Ints)_mm256_madd_epi16((__m256i)pairs[v], _mm256_set1_epi32(pair));
#else
            dots[t][v] += (pairs[v] << 16 >> 16) * (pair << 16 >> 16) + (pairs[v] >> 16) * (pair >> 16);
#endif
        }
    }
}

INLINE void dot_wholes_4(const Tile4 *tile, long lane, const int16_t *x, Ints (*dots)[ABREAST], int tokens) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        const Ints *words = (const Ints *)(tile->values[q] + lane);
#pragma GCC unroll 4
        for (int n = 0; n < 4; n++) { /* values n and n + 4 of each word */
            Ints pairs[ABREAST];
            for (int v = 0; v < ABREAST; v++) pairs[v] = words[v] >> (4 * n) & 0x000f000f;
            add_wholes(pairs, x, 4 * q + n, dots, tokens);
        }
    }
}

INLINE void dot_wholes_8(const Tile8 *tile, long lane, const int16_t *x, Ints (*dots)[ABREAST], int tokens) {
#pragma GCC unroll 16
    for (int n = 0; n < GROUP / 2; n++) {
        Ints pairs[ABREAST];
        for (int v = 0; v < ABREAST; v++) {
            const int8_t *values = tile->values[n][lane + v * LANES];
#if defined(__AVX512BW__)
            pairs[v] = (Ints)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)values));
#elif defined(__AVX2__)
            pairs[v] = (Ints)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)values));
#else
            Ints both = widen_signed((const int16_t *)values);
            pairs[v] = (both << 24 >> 24 & 0xffff) | both >> 8 << 16;
#endif
        }
        add_wholes(pairs, x, n, dots, tokens);
    }
}

#if defined(__AVX512BF16__)
INLINE void dot_pairs_16(const Tile16 *tile, const uint16_t *x, Vec (*dots)[ABREAST], int tokens) {
#pragma GCC unroll 16
    for (int n = 0; n < GROUP / 2; n++) {
        __m512bh pairs = (__m512bh)_mm512_loadu_si512(tile->pairs[n]);
#pragma GCC unroll 16
        for (int t = 0; t < tokens; t++) {
            int32_t pair;
            memcpy(&pair, x + t * GROUP + 2 * n, sizeof pair);
            dots[t][0] = (Vec)_mm512_dpbf16_ps((__m512)dots[t][0], pairs, (__m512bh)_mm512_set1_epi32(pair));
        }
    }
}
#endif

INLINE void add_floats(const Vec *numbers, const float *x, int n, Vec (*dots)[ABREAST], int tokens) {
#pragma GCC unroll 16
    for (int t = 0; t < tokens; t++)
#pragma GCC unroll 2
        for (int v = 0; v < ABREAST; v++) dots[t][v] += numbers[v] * x[t * GROUP + n];
}

INLINE void dot_floats_8(const Tile8 *tile, long lane, const float *x, Vec (*dots)[ABREAST], int tokens) {
#pragma GCC unroll 16
    for (int n = 0; n < GROUP / 2; n++) {
        Vec even[ABREAST], odd[ABREAST];
        for (int v = 0; v < ABREAST; v++) {
            const int8_t *values = tile->values[n][lane + v * LANES];
            Ints pairs = widen_signed((const int16_t *)values);
            even[v] = __builtin_convertvector(pairs << 24 >> 24, Vec);
            odd[v] = __builtin_convertvector(pairs >> 8, Vec);
        }
        add_floats(even, x, 2 * n, dots, tokens);
        add_floats(odd, x, 2 * n + 1, dots, tokens);
    }
}

INLINE void dot_floats_16(const Tile16 *tile, long lane, const float *x, Vec (*dots)[ABREAST], int tokens) {
#pragma GCC unroll 16
    for (int n = 0; n < GROUP / 2; n++) {
        const Ints *pairs = (const Ints *)(tile->pairs[n] + lane);
        Vec even[ABREAST], odd[ABREAST];
        for (int v = 0; v < ABREAST; v++) {
            even[v] = (Vec)(pairs[v] << 16);
            odd[v] = (Vec)(pairs[v] & (int32_t)0xffff0000);
        }
        add_floats(even, x, 2 * n, dots, tokens);
        add_floats(odd, x, 2 * n + 1, dots, tokens);
    }
}

INLINE void dot_wide_32(const Tile32 *tile, long lane, const float *x, Vec (*dots)[ABREAST], int tokens) {
#pragma GCC unroll 32
    for (int n = 0; n < GROUP; n++) {
        Vec numbers[ABREAST];
        for (int v = 0; v < ABREAST; v++) numbers[v] = *(const Vec *)(tile->numbers[n] + lane + v * LANES);
        add_floats(numbers, x, n, dots, tokens);
    }
}

INLINE int32_t largest_of(Ints numbers) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_epi32((__m512i)numbers);
#else
    int32_t largest = numbers[0];
    for (int i = 1; i < LANES; i++) largest = numbers[i] > largest ? numbers[i] : largest;
    return largest;
#endif
}

/* Whole numbers that a group of x is, nearly, when counted in a unit, a power of two, which is returned. What has
 * no finite largest has no unit. */
INLINE float make_whole(const void *x, size_t place, Dtype dtype, int16_t *to) {
    Vec numbers[GROUP / LANES];
    Ints most = {0};
    for (int i = 0; i < GROUP / LANES; i++) {
        numbers[i] = load(x, place + (size_t)(i * LANES), dtype);
        Ints size = (Ints)numbers[i] & 0x7fffffff, is_more = size > most;
        most = (size & is_more) | (most & ~is_more);
    }
    int32_t exponent = largest_of(most) & 0x7f800000;
    float power;
    memcpy(&power, &exponent, sizeof power);
    if (exponent == 0) { /* nothing, or what float32 can hardly hold */
        memset(to, 0, GROUP * sizeof *to);
        return 0;
    }
    float per_number = 0x1p14f / power;
    const float whole = 0x1.8p23f; /* to which a number is added it becomes whole */
    for (int i = 0; i < GROUP / LANES; i++)
        narrow((uint16_t *)to + i * LANES, (Bits)(numbers[i] * per_number + whole));
    return exponent == 0x7f800000 ? NAN : power * 0x1p-14f;
}

/* A group of 4 bits in the order in which pairs come out of a tile. */
INLINE void order_wholes_4(const int16_t *from, int16_t *to) {
#if defined(__AVX512BW__)
    const __m512i columns = _mm512_set_epi16(31, 29, 15, 13, 30, 28, 14, 12, 27, 25, 11, 9, 26, 24, 10, 8, 23,
                                             21, 7, 5, 22, 20, 6, 4, 19, 17, 3, 1, 18, 16, 2, 0);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(columns, _mm512_loadu_si512(from)));
#else
    for (int i = 0; i < GROUP; i++) to[i] = from[4 * (i / 8) + i / 4 % 2 + 2 * (i % 2) + 16 * (i / 2 % 2)];
#endif
}

INLINE int32_t total_of(const int16_t *numbers) {
    int32_t total = 0;
    for (int i = 0; i < GROUP; i++) total += numbers[i];
    return total;
}

/* Returns the unit of the numbers. */
INLINE float order(Way way, const void *x, size_t place, Dtype dtype, void *to) {
    if (IS_WHOLE(way)) {
        int16_t wholes[GROUP];
        float unit = make_whole(x, place, dtype, wholes);
        if (way == WHOLES_4)
            order_wholes_4(wholes, to);
        else
            memcpy(to, wholes, sizeof wholes);
        return unit;
    }
    if (way == PAIRS_16)
        memcpy(to, (const uint16_t *)x + place, GROUP * sizeof(uint16_t));
    else
        for (size_t i = 0; i < GROUP; i += LANES) *(Vec *)((float *)to + i) = load(x, place + i, dtype);
    return 1;
}

/* [tokens, ABREAST] sums over a group, in float32. */
INLINE void dot(Way way, const char *tile, long lane, const void *x, Vec (*dots)[ABREAST], int tokens) {
    if (IS_WHOLE(way)) {
        Ints wholes[MOST][ABREAST] = {{{0}}};
        if (way == WHOLES_4)
            dot_wholes_4((const Tile4 *)tile, lane, x, wholes, tokens);
        else
            dot_wholes_8((const Tile8 *)tile, lane, x, wholes, tokens);
        for (int t = 0; t < tokens; t++)
            for (int v = 0; v < ABREAST; v++) dots[t][v] = __builtin_convertvector(wholes[t][v], Vec);
        return;
    }
    for (int t = 0; t < tokens; t++)
        for (int v = 0; v < ABREAST; v++) dots[t][v] = (Vec){0};
    if (way == FLOATS_8) dot_floats_8((const Tile8 *)tile, lane, x, dots, tokens);
    if (way == FLOATS_16) dot_floats_16((const Tile16 *)tile, lane, x, dots, tokens);
    if (way == WIDE_32) dot_wide_32((const Tile32 *)tile, lane, x, dots, tokens);
#if defined(__AVX512BF16__)
    if (way == PAIRS_16) dot_pairs_16((const Tile16 *)tile, x, dots, tokens);
#endif
}

INLINE void lay_out(Way way, const void *x, Dtype dtype, Tokens to, size_t first, size_t tokens, size_t k) {
    for (size_t g = 0; g < k / GROUP; g++)
        for (size_t t = 0; t < tokens; t++) {
            size_t index = g * tokens + t;
            char *numbers = to.numbers + index * GROUP * NUMBER_SIZE(way);
            to.units[index] = order(way, x, (first + t) * k + g * GROUP, dtype, numbers);
            if (HAS_MINIMUMS(way)) to.sums[index] = to.units[index] * (float)total_of((const int16_t *)numbers);
        }
}

/* Some rows of tiles side by side, ABREAST vectors from row `lane` on, against some tokens. */
INLINE void multiply_rows(Way way, const char *tiles, long groups, long lane, Tokens x, float (*sums)[TILE_ROWS],
                          int tokens) {
    Vec totals[MOST][ABREAST] = {{{0}}}, dots[MOST][ABREAST];
    for (long g = 0; g < groups; g++, tiles += TILE_SIZE(way)) {
        for (size_t line = 0; line < TILE_SIZE(way); line += 64) __builtin_prefetch(tiles + AHEAD + line);
        dot(way, tiles, lane, x.numbers + (size_t)(g * tokens * GROUP) * NUMBER_SIZE(way), dots, tokens);
        const Tile4 *tile4 = (const Tile4 *)tiles;
        const uint16_t *scale = HAS_MINIMUMS(way) ? tile4->scales : ((const Tile8 *)tiles)->scales;
        for (int v = 0; v < ABREAST; v++) {
            long row = lane + v * LANES;
            if (HAS_MINIMUMS(way)) {
                Vec minimums = widen_float16(tile4->minimums + row);
                for (int t = 0; t < tokens; t++) totals[t][v] += minimums * x.sums[g * tokens + t];
            }
            if (HAS_SCALES(way)) {
                Vec scales = widen_float16(scale + row);
                for (int t = 0; t < tokens; t++)
                    totals[t][v] += (IS_WHOLE(way) ? scales * x.units[g * tokens + t] : scales) * dots[t][v];
            } else {
                for (int t = 0; t < tokens; t++) totals[t][v] += dots[t][v];
            }
        }
    }
    for (int t = 0; t < tokens; t++)
        for (int v = 0; v < ABREAST; v++) *(Vec *)(sums[t] + lane + v * LANES) = totals[t][v];
}

/* The 16 rows from `first` on: [tokens, 16] sums to their places in y. */
static void finish(const GroupMatrix *matrix, long first, float (*sums)[TILE_ROWS], char *y, Dtype dtype,
                   long tokens) {
    long n = matrix->n, rows = n - first < TILE_ROWS ? n - first : TILE_ROWS;
    float bias[TILE_ROWS] = {0};
    if (matrix->bias) memcpy(bias, matrix->bias + first, sizeof(float) * (size_t)rows);
    for (long t = 0; t < tokens; t++) {
        char results[sizeof bias];
        for (size_t i = 0; i < TILE_ROWS; i += LANES)
            store(results, i, dtype, *(Vec *)(sums[t] + i) * matrix->unit + *(Vec *)(bias + i));
        memcpy(y + (size_t)(t * n + first) * size_of(dtype), results, (size_t)rows * size_of(dtype));
    }
}

/* A way as functions, with a loop for each number of tokens, so that their sums stay in registers. */
#define LOOP(way, count) \
    case count: multiply_rows(way, tiles, groups, lane, x, sums, count); break
#define SIX_LOOPS(way)                                                                  \
    LOOP(way, 1); LOOP(way, 2); LOOP(way, 3); LOOP(way, 4); LOOP(way, 5); LOOP(way, 6)
#if LANES == 16
#define LOOPS(way)                                                                                    \
    SIX_LOOPS(way); LOOP(way, 7); LOOP(way, 8); LOOP(way, 9); LOOP(way, 10); LOOP(way, 11);           \
    LOOP(way, 12); LOOP(way, 13); LOOP(way, 14); LOOP(way, 15); LOOP(way, 16)
#else
#define LOOPS SIX_LOOPS
#endif
#define KERNEL(way, name)                                                                                     \
    static void lay_out_##name(const void *x, Dtype dtype, Tokens to, long first, long tokens, long k) {      \
        lay_out(way, x, dtype, to, (size_t)first, (size_t)tokens, (size_t)k);                                 \
    }                                                                                                         \
    static void multiply_##name(const char *tiles, long groups, Tokens x, float (*sums)[TILE_ROWS], long tokens) { \
        for (long lane = 0; lane < TILE_ROWS; lane += ABREAST * LANES) switch (tokens) { LOOPS(way); }        \
    }                                                                                                         \
    static const Kernel name = {NUMBER_SIZE(way), GROUP, TILE_SIZE(way), lay_out_##name, multiply_##name}

KERNEL(WHOLES_4, wholes_4);
KERNEL(WHOLES_8, wholes_8);
KERNEL(FLOATS_8, floats_8);
KERNEL(WIDE_32, wide_32);
#if defined(__AVX512BF16__)
KERNEL(PAIRS_16, dense_16);
#else
KERNEL(FLOATS_16, dense_16);
#endif

/* By the format of weights and the type of activations. */
static const Kernel *const kernels[NUM_FORMATS][NUM_DTYPES] = {
    [GROUPS_4] = {[BFLOAT16] = &wholes_4},
    [GROUPS_8] = {[BFLOAT16] = &wholes_8, [FLOAT32] = &floats_8},
    [BFLOATS_16] = {[BFLOAT16] = &dense_16},
    [FLOATS_32] = {[FLOAT32] = &wide_32},
};

/* Some tokens, of which `room` holds all that is laid out. */
static void multiply_panel(const GroupMatrix *matrix, const Kernel *kernel, const Product *panel, char *room) {
    long n = matrix->n, k = matrix->k, tokens = panel->num_tokens, groups = k / GROUP, num_tiles = k / kernel->group;
    long num_parts = (tokens + MOST - 1) / MOST; /* of as many tokens each, or one less */
    float *units = (float *)(room + kernel->number_size * (size_t)(tokens * k)), *sums = units + tokens * groups;
    char *y = panel->y;
#define PART(p)                                                                             \
    long start = (p) * tokens / num_parts, count = ((p) + 1) * tokens / num_parts - start; \
    Tokens part = {room + kernel->number_size * (size_t)(start * k), units + start * groups, sums + start * groups}
#pragma omp parallel for if (tokens * k > PARALLEL_FROM)
    for (long p = 0; p < num_parts; p++) {
        PART(p);
        kernel->lay_out(panel->x, panel->x_dtype, part, start, count, k);
    }
#pragma omp parallel for schedule(static) if (n * k > PARALLEL_FROM)
    for (long first = 0; first < n; first += TILE_ROWS) {
        const char *tiles = (const char *)matrix->tiles + kernel->tile_size * (size_t)(first / TILE_ROWS * num_tiles);
        for (long p = 0; p < num_parts; p++) {
            PART(p);
            float results[MOST][TILE_ROWS];
            kernel->multiply(tiles, num_tiles, part, results, count);
            finish(matrix, first, results, y + (size_t)(start * n) * size_of(panel->y_dtype), panel->y_dtype, count);
        }
    }
#undef PART
}

int multiply(const Product *product) {
    const GroupMatrix *matrix = product->matrix;
    if (matrix->format == QUANTISED) return multiply_quants(product);
    const Kernel *kernel = kernels[matrix->format][product->x_dtype];
    if (!kernel) return NO_KERNEL;
    long k = matrix->k, tokens = product->num_tokens, most = tokens < PANEL ? tokens : PANEL;
    char *room = malloc((kernel->number_size * GROUP + 2 * sizeof(float)) * (size_t)(most * k / GROUP));
    if (!room) return -1;
    for (long start = 0; start < tokens; start += PANEL) {
        Product panel = *product;
        panel.x = (const char *)product->x + (size_t)(start * k) * size_of(product->x_dtype);
        panel.y = (char *)product->y + (size_t)(start * matrix->n) * size_of(product->y_dtype);
        panel.num_tokens = tokens - start < PANEL ? tokens - start : PANEL;
        multiply_panel(matrix, kernel, &panel, room);
    }
    free(room);
    return 0;
}

int has_slow_pairs(void) {
#if defined(__AVX512BF16__)
    __builtin_cpu_init();
    return __builtin_cpu_is("intel") != 0;
#else
    return 0;
#endif
}
