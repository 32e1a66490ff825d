/* Vectors of float16 numbers. */

#ifndef FORETHOUGHT_FLOAT16_H
#define FORETHOUGHT_FLOAT16_H

#include "vectors.h"

INLINE Vec widen_float16(const uint16_t *numbers) {
#if defined(__AVX512F__)
    return (Vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)numbers));
#elif defined(__AVX2__)
    return (Vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)numbers));
#elif defined(__aarch64__)
    return (Vec)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(numbers)));
#else
    /* Of finite numbers: the bits in their places, times what the exponents' offsets differ by. */
    Bits bits = widen(numbers);
    return (Vec)((Bits)((Vec)((bits & 0x7fff) << 13) * 0x1p112f) | (bits & 0x8000) << 16);
#endif
}

#endif
