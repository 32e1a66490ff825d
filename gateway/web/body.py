"""From the bytes of a request to its fields.

What is `null` is absent. A field that no route knows, and one that would change the answer and that
nothing here does, is an error by its name; what changes nothing is let through.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from forethought.configuration.suggestions import suggest
from gateway.web.errors import HttpError, invalid

_JSON = "application/json"
_AS_IT_IS = "identity"  # RFC 9110, section 12.5.3
_UNREADABLE = "unsupported_media_type"


class RequestBody(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that count."""

    model: str | None = None

    def check(self) -> None:
        """Refuses what the types let through. Raises HttpError."""


BodyT = TypeVar("BodyT", bound=RequestBody)


@dataclass(frozen=True, slots=True)
class OtherFields:
    """What clients send besides the fields that count."""

    harmless: frozenset[str] = frozenset()
    """They change no answer, whatever they are."""
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """They may be sent with these values, which ask for what is done anyway."""


async def read_json(request: Request, max_bytes: int) -> dict[str, Any]:
    """The body as an object. Raises HttpError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _JSON:  # a browser sends no other site's JSON here without asking first
        raise HttpError(415, f"the content type must be {_JSON}", code=_UNREADABLE)
    if request.headers.get("content-encoding", _AS_IT_IS).strip().lower() != _AS_IT_IS:
        raise HttpError(415, "the body must not be compressed", code=_UNREADABLE)
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
    except ClientDisconnect:
        text = "the client left before its request was whole"
        raise HttpError(400, text, code="incomplete_body") from None
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(content, dict):
        raise HttpError(400, "the body must be a JSON object", code="invalid_json")
    return content


def parse(content: Mapping[str, Any], kind: type[BodyT], others: OtherFields) -> BodyT:
    """The fields that count, checked for their types. Raises HttpError."""
    known = kind.__struct_fields__
    given = {}
    for name, value in content.items():
        if value is None:
            continue
        if name in known:
            given[name] = value
        elif name not in others.harmless:
            _check_other(name, value, known, others)
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from None


def _check_other(name: str, value: Any, known: tuple[str, ...], others: OtherFields) -> None:
    if name not in others.fixed:
        hint = suggest(name, [*known, *others.fixed]) or ""
        raise invalid(name, f"there is no such field{hint}", code="unknown_parameter")
    allowed = others.fixed[name]
    if isinstance(value, dict):
        value = {key: each for key, each in value.items() if each is not None}
    if not any(_is_same(value, each) for each in allowed):
        words = " or ".join(msgspec.json.encode(each).decode() for each in allowed)
        only = f", but for {words}" if words else ""
        raise invalid(name, f"is not supported{only}: leave it out", code="unsupported_parameter")


def _is_same(value: Any, other: Any) -> bool:
    """In JSON true is not 1."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _misfit(problem: str) -> HttpError:
    """Of a problem such as "Expected `int`, got `str` - at `$.max_tokens`"."""
    what, _, where = problem.partition(" - at `$")
    param = where.removesuffix("`").removeprefix(".")
    if what.startswith("Object contains unknown field"):
        name = what.split("`")[1]
        param = f"{param}.{name}" if param else name
        return invalid(param, "there is no such field", code="unknown_parameter")
    if what.startswith("Object missing required field"):
        name = what.split("`")[1]
        param = f"{param}.{name}" if param else name
        return invalid(param, "is missing", code="missing_required_parameter")
    words = f"{what[:1].lower()}{what[1:]}"
    if not param:
        return HttpError(400, words, code="invalid_type")
    return invalid(param, words, code="invalid_type")


def _too_large(max_bytes: int) -> HttpError:
    return HttpError(413, f"the body has more than {max_bytes} bytes", code="body_too_large")
