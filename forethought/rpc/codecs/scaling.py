"""What an orchestrator says to whoever scales it, to values and back."""

from forethought.tier import DraftDemand, OrchestratorLoad
from forethought.v1 import scaling_pb2 as pb


def orchestrator_load_to_proto(load: OrchestratorLoad) -> pb.GetLoadResponse:
    demand = load.draft_demand
    return pb.GetLoadResponse(
        uptime_ns=load.uptime_ns,
        num_requests=load.num_requests,
        max_requests=load.max_requests,
        num_rounds=load.num_rounds,
        num_draft_tokens=load.num_draft_tokens,
        draft_demand=pb.DraftDemand(wanted_ns=demand.wanted_ns, unserved_ns=demand.unserved_ns),
    )


def orchestrator_load_from_proto(message: pb.GetLoadResponse) -> OrchestratorLoad:
    demand = message.draft_demand
    return OrchestratorLoad(
        uptime_ns=message.uptime_ns,
        num_requests=message.num_requests,
        max_requests=message.max_requests,
        num_rounds=message.num_rounds,
        num_draft_tokens=message.num_draft_tokens,
        draft_demand=DraftDemand(demand.wanted_ns, demand.unserved_ns),
    )
