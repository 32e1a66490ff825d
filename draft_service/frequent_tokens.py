"""The tokens that a draft scores where it is not to score all: its most frequent ones.

A draft model spends much of a pass on rows of its head that hardly ever win. Without them (FR-Spec,
Zhao et al., arXiv 2502.14856) it is faster, and the output as exact: q has no mass at the tokens
left out, and where the target says one it comes back as a recovered token. So what is left out
costs acceptance alone, and the special tokens stay, since the end of an answer is one of them.
"""

from collections.abc import Collection
from itertools import islice

import numpy as np

from forethought.counts.table import CountsTable
from forethought.models.text.tokenizer import TextTokenizer


def frequent_tokens(
    tokenizer: TextTokenizer,
    size: int,
    counts: CountsTable | None = None,
    among: Collection[int] | None = None,
) -> list[int]:
    """The special tokens and the most frequent others.

    Args:
        tokenizer: of the draft model.
        size: how many tokens. There are more only if there are more special ones.
        counts: of texts, which tell what is frequent. Tokens that they do not hold follow in the
            order of the tokenizer's merges, as all do without counts.
        among: the only tokens that can be guessed, where that are not all.

    Returns:
        Token ids, ascending; empty if no token is left out.
    """
    if size >= tokenizer.vocab_size:
        return []
    special = {*tokenizer.special_token_ids.values(), *tokenizer.eos_token_ids}
    counted = [] if counts is None else _counted(counts)
    ranked = dict.fromkeys((*special, *counted, *tokenizer.merge_order()))
    allowed = ranked if among is None else [each for each in ranked if each in among]
    return sorted(islice(allowed, max(size, len(special))))


def _counted(counts: CountsTable) -> list[int]:
    weights = counts.token_weights()
    order = np.argsort(-weights, kind="stable")
    counted: list[int] = order[weights[order] > 0].tolist()
    return counted
