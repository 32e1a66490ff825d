"""Who may call: asked of each call before its handler, and told when the call has ended."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

import grpc

from forethought.errors import PermissionDeniedError

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Guard: TypeAlias = Callable[[Context], AbstractContextManager[None]]
"""Raises a ForethoughtError for a call that may not be made. It is entered for as long as the call
takes. Health and reflection are not guarded."""


@contextmanager
def let_all_in(_: Context) -> Iterator[None]:
    """No guard."""
    yield


def both(first: Guard, second: Guard) -> Guard:
    """Lets in whom both let in."""

    @contextmanager
    def check(context: Context) -> Iterator[None]:
        with first(context), second(context):
            yield

    return check


def only_named(names: Iterable[str]) -> Guard:
    """Lets callers in whose certificate bears one of these names: a DNS name or a URI."""
    allowed = frozenset(map(str.lower, names))

    @contextmanager
    def check(context: Context) -> Iterator[None]:
        borne = _names_of(context)
        if allowed.isdisjoint(map(str.lower, borne)):
            shown = ", ".join(sorted(borne)) or "none"
            raise PermissionDeniedError(
                f"the caller's certificate bears no name that may call here; it bears: {shown}"
            )
        yield

    return check


def _names_of(context: Context) -> set[str]:
    """The subject's alternative names in the certificate of a caller."""
    properties = context.auth_context()
    return {name.decode(errors="replace") for name in properties.get(_NAMES, ())}


_NAMES = "x509_subject_alternative_name"
