"""What chat and completions have in common: how tokens are chosen, and when they end."""

from typing import Any, Literal

import msgspec

from forethought.generation import GenerationParams
from forethought.sampling.types import VerificationMode
from gateway.openai.messages import TextPart, text_of
from gateway.web.body import OtherFields, RequestBody
from gateway.web.errors import invalid

MAX_CHOICES = 128
ALL_TOKENS = -1
"""As `top_k` in vLLM's words; elsewhere 0."""
_SEEDS = 2**64


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a stream says besides the answer."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class Prediction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the answer is expected to repeat."""

    type: Literal["content"]
    content: str | list[TextPart]


class GenerationFields(RequestBody, frozen=True, kw_only=True):
    """How an answer is generated. None leaves the choice to the deployment."""

    stream: bool = False
    seed: int | None = None
    stop: str | list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    num_speculative_tokens: int | None = None
    verification_mode: VerificationMode | None = None
    prediction: Prediction | None = None

    def check(self) -> None:
        if self.seed is not None and not -_SEEDS // 2 <= self.seed < _SEEDS:
            raise invalid("seed", "must be an integer of 64 bits")
        if self.top_k is not None and not ALL_TOKENS <= self.top_k < 2**32:
            raise invalid("top_k", "must be from -1 to 4294967295")
        check_counts(num_speculative_tokens=self.num_speculative_tokens)
        if any(not 0 <= each < 2**32 for each in self.stop_token_ids or ()):
            raise invalid("stop_token_ids", "must be token ids")

    def params(
        self,
        *,
        max_tokens: int | None,
        logprobs: int | None,
        prompt_logprobs: int | None = None,
        choice: int = 0,
    ) -> GenerationParams:
        """For the service behind.

        Args:
            max_tokens: of an answer.
            logprobs: most likely tokens to tell of with each token; None tells of none.
            prompt_logprobs: the same for the prompt.
            choice: of several. Its seed is `seed + choice`, so that the first one is what a
                request for one choice gets.
        """
        return GenerationParams(
            max_tokens=max_tokens,
            temperature=self.temperature,
            top_k=0 if self.top_k == ALL_TOKENS else self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=None if self.seed is None else (self.seed + choice) % _SEEDS,
            stop=_texts(self.stop),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            ignore_eos=self.ignore_eos,
            logprobs=logprobs,
            num_speculative_tokens=self.num_speculative_tokens,
            verification_mode=self.verification_mode,
            prediction="" if self.prediction is None else text_of(self.prediction.content),
            prompt_logprobs=prompt_logprobs,
        )


class SamplingFields(GenerationFields, frozen=True, kw_only=True):
    """Fields of chat and completions alike."""

    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    n: int = 1
    prompt_logprobs: int | None = None
    return_token_ids: bool = False
    include_steps: bool = False

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def has_continuous_usage(self) -> bool:
        """Whether each chunk has the usage so far."""
        options = self.stream_options
        return self.includes_usage and bool(options and options.continuous_usage_stats)

    def check(self) -> None:
        super().check()
        if not 1 <= self.n <= MAX_CHOICES:
            raise invalid("n", f"must be from 1 to {MAX_CHOICES}")
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options", "is for streams: set stream to true")
        check_counts(max_tokens=self.max_tokens, prompt_logprobs=self.prompt_logprobs)
        if self.prompt_logprobs is not None and self.stream:
            raise invalid("prompt_logprobs", "is not told in streams")


def check_counts(**counts: int | None) -> None:
    """Refuses what is no number of 32 bits; other limits are the service's. Raises HttpError."""
    for name, value in counts.items():
        if value is not None and not 0 <= value < 2**32:
            raise invalid(name, "must be from 0 to 4294967295")


def _texts(stop: str | list[str] | None) -> tuple[str, ...]:
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


HARMLESS = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "priority",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "request_id",
        "safety_identifier",
        "service_tier",
        "session_id",
        "spaces_between_special_tokens",
        "store",
        "user",
    }
)
FIXED: dict[str, tuple[Any, ...]] = {
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "cache_salt": (),
    "early_stopping": (False,),
    "ec_transfer_params": ({},),
    "frequency_penalty": (0,),
    "include_stop_str_in_output": (False,),
    "kv_transfer_params": ({},),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "logprob_token_ids": ([],),
    "min_tokens": (0,),
    "presence_penalty": (0,),
    "prompt_logprobs": (),
    "repetition_detection": (),
    "response_format": ({"type": "text"},),
    "return_prompt_text": (False,),
    "return_token_offsets": (False,),
    "return_tokens_as_token_ids": (False,),
    "return_weight_versions": (False,),
    "routed_experts_prompt_start": (),
    "skip_special_tokens": (True,),
    "stream_interval": (1,),
    "structured_outputs": (),
    "truncate_prompt_tokens": (),
    "truncation_side": (),
    "use_beam_search": (False,),
    "vllm_xargs": ({},),
    "watermarking": (False,),
}


def other_fields(harmless: set[str], fixed: dict[str, tuple[Any, ...]]) -> OtherFields:
    """Those of a route, with those that all routes have."""
    return OtherFields(HARMLESS | harmless, {**FIXED, **fixed})
