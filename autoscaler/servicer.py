"""KEDA's external scaler over gRPC.

The metric of a tier is the number of replicas that it should have, of which each replica takes one:
so KEDA's HorizontalPodAutoscaler comes to the same number. Errors are told as errors: KEDA then
uses the `fallback` of the ScaledObject, where a wrong number would be believed.
"""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from autoscaler.board import Board
from autoscaler.decider import Tier
from autoscaler.keda import externalscaler_pb2 as pb
from autoscaler.keda.externalscaler_pb2_grpc import ExternalScalerServicer
from forethought.errors import InvalidArgumentError, TierUnavailableError

Context = grpc.aio.ServicerContext[Any, Any]


class KedaServicer(ExternalScalerServicer):
    """Answers with the decisions of a board."""

    def __init__(self, board: Board) -> None:
        self._board = board

    async def IsActive(self, request: pb.ScaledObjectRef, context: Context) -> pb.IsActiveResponse:
        """Whether the tier needs a replica at all."""
        return pb.IsActiveResponse(result=self._is_active(_tier_of(request)))

    async def StreamIsActive(
        self, request: pb.ScaledObjectRef, context: Context
    ) -> AsyncIterator[pb.IsActiveResponse]:
        """The same at once, and whenever it changes."""
        tier = _tier_of(request)
        told: bool | None = None
        while True:
            changed = self._board.changed  # before the look: it may change while this is told
            try:
                is_active = self._is_active(tier)
            except TierUnavailableError:
                is_active = told if told is not None else True  # nothing is known: no reason to end
            if is_active is not told:
                yield pb.IsActiveResponse(result=is_active)
                told = is_active
            await changed.wait()

    async def GetMetricSpec(
        self, request: pb.ScaledObjectRef, context: Context
    ) -> pb.GetMetricSpecResponse:
        """One metric, of which a replica takes 1."""
        name = f"{_tier_of(request).value}-replicas"
        spec = pb.MetricSpec(metricName=name, targetSize=1, targetSizeFloat=1.0)
        return pb.GetMetricSpecResponse(metricSpecs=[spec])

    async def GetMetrics(
        self, request: pb.GetMetricsRequest, context: Context
    ) -> pb.GetMetricsResponse:
        """The replicas that the tier should have."""
        replicas = self._board.get(_tier_of(request.scaledObjectRef)).replicas
        value = pb.MetricValue(
            metricName=request.metricName, metricValue=replicas, metricValueFloat=float(replicas)
        )
        return pb.GetMetricsResponse(metricValues=[value])

    def _is_active(self, tier: Tier) -> bool:
        return self._board.get(tier).replicas > 0


def _tier_of(request: pb.ScaledObjectRef) -> Tier:
    """The tier that a trigger's metadata names.

    Raises:
        InvalidArgumentError: it names none.
    """
    name = request.scalerMetadata.get("tier", "")
    try:
        return Tier(name)
    except ValueError:
        tiers = ", ".join(tier.value for tier in Tier)
        raise InvalidArgumentError(
            {"scalerMetadata.tier": f"must be one of {tiers}, and is {name!r}"}
        ) from None
