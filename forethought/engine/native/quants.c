/* Products with quantised tensors of GGUF files, the numbers of the file as they are.
 *
 * A weight is  scale * value - minimum:  the value is a whole number of a few bits, and a group of 32 or 16
 * neighbours in a row shares the other two. Kinds differ in how these are packed; here all of them lie alike.
 * 16 rows lie side by side, and of them one block of ggml after another, in the order of their use. Of each block there
 * are first the values, group after group, then the factors:
 *
 *     values   planes of 4, 2, 1 or 8 bits a value, in words of 4 neighbours, the words of 16 rows side by side
 *     factors  float16 for all of it; or these times small whole numbers for each group; or bfloat16, which holds every
 *              power of two
 *
 * Tensors of floats, which such files have too, lie in the same order: column after column, the 16 rows side by side.
 *
 * x is rounded to 8 bits, in each group of 32 to a 127th of its largest number, as llama.cpp does in groups of 32 or
 * 256. That moves a product by half a percent of its size at most, and by less where weights have as few bits. Sums
 * within a group are exact then. Or x stays in float32, and nothing is rounded but float32 sums: so it is, whatever is
 * asked for, with tensors of floats.
 *
 * What a row of the result is depends on no other row of x, and on no number of threads: every number of tokens goes
 * through the same sums in the same order.
 */

#include "quants.h"

#include "float16.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#define WORDS (GROUP / 4) /* of 4 values */
#define ROWS TILE_ROWS    /* of a block */
#define SUPER 256         /* values of a block of ggml's K kinds */
#define AHEAD 8192        /* bytes that are asked for before their turn */
#define AT_ONCE (LANES == 16 ? 8 : 4) /* tokens: with more, the sums no longer stay in registers */
#define FLOATS_AT_ONCE 4
#define PANEL 128 /* tokens whose numbers stay in a core's cache while all of the matrix passes by */
#define ABREAST (VECTORS < 2 ? VECTORS : 2)

/* How the values of a kind lie, and what is to be subtracted from them. */
typedef struct {
    int nibbles, pairs, bits, bytes; /* planes of 4, 2, 1 and 8 bits a value that there are */
    const uint8_t *table;            /* values stand for others: what each stands for, and `offset` more */
    int bound;                       /* no value is larger */
    int offset;                      /* what is subtracted from each, where there are no minimums */
    int has_minimums;
    int parts;          /* of a group, which have factors of their own; 0 if those are float16 or bfloat16 */
    int is_bfloat;      /* factors are bfloat16; or the numbers of a tensor of floats */
    int float_bytes;    /* of a number, in a tensor of floats, which has nothing else */
    int block_columns;  /* values that share their float16 factors: a block of ggml */
    size_t block_bytes; /* as it is in a file */
} Traits;

