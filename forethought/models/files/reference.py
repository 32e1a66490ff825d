"""Model references: one way to say which model, the same in every setting and command.

`resolve` turns a reference into files on this machine and downloads them where it must. It looks
in this order: `package:` and `draft:`, what exists on disk, then the hub, so that a local folder
named `org/name` wins over the hub's model of that name.
"""

import re
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import huggingface_hub

from forethought.errors import ModelReferenceError
from forethought.models.files.model_kind import adapter_base
from forethought.models.files.weight_files import ggufs_in, is_gguf, parts_of, safetensors_of

ACCEPTED_FORMS = (
    "accepted are: a folder with config.json, tokenizer.json and *.safetensors; "
    "a .gguf file, or a folder that holds one; "
    "a hub id such as 'org/name' or 'org/name@revision'; "
    "'package:DISTRIBUTION' for the .gguf file of an installed Python distribution; "
    "'draft:NAME' for a draft that comes with Forethought"
)

_PACKAGE_PREFIX = "package:"
_DRAFT_PREFIX = "draft:"
_DRAFTS = "forethought_drafts"  # the package whose folders they are
_HUB_ID = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\S+))?", re.ASCII)
_TEXT_PATTERNS = ["*.json", "*.jinja"]
_WEIGHT_PATTERNS = ["*.safetensors"]
_INSIDE_FOLDERS = {".safetensors", ".json"}
_PICKLES = {".bin", ".pt", ".pth", ".ckpt"}
# Folders hold other formats of the same weights; consolidated files repeat the sharded ones.
_IGNORED_PATTERNS = ["*/*", "consolidated*.safetensors"]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model on this machine."""

    reference: str
    """What the user wrote; shown in messages and metrics."""
    folder: Path
    """Where config.json and tokenizer.json are, or the folder of `gguf`."""
    gguf: Path | None
    """The file that holds everything, for GGUF models; the first where it is split into several."""

    def weight_files(self) -> tuple[Path, ...]:
        """The parts of the GGUF file, or the safetensors files in order of their names; may be
        empty. Raises ModelReferenceError for an index that cannot be read."""
        return safetensors_of(self.folder) if self.gguf is None else parts_of(self.gguf)


def resolve(reference: str, *, with_weights: bool = True) -> ModelFiles:
    """The files that `reference` names.

    With `with_weights=False` a hub model's weights are not downloaded, and a folder need not
    have any: enough for a tokenizer. Honours HF_HUB_OFFLINE and the other settings of
    huggingface_hub. Raises ModelReferenceError, which says what was tried.
    """
    reference = reference.strip()
    if reference.startswith(_PACKAGE_PREFIX):
        return _from_package(reference)
    if is_shipped(reference):
        return _from_shipped(reference, with_weights=with_weights)
    path = _on_disk(reference)
    if path is not None:
        try:
            return _from_path(reference, path, with_weights=with_weights)
        except OSError as error:
            raise _refusal(reference, f"it cannot be read: {error.strerror or error}") from error
    hub_id = _HUB_ID.fullmatch(reference)
    if hub_id is not None and not reference.endswith(".gguf"):
        return _from_hub(reference, hub_id["id"], hub_id["revision"], with_weights=with_weights)
    raise _refusal(reference, "there is no such file or folder, and it is not a hub id")


def _from_package(reference: str) -> ModelFiles:
    """Reads the installed distribution's file list: importing it could run anything."""
    name = reference.removeprefix(_PACKAGE_PREFIX).strip()
    try:
        files = metadata.distribution(name).files or []
    except (metadata.PackageNotFoundError, ValueError) as error:
        raise _refusal(reference, f"no distribution {name!r} is installed here") from error
    located = (Path(str(file.locate())) for file in files if file.suffix == ".gguf")
    firsts = sorted({parts_of(path)[0] for path in located if path.is_file()})
    return _from_gguf(reference, _only(firsts, reference, "the distribution"))


def is_shipped(reference: str) -> bool:
    """Whether this names a draft that comes with Forethought, be it there or not."""
    return reference.startswith(_DRAFT_PREFIX)


def is_on_hub(reference: str) -> bool:
    """Whether this names a model that is to be downloaded, if it is not in the cache."""
    if reference.startswith((_PACKAGE_PREFIX, _DRAFT_PREFIX)) or reference.endswith(".gguf"):
        return False
    return _on_disk(reference) is None and _HUB_ID.fullmatch(reference.strip()) is not None


