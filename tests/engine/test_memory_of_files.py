"""A model in memory is its weights laid out; the files that they came from do not stay there."""

import re
import shutil
from pathlib import Path

import gguf
import pytest
import torch

from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.weights import gguf_file
from forethought.engine.weights.stored_checkpoints import SafetensorsCheckpoint
from forethought.errors import ModelReferenceError
from forethought.models.files.gguf_header import GgufHeader, read_gguf_header
from forethought.models.files.reference import resolve
from tests.engine.test_loader import write_gguf
from tests.tiny import write_tiny_model

SMAPS = Path("/proc/self/smaps")
MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ +(?P<path>.*)$")


def resident_bytes(path: Path) -> int:
    """Of all mappings of a file, what is in this process's memory."""
    total, is_ours = 0, False
    for line in SMAPS.read_text().splitlines():
        if match := MAPPING.match(line):
            is_ours = match["path"] == str(path)
        elif is_ours and line.startswith("Rss:"):
            total += 1024 * int(line.split()[1])
    return total


def written(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A model of some megabytes: a page that is touched brings its neighbours along."""
    return write_tiny_model(folder, hidden_size=256, num_layers=8, dtype=dtype)


@pytest.mark.skipif(not SMAPS.exists(), reason="this system does not say what is in memory")
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "Q8_0", "Q4_1"])
def test_no_more_of_a_file_stays_in_memory_than_the_rows_that_are_looked_up(tmp_path, kind):
    if kind.startswith("Q"):
        path = write_gguf(written(tmp_path), gguf.GGMLQuantizationType[kind])
        model = load_model(resolve(str(path)), EngineOptions())
    else:
        folder = written(tmp_path, getattr(torch, kind))
        path = folder / "model.safetensors"
        model = load_model(resolve(str(folder)), EngineOptions())
    assert model.dtype_name
    assert resident_bytes(path) < path.stat().st_size / 2


@pytest.mark.skipif(not SMAPS.exists(), reason="this system does not say what is in memory")
def test_what_was_read_leaves_memory_when_it_is_forgotten(tmp_path):
    path = written(tmp_path) / "model.safetensors"
    checkpoint = SafetensorsCheckpoint([path])
    for _ in range(2):  # what is forgotten can be read again
        assert all(checkpoint.dense(name).isfinite().all() for name in checkpoint.shapes())
        assert resident_bytes(path) > path.stat().st_size / 2
        checkpoint.forget()
        assert resident_bytes(path) == 0


@pytest.mark.parametrize("how", ["another file", "written over"])
def test_a_file_that_is_replaced_while_it_is_read_is_refused(tmp_path, how):
    path = write_tiny_model(tmp_path / "model") / "model.safetensors"
    later = write_tiny_model(tmp_path / "later", seed=7) / "model.safetensors"
    checkpoint = SafetensorsCheckpoint([path])
    first, last, *_ = checkpoint.shapes()
    checkpoint.dense(first)
    if how == "another file":
        later.replace(path)
    else:
        shutil.copyfile(later, path)
    checkpoint.forget()
    with pytest.raises(ModelReferenceError, match="replaced while it was read"):
        checkpoint.dense(last)


def test_a_gguf_file_that_is_replaced_behind_its_header_is_refused(tmp_path, monkeypatch):
    path = write_gguf(write_tiny_model(tmp_path / "model"), gguf.GGMLQuantizationType.Q8_0)
    later = shutil.copyfile(path, tmp_path / "later.gguf")

    def read_and_replace(given: Path) -> GgufHeader:
        header = read_gguf_header(given)
        later.replace(path)
        return header

    monkeypatch.setattr(gguf_file, "read_gguf_header", read_and_replace)
    with pytest.raises(ModelReferenceError, match="replaced while it was read"):
        gguf_file.read_gguf(path)
