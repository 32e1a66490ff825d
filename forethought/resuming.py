"""An answer that outlives its orchestrator, as its client sees it.

A call that is lost is made again: from the store for the tokens that are missing, if the session
has one; from the beginning if no token came yet. Should the store have lost the session too, the
same request is made with the same seed, where that brings the same text, and what the client has
is compared and dropped.

A next turn whose call is lost before anything came is asked again. If it had begun after all, that
is SessionUnfinishedError, and `Resume(session_id, 0)` brings it: nobody else can tell whose turn
it is.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from forethought.errors import (
    ForethoughtError,
    LeaseLostError,
    LoadingError,
    SessionIncompleteError,
    SessionNotFoundError,
)
from forethought.generation import (
    FollowUp,
    GenerationEvent,
    GenerationParams,
    GenerationRequest,
    PromptToken,
    Resume,
    Started,
    Step,
    Token,
)
from forethought.sampling.types import VerificationMode

Attempt = Callable[[GenerationRequest, float | None], AsyncGenerator[list[GenerationEvent]]]
"""Makes one call, with a deadline in seconds. Yields what comes together in one list."""


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """How a client goes on without an orchestrator that was lost."""

    first_backoff_s: float = 0.05
    """Before the second attempt in a row that brings nothing; doubles with each."""
    max_backoff_s: float = 2.0
    patience_s: float = 60.0
    """Time without anything new after which the call fails, if its deadline is not sooner."""
    waits_until_loaded: bool = False
    """Whether a deployment that still loads its model is waited for, like a lost one. By default it
    is LoadingError at once."""


@dataclass(frozen=True, slots=True)
class Retry:
    """A loss after which a call is made again."""

    error: ForethoughtError
    left_s: float
    """Time for which it is tried, if nothing new comes."""


OnRetry = Callable[[Retry], None]


def ignore_retry(_: Retry) -> None:
    """Tells nobody."""


def is_lost(error: ForethoughtError) -> bool:
    """Whether another orchestrator, or the same one later, may answer."""
    return error.code in {"UNAVAILABLE", "CANCELLED"}


@dataclass
class Progress:
    """What a client has of an answer."""

    request: GenerationRequest
    is_replicated: bool = False  # there are other orchestrators
    waits_until_loaded: bool = False
    started: Started | None = None
    token_ids: list[int] = field(default_factory=list)
    next_round: int = 0  # of the steps
    has_content: bool = False  # of the answer, or of its prompt
    was_taken: bool = False  # someone else took the session, perhaps an earlier call of ours
    must_restart: bool = False  # the store lost the session

    def next_request(self) -> GenerationRequest:
        """What to ask for now."""
        started, request = self.started, self.request
        if isinstance(request.prompt, Resume):
            missing = request.prompt.next_index + len(self.token_ids)
            return replace(request, prompt=replace(request.prompt, next_index=missing))
        if started is None:
            return request
        if self.must_restart or not (self.has_content or started.is_stored):
            return replace(request, params=_as_begun(request.params, started))
        wish = Resume(started.session_id, len(self.token_ids))
        return GenerationRequest(
            wish,
            request_id=request.request_id,
            tenant=request.tenant,
            include_progress=request.include_progress,
        )

    def take(self, event: GenerationEvent) -> bool:
        """Whether the event is new to the client.

        Raises:
            SessionIncompleteError: it contradicts what the client has.
        """
        match event:
            case Started():
                is_first, self.started = self.started is None, event
                self.must_restart = False
                return is_first
            case PromptToken():
                self.has_content = True
                return True
            case Step():
                is_new = event.round >= self.next_round
                self.next_round = max(self.next_round, event.round + 1)
                return is_new
            case Token():
                return self._take_token(event)
            case _:
                return True

    def _take_token(self, token: Token) -> bool:
        prompt = self.request.prompt
        place = token.index - (prompt.next_index if isinstance(prompt, Resume) else 0)
        self.has_content = True
        if place == len(self.token_ids):
            self.token_ids.append(token.token_id)
            return True
        if not 0 <= place < len(self.token_ids) or self.token_ids[place] != token.token_id:
            raise SessionIncompleteError("the answer goes on otherwise than it began")
        return False

    def can_mend(self, error: ForethoughtError) -> bool:
        """Whether to ask again after `error`. Remembers what it says."""
        if isinstance(error, SessionNotFoundError) and self.started and not self.was_taken:
            return self._restart()
        if isinstance(error, LeaseLostError):
            # A call of ours that was given up may have reached its orchestrator late.
            is_first, self.was_taken = not self.was_taken, True
            return is_first and self.is_kept
        if isinstance(error, LoadingError) and self.waits_until_loaded:
            return True  # it refused the call unread
        return is_lost(error) and self.is_kept

    @property
    def is_kept(self) -> bool:
        """Whether another call can bring what is missing."""
        if self.started is not None and self.started.is_stored:
            return True
        return self.is_replicated and not self.has_content

    def _restart(self) -> bool:
        """Begins anew, if that brings what the client has already."""
        params = self.request.params
        is_reproducible = (
            _as_begun(params, self.started).temperature == 0
            or params.verification_mode is VerificationMode.COUPLED
            or params.num_speculative_tokens is not None
        )
        is_new = not isinstance(self.request.prompt, Resume | FollowUp)
        self.must_restart = is_reproducible and is_new
        return self.must_restart


def _as_begun(params: GenerationParams, started: Started | None) -> GenerationParams:
    """The parameters with what was left open as the server filled it in."""
    if started is None:
        return params
    sampling = started.sampling
    if sampling is None:
        return replace(params, seed=started.seed)
    return replace(
        params,
        seed=started.seed,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
    )


async def resuming(
    attempt: Attempt,
    progress: Progress,
    retry: RetryOptions,
    timeout_s: float | None,
    on_retry: OnRetry = ignore_retry,
) -> AsyncGenerator[list[GenerationEvent]]:
    """The events of an answer, each once, over as many attempts as it takes.

    Raises:
        ForethoughtError: of the last attempt, if another one cannot help.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    backoff_s, give_up = 0.0, time.monotonic() + retry.patience_s
    while True:
        left_s = None if deadline is None else max(deadline - time.monotonic(), 0)
        try:
            async with aclosing(attempt(progress.next_request(), left_s)) as batches:
                async for events in batches:
                    if new := list(filter(progress.take, events)):
                        backoff_s, give_up = 0.0, time.monotonic() + retry.patience_s
                        yield new
        except ForethoughtError as error:
            now = time.monotonic()
            end = give_up if deadline is None else min(give_up, deadline)
            if now + backoff_s > end or not progress.can_mend(error):
                raise
            on_retry(Retry(error, end - now))
        else:
            return
        await asyncio.sleep(backoff_s)
        backoff_s = min(max(2 * backoff_s, retry.first_backoff_s), retry.max_backoff_s)
