"""The line of statistics that ends a generation."""

from time import perf_counter

from forethought.cli.views.tokens import harmless
from forethought.generation import (
    Finished,
    GenerationEvent,
    NoDraftReason,
    SpeculationStatistics,
    Started,
    Token,
)
from forethought.sampling.types import TokenOrigin


class Tally:
    """Counts events as they come, so that an interrupted generation has statistics too.

    Until `Finished` brings the server's sums, times are as this side sees them, and how many
    tokens were drafted is not known.
    """

    def __init__(self) -> None:
        self._started_at = perf_counter()
        self._first_token_s = 0.0
        self._last_token_s = 0.0
        self._num_rounds = 0
        self._finished: Finished | None = None
        self._session_id = ""  # of a session that is stored
        self.num_tokens = 0

    @property
    def broken_off(self) -> str:
        """The session that the rest of the answer can be had from; empty where there is none."""
        return "" if self.is_complete else self._session_id

    @property
    def is_complete(self) -> bool:
        """Whether the generation came to its end."""
        return self._finished is not None

    def add(self, event: GenerationEvent) -> None:
        """Takes note of an event."""
        if isinstance(event, Started):
            self._session_id = event.session_id if event.is_stored else ""
        elif isinstance(event, Finished):
            self._finished = event
        elif isinstance(event, Token):
            self._last_token_s = perf_counter() - self._started_at
            if not self.num_tokens:
                self._first_token_s = self._last_token_s
            self.num_tokens += 1
            # Each round ends with exactly one token that was not drafted.
            self._num_rounds += event.origin is not TokenOrigin.ACCEPTED

    def line(self) -> str:
        """Tokens, tokens a second, time to first token, rounds, acceptance."""
        if self._finished is not None:
            return describe_finished(self._finished)
        seconds, rounds = self._last_token_s, self._num_rounds
        return _join(
            f"{_count(self.num_tokens, 'token')} so far",
            f"{self.num_tokens / seconds:.1f} tokens/s" if seconds else None,
            f"first token {_duration(self._first_token_s)}" if self.num_tokens else None,
            _count(rounds, "round"),
            f"mean acceptance length {self.num_tokens / rounds:.2f}" if rounds else None,
        )


def describe_finished(finished: Finished) -> str:
    """The line for a generation that came to its end."""
    num_tokens, speculation = finished.num_output_tokens, finished.speculation
    rate, length = speculation.acceptance_rate, speculation.mean_acceptance_length
    seconds, first_token_s = finished.total_ns / 1e9, finished.time_to_first_token_ns / 1e9
    failures = speculation.num_draft_failures
    return _join(
        _count(num_tokens, "token"),
        f"{num_tokens / seconds:.1f} tokens/s" if seconds else None,
        f"first token {_duration(first_token_s)}" if num_tokens else None,
        _count(speculation.num_rounds, "round"),
        f"acceptance rate {rate:.0%}{_by_proposer(speculation)}"
        if rate is not None
        else _why_nothing(speculation),
        f"mean acceptance length {length:.2f}" if length is not None else None,
        f"{_count(failures, 'round')} without a draft" if failures else None,
    )


_REASONS = {
    NoDraftReason.NOT_ASKED: "K is 0",
    NoDraftReason.NOT_CONFIGURED: "there is no draft",
    NoDraftReason.DID_NOT_PAY: "drafts do not pay",
    NoDraftReason.REFUSED: "the draft is refused",
    NoDraftReason.DOWN: "the draft tier is down",
    NoDraftReason.LATE: "drafts come too late",
    NoDraftReason.NOTHING_FOUND: "nobody had a guess",
    NoDraftReason.TOO_SHORT: "the answer ended before the second round",
}


def _why_nothing(speculation: SpeculationStatistics) -> str:
    """That nothing was drafted, and why as far as the server says."""
    reason, detail = speculation.no_draft_reason, harmless(speculation.no_draft_detail)
    if reason is None:
        return "nothing drafted"
    return f"nothing drafted: {_REASONS[reason]}" + (f" ({detail})" if detail else "")


def _by_proposer(speculation: SpeculationStatistics) -> str:
    """The acceptance rate of each proposer, if there were several, the busiest first."""
    if len(speculation.proposers) < 2:
        return ""
    busiest = sorted(speculation.proposers, key=lambda each: -each.num_draft_tokens)
    rates = (
        f"{harmless(each.proposer)} {each.num_accepted_tokens / each.num_draft_tokens:.0%}"
        f" of {each.num_draft_tokens:,}"
        for each in busiest
    )
    return f" ({', '.join(rates)})"


def _join(*parts: str | None) -> str:
    return " · ".join(part for part in parts if part is not None)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
