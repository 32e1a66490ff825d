"""Whether sessions may rely on what a replica computes.

A replica may answer every question and still fail the rounds of its sessions: its accelerator is
broken, or its answers are nonsense. So rounds alone decide here.

    trusted     so many failed rounds eject it, of which each answered one makes up for a tenth:
                three in a row, or every other, or one of four
    ejected     gets no sessions for a pause, then one: the probe. A round that the probe gets
                answered takes the replica back; one that fails starts a pause twice as long
    on trial    taken back; one failed round ejects it again, many answered ones make it trusted
"""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EjectionSettings:
    """How soon a replica is ejected, and for how long."""

    max_failures: int = 3
    """Failed rounds in a row that eject a trusted replica; with answered ones between, more."""
    fading: float = 0.9
    """What is left of earlier failures after an answered round."""
    first_pause_s: float = 0.5
    max_pause_s: float = 30.0
    """Pauses double up to this one."""
    num_rounds_to_trust: int = 50
    """Rounds that a replica on trial answers in a row until it is trusted."""


NO_EJECTION = EjectionSettings(max_failures=2**62)
"""For the only replica of a tier."""


class Ejection:
    """Watches the rounds of one replica."""

    def __init__(
        self,
        settings: EjectionSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings or EjectionSettings()
        self._clock = clock
        self._failures = 0.0  # that count still
        self._num_answered = 0  # in a row, on trial
        self._pause_s = 0.0  # the latest; 0: trusted
        self._out_until = 0.0
        self._is_probing = False
        self.is_out = False
        """Whether it is ejected."""

    @property
    def is_resting(self) -> bool:
        """Whether it is ejected, and nobody finds out if it still should be."""
        return self.is_out and not self._is_probing

    @property
    def wants_probe(self) -> bool:
        """Whether it is ejected, and may have one session to find out how it does."""
        return self.is_resting and self._clock() >= self._out_until

    def probe(self) -> None:
        """A session goes there to find out."""
        self._is_probing = True

    def given_up(self) -> None:
        """A session has left; if it was the probe, another may follow."""
        self._is_probing = False

    def answered(self) -> None:
        """A round was answered."""
        self._failures *= self._settings.fading
        self.is_out = self._is_probing = False
        if self._pause_s:
            self._num_answered += 1
            if self._num_answered >= self._settings.num_rounds_to_trust:
                self._pause_s = self._failures = 0.0

    def failed(self) -> bool:
        """A round failed, by the replica's own fault. Whether that ejects it."""
        self._num_answered = 0
        self._failures += 1
        if self.is_resting:
            return False  # it was under way when the replica was ejected
        if not self._pause_s and self._failures < self._settings.max_failures:
            return False
        doubled = max(2 * self._pause_s, self._settings.first_pause_s)
        self._pause_s = min(doubled, self._settings.max_pause_s)
        self._out_until = self._clock() + self._pause_s
        self._is_probing = False
        self.is_out = True
        return True
