/* How the structures that Python fills in lie in memory.
 *
 * structures.py mirrors them. Both are compared, field by field, when the extension is loaded: one that was built
 * from other sources is refused there, and not found out by what it makes of a pass.
 */

#include "layouts.h"

#include "attention.h"
#include "groups.h"
#include "layers.h"
#include "quants.h"
#include "rows.h"
#include "steps.h"
#include "threads.h"

#define HAS(field) {#field, offsetof(OF, field), sizeof(((OF *)0)->field)}

#define OF Norm
static const Field norm_fields[] = {
    HAS(x), HAS(delta), HAS(weight), HAS(y), HAS(dtype), HAS(eps), HAS(rows), HAS(n), {0},
};
#undef OF
#define OF PostNorm
static const Field post_norm_fields[] = {HAS(y), HAS(weight), HAS(dtype), HAS(eps), HAS(rows), HAS(n), {0}};
#undef OF
#define OF Gate
static const Field gate_fields[] = {HAS(gate_up), HAS(y), HAS(dtype), HAS(is_gelu), HAS(rows), HAS(n), {0}};
#undef OF
#define OF Softcap
static const Field softcap_fields[] = {HAS(x), HAS(cap), HAS(n), {0}};
#undef OF
#define OF RotaryEmbedding
static const Field rotary_embedding_fields[] = {
    HAS(positions), HAS(frequencies), HAS(rotation), HAS(scale), HAS(num_tokens), HAS(num_pairs), {0},
};
#undef OF
#define OF Rope
static const Field rope_fields[] = {
    HAS(num_tokens), HAS(num_heads), HAS(num_kv_heads), HAS(head_dim), HAS(dtype), HAS(kv_dtype), HAS(qkv),
    HAS(rotation), HAS(norm), HAS(eps), HAS(scale), HAS(slots), HAS(queries), HAS(keys), HAS(values), {0},
};
#undef OF
#define OF Attention
static const Field attention_fields[] = {
    HAS(num_heads), HAS(num_kv_heads), HAS(head_dim), HAS(dtype), HAS(kv_dtype), HAS(queries), HAS(keys),
    HAS(values), HAS(positions), HAS(window), HAS(softcap), HAS(starts), HAS(tables), HAS(num_sequences), HAS(width), HAS(out), {0},
};
#undef OF
#define OF GroupMatrix
static const Field matrix_fields[] = {
    HAS(format), HAS(tiles), HAS(unit), HAS(bias), HAS(n), HAS(k), {0},
};
#undef OF
#define OF Product
static const Field product_fields[] = {
    HAS(matrix), HAS(x), HAS(y), HAS(x_dtype), HAS(y_dtype), HAS(num_tokens), {0},
};
#undef OF
#define OF QuantTensor
static const Field quant_tensor_fields[] = {HAS(kind), HAS(blocks), HAS(rows), HAS(k), HAS(tiles), {0}};
#undef OF
#define OF QuantPart
static const Field quant_part_fields[] = {HAS(kind), HAS(tiles), HAS(rows), {0}};
#undef OF
#define OF QuantParts
static const Field quant_parts_fields[] = {HAS(num_parts), HAS(keeps_floats), HAS(parts), {0}};
#undef OF
#define OF Layer
static const Field layer_fields[] = {
    HAS(attention_norm), HAS(mlp_norm), HAS(qk_norm), HAS(post_attention_norm), HAS(post_mlp_norm),
    HAS(attention_eps), HAS(mlp_eps), HAS(qk_eps), HAS(post_attention_eps), HAS(post_mlp_eps), HAS(rope), HAS(window),
    HAS(keys), HAS(values), HAS(qkv), HAS(out), HAS(gate_up), HAS(down), {0},
};
#undef OF
#define OF Stack
static const Field stack_fields[] = {
    HAS(num_heads), HAS(num_kv_heads), HAS(head_dim), HAS(hidden_size), HAS(intermediate_size), HAS(scale),
    HAS(softcap), HAS(is_gelu), HAS(dtype), HAS(kv_dtype), HAS(num_layers), HAS(layers), {0},
};
#undef OF
#define OF Pass
static const Field pass_fields[] = {
    HAS(stack), HAS(num_tokens), HAS(num_sequences), HAS(width), HAS(rotations), HAS(positions), HAS(slots),
    HAS(starts), HAS(tables), HAS(x), HAS(delta), HAS(out), {0},
};
#undef OF
#define OF Shape
static const Field shape_fields[] = {HAS(temperature), HAS(top_k), HAS(top_p), HAS(min_p), {0}};
#undef OF
#define OF Shaping
static const Field shaping_fields[] = {HAS(logits), HAS(probs), HAS(shapes), HAS(rows), HAS(n), {0}};
#undef OF
#define OF Top
static const Field top_fields[] = {HAS(probs), HAS(top_probs), HAS(top_ids), HAS(rows), HAS(n), HAS(count), {0}};
#undef OF
#define OF Choice
static const Field choice_fields[] = {HAS(probs), HAS(keys), HAS(ids), HAS(rows), HAS(n), {0}};
#undef OF
#define OF Measuring
static const Field measuring_fields[] = {
    HAS(probs), HAS(rows), HAS(n), HAS(bounds), HAS(supports), HAS(uniforms), HAS(keys), HAS(on_support),
    HAS(tail_masses), HAS(tail_probs), HAS(tail_ids), HAS(greedy_ids), {0},
};
#undef OF
#define OF Binding
static const Field binding_fields[] = {HAS(cpus), HAS(count), {0}};
#undef OF

#define LAYOUT(type, fields) {#type, sizeof(type), fields}
const Layout layouts[] = {
    LAYOUT(Norm, norm_fields), LAYOUT(PostNorm, post_norm_fields), LAYOUT(Gate, gate_fields),
    LAYOUT(Softcap, softcap_fields), LAYOUT(RotaryEmbedding, rotary_embedding_fields), LAYOUT(Rope, rope_fields),
    LAYOUT(Attention, attention_fields), LAYOUT(GroupMatrix, matrix_fields), LAYOUT(Product, product_fields),
    LAYOUT(QuantTensor, quant_tensor_fields), LAYOUT(QuantPart, quant_part_fields),
    LAYOUT(QuantParts, quant_parts_fields), LAYOUT(Layer, layer_fields), LAYOUT(Stack, stack_fields),
    LAYOUT(Pass, pass_fields), LAYOUT(Shape, shape_fields), LAYOUT(Shaping, shaping_fields), LAYOUT(Top, top_fields), LAYOUT(Choice, choice_fields),
    LAYOUT(Measuring, measuring_fields), LAYOUT(Binding, binding_fields), {0},
};
