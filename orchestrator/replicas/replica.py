"""One replica of a tier, as the orchestrator sees it, and the two tiers that have replicas."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Generic, TypeVar

import grpc

from forethought.deployment import Standing
from forethought.errors import TierProtocolError
from forethought.rpc.codecs.load import load_from_proto
from forethought.rpc.codecs.model_info import model_from_proto
from forethought.store.server.breaker import Breaker, BreakerSettings, BreakerState
from forethought.tier import LARGEST_MAX_SPECULATIVE_TOKENS, ModelInfo, TierLoad
from forethought.v1.draft_pb2 import DraftServiceGetModelInfoRequest
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from forethought.v1.target_pb2 import TargetServiceGetModelInfoRequest
from forethought.v1.target_pb2_grpc import TargetServiceStub
from orchestrator.replicas.ejection import Ejection

StubT = TypeVar("StubT")


@dataclass(slots=True, eq=False)
class Replica(Generic[StubT]):
    """Where a replica is, and how it does."""

    address: str
    stub: StubT
    breaker: Breaker
    standing: Standing = Standing.UNKNOWN
    model: ModelInfo | None = None
    """What it said last that it serves."""
    server_name: str = ""
    """That its certificate must bear, where it is not the address's host."""
    why: str = ""
    """Why it has no session, for the log."""
    is_leaving: bool = False
    """Its name has no such record any more: as good as drained."""
    num_reported: int = 0
    """Sessions that it held when it was asked last."""
    num_ours: int = 0
    """Sessions that this orchestrator has there."""
    num_ours_reported: int = 0
    """The same when it was asked last."""
    num_ejections: int = 0
    num_refusals: int = 0
    ejection: Ejection = field(default_factory=Ejection)
    """Whether its rounds succeed, whatever it answers to questions."""
    look: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to have it looked at now rather than later."""

    @property
    def load(self) -> int:
        """Sessions: what it reported, and what this orchestrator has brought and taken since; at
        least those that are ours. A report knows nothing of those on their way to it."""
        return max(self.num_reported + self.num_ours - self.num_ours_reported, self.num_ours)

    @property
    def is_healthy(self) -> bool:
        """Whether new sessions may go there."""
        return self.is_reachable and not self.ejection.is_out

    @property
    def is_reachable(self) -> bool:
        """The same, whatever becomes of their rounds."""
        return self.is_answering and self.breaker.state is BreakerState.CLOSED

    @property
    def is_answering(self) -> bool:
        """The same, without what the breaker says."""
        return self.standing in {Standing.UNKNOWN, Standing.SERVING} and not self.is_leaving

    @property
    def is_draining(self) -> bool:
        """Whether sessions should leave in their own time."""
        return self.standing is Standing.CLOSED or self.is_leaving

    @property
    def wants_probe(self) -> bool:
        """Whether a session should find out if its rounds succeed again."""
        return self.is_reachable and self.ejection.wants_probe


@dataclass(frozen=True, slots=True)
class TierKind(Generic[StubT]):
    """A tier that has replicas."""

    name: str
    make_stub: Callable[[grpc.aio.Channel], StubT]
    request: Any
    """That asks a replica for its model and load."""

    async def ask(self, stub: Any, timeout_s: float) -> tuple[ModelInfo, TierLoad]:
        """What a replica serves and holds.

        Raises:
            grpc.aio.AioRpcError: it did not answer in time, or not at all.
            TierProtocolError: what it says cannot be.
        """
        response = await stub.GetModelInfo(self.request, timeout=timeout_s)
        return check_model(model_from_proto(response.model)), load_from_proto(response.load)


def check_model(model: ModelInfo) -> ModelInfo:
    """`model`, unless a tier says of it what cannot be; then raises TierProtocolError."""
    sizes = [cost.num_tokens for cost in model.pass_costs]
    if not all(size < larger for size, larger in pairwise((0, *sizes))):
        raise TierProtocolError("the tier measured passes of sizes that do not grow")
    if not all(0 < cost.forward_ns < 1e13 for cost in model.pass_costs):
        raise TierProtocolError("the tier measured passes that take no time, or hours")
    if model.max_num_speculative_tokens > LARGEST_MAX_SPECULATIVE_TOKENS:
        raise TierProtocolError(
            f"the tier offers more than {LARGEST_MAX_SPECULATIVE_TOKENS} tokens a round"
        )
    return model


DRAFT = TierKind("draft", DraftServiceStub, DraftServiceGetModelInfoRequest())
TARGET = TierKind("target", TargetServiceStub, TargetServiceGetModelInfoRequest())

SILENCE = BreakerSettings(max_failures=3, first_pause_s=0.25, max_pause_s=3.0)
"""When a replica that answers no questions is left alone, and for how long before it is probed."""

NEVER = BreakerSettings(max_failures=2**62)
"""For a replica that nobody watches, so that nobody would notice its return."""
