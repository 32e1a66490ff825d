"""Where the weights of a model lie: in memory, in safetensors, in a GGUF file.

Of the files that transformers loads, safetensors are read directly, and so never twice in memory;
of other kinds, transformers has made a model whose weights are taken over.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open

from forethought.engine.weights.checkpoint import Checkpoint, Embedding
from forethought.engine.weights.gguf_families import GGUFFamily, gguf_tensor_names
from forethought.engine.weights.gguf_file import GGUFFile, GGUFTensor
from forethought.engine.weights.gguf_formats import STORED_KINDS
from forethought.engine.weights.lean_config import LeanConfig
from forethought.engine.weights.weight_groups import INT4_KINDS, INT8_KINDS, Int4Groups, Int8Groups
from forethought.models.files.weight_files import FileVersion, unchanged

_PLAIN = frozenset({"F64", "F32", "F16", "BF16"})
"""Formats of safetensors that need no scales."""
_ITEM_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}
"""Of those that take more than one."""


class _DenseCheckpoint(ABC):
    """Weights as transformers has them, none of them packed."""

    rotates_pairs = False

    @abstractmethod
    def dense(self, name: str) -> torch.Tensor:
        """As `Checkpoint.dense`."""

    def rows_of(self, name: str, rows: torch.Tensor) -> Checkpoint:
        return TensorCheckpoint({name: self.dense(name)[rows]})

    def embedding(self, name: str) -> None:  # noqa: ARG002
        return None

    def int4(self, name: str) -> None:  # noqa: ARG002
        return None

    def int8(self, name: str) -> None:  # noqa: ARG002
        return None

    def stored(self, name: str) -> None:  # noqa: ARG002
        return None


class TensorCheckpoint(_DenseCheckpoint):
    """Tensors in memory."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = tensors

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def shapes(self) -> Mapping[str, Sequence[int]]:
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def sizes(self) -> Mapping[str, int]:
        return {name: tensor.nbytes for name, tensor in self._tensors.items()}

    def dense(self, name: str) -> torch.Tensor:
        return self._tensors[name].detach()

    def forget(self) -> None:
        """They are in memory as long as there is a checkpoint."""

    def close(self) -> None:
        self._tensors = {}


