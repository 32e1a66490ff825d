"""What trying has cost, and when it is paid for.

What an attempt to speculate loses against plain decoding is owed, and a hundredth of the time of
plain decoding pays it back. A draft that promises to pay is tried when nothing is owed, another one
when the loss that it promises is saved too. So a draft that does not pay costs a hundredth, and one
that has become good is found.

An attempt that has lost more than some plain rounds take is over, whatever is promised. One round
counts as no more than that: a machine that stalls for a moment says nothing of drafts.
"""

EXPLORATION_SHARE = 0.01
"""Of the time of plain decoding, for drafts that lose."""
ROUNDS_TO_HOLD = 4
"""Rounds of each session until K is chosen anew, so that all get to go by it; and plain rounds that
an attempt may lose."""


class Ledger:
    """Time that drafts may lose, seconds."""

    def __init__(self) -> None:
        self._saved_s = 0.0  # below 0 it is owed
        self._lost_s = 0.0  # by the attempt under way, of late; below 0 it has gained

    def earn(self, seconds: float) -> None:
        """Plain decoding takes so long."""
        self._saved_s += EXPLORATION_SHARE * seconds

    def lose(self, seconds: float, plain_s: float, share: float) -> None:
        """A round with a draft takes so much longer than plain decoding, whose rounds take
        `plain_s`, for as many tokens. It is that share of all rounds at a time."""
        limit_s = ROUNDS_TO_HOLD * plain_s
        # A gain makes good what was lost. Little of it is there to be lost again.
        self._lost_s = max(self._lost_s + share * min(seconds, limit_s), -2 * limit_s)

    def is_overdrawn(self, plain_s: float) -> bool:
        """Whether the attempt has lost more than it may."""
        return self._lost_s > ROUNDS_TO_HOLD * plain_s

    def settle(self) -> None:
        """The attempt is over: what it lost is owed."""
        self._saved_s = min(self._saved_s, 0.0) - max(self._lost_s, 0.0)
        self._lost_s = 0.0

    def affords(self, lost_s: float) -> bool:
        """Whether an attempt may begin whose rounds promise to lose so much each."""
        return self._saved_s >= max(ROUNDS_TO_HOLD * lost_s, 0.0)
