"""DeploymentService over gRPC: the orchestrator, and what it knows of what is behind it."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import grpc

from forethought import __version__
from forethought.deployment import (
    Certificate,
    DeploymentState,
    ReplicaState,
    Standing,
    StoreState,
    TierState,
)
from forethought.rpc.codecs.deployment import deployment_state_to_proto
from forethought.rpc.security.seen_certificate import see_certificate
from forethought.rpc.security.tls import ClientTls
from forethought.store.server.breaker import BreakerState
from forethought.v1 import deployment_pb2 as pb
from forethought.v1.deployment_pb2_grpc import DeploymentServiceServicer
from orchestrator.replicas.replica import Replica
from orchestrator.replicas.replica_set import ReplicaSet
from orchestrator.servicer import GenerationServicer
from orchestrator.sessions.durable_sessions import Sessions

_LOOK_S = 60.0
"""Between two looks at the certificate of a replica: each costs both a handshake."""


class DeploymentServicer(DeploymentServiceServicer):
    """Answers also while the orchestrator waits for its tiers.

    Args:
        tiers: that it was told of, the target first.
        sessions: the store of sessions; None keeps none.
        tls: by which replicas are called; None speaks plain text.
    """

    def __init__(
        self,
        tiers: Sequence[ReplicaSet[Any]],
        sessions: Sessions | None,
        tls: ClientTls | None = None,
    ) -> None:
        self.generation: GenerationServicer | None = None
        """Set once it serves."""
        self._tiers = tiers
        self._sessions = sessions
        self._certificates = _Certificates(tls)

    async def GetDeployment(
        self,
        request: pb.GetDeploymentRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> pb.GetDeploymentResponse:
        """The state at this moment."""
        return deployment_state_to_proto(await self.look())

    async def look(self) -> DeploymentState:
        """All that is known now."""
        tiers = [
            TierState(
                tier.tier,
                tuple(await asyncio.gather(*map(self._look_at, tier.all))),
            )
            for tier in self._tiers
        ]
        serving = self.generation
        load = None if serving is None else serving.load()
        rounds = None if serving is None else serving.experience.rounds
        return DeploymentState(
            version=__version__,
            not_ready=self._why_not_ready(),
            tiers=tuple(tiers),
            store=None if self._sessions is None else await _look_at_store(self._sessions),
            num_requests=load.num_requests if load else 0,
            max_requests=load.max_requests if load else 0,
            num_rounds=load.num_rounds if load else 0,
            num_draft_tokens=rounds.num_draft_tokens if rounds else 0,
            num_accepted_tokens=rounds.num_accepted_tokens if rounds else 0,
        )

    def _why_not_ready(self) -> str:
        if self.generation is None:
            return "it waits for a target, or loads its tokenizer"
        return "" if self._tiers[0].is_usable else "no target takes sessions"

    async def _look_at(self, replica: Replica[Any]) -> ReplicaState:
        return ReplicaState(
            address=replica.address,
            standing=replica.standing,
            why=replica.why,
            is_ejected=replica.ejection.is_out or replica.breaker.state is not BreakerState.CLOSED,
            num_sessions=replica.num_reported,
            model=replica.model,
            certificate=await self._certificates.of(replica),
        )


async def _look_at_store(sessions: Sessions) -> StoreState:
    return StoreState(await sessions.why_away(), sessions.background.num_recovering)


class _Certificates:
    """Those of replicas, each looked at now and then."""

    def __init__(self, tls: ClientTls | None) -> None:
        self._tls = tls
        self._seen: dict[str, tuple[float, Certificate | None]] = {}

    async def of(self, replica: Replica[Any]) -> Certificate | None:
        """The certificate that a replica shows."""
        if self._tls is None or replica.standing is Standing.LOST:
            return None
        looked_at, certificate = self._seen.get(replica.address, (0.0, None))
        now = time.monotonic()
        if certificate is None or now - looked_at > _LOOK_S:
            certificate = await see_certificate(replica.address, self._tls, replica.server_name)
            self._seen[replica.address] = (now, certificate)
        return certificate