/* What the values of IQ4_NL and IQ4_XS stand for, and 128 more, so that none is negative; and of MXFP4, and 12 more. */
static const uint8_t IQ4_TABLE[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
static const uint8_t MXFP4_TABLE[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

static const Traits TRAITS[NUM_QUANT_KINDS] = {
    [Q4_0] = {.nibbles = 1, .bound = 15, .offset = 8, .block_columns = 32, .block_bytes = 18},
    [Q4_1] = {.nibbles = 1, .bound = 15, .has_minimums = 1, .block_columns = 32, .block_bytes = 20},
    [Q5_0] = {.nibbles = 1, .bits = 1, .bound = 31, .offset = 16, .block_columns = 32, .block_bytes = 22},
    [Q5_1] = {.nibbles = 1, .bits = 1, .bound = 31, .has_minimums = 1, .block_columns = 32, .block_bytes = 24},
    [Q8_0] = {.bytes = 1, .bound = 255, .offset = 128, .block_columns = 32, .block_bytes = 34},
    [IQ4_NL] = {.nibbles = 1, .table = IQ4_TABLE, .bound = 255, .offset = 128, .block_columns = 32, .block_bytes = 18},
    [Q2_K] = {.pairs = 1, .bound = 3, .has_minimums = 1, .parts = 2, .block_columns = 256, .block_bytes = 84},
    [Q3_K] = {.pairs = 1, .bits = 1, .bound = 7, .offset = 4, .parts = 2, .block_columns = 256, .block_bytes = 110},
    [Q4_K] = {.nibbles = 1, .bound = 15, .has_minimums = 1, .parts = 1, .block_columns = 256, .block_bytes = 144},
    [Q5_K] = {.nibbles = 1, .bits = 1, .bound = 31, .has_minimums = 1, .parts = 1, .block_columns = 256,
              .block_bytes = 176},
    [Q6_K] = {.nibbles = 1, .pairs = 1, .bound = 63, .offset = 32, .parts = 2, .block_columns = 256,
              .block_bytes = 210},
    [IQ4_XS] = {.nibbles = 1, .table = IQ4_TABLE, .bound = 255, .offset = 128, .parts = 1, .block_columns = 256,
                .block_bytes = 136},
    [MXFP4] = {.nibbles = 1, .table = MXFP4_TABLE, .bound = 24, .offset = 12, .is_bfloat = 1, .block_columns = 32,
               .block_bytes = 17},
    [F16] = {.float_bytes = 2, .block_columns = 1},
    [BF16] = {.float_bytes = 2, .is_bfloat = 1, .block_columns = 1},
    [F32] = {.float_bytes = 4, .block_columns = 1},
};

INLINE long groups_of(long k) { return (k + GROUP - 1) / GROUP; }

/* Where 16 rows have the values and the factors of one block of ggml, in bytes from its start. */
typedef struct {
    size_t group_bytes; /* of values */
    size_t scales, minimums, part_scales, part_minimums, block, all; /* the next block; all of them */
} Places;

INLINE Places places_of(QuantKind kind, long k) {
    const Traits *t = &TRAITS[kind];
    if (t->float_bytes) return (Places){.all = (size_t)(groups_of(k) * GROUP * ROWS * t->float_bytes)};
    size_t groups = (size_t)t->block_columns / GROUP, factors = ROWS * sizeof(uint16_t), own = groups * (size_t)t->parts * ROWS;
    Places p = {.group_bytes = (size_t)(4 * t->nibbles + 2 * t->pairs + t->bits + 8 * t->bytes) * 4 * ROWS};
    p.scales = groups * p.group_bytes;
    p.minimums = p.scales + factors;
    p.part_scales = p.minimums + (t->has_minimums ? factors : 0);
    p.part_minimums = p.part_scales + own;
    p.block = p.part_minimums + (t->has_minimums ? own : 0);
    p.all = ((size_t)(k / t->block_columns) * p.block + 63) / 64 * 64;
    return p;
}

int quant_block_bytes(const QuantTensor *tensor) {
    return tensor->k % TRAITS[tensor->kind].block_columns ? 0 : (int)places_of(tensor->kind, tensor->k).all;
}

/* ---- From the blocks of a file ---- */

/* One block of a row: its values, and its factors, the small ones of each 32 or 16 values. */
typedef struct {
    uint8_t values[SUPER];
    uint16_t scale, minimum;
    uint8_t part_scales[SUPER / 16], part_minimums[SUPER / 16];
} Block;

static uint16_t float16_at(const uint8_t *bytes) { return (uint16_t)(bytes[0] | bytes[1] << 8); }

/* Halves of bytes: the lower ones of `count` are values, then the upper ones. */
static void take_nibbles(const uint8_t *from, int count, uint8_t *values) {
    for (int i = 0; i < count; i++) values[i] = from[i] & 15, values[i + count] = from[i] >> 4;
}

/* The 6-bit scales and minimums of Q4_K and Q5_K: 12 bytes for 8 of each. */
static void take_sixes(const uint8_t *from, Block *to) {
    for (int i = 0; i < 4; i++) {
        to->part_scales[i] = from[i] & 63;
        to->part_minimums[i] = from[i + 4] & 63;
        to->part_scales[i + 4] = (uint8_t)((from[i + 8] & 15) | from[i] >> 6 << 4);
        to->part_minimums[i + 4] = (uint8_t)(from[i + 8] >> 4 | from[i + 4] >> 6 << 4);
    }
}

/* Half of a power of two, whose exponent is a byte, in bfloat16. */
static uint16_t half_power(uint8_t exponent) { return (uint16_t)(exponent < 2 ? 32 << exponent : (exponent - 1) << 7); }

INLINE void take_block(QuantKind kind, const uint8_t *b, Block *to) {
    to->scale = float16_at(b);
    switch (kind) {
    case Q4_0:
    case IQ4_NL: take_nibbles(b + 2, 16, to->values); break;
    case Q4_1:
        to->minimum = float16_at(b + 2);
        take_nibbles(b + 4, 16, to->values);
        break;
    case Q5_0:
    case Q5_1: {
        const uint8_t *high = b + (kind == Q5_1 ? 4 : 2);
        if (kind == Q5_1) to->minimum = float16_at(b + 2);
        take_nibbles(high + 4, 16, to->values);
        for (int i = 0; i < GROUP; i++) to->values[i] |= (uint8_t)((high[i / 8] >> i % 8 & 1) << 4);
        break;
    }
    case Q8_0:
        for (int i = 0; i < GROUP; i++) to->values[i] = b[2 + i] ^ 0x80;
        break;
    case Q2_K:
        to->scale = float16_at(b + 80), to->minimum = float16_at(b + 82);
        for (int i = 0; i < 16; i++) to->part_scales[i] = b[i] & 15, to->part_minimums[i] = b[i] >> 4;
        for (int i = 0; i < SUPER; i++) to->values[i] = b[16 + i / 128 * 32 + i % 32] >> 2 * (i / 32 % 4) & 3;
        break;
    case Q3_K:
        to->scale = float16_at(b + 108);
        for (int i = 0; i < 16; i++)
            to->part_scales[i] = (uint8_t)(((b[96 + i % 8] >> i / 8 * 4 & 15) | (b[104 + i % 4] >> i / 4 * 2 & 3) << 4) - 32);
        for (int i = 0; i < SUPER; i++)
            to->values[i] = (uint8_t)((b[32 + i / 128 * 32 + i % 32] >> 2 * (i / 32 % 4) & 3) | (b[i % 32] >> i / 32 & 1) << 2);
        break;
    case Q4_K:
    case Q5_K: {
        const uint8_t *values = b + (kind == Q5_K ? 48 : 16);
        to->minimum = float16_at(b + 2);
        take_sixes(b + 4, to);
        for (int i = 0; i < 4; i++) take_nibbles(values + 32 * i, 32, to->values + 64 * i);
        if (kind == Q5_K)
            for (int i = 0; i < SUPER; i++) to->values[i] |= (uint8_t)((b[16 + i % 32] >> i / 32 & 1) << 4);
        break;
    }
    case Q6_K:
        to->scale = float16_at(b + 208);
        memcpy(to->part_scales, b + 192, 16);
        for (int i = 0; i < 2; i++) take_nibbles(b + 64 * i, 64, to->values + 128 * i);
        for (int i = 0; i < SUPER; i++)
            to->values[i] |= (uint8_t)((b[128 + i / 128 * 32 + i % 32] >> 2 * (i / 32 % 4) & 3) << 4);
        break;
    case IQ4_XS:
        for (int i = 0; i < 8; i++)
            to->part_scales[i] = (uint8_t)(((b[4 + i / 2] >> i % 2 * 4 & 15) | (float16_at(b + 2) >> 2 * i & 3) << 4) - 32);
        for (int i = 0; i < 8; i++) take_nibbles(b + 8 + 16 * i, 16, to->values + 32 * i);
        break;
    case MXFP4:
        to->scale = half_power(b[0]);
        take_nibbles(b + 1, 16, to->values);
        break;
    case F16:
    case BF16:
    case F32:
    case NUM_QUANT_KINDS: break;
    }
}

/* A group of one row to the planes of its block. */
INLINE void put_values(QuantKind kind, const uint8_t *values, char *group, int row) {
    const Traits *traits = &TRAITS[kind];
    uint32_t *plane = (uint32_t *)group + row, words[WORDS];
    for (int w = 0; w < WORDS; w++) memcpy(&words[w], values + 4 * w, 4);
    int lower = 0; /* bits that are in planes already */
    if (traits->bytes)
        for (int w = 0; w < WORDS; w++) plane[w * ROWS] = words[w];
    if (traits->nibbles) {
        for (int w = 0; w < 4; w++)
            plane[w * ROWS] = (words[2 * w] & 0x0f0f0f0f) | (words[2 * w + 1] & 0x0f0f0f0f) << 4;
        plane += 4 * ROWS, lower = 4;
    }
    if (traits->pairs) {
        for (int w = 0; w < 2; w++) {
            uint32_t pairs = 0;
            for (int i = 0; i < 4; i++) pairs |= (words[4 * w + i] >> lower & 0x03030303) << 2 * i;
            plane[w * ROWS] = pairs;
        }
        plane += 2 * ROWS, lower += 2;
    }
    if (traits->bits) {
        uint32_t bits = 0;
        for (int w = 0; w < WORDS; w++) bits |= (words[w] >> lower & 0x01010101) << w;
        *plane = bits;
    }
}

INLINE void put_block(QuantKind kind, const Places *p, const Block *block, char *to, int row) {
    const Traits *traits = &TRAITS[kind];
    int groups = traits->block_columns / GROUP;
    ((uint16_t *)(to + p->scales))[row] = block->scale;
    if (traits->has_minimums) ((uint16_t *)(to + p->minimums))[row] = block->minimum;
    for (int g = 0; g < groups; g++) put_values(kind, block->values + g * GROUP, to + (size_t)g * p->group_bytes, row);
    for (int i = 0; i < groups * traits->parts; i++) {
        ((uint8_t *)to + p->part_scales)[i * ROWS + row] = block->part_scales[i];
        if (traits->has_minimums) ((uint8_t *)to + p->part_minimums)[i * ROWS + row] = block->part_minimums[i];
    }
}

/* 16 rows of a tensor, or those that there are. */
INLINE void lay_out_block(QuantKind kind, const QuantTensor *tensor, long first) {
    const Places p = places_of(kind, tensor->k);
    const size_t block_bytes = TRAITS[kind].block_bytes;
    long num_blocks = tensor->k / TRAITS[kind].block_columns;
    char *tile = tensor->tiles + p.all * (size_t)(first / ROWS);
    if (tensor->rows - first < ROWS) memset(tile, 0, p.all);
    for (long i = 0; i < num_blocks; i++)
        for (int row = 0; row < ROWS && first + row < tensor->rows; row++) {
            Block block;
            take_block(kind, tensor->blocks + block_bytes * (size_t)((first + row) * num_blocks + i), &block);
            put_block(kind, &p, &block, tile + p.block * (size_t)i, row);
        }
}

/* The same of floats; columns that fill up a group are 0. */
static void lay_out_floats(const QuantTensor *tensor, long first) {
    const size_t size = (size_t)TRAITS[tensor->kind].float_bytes, all = places_of(tensor->kind, tensor->k).all;
    char *tile = tensor->tiles + all * (size_t)(first / ROWS);
    memset(tile, 0, all);
    for (long row = 0; row < ROWS && first + row < tensor->rows; row++) {
        const uint8_t *from = tensor->blocks + size * (size_t)((first + row) * tensor->k);
        for (long i = 0; i < tensor->k; i++) memcpy(tile + size * (size_t)(i * ROWS + row), from + size * (size_t)i, size);
    }
}

/* Asks for pages of 2 MB in memory that is still untouched: a pass then looks up fewer addresses. */
static void prefer_huge_pages(const char *memory, size_t bytes) {
#ifdef __linux__
    const uintptr_t page = 1 << 21, start = (uintptr_t)memory;
    const uintptr_t first = (start + page - 1) & -page, end = (start + bytes) & -page;
    if (first < end) madvise((void *)first, end - first, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}

#define LAY_OUT(kind) \
    case kind: lay_out_block(kind, tensor, first); break

int lay_out_quants(const QuantTensor *tensor) {
    long num_tiles = (tensor->rows + ROWS - 1) / ROWS;
    prefer_huge_pages(tensor->tiles, places_of(tensor->kind, tensor->k).all * (size_t)num_tiles);
#pragma omp parallel for schedule(dynamic)
    for (long first = 0; first < tensor->rows; first += ROWS) switch (tensor->kind) {
        LAY_OUT(Q4_0);
        LAY_OUT(Q4_1);
        LAY_OUT(Q5_0);
        LAY_OUT(Q5_1);
        LAY_OUT(Q8_0);
        LAY_OUT(IQ4_NL);
        LAY_OUT(Q2_K);
        LAY_OUT(Q3_K);
        LAY_OUT(Q4_K);
        LAY_OUT(Q5_K);
        LAY_OUT(Q6_K);
        LAY_OUT(IQ4_XS);
        LAY_OUT(MXFP4);
        case F16:
        case BF16:
        case F32: lay_out_floats(tensor, first); break;
        case NUM_QUANT_KINDS: break;
    }
    return 0;
}

/* ---- Numbers of x ---- */

/* Some tokens of x, as groups: those of all tokens side by side. */
typedef struct {
    void *numbers; /* [K / 32, tokens, 32] int8 or float32 */
    float *units;  /* [K / 32, tokens] of the numbers */
    float *sums;   /* [K / 32, tokens, 3]: of all numbers, of the first 16, of the others */
} Groups;

#define ROOM(keeps_floats) (GROUP * ((keeps_floats) ? sizeof(float) : 1) + 4 * sizeof(float)) /* for a group */

/* Whole numbers that a group of x is, nearly, when counted in a unit, which is returned. What has no finite largest
 * has no unit. */
INLINE float round_group(const float *x, int8_t *to) {
    Ints most = {0};
    for (int i = 0; i < GROUP; i += LANES) {
        Ints size = *(const Ints *)(x + i) & 0x7fffffff, is_more = size > most;
        most = (size & is_more) | (most & ~is_more);
    }
    int32_t bits = 0;
    for (int i = 0; i < LANES; i++) bits = most[i] > bits ? most[i] : bits;
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    if (largest < 0x1p-100f || bits >= 0x7f800000) { /* nothing to speak of, or no number */
        memset(to, 0, GROUP);
        return bits >= 0x7f800000 ? NAN : 0;
    }
    float per_number = 127 / largest;
    const float whole = 0x1.8p23f; /* to which a number is added it becomes whole */
    for (int i = 0; i < GROUP; i += LANES) {
        Ints numbers = (Ints)(*(const Vec *)(x + i) * per_number + whole) - 0x4b400000;
        narrow_to_bytes(to + i, numbers);
    }
    return largest / 127;
}

/* `count` numbers of a token, which are a group with zeros behind them, to its place. */
static void take_group(const float *x, long count, int keeps_floats, Groups to, long index) {
    float *sums = to.sums + 3 * index;
    if (keeps_floats) {
        float *numbers = (float *)to.numbers + GROUP * index;
        memcpy(numbers, x, (size_t)count * sizeof(float));
        for (long i = count; i < GROUP; i++) numbers[i] = 0;
        to.units[index] = 1;
        sums[1] = sums[2] = 0;
        for (int i = 0; i < GROUP; i++) sums[1 + i / 16] += numbers[i];
        sums[0] = sums[1] + sums[2];
        return;
    }
    int8_t *numbers = (int8_t *)to.numbers + GROUP * index;
    float unit = round_group(x, numbers);
    int halves[2] = {0};
    for (int i = 0; i < 16; i++) halves[0] += numbers[i], halves[1] += numbers[16 + i];
    to.units[index] = unit;
    sums[0] = unit * (float)(halves[0] + halves[1]);
    sums[1] = unit * (float)halves[0];
    sums[2] = unit * (float)halves[1];
}

/* ---- Products ---- */

#if defined(__AVX512VNNI__)
#define IS_SIGNED(kind) 0
#elif defined(__AVX2__) || defined(__ARM_FEATURE_DOTPROD)
/* AVX2's sums of two products of bytes are 16 bits: those of 0 to 255 would not fit, those of -128 to 127 do. ARM
 * multiplies signed bytes by signed ones. */
#define IS_SIGNED(kind) (TRAITS[kind].bound == 255)
#else
#define IS_SIGNED(kind) 0
#endif

INLINE Ints shifted(Ints words, int left) { return left < 0 ? (Ints)((Bits)words >> -left) : words << left; }

/* Values 4 w to 4 w + 3 of a group, a byte each, for each row of a vector. */
INLINE Ints values_of(QuantKind kind, const char *group, long lane, int w) {
    const Traits t = TRAITS[kind];
    const uint32_t *plane = (const uint32_t *)group + lane;
    if (t.bytes) return *(const Ints *)(plane + w * ROWS);
    Ints values = {0};
    int lower = 0;
    if (t.nibbles) {
        values = shifted(*(const Ints *)(plane + w / 2 * ROWS), -4 * (w % 2)) & 0x0f0f0f0f;
        plane += 4 * ROWS, lower = 4;
    }
    if (t.pairs) {
        values |= shifted(*(const Ints *)(plane + w / 4 * ROWS), lower - 2 * (w % 4)) & 0x03030303 << lower;
        plane += 2 * ROWS, lower += 2;
    }
    if (t.bits) values |= shifted(*(const Ints *)plane, lower - w) & 0x01010101 << lower;
    if (!t.table) return values;
#if defined(__AVX512BW__)
    return (Ints)_mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)t.table)), (__m512i)values);
