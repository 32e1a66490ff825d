"""What the functions in C take, field by field as in their headers, which say what each is.

Fields of addresses hold whole numbers, 0 for NULL; whoever fills them in keeps alive what lies
there. Fields that are left out are 0. A name that a structure does not have is an AttributeError.
"""

import ctypes
from ctypes import c_double, c_float, c_int, c_long, c_void_p
from enum import IntEnum
from typing import Any


class WeightFormat(IntEnum):
    """How the weights of a `GroupMatrix` are stored."""

    GROUPS_4 = 0
    GROUPS_8 = 1
    BFLOATS_16 = 2
    FLOATS_32 = 3
    QUANTISED = 4


class Norm(ctypes.Structure):
    """steps.h"""

    __slots__ = ()
    _fields_ = (
        ("x", c_void_p),
        ("delta", c_void_p),
        ("weight", c_void_p),
        ("y", c_void_p),
        ("dtype", c_int),
        ("eps", c_float),
        ("rows", c_long),
        ("n", c_long),
    )


class PostNorm(ctypes.Structure):
    """steps.h"""

    __slots__ = ()
    _fields_ = (
        ("y", c_void_p),
        ("weight", c_void_p),
        ("dtype", c_int),
        ("eps", c_float),
        ("rows", c_long),
        ("n", c_long),
    )


class Softcap(ctypes.Structure):
    """steps.h"""

    __slots__ = ()
    _fields_ = (("x", c_void_p), ("cap", c_float), ("n", c_long))


class Gate(ctypes.Structure):
    """steps.h"""

    __slots__ = ()
    _fields_ = (
        ("gate_up", c_void_p),
        ("y", c_void_p),
        ("dtype", c_int),
        ("is_gelu", c_int),
        ("rows", c_long),
        ("n", c_long),
    )


class RotaryEmbedding(ctypes.Structure):
    """steps.h"""

    __slots__ = ()
    _fields_ = (
        ("positions", c_void_p),
        ("frequencies", c_void_p),
        ("rotation", c_void_p),
        ("scale", c_float),
        ("num_tokens", c_long),
        ("num_pairs", c_long),
    )


class Rope(ctypes.Structure):
    """steps.h"""

    __slots__ = ()
    _fields_ = (
        ("num_tokens", c_long),
        ("num_heads", c_long),
        ("num_kv_heads", c_long),
        ("head_dim", c_long),
        ("dtype", c_int),
        ("kv_dtype", c_int),
        ("qkv", c_void_p),
        ("rotation", c_void_p),
        ("norm", c_void_p),
        ("eps", c_float),
        ("scale", c_float),
        ("slots", c_void_p),
        ("queries", c_void_p),
        ("keys", c_void_p),
        ("values", c_void_p),
    )


class Attention(ctypes.Structure):
    """attention.h"""

    __slots__ = ()
    _fields_ = (
        ("num_heads", c_long),
        ("num_kv_heads", c_long),
        ("head_dim", c_long),
        ("dtype", c_int),
        ("kv_dtype", c_int),
        ("queries", c_void_p),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("positions", c_void_p),
        ("window", c_long),
        ("softcap", c_float),
        ("starts", c_void_p),
        ("tables", c_void_p),
        ("num_sequences", c_long),
        ("width", c_long),
        ("out", c_void_p),
    )


class GroupMatrix(ctypes.Structure):
    """groups.h"""

    __slots__ = ()
    _fields_ = (
        ("format", c_int),
        ("tiles", c_void_p),
        ("unit", c_float),
        ("bias", c_void_p),
        ("n", c_long),
        ("k", c_long),
    )


class Product(ctypes.Structure):
    """groups.h"""

    __slots__ = ()
    _fields_ = (
        ("matrix", c_void_p),
        ("x", c_void_p),
        ("y", c_void_p),
        ("x_dtype", c_int),
        ("y_dtype", c_int),
        ("num_tokens", c_long),
    )


class QuantTensor(ctypes.Structure):
    """quants.h"""

    __slots__ = ()
    _fields_ = (
        ("kind", c_int),
        ("blocks", c_void_p),
        ("rows", c_long),
        ("k", c_long),
        ("tiles", c_void_p),
    )


class QuantPart(ctypes.Structure):
    """quants.h"""

    __slots__ = ()
    _fields_ = (("kind", c_int), ("tiles", c_void_p), ("rows", c_long))


MOST_QUANT_PARTS = 3


class QuantParts(ctypes.Structure):
    """quants.h"""

    __slots__ = ()
    _fields_ = (
        ("num_parts", c_int),
        ("keeps_floats", c_int),
        ("parts", QuantPart * MOST_QUANT_PARTS),
    )


