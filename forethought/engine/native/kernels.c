/* The door to Python of all that is written in C.
 *
 * Each function takes one structure, which Python fills in (structures.py) and vouches for: it holds addresses, and
 * no tensors. Returned is what the function in C returns.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "attention.h"
#include "groups.h"
#include "layers.h"
#include "layouts.h"
#include "quants.h"
#include "rows.h"
#include "steps.h"
#include "threads.h"

/* The memory of a structure; NULL, with an exception, if it is none of this size. */
static const void *memory_of(PyObject *structure, const char *name, size_t size) {
    Py_buffer view;
    if (PyObject_GetBuffer(structure, &view, PyBUF_SIMPLE)) return NULL;
    const void *memory = view.buf;
    if (view.len != (Py_ssize_t)size) {
        memory = NULL;
        PyErr_Format(PyExc_TypeError, "%zd bytes, where %s has %zu", view.len, name, size);
    }
    PyBuffer_Release(&view);
    return memory;
}

static PyObject *result_of(int status) {
    if (status == -1) return PyErr_NoMemory();
    if (status == NO_KERNEL) return PyErr_Format(PyExc_ValueError, "weights of this format take no such numbers");
    return PyLong_FromLong(status);
}

/* `before` and `after` let other threads have the interpreter meanwhile, where that is worth it: getting it back may
 * take longer than a short step. */
#define ENTRY(function, Type, before, after)                                  \
    static PyObject *py_##function(PyObject *module, PyObject *structure) {   \
        (void)module;                                                         \
        const Type *memory = memory_of(structure, #Type, sizeof(Type));       \
        if (!memory) return NULL;                                             \
        int status;                                                           \
        before status = function(memory);                                     \
        after return result_of(status);                                       \
    }
#define SHORT(function, Type) ENTRY(function, Type, , )
#define LONG(function, Type) ENTRY(function, Type, Py_BEGIN_ALLOW_THREADS, Py_END_ALLOW_THREADS)

SHORT(norm, Norm)
SHORT(post_norm, PostNorm)
SHORT(gate, Gate)
SHORT(softcap, Softcap)
SHORT(rotate, Rope)
LONG(attend, Attention)
LONG(rotary_embedding, RotaryEmbedding)
LONG(multiply, Product)
LONG(run_layers, Pass)
SHORT(quant_block_bytes, QuantTensor)
LONG(lay_out_quants, QuantTensor)
LONG(shape, Shaping)
LONG(top, Top)
LONG(choose, Choice)
LONG(measure, Measuring)
LONG(bind_threads, Binding)

static PyMethodDef methods[] = {
    {"norm", py_norm, METH_O, "norm(Norm)"},
    {"post_norm", py_post_norm, METH_O, "post_norm(PostNorm)"},
    {"softcap", py_softcap, METH_O, "softcap(Softcap)"},
    {"gate", py_gate, METH_O, "gate(Gate)"},
    {"rotary_embedding", py_rotary_embedding, METH_O, "rotary_embedding(RotaryEmbedding)"},
    {"rotate", py_rotate, METH_O, "rotate(Rope)"},
    {"attend", py_attend, METH_O, "attend(Attention)"},
    {"multiply", py_multiply, METH_O, "multiply(Product)"},
    {"run_layers", py_run_layers, METH_O, "run_layers(Pass)"},
    {"quant_block_bytes", py_quant_block_bytes, METH_O, "quant_block_bytes(QuantTensor) -> bytes of 16 rows"},
    {"lay_out_quants", py_lay_out_quants, METH_O, "lay_out_quants(QuantTensor)"},
    {"shape", py_shape, METH_O, "shape(Shaping) -> 1 if a row has logits that are not numbers, else 0"},
    {"top", py_top, METH_O, "top(Top)"},
    {"choose", py_choose, METH_O, "choose(Choice)"},
    {"measure", py_measure, METH_O, "measure(Measuring)"},
    {"bind_threads", py_bind_threads, METH_O, "bind_threads(Binding) -> how many are bound"},
    {0},
};

/* {name: (size, ((field, offset, size), ...))} */
static PyObject *all_layouts(void) {
    PyObject *all = PyDict_New();
    for (const Layout *layout = layouts; all && layout->name; layout++) {
        PyObject *fields = PyList_New(0), *entry = NULL;
        int failed = !fields;
        for (const Field *field = layout->fields; !failed && field->name; field++) {
            PyObject *item = Py_BuildValue("(snn)", field->name, (Py_ssize_t)field->offset, (Py_ssize_t)field->size);
            failed = !item || PyList_Append(fields, item);
            Py_XDECREF(item);
        }
        PyObject *tuple = failed ? NULL : PyList_AsTuple(fields);
        Py_XDECREF(fields);
        if (tuple) entry = Py_BuildValue("(nN)", (Py_ssize_t)layout->size, tuple);
        if (!entry || PyDict_SetItemString(all, layout->name, entry)) Py_CLEAR(all);
        Py_XDECREF(entry);
    }
    return all;
}

static PyObject *all_weight_formats(void) {
    static const char *const names[NUM_FORMATS] = WEIGHT_FORMAT_NAMES;
    PyObject *all = PyTuple_New(NUM_FORMATS);
    for (Py_ssize_t i = 0; all && i < NUM_FORMATS; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);
        if (!name || PyTuple_SetItem(all, i, name)) Py_CLEAR(all);
    }
    return all;
}

static int add(PyObject *module, const char *name, PyObject *value) {
    int status = value ? PyModule_AddObjectRef(module, name, value) : -1;
    Py_XDECREF(value);
    return status;
}

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
    if (module && (add(module, "LAYOUTS", all_layouts()) || add(module, "WEIGHT_FORMATS", all_weight_formats()) ||
                   PyModule_AddIntConstant(module, "HAS_SLOW_PAIRS", has_slow_pairs())))
        Py_CLEAR(module);
    return module;
}
