"""The events of a streamed response.

Their numbers follow from the tokens alone: four events open the stream, the token with index i has
number 4 + i. So any gateway tells the same events with the same numbers again, and a client that
lost its stream goes on behind the last number that it has.
"""

import msgspec

from forethought.generation import Finished, GenerationEvent, Started, Token
from gateway.openai.logprobs import TokenLogprob
from gateway.openai.usage import metrics
from gateway.responses.kept import Kept
from gateway.responses.objects import (
    OutputMessage,
    OutputText,
    ResponseObject,
    begun,
    ended,
    logprobs_of,
    message,
)
from gateway.web.errors import HttpError


class OfResponse(msgspec.Struct, frozen=True):
    """How the whole stands."""

    type: str
    sequence_number: int
    response: ResponseObject


class OfItem(msgspec.Struct, frozen=True):
    """How the message stands."""

    type: str
    sequence_number: int
    item: OutputMessage
    output_index: int = 0


class OfPart(msgspec.Struct, frozen=True):
    """How the part of the message stands."""

    type: str
    sequence_number: int
    item_id: str
    part: OutputText
    output_index: int = 0
    content_index: int = 0


class TextDelta(msgspec.Struct, frozen=True, tag="response.output_text.delta"):
    """A token."""

    sequence_number: int
    item_id: str
    delta: str
    logprobs: list[TokenLogprob]
    output_index: int = 0
    content_index: int = 0


class TextDone(msgspec.Struct, frozen=True, tag="response.output_text.done"):
    """All of the text."""

    sequence_number: int
    item_id: str
    text: str
    logprobs: list[TokenLogprob]
    output_index: int = 0
    content_index: int = 0


class Broken(msgspec.Struct, frozen=True, tag="error"):
    """The stream ends before the response does."""

    sequence_number: int
    message: str
    code: str
    param: str | None


Event = OfResponse | OfItem | OfPart | TextDelta | TextDone | Broken


class ResponseWriter:
    """Makes the events.

    Args:
        kept: of the request.
        after: number of the last event that the client has; -1: none.
        tells_metrics: whether the times are those of the generation, and not of a repetition.
    """

    def __init__(self, kept: Kept, *, after: int = -1, tells_metrics: bool = True) -> None:
        self._kept = kept
        self._after = after
        self._tells_metrics = tells_metrics
        self._number = 0
        self._started: Started | None = None
        self._tokens: list[Token] = []
        self.response: ResponseObject | None = None
        """As far as it is, once its generation has begun."""

    def on(self, event: GenerationEvent) -> bytes:
        match event:
            case Token():
                return self._on_token(event)
            case Started():
                return self._on_start(event)
            case Finished():
                return self._on_end(event)
        return b""

    def end(self) -> bytes:
        return b""

    def fail(self, error: HttpError) -> bytes:
        return _sse(Broken(self._number, error.message, error.code, error.param), "error")

    def _on_start(self, started: Started) -> bytes:
        self._started = started
        self.response = response = begun(started, self._kept)
        item = message(response, [], "in_progress")
        part = item.content[0]
        return self._told(
            OfResponse("response.created", 0, response),
            OfResponse("response.in_progress", 1, response),
            OfItem("response.output_item.added", 2, msgspec.structs.replace(item, content=[])),
            OfPart("response.content_part.added", 3, item.id, part),
        )

    def _on_token(self, token: Token) -> bytes:
        assert self.response is not None
        self._tokens.append(token)
        number = self._number
        if number <= self._after:
            self._number += 1
            return b""
        name = self.response.id.replace("resp_", "msg_", 1)
        return self._told(TextDelta(number, name, token.text, logprobs_of([token])))

    def _on_end(self, finished: Finished) -> bytes:
        assert self.response is not None
        assert self._started is not None
        whole = ended(self.response, self._started, finished, self._tokens)
        if self._tells_metrics:
            whole = msgspec.structs.replace(whole, metrics=metrics(finished))
        self.response = whole
        item = whole.output[0]
        part = item.content[0]
        number = self._number
        return self._told(
            TextDone(number, item.id, part.text, part.logprobs),
            OfPart("response.content_part.done", number + 1, item.id, part),
            OfItem("response.output_item.done", number + 2, item),
            OfResponse(f"response.{whole.status}", number + 3, whole),
        )

    def _told(self, *events: Event) -> bytes:
        """Those that the client does not have."""
        self._number += len(events)
        return b"".join(
            _sse(event, _type_of(event)) for event in events if event.sequence_number > self._after
        )


def _type_of(event: Event) -> str:
    if isinstance(event, OfResponse | OfItem | OfPart):
        return event.type
    return str(type(event).__struct_config__.tag)


def _sse(event: Event, kind: str) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(event))
