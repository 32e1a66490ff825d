"""Stored sessions as clients see them, and the rounds of those that were stored as messages."""

from google.protobuf.message import DecodeError

from forethought.errors import SessionCorruptError, TierProtocolError
from forethought.generation import (
    SessionContent,
    SessionInfo,
    SessionStatus,
    SpeculationStatistics,
    Step,
    Token,
)
from forethought.rpc.codecs.generation.events import events_from_proto
from forethought.rpc.codecs.generation.statistics import statistics_from_proto
from forethought.sampling.types import OutputToken
from forethought.v1 import generation_pb2 as pb

_STATUS_TO_PROTO = {
    SessionStatus.ACTIVE: pb.SESSION_STATUS_ACTIVE,
    SessionStatus.FINISHED: pb.SESSION_STATUS_FINISHED,
    SessionStatus.CANCELLED: pb.SESSION_STATUS_CANCELLED,
}
_STATUS_FROM_PROTO = {number: value for value, number in _STATUS_TO_PROTO.items()}


def events_of_message(
    payload: bytes,
) -> tuple[tuple[OutputToken, ...], Step | None, SpeculationStatistics]:
    """What is told of a round by the message that sessions were stored as before.

    Raises:
        SessionCorruptError: it is none.
    """
    try:
        message = pb.GenerateResponse.FromString(payload)
        statistics = statistics_from_proto(message.finished.speculation)
        message.ClearField("finished")
        events = list(events_from_proto(message))
    except (DecodeError, TierProtocolError) as error:
        raise SessionCorruptError("the stored session cannot be read: payload") from error
    tokens = tuple(_hidden(event) for event in events if isinstance(event, Token))
    return tokens, next((event for event in events if isinstance(event, Step)), None), statistics


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