#elif defined(__AVX2__)
    return (Ints)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)t.table)), (__m256i)values);
#elif defined(__aarch64__)
    return (Ints)vqtbl1q_u8(vld1q_u8(t.table), (uint8x16_t)values);
#else
    uint8_t bytes[sizeof values];
    memcpy(bytes, &values, sizeof values);
    for (size_t i = 0; i < sizeof values; i++) bytes[i] = t.table[bytes[i]];
    memcpy(&values, bytes, sizeof values);
    return values;
#endif
}

/* Sums of 4 products of bytes, or of 2 where those of 16 bits are gathered first. */
#if !defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define GATHERS 1
typedef __m512i Words;
INLINE Words products_of(Ints values, int32_t x, int is_signed) {
    __m512i numbers = _mm512_set1_epi32(x), bytes = (__m512i)values;
    if (is_signed) {
        bytes = _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
        numbers = _mm512_mask_sub_epi8(numbers, _mm512_movepi8_mask(bytes), _mm512_setzero_si512(), numbers);
        bytes = _mm512_abs_epi8(bytes);
    }
    return _mm512_maddubs_epi16(bytes, numbers);
}
INLINE Words add_words(Words a, Words b) { return _mm512_add_epi16(a, b); }
INLINE Ints widen_words(Words a) { return (Ints)_mm512_madd_epi16(a, _mm512_set1_epi16(1)); }
#elif !defined(__AVX512VNNI__) && defined(__AVX2__)
#define GATHERS 1
typedef __m256i Words;
INLINE Words products_of(Ints values, int32_t x, int is_signed) {
    __m256i numbers = _mm256_set1_epi32(x), bytes = (__m256i)values;
    if (is_signed) {
        bytes = _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
        numbers = _mm256_sign_epi8(numbers, bytes);
        bytes = _mm256_abs_epi8(bytes);
    }
    return _mm256_maddubs_epi16(bytes, numbers);
}
INLINE Words add_words(Words a, Words b) { return _mm256_add_epi16(a, b); }
INLINE Ints widen_words(Words a) { return (Ints)_mm256_madd_epi16(a, _mm256_set1_epi16(1)); }
#else
#define GATHERS 0
#endif

