"""A round as it is stored, and back: what a client is told of its tokens.

The format is one of its own, whatever becomes of the messages of the wire. Its first byte says how
to read the rest:

    02        JSON of `_Round`: arrays of the fields below, in their order, which is never changed
    12 or 1a  the message that told of the round, as it was stored before. It is still read

Texts of tokens and places in the output are not kept: they follow from the tokens, and are made
again when the round is told again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import ConfigDict, NonNegativeInt, TypeAdapter, ValidationError

from forethought.errors import SessionCorruptError
from forethought.generation import (
    JudgedToken,
    NoDraftReason,
    ProposerStatistics,
    SpeculationStatistics,
    Step,
    Verdict,
)
from forethought.rpc.codecs.generation.sessions import events_of_message
from forethought.sampling.types import LookaheadOutcome, OutputToken, TokenOrigin
from forethought.tier import LookaheadCounts, RoundTimings

_VERSION = b"\x02"
_OF_MESSAGES = (b"\x12", b"\x1a")


@dataclass(frozen=True, slots=True)
class ToldRound:
    """What a client is told of a round."""

    tokens: tuple[OutputToken, ...]
    step: Step | None  # if steps are included
    statistics: SpeculationStatistics  # of the turn, up to this round


class _Token(NamedTuple):
    token_id: NonNegativeInt
    origin: TokenOrigin
    draft_prob: float | None
    target_prob: float
    logprob: float | None
    top_logprobs: tuple[tuple[NonNegativeInt, float], ...]


class _Judged(NamedTuple):
    token_id: NonNegativeInt
    text: str
    draft_prob: float | None
    target_prob: float
    verdict: Verdict


class _Timings(NamedTuple):
    queue_ns: NonNegativeInt
    forward_ns: NonNegativeInt
    total_ns: NonNegativeInt
    batch_size: NonNegativeInt
    num_batch_tokens: NonNegativeInt
    finish_ns: NonNegativeInt


class _Step(NamedTuple):
    round: NonNegativeInt
    position: NonNegativeInt
    drafted: tuple[_Judged, ...]
    final: _Token
    final_text: str
    speculation_ns: NonNegativeInt
    verification_ns: NonNegativeInt
    rejection_ns: NonNegativeInt
    proposer: str
    lookahead: LookaheadOutcome | None
    draft_timings: _Timings
    target_timings: _Timings


class _Proposer(NamedTuple):
    proposer: str
    num_rounds: NonNegativeInt
    num_draft_tokens: NonNegativeInt
    num_accepted_tokens: NonNegativeInt


class _Statistics(NamedTuple):
    num_rounds: NonNegativeInt
    num_draft_tokens: NonNegativeInt
    num_accepted_tokens: NonNegativeInt
    num_accepted_tokens_per_position: tuple[NonNegativeInt, ...]
    num_draft_failures: NonNegativeInt
    speculation_ns: NonNegativeInt
    verification_ns: NonNegativeInt
    rejection_ns: NonNegativeInt
    proposers: tuple[_Proposer, ...]
    lookahead: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt]  # hits, misses, wasted tokens
    no_draft_reason: NoDraftReason | None
    no_draft_detail: str


class _Round(NamedTuple):
    tokens: tuple[_Token, ...]
    step: _Step | None
    statistics: _Statistics


_ROUND = TypeAdapter(_Round, config=ConfigDict(strict=True, ser_json_inf_nan="constants"))


def pack_told(told: ToldRound) -> bytes:
    """The payload of a stored round."""
    step = None if told.step is None else _pack_step(told.step)
    packed = _Round(tuple(map(_pack_token, told.tokens)), step, _pack_statistics(told.statistics))
    return _VERSION + _ROUND.dump_json(packed)


def unpack_told(payload: bytes, token_ids: Sequence[int]) -> ToldRound:
    """The payload of a stored round.

    Raises:
        SessionCorruptError: it is none, of a version that this one does not know, or not of these
            tokens.
    """
    first = payload[:1]
    if first == _VERSION:
        told = _read(payload[1:])
    elif first in _OF_MESSAGES:
        told = ToldRound(*events_of_message(payload))
    else:
        raise SessionCorruptError(
            "the stored session cannot be read: another version of Forethought stored its rounds"
        )
    if [token.token_id for token in told.tokens] != list(token_ids):
        raise SessionCorruptError("the stored session cannot be read: tokens")
    return told


def _read(packed: bytes) -> ToldRound:
    try:
        found = _ROUND.validate_json(packed)
    except ValidationError as error:
        raise SessionCorruptError("the stored session cannot be read: payload") from error
    step = None if found.step is None else _unpack_step(found.step)
    tokens = tuple(OutputToken(*token) for token in found.tokens)
    return ToldRound(tokens, step, _unpack_statistics(found.statistics))


def _pack_token(token: OutputToken) -> _Token:
    return _Token(
        token.token_id,
        token.origin,
        token.draft_prob,
        token.target_prob,
        token.logprob,
        token.top_logprobs,
    )


def _pack_timings(timings: RoundTimings) -> _Timings:
    return _Timings(
        timings.queue_ns,
        timings.forward_ns,
        timings.total_ns,
        timings.batch_size,
        timings.num_batch_tokens,
        timings.finish_ns,
    )


def _pack_step(step: Step) -> _Step:
    return _Step(
        step.round,
        step.position,
        tuple(
            _Judged(each.token_id, each.text, each.draft_prob, each.target_prob, each.verdict)
            for each in step.drafted
        ),
        _pack_token(step.final),
        step.final_text,
        step.speculation_ns,
        step.verification_ns,
        step.rejection_ns,
        step.proposer,
        step.lookahead,
        _pack_timings(step.draft_timings),
        _pack_timings(step.target_timings),
    )


def _unpack_step(step: _Step) -> Step:
    return Step(
        step.round,
        step.position,
        tuple(JudgedToken(*each) for each in step.drafted),
        OutputToken(*step.final),
        step.final_text,
        step.speculation_ns,
        step.verification_ns,
        step.rejection_ns,
        step.proposer,
        step.lookahead,
        RoundTimings(*step.draft_timings),
        RoundTimings(*step.target_timings),
    )


def _pack_statistics(statistics: SpeculationStatistics) -> _Statistics:
    lookahead = statistics.lookahead
    return _Statistics(
        statistics.num_rounds,
        statistics.num_draft_tokens,
        statistics.num_accepted_tokens,
        statistics.num_accepted_tokens_per_position,
        statistics.num_draft_failures,
        statistics.speculation_ns,
        statistics.verification_ns,
        statistics.rejection_ns,
        tuple(
            _Proposer(
                each.proposer, each.num_rounds, each.num_draft_tokens, each.num_accepted_tokens
            )
            for each in statistics.proposers
        ),
        (lookahead.num_hits, lookahead.num_misses, lookahead.num_wasted_tokens),
        statistics.no_draft_reason,
        statistics.no_draft_detail,
    )


def _unpack_statistics(found: _Statistics) -> SpeculationStatistics:
    return SpeculationStatistics(
        found.num_rounds,
        found.num_draft_tokens,
        found.num_accepted_tokens,
        found.num_accepted_tokens_per_position,
        found.num_draft_failures,
        found.speculation_ns,
        found.verification_ns,
        found.rejection_ns,
        tuple(ProposerStatistics(*each) for each in found.proposers),
        LookaheadCounts(*found.lookahead),
        found.no_draft_reason,
        found.no_draft_detail,
    )
