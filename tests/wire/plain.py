"""Comparison of values that hold arrays."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def as_plain(value: Any) -> Any:
    """Nested tuples for dataclasses, sequences and arrays; equal exactly if the values are."""
    if is_dataclass(value):
        named = ((field.name, as_plain(getattr(value, field.name))) for field in fields(value))
        return (type(value).__name__, *named)
    if isinstance(value, np.ndarray):
        return tuple(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(as_plain(item) for item in value)
    return value
