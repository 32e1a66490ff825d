"""Small corpora made by hand."""

from collections.abc import Sequence

import numpy as np

from forethought.counts.corpus import Corpus


def corpus_of(*samples: tuple[Sequence[int], Sequence[int]]) -> Corpus:
    """Of (prompt, answer) pairs."""
    token_ids = [token for prompt, answer in samples for token in (*prompt, *answer)]
    lengths = [len(prompt) + len(answer) for prompt, answer in samples]
    starts = np.cumsum([0, *lengths])
    prompts = np.array([len(prompt) for prompt, _ in samples], dtype=np.int64)
    return Corpus(np.array(token_ids, dtype=np.int64), starts, starts[:-1] + prompts)
