"""Parallel verification: what the target thinks of the drafts of all sessions in a pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise
from typing import ClassVar

import torch

from forethought.engine.cache.hidden_tail import HiddenTail
from forethought.engine.cache.sequence import CachedSequence
from forethought.engine.rows.coupling import measure_coupled
from forethought.engine.rows.draws import logprob_rows, measure
from forethought.engine.rows.filters import ShapedRows, row_contexts, shape_rows
from forethought.sampling.hidden_states import HiddenStates
from forethought.sampling.params import SamplingParams
from forethought.sampling.randomness import KeyedRandomness, Stream, coupling_key
from forethought.sampling.types import Evidence, PositionEvidence, VerificationMode
from forethought.tier import VerifyRound


@dataclass(frozen=True, slots=True)
class Verification:
    """One round of one session.

    The pass computes the last committed token and the K drafts, and scores these K + 1 positions.
    """

    is_ahead: ClassVar[bool] = False

    sequence: CachedSequence
    request: VerifyRound
    sampling: SamplingParams  # shapes p, the same way as q was shaped
    mode: VerificationMode = VerificationMode.REJECTION

    @property
    def draft_token_ids(self) -> list[int]:
        """The K guesses."""
        return [draft.token_id for draft in self.request.drafts]

    @property
    def supports(self) -> list[Sequence[int]]:
        """Of the K + 1 positions; the last is empty, so that its tail token is the bonus token."""
        return [*(draft.support_token_ids for draft in self.request.drafts), ()]

    @property
    def num_logits(self) -> int:
        return len(self.request.drafts) + 1

    @property
    def rows(self) -> ShapedRows:
        """How its rows of logits become p."""
        contexts = row_contexts(self.sampling, self.sequence, self.draft_token_ids, self.num_logits)
        return ShapedRows(self.num_logits, self.sampling, contexts)

    @property
    def tail_uniforms(self) -> list[float]:
        """For each position the draw that chooses its tail token."""
        randomness = KeyedRandomness(self.sampling.seed, self.request.round)
        return [
            randomness.uniform(Stream.TAIL, self.request.position + row)
            for row in range(self.num_logits)
        ]

    def hand_over_hidden_states(self) -> HiddenStates | None:
        """Those of its positions, and of any that were computed before for the session."""
        tail = self.sequence.states
        if not self.request.wants_hidden_states or not isinstance(tail, HiddenTail):
            return None
        # The next round begins with the token at `position`, whichever it will be.
        return tail.hand_over(self.request.position)

    @property
    def is_coupled(self) -> bool:
        """Whether tail tokens are chosen by noise that the draft shares."""
        return self.mode is VerificationMode.COUPLED

    @property
    def coupling_keys(self) -> list[int]:
        """What the shared noise is keyed by at each position."""
        start = self.request.position
        return [coupling_key(self.sampling.seed, start + row) for row in range(self.num_logits)]

    def begin(self) -> None:
        """Rolls back to the committed tokens, and puts the drafts behind them.

        Raises:
            CachePositionMismatchError: the round starts beyond what the sequence knows.
        """
        self.sequence.commit(self.request.position, self.request.committed_token_ids)
        self.sequence.speculate(self.draft_token_ids)
        self._expect_hidden_states()

    def _expect_hidden_states(self) -> None:
        if not self.request.wants_hidden_states:
            self.sequence.states = None
            return
        first = self.request.position - 1
        if not isinstance(self.sequence.states, HiddenTail):
            self.sequence.states = HiddenTail(first)
        self.sequence.states.expect(first)


Verify = Callable[[Sequence[Verification], torch.Tensor], list[Evidence]]
"""Measures rounds; the seam for tests and benchmarks."""


def verify(rounds: Sequence[Verification], logits: torch.Tensor) -> list[Evidence]:
    """Reduces the target's distributions to the evidence that rejection sampling needs.

    Decides nothing.

    Args:
        rounds: of any number of sessions.
        logits: [R, V] float32, the K + 1 rows of each round, in order.

    Returns:
        The evidence of each round.
    """
    probs = shape_rows(logits, [each.rows for each in rounds])  # [R, V]
    positions: list[PositionEvidence] = []
    for is_coupled, group in groupby(rounds, key=lambda each: each.is_coupled):
        alike = list(group)
        supports = [support for each in alike for support in each.supports]
        own = probs[len(positions) : len(positions) + len(supports)]
        if is_coupled:
            keys = [key for each in alike for key in each.coupling_keys]
            positions += measure_coupled(own, supports, keys)
        else:
            uniforms = [uniform for each in alike for uniform in each.tail_uniforms]
            positions += measure(own, supports, uniforms)
    bounds = pairwise([0, *accumulate(each.num_logits for each in rounds)])
    complete = [
        tuple(_with_logprobs(each, positions[start:end], logits[start:end]))
        for each, (start, end) in zip(rounds, bounds, strict=True)
    ]
    # Last, since what is handed over is gone, and a round that failed is measured again.
    return [
        Evidence(own, each.hand_over_hidden_states())
        for each, own in zip(rounds, complete, strict=True)
    ]


def _with_logprobs(
    verification: Verification, positions: list[PositionEvidence], logits: torch.Tensor
) -> list[PositionEvidence]:
    """Adds the model's own log-probabilities where they are asked for."""
    num_logprobs = verification.request.num_logprobs
    if num_logprobs is None:
        return positions
    tail_token_ids = [position.tail_token_id for position in positions]
    rows = logprob_rows(logits, verification.supports, tail_token_ids, num_logprobs)
    return [replace(position, logprobs=row) for position, row in zip(positions, rows, strict=True)]
