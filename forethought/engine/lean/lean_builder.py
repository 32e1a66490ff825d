"""From a configuration and a checkpoint to a lean decoder."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from forethought.engine.lean.lean_decoder import (
    LeanBackend,
    LeanDecoder,
    LeanLayer,
    LeanWeights,
    RMSNorm,
)
from forethought.engine.lean.native_layers import NativeLayers
from forethought.engine.lean.native_steps import NativeSteps, is_native
from forethought.engine.lean.reading_progress import ReadingProgress
from forethought.engine.lean.torch_steps import TorchSteps
from forethought.engine.linear.capped_head import CappedHead
from forethought.engine.linear.group_linear import GroupLinear, int4_linear
from forethought.engine.linear.linear import Int8Linear, Linear, dense_linear
from forethought.engine.linear.part_head import PartHead
from forethought.engine.linear.quant_linear import QuantLinear
from forethought.engine.native import kernels
from forethought.engine.weights.checkpoint import Checkpoint, Embedding
from forethought.engine.weights.lean_config import LeanConfig
from forethought.engine.weights.lean_tensors import (
    EMBEDDING,
    HEAD,
    HEAD_ROW_IDS,
    OUTPUT_NORMS,
    check_tensors,
    decoder_tensors,
    part_of,
)
from forethought.engine.weights.weight_groups import GROUP_SIZE, Int4Groups, Int8Groups

_NUMBERS = 7
"""Raised whenever the same weights give other numbers than before, so that tiers of different
versions do not share keys and values."""

FORMATS = {
    "float32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
    "int8": "int8",
    "int4": "int4-g32",
    "stored": "stored",
}
"""Number formats of the matrices in the layers, with the name that tells them apart. "stored" is
for tensors of GGUF files of any kinds, which the name lists."""


def build_lean_decoder(
    config: LeanConfig,
    checkpoint: Checkpoint,
    number_format: str,
    max_model_len: int,
    head_token_ids: Sequence[int] = (),
) -> LeanDecoder:
    """Reads and lays out all weights.

    Args:
        config: of the model.
        checkpoint: of a model with this configuration.
        number_format: of the matrices in the layers, a key of `FORMATS`. The embedding and the
            head, which decides between neighbouring probabilities, stay in bfloat16 with int8 and
            int4, unless the checkpoint has them in 4 bits. The tensors of a GGUF file stay as they
            are with "stored", where activations that meet quantised ones are rounded to 8 bits, and
            with float32.
        max_model_len: longest sequence, tokens.
        head_token_ids: the only tokens that it scores, if any are named; all others have minus
            infinity. Of a model that has a part of its vocabulary, those that it has too.

    Raises:
        ValueError: the checkpoint lacks weights, or has some of other shapes; or the model has none
            of the named tokens.
    """
    shape = replace(config, max_model_len=max_model_len)
    check_tensors(decoder_tensors(config, checkpoint), checkpoint)
    parts = Parts(config, checkpoint, number_format)
    weights = LeanWeights(
        parts.embedding(),
        parts.layers("model.layers"),
        parts.norm("model.norm"),
        parts.head(head_token_ids),
    )
    return LeanDecoder(shape, weights, parts.name(), choose_backend(shape, parts.dtype))


def choose_backend(shape: LeanConfig, dtype: torch.dtype) -> LeanBackend:
    """The fastest on this CPU.

    Args:
        shape: of the model.
        dtype: of its dense matrices.
    """
    # Half the memory of the cache and half its reading, where the weights are rounded more anyway.
    kv_dtype = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
    steps = NativeSteps if is_native(shape, dtype) else TorchSteps
    whole = NativeLayers.of if steps is NativeSteps else None
    # Products in C round differently from torch's, and so do the steps between them.
    parts = ["lean", str(_NUMBERS)]
    if steps is TorchSteps:
        parts += ["torch-steps"] if kernels.are_built else ["torch"]
    return LeanBackend("-".join(parts), steps, whole, kv_dtype, torch.device("cpu"))


@dataclass(frozen=True, slots=True)
class Parts:
    """Reads the parts of a model by their names in transformers."""

    config: LeanConfig
    checkpoint: Checkpoint
    number_format: str

    @property
    def dtype(self) -> torch.dtype:
        """Of dense matrices."""
        names = {"float32": torch.float32, "float16": torch.float16}
        return names.get(self.number_format, torch.bfloat16)

    def embedding(self) -> Embedding:
        read, scale = self._embedding(), self.config.embedding_scale
        return read if scale == 1.0 else lambda token_ids: read(token_ids).mul_(scale)

    def _embedding(self) -> Embedding:
        name, checkpoint = EMBEDDING, self.checkpoint
        from_file = checkpoint.embedding(name)
        if from_file is not None:
            return from_file
        table = checkpoint.dense(name).to(self.dtype)  # [V, hidden]
        return lambda token_ids: table[list(token_ids)].to(torch.float32, copy=True)

    def head(self, token_ids: Sequence[int] = ()) -> Linear:
        """Scores of all tokens that the head has rows for, or of those of them that are named."""
        self.checkpoint.forget()
        weight = EMBEDDING if self.config.ties_embeddings else HEAD
        if HEAD_ROW_IDS in self.checkpoint:
            stored = self.checkpoint.dense(HEAD_ROW_IDS).long()  # [rows], a token id each
        elif token_ids:
            stored = torch.arange(self.config.vocab_size)
        else:
            return self._scores(weight)
        named = torch.tensor(token_ids) if token_ids else stored
        rows = torch.isin(stored, named).nonzero().flatten()  # [R]
        if not len(rows):
            raise ValueError("the model has none of the tokens that it is to score")
        alone = replace(self, checkpoint=self.checkpoint.rows_of(weight, rows))
        return PartHead(alone._scores(weight), stored[rows], self.config.vocab_size)  # noqa: SLF001

    def _scores(self, weight: str) -> Linear:
        """The scores by all rows of that matrix."""
        product, cap = self._head(weight), self.config.logit_cap
        return CappedHead(product, cap) if cap else product

    def _head(self, weight: str) -> Linear:
        if (product := self._as_stored([weight])) is not None:
            return product
        groups = self.checkpoint.int4(weight) if self.number_format == "int4" else None
        if groups is not None and (linear := int4_linear(groups)) is not None:
            return linear
        if self.number_format in {"int8", "int4"}:
            stored = self._stored_int8([weight])
            if stored is not None:
                dtype = torch.float32 if self.number_format == "int8" else self.dtype
                return GroupLinear(stored, dtype=dtype, result_dtype=torch.float32)
        return dense_linear(self.checkpoint.dense(weight).to(self.dtype), is_head=True)

    def name(self) -> str:
        """Of the number format, by which it is told from others."""
        name = FORMATS[self.number_format]
        if self.number_format != "stored":
            return name
        num_bytes: Counter[str] = Counter()
        for each in self.checkpoint.shapes():
            if (tensor := self.checkpoint.stored(each)) is not None:
                num_bytes[tensor.kind] += tensor.data.nbytes
        return f"{name} {'+'.join(kind for kind, _ in num_bytes.most_common())}"

    def layers(self, prefix: str) -> Sequence[LeanLayer]:
        """All of them; the log says how far it is."""
        progress = ReadingProgress(self.checkpoint.sizes())
        layers = []
        for index in range(self.config.num_layers):
            layers.append(self.layer(f"{prefix}.{index}"))
            progress.add_layer(f"{prefix}.{index}")
        return layers

    def layer(self, name: str) -> LeanLayer:
        self.checkpoint.forget()
        attention, mlp = f"{name}.self_attn", f"{name}.mlp"
        before_mlp, post_attention, post_mlp = "post_attention_layernorm", "", ""
        if self.config.norms_outputs:
            before_mlp, post_attention, post_mlp = OUTPUT_NORMS
        return LeanLayer(
            attention_norm=self.norm(f"{name}.input_layernorm"),
            qkv=self.linear([f"{attention}.{part}_proj" for part in "qkv"]),
            qk_norm=self._qk_norm(attention),
            out=self.linear([f"{attention}.o_proj"]),
            post_attention_norm=self.norm(f"{name}.{post_attention}") if post_attention else None,
            mlp_norm=self.norm(f"{name}.{before_mlp}"),
            gate_up=self.linear([f"{mlp}.gate_proj", f"{mlp}.up_proj"]),
            down=self.linear([f"{mlp}.down_proj"]),
            post_mlp_norm=self.norm(f"{name}.{post_mlp}") if post_mlp else None,
        )

    def norm(self, name: str) -> RMSNorm:
        # Copied: a part of a mapped file would keep in memory all that was read of it.
        weight = self.checkpoint.dense(f"{name}.weight").to(torch.float32, copy=True)
        return RMSNorm(weight.contiguous(), self.config.rms_norm_eps)

    def linear(self, names: Sequence[str]) -> Linear:
        """The product with the rows of all the named matrices."""
        has_bias = any(part_of(name) in self.config.biased for name in names)
        bias = torch.cat([self._bias(name) for name in names]) if has_bias else None
        weights = [f"{name}.weight" for name in names]
        if (product := self._as_stored(weights, bias)) is not None:
            return product
        bias = None if bias is None else bias.to(self.dtype)
        if self.number_format == "int4":
            parts = [groups for name in weights if (groups := self._int4(name)) is not None]
            whole = Int4Groups.stacked(parts) if len(parts) == len(weights) else None
            if whole is not None and (linear := int4_linear(whole, bias)) is not None:
                return linear
        if self.number_format == "int8":
            stored = self._stored_int8(weights)
            if stored is not None:
                return GroupLinear(stored, bias, torch.float32)
            return Int8Linear(torch.cat([self._dense(name) for name in weights]), bias)
        return dense_linear(torch.cat([self._dense(name) for name in weights]), bias)

    def _bias(self, name: str) -> torch.Tensor:
        if part_of(name) in self.config.biased:
            return self._read(f"{name}.bias").float()
        return torch.zeros(self.checkpoint.shapes()[f"{name}.weight"][0])

    def _as_stored(
        self, names: Sequence[str], bias: torch.Tensor | None = None
    ) -> QuantLinear | None:
        """The product with the rows of all the named matrices, if they stay as the checkpoint has
        them."""
        if self.number_format not in {"stored", "float32"} or not QuantLinear.is_supported():
            return None
        found = [self.checkpoint.stored(name) for name in names]
        stored = [tensor for tensor in found if tensor is not None]
        if len(stored) < len(names):
            return None
        return QuantLinear(stored, bias, keeps_floats=self.number_format == "float32")

    def _dense(self, name: str) -> torch.Tensor:
        return self._read(name).to(self.dtype)

    def _int4(self, name: str) -> Int4Groups | None:
        """None if the rows do not divide into groups."""
        stored = self.checkpoint.int4(name)
        if stored is not None:
            return stored
        rows = self._read(name)
        return Int4Groups.rounded(rows) if rows.shape[1] % GROUP_SIZE == 0 else None

    def _stored_int8(self, names: Sequence[str]) -> Int8Groups | None:
        """The rows of all the named matrices, if they are stored so and there is a kernel."""
        if not GroupLinear.is_supported():
            return None
        stored = [groups for name in names if (groups := self.checkpoint.int8(name)) is not None]
        return Int8Groups.stacked(stored) if len(stored) == len(names) else None

    def _qk_norm(self, attention: str) -> RMSNorm | None:
        if not self.config.norms_heads:
            return None
        counts = (self.config.num_heads, self.config.num_kv_heads)
        order = self.config.pair_order()
        rows = [
            self.checkpoint.dense(f"{attention}.{part}_norm.weight")[order].expand(count, -1)
            for part, count in zip("qk", counts, strict=True)
        ]
        return RMSNorm(torch.cat(rows).float(), self.config.rms_norm_eps)  # [H + J, D]

    def _read(self, name: str) -> torch.Tensor:
        """A weight with the two rows of q and k that rotate together side by side."""
        rows = self.checkpoint.dense(name)
        if self.checkpoint.rotates_pairs or name.split(".")[-2] not in {"q_proj", "k_proj"}:
            return rows
        heads = rows.view(-1, self.config.head_dim, *rows.shape[1:])  # [heads, D, ...]
        return heads[:, self.config.pair_order()].view(rows.shape)
