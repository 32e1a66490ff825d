/* The door to Python of all that is written in C.
 *
 * It knows no tensors: callers pass addresses, and vouch for what lies there.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "groups.h"
#include "layers.h"
#include "rows.h"
#include "steps.h"
#include "threads.h"

typedef union {
    long long whole;
    double real;
    char *address;
} Argument;

/* Whole numbers, addresses among them, and floats as they come. */
static int take(PyObject *const *objects, Py_ssize_t given, Argument *arguments, Py_ssize_t wanted) {
    if (given != wanted) {
        PyErr_Format(PyExc_TypeError, "%zd arguments, not %zd", wanted, given);
        return -1;
    }
    for (Py_ssize_t i = 0; i < wanted; i++) {
        if (PyFloat_Check(objects[i]))
            arguments[i].real = PyFloat_AS_DOUBLE(objects[i]);
        else if ((arguments[i].whole = PyLong_AsLongLong(objects[i])) == -1 && PyErr_Occurred())
            return -1;
    }
    return 0;
}

#define TAKE(count)         \
    Argument args[count];   \
    (void)module;           \
    if (take(objects, given, args, count)) return NULL

static PyObject *py_norm(PyObject *module, PyObject *const *objects, Py_ssize_t given) {
    TAKE(8);
    norm(args[0].address, args[1].address, (const float *)args[2].address, args[3].address,
         (Dtype)args[4].whole, (long)args[5].whole, (long)args[6].whole, (float)args[7].real);
    Py_RETURN_NONE;
}

static PyObject *py_gate(PyObject *module, PyObject *const *objects, Py_ssize_t given) {
    TAKE(5);
    gate(args[0].address, args[1].address, (Dtype)args[2].whole, (long)args[3].whole, (long)args[4].whole);
    Py_RETURN_NONE;
}

