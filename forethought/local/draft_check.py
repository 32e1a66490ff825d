"""Does the draft of a deployment fit its target? Asked of both, once both are ready.

The orchestrator refuses a draft that does not fit and works without. Who names a draft model wants
to know that before the first answer.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc

from forethought.compatibility import another_vocabulary, unusable_draft
from forethought.local.plan.plan_error import PlanError
from forethought.local.processes.local_deployment import Tier
from forethought.rpc.codecs.model_info import model_from_proto
from forethought.rpc.connections.channels import open_channel
from forethought.tier import ModelInfo
from forethought.v1.draft_pb2 import DraftServiceGetModelInfoRequest
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from forethought.v1.target_pb2 import TargetServiceGetModelInfoRequest
from forethought.v1.target_pb2_grpc import TargetServiceStub

_TIMEOUT_S = 5.0


async def check_draft(tiers: Iterable[Tier]) -> None:
    """Compares what the tiers serve. One that does not say is taken to fit.

    Raises:
        PlanError: the draft does not fit; names both models.
    """
    addresses = {tier.name: tier.address for tier in tiers}
    if not {"draft", "target"} <= addresses.keys():
        return
    draft, target = await asyncio.gather(
        _model(addresses["draft"], DraftServiceStub, DraftServiceGetModelInfoRequest()),
        _model(addresses["target"], TargetServiceStub, TargetServiceGetModelInfoRequest()),
    )
    if draft is None or target is None:
        return
    why = unusable_draft(draft, target)
    if another_vocabulary(draft, target):
        why += "; with --translate-draft it guesses those tokens that both have"
    if why:
        raise PlanError(f"draft model {draft.name} does not fit model {target.name}: {why}")


async def _model(address: str, stub: Any, request: Any) -> ModelInfo | None:
    async with open_channel(address) as channel:
        try:
            answer = await stub(channel).GetModelInfo(request, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return None
    return model_from_proto(answer.model)
