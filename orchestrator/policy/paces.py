"""Whether speculation pays, by what it was seen to do.

What a draft costs beside its own passes no curve tells: where the tiers share a processor it slows
down the target, where sessions come and go their prompts are computed twice. So the time that
rounds take is compared, with drafts and without, in deployments as busy as now: from a load to its
double everything is taken to be alike.
"""

import math
from collections.abc import Callable, Sequence
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


class Pace:
    """The time of rounds by the K that they asked for; what was seen fades.

    How many tokens they made is not noted: of a few rounds that is chance. What is expected of each
    K comes of many, and is known better later on.
    """

    def __init__(self) -> None:
        self.num_rounds = 0.0
        self._time = 0.0
        self._rounds: dict[int, float] = {}  # by K; 0 where there was no draft

    def observe(self, k: int, time: float, weight: float) -> None:
        """A round is over.

        Args:
            k: that it asked for, and got.
            time: that it took, over what a plain one was expected to take.
            weight: of the round. Of n sessions under way, all report theirs.
        """
        fading = math.exp(-weight / _MEMORY)
        self._rounds = {each: rounds * fading for each, rounds in self._rounds.items()}
        self._rounds[k] = self._rounds.get(k, 0.0) + weight
        self.num_rounds = self.num_rounds * fading + weight
        self._time = self._time * fading + weight * time

    def speed(self, tokens: Sequence[float]) -> float:
        """1 is as fast as expected of plain decoding, 2 twice as fast.

        Args:
            tokens: [max_k + 1] that a round of each K commits.
        """
        return self._sum(tokens.__getitem__) / self._time

    def promise(self, tokens: Sequence[float], seconds: Callable[[int], float]) -> float:
        """What costs promise of such rounds, over what they promise of plain ones.

        Args:
            tokens: as above.
            seconds: that a round of each K takes.
        """
        return self._sum(tokens.__getitem__) / self._sum(seconds) * seconds(0)

    def _sum(self, of_k: Callable[[int], float]) -> float:
        return sum(rounds * of_k(k) for k, rounds in self._rounds.items())


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

    def compare(self, tokens: Sequence[float], seconds: Callable[[int], float]) -> float | None:
        """Takes the gain from what was seen; None if that is too little.

        Args:
            tokens: [max_k + 1] that a round of each K commits, as far as is known by now.
            seconds: that a round of each K takes, by costs as they are known by now.
        """
        if self.is_plain_known and self.speculative.num_rounds >= _ROUNDS_TO_COMPARE:
            self.gain = self.speculative.speed(tokens) / self.plain.speed(tokens)
            self.kept = self.gain / self.speculative.promise(tokens, seconds)
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
