"""From the files of a model to a model that runs.

On a CPU the lean decoder runs what it knows. All else runs in transformers' own code.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from forethought.engine.hf.transformers_settings import read_settings
from forethought.engine.lean.feature_draft import (
    DEFAULT_FORMAT,
    FeatureDecoder,
    load_feature_draft,
)
from forethought.engine.lean.lean_builder import build_lean_decoder
from forethought.engine.lean.lean_decoder import LeanDecoder
from forethought.engine.linear.quant_linear import QuantLinear
from forethought.engine.model.causal_model import CausalModel
from forethought.engine.model.numbers import refuse_what_is_no_number
from forethought.engine.model.packed import SequencePart, pack
from forethought.engine.model.positions import longest_sequence
from forethought.engine.native.kernels import warn_if_missing
from forethought.engine.weights.checkpoint import Checkpoint
from forethought.engine.weights.gguf_families import family_of
from forethought.engine.weights.gguf_file import GGUFFile, read_gguf
from forethought.engine.weights.gguf_formats import gguf_dtype, packed_format
from forethought.engine.weights.gguf_settings import lean_config, unknown_parts
from forethought.engine.weights.lean_config import LeanConfig, is_lean
from forethought.engine.weights.lean_tensors import EMBEDDING, HEAD_ROW_IDS, with_stored_head
from forethought.engine.weights.plain_settings import read_plain_settings
from forethought.engine.weights.stored_checkpoints import (
    GGUFCheckpoint,
    SafetensorsCheckpoint,
    TensorCheckpoint,
)
from forethought.errors import InvalidArgumentError, ModelReferenceError
from forethought.models.feature_draft import is_feature_draft
from forethought.models.files.model_kind import check_kind
from forethought.models.files.reference import ModelFiles
from forethought.models.files.weight_files import check_weight_files
from forethought.tier import MAX_NUM_THREADS

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_PACKED = ("int8", "int4")
_SOME_LENGTH = 512  # tokens: that of the trial of a model that does not say how many it takes


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to run a model.

    Raises:
        InvalidArgumentError: a value that means nothing.
    """

    dtype: str = "auto"
    """float32, bfloat16, float16; on a CPU also int8 (a scale for each row) and int4 (a scale and
    an offset for each 32 weights), for the matrices of the layers of models that the lean decoder
    knows; or auto: that of the checkpoint, a GGUF file's tensors as they are stored, and bfloat16
    on a CPU for what the checkpoint has in float16."""
    device: str = "auto"
    """cpu, cuda, cuda:N, or auto: cuda if there is one."""
    num_threads: int = 0
    """Threads of one operation on a CPU, for the whole process; 0 leaves it to torch."""
    max_model_len: int = 0
    """Longest sequence, tokens; 0 is what the model was made for, which is also the limit."""
    head_token_ids: Sequence[int] = ()
    """The only tokens that the model scores, for models of the lean decoder; none: all."""

    def __post_init__(self) -> None:
        dtypes = ("auto", *DTYPES, *_PACKED)
        violations = {
            name: text
            for name, valid, text in (
                ("dtype", self.dtype in dtypes, f"must be one of {', '.join(dtypes)}"),
                ("device", _is_device(self.device), "must be auto, cpu, cuda or cuda:N"),
                (
                    "num_threads",
                    0 <= self.num_threads <= MAX_NUM_THREADS,
                    f"must be from 0 to {MAX_NUM_THREADS}",
                ),
                ("max_model_len", self.max_model_len >= 0, "must not be negative"),
            )
            if not valid
        }
        if violations:
            raise InvalidArgumentError(violations)


def load_model(files: ModelFiles, options: EngineOptions) -> CausalModel:
    """Loads the weights into memory, on the device, ready to run.

    Sets torch's threads for the process, and keeps transformers quiet from here on. On a CPU the
    log says it if the kernels in C are missing.

    Raises:
        ModelReferenceError: what the reference names cannot be loaded or run with these options.
    """
    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    try:
        check_files(files)
        if is_feature_draft(files):
            warn_if_missing()
            return _load_feature_draft(files, options)
        device = choose_device(options.device)
        if device.type == "cpu":
            warn_if_missing()
            return _load_on_cpu(files, options)
        return _load_in_transformers(files, options, device)
    # Whatever goes wrong inside transformers, all that matters here is which model it was.
    except Exception as error:
        raise ModelReferenceError(f"cannot load {files.reference}: {error}") from error


def check_files(files: ModelFiles) -> None:
    """Raises ModelReferenceError for files that are damaged, or hold another kind of model."""
    check_weight_files(files.weight_files())
    if files.gguf is None:
        check_kind(files.folder)


def open_checkpoint(files: ModelFiles) -> tuple[LeanConfig, Checkpoint]:
    """The configuration and the weights, still in their file, of a model like a Llama.

    Raises:
        ModelReferenceError: it is of another family, or cannot be read.
    """
    try:
        check_files(files)
        direct = _open_directly(files)
    # As above.
    except Exception as error:
        raise ModelReferenceError(f"cannot read {files.reference}: {error}") from error
    if direct is None or not direct[0].is_plain:
        raise ModelReferenceError(
            f"{files.reference} is no model of the Llama family with weights in safetensors or GGUF"
        )
    return direct[:2]


def _load_on_cpu(files: ModelFiles, options: EngineOptions) -> CausalModel:
    direct = _open_directly(files)
    if direct is None:
        return _load_in_transformers(files, options, torch.device("cpu"))
    config, checkpoint, dtype_name = direct
    return _build(config, checkpoint, dtype_name, options)