class SafetensorsCheckpoint(_DenseCheckpoint):
    """Some *.safetensors files, mapped.

    What has been read of a mapping stays in memory as long as any tensor of it, so `forget` lets go
    of all mappings, and what is read next comes from new ones, of the same files as before.

    Raises:
        ModelReferenceError: here or later, a file was replaced since it was first read.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths: dict[str, Path] = {}
        self._shapes: dict[str, Sequence[int]] = {}
        self._kinds: dict[str, str] = {}
        self._mapped: dict[Path, Any] = {}
        self._versions: dict[Path, FileVersion] = {}
        for path in paths:
            file = self._map(path)
            for name in file.keys():  # noqa: SIM118
                stored = file.get_slice(name)
                self._paths[name], self._shapes[name] = path, stored.get_shape()
                self._kinds[name] = stored.get_dtype()

    def _map(self, path: Path) -> Any:
        if path not in self._mapped:
            with unchanged(path, self._versions.get(path)) as version:
                self._mapped[path] = safe_open(path, framework="pt")
            self._versions[path] = version
        return self._mapped[path]

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def shapes(self) -> Mapping[str, Sequence[int]]:
        return self._shapes

    def sizes(self) -> Mapping[str, int]:
        return {
            name: prod(shape) * _ITEM_BYTES.get(self._kinds[name], 1)
            for name, shape in self._shapes.items()
        }

    def refuse_quantised(self) -> None:
        """Raises ValueError for weights in a format that is a part of some quantisation: as plain
        numbers they are without their scales."""
        for name, kind in self._kinds.items():
            if name.endswith("weight") and kind not in _PLAIN:
                raise ValueError(
                    f"{name} is stored in {kind}, and config.json has no quantization_config that "
                    "says how it is meant"
                )

    def dense(self, name: str) -> torch.Tensor:
        weight: torch.Tensor = self._map(self._paths[name]).get_tensor(name)
        return weight

    def forget(self) -> None:
        self._mapped = {}

    def close(self) -> None:
        self.forget()


class GGUFCheckpoint:
    """A GGUF file of a family that the lean decoder knows.

    Args:
        file: what the tensors are mapped from.
        tensors: by transformers' names.
        pair_order: of the rows of q and k whose pairs are half a head apart; None where they are
            neighbours.
    """

    rotates_pairs = True

    def __init__(
        self,
        file: GGUFFile,
        tensors: Mapping[str, GGUFTensor],
        pair_order: npt.NDArray[np.int64] | None,
    ) -> None:
        self._file = file
        self._tensors = tensors
        self._pair_order = pair_order

    @classmethod
    def of(cls, file: GGUFFile, family: GGUFFamily, config: LeanConfig) -> Self:
        """All the tensors of a file."""
        tensors = {
            name: tensor
            for ggml_name, stored_name in gguf_tensor_names(file).items()
            for name, tensor in _split(stored_name, file.tensors[ggml_name], config)
        }
        return cls(file, tensors, None if family.rotates_pairs else config.pair_order().numpy())

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def shapes(self) -> Mapping[str, Sequence[int]]:
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def sizes(self) -> Mapping[str, int]:
        return {name: tensor.data.nbytes for name, tensor in self._tensors.items()}

    def dense(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self._tensor(name).dequantized())

    def embedding(self, name: str) -> Embedding:
        table = self._tensor(name)

        def read(token_ids: Sequence[int]) -> torch.Tensor:
            shape = (len(token_ids), table.shape[-1])
            rows = GGUFTensor(table.kind, shape, table.data[list(token_ids)])
            return torch.from_numpy(rows.dequantized())

        return read

    def int4(self, name: str) -> Int4Groups | None:
        tensor = self._tensor(name)
        return Int4Groups.from_gguf(tensor) if tensor.kind in INT4_KINDS else None

    def int8(self, name: str) -> Int8Groups | None:
        tensor = self._tensor(name)
        return Int8Groups.from_gguf(tensor) if tensor.kind in INT8_KINDS else None

    def stored(self, name: str) -> GGUFTensor | None:
        tensor = self._tensor(name)
        return tensor if tensor.kind in STORED_KINDS and len(tensor.shape) == 2 else None

    def rows_of(self, name: str, rows: torch.Tensor) -> Checkpoint:
        stored = self._tensor(name)
        shape = (len(rows), *stored.shape[1:])
        picked = replace(stored, shape=shape, data=stored.data[rows.numpy()])
        return GGUFCheckpoint(self._file, {name: picked}, None)

    def _tensor(self, name: str) -> GGUFTensor:
        """With the two rows of q and k that rotate together side by side."""
        tensor = self._tensors[name]
        if self._pair_order is None or name.split(".")[-2] not in {"q_proj", "k_proj"}:
            return tensor
        head_dim = len(self._pair_order)
        heads = tensor.data.reshape(tensor.shape[0] // head_dim, head_dim, -1)  # [heads, D, bytes]
        return replace(tensor, data=heads[:, self._pair_order].reshape(tensor.data.shape))

    def forget(self) -> None:
        self._file.forget_pages()

    def close(self) -> None:
        self.forget()


def _split(name: str, tensor: GGUFTensor, config: LeanConfig) -> Iterator[tuple[str, GGUFTensor]]:
    """The rows of what is one matrix in some files and several here."""
    keys, inner = config.num_kv_heads * config.head_dim, config.intermediate_size
    stem, _, module = name.removesuffix(".weight").rpartition(".")
    parts = {
        "qkv_proj": {"q_proj": config.num_heads * config.head_dim, "k_proj": keys, "v_proj": keys},
        "gate_up_proj": {"gate_proj": inner, "up_proj": inner},
    }.get(module)
    if parts is None:
        yield name, tensor
        return
    if sum(parts.values()) != tensor.shape[0]:
        raise ValueError(f"{name} has {tensor.shape[0]} rows, not {sum(parts.values())}")
    start = 0
    for part, num_rows in parts.items():
        data = tensor.data[start : start + num_rows]
        yield f"{stem}.{part}.weight", replace(tensor, shape=(num_rows, tensor.shape[1]), data=data)
        start += num_rows