INLINE int32_t word_at(const int8_t *bytes) {
    int32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* [tokens, ABREAST] sums over words `first` to `end` of a group. */
INLINE void dot_rounded(QuantKind kind, const char *group, long lane, const int8_t *x, int first, int end,
                        Ints (*dots)[ABREAST], int tokens) {
#if GATHERS
    const int bound = TRAITS[kind].bound;
    const int most = bound <= 15 ? 8 : bound <= 31 ? 4 : bound <= 63 ? 2 : 1; /* whose sums fit 16 bits */
    const int step = most < end - first ? most : end - first;
#pragma GCC unroll 8
    for (int from = first; from < end; from += step) {
        Words sums[AT_ONCE][ABREAST];
#pragma GCC unroll 8
        for (int w = from; w < from + step; w++)
#pragma GCC unroll 2
            for (int v = 0; v < ABREAST; v++) {
                Ints values = values_of(kind, group, lane + v * LANES, w);
#pragma GCC unroll 8
                for (int t = 0; t < tokens; t++) {
                    Words products = products_of(values, word_at(x + t * GROUP + 4 * w), IS_SIGNED(kind));
                    sums[t][v] = w == from ? products : add_words(sums[t][v], products);
                }
            }
#pragma GCC unroll 8
        for (int t = 0; t < tokens; t++)
#pragma GCC unroll 2
            for (int v = 0; v < ABREAST; v++)
                dots[t][v] = from == first ? widen_words(sums[t][v]) : dots[t][v] + widen_words(sums[t][v]);
    }
#else
    for (int t = 0; t < tokens; t++)
        for (int v = 0; v < ABREAST; v++) dots[t][v] = (Ints){0};
#pragma GCC unroll 8
    for (int w = first; w < end; w++)
#pragma GCC unroll 2
        for (int v = 0; v < ABREAST; v++) {
            Ints values = values_of(kind, group, lane + v * LANES, w);
            if (IS_SIGNED(kind)) values ^= (int32_t)0x80808080;
#pragma GCC unroll 8
            for (int t = 0; t < tokens; t++) {
                const int8_t *numbers = x + t * GROUP + 4 * w;
#if defined(__AVX512VNNI__)
                dots[t][v] = (Ints)_mm512_dpbusd_epi32((__m512i)dots[t][v], (__m512i)values,
                                                       _mm512_set1_epi32(word_at(numbers)));
#elif defined(__ARM_FEATURE_DOTPROD)
                dots[t][v] = (Ints)vdotq_s32((int32x4_t)dots[t][v], (int8x16_t)values,
                                             (int8x16_t)vdupq_n_s32(word_at(numbers)));
#else
                for (int i = 0; i < 4; i++) dots[t][v] += (values >> 8 * i & 255) * numbers[i];
#endif
            }
        }
#endif
}

INLINE void dot_floats(QuantKind kind, const char *group, long lane, const float *x, int first, int end,
                       Vec (*dots)[ABREAST], int tokens) {
    for (int t = 0; t < tokens; t++)
        for (int v = 0; v < ABREAST; v++) dots[t][v] = (Vec){0};
    for (int w = first; w < end; w++)
        for (int v = 0; v < ABREAST; v++) {
            Ints words = values_of(kind, group, lane + v * LANES, w);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                Vec values = __builtin_convertvector((words >> 8 * i & 255) - TRAITS[kind].offset, Vec);
#pragma GCC unroll 8
                for (int t = 0; t < tokens; t++) dots[t][v] += values * x[t * GROUP + 4 * w + i];
            }
        }
}

