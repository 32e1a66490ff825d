"""Tensors of a GGUF file: mapped where its table says, refused where that is outside the file."""

import contextlib
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.engine.weights.gguf_file import read_gguf
from forethought.errors import ModelReferenceError
from forethought.models.files.gguf_header import read_gguf_metadata

Q4_0 = gguf.GGMLQuantizationType.Q4_0
MATRIX = np.linspace(-1, 1, 5 * 64, dtype=np.float32).reshape(5, 64)
VECTOR = np.array([1.5, -2.0, 0.25], dtype=np.float32)


@pytest.fixture(scope="module")
def two_tensors(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "two.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("matrix", gguf.quants.quantize(MATRIX, Q4_0), raw_dtype=Q4_0)
    writer.add_tensor("vector", VECTOR)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_tensors_are_dequantised_as_the_gguf_library_does(two_tensors):
    file = read_gguf(two_tensors)
    assert file.metadata == read_gguf_metadata(two_tensors)
    matrix, vector = file.tensors["matrix"], file.tensors["vector"]
    assert (matrix.kind, matrix.shape, matrix.data.shape) == ("Q4_0", (5, 64), (5, 36))
    expected = gguf.quants.dequantize(gguf.quants.quantize(MATRIX, Q4_0), Q4_0)
    np.testing.assert_array_equal(matrix.dequantized(), expected)
    assert (vector.kind, vector.shape) == ("F32", (3,))
    np.testing.assert_array_equal(vector.dequantized(), VECTOR)


def test_values_are_the_callers_own_and_never_the_file(two_tensors):
    before = two_tensors.read_bytes()
    for tensor in read_gguf(two_tensors).tensors.values():
        tensor.dequantized()[...] = 7
        assert not tensor.data.flags.writeable
    assert two_tensors.read_bytes() == before


def test_a_file_cut_short_anywhere_is_refused(two_tensors, tmp_path):
    path = tmp_path / "cut.gguf"
    data = two_tensors.read_bytes()
    end = data.rindex(VECTOR.tobytes()) + VECTOR.nbytes  # padding follows
    for length in range(end):
        path.write_bytes(data[:length])
        with pytest.raises(ModelReferenceError, match=r"cut\.gguf"):
            read_gguf(path)
    path.write_bytes(data[:end])
    assert read_gguf(path).tensors.keys() == {"matrix", "vector"}


@given(position=st.integers(4, 240), byte=st.integers(0, 255))
def test_a_damaged_file_is_refused_or_read_but_never_anything_else(
    two_tensors, tmp_path_factory, position, byte
):
    data = bytearray(two_tensors.read_bytes())
    data[position] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(data)
    with contextlib.suppress(ModelReferenceError):
        read_gguf(path)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("columns", 2**63, "'matrix' ends at byte"),
        ("columns", 63, "no whole blocks of Q4_0"),
        ("rows", 2**64 - 1, "'matrix' ends at byte"),
        ("kind", 4, "unknown kind, 4"),  # a ggml type that was taken back
        ("kind", 2**32 - 1, "unknown kind"),
        ("offset", 2**64 - 1, "'matrix' ends at byte"),
    ],
)
def test_a_tensor_that_cannot_be_in_the_file_is_refused(
    two_tensors, tmp_path, field, value, complaint
):
    data = bytearray(two_tensors.read_bytes())
    row = data.index(b"matrix") + len(b"matrix") + 4  # past the dimension count
    start, length = {"columns": (0, 8), "rows": (8, 8), "kind": (16, 4), "offset": (20, 8)}[field]
    data[row + start : row + start + length] = value.to_bytes(length, "little")
    path = tmp_path / "foreign.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelReferenceError, match=complaint):
        read_gguf(path)
