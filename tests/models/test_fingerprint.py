"""Fingerprints change with what a model computes, and with nothing else."""

import shutil

import pytest

from forethought.errors import ModelReferenceError
from forethought.models.files.fingerprint import model_fingerprint, vocabulary_fingerprint
from forethought.models.files.reference import ModelFiles, resolve

MIB = 1 << 20


@pytest.fixture
def model(tmp_path) -> ModelFiles:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"layers": 2}')
    (folder / "model-1.safetensors").write_bytes(b"\1" * (4 * MIB))
    (folder / "model-2.safetensors").write_bytes(b"\2" * 1000)
    return resolve(str(folder))


def change(path, position, byte=b"\xff"):
    with path.open("r+b") as file:
        file.seek(position)
        file.write(byte)


def test_a_fingerprint_is_32_hex_digits_and_stable(model):
    fingerprint = model_fingerprint(model)
    assert len(fingerprint) == 32
    assert int(fingerprint, 16) >= 0
    assert fingerprint == model_fingerprint(model)


def test_copies_under_other_names_are_the_same_model(model, tmp_path):
    copy = shutil.copytree(model.folder, tmp_path / "copy")
    (copy / "model-1.safetensors").rename(copy / "z.safetensors")
    (copy / "README.md").write_text("not part of the model")
    assert model_fingerprint(resolve(str(copy))) == model_fingerprint(model)


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("config.json", 3),
        ("model-1.safetensors", 0),
        ("model-1.safetensors", MIB - 1),
        ("model-1.safetensors", 2 * MIB),
        ("model-1.safetensors", 3 * MIB),
        ("model-1.safetensors", 4 * MIB - 1),
        ("model-1.safetensors", 4 * MIB),
        ("model-2.safetensors", 500),
    ],
)
def test_a_change_in_any_file_changes_the_fingerprint(model, name, position):
    before = model_fingerprint(model)
    change(model.folder / name, position)
    assert model_fingerprint(model) != before


def test_the_salt_changes_the_fingerprint(model):
    assert len({model_fingerprint(model, salt) for salt in ("", "bfloat16", "int4")}) == 3


def test_a_gguf_file_has_a_fingerprint_of_its_own(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    before = model_fingerprint(resolve(str(path)))
    assert model_fingerprint(resolve(str(path.rename(tmp_path / "b.gguf")))) == before
    change(tmp_path / "b.gguf", 50)
    assert model_fingerprint(resolve(str(tmp_path / "b.gguf"))) != before


def test_a_model_without_weights_or_with_lost_files_has_no_fingerprint(model, tmp_path):
    (model.folder / "config.json").unlink()
    with pytest.raises(ModelReferenceError, match=r"config\.json"):
        model_fingerprint(model)
    with pytest.raises(ModelReferenceError, match="no weight files"):
        model_fingerprint(ModelFiles("empty", tmp_path, None))


def test_vocabularies_differ_by_order_and_by_where_tokens_begin():
    vocabularies = [["a", "b"], ["b", "a"], ["ab"], ["ab", ""], ["", "ab"], []]
    assert len({vocabulary_fingerprint(tokens) for tokens in vocabularies}) == len(vocabularies)
    assert vocabulary_fingerprint(("a", "b")) == vocabulary_fingerprint(["a", "b"])
