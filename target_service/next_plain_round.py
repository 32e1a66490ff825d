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
        self._begun: tuple[VerifyRound, asyncio.Task[Answer]] | None = None

    def begin(self, last: Verification, evidence: Evidence) -> None:
        """Begins the round after `last`, if that is known to be plain."""
        request = last.request
        if not request.next_is_plain or request.drafts:
            return
        if request.position >= self._engine.max_model_len:
            return
        following = replace(
            request,
            round=request.round + 1,
            position=request.position + 1,
            committed_token_ids=[evidence.positions[0].tail_token_id],
        )
        answer = asyncio.create_task(self._engine.run(replace(last, request=following)))
        # Whether it went well matters to nobody who does not ask for it.
        answer.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._begun = following, answer

    def take(self, request: VerifyRound) -> asyncio.Task[Answer] | None:
        """The answer to a request, if it is for this round; else the round is dropped."""
        if self._begun is None:
            return None
        (expected, answer), self._begun = self._begun, None
        # What is expected of the round after that makes no difference to this one.
        if replace(request, next_is_plain=expected.next_is_plain) == expected:
            return answer
        answer.cancel()
        return None

    def drop(self) -> None:
        """Nobody will ask for it."""
        if self._begun is not None:
            self._begun[1].cancel()
