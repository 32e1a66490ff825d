"""Waiting for conditions, never for time."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from time import monotonic
from typing import TypeVar

from forethought.rpc.codecs.load import load_from_proto
from forethought.tier import TierLoad
from forethought.v1.draft_pb2 import DraftServiceGetModelInfoRequest
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from forethought.v1.target_pb2 import TargetServiceGetModelInfoRequest
from forethought.v1.target_pb2_grpc import TargetServiceStub
from tests.stack import Stack

Result = TypeVar("Result")

NOTHING_HELD = TierLoad(num_sessions=0, num_cached_tokens=0, num_queued_jobs=0)


async def until(
    condition: Callable[[], Result | Awaitable[Result]], timeout_s: float = 60.0
) -> Result:
    """Polls until `condition()` is true, and returns what it was; it may be a coroutine.

    What has taken long is asked less often: asking takes time from what is waited for.
    """
    began = monotonic()
    while True:
        found = condition()
        result = await found if isawaitable(found) else found
        if result:
            return result
        waited_s = monotonic() - began
        assert waited_s < timeout_s, f"not within {timeout_s} s: {condition}"
        await asyncio.sleep(max(0.01, min(waited_s / 20, 0.2)))


async def draft_load(stub: DraftServiceStub) -> TierLoad:
    """What the draft tier says that it holds."""
    response = await stub.GetModelInfo(DraftServiceGetModelInfoRequest(), timeout=30)
    return load_from_proto(response.load)


async def target_load(stub: TargetServiceStub) -> TierLoad:
    """What the target tier says that it holds."""
    response = await stub.GetModelInfo(TargetServiceGetModelInfoRequest(), timeout=30)
    return load_from_proto(response.load)


async def until_nothing_is_held(stack: Stack) -> None:
    """Returns when all tiers say, over the wire, that they hold no session and no token."""

    async def is_free() -> bool:
        if stack.draft_stub is not None and await draft_load(stack.draft_stub) != NOTHING_HELD:
            return False
        return await target_load(stack.target_stub) == NOTHING_HELD

    await until(is_free)
