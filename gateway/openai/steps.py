"""The three steps of each round, for who asks with `include_steps`.

Names are those of `SpeculationStep` and `GeneratedToken` in `generation.proto`.
"""

from collections.abc import Iterable

import msgspec

from forethought.generation import JudgedToken, Step, Token
from forethought.sampling.types import LookaheadOutcome, TokenOrigin
from forethought.tier import RoundTimings


class SpeculationStep(msgspec.Struct, frozen=True):
    """One round of speculation, parallel verification and rejection sampling."""

    round: int
    position: int
    drafted: tuple[JudgedToken, ...]
    final_token_id: int
    final_text: str
    final_origin: TokenOrigin
    final_target_prob: float
    speculation_ns: int
    verification_ns: int
    rejection_ns: int
    proposer: str
    lookahead: LookaheadOutcome | None
    draft_timings: RoundTimings
    target_timings: RoundTimings


class GeneratedToken(msgspec.Struct, frozen=True):
    """One token of the answer, and how it came to be."""

    index: int
    token_id: int
    text: str
    origin: TokenOrigin
    draft_prob: float | None
    target_prob: float


def told_steps(steps: Iterable[Step]) -> list[SpeculationStep]:
    """As they are told."""
    return [
        SpeculationStep(
            each.round,
            each.position,
            each.drafted,
            each.final.token_id,
            each.final_text,
            each.final.origin,
            each.final.target_prob,
            each.speculation_ns,
            each.verification_ns,
            each.rejection_ns,
            each.proposer,
            each.lookahead,
            each.draft_timings,
            each.target_timings,
        )
        for each in steps
    ]


def told_tokens(tokens: Iterable[Token]) -> list[GeneratedToken]:
    """As they are told."""
    return [
        GeneratedToken(
            each.index,
            each.token_id,
            each.text,
            each.origin,
            each.draft_prob,
            each.target_prob,
        )
        for each in tokens
    ]