INLINE Vec signed_bytes(const char *bytes) { return __builtin_convertvector(widen_signed_bytes((const int8_t *)bytes), Vec); }
INLINE Vec unsigned_bytes(const char *bytes) { return __builtin_convertvector(widen_bytes((const uint8_t *)bytes), Vec); }

/* Numbers of a tensor of floats, or factors of 16 bits. */
INLINE Vec floats_at(QuantKind kind, const char *place) {
    if (TRAITS[kind].float_bytes == 4) return *(const Vec *)place;
    return TRAITS[kind].is_bfloat ? (Vec)(widen((const uint16_t *)place) << 16) : widen_float16((const uint16_t *)place);
}

/* Weights lie in the order of their use. They go to a core's second cache: the first one can wait for too little at a
 * time to take all that memory gives. */
INLINE void ask_ahead(const char *weights, size_t bytes) {
    for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(weights + AHEAD + line, 0, 2);
}

/* Of ABREAST vectors of rows. */
typedef struct {
    Vec scales[ABREAST], minimums[ABREAST];
} Factors;

/* What all parts of a block share. */
INLINE Factors shared_factors(QuantKind kind, const Places *p, const char *block, long lane) {
    Factors factors;
    for (int v = 0; v < ABREAST; v++) {
        const char *place = block + (size_t)(lane + v * LANES) * sizeof(uint16_t);
        factors.scales[v] = floats_at(kind, place + p->scales);
        if (TRAITS[kind].has_minimums) factors.minimums[v] = floats_at(kind, place + p->minimums);
    }
    return factors;
}

