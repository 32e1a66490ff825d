"""Broken twins of coupled sampling: noise with the wrong key, tail tokens with the wrong noise.

A key says which noise a tier takes for a position. Where all tiers make the same mistake their
choices still agree, and only the distribution of the text, or its dependence on the draft, shows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch

from draft_service.speculation import Speculation
from forethought.engine.rows.draws import measure
from forethought.sampling.coupled import judge_coupled
from forethought.sampling.randomness import KeyedRandomness, Stream, coupling_key
from forethought.sampling.tokens import support_token, tail_token
from forethought.sampling.types import Draft, Evidence, Outcome, PositionEvidence, TokenOrigin
from target_service.verifier import Verification
from tests.exactness.twins import Judge

NoiseKey = Callable[[int, int, int], tuple[int, int]]
"""From seed, round and position to the seed and position whose noise is taken."""


def right_key(seed: int, number: int, position: int) -> tuple[int, int]:
    """No mistake."""
    return seed, position


def not_by_position(seed: int, number: int, position: int) -> tuple[int, int]:
    """The same noise at every position of a session."""
    return seed, 0


def by_round_too(seed: int, number: int, position: int) -> tuple[int, int]:
    """New noise in every round: exact, but the text then depends on how rounds fall."""
    return coupling_key(seed, number), position


def of_another_seed(seed: int, number: int, position: int) -> tuple[int, int]:
    """For the draft alone: its guesses are as good as any draws from q, and no better. Harmless."""
    return (seed + 1) % 2**64, position


@dataclass(frozen=True, slots=True)
class OtherNoise:
    """A `Randomness` whose noise is keyed otherwise."""

    randomness: KeyedRandomness
    key: NoiseKey

    def uniform(self, stream: Stream, position: int) -> float:
        return self.randomness.uniform(stream, position)

    def exponential(self, position: int, token_id: int) -> float:
        seed, place = self.key(self.randomness.seed, self.randomness.round, position)
        return KeyedRandomness(seed, 0).exponential(place, token_id)


def judge_coupled_with(key: NoiseKey) -> Judge:
    """The real judge with another key."""

    def twin(
        draft: Draft, evidence: Evidence, randomness: KeyedRandomness, position: int
    ) -> Outcome:
        return judge_coupled(draft, evidence, OtherNoise(randomness, key), position)

    return twin


def accept_always(
    draft: Draft, evidence: Evidence, randomness: KeyedRandomness, position: int
) -> Outcome:
    """The output is the draft's, not the target's."""
    accepted = [
        support_token(drafted, checked, place, TokenOrigin.ACCEPTED)
        for drafted, checked in zip(draft.tokens, evidence.positions, strict=False)
        for place in [drafted.support_token_ids.index(drafted.token_id)]
    ]
    return Outcome((*accepted, tail_token(evidence.positions[-1], TokenOrigin.BONUS)))


def key_tiers(patch: pytest.MonkeyPatch, draft: NoiseKey, target: NoiseKey) -> None:
    """Makes the tiers of this process take the noise of other keys."""

    def of_draft(self: Speculation) -> int:
        return coupling_key(*draft(self.opening.sampling.seed, self.request.round, self.position))

    def of_target(self: Verification) -> list[int]:
        seed, request = self.sampling.seed, self.request
        rows = range(request.position, request.position + self.num_logits)
        return [coupling_key(*target(seed, request.round, position)) for position in rows]

    patch.setattr(Speculation, "coupling_key", property(of_draft))
    patch.setattr(Verification, "coupling_keys", property(of_target))


def tail_by_inversion(
    probs: torch.Tensor, supports: Sequence[Sequence[int]], keys: Sequence[int]
) -> list[PositionEvidence]:
    """In place of `measure_coupled`: tail tokens that the shared noise knows nothing of."""
    return measure(
        probs, supports, [KeyedRandomness(key, 0).uniform(Stream.TAIL, 0) for key in keys]
    )
