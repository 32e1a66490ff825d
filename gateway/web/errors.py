"""What went wrong, in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import msgspec

from forethought.errors import (
    ForethoughtError,
    InvalidArgumentError,
    OverloadedError,
    UnauthenticatedError,
)

FieldName = Callable[[str], str]
"""From a field of GenerationService to what the route calls it."""


INVALID_VALUE = "invalid_value"


class HttpError(Exception):
    """A request that is answered by an error.

    Args:
        status: of HTTP.
        message: for people.
        code: for programs.
        param: the field at fault; None where it is none.
        headers: that go with the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The answer's JSON."""
        return msgspec.json.encode(ErrorBody(ErrorContent(*self._content())))

    def _content(self) -> tuple[str, str, str | None, str]:
        kind = _TYPES.get(self.status)
        if kind is None:
            kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return self.message, kind, self.param, self.code


class ErrorContent(msgspec.Struct, frozen=True):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    error: ErrorContent


def invalid(param: str, message: str, *, code: str = INVALID_VALUE) -> HttpError:
    """A field of the request is wrong."""
    return HttpError(400, f"{param}: {message}", param=param, code=code)


def from_forethought(error: ForethoughtError, name_of: FieldName = str) -> HttpError:
    """What a client is told of an error of the service behind."""
    code = _CODES.get(error.reason, error.reason.lower())
    if isinstance(error, InvalidArgumentError):
        violations = {name_of(field): text for field, text in error.violations.items()}
        message = "; ".join(f"{field}: {text}" for field, text in violations.items())
        return HttpError(400, message, param=next(iter(violations), None), code=INVALID_VALUE)
    status = _STATUSES.get(error.code, 500)
    headers = {}
    if isinstance(error, OverloadedError):
        headers["Retry-After"] = str(max(math.ceil(error.retry_after_s), 1))
    elif status == _UNAVAILABLE:
        headers["Retry-After"] = "1"
    elif status == 401:
        headers["WWW-Authenticate"] = "Bearer"  # RFC 6750
    return HttpError(status, error.message, code=code, headers=headers)


def stopping() -> HttpError:
    """The gateway ends before the answer does."""
    text = "the gateway is shutting down, before the answer has ended"
    return HttpError(_UNAVAILABLE, text, code="unavailable", headers={"Retry-After": "1"})


@contextmanager
def naming(name_of: FieldName) -> Iterator[None]:
    """Has errors of the service name the fields as the route does. Raises HttpError."""
    try:
        yield
    except ForethoughtError as error:
        raise from_forethought(error, name_of) from error


_UNAVAILABLE = 503
_CODES = {
    UnauthenticatedError.reason: "invalid_api_key",
    OverloadedError.reason: "rate_limit_exceeded",
}
"""As OpenAI's clients know them; others are the service's own reasons."""
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 503,
    "UNAVAILABLE": _UNAVAILABLE,
    "DEADLINE_EXCEEDED": 504,
    "UNIMPLEMENTED": 501,
}
"""By gRPC's codes; others are 500."""
