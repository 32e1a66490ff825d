"""What a round took on a tier, to messages and back."""

from forethought.tier import RoundTimings
from forethought.v1 import common_pb2


def timings_to_proto(timings: RoundTimings) -> common_pb2.RoundTimings:
    return common_pb2.RoundTimings(
        queue_ns=timings.queue_ns,
        forward_ns=timings.forward_ns,
        total_ns=timings.total_ns,
        batch_size=timings.batch_size,
        num_batch_tokens=timings.num_batch_tokens,
        finish_ns=timings.finish_ns,
    )


def timings_from_proto(message: common_pb2.RoundTimings) -> RoundTimings:
    return RoundTimings(
        queue_ns=message.queue_ns,
        forward_ns=message.forward_ns,
        total_ns=message.total_ns,
        batch_size=message.batch_size,
        num_batch_tokens=message.num_batch_tokens,
        finish_ns=message.finish_ns,
    )
