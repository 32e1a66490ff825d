"""How byte-level vocabularies cut text before merging, by the name in `tokenizer.ggml.pre`.

GGUF stores only that name; the cuts themselves are part of the reader. Each entry is what the
tokenizer.json of these models holds. A wrong cut gives other tokens than the model was trained on,
which no error shows, so a name that is not here is logged.
"""

from dataclasses import dataclass

import structlog
from tokenizers import Regex, pre_tokenizers

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pretokenizer:
    """Cuts, and the settings that come with them."""

    pattern: str | None = None
    """A match is a piece; None: the pattern of GPT-2."""
    individual_digits: bool = False
    """Cut around every digit first."""
    ignore_merges: bool = False
    """A piece that is a token is taken whole, whether or not merges lead to it."""
    compose: bool = False
    """Unicode NFC comes before everything."""
    add_bos: bool = False
    """A beginning-of-sequence token where the file does not say."""

    def build(self) -> pre_tokenizers.PreTokenizer:
        if self.pattern is not None:
            split = pre_tokenizers.Split(Regex(self.pattern), behavior="isolated")
            to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            return pre_tokenizers.Sequence([split, to_bytes])
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
        if self.individual_digits:
            digits = pre_tokenizers.Digits(individual_digits=True)
            return pre_tokenizers.Sequence([digits, to_bytes])
        return to_bytes


def _pattern(numbers: str) -> str:
    """The pattern of Llama 3 and Qwen 2, which differ in how many digits stay together."""
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + numbers
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


_GPT2 = Pretokenizer()
_SINGLE_DIGITS = Pretokenizer(individual_digits=True)
_LLAMA3 = Pretokenizer(_pattern(r"\p{N}{1,3}"), ignore_merges=True, add_bos=True)
_QWEN2 = Pretokenizer(_pattern(r"\p{N}"), compose=True)

_BY_NAME = {
    "gpt-2": _GPT2,
    "smollm": _SINGLE_DIGITS,
    "starcoder": _SINGLE_DIGITS,
    "refact": _SINGLE_DIGITS,
    "codeshell": _SINGLE_DIGITS,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama-bpe": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
}


def pretokenizer_named(name: str | None) -> Pretokenizer:
    """GPT-2's, with a warning in the log, for a name that is missing or not known here."""
    known = _BY_NAME.get(name or "")
    if known is None:
        _log.warning("gguf_pretokenizer_unknown", pre=name, used="gpt-2", known=sorted(_BY_NAME))
        return _GPT2
    return known
