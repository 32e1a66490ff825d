"""The messages of a conversation."""

from typing import Literal

import msgspec

from forethought.generation import ChatMessage


class TextPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a message."""

    type: Literal["text", "input_text", "output_text"]
    text: str
    annotations: list[None] | None = None
    logprobs: list[None] | None = None


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation. What is `null` may be said, and says nothing."""

    role: str
    content: str | list[TextPart] | None = None
    name: None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: list[None] | None = None
    annotations: list[None] | None = None

    def as_value(self) -> ChatMessage:
        """For the service behind."""
        return as_message(self.role, self.content or "")


def as_message(role: str, content: str | list[TextPart]) -> ChatMessage:
    """With the parts of its content as one text."""
    return ChatMessage(_ROLES.get(role, role), text_of(content))


def text_of(content: str | list[TextPart]) -> str:
    """The parts as one."""
    return content if isinstance(content, str) else "".join(part.text for part in content)


_ROLES = {"developer": "system"}
"""OpenAI's newer name, which templates do not know."""