class Layer(ctypes.Structure):
    """layers.h"""

    __slots__ = ()
    _fields_ = (
        ("attention_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("qk_norm", c_void_p),
        ("post_attention_norm", c_void_p),
        ("post_mlp_norm", c_void_p),
        ("attention_eps", c_float),
        ("mlp_eps", c_float),
        ("qk_eps", c_float),
        ("post_attention_eps", c_float),
        ("post_mlp_eps", c_float),
        ("rope", c_long),
        ("window", c_long),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("qkv", GroupMatrix),
        ("out", GroupMatrix),
        ("gate_up", GroupMatrix),
        ("down", GroupMatrix),
    )


class Stack(ctypes.Structure):
    """layers.h"""

    __slots__ = ()
    _fields_ = (
        ("num_heads", c_long),
        ("num_kv_heads", c_long),
        ("head_dim", c_long),
        ("hidden_size", c_long),
        ("intermediate_size", c_long),
        ("scale", c_float),
        ("softcap", c_float),
        ("is_gelu", c_int),
        ("dtype", c_int),
        ("kv_dtype", c_int),
        ("num_layers", c_long),
        ("layers", c_void_p),
    )


class Pass(ctypes.Structure):
    """layers.h"""

    __slots__ = ()
    _fields_ = (
        ("stack", c_void_p),
        ("num_tokens", c_long),
        ("num_sequences", c_long),
        ("width", c_long),
        ("rotations", c_void_p),
        ("positions", c_void_p),
        ("slots", c_void_p),
        ("starts", c_void_p),
        ("tables", c_void_p),
        ("x", c_void_p),
        ("delta", c_void_p),
        ("out", c_void_p),
    )


class Shape(ctypes.Structure):
    """rows.h"""

    __slots__ = ()
    _fields_ = (
        ("temperature", c_double),
        ("top_k", c_double),
        ("top_p", c_double),
        ("min_p", c_double),
    )


class Shaping(ctypes.Structure):
    """rows.h"""

    __slots__ = ()
    _fields_ = (
        ("logits", c_void_p),
        ("probs", c_void_p),
        ("shapes", c_void_p),
        ("rows", c_long),
        ("n", c_long),
    )


class Top(ctypes.Structure):
    """rows.h"""

    __slots__ = ()
    _fields_ = (
        ("probs", c_void_p),
        ("top_probs", c_void_p),
        ("top_ids", c_void_p),
        ("rows", c_long),
        ("n", c_long),
        ("count", c_long),
    )


class Choice(ctypes.Structure):
    """rows.h"""

    __slots__ = ()
    _fields_ = (
        ("probs", c_void_p),
        ("keys", c_void_p),
        ("ids", c_void_p),
        ("rows", c_long),
        ("n", c_long),
    )


class Measuring(ctypes.Structure):
    """rows.h"""

    __slots__ = ()
    _fields_ = (
        ("probs", c_void_p),
        ("rows", c_long),
        ("n", c_long),
        ("bounds", c_void_p),
        ("supports", c_void_p),
        ("uniforms", c_void_p),
        ("keys", c_void_p),
        ("on_support", c_void_p),
        ("tail_masses", c_void_p),
        ("tail_probs", c_void_p),
        ("tail_ids", c_void_p),
        ("greedy_ids", c_void_p),
    )


class Binding(ctypes.Structure):
    """threads.h"""

    __slots__ = ()
    _fields_ = (("cpus", c_void_p), ("count", c_int))


Layouts = dict[str, tuple[int, tuple[tuple[str, int, int], ...]]]
"""By the name of a structure its size, and of each field its name, offset and size, in bytes."""


def layouts() -> Layouts:
    """Of all structures, as they are here."""
    return {
        each.__name__: (
            ctypes.sizeof(each),
            tuple(_placed(each, name) for name, *_ in each._fields_),
        )
        for each in ctypes.Structure.__subclasses__()
        if each.__module__ == __name__
    }


def _placed(structure: type[ctypes.Structure], name: str) -> tuple[str, int, int]:
    field = getattr(structure, name)
    return name, field.offset, field.size


def difference(module: Any) -> str:
    """How a build of the extension differs from what is here; empty if it does not.

    One of another version differs: each change of a structure is one of what its users mean.
    """
    built: Layouts = getattr(module, "LAYOUTS", {})
    here = layouts()
    names = sorted(name for name in built.keys() | here.keys() if built.get(name) != here.get(name))
    if getattr(module, "WEIGHT_FORMATS", ()) != tuple(each.name for each in WeightFormat):
        names.append(WeightFormat.__name__)
    return ", ".join(names)
