/* All layers of a decoder in one call.
 *
 * What a layer does is some ten steps. Called one by one from Python, those of SmolLM2-135M in 4 bits
 * make a pass over one token a fifth longer. The steps are those of steps.c and groups.c, so the numbers are
 * the same to the last bit, whoever calls them.
 */

#include "layers.h"

#include "steps.h"

static long larger_of(long a, long b) { return a > b ? a : b; }

/* Room for what one pass has between two steps. */
typedef struct {
    char *narrow;   /* [T, what goes into the widest product] */
    char *wide;     /* [T, what comes out of it] */
    float *queries; /* [T, H, D] */
} Room;

static int attend_to_context(const Stack *s, const Layer *layer, const Pass *pass, const Room *room) {
    Rope rope = {
        .num_heads = s->num_heads, .num_kv_heads = s->num_kv_heads, .head_dim = s->head_dim,
        .dtype = s->dtype, .kv_dtype = s->kv_dtype, .qkv = room->wide, .rotation = pass->rotation,
        .norm = layer->qk_norm, .eps = layer->qk_eps, .scale = s->scale,
        .slots = pass->slots, .queries = room->queries, .keys = layer->keys, .values = layer->values,
    };
    Attention attention = {
        .num_heads = s->num_heads, .num_kv_heads = s->num_kv_heads, .head_dim = s->head_dim,
        .dtype = s->dtype, .kv_dtype = s->kv_dtype, .queries = room->queries, .keys = layer->keys,
        .values = layer->values, .positions = pass->positions, .window = layer->window,
    };
    rotate(&rope, pass->num_tokens);
    return attend(attention, pass->starts, pass->tables, pass->num_sequences, pass->width, room->narrow);
}

/* x += delta; delta = what the layer makes of x. */
static int run_layer(const Stack *s, const Layer *layer, const Pass *pass, const Room *room, char *x,
                     const char *delta, char *out) {
    long tokens = pass->num_tokens, hidden = s->hidden_size;
    Dtype dtype = s->dtype;
#define MULTIPLY(matrix, from, to) multiply_groups(&layer->matrix, from, dtype, to, dtype, tokens)
    norm(x, delta, layer->attention_norm, room->narrow, dtype, tokens, hidden, layer->attention_eps);
    if (MULTIPLY(qkv, room->narrow, room->wide)) return -1;
    if (attend_to_context(s, layer, pass, room)) return -1;
    if (MULTIPLY(out, room->narrow, out)) return -1;
    norm(x, out, layer->mlp_norm, room->narrow, dtype, tokens, hidden, layer->mlp_eps);
    if (MULTIPLY(gate_up, room->narrow, room->wide)) return -1;
    gate(room->wide, room->narrow, dtype, tokens, s->intermediate_size);
    return MULTIPLY(down, room->narrow, out);
#undef MULTIPLY
}

int run_layers(const Stack *s, const Pass *pass, char *x, const char *delta, char *out) {
    long heads = s->num_heads * s->head_dim, wide = (s->num_heads + 2 * s->num_kv_heads) * s->head_dim;
    size_t tokens = (size_t)pass->num_tokens, bytes = size_of(s->dtype) * tokens;
    size_t narrow_bytes = bytes * (size_t)larger_of(s->hidden_size, larger_of(heads, s->intermediate_size));
    size_t wide_bytes = bytes * (size_t)larger_of(wide, 2 * s->intermediate_size);
    size_t query_bytes = sizeof(float) * tokens * (size_t)heads;
    char *room = malloc(query_bytes + narrow_bytes + wide_bytes);
    if (!room) return -1;
    Room parts = {room + query_bytes, room + query_bytes + narrow_bytes, (float *)room};
    int status = 0;
    for (long i = 0; i < s->num_layers && !status; i++)
        status = run_layer(s, &s->layers[i], pass, &parts, x, i ? out : delta, out);
    free(room);
    return status;
}
