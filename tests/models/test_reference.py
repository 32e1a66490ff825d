"""One way to name a model, and clear words when a name leads nowhere."""

import errno
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest

from forethought.errors import ModelReferenceError
from forethought.models.files import reference as reference_module
from forethought.models.files.reference import resolve


def make_model_folder(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"{}")
    return folder


def test_a_folder_with_config_and_weights_is_a_model(tmp_path):
    folder = make_model_folder(tmp_path, "config.json", "a.safetensors", "b.safetensors")
    files = resolve(str(folder))
    assert (files.reference, files.folder, files.gguf) == (str(folder), folder, None)
    assert [path.name for path in files.weight_files()] == ["a.safetensors", "b.safetensors"]


def test_consolidated_weights_are_not_counted_twice(tmp_path):
    names = ("config.json", "model.safetensors", "consolidated.safetensors")
    files = resolve(str(make_model_folder(tmp_path, *names)))
    assert [path.name for path in files.weight_files()] == ["model.safetensors"]


def test_a_gguf_file_is_a_model(tmp_path):
    make_model_folder(tmp_path, "small.gguf")
    files = resolve(str(tmp_path / "small.gguf"))
    assert (files.folder, files.gguf) == (tmp_path, tmp_path / "small.gguf")


def test_a_folder_with_one_gguf_file_and_no_config_counts_as_that_file(tmp_path):
    folder = make_model_folder(tmp_path, "small.gguf", "notes.txt")
    assert resolve(str(folder)).gguf == folder / "small.gguf"


def test_a_config_wins_over_a_gguf_file_in_the_same_folder(tmp_path):
    folder = make_model_folder(tmp_path, "small.gguf", "config.json", "model.safetensors")
    assert resolve(str(folder)).gguf is None


def test_a_package_names_the_gguf_file_of_an_installed_distribution(smollm2_files):
    assert smollm2_files.gguf is not None
    assert smollm2_files.gguf.suffix == ".gguf"
    assert smollm2_files.gguf.parent == smollm2_files.folder


def test_a_draft_that_comes_with_forethought_has_a_short_name(tmp_path, monkeypatch):
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(reference_module, "find_spec", lambda _: spec)
    folder = make_model_folder(tmp_path / "one", "config.json", "model.safetensors")
    assert resolve("draft:one").folder == folder
    for name in ("other", "../one", ".", ""):
        with pytest.raises(ModelReferenceError, match="forethought-drafts has no draft"):
            resolve(f"draft:{name}")


def test_a_draft_without_the_package_of_drafts_is_refused_by_its_name(monkeypatch):
    monkeypatch.setattr(reference_module, "find_spec", lambda _: None)
    with pytest.raises(ModelReferenceError, match="forethought-drafts is not installed"):
        resolve("draft:one")


def test_a_folder_for_text_needs_no_weights(tmp_path):
    folder = make_model_folder(tmp_path, "tokenizer.json")
    assert resolve(str(folder), with_weights=False).folder == folder


def test_a_hub_id_asks_the_hub_for_text_files_only_when_weights_are_not_needed(
    tmp_path, monkeypatch
):
    asked = []
    folder = make_model_folder(tmp_path / "hub", "config.json", "model.safetensors")

    def download(repo_id, *, revision, allow_patterns, ignore_patterns):
        asked.append((repo_id, revision, "*.safetensors" in allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/some-model.v2@refs/pr/1", with_weights=False).folder == folder
    assert resolve("org/some-model.v2").folder == folder
    assert asked == [("org/some-model.v2", "refs/pr/1", False), ("org/some-model.v2", None, True)]


def test_a_local_folder_wins_over_the_hub_model_of_the_same_name(tmp_path, monkeypatch):
    make_model_folder(tmp_path / "org" / "name", "config.json", "model.safetensors")
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name").folder == Path("org/name")


def test_a_hub_model_that_is_not_cached_is_refused_when_offline(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelReferenceError, match=r"'org/absent'.*the hub said.*accepted are"):
        resolve("org/absent")


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), RuntimeError("no home directory")]
)
def test_a_user_without_a_place_for_downloads_hears_how_to_give_one(tmp_path, monkeypatch, error):
    def download(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelReferenceError, match="set HF_HOME"):
        resolve("org/absent")


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ((), "neither config.json nor a .gguf"),
        (("config.json",), "no \\*.safetensors"),
        (("a.gguf", "b.gguf"), "must hold one .gguf file, found a.gguf, b.gguf"),
    ],
)
def test_an_incomplete_folder_is_refused_with_what_is_missing(tmp_path, names, complaint):
    make_model_folder(tmp_path, *names)
    with pytest.raises(ModelReferenceError, match=f"{complaint}.*accepted are"):
        resolve(str(tmp_path))


def test_a_folder_without_anything_about_text_is_refused_even_without_weights(tmp_path):
    with pytest.raises(ModelReferenceError, match=r"no config\.json, tokenizer\.json or \.gguf"):
        resolve(str(tmp_path), with_weights=False)


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("", "no such file or folder"),
        ("no/such/folder", "no such file or folder"),
        ("/no/such/file.gguf", "no such file or folder"),
        ("folder/file.gguf", "no such file or folder"),
        ("just-a-name", "not a hub id"),
        ("org/name@", "not a hub id"),
        ("~nobody-of-this-name/model", "no such file or folder"),
        ("nul\0byte", "no such file or folder"),
        ("x" * 5000, "no such file or folder"),
        ("package:", "no distribution ''"),
        ("package:no-such-distribution-here", "no distribution 'no-such-distribution-here'"),
        ("package:pytest", "the distribution must hold one .gguf file, found none"),
    ],
)
def test_a_bad_reference_is_refused_with_what_was_tried_and_what_is_accepted(
    reference, complaint, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelReferenceError, match=f"{complaint}.*accepted are"):
        resolve(reference)


@pytest.mark.parametrize("reference", ["/dev/null", "/dev/zero"])
def test_what_is_neither_file_nor_folder_is_refused(reference):
    with pytest.raises(ModelReferenceError, match="neither a file nor a folder"):
        resolve(reference)


def test_a_folder_that_may_not_be_read_is_refused_with_the_reason(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(reference_module, "ggufs_in", refuse)
    with pytest.raises(ModelReferenceError, match="it cannot be read: Permission denied"):
        resolve(str(tmp_path))


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    make_model_folder(tmp_path, "model.bin")
    with pytest.raises(ModelReferenceError, match=r"not a \.gguf file"):
        resolve(str(tmp_path / "model.bin"))
