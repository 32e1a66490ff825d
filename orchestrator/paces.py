"""Whether speculation pays, by what it was seen to do.

What a draft costs beside its own passes no curve tells: where the tiers share a processor it slows
down the target, where sessions come and go their prompts are computed twice. So the time that
rounds take is compared, with drafts and without, in deployments as busy as now: from a load to its
double everything is taken to be alike.
"""

import math
from dataclasses import dataclass, field

_MEMORY = 48.0
"""Rounds of all sessions under way after which one weighs 1/e."""
_ROUNDS_TO_COMPARE = 4.0
"""Of all sessions, with drafts, before they are said to be faster or slower."""
_PLAIN_ROUNDS_TO_COMPARE = 8.0
"""The same without: while drafts are made, nobody sees any more of these."""

_MAX_DOUBLINGS = 3
"""Of what is set aside for another attempt, where one after the other has lost."""
_LOSS_OF_A_SESSION_S = 0.05
"""What an attempt is taken to lose for each session, until it is known: the draft tier computes all
their prompts for it."""


@dataclass(slots=True)
class Pace:
    """Tokens over the time that plain decoding should take for one; what was seen fades."""

    num_rounds: float = 0.0
    _tokens: float = 0.0
    _time: float = 0.0
    _promised: float = 0.0

    def observe(self, num_tokens: float, time: float, weight: float, promise: float = 1.0) -> None:
        """A round made so many tokens.

        Args:
            num_tokens: that such a round commits.
            time: that it took, over what one token was expected to take without a draft.
            weight: of the round. Of n sessions under way, all report theirs.
            promise: speed over that of plain decoding, by what rounds are taken to cost.
        """
        fading = math.exp(-weight / _MEMORY)
        self.num_rounds = self.num_rounds * fading + weight
        self._tokens = self._tokens * fading + weight * num_tokens
        self._time = self._time * fading + weight * time
        self._promised = self._promised * fading + weight * promise

    @property
    def value(self) -> float:
        """1 is as fast as expected of plain decoding, 2 twice as fast."""
        return self._tokens / self._time

    @property
    def promise(self) -> float:
        """What costs promised of these rounds."""
        return self._promised / self.num_rounds


@dataclass(slots=True)
class Level:
    """A load, and what became of speculation there."""

    plain: Pace = field(default_factory=Pace)
    speculative: Pace = field(default_factory=Pace)
    gain: float | None = None
    """Speculation over plain decoding, when they were compared last; None if never."""
    kept: float = 1.0
    """That gain over what costs promised of the same rounds. Texts change from one moment to the
    next, and with them what drafts are worth. This is the machine's."""
    loss_s: float = 0.0
    """What an attempt to speculate is expected to lose, if it loses, of the deployment's time."""
    has_lost: bool = False
    """Whether the last attempt has lost."""
    num_losses: int = 0
    """Attempts in a row that have lost, and of which not even costs promise a gain."""

    @property
    def price_s(self) -> float:
        """Time to be set aside for an attempt that promises nothing: more after each that lost."""
        return self.loss_s * (1 << min(self.num_losses, _MAX_DOUBLINGS))

    @property
    def is_plain_known(self) -> bool:
        """Whether enough was seen of plain decoding to compare something with it."""
        return self.plain.num_rounds >= _PLAIN_ROUNDS_TO_COMPARE

    def compare(self) -> float | None:
        """Takes the gain from what was seen; None if that is too little."""
        if self.is_plain_known and self.speculative.num_rounds >= _ROUNDS_TO_COMPARE:
            self.gain = self.speculative.value / self.plain.value
            self.kept = self.gain / self.speculative.promise
            return self.gain
        return None

    def begin(self) -> None:
        """Speculation begins anew: what it was like the last time does not count."""
        self.speculative = Pace()


class Levels:
    """All loads that were seen."""

    def __init__(self) -> None:
        self._levels: dict[int, Level] = {}

    def at(self, num_sessions: float) -> Level:
        """That of so many sessions: 1, 2, up to 4, up to 8, and so on."""
        index = _index(num_sessions)
        if index not in self._levels:
            self._levels[index] = Level(loss_s=_LOSS_OF_A_SESSION_S * 2**index)
        return self._levels[index]

    def known_gain(self, num_sessions: float, promise: float) -> float | None:
        """Of speculation at a load, as far as it was seen; None if nothing says anything.

        At the load itself it is the part of what costs promise now that was kept before. A busier
        deployment has less to spare. So what gained at a greater load will gain here, and what did
        not gain at a smaller one will not gain here either.
        """
        index = _index(num_sessions)
        if index in self._levels and self._levels[index].gain is not None:
            return self._levels[index].kept * promise
        others = [
            level.gain
            for each, level in self._levels.items()
            if level.gain is not None and (level.gain > 1) == (each > index)
        ]
        return min(others, default=None)


def _index(num_sessions: float) -> int:
    return math.ceil(math.log2(max(num_sessions, 1.0)) - 1e-9)
