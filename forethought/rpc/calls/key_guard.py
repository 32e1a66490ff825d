"""API keys on calls: `authorization: Bearer KEY`, who that is, and what it may.

With keys on, the tenant follows from the key. A request that names none is its tenant's, and one
that names another is refused; so a session of another tenant is not found.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import structlog

from forethought.errors import PermissionDeniedError, UnauthenticatedError
from forethought.keys.key_file import ApiKey, KeyRing
from forethought.keys.limits import KeyLimits
from forethought.reloading import Reloading
from forethought.rpc.security.guards import Admit, Context, Guard, admit_all

_SCHEME = "bearer "
_FREE = "/forethought.v1.ScalingService/"
"""Counts that /metrics tells without a key too."""
_STATISTICS = "/forethought.v1.DeploymentService/"

_calling: ContextVar[KeyLimits | None] = ContextVar("calling", default=None)


def spend_tokens(num_tokens: int) -> None:
    """Counts tokens for the key of the call that is handled; without keys nothing."""
    limits = _calling.get()
    if limits is not None:
        limits.spend(num_tokens)


def only_with_keys(ring: Reloading[KeyRing]) -> Guard:
    """Lets calls in that show a key of the file."""
    known: dict[str, KeyLimits] = {}

    def limits_of(key: ApiKey) -> KeyLimits:
        limits = known.get(key.id)
        if limits is None or limits.key != key:
            limits = known[key.id] = KeyLimits(key)
        return limits

    @contextmanager
    def check(context: Context, method: str) -> Iterator[Admit]:
        if method.startswith(_FREE):
            yield admit_all
            return
        key = _key_of(context, ring.get())
        if method.startswith(_STATISTICS) and not key.reads_statistics:
            raise PermissionDeniedError("the key may not read how the deployment does")
        structlog.contextvars.bind_contextvars(api_key=key.id)
        limits = limits_of(key)
        with limits.call():
            token = _calling.set(limits)
            try:
                yield lambda request: _admit(request, key)
            finally:
                _calling.reset(token)

    return check


def _key_of(context: Context, ring: KeyRing) -> ApiKey:
    for name, value in context.invocation_metadata() or ():
        if name == "authorization" and isinstance(value, str):
            if value[: len(_SCHEME)].lower() != _SCHEME:
                raise UnauthenticatedError("authorization must be: Bearer KEY")
            found = ring.find(value[len(_SCHEME) :].strip())
            if found is None:
                raise UnauthenticatedError("the API key is not known here, or was revoked")
            return found
    raise UnauthenticatedError("an API key is missing: send authorization: Bearer KEY")


def _admit(request: Any, key: ApiKey) -> None:
    """Makes a request one of the key's tenant."""
    if "tenant" not in request.DESCRIPTOR.fields_by_name:
        return
    if request.tenant not in {"", key.tenant}:
        raise PermissionDeniedError("the key is another tenant's than the request names")
    request.tenant = key.tenant
