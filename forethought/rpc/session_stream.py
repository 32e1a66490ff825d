"""A session on a tier is one stream. This is its life, the same for every tier.

Opening, rounds in order, and an end that frees everything: when the client closes the stream or
vanishes, when a deadline passes, or when a round is refused.

The opening has to come within a time, and so has each round: a session has a place, and others may
want it. A client that has waited for a reader of its own opens again, with all that is committed by
then. One that vanished is found out by the connection's pings (`KeepAlive`), which end the stream.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Protocol

from forethought.errors import (
    InvalidArgumentError,
    ModelMismatchError,
    OpeningTimeoutError,
    SessionIdleError,
    VocabularyMismatchError,
)
from forethought.observability.traces import note_span
from forethought.runtime.wait_limit import WaitLimit
from forethought.tier import SESSION_IDLE_TIMEOUT_S, ModelInfo, SessionOpen

OPENING_TIMEOUT_S = 30.0
"""Time that a stream gets to send its first message."""


class TierSession(Protocol):
    """What a tier does for one session. Messages are the tier's own protobuf types."""

    async def opened(self) -> Any:
        """The answer to the opening. What it begins to compute then, rounds wait for."""
        ...

    async def answer(self, message: Any) -> Any:
        """The answer to one round."""
        ...

    def close(self) -> None:
        """Frees what the session holds. Called exactly once, also after errors."""
        ...


async def serve_session(
    requests: AsyncIterator[Any],
    open_session: Callable[[Any], TierSession],
    *,
    opening_timeout_s: float = OPENING_TIMEOUT_S,
    idle_timeout_s: float = SESSION_IDLE_TIMEOUT_S,
) -> AsyncGenerator[Any]:
    """Answers the messages of one stream.

    A round that is repeated word for word gets the stored answer.

    Args:
        requests: messages with a oneof `message` of `open` and `round`.
        open_session: makes the session from the `open` message.
        opening_timeout_s: time that the first message may take.
        idle_timeout_s: time that each later one may take.

    Raises:
        InvalidArgumentError: a message out of turn.
        OpeningTimeoutError: the first message did not come in time.
        SessionIdleError: a later one did not.
    """
    messages = aiter(requests)
    session: TierSession | None = None
    last_round = last_answer = None
    idle = WaitLimit(idle_timeout_s)
    try:
        request = await _first(messages, opening_timeout_s)
        while request is not None:
            match request.WhichOneof("message"):
                case "open" if session is None:
                    note_span({"gen_ai.conversation.id": request.open.session_id})
                    session = open_session(request.open)
                    yield await session.opened()
                case "round" if session is not None:
                    if request.round != last_round:
                        last_answer = await session.answer(request.round)
                        last_round = request.round
                    yield last_answer
                case _:
                    raise InvalidArgumentError(
                        {"message": "a stream is one `open`, then any number of `round`"}
                    )
            try:
                request = await idle.wait(anext(messages, None))
            except TimeoutError:
                raise SessionIdleError(
                    f"no round was asked for within {idle_timeout_s:g} s"
                ) from None
    finally:
        idle.close()
        if session is not None:
            session.close()


async def _first(messages: AsyncIterator[Any], timeout_s: float) -> Any:
    """The first message; None if there is none."""
    try:
        async with asyncio.timeout(timeout_s):
            return await anext(messages, None)
    except TimeoutError:
        raise OpeningTimeoutError(f"no session was opened within {timeout_s:g} s") from None


def check_models(opening: SessionOpen, model: ModelInfo) -> None:
    """Refuses a caller that means another model or vocabulary than the tier serves.

    Raises:
        VocabularyMismatchError: token ids would mean different things.
        ModelMismatchError: the numbers would be another model's.
    """
    if opening.vocabulary_fingerprint not in ("", model.vocabulary_fingerprint):
        raise VocabularyMismatchError(
            f"{model.name} has another vocabulary ({model.vocabulary_fingerprint}) than the "
            f"session ({opening.vocabulary_fingerprint})",
            metadata={"model": model.name, "vocabulary": model.vocabulary_fingerprint},
        )
    if opening.model_fingerprint not in ("", model.model_fingerprint):
        raise ModelMismatchError(
            f"{model.name} ({model.model_fingerprint}) is not the model of the session "
            f"({opening.model_fingerprint})",
            metadata={"model": model.name, "fingerprint": model.model_fingerprint},
        )
