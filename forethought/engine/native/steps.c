/* What stands between the products of a decoder, on a CPU.
 *
 * A pass over a few tokens of a small model is hundreds of small operations. As tensor operations
 * each costs some microseconds before any work. Here each step between two products is one function; attention
 * has a file of its own.
 *
 * Callers vouch for what lies at the addresses that they pass. Activations are float32 or bfloat16, as the
 * neighbouring product wants them. All arithmetic is float32.
 *
 * Letters: T tokens, N width, H query heads, J key-value heads, D head size (a multiple of 16).
 *
 * Threads are those of OpenMP, which torch has started already. What a thread computes never
 * depends on how many there are.
 */

#include "steps.h"

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

/* y = y / sqrt(mean(y^2) + eps) * weight, of one row. */
static void post_norm_row(void *y, const float *weight, Dtype dtype, long n, float eps) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < n; i++) sum += load_one(y, i, dtype) * load_one(y, i, dtype);
    float factor = 1.0f / sqrtf(sum / (float)n + eps);
#pragma omp simd
    for (long i = 0; i < n; i++) store_one(y, i, dtype, load_one(y, i, dtype) * factor * weight[i]);
}

/* gate * sigmoid(gate) * up, of one row: gate and up side by side, [2 N] -> [N]; N is a multiple of 16. The tanh of
 * gelu is a sigmoid too:  (1 + tanh(u)) / 2 = sigmoid(2 u). */
INLINE void gate_row(const void *gate_up, void *y, Dtype dtype, int is_gelu, long n) {
    for (long i = 0; i < n; i += LANES) {
        Vec gate = load(gate_up, (size_t)i, dtype), up = load(gate_up, (size_t)(n + i), dtype);
        Vec bent = is_gelu ? gate * (1.5957691f + 0.071354814f * gate * gate) : gate; /* 2 sqrt(2 / pi) (g + 0.044715 g^3) */
        Ints is_negative = bent < 0.0f;
        Vec size = (Vec)((Ints)bent & 0x7fffffff);
        Vec power = exp_of_negative(-size); /* e^-|g|: a sigmoid without overflow */
        Vec one = (Vec){0} + 1.0f;
        Vec above = (Vec)(((Ints)power & is_negative) | ((Ints)one & ~is_negative));
        store(y, (size_t)i, dtype, gate * above / (1.0f + power) * up);
    }
}

/* One token: q, k and v from their product, rotated, q to its buffer, k and v to the pool. */
static void rotate_token(const Rope *rope, long token) {
    long dim = rope->head_dim, heads = rope->num_heads, kv_heads = rope->num_kv_heads;
    const float *rotation = rope->rotation + token * dim;
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
                head[d] = a * rotation[d] - b * rotation[d + 1];
                head[d + 1] = a * rotation[d + 1] + b * rotation[d];
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

int post_norm(const PostNorm *of) {
    long rows = of->rows, n = of->n;
#pragma omp parallel for if (rows * n > PARALLEL_FROM)
    for (long r = 0; r < rows; r++)
        post_norm_row(of->y + (size_t)(r * n) * size_of(of->dtype), of->weight, of->dtype, n, of->eps);
    return 0;
}

int softcap(const Softcap *of) {
    long n = of->n;
#pragma omp parallel for if (n > PARALLEL_FROM)
    for (long i = 0; i < n; i += LANES) {
        float numbers[LANES] = {0};
        size_t bytes = sizeof(float) * (size_t)(n - i < LANES ? n - i : LANES);
        memcpy(numbers, of->x + i, bytes);
        *(Vec *)numbers = of->cap * tanh_of(*(Vec *)numbers / of->cap);
        memcpy(of->x + i, numbers, bytes);
    }
    return 0;
}

int gate(const Gate *of) {
    long rows = of->rows, n = of->n;
#pragma omp parallel for if (rows * n > PARALLEL_FROM)
    for (long r = 0; r < rows; r++) {
        size_t place = (size_t)(r * n) * size_of(of->dtype);
        if (of->is_gelu)
            gate_row(of->gate_up + 2 * place, of->y + place, of->dtype, 1, n);
        else
            gate_row(of->gate_up + 2 * place, of->y + place, of->dtype, 0, n);
    }
    return 0;
}

int rotary_embedding(const RotaryEmbedding *of) {
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
