"""The tensors that a model of the Llama family is made of, by transformers' names.

What the configuration says decides which there must be and which are used, as in transformers: a
model that lacks one would be another model.
"""

from collections.abc import Iterable
from dataclasses import replace

import structlog

from forethought.engine.weights.checkpoint import Checkpoint
from forethought.engine.weights.lean_config import LeanConfig

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
HEAD_ROW_IDS = "token_ids"
"""Of a draft that can say a part of the vocabulary: which tokens the rows of its head are."""

OUTPUT_NORMS = (
    "pre_feedforward_layernorm",
    "post_attention_layernorm",
    "post_feedforward_layernorm",
)
"""Of layers that norm what attention and MLP give out: before the MLP, behind attention, behind the
MLP."""

Shapes = dict[str, tuple[int, ...]]

_SHOWN = 4  # names in a message
_log = structlog.get_logger(__name__)


def with_stored_head(config: LeanConfig, checkpoint: Checkpoint) -> LeanConfig:
    """A head that is stored counts, as in transformers, even if the configuration ties it."""
    return replace(config, ties_embeddings=config.ties_embeddings and HEAD not in checkpoint)


def decoder_tensors(config: LeanConfig, checkpoint: Checkpoint) -> Shapes:
    """What a decoder of this configuration is made of."""
    hidden, vocab_size = config.hidden_size, config.vocab_size
    tensors: Shapes = {EMBEDDING: (vocab_size, hidden), "model.norm.weight": (hidden,)}
    if HEAD_ROW_IDS in checkpoint:
        (num_rows,) = checkpoint.shapes()[HEAD_ROW_IDS]
        tensors |= {HEAD_ROW_IDS: (num_rows,), HEAD: (num_rows, hidden)}
    elif not config.ties_embeddings:
        tensors[HEAD] = (vocab_size, hidden)
    return tensors | layer_tensors(config, "model.layers")


def layer_tensors(config: LeanConfig, prefix: str) -> Shapes:
    """What all its layers are made of."""
    layer = _layer(config)
    return {
        f"{prefix}.{index}.{name}": shape
        for index in range(config.num_layers)
        for name, shape in layer.items()
    }


def _layer(config: LeanConfig) -> Shapes:
    hidden, inner, head_dim = config.hidden_size, config.intermediate_size, config.head_dim
    queries, keys = config.num_heads * head_dim, config.num_kv_heads * head_dim
    matrices = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    tensors: Shapes = {f"{name}.weight": shape for name, shape in matrices.items()}
    for name, (num_rows, _) in matrices.items():
        if part_of(name) in config.biased:
            tensors[f"{name}.bias"] = (num_rows,)
    norms = OUTPUT_NORMS if config.norms_outputs else ("post_attention_layernorm",)
    for name in ("input_layernorm", *norms):
        tensors[f"{name}.weight"] = (hidden,)
    if config.norms_heads:
        tensors |= {f"self_attn.{part}_norm.weight": (head_dim,) for part in "qk"}
    return tensors


def part_of(name: str) -> str:
    """The part of a layer that a module is: "q" for model.layers.0.self_attn.q_proj."""
    return name.rpartition(".")[2].removesuffix("_proj")


def check_tensors(expected: Shapes, checkpoint: Checkpoint) -> None:
    """Logs those that are not used.

    Raises:
        ValueError: some are missing, or of another shape.
    """
    stored = {name: tuple(shape) for name, shape in checkpoint.shapes().items()}
    refuse_missing(expected.keys() - stored.keys())
    refuse_misshaped(
        (name, stored[name], shape) for name, shape in expected.items() if stored[name] != shape
    )
    warn_of_unused(stored.keys() - expected.keys())


def refuse_missing(names: Iterable[str]) -> None:
    """Raises ValueError if there are any."""
    if missing := listed(names):
        raise ValueError(f"the weights lack what the configuration asks for: {missing}")


def refuse_misshaped(tensors: Iterable[tuple[str, Iterable[int], Iterable[int]]]) -> None:
    """Each a name, the shape that is stored, and the one that it should have. Raises ValueError if
    there are any."""
    texts = [f"{name} {list(stored)} for {list(shape)}" for name, stored, shape in tensors]
    if texts:
        raise ValueError(
            f"tensors of other shapes than the configuration asks for: {listed(texts)}"
        )


def warn_of_unused(names: Iterable[str]) -> None:
    """Tensors that the configuration has no place for. Rotary frequencies follow from it."""
    if unused := listed(name for name in names if not name.endswith(".inv_freq")):
        _log.warning("tensors_not_used", names=unused)


def listed(names: Iterable[str]) -> str:
    """Some of the names, and how many more there are; empty without any."""
    ordered = sorted(names)
    more = len(ordered) - _SHOWN
    return ", ".join([*ordered[:_SHOWN], *([f"and {more} more"] if more > 0 else [])])
