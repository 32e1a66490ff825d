"""What the files of each architecture hold, and what transformers calls it."""

import re
from dataclasses import dataclass, field

from forethought.engine.weights.gguf_file import GGUFFile
from forethought.engine.weights.gguf_rope import ROPE_TENSORS

_TENSORS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_GEMMA = _TENSORS | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_PHI3 = _TENSORS | {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
_BIASED = {"attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_output": "o"}
_TENSOR_NAME = re.compile(r"(?:blk\.(?P<layer>\d+)\.)?(?P<part>\w+)\.(?P<kind>weight|bias)")


@dataclass(frozen=True, slots=True)
class GGUFFamily:
    """How the files and models of an architecture differ from those of others."""

    rotates_pairs: bool = False  # see `Checkpoint`
    is_read_by_transformers: bool = True  # another way for what is not known here
    biased: frozenset[str] = frozenset()  # parts of a layer that must have a bias
    norms_heads: bool = False
    tensors: dict[str, str] = field(default_factory=lambda: _TENSORS)
    turns_parts: bool = False  # of heads, where a file says how many numbers
    unturned_every: int = 0  # layers whose tokens know no positions: each so many-th
    windowed: bool = False  # where a file says how many tokens are seen,
    whole_every: int = 0  # all layers but each so many-th
    window: int = 0  # of a file that does not say
    windowed_theta: float = 0.0  # of the rotation of layers with a window, if it is another
    caps: tuple[float, float] | None = None  # scores and logits of a file that does not say
    is_gemma: bool = False  # scaled embeddings, norms of outputs, gelu
    layers_of_27b: int = 0  # by which llama.cpp, too, knows the size whose scores differ

    @property
    def more_settings(self) -> frozenset[str]:
        """Keys that the files of other families do not have."""
        keys = {"attention.sliding_window"} if self.windowed else set()
        keys |= {"attention.sliding_window_pattern"} if self.whole_every else set()
        keys |= {"rope.freq_base_swa"} if self.windowed_theta else set()
        keys |= {"attn_logit_softcapping", "final_logit_softcapping"} if self.caps else set()
        return frozenset(keys)


FAMILIES = {
    "llama": GGUFFamily(rotates_pairs=True, is_read_by_transformers=False),
    "smollm3": GGUFFamily(rotates_pairs=True, is_read_by_transformers=False, unturned_every=4),
    "qwen2": GGUFFamily(biased=frozenset("qkv")),
    "qwen3": GGUFFamily(norms_heads=True, tensors=_TENSORS | _HEAD_NORMS),
    "phi3": GGUFFamily(tensors=_PHI3, turns_parts=True, windowed=True),
    "gemma2": GGUFFamily(
        tensors=_GEMMA,
        windowed=True,
        whole_every=2,
        window=4096,
        caps=(50.0, 30.0),
        is_gemma=True,
        layers_of_27b=46,
    ),
    "gemma3": GGUFFamily(
        norms_heads=True,
        tensors=_GEMMA | _HEAD_NORMS,
        windowed=True,
        whole_every=6,
        window=4096,
        windowed_theta=10_000.0,
        caps=(0.0, 0.0),
        is_gemma=True,
        layers_of_27b=62,
    ),
}
"""By their architectures."""


def family_of(file: GGUFFile) -> GGUFFamily | None:
    """None for files that the lean decoder is not for."""
    return FAMILIES.get(architecture_of(file))


def architecture_of(file: GGUFFile) -> str:
    return str(file.metadata.get("general.architecture"))


def biased_parts(file: GGUFFile) -> frozenset[str]:
    """The parts of a layer that have a bias in any: each that is missing elsewhere is named."""
    parts = {name.split(".")[-2] for name in file.tensors if name.endswith(".bias")}
    found = frozenset(letter for part, letter in _BIASED.items() if part in parts)
    return FAMILIES[architecture_of(file)].biased | found


def unknown_tensors(file: GGUFFile, num_layers: int) -> list[str]:
    """The names of those that no model of its family has."""
    family = FAMILIES[architecture_of(file)]
    return [
        name
        for name in file.tensors.keys() - ROPE_TENSORS
        if not _parameter_name(name, family) or _layer_of(name) >= num_layers
    ]


def gguf_tensor_names(file: GGUFFile) -> dict[str, str]:
    """What transformers calls each of the file's tensors, but for those of positions."""
    family = FAMILIES[architecture_of(file)]
    return {
        name: _parameter_name(name, family) for name in file.tensors if name not in ROPE_TENSORS
    }


def _layer_of(name: str) -> int:
    match = _TENSOR_NAME.fullmatch(name)
    return -1 if match is None or match["layer"] is None else int(match["layer"])


def _parameter_name(name: str, family: GGUFFamily) -> str:
    """What transformers calls a tensor; empty if it is none of such a model."""
    match = _TENSOR_NAME.fullmatch(name)
    if match is None or match["part"] not in family.tensors:
        return ""
    if match["kind"] == "bias" and match["part"] not in _BIASED:
        return ""
    prefix = "" if match["layer"] is None else f"model.layers.{match['layer']}."
    return f"{prefix}{family.tensors[match['part']]}.{match['kind']}"
