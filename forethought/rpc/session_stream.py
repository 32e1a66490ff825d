"""A session on a tier is one stream. This is its life, the same for every tier.

Opening, rounds in order, and an end that frees everything: when the client closes the stream or
vanishes, when a deadline passes, or when a round is refused.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from forethought.errors import InvalidArgumentError, ModelMismatchError, VocabularyMismatchError
from forethought.tier import ModelInfo, SessionOpen


class TierSession(Protocol):
    """What a tier does for one session. Messages are the tier's own protobuf types."""

    def opened(self) -> Any:
        """The answer to the opening, sent before `prepare`."""
        ...

    async def prepare(self) -> None:
        """Computes what it can before the first round."""
        ...

    async def answer(self, message: Any) -> Any:
        """The answer to one round."""
        ...

    def close(self) -> None:
        """Frees what the session holds. Called exactly once, also after errors."""
        ...


async def serve_session(
    requests: AsyncIterator[Any], open_session: Callable[[Any], TierSession]
) -> AsyncIterator[Any]:
    """Answers the messages of one stream.

    A round that is repeated word for word gets the stored answer.

    Args:
        requests: messages with a oneof `message` of `open` and `round`.
        open_session: makes the session from the `open` message.

    Raises:
        InvalidArgumentError: a message out of turn.
    """
    session: TierSession | None = None
    last_round = last_answer = None
    try:
        async for request in requests:
            match request.WhichOneof("message"):
                case "open" if session is None:
                    session = open_session(request.open)
                    yield session.opened()
                    await session.prepare()
                case "round" if session is not None:
                    if request.round != last_round:
                        last_answer = await session.answer(request.round)
                        last_round = request.round
                    yield last_answer
                case _:
                    raise InvalidArgumentError(
                        {"message": "a stream is one `open`, then any number of `round`"}
                    )
    finally:
        if session is not None:
            session.close()


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
