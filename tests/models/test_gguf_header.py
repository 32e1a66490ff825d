"""The header reader agrees with the gguf library and survives files that are not GGUF."""

import contextlib
import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.errors import ModelReferenceError
from forethought.models.files.gguf_header import read_gguf_header, read_gguf_metadata


@pytest.fixture(scope="module")
def every_type(tmp_path_factory) -> Path:
    """A file with a pair of every type that the format has."""
    path = tmp_path_factory.mktemp("gguf") / "every.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("u8", 200)
    writer.add_int8("i8", -100)
    writer.add_uint16("u16", 60_000)
    writer.add_int16("i16", -30_000)
    writer.add_uint32("u32", 4_000_000_000)
    writer.add_int32("i32", -2_000_000_000)
    writer.add_uint64("u64", 2**63)
    writer.add_int64("i64", -(2**62))
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 0.1)
    writer.add_bool("bool", True)
    writer.add_string("text", "grüß dich 😀")
    writer.add_array("strings", ["a", "", "▁é"])
    writer.add_array("ints", [1, -2, 3])
    writer.add_array("floats", [0.25, -1.0])
    writer.add_tensor_info(
        "matrix", (5, 64), np.dtype(np.float32), 180, gguf.GGMLQuantizationType.Q4_0
    )
    writer.add_tensor_info("vector.grüß", (3,), np.dtype(np.float32), 12)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    return path


def with_row(*dimensions: int, pairs: bytes = b"", num_pairs: int = 0, **row: int) -> bytes:
    """A file with one tensor named "t", and no data."""
    num_dimensions = row.get("num_dimensions", len(dimensions))
    return (
        struct.pack("<4sIQQ", b"GGUF", 3, row.get("num_tensors", 1), num_pairs)
        + pairs
        + struct.pack(f"<Q1sI{len(dimensions)}Q", 1, b"t", num_dimensions, *dimensions)
        + struct.pack("<IQ", row.get("kind", 0), row.get("offset", 0))
    )


def alignment(kind: int, code: str, value: object) -> dict:
    key = b"general.alignment"
    return {"num_pairs": 1, "pairs": struct.pack(f"<Q17sI{code}", 17, key, kind, value)}


def test_every_value_type_is_read(every_type):
    metadata = read_gguf_metadata(every_type)
    assert metadata["general.architecture"] == "llama"
    assert (metadata["u8"], metadata["i8"]) == (200, -100)
    assert (metadata["u16"], metadata["i16"]) == (60_000, -30_000)
    assert (metadata["u32"], metadata["i32"]) == (4_000_000_000, -2_000_000_000)
    assert (metadata["u64"], metadata["i64"]) == (2**63, -(2**62))
    assert (metadata["f32"], metadata["f64"], metadata["bool"]) == (0.5, 0.1, True)
    assert metadata["text"] == "grüß dich 😀"
    assert list(metadata["strings"]) == ["a", "", "▁é"]
    assert list(metadata["ints"]) == [1, -2, 3]
    assert list(metadata["floats"]) == [0.25, -1.0]


def test_the_table_of_tensors_is_read_with_places_in_the_file(every_type):
    header = read_gguf_header(every_type)
    assert header.metadata == read_gguf_metadata(every_type)
    matrix, vector = header.tensors
    start = matrix.offset
    assert start % 32 == 0
    assert 0 <= start - len(every_type.read_bytes()) < 32
    assert (matrix.name, matrix.kind, matrix.shape) == ("matrix", 2, (5, 64))
    # The first takes 180 bytes, up to the next multiple of 32.
    assert (vector.name, vector.kind, vector.shape) == ("vector.grüß", 0, (3,))
    assert vector.offset == start + 192


def test_the_data_starts_where_the_file_aligns_it(tmp_path):
    path = tmp_path / "aligned.gguf"
    for kind, code, value in ((4, "I", 256), (10, "Q", 1)):
        data = with_row(7, offset=4096, **alignment(kind, code, value))
        path.write_bytes(data)
        (row,) = read_gguf_header(path).tensors
        assert row.offset == 4096 + (256 if value == 256 else len(data))


@pytest.mark.slow
def test_a_real_table_is_that_of_the_gguf_library(smollm2_files):
    theirs = {
        tensor.name: (int(tensor.tensor_type), tensor.data_offset, tensor.shape.tolist()[::-1])
        for tensor in gguf.GGUFReader(smollm2_files.gguf).tensors
    }
    ours = {
        row.name: (row.kind, row.offset, list(row.shape))
        for row in read_gguf_header(smollm2_files.gguf).tensors
    }
    assert ours == theirs


def test_a_real_file_reads_quickly_and_holds_the_vocabulary(smollm2_files):
    start = time.thread_time()
    metadata = read_gguf_metadata(smollm2_files.gguf)
    assert time.thread_time() - start < 2.0  # 0.03 s alone on the reference machine
    assert len(metadata["tokenizer.ggml.tokens"]) == metadata["llama.vocab_size"] == 49_152


def test_a_file_cut_short_anywhere_is_refused(every_type, tmp_path):
    data = every_type.read_bytes()
    path = tmp_path / "cut.gguf"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ModelReferenceError, match=r"cut\.gguf"):
            read_gguf_header(path)


def test_metadata_does_not_need_the_table(every_type, tmp_path):
    data = every_type.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(data[: data.index(b"matrix")])
    assert read_gguf_metadata(path) == read_gguf_metadata(every_type)


@given(position=st.integers(4, 800), byte=st.integers(0, 255))
def test_a_damaged_file_is_refused_or_read_but_never_anything_else(
    every_type, tmp_path_factory, position, byte
):
    data = bytearray(every_type.read_bytes())
    data[position % len(data)] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(data)
    with contextlib.suppress(ModelReferenceError):
        read_gguf_header(path)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "empty file"),
        (b"PK\3\4 something else entirely", "does not start with"),
        (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "version 1"),
        (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "version 50331648"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**63), "bytes are announced"),
        (struct.pack("<4sIQQQ1sI", b"GGUF", 3, 0, 1, 1, b"k", 13), "value type 13"),
        (struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 8, 2**60), "announced"),
        (struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 9, 1), "value type 9"),
        (struct.pack("<4sIQQQ2sIQ", b"GGUF", 3, 0, 1, 2, b"\xff\xfe", 8, 0), "utf-8"),
        (with_row(3, num_tensors=2**64 - 1), "bytes are announced"),
        (with_row(num_dimensions=2**32 - 1), "4294967295 dimensions"),
        (with_row(num_dimensions=0), "0 dimensions"),
        (with_row(3, 0, 5), r"shape \(5, 0, 3\)"),
        (with_row(3, **alignment(4, "I", 0)), "alignment is 0"),
        (with_row(3, **alignment(5, "i", -8)), "alignment is -8"),
        (with_row(3, **alignment(6, "f", 32.0)), "alignment is 32.0"),
        (with_row(3, **alignment(7, "?", True)), "alignment is True"),
    ],
)
def test_a_foreign_file_is_refused_with_the_reason(tmp_path, data, complaint):
    path = tmp_path / "foreign.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelReferenceError, match=complaint):
        read_gguf_header(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent.gguf", tmp_path):
        with pytest.raises(ModelReferenceError, match=r"Cannot read|is a folder"):
            read_gguf_metadata(path)
