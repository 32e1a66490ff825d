"""A head over a part of the vocabulary.

A draft's head over all of the vocabulary may take longer than the rest of it. One that can say only
the tokens that its target says most is as exact: q has no mass elsewhere, and the target's other
tokens come back as recovered ones.
"""

import torch

from forethought.engine.linear.linear import Linear


class PartHead:
    """Scores for R of V tokens, minus infinity for all others.

    Args:
        product: with the R rows of a head.
        token_ids: [R] distinct: which tokens the rows are.
        vocab_size: V.

    Raises:
        ValueError: no ids, or ids that do not fit the vocabulary.
    """

    __slots__ = ("_product", "_token_ids", "_vocab_size", "dtype", "num_inputs")

    def __init__(self, product: Linear, token_ids: torch.Tensor, vocab_size: int) -> None:
        token_ids = token_ids.long()
        if not len(token_ids):
            raise ValueError("a head that scores no token")
        if token_ids.min() < 0 or token_ids.max() >= vocab_size:
            raise ValueError(f"token ids beyond a vocabulary of {vocab_size}")
        if len(set(token_ids.tolist())) < len(token_ids):
            raise ValueError("token ids that are not distinct")
        self.dtype = product.dtype
        self.num_inputs = product.num_inputs
        self._product = product
        self._token_ids = token_ids
        self._vocab_size = vocab_size

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[T, K] -> [T, V]."""
        scores = self._product(x)
        rows = scores.new_full((len(x), self._vocab_size), -torch.inf)
        return rows.index_copy_(1, self._token_ids, scores)
