"""The next round, computed while the evidence of this one travels.

A round without guesses ends in one way only: with the token that the target has drawn. Where the
orchestrator expects to guess nothing in the next round either, that round is known as soon as this
one is measured, and its pass need not wait until the request for it has come: passes follow each
other as they would in a server that does everything in one process.

It stays the orchestrator that decides. If it asks for anything else, what was computed is dropped,
and the sequence goes back to what is committed, as after any guess that was wrong.
"""

import asyncio
from dataclasses import replace

from forethought.engine.engine import Engine
from forethought.sampling.types import Evidence
from forethought.tier import RoundTimings, VerifyRound
from target_service.verifier import Verification

Answer = tuple[Evidence, RoundTimings]


class NextPlainRound:
    """That of one session, if there is one under way."""

    def __init__(self, engine: Engine[Verification, Evidence]) -> None:
        self._engine = engine
        self._request: VerifyRound | None = None
        self._answer: asyncio.Task[Answer] | None = None

    def begin(self, last: Verification, evidence: Evidence) -> None:
        """Begins the round after `last`, if that is known to be plain."""
        request = last.request
        if not request.next_is_plain or request.drafts:
            return
        if request.position >= self._engine.max_model_len:
            return
        self._request = replace(
            request,
            round=request.round + 1,
            position=request.position + 1,
            committed_token_ids=[evidence.positions[0].tail_token_id],
        )
        work = replace(last, request=self._request)
        self._answer = asyncio.create_task(self._engine.run(work))
        # Whether it went well matters to nobody who does not ask for it.
        self._answer.add_done_callback(lambda task: task.cancelled() or task.exception())

    def take(self, request: VerifyRound) -> asyncio.Task[Answer] | None:
        """The answer to a request, if it is for this round; else the round is dropped."""
        expected, answer = self._request, self._answer
        if expected is None or answer is None:
            return None
        self._request = self._answer = None
        # What is expected of the round after that makes no difference to this one.
        if replace(request, next_is_plain=expected.next_is_plain) == expected:
            return answer
        answer.cancel()
        return None

    def drop(self) -> None:
        """Nobody will ask for it."""
        if self._answer is not None:
            self._answer.cancel()