/* Of one part; where there are no minimums, `offset` values are one. */
INLINE Factors own_factors(QuantKind kind, const Places *p, const char *block, long lane, int part, Factors factors) {
    const Traits *traits = &TRAITS[kind];
    for (int v = 0; v < ABREAST; v++) {
        const char *place = block + part * ROWS + lane + v * LANES;
        if (traits->parts) factors.scales[v] *= signed_bytes(place + p->part_scales);
        if (!traits->has_minimums)
            factors.minimums[v] = factors.scales[v] * (float)traits->offset;
        else if (traits->parts)
            factors.minimums[v] *= unsigned_bytes(place + p->part_minimums);
        else
            factors.minimums[v] = -factors.minimums[v]; /* which are added in a file */
    }
    return factors;
}

/* ABREAST vectors of rows, from row `lane` on, against some tokens. */
INLINE void multiply_rows(QuantKind kind, int keeps_floats, const char *block, long k, long lane, Groups x,
                          float (*sums)[ROWS], int tokens) {
    const Traits traits = TRAITS[kind];
    const Places p = places_of(kind, k);
    const int parts = traits.parts > 1 ? traits.parts : 1, words = WORDS / parts, groups = traits.block_columns / GROUP;
    const int subtracts = traits.has_minimums || (!keeps_floats && !IS_SIGNED(kind));
    Vec totals[AT_ONCE][ABREAST] = {{{0}}};
    for (long g = 0; g < k / GROUP; block += p.block) {
        const Factors shared = shared_factors(kind, &p, block, lane);
        ask_ahead(block + p.scales, p.block - p.scales);
        for (int i = 0; i < groups; i++, g++) {
            const char *group = block + (size_t)i * p.group_bytes;
            ask_ahead(group, p.group_bytes);
#pragma GCC unroll 2
            for (int part = 0; part < parts; part++) {
                const Factors own = own_factors(kind, &p, block, lane, i * parts + part, shared);
                const int first = part * words, end = first + words;
                Vec dots[AT_ONCE][ABREAST];
                if (keeps_floats)
                    dot_floats(kind, group, lane, (const float *)x.numbers + g * tokens * GROUP, first, end, dots, tokens);
                else {
                    Ints wholes[AT_ONCE][ABREAST];
                    dot_rounded(kind, group, lane, (const int8_t *)x.numbers + g * tokens * GROUP, first, end, wholes, tokens);
#pragma GCC unroll 8
                    for (int t = 0; t < tokens; t++)
                        for (int v = 0; v < ABREAST; v++) dots[t][v] = __builtin_convertvector(wholes[t][v], Vec);
                }
#pragma GCC unroll 8
                for (int t = 0; t < tokens; t++)
                    for (int v = 0; v < ABREAST; v++) {
                        totals[t][v] += own.scales[v] * x.units[g * tokens + t] * dots[t][v];
                        if (subtracts)
                            totals[t][v] -= own.minimums[v] * x.sums[(g * tokens + t) * 3 + (parts == 1 ? 0 : 1 + part)];
                    }
            }
        }
    }
    for (int t = 0; t < tokens; t++)
        for (int v = 0; v < ABREAST; v++) *(Vec *)(sums[t] + lane + v * LANES) = totals[t][v];
}

