"""Stage (c): what the draft is worth on texts that it was not trained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from forethought.distill.data.openings import KINDS
from forethought.distill.drafts.draft import TrainableDraft
from forethought.distill.samples.batches import make_batch, windows
from forethought.distill.samples.corpus import Corpus
from forethought.distill.training.loss import match
from forethought.distill.training.trainer import scored_by_step

NUM_POSITIONS = 5
_ROW_LEN = 256
_NUM_ROWS = 8
_CONTEXT = 64


@dataclass(frozen=True, slots=True)
class Acceptance:
    """At one drafted position, all before it accepted; means over tokens of answers."""

    position: int  # from 1
    overlap: float  # sum of min(p, q) at temperature 1: what rejection sampling accepts at least
    agreement: float  # greedy
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Of a draft on held-out samples."""

    by_position: Sequence[Acceptance]
    by_kind: Mapping[str, Acceptance]  # of the first drafted position, by kind of prompt
    by_temperature: Mapping[float, Acceptance]  # the same, by the temperature of the answer


@torch.no_grad()
def evaluate(
    draft: TrainableDraft,
    corpus: Corpus,
    numbers: np.ndarray,
    num_positions: int = NUM_POSITIONS,
    on_rows: Callable[[int, int], None] = lambda *_: None,
) -> Evaluation:
    """Drafts at each token of the samples' answers, with the target's features up to there.

    Args:
        draft: one that does not feed back is as good at every position, and is asked once.
        corpus: of the samples.
        numbers: of the samples.
        num_positions: drafted, at least 1.
        on_rows: told how many rows of all are done.
    """
    index, segments = windows(corpus, numbers, np.full(len(numbers), _CONTEXT))
    row_len = min(_ROW_LEN, len(index))
    num_rows = len(index) // row_len
    index, segments = (
        each[: num_rows * row_len].reshape(num_rows, row_len) for each in (index, segments)
    )
    found: list[list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]] = []
    for start in range(0, num_rows, _NUM_ROWS):
        part = slice(start, start + _NUM_ROWS)
        batch = make_batch(corpus, index[part], segments[part])
        guesses = draft.steps(corpus, batch, num_positions)
        scored = scored_by_step(batch, len(guesses))
        for step, (guess, is_scored) in enumerate(zip(guesses, scored, strict=True)):
            places = batch.index[is_scored]
            fit = match(guess[is_scored], draft.head, corpus.top(places))
            if len(found) <= step:
                found.append([])
            found[step].append((fit.overlap, fit.agreement, batch.rows.segments[is_scored]))
        on_rows(min(start + _NUM_ROWS, num_rows), num_rows)
    steps = [
        tuple(torch.cat(column).numpy() for column in zip(*parts, strict=True)) for parts in found
    ]
    overlap, agreement, segment = steps[0]
    kinds = corpus.samples.kinds[numbers][segment]
    temperatures = corpus.samples.temperatures[numbers][segment]
    return Evaluation(
        [_acceptance(step, each[0], each[1]) for step, each in enumerate(steps, start=1)],
        {
            _name(kind): _acceptance(1, overlap[kinds == kind], agreement[kinds == kind])
            for kind in np.unique(kinds)
        },
        {
            round(float(each), 3): _acceptance(
                1, overlap[temperatures == each], agreement[temperatures == each]
            )
            for each in np.unique(temperatures)
        },
    )


def _acceptance(position: int, overlap: np.ndarray, agreement: np.ndarray) -> Acceptance:
    return Acceptance(position, float(overlap.mean()), float(agreement.mean()), len(overlap))


def _name(kind: int) -> str:
    return KINDS[kind] if 0 <= kind < len(KINDS) else "given text"
