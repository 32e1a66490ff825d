"""Events as one JSON object a line, for machines.

`event` says which kind it is: started, token, step, finished or error. The other fields have the
names of GenerateResponse and its parts; names of enums are lower case and without their prefix
(`TOKEN_ORIGIN_ACCEPTED` is "accepted"). A field that is not set is null, and so is a number that
JSON does not have. The last line is finished or error: gRPC code, reason and message, the fields
that are wrong, and the seconds after which to try again. What a signal ended is CANCELLED.
"""

import json
import math
from dataclasses import asdict
from enum import Enum
from functools import singledispatch
from typing import Any, TextIO

from forethought.cli.views.tokens import is_unicode
from forethought.errors import (
    ForethoughtError,
    InvalidArgumentError,
    OverloadedError,
    RemoteError,
)
from forethought.generation import Finished, GenerationEvent, Started, Step, Token


class JsonView:
    """Writes each event at once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, event: GenerationEvent) -> None:
        """Writes one line."""
        self.write(event_to_json(event))

    def pause(self) -> None:
        """All lines are ended."""

    def close(self) -> None:
        """Nothing is left to write."""

    def end(self, failure: ForethoughtError | None, *, is_complete: bool) -> None:
        """Writes why the answer is not complete."""
        if failure is not None:
            self.write(error_to_json(failure))
        elif not is_complete:
            self.write(error_to_json(RemoteError("it was interrupted", code="CANCELLED")))

    def write(self, fields: dict[str, Any]) -> None:
        """Writes one line."""
        line = json.dumps(
            _finite(fields),
            allow_nan=False,
            default=_enum_value,
            ensure_ascii=not is_unicode(self._out),
        )
        self._out.write(line + "\n")
        self._out.flush()


def event_to_json(event: GenerationEvent) -> dict[str, Any]:
    """The object of an event."""
    return {"event": type(event).__name__.lower(), **_fields(event)}


def error_to_json(error: ForethoughtError) -> dict[str, Any]:
    """The object of a failure."""
    return {
        "event": "error",
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "violations": error.violations if isinstance(error, InvalidArgumentError) else {},
        "retry_after_s": error.retry_after_s if isinstance(error, OverloadedError) else None,
    }


@singledispatch
def _fields(event: GenerationEvent) -> dict[str, Any]:
    raise TypeError(f"not an event: {event!r}")


@_fields.register
def _(event: Started | Token) -> dict[str, Any]:
    return asdict(event)


@_fields.register
def _(event: Step) -> dict[str, Any]:
    return {
        "round": event.round,
        "position": event.position,
        "drafted": [asdict(token) for token in event.drafted],
        "final_token_id": event.final.token_id,
        "final_text": event.final_text,
        "final_origin": event.final.origin,
        "final_target_prob": event.final.target_prob,
        "speculation_ns": event.speculation_ns,
        "verification_ns": event.verification_ns,
        "rejection_ns": event.rejection_ns,
        "proposer": event.proposer,
        "lookahead": event.lookahead,
        "draft_timings": asdict(event.draft_timings),
        "target_timings": asdict(event.target_timings),
    }


@_fields.register
def _(event: Finished) -> dict[str, Any]:
    fields = asdict(event)
    return {"finish_reason": fields.pop("reason"), **fields}


def _enum_value(value: object) -> Any:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"no JSON for {value!r}")


def _finite(value: Any) -> Any:
    """The value with null in place of infinities and of what is no number."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case _:
            return value
