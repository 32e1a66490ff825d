"""What sessions have said, for later ones of the same tenant.

Agents ask alike again and again, and what one answer said the next one often says too. Outputs are
read into suffix automata, *chapters*, one behind the other with a mark between. Nothing can be
taken out of an automaton, so the oldest chapter is dropped whole when there is too much.

Each tenant has chapters of its own, and only these are ever searched for it. All tenants share the
room: a busy one pushes out what others said long ago, and learns nothing of it.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from threading import Lock

from orchestrator.lookup.suffix_automaton import END_OF_TEXT, SuffixAutomaton

_CHAPTERS = 8  # that all of the memory is cut into, if one tenant fills it
_MAX_OUTPUT = 4096  # tokens of an output, its last ones; reading them takes some 10 ms
_OVERHEAD = 16  # tokens that take as much memory as an empty chapter does


class TenantMemory:
    """Remembers outputs by tenant. Threads may share it.

    Args:
        max_tokens: of all tenants together; 0 remembers nothing.
        max_match: longest run that is looked up, tokens.
    """

    def __init__(self, max_tokens: int, max_match: int) -> None:
        self._max_tokens = max_tokens
        self._chapter_tokens = max_tokens // _CHAPTERS - _OVERHEAD
        self._max_match = max_match
        self._chapters: defaultdict[str, deque[SuffixAutomaton]] = defaultdict(deque)
        self._by_age: deque[str] = deque()  # whose each chapter is, the oldest first
        self._num_tokens = 0
        self._lock = Lock()

    @property
    def num_tokens(self) -> int:
        """Tokens that are held, with an allowance for each chapter."""
        return self._num_tokens

    def remember(self, tenant: str, token_ids: Sequence[int]) -> None:
        """Adds an output, or as much of its end as has room."""
        room = min(self._chapter_tokens - 1, _MAX_OUTPUT)
        if room <= 0 or not token_ids:
            return
        text = [*token_ids[-room:], END_OF_TEXT]
        with self._lock:
            self._chapter_for(tenant, len(text)).extend(text)
            self._num_tokens += len(text)
            while self._num_tokens > self._max_tokens:
                self._forget_oldest()

    def continuation(
        self, tenant: str, token_ids: Sequence[int], num_tokens: int, min_prob: float
    ) -> tuple[int, list[int]]:
        """What followed the longest suffix that the tenant's outputs hold; of equals the newest.

        Args:
            tenant: whose outputs to search.
            token_ids: the end of a text, at least `max_match` tokens of it if there are so many.
            num_tokens: most tokens to return.
            min_prob: as in `SuffixAutomaton.continuation`.

        Returns:
            The length of the suffix, and the tokens. Length 0 if there is none.
        """
        with self._lock:
            found = [
                (chapter.match(token_ids), chapter)
                for chapter in reversed(self._chapters.get(tenant, ()))
            ]
            if not found:
                return 0, []
            match, chapter = max(found, key=lambda pair: pair[0].length)
            if not match.length:
                return 0, []
            return match.length, chapter.continuation(match, num_tokens, min_prob)

    def _chapter_for(self, tenant: str, num_tokens: int) -> SuffixAutomaton:
        """The tenant's newest chapter, or a new one if that has no room."""
        chapters = self._chapters[tenant]
        if not chapters or len(chapters[-1]) + num_tokens > self._chapter_tokens:
            chapters.append(SuffixAutomaton(self._max_match))
            self._by_age.append(tenant)
            self._num_tokens += _OVERHEAD
        return chapters[-1]

    def _forget_oldest(self) -> None:
        tenant = self._by_age.popleft()
        self._num_tokens -= _OVERHEAD + len(self._chapters[tenant].popleft())
        if not self._chapters[tenant]:
            del self._chapters[tenant]
