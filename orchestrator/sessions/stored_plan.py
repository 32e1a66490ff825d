"""A plan as the head of a stored session, and back: whoever resumes it makes the same choices."""

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from forethought.errors import SessionCorruptError
from forethought.sampling.params import MAX_TOP_LOGPROBS
from forethought.sampling.types import VerificationMode
from forethought.store.sessions.records import SessionHead, SessionRecord
from orchestrator.request.plan import Deployment, GenerationPlan


class _Rest(BaseModel):
    """What the store itself has no use for, as JSON."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    request_id: str
    stops: list[str]
    stop_token_ids: list[NonNegativeInt]
    num_logprobs: int | None = Field(ge=0, le=MAX_TOP_LOGPROBS)
    num_speculative_tokens: NonNegativeInt
    is_adaptive: bool
    include_steps: bool
    note: str = ""
    prediction_token_ids: list[NonNegativeInt] = []


def head_of(plan: GenerationPlan, session_id: str, model_fingerprint: str) -> SessionHead:
    """What is stored of a plan."""
    rest = _Rest(
        request_id=plan.request_id,
        stops=list(plan.stops),
        stop_token_ids=sorted(plan.stop_token_ids),
        num_logprobs=plan.num_logprobs,
        num_speculative_tokens=plan.num_speculative_tokens,
        is_adaptive=plan.is_adaptive,
        include_steps=plan.include_steps,
        note=plan.note,
        prediction_token_ids=list(plan.prediction_token_ids),
    )
    return SessionHead(
        session_id=session_id,
        tenant=plan.tenant,
        model=model_fingerprint,
        prompt_token_ids=plan.prompt_token_ids,
        sampling=plan.sampling,
        mode=plan.mode,
        max_len=len(plan.prompt_token_ids) + plan.max_tokens,
        request=rest.model_dump_json().encode(),
    )


def plan_of(head: SessionHead) -> GenerationPlan:
    """The plan that a session was begun with.

    Raises:
        SessionCorruptError: another version of this program stored it.
    """
    try:
        rest = _Rest.model_validate_json(head.request)
    except ValidationError as error:
        raise SessionCorruptError(
            "the stored session cannot be read: its request is damaged, or another version of "
            "Forethought stored it"
        ) from error
    return GenerationPlan(
        request_id=rest.request_id,
        prompt_token_ids=head.prompt_token_ids,
        sampling=head.sampling,
        max_tokens=head.max_len - len(head.prompt_token_ids),
        stops=tuple(rest.stops),
        stop_token_ids=frozenset(rest.stop_token_ids),
        num_logprobs=rest.num_logprobs,
        num_speculative_tokens=rest.num_speculative_tokens,
        is_adaptive=rest.is_adaptive,
        include_steps=rest.include_steps,
        mode=head.mode,
        tenant=head.tenant,
        note=rest.note,
        prediction_token_ids=tuple(rest.prediction_token_ids),
    )


def check_record(record: SessionRecord, deployment: Deployment) -> None:
    """Refuses what no session of this deployment can be, however intact it is.

    Raises:
        SessionCorruptError: it has no prompt or no room, or tokens that the model does not have.
    """
    prompt, target = record.head.prompt_token_ids, deployment.target
    if not 0 < len(prompt) < record.head.max_len <= target.max_model_len:
        raise SessionCorruptError("the stored session cannot be read: length")
    if max(*prompt, *record.output_token_ids, 0) >= target.vocab_size:
        raise SessionCorruptError("the stored session cannot be read: tokens")


def is_reproducible(plan: GenerationPlan) -> bool:
    """Whether generating it again brings the same tokens.

    With a fixed K and a seed that holds as long as the draft tier answers in time.
    """
    return plan.sampling.is_greedy or plan.mode is VerificationMode.COUPLED or not plan.is_adaptive
