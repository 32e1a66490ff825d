"""A deployment's state, to messages and back."""

from datetime import UTC, datetime

from forethought.deployment import (
    Certificate,
    DeploymentState,
    ReplicaState,
    Standing,
    StoreState,
    TierState,
)
from forethought.rpc.codecs.model_info import model_from_proto, model_to_proto
from forethought.v1 import deployment_pb2 as pb

_STANDING_TO_PROTO = {
    Standing.UNKNOWN: pb.REPLICA_STANDING_UNKNOWN,
    Standing.SERVING: pb.REPLICA_STANDING_SERVING,
    Standing.CLOSED: pb.REPLICA_STANDING_CLOSED,
    Standing.LOST: pb.REPLICA_STANDING_LOST,
    Standing.REFUSED: pb.REPLICA_STANDING_REFUSED,
}
_STANDING_FROM_PROTO = {value: standing for standing, value in _STANDING_TO_PROTO.items()}


def deployment_state_to_proto(state: DeploymentState) -> pb.GetDeploymentResponse:
    message = pb.GetDeploymentResponse(
        version=state.version,
        not_ready=state.not_ready,
        tiers=[
            pb.TierState(name=tier.name, replicas=map(_replica_to_proto, tier.replicas))
            for tier in state.tiers
        ],
        num_requests=state.num_requests,
        max_requests=state.max_requests,
        num_rounds=state.num_rounds,
        num_draft_tokens=state.num_draft_tokens,
        num_accepted_tokens=state.num_accepted_tokens,
    )
    if state.store is not None:
        message.store.CopyFrom(
            pb.StoreState(
                why_away=state.store.why_away,
                num_undurable_sessions=state.store.num_undurable_sessions,
            )
        )
    return message


def deployment_state_from_proto(message: pb.GetDeploymentResponse) -> DeploymentState:
    store = message.store
    return DeploymentState(
        version=message.version,
        not_ready=message.not_ready,
        tiers=tuple(
            TierState(tier.name, tuple(map(_replica_from_proto, tier.replicas)))
            for tier in message.tiers
        ),
        store=StoreState(store.why_away, store.num_undurable_sessions)
        if message.HasField("store")
        else None,
        num_requests=message.num_requests,
        max_requests=message.max_requests,
        num_rounds=message.num_rounds,
        num_draft_tokens=message.num_draft_tokens,
        num_accepted_tokens=message.num_accepted_tokens,
    )


def _replica_to_proto(replica: ReplicaState) -> pb.ReplicaState:
    certificate = replica.certificate
    return pb.ReplicaState(
        address=replica.address,
        standing=_STANDING_TO_PROTO[replica.standing],
        why=replica.why,
        is_ejected=replica.is_ejected,
        num_sessions=replica.num_sessions,
        model=None if replica.model is None else model_to_proto(replica.model),
        certificate=None
        if certificate is None
        else pb.Certificate(
            not_before_s=max(int(certificate.not_before.timestamp()), 0),
            not_after_s=int(certificate.not_after.timestamp()),
        ),
    )


def _replica_from_proto(message: pb.ReplicaState) -> ReplicaState:
    certificate = message.certificate
    return ReplicaState(
        address=message.address,
        standing=_STANDING_FROM_PROTO.get(message.standing, Standing.UNKNOWN),
        why=message.why,
        is_ejected=message.is_ejected,
        num_sessions=message.num_sessions,
        model=model_from_proto(message.model) if message.HasField("model") else None,
        certificate=Certificate(_time(certificate.not_before_s), _time(certificate.not_after_s))
        if message.HasField("certificate")
        else None,
    )


def _time(unix_s: int) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)
