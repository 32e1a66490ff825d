"""What a prompt that is no text holds: token ids or messages, and nothing besides."""

import operator
from collections.abc import Sequence

from forethought.errors import InvalidArgumentError
from forethought.generation import ChatMessage

MUST_BE_A_LIST = "must be a list of texts, not one text"
"""Of a `stop` that Python would take for a list of its characters."""


def messages_of(prompt: Sequence[int] | Sequence[ChatMessage]) -> list[ChatMessage]:
    """The messages of a conversation; none where the prompt holds something else.

    Raises:
        InvalidArgumentError: it holds messages and something else.
    """
    messages = [item for item in prompt if isinstance(item, ChatMessage)]
    if messages and len(messages) < len(prompt):
        raise InvalidArgumentError({"prompt": "must hold messages or token ids, not both"})
    return messages


def token_ids_of(prompt: Sequence[object]) -> list[int]:
    """The token ids of a prompt, which may be whole numbers of any type, such as NumPy's.

    Raises:
        InvalidArgumentError: it holds something else.
    """
    if isinstance(prompt, bytes | bytearray | memoryview):
        raise InvalidArgumentError({"prompt.token_ids": "must be a list of token ids, not bytes"})
    try:
        return [operator.index(item) for item in prompt]  # type: ignore[arg-type]
    except TypeError as error:
        raise InvalidArgumentError(
            {"prompt.token_ids": f"must hold whole numbers or messages: {error}"}
        ) from error
