"""What a tier says of its load and its work, to messages and back."""

from forethought.tier import EngineWork, TierLoad
from forethought.v1 import common_pb2


def load_to_proto(load: TierLoad) -> common_pb2.TierLoad:
    return common_pb2.TierLoad(
        num_sessions=load.num_sessions,
        num_cached_tokens=load.num_cached_tokens,
        num_queued_jobs=load.num_queued_jobs,
    )


def load_from_proto(message: common_pb2.TierLoad) -> TierLoad:
    return TierLoad(
        num_sessions=message.num_sessions,
        num_cached_tokens=message.num_cached_tokens,
        num_queued_jobs=message.num_queued_jobs,
    )


def work_to_proto(work: EngineWork) -> common_pb2.EngineWork:
    return common_pb2.EngineWork(
        uptime_ns=work.uptime_ns,
        busy_ns=work.busy_ns,
        num_computed_tokens=work.num_computed_tokens,
        num_refused_sessions=work.num_refused_sessions,
        num_waiting_tokens=work.num_waiting_tokens,
        num_waiting_sessions=work.num_waiting_sessions,
        num_held_blocks=work.num_held_blocks,
        num_blocks=work.num_blocks,
        block_len=work.block_len,
    )


def work_from_proto(message: common_pb2.EngineWork) -> EngineWork:
    return EngineWork(
        uptime_ns=message.uptime_ns,
        busy_ns=message.busy_ns,
        num_computed_tokens=message.num_computed_tokens,
        num_refused_sessions=message.num_refused_sessions,
        num_waiting_tokens=message.num_waiting_tokens,
        num_waiting_sessions=message.num_waiting_sessions,
        num_held_blocks=message.num_held_blocks,
        num_blocks=message.num_blocks,
        block_len=message.block_len,
    )
