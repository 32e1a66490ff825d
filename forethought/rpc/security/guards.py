"""Who may call: asked of each call before its handler, and told when the call has ended."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

import grpc

from forethought.errors import PermissionDeniedError

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Admit: TypeAlias = Callable[[Any], None]
"""Looks at the request of a call that was let in, and may change it; raises like a guard."""
Guard: TypeAlias = Callable[[Context, str], AbstractContextManager[Admit]]
"""Raises a ForethoughtError for a call, of this context and method, that may not be made. It is
entered for as long as the call takes. Health and reflection are not guarded."""


def admit_all(_: Any) -> None:
    """Takes every request as it is."""


@contextmanager
def let_all_in(_context: Context, _method: str) -> Iterator[Admit]:
    """No guard."""
    yield admit_all


def both(first: Guard, second: Guard) -> Guard:
    """Lets in whom both let in."""

    @contextmanager
    def check(context: Context, method: str) -> Iterator[Admit]:
        with first(context, method) as admit, second(context, method) as admit_too:

            def admit_twice(request: Any) -> None:
                admit(request)
                admit_too(request)

            yield admit_twice

    return check


def only_named(names: Iterable[str]) -> Guard:
    """Lets callers in whose certificate bears one of these names: a DNS name or a URI."""
    allowed = frozenset(map(str.lower, names))

    @contextmanager
    def check(context: Context, _method: str) -> Iterator[Admit]:
        borne = _names_of(context)
        if allowed.isdisjoint(map(str.lower, borne)):
            shown = ", ".join(sorted(borne)) or "none"
            raise PermissionDeniedError(
                f"the caller's certificate bears no name that may call here; it bears: {shown}"
            )
        yield admit_all

    return check


def _names_of(context: Context) -> set[str]:
    """The subject's alternative names in the certificate of a caller."""
    properties = context.auth_context()
    return {name.decode(errors="replace") for name in properties.get(_NAMES, ())}


_NAMES = "x509_subject_alternative_name"
