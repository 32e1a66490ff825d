"""What a deployment says that it serves."""

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from forethought.cli.text_view import sampling_words
from forethought.rpc.channels import open_channel
from forethought.rpc.enums import MODE_FROM_PROTO
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import VerificationMode
from forethought.v1 import generation_pb2 as pb
from forethought.v1.generation_pb2_grpc import GenerationServiceStub

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Served:
    """Of the target, and of what holds where a request does not say."""

    dtype: str
    device: str
    max_model_len: int
    num_speculative_tokens: int  # K, or the most of it
    policy: str
    verification_mode: str
    sampling: Sequence[str] = ()  # how the model narrows what is sampled, in words


def _sampling(answer: pb.GenerationServiceGetModelInfoResponse) -> Sequence[str]:
    if not answer.HasField("default_params"):
        return ()
    given = answer.default_params
    return sampling_words(
        SamplingParams(
            temperature=given.temperature,
            top_k=given.top_k,
            top_p=given.top_p,
            min_p=given.min_p,
            repetition_penalty=given.repetition_penalty,
        )
    )


async def describe_deployment(address: str) -> Served | None:
    """Asks the orchestrator; None where it does not say."""
    async with open_channel(address) as channel:
        stub = GenerationServiceStub(channel)
        try:
            answer = await stub.GetModelInfo(
                pb.GenerationServiceGetModelInfoRequest(), timeout=_TIMEOUT_S
            )
        except grpc.aio.AioRpcError:
            return None
    mode = MODE_FROM_PROTO.get(answer.default_verification_mode, VerificationMode.REJECTION)
    return Served(
        dtype=answer.target.dtype,
        device=answer.target.device,
        max_model_len=answer.target.max_model_len,
        num_speculative_tokens=answer.default_num_speculative_tokens,
        policy=answer.policy,
        verification_mode=mode.value,
        sampling=_sampling(answer),
    )
