"""Tokens that end an answer, counted as vLLM and llama.cpp count them.

A file's author names the end of a text in one place and the end of a turn in another, and who
trains a model on forgets to change one of them. An end that is not known makes an answer run on to
its limit. So each end that any file names counts, and each token that has the name of one.
"""

from collections.abc import Iterable, Mapping
from typing import Any

_NAMES = frozenset(
    {
        "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|calls|>",
        "<|flush|>", "<end_of_turn>", "<turn|>", "<|tool_response>", "<|endoftext|>",
        "<|end_of_text|>", "<|end_of_turn|>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<end_of_utterance>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<eos>", "[e~[",
    }
)  # fmt: skip
"""Names that mean an end wherever they are, as in llama.cpp."""

_END_IF_SPECIAL = "</s>"
"""Elsewhere a tag of HTML, as in the vocabulary of Gemma."""

_NOT_WITH = (
    ("<|end|>", ("<|return|>", "<|call|>")),
    ("<|end|>", ("<|flush|>", "<|calls|>")),
    ("</s>", ("<|tool_response>",)),
)
"""An end that is only the end of a part of an answer where all of the others are ends too."""

_TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
"""Where the configuration of a model that also sees or hears keeps that of its text."""


FILE_ENDS = frozenset(
    {
        "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>",
        "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>",
    }
)  # fmt: skip
"""Names of tokens that begin another file, which llama.cpp takes for ends too."""


def well_known_ends(names: Iterable[str], special: Iterable[str]) -> set[str]:
    """Those of a vocabulary's `names` that end an answer; `special` are those that are no text."""
    ends = {*_NAMES.intersection(names), *{_END_IF_SPECIAL}.intersection(special)}
    for name, others in _NOT_WITH:
        if ends.issuperset(others):
            ends.discard(name)
    return ends


def stated_ends(generation_config: Mapping[str, Any], config: Mapping[str, Any]) -> set[int]:
    """The `eos_token_id` of the first file that names any: one id or a list of them."""
    if ids := _ids(generation_config.get("eos_token_id")):
        return ids
    return _ids(*(part.get("eos_token_id") for part in with_text_configs(config)))


def with_text_configs(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A configuration, and those of the text part inside it."""
    inner = (config.get(name) for name in _TEXT_CONFIGS)
    return [config, *(part for part in inner if isinstance(part, dict))]


def _ids(*values: Any) -> set[int]:
    def flat(value: Any) -> Iterable[Any]:
        return value if isinstance(value, list) else [value]

    return {each for value in values for each in flat(value) if type(each) is int and each >= 0}
