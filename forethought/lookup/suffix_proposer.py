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

from forethought.lookup.proposer import LookupProposer, LookupSession
from forethought.lookup.suffix_automaton import SuffixAutomaton
from forethought.lookup.tenant_memory import TenantMemory
from forethought.tier import ModelInfo, SessionOpen, SpeculateRound

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


class SuffixProposer(LookupProposer):
    """Drafts by counting.

    Args:
        info: the vocabulary, and the longest text to read.
        options: how.
        max_sessions: most sessions open at a time.
    """

    name = "suffix"

    def __init__(self, info: ModelInfo, options: SuffixOptions, max_sessions: int = 256) -> None:
        super().__init__(info, max_sessions)
        self.options = options
        self.memory = TenantMemory(options.memory_tokens, options.max_match)

    def new_session(self, opening: SessionOpen) -> "SuffixSession":
        return SuffixSession(self, opening)


class SuffixSession(LookupSession):
    """Reads its log into an automaton as it grows, and to the tenant's memory when it closes."""

    def __init__(self, proposer: SuffixProposer, opening: SessionOpen) -> None:
        super().__init__(proposer, opening)
        self._options = proposer.options
        self._memory = proposer.memory
        self._tenant = opening.tenant
        self._num_prompt_tokens = len(opening.token_ids)
        self._automaton = SuffixAutomaton(self._options.max_match)
        self._is_open = True

    def is_slow(self, request: SpeculateRound) -> bool:
        is_back = request.position - len(request.committed_token_ids) < len(self._automaton)
        num_unread = request.position - (0 if is_back else len(self._automaton))
        return num_unread > _MANY_TOKENS

    def guess(self, num_tokens: int, num_kept: int) -> Sequence[int]:
        """The most frequent path after the longest match, here or in the tenant's memory."""
        if num_kept < len(self._automaton):
            # Nothing can be taken out of an automaton. Tokens that were committed change only
            # where a session is used in a way that the orchestrator never does.
            self._automaton = SuffixAutomaton(self._options.max_match)
        self._automaton.extend(self.log[len(self._automaton) :])
        min_match, min_prob = self._options.min_match, self._options.min_prob
        own = self._automaton.match_end()
        tail = self.log[-self._options.max_match :]
        length, remembered = self._memory.continuation(self._tenant, tail, num_tokens, min_prob)
        if length > own.length and length >= min_match:
            return remembered
        if own.length >= min_match:
            return self._automaton.continuation(own, num_tokens, min_prob)
        return []

    def close(self) -> None:
        if self._is_open:
            self._memory.remember(self._tenant, self.log[self._num_prompt_tokens :])
        self._is_open = False
        super().close()
