"""Batches: rows full of windows of samples, in an order that depends on the seed alone.

A window is the end of a prompt, cut at random, and its answer. Windows stand one behind the other
without padding, and where a row ends the next goes on, as a text that begins there: serving begins
in the middle of a text, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from forethought.distill.samples.corpus import Corpus


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How samples become batches."""

    num_rows: int = 8
    row_len: int = 256
    max_context: int = 96
    """Longest piece of a prompt before an answer, tokens."""
    scores_prompts: bool = True
    """Whether the tokens of prompts, which the target has drawn too, are learned from, besides
    those of answers."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """Which tokens of a batch may look at which."""

    segments: torch.Tensor  # [B, L] int64: equal numbers are neighbours of one text

    def depth(self) -> torch.Tensor:
        """[B, L] int64: tokens of the same text before each in its row."""
        places = torch.arange(self.segments.shape[1]).expand_as(self.segments)
        begins = torch.ones_like(self.segments, dtype=torch.bool)
        begins[:, 1:] = self.segments[:, 1:] != self.segments[:, :-1]
        return places - torch.where(begins, places, 0).cummax(dim=1).values

    def mask(self, step: int) -> torch.Tensor:
        """[B, L, L] bool: what each token may see of the first step's keys, in step `step`."""
        length = self.segments.shape[1]
        sees = torch.ones(length, length, dtype=torch.bool).tril(1 - step)
        return (self.segments[:, :, None] == self.segments[:, None, :]) & sees


@dataclass(frozen=True, slots=True)
class Batch:
    """B rows of L tokens."""

    index: torch.Tensor  # [B, L] int64: places in the corpus; none is the first of a sample
    is_scored: torch.Tensor  # [B, L] bool: whether a token follows that is of interest
    rows: Rows


class Batches:
    """All batches of training, by the number of the step.

    Args:
        corpus: what is trained on.
        numbers: of the samples.
        options: how.

    Raises:
        ValueError: the samples do not fill one batch.
    """

    def __init__(self, corpus: Corpus, numbers: np.ndarray, options: BatchOptions) -> None:
        self._corpus = corpus
        self._numbers = numbers
        self._options = options
        self._size = options.num_rows * options.row_len
        samples = corpus.samples
        # Each epoch's stream has at least the tokens of the answers.
        shortest = int((samples.starts[1:] - samples.answer_starts)[numbers].sum())
        self.batches_each = shortest // self._size
        """Steps of an epoch."""
        if not self.batches_each:
            raise ValueError(f"{shortest} tokens of answers, where a batch takes {self._size}")
        self._epoch = -1
        self._stream = (np.empty(0, np.int64), np.empty(0, np.int64))

    def __getitem__(self, step: int) -> Batch:
        epoch, place = divmod(step, self.batches_each)
        if epoch != self._epoch:
            generator = np.random.default_rng([self._options.seed, epoch])
            order = generator.permutation(self._numbers)
            contexts = generator.integers(self._options.max_context + 1, size=len(order))
            self._epoch, self._stream = epoch, windows(self._corpus, order, contexts)
        shape = (self._options.num_rows, self._options.row_len)
        part = slice(place * self._size, (place + 1) * self._size)
        index, segments = (each[part].reshape(shape) for each in self._stream)
        return make_batch(
            self._corpus, index, segments, scores_prompts=self._options.scores_prompts
        )


def windows(
    corpus: Corpus, numbers: Sequence[int] | np.ndarray, contexts: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The places of all tokens of the samples' windows, and for each the number of its window.

    Args:
        corpus: of the samples.
        numbers: of the samples, in the order that is wanted.
        contexts: tokens before each answer's first, besides the one that predicts it.
    """
    samples = corpus.samples
    places, segments = [], []
    for segment, (number, context) in enumerate(zip(numbers, contexts, strict=True)):
        # The first token has no feature before it; the last predicts nothing.
        first = max(samples.starts[number] + 1, samples.answer_starts[number] - 1 - context)
        places.append(np.arange(first, samples.starts[number + 1] - 1))
        segments.append(np.full(len(places[-1]), segment))
    return np.concatenate(places), np.concatenate(segments)


def make_batch(
    corpus: Corpus, index: np.ndarray, segments: np.ndarray, *, scores_prompts: bool = False
) -> Batch:
    """From places [B, L] in the corpus and the numbers of their windows."""
    scored = np.ones(index.shape, bool) if scores_prompts else corpus.is_answer[index + 1]
    return Batch(
        torch.from_numpy(index), torch.from_numpy(scored), Rows(torch.from_numpy(segments))
    )
