"""Stored sessions: as clients see them, and what is kept of a round besides its tokens.

A round is kept as the message that would tell of it, without texts and places: those follow from
the tokens, and are made again when it is told again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from forethought.errors import SessionCorruptError, TierProtocolError
from forethought.generation import (
    SessionContent,
    SessionInfo,
    SessionStatus,
    SpeculationStatistics,
    Step,
    Token,
    TopLogprob,
)
from forethought.rpc.codecs.generation_codec import (
    events_from_proto,
    response_to_proto,
    statistics_from_proto,
    statistics_to_proto,
)
from forethought.sampling.types import OutputToken
from forethought.v1 import generation_pb2 as pb

_STATUS_TO_PROTO = {
    SessionStatus.ACTIVE: pb.SESSION_STATUS_ACTIVE,
    SessionStatus.FINISHED: pb.SESSION_STATUS_FINISHED,
    SessionStatus.CANCELLED: pb.SESSION_STATUS_CANCELLED,
}
_STATUS_FROM_PROTO = {number: value for value, number in _STATUS_TO_PROTO.items()}


@dataclass(frozen=True, slots=True)
class ToldRound:
    """What a client is told of a round."""

    tokens: tuple[OutputToken, ...]
    step: Step | None  # if steps are included
    statistics: SpeculationStatistics  # of the turn, up to this round


def pack_round(told: ToldRound) -> bytes:
    """The payload of a stored round. Probabilities are float32, as on the wire."""
    message = response_to_proto([*([told.step] if told.step else []), *map(_shown, told.tokens)])
    message.finished.speculation.CopyFrom(statistics_to_proto(told.statistics))
    return message.SerializeToString()


def unpack_round(payload: bytes, token_ids: Sequence[int]) -> ToldRound:
    """The payload of a stored round.

    Raises:
        SessionCorruptError: it is none, or not of these tokens.
    """
    try:
        message = pb.GenerateResponse.FromString(payload)
        statistics = statistics_from_proto(message.finished.speculation)
        message.ClearField("finished")
        events = list(events_from_proto(message))
    except (DecodeError, TierProtocolError) as error:
        raise SessionCorruptError("the stored session cannot be read: payload") from error
    if [token.token_id for token in message.tokens] != list(token_ids):
        raise SessionCorruptError("the stored session cannot be read: tokens")
    step, tokens = None, []
    for event in events:
        if isinstance(event, Step):
            step = event
        elif isinstance(event, Token):
            tokens.append(_hidden(event))
    return ToldRound(tuple(tokens), step, statistics)


def _shown(token: OutputToken) -> Token:
    """The token without what the output gives it."""
    top_logprobs = tuple(TopLogprob(token_id, "", value) for token_id, value in token.top_logprobs)
    return Token(
        0,
        token.token_id,
        "",
        token.origin,
        token.draft_prob,
        token.target_prob,
        token.logprob,
        top_logprobs,
    )


def _hidden(token: Token) -> OutputToken:
    return OutputToken(
        token.token_id,
        token.origin,
        token.draft_prob,
        token.target_prob,
        token.logprob,
        tuple((top.token_id, top.logprob) for top in token.top_logprobs),
    )


def session_to_proto(session: SessionInfo) -> pb.Session:
    return pb.Session(
        session_id=session.session_id,
        status=_STATUS_TO_PROTO[session.status],
        num_rounds=session.num_rounds,
        num_prompt_tokens=session.num_prompt_tokens,
        num_tokens=session.num_tokens,
        created_ms=session.created_ms,
        updated_ms=session.updated_ms,
    )


def session_from_proto(message: pb.Session) -> SessionInfo:
    return SessionInfo(
        session_id=message.session_id,
        status=_STATUS_FROM_PROTO.get(message.status, SessionStatus.ACTIVE),
        num_rounds=message.num_rounds,
        num_prompt_tokens=message.num_prompt_tokens,
        num_tokens=message.num_tokens,
        created_ms=message.created_ms,
        updated_ms=message.updated_ms,
    )


def content_to_proto(content: SessionContent) -> pb.GetSessionResponse:
    return pb.GetSessionResponse(
        session=session_to_proto(content.session),
        prompt_token_ids=content.prompt_token_ids,
        output_token_ids=content.output_token_ids,
        note=content.note,
    )


def content_from_proto(message: pb.GetSessionResponse) -> SessionContent:
    return SessionContent(
        session_from_proto(message.session),
        tuple(message.prompt_token_ids),
        tuple(message.output_token_ids),
        message.note,
    )
