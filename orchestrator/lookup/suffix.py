"""Drafts by the most frequent continuation of the text's end (SuffixDecoding, arXiv 2411.04975).

As the n-gram lookup it takes the longest run of tokens at the end that has occurred before. It
differs in three ways. What was said is kept in a suffix automaton, so a lookup costs the same in a
text of a thousand tokens and of a hundred thousand. Among all that followed the run, what did so
most often is drafted. And it drafts no further than the text makes likely: it stops before the
token with which the estimated probability of the whole draft falls below a threshold.

The estimate is made of counts of the text alone, never of anything drawn, so that a draft is the
same whatever the target says of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from forethought.sampling.types import DraftedToken, certain_guess
from orchestrator.lookup.suffix_automaton import SuffixAutomaton
from orchestrator.lookup.tenant_memory import TenantMemory
from orchestrator.loop.session import Session

MAX_TOKENS = 2**22
"""Read of all sessions together: an automaton takes some hundred bytes a token."""
_MANY_TOKENS = 2048  # to be read at once; fewer are faster read than another thread takes them over


@dataclass(frozen=True, slots=True)
class SuffixOptions:
    """What is looked up, and how far it is followed."""

    min_match: int = 1
    """Shortest run of tokens to look up."""
    max_match: int = 32
    """Longest run; longer ones count as this long."""
    min_prob: float = 0.4
    """Least estimated probability of a whole draft."""
    memory_tokens: int = 0
    """Tokens of earlier outputs to remember for their tenants; 0 for none."""


class SuffixLookup:
    """Drafts by counting."""

    name = "suffix"

    def __init__(self, options: SuffixOptions) -> None:
        self.options = options
        self.memory = TenantMemory(options.memory_tokens, options.max_match)
        self.sessions: set[SuffixSession] = set()
        """Those that are open."""

    def open(self, session: Session) -> "SuffixSession":
        opened = SuffixSession(self, session)
        self.sessions.add(opened)
        return opened

    def has_room(self, num_tokens: int) -> bool:
        """Whether so many more tokens may be read."""
        return sum(each.num_read for each in list(self.sessions)) + num_tokens <= MAX_TOKENS


class SuffixSession:
    """Reads its text into an automaton as it grows, and to the tenant's memory when it closes."""

    def __init__(self, lookup: SuffixLookup, session: Session) -> None:
        self._lookup = lookup
        self._options = lookup.options
        self._automaton = SuffixAutomaton(lookup.options.max_match)
        self._num_prompt_tokens = session.position
        self._session = session  # as it was last seen

    @property
    def num_read(self) -> int:
        """Tokens."""
        return len(self._automaton)

    def is_slow(self, session: Session) -> bool:
        return self._num_unread(session) > _MANY_TOKENS

    def draft(self, session: Session, num_tokens: int) -> Sequence[DraftedToken]:
        """The most frequent path after the longest match, here or in the tenant's memory; nothing
        while other sessions leave no room to read many tokens."""
        self._session = session
        if self.is_slow(session) and not self._lookup.has_room(self._num_unread(session)):
            return []
        self._automaton.extend(session.token_ids[self.num_read :])
        guesses = self._guess(session, num_tokens)
        return [certain_guess(token_id, session.mode) for token_id in guesses]

    def close(self) -> None:
        if self in self._lookup.sessions:
            output = self._session.token_ids[self._num_prompt_tokens :]
            self._lookup.memory.remember(self._session.tenant, output)
        self._lookup.sessions.discard(self)

    def _num_unread(self, session: Session) -> int:
        return session.position - self.num_read

    def _guess(self, session: Session, num_tokens: int) -> Sequence[int]:
        min_match, min_prob = self._options.min_match, self._options.min_prob
        own = self._automaton.match_end()
        length, remembered = self._lookup.memory.continuation(
            session.tenant, session.token_ids[-self._options.max_match :], num_tokens, min_prob
        )
        if length > own.length and length >= min_match:
            return remembered
        if own.length >= min_match:
            return self._automaton.continuation(own, num_tokens, min_prob)
        return []
