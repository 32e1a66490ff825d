"""The answers of a target to a session: how far its prompt is, and how long a round may take.

A round may take long, since it waits for the computation of its prompt. Only the deadline of the
caller bounds it, or, where another replica could take the session over, many times what it should
take (`round_limit.py`). A target that vanished during a round without a word is lost when the
channel's *keep-alive* says so.
"""

import time

from forethought.errors import TierUnavailableError
from forethought.rpc.codecs.tier.evidence import progress_from_proto
from forethought.tier import ModelInfo, PrefillProgress
from forethought.v1.target_pb2 import VerifyResponse
from forethought.v1.target_pb2_grpc import TargetServiceStub
from orchestrator.tiers.round_limit import RoundLimit, expected_pass_s
from orchestrator.tiers.stream_keeper import StreamKeeper
from orchestrator.tiers.target_search import TargetSearch
from orchestrator.tiers.tier_stream import TierStream

_NO_PREFILL = PrefillProgress(0, 0)


class TargetAnswers:
    """Reads what a target answers to the rounds of one session.

    Args:
        keeper: of the session's stream.
        search: that asks again.
        model: of the tier.
        limit: of a round.
        has_progress: whether the target says how far the prompt is.
    """

    def __init__(
        self,
        keeper: StreamKeeper[TargetServiceStub],
        search: TargetSearch,
        model: ModelInfo,
        limit: RoundLimit,
        *,
        has_progress: bool,
    ) -> None:
        self._keeper = keeper
        self._search = search
        self._model = model
        self._limit = limit
        self._has_progress = has_progress
        self._num_computed_tokens = 0  # that the replica had computed or found
        self._last_round_s = 0.0  # by our own clock
        self.prefill = _NO_PREFILL
        """Of the tokens that the stream was opened with; 0 of 0 once a round was answered."""

    def opened(self, num_cached_tokens: int, num_tokens: int) -> None:
        """The target took the session, and has so many of its tokens."""
        self._num_computed_tokens = num_cached_tokens
        # The last one is computed with the first round.
        self.prefill = PrefillProgress(num_cached_tokens, num_tokens - 1)

    async def receive(self, stream: TierStream, num_tokens: int) -> VerifyResponse:
        """The answer to a round over so many tokens of context.

        Raises:
            TierUnavailableError: it takes too long, and another replica may be faster.
        """
        if len(self._keeper.replicas.all) == 1:
            # With nothing to look out for, a token costs no more than it must.
            ask = self._next(stream, None) if self._has_progress else stream.receive()
            answer: VerifyResponse = await ask
            return answer
        num_new_tokens = num_tokens - self._num_computed_tokens
        expected_s = max(
            expected_pass_s(self._model.pass_costs, num_new_tokens), self._last_round_s
        )
        limit_s = self._limit.seconds(expected_s, self._search.num_moves)
        while True:
            try:
                return await self._next(stream, limit_s)
            except TimeoutError:
                if self._keeper.has_other:
                    self._search.num_moves += 1
                    raise TierUnavailableError(f"no evidence within {limit_s:.1f} s") from None

    def took(self, seconds: float, position: int) -> None:
        """A round was answered in so much time, and with it all up to its position is computed."""
        self._last_round_s, self._num_computed_tokens = seconds, position
        self.prefill = _NO_PREFILL

    async def _next(self, stream: TierStream, limit_s: float | None) -> VerifyResponse:
        """The next answer, within the limit. What comes before it says how far it is."""
        deadline = None if limit_s is None else time.monotonic() + limit_s
        while True:
            left_s = None if deadline is None else max(deadline - time.monotonic(), 0)
            response: VerifyResponse = await stream.receive(left_s)
            if not response.HasField("progress"):
                return response
            num_tokens = self.prefill.num_tokens
            num_computed = progress_from_proto(response.progress).num_computed_tokens
            self.prefill = PrefillProgress(min(num_computed, num_tokens), num_tokens)
