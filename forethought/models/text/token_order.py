"""Which tokens of a tokenizer are frequent, as far as the tokenizer itself tells.

Byte-pair encoding merges the most frequent pair of tokens first (Sennrich et al., arXiv 1508.07909,
section 3.2), so the list of merges is in the order of frequency in the text that the tokenizer was
trained on. A token is at least as frequent as any pair that it is a part of, so it stands where the
merges name it first. A unigram tokenizer has a log-probability for each token. Those of other kinds
are in the order of their ids, which is that of frequency for most.
"""

import json
from collections.abc import Iterable
from itertools import chain
from typing import Any

from tokenizers import Tokenizer

FREQUENT_BYTES = ("<0x0A>", "<0x09>")
"""Line feeds and tabs, where they are bytes that no merge makes, as in Llama 2's vocabulary."""


def merge_order(tokenizer: Tokenizer) -> list[int]:
    """All token ids, the most frequent first; what the tokenizer says nothing of comes last, by id.

    It takes a second for a vocabulary of 150,000.
    """
    ids = tokenizer.get_vocab()
    ranked = dict.fromkeys(_ranked(json.loads(tokenizer.to_str())["model"]))
    known = [ids[token] for token in ranked if token in ids]
    return list(dict.fromkeys((*known, *sorted(ids.values()))))


def _ranked(model: dict[str, Any]) -> Iterable[str]:
    """The tokens that a model ranks; one may come several times, the first of which counts."""
    if model["type"] == "BPE":
        prefix = model["continuing_subword_prefix"] or ""
        merged = (
            token
            for left, right in model["merges"]
            for token in (left, right, left + right.removeprefix(prefix))
        )
        return chain(FREQUENT_BYTES, merged) if model.get("byte_fallback") else merged
    if model["type"] == "Unigram":
        return (token for token, _ in sorted(model["vocab"], key=lambda each: -each[1]))
    return ()