static PyObject *py_turn(PyObject *module, PyObject *const *objects, Py_ssize_t given) {
    TAKE(6);
    Py_BEGIN_ALLOW_THREADS
    turn((const int32_t *)args[0].address, (const float *)args[1].address, (float)args[2].real,
         (float *)args[3].address, (long)args[4].whole, (long)args[5].whole);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_rotate(PyObject *module, PyObject *const *objects, Py_ssize_t given) {
    TAKE(15);
    Rope rope = {
        .num_heads = (long)args[1].whole, .num_kv_heads = (long)args[2].whole,
        .head_dim = (long)args[3].whole, .dtype = (Dtype)args[4].whole, .kv_dtype = (Dtype)args[5].whole,
        .qkv = args[6].address, .rotation = (const float *)args[7].address,
        .norm = (const float *)args[8].address, .eps = (float)args[9].real, .scale = (float)args[10].real,
        .slots = (const int64_t *)args[11].address, .queries = (float *)args[12].address,
        .keys = args[13].address, .values = args[14].address,
    };
    rotate(&rope, (long)args[0].whole);
    Py_RETURN_NONE;
}

static PyObject *py_attend(PyObject *module, PyObject *const *objects, Py_ssize_t given) {
    TAKE(15);
    Attention attention = {
        .num_heads = (long)args[0].whole, .num_kv_heads = (long)args[1].whole,
        .head_dim = (long)args[2].whole, .dtype = (Dtype)args[3].whole, .kv_dtype = (Dtype)args[4].whole,
        .queries = (const float *)args[5].address, .keys = args[6].address, .values = args[7].address,
        .positions = (const int32_t *)args[8].address, .window = (long)args[9].whole,
    };
    if (attend(attention, (const int32_t *)args[10].address, (const int32_t *)args[11].address,
               (long)args[12].whole, (long)args[13].whole, args[14].address))
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static GroupMatrix matrix_of(const Argument *args) {
    return (GroupMatrix){
        .bits = (int)args[0].whole, .tiles = args[1].address, .unit = (float)args[2].real,
        .bias = (const float *)args[3].address, .n = (long)args[4].whole, .k = (long)args[5].whole,
    };
}

static PyObject *py_multiply(PyObject *module, PyObject *const *objects, Py_ssize_t given) {
    TAKE(11);
    GroupMatrix matrix = matrix_of(args);
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = multiply_groups(&matrix, args[6].address, (Dtype)args[7].whole, args[8].address, (Dtype)args[9].whole,
                             (long)args[10].whole);
    Py_END_ALLOW_THREADS
    if (status < 0) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

#define INTERFACE 4 /* raised with every change of what the functions take; kernels.py wants this one */
#define STACK "forethought.stack"

static void free_stack(PyObject *capsule) { free(PyCapsule_GetPointer(capsule, STACK)); }

#define NUM_OF_MATRIX 6
#define NUM_OF_STACK 8
#define NUM_OF_LAYER (9 + 4 * NUM_OF_MATRIX)

static int take_layer(PyObject *numbers, Layer *layer) {
    Argument args[NUM_OF_LAYER];
    if (!PyTuple_Check(numbers)) {
        PyErr_SetString(PyExc_TypeError, "a layer is a tuple of numbers");
        return -1;
    }
    if (take(((PyTupleObject *)numbers)->ob_item, PyTuple_GET_SIZE(numbers), args, NUM_OF_LAYER)) return -1;
    *layer = (Layer){
        .attention_norm = (const float *)args[0].address, .mlp_norm = (const float *)args[1].address,
        .qk_norm = (const float *)args[2].address, .attention_eps = (float)args[3].real, .mlp_eps = (float)args[4].real,
        .qk_eps = (float)args[5].real, .window = (long)args[6].whole, .keys = args[7].address,
        .values = args[8].address, .qkv = matrix_of(args + 9), .out = matrix_of(args + 9 + NUM_OF_MATRIX),
        .gate_up = matrix_of(args + 9 + 2 * NUM_OF_MATRIX), .down = matrix_of(args + 9 + 3 * NUM_OF_MATRIX),
    };
    return 0;
}

static PyObject *py_stack(PyObject *module, PyObject *const *objects, Py_ssize_t given) {
    Py_ssize_t num_layers = given < NUM_OF_STACK ? 0 : given - NUM_OF_STACK;
    (void)module;
    Argument args[NUM_OF_STACK];
    if (take(objects, given - num_layers, args, NUM_OF_STACK)) return NULL;
    Stack *stack = malloc(sizeof(Stack) + sizeof(Layer) * (size_t)num_layers);
    if (!stack) return PyErr_NoMemory();
    *stack = (Stack){
        .num_heads = (long)args[0].whole, .num_kv_heads = (long)args[1].whole, .head_dim = (long)args[2].whole,
        .hidden_size = (long)args[3].whole, .intermediate_size = (long)args[4].whole,
        .scale = (float)args[5].real, .dtype = (Dtype)args[6].whole, .kv_dtype = (Dtype)args[7].whole,
        .num_layers = (long)num_layers,
    };
    for (Py_ssize_t i = 0; i < num_layers; i++)
        if (take_layer(objects[NUM_OF_STACK + i], &stack->layers[i])) {
            free(stack);
            return NULL;
        }
    PyObject *capsule = PyCapsule_New(stack, STACK, free_stack);
    if (!capsule) free(stack);
    return capsule;
}

static PyObject *py_run_layers(PyObject *module, PyObject *const *objects, Py_ssize_t given) {
    if (given < 1) return PyErr_Format(PyExc_TypeError, "no layers are given");
    const Stack *stack = PyCapsule_GetPointer(*objects, STACK);
    if (!stack) return NULL;
    objects++, given--;
    TAKE(11);
    Pass pass = {
        .num_tokens = (long)args[0].whole, .rotation = (const float *)args[1].address,
        .positions = (const int32_t *)args[2].address, .slots = (const int64_t *)args[3].address,
        .starts = (const int32_t *)args[4].address, .tables = (const int32_t *)args[5].address,
        .num_sequences = (long)args[6].whole, .width = (long)args[7].whole,
    };
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = run_layers(stack, &pass, args[8].address, args[9].address, args[10].address);
    Py_END_ALLOW_THREADS
    if (status < 0) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *py_shape(PyObject *module, PyObject *const *objects, Py_ssize_t given) {
    TAKE(5);
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = shape_all((const float *)args[0].address, (float *)args[1].address, (const Shape *)args[2].address,
                       (long)args[3].whole, (long)args[4].whole);
    Py_END_ALLOW_THREADS
    if (status < 0) return PyErr_NoMemory();
    return PyBool_FromLong(!status);
}

static PyObject *py_top(PyObject *module, PyObject *const *objects, Py_ssize_t given) {
    TAKE(6);
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = top_all((const float *)args[0].address, (double *)args[1].address, (int64_t *)args[2].address,
                     (long)args[3].whole, (long)args[4].whole, (long)args[5].whole);
    Py_END_ALLOW_THREADS
    if (status < 0) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *py_choose(PyObject *module, PyObject *const *objects, Py_ssize_t given) {
    TAKE(5);
    Py_BEGIN_ALLOW_THREADS
    choose_all((const float *)args[0].address, (const uint64_t *)args[1].address, (int64_t *)args[2].address,
               (long)args[3].whole, (long)args[4].whole);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_measure(PyObject *module, PyObject *const *objects, Py_ssize_t given) {
    TAKE(12);
    Measured measured = {
        .bounds = (const int64_t *)args[3].address, .supports = (const int64_t *)args[4].address,
        .uniforms = (const double *)args[5].address, .keys = (const uint64_t *)args[6].address,
        .on_support = (double *)args[7].address, .tail_masses = (double *)args[8].address,
        .tail_probs = (double *)args[9].address, .tail_ids = (int64_t *)args[10].address,
        .greedy_ids = (int64_t *)args[11].address,
    };
    Py_BEGIN_ALLOW_THREADS
    measure_all((const float *)args[0].address, &measured, (long)args[1].whole, (long)args[2].whole);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_bind_threads(PyObject *module, PyObject *const *objects, Py_ssize_t given) {
    TAKE(2);
    int bound;
    Py_BEGIN_ALLOW_THREADS
    bound = bind_threads((const int64_t *)args[0].address, (int)args[1].whole);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(bound);
}

static PyMethodDef methods[] = {
    {"norm", (PyCFunction)(void (*)(void))py_norm, METH_FASTCALL,
     "norm(x, delta, weight, y, dtype, rows, n, eps)"},
    {"gate", (PyCFunction)(void (*)(void))py_gate, METH_FASTCALL, "gate(gate_up, y, dtype, rows, n)"},
    {"turn", (PyCFunction)(void (*)(void))py_turn, METH_FASTCALL,
     "turn(positions, frequencies, scale, rotation, tokens, pairs)"},
    {"rotate", (PyCFunction)(void (*)(void))py_rotate, METH_FASTCALL,
     "rotate(tokens, heads, kv_heads, dim, dtype, kv_dtype, qkv, rotation, norm, eps, scale, slots, "
     "queries, keys, values)"},
    {"attend", (PyCFunction)(void (*)(void))py_attend, METH_FASTCALL,
     "attend(heads, kv_heads, dim, dtype, kv_dtype, queries, keys, values, positions, window, starts, "
     "tables, sequences, width, out)"},
    {"multiply", (PyCFunction)(void (*)(void))py_multiply, METH_FASTCALL,
     "multiply(bits, tiles, unit, bias or 0, n, k, x, x_dtype, y, y_dtype, tokens)"},
    {"stack", (PyCFunction)(void (*)(void))py_stack, METH_FASTCALL,
     "stack(heads, kv_heads, dim, hidden, intermediate, scale, dtype, kv_dtype, *layers) -> layers to run; "
     "each is\n(attention_norm, mlp_norm, qk_norm or 0, attention_eps, mlp_eps, qk_eps, window, keys, values, *qkv, *out, *gate_up, *down)\n"
     "with matrices as `multiply` takes them"},
    {"run_layers", (PyCFunction)(void (*)(void))py_run_layers, METH_FASTCALL,
     "run_layers(layers, tokens, rotation, positions, slots, starts, tables, sequences, width, x, delta or 0, "
     "out)"},
    {"shape", (PyCFunction)(void (*)(void))py_shape, METH_FASTCALL,
     "shape(logits, probs, shapes, rows, n) -> whether all logits are numbers"},
    {"top", (PyCFunction)(void (*)(void))py_top, METH_FASTCALL, "top(probs, top_probs, top_ids, rows, n, count)"},
    {"choose", (PyCFunction)(void (*)(void))py_choose, METH_FASTCALL, "choose(probs, keys, ids, rows, n)"},
    {"measure", (PyCFunction)(void (*)(void))py_measure, METH_FASTCALL,
     "measure(probs, rows, n, bounds, supports, uniforms, keys or 0, on_support, tail_masses, "
     "tail_probs, tail_ids, greedy_ids)"},
    {"bind_threads", (PyCFunction)(void (*)(void))py_bind_threads, METH_FASTCALL,
     "bind_threads(cpus, count) -> how many are bound"},
    {0},
};

/* One build for each kind of machine, under a name of its own; see setup.py. */
#define JOINED(left, right) left##right
#define INIT(name) JOINED(PyInit_, name)
#define QUOTED(name) #name
#define TEXT(name) QUOTED(name)

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, TEXT(MODULE), NULL, -1, methods, 0, 0, 0, 0,
};

PyMODINIT_FUNC INIT(MODULE)(void) {
    PyObject *module = PyModule_Create(&definition);
    if (module && (PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) ||
                   PyModule_AddIntConstant(module, "HAS_SLOW_PAIRS", has_slow_pairs())))
        Py_CLEAR(module);
    return module;
}
