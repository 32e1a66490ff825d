"""ScalingService over gRPC: what an orchestrator tells whoever decides on replicas."""

from collections.abc import Callable
from typing import Any

import grpc

from forethought.rpc.codecs.scaling import orchestrator_load_to_proto
from forethought.tier import OrchestratorLoad
from forethought.v1 import scaling_pb2 as pb
from forethought.v1.scaling_pb2_grpc import ScalingServiceServicer


class ScalingServicer(ScalingServiceServicer):
    """Answers with what `load` says."""

    def __init__(self, load: Callable[[], OrchestratorLoad]) -> None:
        self._load = load

    async def GetLoad(
        self,
        request: pb.GetLoadRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> pb.GetLoadResponse:
        """The load at this moment."""
        return orchestrator_load_to_proto(self._load())