/* The same with floats. */
INLINE void multiply_float_rows(QuantKind kind, const char *block, long k, long lane, Groups x, float (*sums)[ROWS],
                                int tokens) {
    const long size = TRAITS[kind].float_bytes;
    Vec totals[FLOATS_AT_ONCE][ABREAST] = {{{0}}};
    for (long g = 0; g < groups_of(k); g++) {
        const float *numbers = (const float *)x.numbers + g * tokens * GROUP;
        Vec dots[FLOATS_AT_ONCE][ABREAST];
        for (int t = 0; t < tokens; t++)
            for (int v = 0; v < ABREAST; v++) dots[t][v] = (Vec){0};
#pragma GCC unroll 32
        for (int i = 0; i < GROUP; i++) {
            const char *column = block + ((g * GROUP + i) * ROWS + lane) * size;
            ask_ahead(column, 1);
            Vec values[ABREAST];
            for (int v = 0; v < ABREAST; v++) values[v] = floats_at(kind, column + v * LANES * size);
#pragma GCC unroll 8
            for (int t = 0; t < tokens; t++)
                for (int v = 0; v < ABREAST; v++) dots[t][v] += values[v] * numbers[t * GROUP + i];
        }
        for (int t = 0; t < tokens; t++)
            for (int v = 0; v < ABREAST; v++) totals[t][v] += dots[t][v];
    }
    for (int t = 0; t < tokens; t++)
        for (int v = 0; v < ABREAST; v++) *(Vec *)(sums[t] + lane + v * LANES) = totals[t][v];
}

/* A kind as a function, with a loop for each number of tokens, so that their sums stay in registers. */
typedef void (*QuantKernel)(const char *block, long k, Groups x, float (*sums)[ROWS], long tokens);

#define LOOP(kind, count) \
    case count: multiply_rows(kind, 0, block, k, lane, x, sums, count); break
#define FLOATS(kind, count) \
    case count: multiply_rows(kind, 1, block, k, lane, x, sums, count); break
#define FOUR_LOOPS(kind) LOOP(kind, 1); LOOP(kind, 2); LOOP(kind, 3); LOOP(kind, 4)
#if LANES == 16
#define LOOPS(kind) FOUR_LOOPS(kind); LOOP(kind, 5); LOOP(kind, 6); LOOP(kind, 7); LOOP(kind, 8)
#else
#define LOOPS FOUR_LOOPS
#endif
#define FLOAT_LOOP(kind, count) \
    case count: multiply_float_rows(kind, block, k, lane, x, sums, count); break
#define FUNCTION(way, kind, ...)                                                                            \
    static void way##_##kind(const char *block, long k, Groups x, float (*sums)[ROWS], long tokens) {       \
        for (long lane = 0; lane < ROWS; lane += ABREAST * LANES) switch (tokens) { __VA_ARGS__; }          \
    }
#define FLOAT_FUNCTION(kind, loop) FUNCTION(floats, kind, loop(kind, 1); loop(kind, 2); loop(kind, 4))
#define KERNELS(kind)                    \
    FUNCTION(rounded, kind, LOOPS(kind)) \
    FLOAT_FUNCTION(kind, FLOATS)

KERNELS(Q4_0)
KERNELS(Q4_1)
KERNELS(Q5_0)
KERNELS(Q5_1)
KERNELS(Q8_0)
KERNELS(IQ4_NL)
KERNELS(Q2_K)
KERNELS(Q3_K)
KERNELS(Q4_K)
KERNELS(Q5_K)
KERNELS(Q6_K)
KERNELS(IQ4_XS)
KERNELS(MXFP4)

FLOAT_FUNCTION(F16, FLOAT_LOOP)
FLOAT_FUNCTION(BF16, FLOAT_LOOP)
FLOAT_FUNCTION(F32, FLOAT_LOOP)

#define PAIR(kind) [kind] = {rounded_##kind, floats_##kind}
#define FLOATS_ONLY(kind) [kind] = {floats_##kind, floats_##kind}
static const QuantKernel KERNEL_OF[NUM_QUANT_KINDS][2] = {
    PAIR(Q4_0), PAIR(Q4_1), PAIR(Q5_0), PAIR(Q5_1), PAIR(Q8_0), PAIR(IQ4_NL),
    PAIR(Q2_K), PAIR(Q3_K), PAIR(Q4_K), PAIR(Q5_K), PAIR(Q6_K), PAIR(IQ4_XS),
    PAIR(MXFP4), FLOATS_ONLY(F16), FLOATS_ONLY(BF16), FLOATS_ONLY(F32),
};

static long blocks_of(const QuantPart *part) { return (part->rows + ROWS - 1) / ROWS; }

static int takes_floats(const QuantParts *parts, const QuantPart *part) {
    return parts->keeps_floats || TRAITS[part->kind].float_bytes;
}

