"""Every run of tokens of a growing text, with how often and when last it occurred.

A suffix automaton (Blumer et al. 1985) is the least automaton that reads exactly the runs of tokens
that occur in a text. Runs that end at the same places share a state. `link` leads from a state to
the longest suffix of its runs that ends at more places: to how the text may be continued when less
of its past counts. A text of n tokens has fewer than 2n states and 3n transitions.

`extend` takes O(1) a token, amortised. What occurred before is never searched for: the state of
the whole text is known, and its link is the longest suffix with an earlier occurrence.

How often a run occurred is not local: a token is one more occurrence of each suffix of the text. So
runs are counted only up to a length, `max_match` and one token that follows: one addition for each
state among the suffixes, at most `max_match + 1`, few in a text that does not go round in circles.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from orchestrator.lookup.transitions import NOWHERE, Transitions

END_OF_TEXT = 2**32
"""A mark behind a text where several are read one after another. No token has this id."""

_ROOT = 1  # the empty run; its link leads nowhere, so that every walk along links ends


@dataclass(frozen=True, slots=True)
class Match:
    """A run at the end of a text that occurs in the automaton's text, earlier if it is the same."""

    length: int  # tokens; 0: there is none
    state: int


class SuffixAutomaton:
    """Counts the runs of a text.

    Args:
        max_match: longest run that is looked up, tokens.
    """

    __slots__ = (
        "_counts",
        "_last",
        "_latest",
        "_lengths",
        "_links",
        "_max_match",
        "_num_tokens",
        "_recent",
        "_recent_length",
        "_transitions",
    )

    def __init__(self, max_match: int) -> None:
        self._max_match = max_match
        self._num_tokens = 0
        self._transitions = Transitions()
        self._transitions.add_state()
        self._links = array("i", (NOWHERE, NOWHERE))
        self._lengths = array("i", (-1, 0))  # of the longest run of each state
        self._counts = array("i", (0, 0))  # occurrences, where a run is short enough to be counted
        self._latest = array("i", (0, 0))  # end of the latest of them
        self._last = _ROOT  # of the whole text
        self._recent = _ROOT  # of its longest suffix that is counted
        self._recent_length = 0

    def __len__(self) -> int:
        return self._num_tokens

    def extend(self, token_ids: Iterable[int]) -> None:
        """Adds tokens at the end."""
        for token_id in token_ids:
            self._append(token_id)
            self._count(token_id)

    def match_end(self) -> Match:
        """The longest suffix of at most `max_match` tokens that occurred before; O(1)."""
        length = min(self._recent_length, self._max_match)
        state = self._state_of(self._recent, length)
        if self._counts[state] < 2:  # only here; what the link leads to occurs elsewhere too
            state = self._links[state]
            length = max(self._lengths[state], 0)
        return Match(length, state)

    def match(self, token_ids: Sequence[int]) -> Match:
        """The longest suffix of at most `max_match` of these tokens that occurs in the text."""
        state, length = _ROOT, 0
        for token_id in token_ids[-self._max_match :]:
            while not (following := self._transitions.follow(state, token_id)) and state != _ROOT:
                state = self._links[state]
                length = self._lengths[state]
            if following:
                state, length = following, length + 1
        return Match(length, state)

    def continuation(self, match: Match, num_tokens: int, min_prob: float) -> list[int]:
        """What followed a match most often, token after token; of equals, what did so last.

        Every guess depends on the match and the guesses before it, of these the last `max_match`
        tokens. Where they occurred only at the end of the text, that is a period, which goes on
        round and round.

        A guess after n such tokens is taken to be right with probability c / m * n / (n + 1), where
        it followed c of the m times that something did. The second factor is for what occurred only
        once or twice: a run of many tokens is more likely than a short one to go on as it did.

        Args:
            match: of at least one token.
            num_tokens: most tokens to return.
            min_prob: stops before the token with which the product of these probabilities falls
                below it.

        Returns:
            At most `num_tokens`, fewer too where the text ended then.
        """
        guesses: list[int] = []
        likelihood = 1.0
        for token_id, prob in islice(self._path(match), num_tokens):
            likelihood *= prob
            if likelihood < min_prob or token_id == END_OF_TEXT:
                break
            guesses.append(token_id)
        return guesses

    def _path(self, match: Match) -> Iterator[tuple[int, float]]:
        """The tokens of a continuation without end, each with its estimated probability."""
        state, length = match.state, match.length
        path: list[int] = []
        # Nothing follows the occurrence at the end of the text.
        while num_followed := self._counts[state] - (self._latest[state] == self._num_tokens):
            token_id, following = max(self._transitions.edges(state), key=self._rank)
            path.append(token_id)
            yield token_id, self._counts[following] / num_followed * length / (length + 1)
            length = min(length + 1, self._max_match)
            state = self._state_of(following, length)
        for token_id in cycle(path):
            yield token_id, length / (length + 1)
            length = min(length + 1, self._max_match)

    def _append(self, token_id: int) -> None:
        """Makes the automaton read all suffixes of the text with one token more."""
        self._num_tokens += 1
        state = self._add_state(self._num_tokens, _ROOT)
        before = self._last
        while before and not self._transitions.follow(before, token_id):
            self._transitions.lead(before, token_id, state)
            before = self._links[before]
        if before:
            self._links[state] = self._split(before, token_id)
        self._last = state

    def _split(self, before: int, token_id: int) -> int:
        """The state of exactly the longest run of `before` and the token, split off if need be."""
        following = self._transitions.follow(before, token_id)
        length = self._lengths[before] + 1
        if self._lengths[following] == length:
            return following
        # The shorter runs of the state end in one more place now, its longer ones do not.
        split = self._add_state(length, self._links[following], like=following)
        self._links[following] = split
        while before and self._transitions.follow(before, token_id) == following:
            self._transitions.lead(before, token_id, split)
            before = self._links[before]
        return split

    def _add_state(self, length: int, link: int, like: int = NOWHERE) -> int:
        self._lengths.append(length)
        self._links.append(link)
        self._counts.append(self._counts[like])
        self._latest.append(self._latest[like])
        return self._transitions.add_state(like)

    def _count(self, token_id: int) -> None:
        """One more occurrence of each suffix that is short enough."""
        # The state may have been split since.
        state = self._state_of(self._recent, self._recent_length)
        length = min(self._recent_length + 1, self._max_match + 1)
        state = self._state_of(self._transitions.follow(state, token_id), length)
        self._recent, self._recent_length = state, length
        while state != _ROOT:
            self._counts[state] += 1
            self._latest[state] = self._num_tokens
            state = self._links[state]

    def _state_of(self, state: int, length: int) -> int:
        """The state of the suffix of `length` tokens of a state's runs."""
        while length <= self._lengths[self._links[state]]:
            state = self._links[state]
        return state

    def _rank(self, transition: tuple[int, int]) -> tuple[int, int]:
        _, state = transition
        return self._counts[state], self._latest[state]
