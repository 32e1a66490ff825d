"""What a deployment says that it serves."""

from collections.abc import Sequence
from dataclasses import dataclass

from forethought.cli.views.text_view import sampling_words
from forethought.client import GenerationClient
from forethought.errors import ForethoughtError
from forethought.generation import GenerationParams
from forethought.sampling.params import SamplingParams


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
    has_chat_template: bool = True
    lookups: Sequence[str] = ()  # before the draft tier is asked


async def describe_deployment(address: str) -> Served | None:
    """Asks the orchestrator; None where it does not say."""
    try:
        async with GenerationClient(address) as client:
            info = await client.describe()
    except ForethoughtError:
        return None
    return Served(
        dtype=info.target.dtype,
        device=info.target.device,
        max_model_len=info.target.max_model_len,
        num_speculative_tokens=info.num_speculative_tokens,
        policy=info.policy,
        verification_mode=info.verification_mode.value,
        sampling=_sampling(info.params),
        has_chat_template=info.has_chat_template,
        lookups=info.lookups,
    )


def _sampling(given: GenerationParams) -> Sequence[str]:
    """In words; nothing where the deployment fixes nothing."""
    if given.temperature is None:
        return ()
    return sampling_words(
        SamplingParams(
            temperature=given.temperature,
            top_k=given.top_k or 0,
            top_p=1.0 if given.top_p is None else given.top_p,
            min_p=given.min_p or 0.0,
            repetition_penalty=given.repetition_penalty or 1.0,
        )
    )
