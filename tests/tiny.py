"""Tiny random models, complete with tokenizer: two seeds make a target and a bad draft."""

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers import logging as transformers_logging

UNK, EOS = "<unk>", "</s>"
UNK_ID, EOS_ID = 0, 1
OVERLAPPING_TOKENS = [
    "g",
    "e",
    "ab",
    EOS,
    " ",
    "a",
    "fab",
    "f",
    UNK,
    "b",
    "d",
    "c",
    "cd",
    "bc",
    "X",
    "fa",
]
"""Of a draft: all of `tiny_tokens(12)` but "h" and "i", in another order, and longer ones."""
CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"


def write_tiny_model(
    folder: Path,
    *,
    vocab_size: int = 16,
    architecture: str = "llama",
    seed: int = 0,
    hidden_size: int = 32,
    num_layers: int = 2,
    scale: float = 1.5,
    max_model_len: int = 256,
    dtype: torch.dtype = torch.float32,
    tokens: Sequence[str] | None = None,
    **config: Any,
) -> Path:
    """Writes config.json, model.safetensors and a tokenizer to `folder`, and returns it.

    Args:
        folder: made if it is not there.
        vocab_size: `<unk>`, `</s>`, then one character each: space, a, b, c, ...
        architecture: a model type of transformers that is built like Llama, such as "mistral".
        seed: of the random weights.
        hidden_size: a multiple of 8.
        num_layers: decoder layers.
        scale: standard deviation of the logits. At 1.5 the likeliest of 16 tokens has a
            probability of about 0.4, and the others share the rest.
        max_model_len: tokens.
        dtype: of the stored weights.
        tokens: another vocabulary, by id, instead of that of `vocab_size`. It holds `<unk>`,
            `</s>`, and with each token of several characters both its last character and the rest.
        config: further settings of the architecture, such as `sliding_window`, or other values
            of those above.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokens = tokens or tiny_tokens(vocab_size)
    defaults = {
        "vocab_size": len(tokens),
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": max_model_len,
        "bos_token_id": tokens.index(EOS),
        "eos_token_id": tokens.index(EOS),
        "tie_word_embeddings": False,
    }
    settings = AutoConfig.for_model(architecture, **{**defaults, **config})
    model: PreTrainedModel = AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    _randomise(model, seed, scale)
    transformers_logging.disable_progress_bar()
    model.to(dtype).save_pretrained(folder)
    _write_tokenizer(folder, tokens)
    return folder


def write_permuted_copy(folder: Path, source: Path, seed: int = 0) -> Path:
    """Writes the model of `source` with other ids for the same tokens: it says the same text."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = load_file(source / "model.safetensors")
    order = torch.randperm(
        len(weights["lm_head.weight"]), generator=torch.Generator().manual_seed(seed)
    )
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][order].contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    tokens = [tiny_tokens(len(order))[index] for index in order.tolist()]
    end = {"bos_token_id": tokens.index(EOS), "eos_token_id": tokens.index(EOS)}
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | end))
    _write_tokenizer(folder, tokens)
    return folder


def tiny_tokens(vocab_size: int) -> list[str]:
    """The vocabulary, by id."""
    characters = " " + string.ascii_lowercase + string.ascii_uppercase + string.digits
    more = [chr(0x100 + index) for index in range(vocab_size)]
    return [UNK, EOS, *characters, *more][:vocab_size]


def _randomise(model: PreTrainedModel, seed: int, scale: float) -> None:
    """Matrices that keep the size of what they transform, so that context matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim < 2:
                continue
            gain = {"embed_tokens": weight.shape[1] ** 0.5, "lm_head": scale}
            part = name.split(".")[-2]
            weight.normal_(0, gain.get(part, 1.0) * weight.shape[1] ** -0.5, generator=generator)


def _write_tokenizer(folder: Path, tokens: Sequence[str]) -> None:
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    ordinary = [token for token in tokens if token not in (UNK, EOS)]
    if max(map(len, ordinary)) == 1:
        tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNK))
        tokenizer.pre_tokenizer = Split("", behavior="isolated")
    else:
        merges = [(token[:-1], token[-1]) for token in ordinary if len(token) > 1]
        tokenizer = Tokenizer(BPE(vocabulary, merges, unk_token=UNK))
    tokenizer.decoder = Fuse()
    tokenizer.add_special_tokens([UNK, EOS])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": EOS,
        "eos_token": EOS,
        "unk_token": UNK,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
