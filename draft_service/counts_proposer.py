"""Drafts by what followed the last tokens most often in texts that the target wrote before.

Back-off n-grams, counted once (`forethought count`) and kept in a file of a few megabytes. They
know what the target tends to say, and nothing of this text but its last few tokens: what a lookup
in the text itself does not find, they still guess, in microseconds and without a model.

Guesses are certain, as from every lookup. Drawn from the counted distribution instead, a guess
would stay with probability sum min(p, q), and that is less: p of a real model mostly has one token
far above the others, which the counts' best guess either is or is not.
"""

from collections.abc import Sequence

from draft_service.lookup import LookupProposer, LookupSession
from forethought.counts.table import CountsTable
from forethought.tier import ModelInfo, SessionOpen, SpeculateRound


class CountsProposer(LookupProposer):
    """Drafts from a table.

    Args:
        info: the vocabulary that the table is of, and the longest text.
        table: what was counted.
        min_prob: least estimated probability of a whole draft.
        max_sessions: most sessions open at a time.
    """

    name = "counts"

    def __init__(
        self, info: ModelInfo, table: CountsTable, min_prob: float, max_sessions: int = 256
    ) -> None:
        super().__init__(info, max_sessions)
        self.table = table
        self.min_prob = min_prob

    def new_session(self, opening: SessionOpen) -> "CountsSession":
        return CountsSession(self, opening)


class CountsSession(LookupSession):
    """Looks the end of its log up."""

    def __init__(self, proposer: CountsProposer, opening: SessionOpen) -> None:
        super().__init__(proposer, opening)
        self._table = proposer.table
        self._min_prob = proposer.min_prob

    def is_slow(self, request: SpeculateRound) -> bool:  # noqa: ARG002
        return False

    def guess(self, num_tokens: int, num_kept: int) -> Sequence[int]:  # noqa: ARG002
        """The likeliest path, as far as it is likely enough."""
        end = self.log[-self._table.max_context :]
        return self._table.continuation(end, num_tokens, self._min_prob)
