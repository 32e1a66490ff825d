"""What a deployment offers, from its message."""

from forethought.generation import DeploymentInfo
from forethought.rpc.codecs.enums import MODE_FROM_PROTO
from forethought.rpc.codecs.generation.params import params_from_proto
from forethought.rpc.codecs.model_info import model_from_proto
from forethought.sampling.types import VerificationMode
from forethought.v1 import generation_pb2 as pb


def deployment_from_proto(message: pb.GenerationServiceGetModelInfoResponse) -> DeploymentInfo:
    return DeploymentInfo(
        target=model_from_proto(message.target),
        num_speculative_tokens=message.default_num_speculative_tokens,
        max_num_speculative_tokens=message.max_num_speculative_tokens,
        verification_mode=MODE_FROM_PROTO.get(
            message.default_verification_mode, VerificationMode.REJECTION
        ),
        policy=message.policy,
        has_chat_template=message.has_chat_template,
        params=params_from_proto(message.default_params),
        special_tokens=dict(message.special_tokens),
        chat_template=message.chat_template,
        lookups=tuple(message.lookups),
    )
