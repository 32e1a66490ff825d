"""What a response is asked with."""

from typing import Literal

import msgspec

from forethought.generation import ChatMessage, GenerationParams
from gateway.openai.messages import TextPart, as_message
from gateway.openai.sampling import GenerationFields, check_counts, other_fields
from gateway.web.errors import invalid

LOGPROBS = "message.output_text.logprobs"
_PLAIN = {"format": {"type": "text"}}
_MEDIUM = {"verbosity": "medium"}
OTHERS = other_fields(
    {"context_management", "max_tool_calls"},
    {
        "access_programs": (),
        "background": (False,),
        "background_options": ({},),
        "conversation": (),
        "image": ({},),
        "moderation": (),
        "prompt": (),
        "reasoning": ({}, {"effort": "none"}),
        "text": ({}, _PLAIN, _MEDIUM, _PLAIN | _MEDIUM),
        "tool_choice": ("none", "auto"),
        "tools": ([],),
        "truncation": ("disabled",),
    },
)
_MAX_METADATA, _MAX_KEY, _MAX_VALUE = 16, 64, 512


class InputMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of the input; an answer of before may be said again as it came."""

    role: str
    content: str | list[TextPart]
    type: Literal["message"] | None = "message"
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing that is done here."""

    include_obfuscation: bool | None = None


class ResponseRequest(GenerationFields, frozen=True, kw_only=True):
    """The body of a request."""

    input: str | list[InputMessage]
    instructions: str | None = None
    previous_response_id: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] | None = None
    store: bool = True
    stream_options: StreamOptions | None = None
    top_logprobs: int | None = None
    include: list[Literal["message.output_text.logprobs"]] | None = None

    def check(self) -> None:
        super().check()
        if not self.input:
            raise invalid("input", "must say something")
        check_counts(max_output_tokens=self.max_output_tokens, top_logprobs=self.top_logprobs)
        pairs = (self.metadata or {}).items()
        if len(pairs) > _MAX_METADATA:
            raise invalid("metadata", f"must have at most {_MAX_METADATA} entries")
        if any(len(key) > _MAX_KEY or len(each) > _MAX_VALUE for key, each in pairs):
            raise invalid("metadata", f"has keys over {_MAX_KEY} or values over {_MAX_VALUE}")

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """What is said, without the instructions."""
        if isinstance(self.input, str):
            return (ChatMessage("user", self.input),)
        return tuple(as_message(each.role, each.content) for each in self.input)

    def generation_params(self) -> GenerationParams:
        """For the service behind."""
        wants_logprobs = self.top_logprobs is not None or bool(self.include)
        return self.params(
            max_tokens=self.max_output_tokens,
            logprobs=(self.top_logprobs or 0) if wants_logprobs else None,
        )

    def name_of(self, field: str) -> str:
        """What the route calls a field of the service."""
        names = {
            "note": "metadata",
            "params.max_tokens": "max_output_tokens",
            "params.logprobs": "top_logprobs",
        }
        if field.startswith("prompt"):
            return "input"
        return names.get(field, field.removeprefix("params."))
