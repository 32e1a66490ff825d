"""Events as one JSON object a line, for machines.

`event` says which kind it is: started, token, step or finished. The other fields have the names
of GenerateResponse and its parts; names of enums are lower case and without their prefix
(`TOKEN_ORIGIN_ACCEPTED` is "accepted"). A field that is not set is null.
"""

import json
from dataclasses import asdict
from enum import Enum
from functools import singledispatch
from typing import Any, TextIO

from forethought.generation import Finished, GenerationEvent, Started, Step, Token


class JsonView:
    """Writes each event at once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, event: GenerationEvent) -> None:
        """Writes one line."""
        json.dump(event_to_json(event), self._out, ensure_ascii=False, default=_enum_value)
        self._out.write("\n")
        self._out.flush()

    def close(self) -> None:
        """Nothing is left to write."""


def event_to_json(event: GenerationEvent) -> dict[str, Any]:
    """The object of an event."""
    return {"event": type(event).__name__.lower(), **_fields(event)}


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
