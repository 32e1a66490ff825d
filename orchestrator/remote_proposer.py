"""Speculation by the draft tier, over one stream, for as long as there is one.

A session never depends on its draft. A tier that is missing, late or failing means an empty draft,
K = 0 for that round; the stream is opened again in the background, less and less often. Only a
draft with another vocabulary is an error, and only at the start, since it will not mend itself.
"""

import time
from dataclasses import dataclass

import structlog

from forethought.errors import ForethoughtError, TierProtocolError, VocabularyMismatchError
from forethought.rpc.tier_codec import draft_from_proto, open_to_proto, speculate_to_proto
from forethought.sampling.types import Draft
from forethought.tier import DraftRound, RoundTimings, SessionOpen, SpeculateRound
from forethought.v1.draft_pb2 import SpeculateRequest, SpeculateResponse
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from orchestrator.session import Session
from orchestrator.tier_stream import TierStream

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DraftPatience:
    """How long a session waits for its draft."""

    open_s: float = 0.25
    """For the tier to take the session, at the start, or any request later."""
    round_s: float = 2.0
    """For one draft. A late one is dropped when it comes, and none is asked for until then."""
    first_backoff_s: float = 0.25
    """Until a lost stream is opened again; doubles with each failure."""
    max_backoff_s: float = 10.0
    """Longest time between two attempts."""


class RemoteProposer:
    """Keeps one stream to the draft tier, if it can."""

    def __init__(
        self,
        stub: DraftServiceStub,
        vocabulary_fingerprint: str,
        *,
        vocab_size: int | None = None,
        deadline_s: float | None = None,
        patience: DraftPatience | None = None,
    ) -> None:
        self._stub = stub
        self._vocabulary_fingerprint = vocabulary_fingerprint
        self._vocab_size = vocab_size  # of the target; None is not checked
        self._deadline = None if deadline_s is None else time.monotonic() + deadline_s
        self._patience = patience or DraftPatience()
        self._stream: TierStream | None = None
        self._num_known_tokens = 0  # tokens of the session that the tier has been told
        self._is_answer_due = False  # a request is not answered yet
        self._gave_up = False  # a round waited for that answer, in vain
        self._backoff_s = self._patience.first_backoff_s
        self._retry_at = 0.0
        self.num_failures = 0
        """Rounds that wanted a draft and got none because of the tier."""
        self.timings = RoundTimings()
        """Of the last draft, by the tier's clock."""

    async def start(self, session: Session) -> None:
        """Opens the stream, so that the tier computes the prompt while the target does.

        Raises:
            VocabularyMismatchError: the draft tier has another vocabulary.
        """
        try:
            stream = await self._open(session)
            await self._receive(stream, self._patience.open_s)
        except VocabularyMismatchError:
            self.close()
            raise
        except TimeoutError:
            _log.warning("draft_late", session_id=session.session_id, waiting_for="opening")
        except ForethoughtError as error:
            self._lose(session, error)

    async def propose(self, session: Session, num_speculative_tokens: int) -> Draft:
        """A draft of at most K tokens, or an empty one. Never raises."""
        if not num_speculative_tokens:
            return Draft()
        try:
            stream = self._stream
            if stream is None and time.monotonic() >= self._retry_at:
                stream = await self._open(session)
            if stream is not None:
                return await self._ask(stream, session, num_speculative_tokens)
        except TimeoutError:
            self._gave_up = True
            _log.warning("draft_late", session_id=session.session_id, round=session.round)
        except ForethoughtError as error:
            self._lose(session, error)
        self.num_failures += 1
        return Draft()

    def close(self) -> None:
        """Ends the stream."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _ask(self, stream: TierStream, session: Session, k: int) -> Draft:
        """One draft, within the patience of a round."""
        give_up = time.monotonic() + self._patience.round_s
        if self._is_answer_due:
            # That of an opening is waited for like a draft. What a round gave up on is taken if it
            # has come meanwhile, and never waited for again.
            await self._receive(stream, 0 if self._gave_up else self._patience.round_s)
        request = SpeculateRound(
            round=session.round,
            position=session.position,
            committed_token_ids=session.token_ids[self._num_known_tokens :],
            num_speculative_tokens=k,
        )
        await self._send(stream, SpeculateRequest(round=speculate_to_proto(request)), session)
        response = await self._receive(stream, max(give_up - time.monotonic(), 0))
        answer = draft_from_proto(response.draft)
        self._check(answer, request)
        self._backoff_s = self._patience.first_backoff_s
        self.timings = answer.timings
        return answer.draft

    def _check(self, answer: DraftRound, request: SpeculateRound) -> None:
        """Refuses here what the target would refuse, and with it the whole request."""
        if (answer.round, answer.position) != (request.round, request.position):
            raise TierProtocolError("the draft tier answered another round")
        if len(answer.draft) > request.num_speculative_tokens:
            raise TierProtocolError("the draft tier drafted more tokens than were asked for")
        if self._vocab_size is not None and any(
            max(token.support_token_ids) >= self._vocab_size for token in answer.draft.tokens
        ):
            raise TierProtocolError("the draft tier drafted tokens that the target does not have")

    async def _open(self, session: Session) -> TierStream:
        """Sends the opening. Its answer is due, and not waited for here."""
        timeout_s = None if self._deadline is None else max(self._deadline - time.monotonic(), 0)
        stream = TierStream(self._stub.Speculate(timeout=timeout_s))
        self._stream = stream
        opening = SessionOpen(
            session.session_id, session.token_ids, session.sampling, self._vocabulary_fingerprint
        )
        await self._send(stream, SpeculateRequest(open=open_to_proto(opening)), session)
        return stream

    async def _send(self, stream: TierStream, request: SpeculateRequest, session: Session) -> None:
        await stream.send(request, self._patience.open_s)
        self._num_known_tokens = session.position
        self._is_answer_due, self._gave_up = True, False

    async def _receive(self, stream: TierStream, timeout_s: float) -> SpeculateResponse:
        response: SpeculateResponse = await stream.receive(timeout_s)
        self._is_answer_due = self._gave_up = False
        return response

    def _lose(self, session: Session, error: ForethoughtError) -> None:
        self.close()
        self._retry_at = time.monotonic() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, self._patience.max_backoff_s)
        _log.warning(
            "draft_lost", session_id=session.session_id, reason=error.reason, why=error.message
        )