def _load_feature_draft(files: ModelFiles, options: EngineOptions) -> FeatureDecoder:
    if options.device not in {"auto", "cpu"}:
        raise ValueError(f"a feature draft runs on the CPU, not on {options.device}")
    number_format = DEFAULT_FORMAT if options.dtype == "auto" else options.dtype
    draft = load_feature_draft(files, number_format, options.max_model_len)
    _try_out(draft)
    return draft


def _open_directly(files: ModelFiles) -> tuple[LeanConfig, Checkpoint, str] | None:
    """Configuration, weights that are still in their file, and the number format for "auto".

    None for what the lean decoder does not know, or has to get through transformers.
    """
    if files.gguf is not None:
        return _open_gguf(read_gguf(files.gguf))
    settings = read_plain_settings(files.folder) or read_settings(files.folder)
    checkpoint = SafetensorsCheckpoint(files.weight_files())
    if getattr(settings, "quantization_config", None) is None:
        checkpoint.refuse_quantised()
    if not is_lean(settings) or EMBEDDING not in checkpoint:
        return None
    dtype = settings.dtype or checkpoint.dense(EMBEDDING).dtype
    if dtype not in DTYPES.values():
        return None
    config = with_stored_head(LeanConfig.from_transformers(settings), checkpoint)
    return config, checkpoint, _name(dtype)


def _open_gguf(file: GGUFFile) -> tuple[LeanConfig, Checkpoint, str] | None:
    family = family_of(file)
    if family is None or (family.is_read_by_transformers and unknown_parts(file)):
        return None
    number_format = packed_format(file)
    if number_format is None or (number_format == "stored" and not QuantLinear.is_supported()):
        number_format = _name(gguf_dtype(file))
    config = lean_config(file)
    return config, GGUFCheckpoint.of(file, family, config), number_format


def _load_in_transformers(
    files: ModelFiles, options: EngineOptions, device: torch.device
) -> CausalModel:
    if files.gguf is None and HEAD_ROW_IDS in SafetensorsCheckpoint(files.weight_files()):
        raise ValueError(f"a draft with a part of the vocabulary runs on the CPU, not on {device}")
    from forethought.engine.hf.transformers_loader import load_weights  # noqa: PLC0415
    from forethought.engine.hf.transformers_model import TransformersModel  # noqa: PLC0415

    model = load_weights(files, DTYPES.get(options.dtype))
    if device.type == "cpu" and is_lean(model.config):
        config = LeanConfig.from_transformers(model.config)
        return _build(config, TensorCheckpoint(model.state_dict()), _name(model.dtype), options)
    if options.dtype in _PACKED:
        what = f"{model.config.model_type} on {device.type}"
        raise ValueError(f"{options.dtype} is for models of the lean decoder on a CPU, not {what}")
    if options.head_token_ids:
        what = f"{model.config.model_type} on {device.type}"
        raise ValueError(f"models of the lean decoder can have a smaller head, not {what}")
    dtype = model.dtype
    if options.dtype == "auto" and device.type == "cpu" and dtype is torch.float16:
        dtype = torch.bfloat16
    model = model.to(device=device, dtype=dtype).eval()
    limit = longest_sequence(model.config)
    # A model that cannot be run says so before one that does not say its length.
    runner = TransformersModel(model, limit or options.max_model_len or _SOME_LENGTH)
    runner.max_model_len = _max_model_len(limit, options.max_model_len)
    return runner


def _build(
    config: LeanConfig, checkpoint: Checkpoint, dtype_name: str, options: EngineOptions
) -> CausalModel:
    if options.dtype != "auto":
        dtype_name = options.dtype
    elif dtype_name == "float16":
        dtype_name = "bfloat16"
    max_model_len = _max_model_len(config.max_model_len, options.max_model_len)
    decoder = build_lean_decoder(
        config, checkpoint, dtype_name, max_model_len, options.head_token_ids
    )
    checkpoint.close()
    return_memory()
    _try_out(decoder)
    return decoder


def _try_out(decoder: LeanDecoder) -> None:
    """Raises ValueError if what it says is no numbers."""
    decoder.allocate(1)
    logits = decoder.forward(pack([SequencePart([0, 1], 0, (0,), 2)]))
    refuse_what_is_no_number(logits, decoder.dtype_name)


def return_memory() -> None:
    """Gives the system what unpacking has left in the C library's hands, where it can be told to:
    125 MB after SmolLM2-135M."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the first GPU, if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device("cuda:0" if name == "cuda" else name)
    if device.type == "cuda":
        num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= num_devices:
            has = f"{num_devices} GPUs" if torch.version.cuda else "no part for GPUs"
            raise ModelReferenceError(
                f"--device {name}: there is no such GPU (this torch {torch.__version__} finds "
                f"{has}); --device auto takes the CPU where there is none"
            )
    return device


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _max_model_len(limit: int | None, wanted: int) -> int:
    limit = limit or wanted
    if not limit:
        raise ValueError(
            "the model does not say how long a sequence it takes; --max-model-len says it"
        )
    if wanted > limit:
        raise ValueError(f"--max-model-len {wanted}: it takes {limit} tokens at most")
    return wanted or limit


def _is_device(name: str) -> bool:
    kind, _, index = name.partition(":")
    return name in {"auto", "cpu", "cuda"} or (kind == "cuda" and index.isdecimal())