/* Of those that are left. */
static long at_once(long tokens, int keeps_floats) {
    if (keeps_floats) return tokens >= FLOATS_AT_ONCE ? FLOATS_AT_ONCE : tokens > 1 ? 2 : 1;
    return tokens < AT_ONCE ? tokens : AT_ONCE;
}

/* At most PANEL tokens in one of two forms, rounded or as floats, in runs of as many as are multiplied at once. */
typedef struct {
    int keeps_floats;
    long groups, num_runs, starts[PANEL + 1];
    char *numbers;
    float *units, *sums;
} Form;

static size_t form_bytes(int keeps_floats, long tokens, long k) { return ROOM(keeps_floats) * (size_t)(tokens * groups_of(k)); }

static Form form_of(int keeps_floats, long tokens, long k, char *room) {
    Form form = {.keeps_floats = keeps_floats, .groups = groups_of(k), .numbers = room};
    for (long start = 0; start < tokens; start += at_once(tokens - start, keeps_floats)) form.starts[form.num_runs++] = start;
    form.starts[form.num_runs] = tokens;
    form.units = (float *)(room + GROUP * (keeps_floats ? sizeof(float) : 1) * (size_t)(tokens * form.groups));
    form.sums = form.units + tokens * form.groups;
    return form;
}

static long count_of(const Form *form, long run) { return form->starts[run + 1] - form->starts[run]; }

static Groups groups_at(const Form *form, long run) {
    long place = form->starts[run] * form->groups;
    size_t number_bytes = GROUP * (form->keeps_floats ? sizeof(float) : 1);
    return (Groups){form->numbers + number_bytes * (size_t)place, form->units + place, form->sums + 3 * place};
}

/* One block of 16 rows, of any part, with all tokens: sums, and the bias, to their places in y. */
static void multiply_block(const GroupMatrix *matrix, long index, const Form *forms, float *y) {
    const QuantParts *parts = matrix->tiles;
    const QuantPart *part = parts->parts;
    long start = 0; /* row of the matrix where the part begins */
    while (index >= blocks_of(part)) index -= blocks_of(part), start += part->rows, part++;
    long first = index * ROWS, rows = part->rows - first < ROWS ? part->rows - first : ROWS;
    const char *block = part->tiles + places_of(part->kind, matrix->k).all * (size_t)index;
    const Form *form = &forms[takes_floats(parts, part)];
    for (long run = 0; run < form->num_runs; run++) {
        float sums[AT_ONCE][ROWS];
        KERNEL_OF[part->kind][form->keeps_floats](block, matrix->k, groups_at(form, run), sums, count_of(form, run));
        for (long t = 0; t < count_of(form, run); t++) {
            float *to = y + (form->starts[run] + t) * matrix->n + start + first;
            for (long row = 0; row < rows; row++)
                to[row] = sums[t][row] + (matrix->bias ? matrix->bias[start + first + row] : 0);
        }
    }
}

/* At most PANEL tokens. Forms without runs are of no use to any part. */
static void multiply_panel(const GroupMatrix *matrix, const float *x, float *y, const Form *forms) {
    const QuantParts *parts = matrix->tiles;
    long k = matrix->k, groups = groups_of(k), num_blocks = 0;
    for (int i = 0; i < parts->num_parts; i++) num_blocks += blocks_of(&parts->parts[i]);
#pragma omp parallel if (num_blocks * ROWS * k > PARALLEL_FROM)
    {
        for (const Form *form = forms; form < forms + 2; form++)
            for (long run = 0; run < form->num_runs; run++) {
                long start = form->starts[run], count = count_of(form, run);
                Groups to = groups_at(form, run);
#pragma omp for schedule(static) nowait
                for (long g = 0; g < groups; g++)
                    for (long t = 0; t < count; t++)
                        take_group(x + (start + t) * k + g * GROUP, g + 1 < groups ? GROUP : k - g * GROUP,
                                   form->keeps_floats, to, g * count + t);
            }
#pragma omp barrier
#pragma omp for schedule(static)
        for (long block = 0; block < num_blocks; block++) multiply_block(matrix, block, forms, y);
    }
}

int multiply_quants(const Product *product) {
    const GroupMatrix *matrix = product->matrix;
    const QuantParts *parts = matrix->tiles;
    if (product->x_dtype != FLOAT32 || product->y_dtype != FLOAT32) return NO_KERNEL;
    long k = matrix->k, tokens = product->num_tokens, most = tokens < PANEL ? tokens : PANEL;
    int is_used[2] = {0};
    for (int i = 0; i < parts->num_parts; i++) is_used[takes_floats(parts, &parts->parts[i])] = 1;
    char *room = malloc(form_bytes(0, is_used[0] * most, k) + form_bytes(1, is_used[1] * most, k) + 1);
    if (!room) return -1;
    for (long start = 0; start < tokens; start += PANEL) {
        long count = tokens - start < PANEL ? tokens - start : PANEL;
        Form rounded = form_of(0, is_used[0] * count, k, room);
        Form forms[2] = {rounded, form_of(1, is_used[1] * count, k, room + form_bytes(0, is_used[0] * count, k))};
        multiply_panel(matrix, (const float *)product->x + start * k, (float *)product->y + start * matrix->n, forms);
    }
    free(room);
    return 0;
}
