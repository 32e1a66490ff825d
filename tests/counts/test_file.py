"""A file of counts is read as it was written, or refused with what is wrong with it."""

import numpy as np
import pytest
import xxhash

from forethought.counts.builder import BuildOptions, build_table
from forethought.counts.file import Counts, read_counts, write_counts
from forethought.counts.table import CountsTable
from forethought.errors import ModelReferenceError, VocabularyMismatchError
from tests.counts.corpora import corpus_of

VOCABULARY = "0123456789abcdef" * 2
TABLE = build_table(
    corpus_of(([1], [2, 3, 1, 2, 4]), ([4], [1, 3])), 5, BuildOptions(max_context=3, min_count=1)
)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "target.counts"
    write_counts(file, Counts(TABLE, VOCABULARY, 7))
    return file


def resealed(content):
    """With the checksum that fits."""
    return content[:-8] + xxhash.xxh3_64_intdigest(content[:-8]).to_bytes(8, "little")


def test_what_was_written_is_read(path):
    assert len(TABLE) > 3
    assert read_counts(path, VOCABULARY) == Counts(TABLE, VOCABULARY, 7)


def test_the_size_is_told_and_nothing_else_is_left_behind(path):
    assert write_counts(path, Counts(TABLE, VOCABULARY, 7)) == path.stat().st_size
    assert list(path.parent.iterdir()) == [path]


def test_the_same_counts_make_the_same_bytes(path, tmp_path):
    other = tmp_path / "other.counts"
    write_counts(other, Counts(TABLE, VOCABULARY, 7))
    assert other.read_bytes() == path.read_bytes()


def test_counts_of_another_vocabulary_are_refused(path):
    with pytest.raises(VocabularyMismatchError, match="another vocabulary"):
        read_counts(path, "f" * 32)


def test_a_change_of_any_byte_is_noticed(path):
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ModelReferenceError):
            read_counts(path, VOCABULARY)


@pytest.mark.parametrize("kept", [0, 3, 8, 39, 40, 47, 48, -9, -1])
def test_a_file_that_is_cut_off_is_refused(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelReferenceError):
        read_counts(path, VOCABULARY)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "cannot read"), (b"x" * 100, "not a file of counts"), (b"FTCN", "not a file of counts")],
)
def test_another_kind_of_file_is_called_so(path, content, complaint):
    path.write_bytes(content)
    with pytest.raises(ModelReferenceError, match=complaint):
        read_counts(path, VOCABULARY)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(ModelReferenceError, match=r"cannot read counts from .*none"):
        read_counts(tmp_path / "none", VOCABULARY)


def test_another_version_is_called_so(path):
    content = bytearray(path.read_bytes())
    content[4] = 2
    path.write_bytes(resealed(bytes(content)))
    with pytest.raises(ModelReferenceError, match="version 2"):
        read_counts(path, VOCABULARY)


@pytest.mark.parametrize(
    "arrays",
    [
        {"starts": [0, 9, 2]},
        {"starts": [0, 1, 1]},
        {"starts": [1, 1, 2]},
        {"starts": [0, 2, 1]},
        {"firsts": [1, 1, 2]},
        {"firsts": [0, 2, 2]},
        {"firsts": [0, 1, 3]},
        {"guesses": [5 << 8 | 1, 1]},
        {"guesses": [4 << 8 | 1, 4 << 8]},
        {"max_context": 0},
    ],
)
def test_numbers_that_would_lead_a_lookup_astray_are_refused(path, arrays):
    parts = {
        "starts": [0, 1, 2],
        "checks": [1, 2],
        "firsts": [0, 1, 2],
        "guesses": [4 << 8 | 1, 1],
        **arrays,
    }
    max_context = parts.pop("max_context", 3)
    views = [memoryview(np.array(part, dtype=np.uint32)) for part in parts.values()]
    write_counts(path, Counts(CountsTable(5, max_context, *views), VOCABULARY, 7))
    with pytest.raises(ModelReferenceError, match="contradicts itself"):
        read_counts(path, VOCABULARY)
