"""A plan as the head of a stored session, and back: whoever resumes it makes the same choices."""

import json
from typing import Any

from forethought.errors import SessionCorruptError
from forethought.sampling.types import VerificationMode
from forethought.store.records import SessionHead
from orchestrator.plan import GenerationPlan


def head_of(plan: GenerationPlan, session_id: str, model_fingerprint: str) -> SessionHead:
    """What is stored of a plan."""
    rest = {
        "request_id": plan.request_id,
        "stops": plan.stops,
        "stop_token_ids": sorted(plan.stop_token_ids),
        "num_logprobs": plan.num_logprobs,
        "num_speculative_tokens": plan.num_speculative_tokens,
        "is_adaptive": plan.is_adaptive,
        "include_steps": plan.include_steps,
    }
    return SessionHead(
        session_id=session_id,
        tenant=plan.tenant,
        model=model_fingerprint,
        prompt_token_ids=plan.prompt_token_ids,
        sampling=plan.sampling,
        mode=plan.mode,
        max_len=len(plan.prompt_token_ids) + plan.max_tokens,
        request=json.dumps(rest).encode(),
    )


def plan_of(head: SessionHead) -> GenerationPlan:
    """The plan that a session was begun with.

    Raises:
        SessionCorruptError: another version of this program stored it.
    """
    try:
        rest: dict[str, Any] = json.loads(head.request)
        return GenerationPlan(
            request_id=rest["request_id"],
            prompt_token_ids=head.prompt_token_ids,
            sampling=head.sampling,
            max_tokens=head.max_len - len(head.prompt_token_ids),
            stops=tuple(rest["stops"]),
            stop_token_ids=frozenset(rest["stop_token_ids"]),
            num_logprobs=rest["num_logprobs"],
            num_speculative_tokens=rest["num_speculative_tokens"],
            is_adaptive=rest["is_adaptive"],
            include_steps=rest["include_steps"],
            mode=head.mode,
            tenant=head.tenant,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SessionCorruptError("the stored session cannot be read: request") from error


def is_reproducible(plan: GenerationPlan) -> bool:
    """Whether generating it again brings the same tokens.

    With a fixed K and a seed that holds as long as the draft tier answers in time.
    """
    return plan.sampling.is_greedy or plan.mode is VerificationMode.COUPLED or not plan.is_adaptive
