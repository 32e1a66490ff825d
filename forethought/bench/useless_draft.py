"""A draft model that guesses nothing right: the worst case of a policy that decides on drafts.

Its vocabulary is the target's and its weights are random, so what it says has nothing to do with
the text. It is as small as it can be: what it drafts is cheap, and still in vain.
"""

import json
from pathlib import Path

import numpy as np

from forethought.models.files.reference import resolve

_HIDDEN, _INTERMEDIATE, _NUM_HEADS = 64, 128, 4
_MAX_MODEL_LEN = 8192


def write_useless_draft(folder: Path, target: str) -> Path:
    """Writes a model of the Llama family with one layer to `folder`, and returns it.

    Args:
        folder: is there, and empty.
        target: reference of the model whose vocabulary it takes.

    Raises:
        ModelReferenceError: the target has no tokenizer that can be read.
    """
    # No other command needs these, and each takes time to import.
    from safetensors.numpy import save_file  # noqa: PLC0415

    from forethought.models.text.tokenizer import load_tokenizer  # noqa: PLC0415

    tokenizer = load_tokenizer(resolve(target, with_weights=False))
    tokenizer.save(folder / "tokenizer.json")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": _HIDDEN,
        "intermediate_size": _INTERMEDIATE,
        "num_hidden_layers": 1,
        "num_attention_heads": _NUM_HEADS,
        "num_key_value_heads": _NUM_HEADS,
        "max_position_embeddings": _MAX_MODEL_LEN,
        "tie_word_embeddings": False,
        "eos_token_id": sorted(tokenizer.eos_token_ids),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    weights = _random_weights(tokenizer.vocab_size)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def _random_weights(vocab_size: int) -> dict[str, np.ndarray]:
    """By the names of transformers; each matrix [out, in] keeps the size of what it transforms."""
    random = np.random.default_rng(0)

    def matrix(num_rows: int, num_columns: int) -> np.ndarray:
        normal = random.standard_normal((num_rows, num_columns), dtype=np.float32)
        return normal / np.float32(num_columns**0.5)

    layer = "model.layers.0."
    norm = np.ones(_HIDDEN, np.float32)
    projections = {name: matrix(_HIDDEN, _HIDDEN) for name in ("q", "k", "v", "o")}
    return {
        "model.embed_tokens.weight": matrix(vocab_size, _HIDDEN),
        **{f"{layer}self_attn.{name}_proj.weight": each for name, each in projections.items()},
        f"{layer}mlp.gate_proj.weight": matrix(_INTERMEDIATE, _HIDDEN),
        f"{layer}mlp.up_proj.weight": matrix(_INTERMEDIATE, _HIDDEN),
        f"{layer}mlp.down_proj.weight": matrix(_HIDDEN, _INTERMEDIATE),
        f"{layer}input_layernorm.weight": norm,
        f"{layer}post_attention_layernorm.weight": norm.copy(),
        "model.norm.weight": norm.copy(),
        "lm_head.weight": matrix(vocab_size, _HIDDEN),
    }
