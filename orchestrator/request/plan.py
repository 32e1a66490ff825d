"""From a client's request to a plan that can be carried out, or an error that names every field.

Limits belong to the deployment: the model's length and vocabulary, the most tokens to draft.
Nothing here touches the event loop, so that long prompts can be planned in a thread.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from forethought.errors import InvalidArgumentError
from forethought.generation import (
    ChatMessage,
    FollowUp,
    GenerationParams,
    GenerationRequest,
    Resume,
    most_scored_tokens,
)
from forethought.models.generation_defaults import GenerationDefaults
from forethought.models.text.tokenizer import TextTokenizer
from forethought.prompts import MUST_BE_A_LIST, messages_of, token_ids_of
from forethought.sampling.params import MAX_TOP_LOGPROBS, SamplingParams
from forethought.sampling.types import VerificationMode
from forethought.tier import ModelInfo
from orchestrator.request.bounds import RequestBounds

DEFAULT_MAX_TOKENS = 256
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_STOP_TOKEN_IDS = 64
MAX_REQUEST_ID_CHARS = 128
MAX_TENANT_CHARS = 128
MAX_NOTE_CHARS = 65536


class PolicyKind(Enum):
    """How K is chosen when a request does not say."""

    ADAPTIVE = "adaptive"  # by what it promises, round by round
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What requests are checked against."""

    tokenizer: TextTokenizer
    target: ModelInfo
    default_num_speculative_tokens: int
    max_num_speculative_tokens: int
    default_mode: VerificationMode = VerificationMode.REJECTION
    policy: PolicyKind = PolicyKind.FIXED
    max_hidden_states: int = 128  # positions that a draft which needs them begins with, at most
    defaults: GenerationDefaults = field(default_factory=GenerationDefaults)


