"""What is kept of a request with its session, and found again by any gateway."""

import time
from hashlib import blake2b

import msgspec

from forethought.client import GenerationClient
from forethought.errors import SessionNotFoundError
from forethought.generation import SessionContent
from gateway.responses.request import ResponseRequest
from gateway.web.errors import HttpError, invalid

_PREFIX = "resp_"
_MAX_SHOWN = 16384  # characters of instructions


class Kept(msgspec.Struct, frozen=True, tag="response"):
    """The note of a session that is a response."""

    created_at: int
    model: str
    metadata: dict[str, str]
    instructions: str | None  # None also where they are too long to be kept
    instructions_digest: str
    previous_response_id: str | None
    max_output_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_logprobs: int | None


def kept_of(body: ResponseRequest, model: str) -> Kept:
    """What to keep of a request that is made now."""
    said = body.instructions or ""
    return Kept(
        created_at=int(time.time()),
        model=model,
        metadata=body.metadata or {},
        instructions=body.instructions if len(said) <= _MAX_SHOWN else None,
        instructions_digest=_digest(said),
        previous_response_id=body.previous_response_id,
        max_output_tokens=body.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_logprobs=body.top_logprobs,
    )


def note_of(kept: Kept) -> str:
    """As it is stored."""
    return msgspec.json.encode(kept).decode()


def response_id(session_id: str) -> str:
    """The name of the response that a session is."""
    return _PREFIX + session_id


def session_id(name: str) -> str:
    """The session of a response. Raises HttpError where there can be none."""
    if not name.startswith(_PREFIX):
        raise not_found(name)
    return name.removeprefix(_PREFIX)


def not_found(name: str, param: str = "response_id") -> HttpError:
    """There is no such response, or none of this caller's."""
    return HttpError(404, f"{param}: there is no response {name!r}", param=param, code="not_found")


async def find(
    client: GenerationClient, name: str, param: str = "response_id"
) -> tuple[SessionContent, Kept]:
    """A response that was asked for before.

    Raises:
        HttpError: there is none.
        ForethoughtError: whether there is cannot be told.
    """
    try:
        content = await client.get_session(session_id(name))
        return content, msgspec.json.decode(content.note, type=Kept)
    except (SessionNotFoundError, msgspec.DecodeError, HttpError):
        raise not_found(name, param) from None


def check_instructions(body: ResponseRequest, before: Kept) -> None:
    """A conversation keeps the instructions that it began with. Raises HttpError."""
    if body.instructions is not None and _digest(body.instructions) != before.instructions_digest:
        raise invalid(
            "instructions", "a conversation keeps those that it began with: leave them out"
        )


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()
