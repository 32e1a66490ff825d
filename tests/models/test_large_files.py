"""The small files around a model are read up to a bound: another file in place of one does not
fill memory."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from forethought import input_files
from forethought.errors import ModelReferenceError
from forethought.models.chat.template_files import template_source
from forethought.models.feature_draft import FeatureDraftConfig, is_feature_draft
from forethought.models.files import weight_files
from forethought.models.files.fingerprint import model_fingerprint
from forethought.models.files.json_file import read_json
from forethought.models.files.model_kind import adapter_base, read_config
from forethought.models.files.reference import ModelFiles
from forethought.models.files.weight_files import safetensors_of, what_is_wrong
from forethought.models.text import folder_tokenizer
from forethought.models.text.folder_tokenizer import read_folder_tokenizer

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "config.json": ("config.json", read_config),
    "any JSON file": ("added_tokens.json", lambda at: read_json(at / "added_tokens.json")),
    "the index of weights": (weight_files.INDEX, safetensors_of),
    "a chat template": ("chat_template.jinja", template_source),
    "config.json of a draft": ("config.json", lambda at: FeatureDraftConfig.read(files_in(at))),
    "config.json, for a fingerprint": ("config.json", lambda at: model_fingerprint(files_in(at))),
}
DEEP = "[" * 100_000


def files_in(folder: Path) -> ModelFiles:
    return ModelFiles(str(folder), folder, None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(input_files, "MAX_INPUT_BYTES", 1000)
    return tmp_path


@pytest.mark.parametrize("kind", READERS)
def test_a_file_that_is_too_large_is_refused(kind: str, folder: Path):
    name, read = READERS[kind]
    if "fingerprint" in kind:
        (folder / "model.safetensors").write_bytes(b"\0" * 8)
    (folder / name).write_text(json.dumps({"architectures": [], "x": "y" * 1000}))
    with pytest.raises(ModelReferenceError):
        read(folder)


def test_it_is_refused_in_words(folder: Path):
    (folder / "config.json").write_bytes(b" " * 1001)
    with pytest.raises(ModelReferenceError, match=r"config\.json cannot be read: holds more than"):
        read_config(folder)
    with pytest.raises(ModelReferenceError, match=r"Cannot read .*: holds more than 1,000 bytes"):
        read_json(folder / "config.json")


def test_what_only_looks_passes_over_it(folder: Path):
    (folder / "config.json").write_bytes(b" " * 1001)
    (folder / "adapter_config.json").write_bytes(b" " * 1001)
    assert not is_feature_draft(files_in(folder))
    assert adapter_base(folder) is None


@pytest.mark.parametrize("kind", ["config.json", "any JSON file", "the index of weights"])
def test_a_file_that_is_nested_too_deep_is_refused(kind: str, tmp_path: Path):
    name, read = READERS[kind]
    (tmp_path / name).write_text(DEEP)
    with pytest.raises(ModelReferenceError):
        read(tmp_path)


def test_a_header_of_weights_is_read_as_far_as_the_library_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    header = json.dumps({"x": {"data_offsets": [0, 0]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert what_is_wrong(path) is None
    monkeypatch.setattr(weight_files, "_MAX_HEADER_BYTES", 10)
    assert what_is_wrong(path) == f"{path} is not a safetensors file"


def test_a_tokenizer_that_is_none_by_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(folder_tokenizer, "_MAX_TOKENIZER_BYTES", 10)
    (tmp_path / "tokenizer.json").write_text("{}" * 10)
    with pytest.raises(ModelReferenceError, match="20 bytes, more than the 10 of any tokenizer"):
        read_folder_tokenizer(tmp_path)
