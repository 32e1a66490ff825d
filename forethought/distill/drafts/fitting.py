"""The start of a feature draft, solved for instead of trained.

The draft's residual stream is a sum: what fc makes of token and feature, what attention adds, what
the MLP adds. Each of these is linear in the weights of one projection, and what the sum should be
is known: the target's next feature, before the weight of its final norm. So each projection in turn
is the ridge regression of what is still missing on its own inputs.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from forethought.distill.drafts.decoder import Projection
from forethought.distill.drafts.feature_draft import FeatureDraft
from forethought.distill.samples.batches import Batch, make_batch, windows
from forethought.distill.samples.corpus import Corpus

_ROW_LEN = 256
_NUM_ROWS = 8
_CONTEXT = 96  # tokens of prompts, as training sees them


@torch.no_grad()
def fit_outputs(
    draft: FeatureDraft, corpus: Corpus, numbers: np.ndarray, max_tokens: int, ridge: float
) -> None:
    """Solves for fc, then for the outputs of attention and MLP of each layer.

    Args:
        draft: these are zero in it.
        corpus: the data.
        numbers: of the samples to fit to.
        max_tokens: of these.
        ridge: added to each input's mean square, relative to the mean over all inputs.
    """
    batches = list(_batches(corpus, numbers, max_tokens))
    if not batches:
        return
    for projection in draft.summands():
        _fit(draft, projection, corpus, batches, ridge)


def _fit(
    draft: FeatureDraft,
    projection: Projection,
    corpus: Corpus,
    batches: Sequence[Batch],
    ridge: float,
) -> None:
    heard: list[torch.Tensor] = []
    num_outputs, num_inputs = projection.weight.shape
    squares = torch.zeros(num_inputs, num_inputs)
    products = torch.zeros(num_inputs, num_outputs)
    handle = projection.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    for batch in batches:
        missing = corpus.features[batch.index].float() / draft.norm.weight
        missing -= draft.stream(corpus, batch)
        x = heard.pop().float()[batch.is_scored]  # [n, num_inputs]
        squares += x.T @ x
        products += x.T @ missing[batch.is_scored]
    handle.remove()
    squares.diagonal().add_(ridge * squares.diagonal().mean())
    projection.weight.copy_(torch.linalg.solve(squares, products).T)


def _batches(corpus: Corpus, numbers: np.ndarray, max_tokens: int) -> Iterator[Batch]:
    index, segments = windows(corpus, numbers, np.full(len(numbers), _CONTEXT))
    row_len = min(_ROW_LEN, len(index))
    num_rows = min(len(index), max_tokens) // row_len
    index, segments = (
        each[: num_rows * row_len].reshape(num_rows, row_len) for each in (index, segments)
    )
    for start in range(0, num_rows, _NUM_ROWS):
        part = slice(start, start + _NUM_ROWS)
        yield make_batch(corpus, index[part], segments[part], scores_prompts=True)
