/* Vectors as wide as the machine's, and what all kernels do with them. */

#ifndef FORETHOUGHT_VECTORS_H
#define FORETHOUGHT_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define BLOCK 16 /* tokens in a block of the pool; a vector's numbers, or several of its vectors' */
#define PARALLEL_FROM 32768 /* numbers, below which waking a thread costs more than it saves */

/* Wider ones than the machine has are taken apart through memory by some compilers. */
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif
#define VECTORS (BLOCK / LANES) /* of a block */

typedef float Vec __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint16_t Shorts __attribute__((vector_size(2 * LANES), aligned(2)));
typedef int16_t SignedShorts __attribute__((vector_size(2 * LANES), aligned(2)));
typedef uint8_t Bytes __attribute__((vector_size(LANES), aligned(1)));
typedef int8_t SignedBytes __attribute__((vector_size(LANES), aligned(1)));

typedef enum { FLOAT32, BFLOAT16, NUM_DTYPES } Dtype;

static inline size_t size_of(Dtype dtype) { return dtype == BFLOAT16 ? 2 : 4; }

/* Compilers widen and narrow vectors one number at a time unless they are told how. */
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
static inline Bits widen(const uint16_t *numbers) {
#if defined(__AVX512F__)
    return (Bits)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)numbers));
#elif defined(__AVX2__)
    return (Bits)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)numbers));
#else
    return __builtin_convertvector(*(const Shorts *)numbers, Bits);
#endif
}

/* The lower halves of numbers. */
static inline void narrow(uint16_t *numbers, Bits bits) {
#if defined(__AVX512F__)
    _mm256_storeu_si256((__m256i *)numbers, _mm512_cvtepi32_epi16((__m512i)bits));
#elif defined(__AVX2__)
    __m256i lower = (__m256i)(bits & 0xffffu);
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(lower, lower), 0x08);
    _mm_storeu_si128((__m128i *)numbers, _mm256_castsi256_si128(packed));
#else
    *(Shorts *)numbers = __builtin_convertvector(bits, Shorts);
#endif
}

static inline Ints widen_signed(const int16_t *numbers) {
#if defined(__AVX512F__)
    return (Ints)_mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)numbers));
#elif defined(__AVX2__)
    return (Ints)_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)numbers));
#else
    return __builtin_convertvector(*(const SignedShorts *)numbers, Ints);
#endif
}

static inline Ints widen_bytes(const uint8_t *numbers) {
#if defined(__AVX512F__)
    return (Ints)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)numbers));
#elif defined(__AVX2__)
    return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)numbers));
#else
    return __builtin_convertvector(*(const Bytes *)numbers, Ints);
#endif
}

static inline Ints widen_signed_bytes(const int8_t *numbers) {
#if defined(__AVX512F__)
    return (Ints)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)numbers));
#elif defined(__AVX2__)
    return (Ints)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)numbers));
#else
    return __builtin_convertvector(*(const SignedBytes *)numbers, Ints);
#endif
}

/* Of numbers from -128 to 127. */
static inline void narrow_to_bytes(int8_t *to, Ints numbers) {
#if defined(__AVX512F__)
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8((__m512i)numbers));
#elif defined(__AVX2__)
    __m256i words = _mm256_packs_epi32((__m256i)numbers, (__m256i)numbers), bytes = _mm256_packs_epi16(words, words);
    _mm_storel_epi64((__m128i *)to, _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)));
#else
    *(SignedBytes *)to = __builtin_convertvector(numbers, SignedBytes);
#endif
}

static inline Vec load(const void *base, size_t index, Dtype dtype) {
    if (dtype == FLOAT32) return *(const Vec *)((const float *)base + index);
    return (Vec)(widen((const uint16_t *)base + index) << 16);
}

/* To the nearest bfloat16, ties to even; what is not a number stays none. */
static inline uint16_t round_to_bfloat16(float number) {
    uint32_t bits;
    memcpy(&bits, &number, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static inline void store(void *base, size_t index, Dtype dtype, Vec numbers) {
    if (dtype == FLOAT32) {
        *(Vec *)((float *)base + index) = numbers;
        return;
    }
    Bits bits = (Bits)numbers, none = (Bits)((bits & 0x7fffffffu) > 0x7f800000u);
    Bits rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    narrow((uint16_t *)base + index, (rounded & ~none) | ((bits >> 16 | 0x40u) & none));
}

static inline float load_one(const void *base, size_t index, Dtype dtype) {
    if (dtype == FLOAT32) return ((const float *)base)[index];
    uint32_t bits = (uint32_t)((const uint16_t *)base)[index] << 16;
    float number;
    memcpy(&number, &bits, 4);
    return number;
}

static inline void store_one(void *base, size_t index, Dtype dtype, float number) {
    if (dtype == FLOAT32)
        ((float *)base)[index] = number;
    else
        ((uint16_t *)base)[index] = round_to_bfloat16(number);
}

static inline float sum_of(Vec v) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}

static inline Vec larger(Vec a, Vec b) {
    Ints is_more = b > a;
    return (Vec)(((Ints)b & is_more) | ((Ints)a & ~is_more));
}

/* e^x within 2e-7 of itself, for x <= 0: 2^n of whole n, times a polynomial on [-ln2/2, ln2/2].
 * Below -87 it is 0. What is not a number stays none. */
static inline Vec exp_of_negative(Vec x) {
    Ints whole = __builtin_convertvector(x * 1.44269504f - 0.5f, Ints);
    Vec n = __builtin_convertvector(whole, Vec);
    Vec f = x - n * 0.693359375f + n * 2.12194440e-4f;
    Vec p = 1.0f + f * (1.0f + f * (0.5f + f * (1.6666666e-1f + f * (4.1665796e-2f +
            f * (8.3334519e-3f + f * 1.3981999e-3f)))));
    Vec power = (Vec)((whole + 127) << 23);
    return (Vec)((Ints)(p * power) & ~(x < -87.0f));
}

/* Within 3e-7 of itself. What is not a number stays none. */
static inline Vec tanh_of(Vec x) {
    Vec size = (Vec)((Ints)x & 0x7fffffff), square = x * x;
    Vec power = exp_of_negative(-2.0f * size), large = (1.0f - power) / (1.0f + power);
    Vec small = size * (1.0f + square * (-0.33333334f + square * (0.13333334f + square * (-5.3968254e-2f +
                square * 2.1869488e-2f))));
    Ints is_small = size < 0.3f, sign = (Ints)x & (int32_t)0x80000000;
    return (Vec)(((Ints)small & is_small) | ((Ints)large & ~is_small) | sign);
}

#endif