def _from_shipped(reference: str, *, with_weights: bool) -> ModelFiles:
    """Finds the package without importing it."""
    name = reference.removeprefix(_DRAFT_PREFIX).strip()
    package = find_spec(_DRAFTS)
    if package is None:
        raise _refusal(reference, "the package forethought-drafts is not installed")
    folders = [Path(place) / name for place in package.submodule_search_locations or ()]
    found = [each for each in folders if re.fullmatch(r"\w[\w.-]*", name) and each.is_dir()]
    if not found:
        raise _refusal(reference, f"forethought-drafts has no draft {name!r}")
    return _from_path(reference, found[0], with_weights=with_weights)


def _from_path(reference: str, path: Path, *, with_weights: bool) -> ModelFiles:
    if path.is_file():
        if path.suffix.lower() in _INSIDE_FOLDERS:
            raise _refusal(reference, "the file is a part of a model: name its folder instead")
        if not is_gguf(path):
            raise _refusal(reference, "the file is not a .gguf file")
        return _from_gguf(reference, path)
    if not path.is_dir():
        raise _refusal(reference, "it is neither a file nor a folder")
    has_config = (path / "config.json").exists()
    ggufs = ggufs_in(path)
    if ggufs and not has_config:
        return _from_gguf(reference, _only(ggufs, reference, "the folder"))
    files = ModelFiles(reference, path, None)
    if with_weights:
        missing = _missing(files, has_config=has_config)
        if missing:
            raise _refusal(reference, missing)
    if not has_config and not (path / "tokenizer.json").exists():
        raise _refusal(reference, "the folder has no config.json, tokenizer.json or .gguf file")
    return files


def _from_gguf(reference: str, path: Path) -> ModelFiles:
    """Whichever of its parts is named."""
    return ModelFiles(reference, path.parent, parts_of(path)[0])


def _missing(files: ModelFiles, *, has_config: bool) -> str | None:
    """What a folder lacks to be a model; None if it lacks nothing."""
    folder, weights = files.folder, files.weight_files()
    base = adapter_base(folder)
    if base is not None and not (has_config and weights):
        return (
            f"the folder holds an adapter of {base} (PEFT), not a model: merge it into that model "
            "with merge_and_unload(), and save the result"
        )
    if not has_config and (folder / "snapshots").is_dir():
        name = folder.name.removeprefix("models--").replace("--", "/")
        return f"the folder is the hub's cache of a model: name {name} instead"
    if not has_config:
        return "the folder has neither config.json nor a .gguf file"
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in _PICKLES)
    if not weights and pickles:
        return (
            f"the folder has no *.safetensors, but pickled weights, {pickles[0]}, which can run "
            "anything when they are read: convert them, with save_pretrained() of transformers"
        )
    return None if weights else "the folder has no *.safetensors"


def _from_hub(
    reference: str, hub_id: str, revision: str | None, *, with_weights: bool
) -> ModelFiles:
    patterns = _TEXT_PATTERNS + (_WEIGHT_PATTERNS if with_weights else [])
    try:
        # Imported with the first model that is on the hub.
        folder = huggingface_hub.snapshot_download(
            hub_id, revision=revision, allow_patterns=patterns, ignore_patterns=_IGNORED_PATTERNS
        )
    except Exception as error:
        # The hub client's errors share no base class, and each of them means the same here.
        cause = f"{type(error).__name__}: {error}"
        if isinstance(error, PermissionError) or "home directory" in str(error):
            cause += "; set HF_HOME to a folder that this user may write"
        raise _refusal(
            reference, f"there is no such file or folder, and the hub said {cause}"
        ) from error
    return _from_path(reference, Path(folder), with_weights=with_weights)


def _only(ggufs: list[Path], reference: str, place: str) -> Path:
    if len(ggufs) != 1:
        names = ", ".join(path.name for path in ggufs) or "none"
        raise _refusal(reference, f"{place} must hold one .gguf file, found {names}")
    return ggufs[0]


def _on_disk(reference: str) -> Path | None:
    """A path that the system refuses to look at (too long, no such user) is not there."""
    try:
        path = Path(reference).expanduser()
        return path if reference and path.exists() else None
    except (OSError, ValueError, RuntimeError):
        return None


def _refusal(reference: str, what: str) -> ModelReferenceError:
    return ModelReferenceError(f"Cannot resolve model {reference!r}: {what}; {ACCEPTED_FORMS}.")
