"""Tokenizers trained on a text of this repository that stays as it is, of the two kinds that models
use."""

import json
from functools import cache
from pathlib import Path

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from forethought.models.text.parts import TokenizerParts
from forethought.models.text.tokenizer import TextTokenizer

TEXT = (Path(__file__).parent.parent / "LICENSE").read_text()
BOS, END = "<s>", "</s>"


@cache
def byte_level() -> TextTokenizer:
    """As of GPT-2: bytes as characters, "Ġ" for a space; no token before a text."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<|end|>", "<|user|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXT.splitlines(keepends=True), trainer)
    return _tokenizer("byte level", backend, "<|end|>")


@cache
def sentencepiece() -> TextTokenizer:
    """As of Llama 2: "▁" for a space and one before any text, byte tokens, `<s>` at the start."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=800, show_progress=False)
    trained.train_from_iterator(TEXT.splitlines(), trainer)
    model = json.loads(trained.to_str())["model"]
    tokens = ["<unk>", BOS, END, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += sorted(model["vocab"], key=model["vocab"].get)
    backend = Tokenizer(
        models.BPE(
            vocab={token: token_id for token_id, token in enumerate(tokens)},
            merges=[tuple(merge) for merge in model["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens(["<unk>", BOS, END])
    backend.post_processor = processors.TemplateProcessing(
        single=[BOS, "$A"], special_tokens=[(BOS, 1)]
    )
    return _tokenizer("sentencepiece", backend, END)


def _tokenizer(name: str, backend: Tokenizer, end: str) -> TextTokenizer:
    return TextTokenizer(name, TokenizerParts(backend, frozenset({backend.token_to_id(end)}), None))