@dataclass(frozen=True, slots=True)
class GenerationPlan:
    """A request with all choices made."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    max_tokens: int
    stops: tuple[str, ...]
    stop_token_ids: frozenset[int]  # the model's own end tokens included, unless ignored
    num_logprobs: int | None
    num_speculative_tokens: int  # K, or the most of it
    is_adaptive: bool  # whether each round chooses its own K
    include_steps: bool
    mode: VerificationMode = VerificationMode.REJECTION
    tenant: str = ""
    note: str = ""  # of the client, kept with the session
    prediction_token_ids: tuple[int, ...] = ()  # what the output is expected to repeat
    num_prompt_logprobs: int | None = None  # also tell the prompt, with so many at each place


def plan_generation(request: GenerationRequest, deployment: Deployment) -> GenerationPlan:
    """Checks a request and makes all choices it leaves open.

    Raises:
        InvalidArgumentError: names every field that is wrong.
    """
    params = request.params
    violations = _check_params(params, deployment)
    if len(request.request_id) > MAX_REQUEST_ID_CHARS:
        violations["request_id"] = f"must have at most {MAX_REQUEST_ID_CHARS} characters"
    if len(request.tenant) > MAX_TENANT_CHARS:
        violations["tenant"] = f"must have at most {MAX_TENANT_CHARS} characters"
    if len(request.note) > MAX_NOTE_CHARS:
        violations["note"] = f"must have at most {MAX_NOTE_CHARS} characters"
    with _collect(violations, prefix="params."):
        sampling = deployment.defaults.sampling(
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            min_p=params.min_p,
            repetition_penalty=params.repetition_penalty,
            seed=secrets.randbits(64) if params.seed is None else params.seed,
        )
    with _collect(violations):
        prompt_token_ids = encode_prompt(request.prompt, deployment)
        max_tokens = _max_tokens(params, len(prompt_token_ids), deployment)
        _check_num_scored(params, len(prompt_token_ids))
    with _collect(violations):
        prediction_token_ids = _encode_prediction(params.prediction, deployment)
    if violations:
        raise InvalidArgumentError(violations)

    k = params.num_speculative_tokens
    eos_token_ids = frozenset() if params.ignore_eos else deployment.tokenizer.eos_token_ids
    return GenerationPlan(
        request_id=request.request_id,
        prompt_token_ids=prompt_token_ids,
        sampling=sampling,
        max_tokens=max_tokens,
        stops=tuple(params.stop),
        stop_token_ids=eos_token_ids | frozenset(params.stop_token_ids),
        num_logprobs=params.logprobs,
        num_speculative_tokens=deployment.default_num_speculative_tokens if k is None else k,
        is_adaptive=deployment.policy is PolicyKind.ADAPTIVE and k is None,
        include_steps=request.include_steps,
        mode=params.verification_mode or deployment.default_mode,
        tenant=request.tenant,
        note=request.note,
        prediction_token_ids=prediction_token_ids,
        num_prompt_logprobs=params.prompt_logprobs,
    )


def encode_prompt(
    prompt: str | Sequence[int] | Sequence[ChatMessage] | FollowUp | Resume,
    deployment: Deployment,
    *,
    omits_special_tokens: bool = False,
) -> tuple[int, ...]:
    """The token ids of a prompt of any kind.

    Raises:
        InvalidArgumentError: it is empty, too long, or has tokens that do not exist.
    """
    tokenizer = deployment.tokenizer
    if isinstance(prompt, str):
        field = "prompt.text"
        _check_length(field, prompt, deployment)
        token_ids = tokenizer.encode(prompt, add_special_tokens=not omits_special_tokens)
    elif isinstance(prompt, FollowUp | Resume):
        raise InvalidArgumentError({"prompt": "goes on with a session, which has the prompt"})
    elif messages := messages_of(prompt):
        field = "prompt.conversation"
        text = tokenizer.render_chat([(turn.role, turn.content) for turn in messages])
        RequestBounds(deployment.target.max_model_len).check_text(field, text)
        _check_length(field, text, deployment)
        token_ids = tokenizer.encode(text, add_special_tokens=False)
    else:
        field, token_ids = "prompt.token_ids", token_ids_of(prompt)
    target = deployment.target
    if not token_ids:
        raise InvalidArgumentError({field: "must not be empty"})
    if len(token_ids) >= target.max_model_len:
        raise InvalidArgumentError(
            {field: f"has {len(token_ids)} tokens, the model takes {target.max_model_len - 1}"}
        )
    if min(token_ids) < 0 or max(token_ids) >= target.vocab_size:
        raise InvalidArgumentError(
            {field: f"must be below the vocabulary's size of {target.vocab_size}"}
        )
    return tuple(token_ids)


def _encode_prediction(prediction: str, deployment: Deployment) -> tuple[int, ...]:
    """The tokens that an output which says this has. Raises InvalidArgumentError."""
    if not prediction:
        return ()
    field = "params.prediction"
    _check_length(field, prediction, deployment)
    token_ids = deployment.tokenizer.encode(prediction, add_special_tokens=False)
    max_num_tokens = deployment.target.max_model_len - 1
    if len(token_ids) > max_num_tokens:
        raise InvalidArgumentError(
            {field: f"has {len(token_ids)} tokens, the model takes {max_num_tokens}"}
        )
    return tuple(token_ids)


def _check_length(field: str, text: str, deployment: Deployment) -> None:
    """Refuses a text that is too long whatever its tokens are, before time is spent on them."""
    num_tokens = deployment.tokenizer.min_num_tokens(text)
    max_num_tokens = deployment.target.max_model_len - 1
    if num_tokens > max_num_tokens:
        raise InvalidArgumentError(
            {field: f"has at least {num_tokens} tokens, the model takes {max_num_tokens}"}
        )


@contextmanager
def _collect(violations: dict[str, str], prefix: str = "") -> Iterator[None]:
    """Adds what is refused inside to `violations`, so that all of it is told at once."""
    try:
        yield
    except InvalidArgumentError as error:
        violations |= {f"{prefix}{field}": text for field, text in error.violations.items()}


def _check_params(params: GenerationParams, deployment: Deployment) -> dict[str, str]:
    """What is wrong with the parameters that are not sampling parameters, by field."""
    vocab_size = deployment.target.vocab_size
    max_k = deployment.max_num_speculative_tokens
    checks = (
        (
            "max_tokens",
            params.max_tokens is None
            or params.max_tokens > 0
            or (params.max_tokens == 0 and params.prompt_logprobs is not None),
            "must be above 0",
        ),
        ("stop", not isinstance(params.stop, str), MUST_BE_A_LIST),
        ("stop", len(params.stop) <= MAX_STOPS, f"must hold at most {MAX_STOPS} texts"),
        (
            "stop",
            all(1 <= len(stop) <= MAX_STOP_CHARS for stop in params.stop),
            f"each must have 1 to {MAX_STOP_CHARS} characters",
        ),
        (
            "stop_token_ids",
            len(params.stop_token_ids) <= MAX_STOP_TOKEN_IDS,
            f"must hold at most {MAX_STOP_TOKEN_IDS} tokens",
        ),
        (
            "stop_token_ids",
            all(0 <= token_id < vocab_size for token_id in params.stop_token_ids),
            f"must be below the vocabulary's size of {vocab_size}",
        ),
        *(
            (
                name,
                number is None or 0 <= number <= MAX_TOP_LOGPROBS,
                f"must be at most {MAX_TOP_LOGPROBS}",
            )
            for name, number in (
                ("logprobs", params.logprobs),
                ("prompt_logprobs", params.prompt_logprobs),
            )
        ),
        (
            "num_speculative_tokens",
            params.num_speculative_tokens is None or 0 <= params.num_speculative_tokens <= max_k,
            f"must be at most {max_k}",
        ),
    )
    # Of several reasons for one field, the first.
    return {f"params.{field}": text for field, valid, text in reversed(checks) if not valid}


def _check_num_scored(params: GenerationParams, num_prompt_tokens: int) -> None:
    """Refuses to tell more of a prompt than an answer should hold, before any of it is computed."""
    if params.prompt_logprobs is None or params.prompt_logprobs > MAX_TOP_LOGPROBS:
        return
    most = most_scored_tokens(params.prompt_logprobs)
    if num_prompt_tokens > most:
        raise InvalidArgumentError(
            {
                "params.prompt_logprobs": (
                    f"with {params.prompt_logprobs} at each place it takes prompts of at most "
                    f"{most} tokens, and this one has {num_prompt_tokens}"
                )
            }
        )


def _max_tokens(params: GenerationParams, num_prompt_tokens: int, deployment: Deployment) -> int:
    room = deployment.target.max_model_len - num_prompt_tokens
    if params.max_tokens is None:
        return min(deployment.defaults.max_tokens or DEFAULT_MAX_TOKENS, room)
    if params.max_tokens > room:
        raise InvalidArgumentError(
            {
                "params.max_tokens": (
                    f"must be at most {room}: the model takes {deployment.target.max_model_len} "
                    f"tokens, the prompt has {num_prompt_tokens}"
                )
            }
        )
    return params.max_tokens
