"""How byte-level vocabularies cut text before merging, by the name in `tokenizer.ggml.pre`.

GGUF stores only that name; the cuts themselves are part of the reader. Each entry is what the
tokenizer.json of these models holds, and src/llama-vocab.cpp in llama.cpp says which names mean
the same. A wrong cut gives other tokens than the model was trained on, which no error would show,
so a name that is not here is refused.
"""

from dataclasses import dataclass

import structlog
from tokenizers import Regex, pre_tokenizers

_log = structlog.get_logger(__name__)

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_DIGITS = r"\p{N}{1,3}"
_THREE_DIGITS = r"[0-9][0-9][0-9]"
_SHORT_FORMS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_PUNCTUATION = r"[\p{P}\$\+<=>\^~\|`]+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"  # noqa: RUF001 - marks of many scripts
_BAILING = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
_SEED = (
    rf"{_SHORT_FORMS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1}}"
    rf"| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}"
)
_EXAONE_MOE = (
    rf"{_SHORT_FORMS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
_DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
)
_CJK = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"


@dataclass(frozen=True, slots=True)
class Pretokenizer:
    """Cuts, and the settings that come with them."""

    patterns: tuple[str, ...] = (_GPT2,)
    """A match of the first is a piece, and so is what is between matches; the next cut these."""
    ignore_merges: bool = False
    """A piece that is a token is taken whole, whether or not merges lead to it."""
    compose: bool = False
    """Unicode NFC comes before everything."""
    add_bos: bool = False
    """A beginning-of-sequence token where the file does not say."""

    def build(self) -> pre_tokenizers.PreTokenizer:
        return pre_tokenizers.Sequence(
            [
                *(pre_tokenizers.Split(Regex(each), behavior="isolated") for each in self.patterns),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )


def _words(letters: str = r"\p{L}+", numbers: str = _DIGIT, *, marks: str = "") -> str:
    """The pattern of GPT-4, whose descendants differ in letters, numbers and signs."""
    rest = rf" ?[^\s\p{{L}}{marks}\p{{N}}]+[\r\n]*"
    return rf"{_SHORT_FORMS}|[^\r\n\p{{L}}\p{{N}}]?{letters}|{numbers}|{rest}|{_SPACES}"


def _cased(numbers: str, *, short_forms: str = f"{_SHORT_FORMS}?") -> str:
    """The pattern of GPT-4o, which cuts where a small letter meets a capital one."""
    words = "|".join(
        rf"[^\r\n\p{{L}}\p{{N}}]?{letters}{short_forms}"
        for letters in (f"{_UPPER}*{_LOWER}+", f"{_UPPER}+{_LOWER}*")
    )
    return rf"{words}|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"


def _without_han() -> str:
    """The pattern of Kimi K2: as GPT-4o's, but Chinese characters are pieces of their own."""
    upper, lower = (f"{letters[:-1]}&&[^\\p{{Han}}]]" for letters in (_UPPER, _LOWER))
    words = "|".join(
        rf"[^\r\n\p{{L}}\p{{N}}]?{letters}{_SHORT_FORMS}?"
        for letters in (f"{upper}*{lower}+", f"{upper}+{lower}*")
    )
    return rf"[\p{{Han}}]+|{words}|{_DIGITS}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"


_LLAMA3 = Pretokenizer((_words(numbers=_DIGITS),), ignore_merges=True, add_bos=True)
_GPT4 = Pretokenizer((_words(numbers=_DIGITS),))
_QWEN2 = Pretokenizer((_words(),), compose=True)
_SINGLE_DIGITS = Pretokenizer((_DIGIT, _GPT2))
_DEEPSEEK3 = Pretokenizer((_DIGITS, _CJK, _DEEPSEEK))
_DEFAULT = Pretokenizer((_PUNCTUATION.replace("`", ""), _GPT2, r"\p{N}+", _THREE_DIGITS))

_BY_NAME = {
    "default": _DEFAULT,
    "gpt-2 phi-2 jais trillion granite-docling gigachat a.x-4.0 mellum exaone4": Pretokenizer(),
    "mpt olmo": Pretokenizer(compose=True),
    "smollm starcoder refact codeshell exaone minerva-7b mellum2": _SINGLE_DIGITS,
    "command-r": Pretokenizer((_DIGIT, _GPT2), compose=True),
    "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2": _LLAMA3,
    "dbrx smaug-bpe glm4 chatglm-bpe": _GPT4,
    "qwen2 deepseek-r1-qwen megrez": _QWEN2,
    "stablelm2 hunyuan solar-open grok-2": Pretokenizer((_words(),)),
    "qwen35": Pretokenizer((_words(r"[\p{L}\p{M}]+", marks=r"\p{M}"),), compose=True),
    "falcon": Pretokenizer((_PUNCTUATION, _GPT2, _THREE_DIGITS)),
    "deepseek-coder": Pretokenizer(
        (
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
            _DIGIT,
        )
    ),
    "deepseek-v3 hunyuan-dense joyai-llm hy_v4": _DEEPSEEK3,
    "poro-chat bloom gpt3-finnish": Pretokenizer((_BLOOM,)),
    "viking": Pretokenizer((_BLOOM, _DIGIT)),
    "tekken": Pretokenizer((_cased(_DIGIT, short_forms=""),), ignore_merges=True, add_bos=True),
    "gpt-4o llama4 kanana2 talkie minimax-m2": Pretokenizer((_cased(_DIGITS),)),
    "tiny_aya cohere2moe": Pretokenizer((r"\d{1,3}(?=(?:\d{3})*\b)", _cased(_DIGITS))),
    "kimi-k2": Pretokenizer((_without_han(),)),
    "superbpe": Pretokenizer((r"\p{N}+", r"(?=(\d{3})+(?!\d))")),
    "minicpm5": Pretokenizer((_DIGITS, _words(numbers=r"\p{N}+")), ignore_merges=True),
    "bailingmoe bailingmoe2 llada-moe": Pretokenizer((_BAILING,)),
    "seed-coder": Pretokenizer((_SEED,)),
    "exaone-moe": Pretokenizer((_EXAONE_MOE,)),
    "laguna": Pretokenizer((r"[^\n]+|[\n]+", _words())),
}


_KNOWN = {name: each for names, each in _BY_NAME.items() for name in names.split()}


def pretokenizer_named(name: str | None) -> Pretokenizer:
    """The cuts of that name. A file without one is of before names were given: it gets llama.cpp's
    default, and the log says so.

    Raises:
        ValueError: the name is not known here.
    """
    if not name:
        _log.warning("gguf_pretokenizer_missing", used="default")
        return _DEFAULT
    if name not in _KNOWN:
        raise ValueError(
            f"its pre-tokenizer {name!r} (tokenizer.ggml.pre) is not one of {', '.join(_KNOWN)}"
        )
    return _KNOWN[name]
