/* All layers of a decoder in one call.
 *
 * What a layer does is some ten steps. Called one by one from Python, those of SmolLM2-135M in 4 bits
 * make a pass over one token a fifth longer. The steps are those of steps.c and groups.c, so the numbers are
 * the same to the last bit, whoever calls them.
 */

#include "layers.h"

#include "attention.h"
#include "steps.h"

static long larger_of(long a, long b) { return a > b ? a : b; }

/* Room for what one pass has between two steps. */
typedef struct {
    char *narrow;   /* [T, what goes into the widest product] */
    char *wide;     /* [T, what comes out of it] */
    float *queries; /* [T, H, D] */
} Room;

static int attend_to_context(const Layer *layer, const Pass *pass, const Room *room) {
    const Stack *s = pass->stack;
    Rope rope = {
        .num_tokens = pass->num_tokens, .num_heads = s->num_heads, .num_kv_heads = s->num_kv_heads,
        .head_dim = s->head_dim, .dtype = s->dtype, .kv_dtype = s->kv_dtype, .qkv = room->wide,
        .rotation = pass->rotations + layer->rope * pass->num_tokens * s->head_dim, .norm = layer->qk_norm, .eps = layer->qk_eps, .scale = s->scale,
        .slots = pass->slots, .queries = room->queries, .keys = layer->keys, .values = layer->values,
    };
    Attention attention = {
        .num_heads = s->num_heads, .num_kv_heads = s->num_kv_heads, .head_dim = s->head_dim,
        .dtype = s->dtype, .kv_dtype = s->kv_dtype, .queries = room->queries, .keys = layer->keys,
        .values = layer->values, .positions = pass->positions, .window = layer->window,
        .softcap = s->softcap, .starts = pass->starts, .tables = pass->tables, .num_sequences = pass->num_sequences,
        .width = pass->width, .out = room->narrow,
    };
    rotate(&rope);
    return attend(&attention);
}

static int multiply_all(const Pass *pass, const GroupMatrix *matrix, const char *x, char *y) {
    Dtype dtype = pass->stack->dtype;
    Product product = {matrix, x, y, dtype, dtype, pass->num_tokens};
    return multiply(&product);
}

/* x += delta; narrow = the norm of x. */
static void norm_all(const Pass *pass, const char *delta, const float *weight, float eps, char *narrow) {
    const Stack *s = pass->stack;
    Norm of = {pass->x, delta, weight, narrow, s->dtype, eps, pass->num_tokens, s->hidden_size};
    norm(&of);
}

/* In place, where there is one: what is to be added to x. */
static void post_norm_all(const Pass *pass, const float *weight, float eps) {
    const Stack *s = pass->stack;
    PostNorm of = {pass->out, weight, s->dtype, eps, pass->num_tokens, s->hidden_size};
    if (weight) post_norm(&of);
}

/* x += delta; out = what the layer makes of x. */
static int run_layer(const Layer *layer, const Pass *pass, const Room *room, const char *delta) {
    const Stack *s = pass->stack;
    Gate gated = {room->wide, room->narrow, s->dtype, s->is_gelu, pass->num_tokens, s->intermediate_size};
    int status;
    norm_all(pass, delta, layer->attention_norm, layer->attention_eps, room->narrow);
    if ((status = multiply_all(pass, &layer->qkv, room->narrow, room->wide))) return status;
    if ((status = attend_to_context(layer, pass, room))) return status;
    if ((status = multiply_all(pass, &layer->out, room->narrow, pass->out))) return status;
    post_norm_all(pass, layer->post_attention_norm, layer->post_attention_eps);
    norm_all(pass, pass->out, layer->mlp_norm, layer->mlp_eps, room->narrow);
    if ((status = multiply_all(pass, &layer->gate_up, room->narrow, room->wide))) return status;
    gate(&gated);
    if ((status = multiply_all(pass, &layer->down, room->narrow, pass->out))) return status;
    post_norm_all(pass, layer->post_mlp_norm, layer->post_mlp_eps);
    return 0;
}

int run_layers(const Pass *pass) {
    const Stack *s = pass->stack;
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
        status = run_layer(&s->layers[i], pass, &parts, i ? pass->out : pass->delta);
    free(room);
    return status;
}
