"""Which state follows which on a token: the edges of an automaton, kept small.

In the automaton of a text six of seven states have one edge. A dictionary for each would take most
of the memory; here a state's first edge lies in two arrays, and only further ones in a dictionary.
"""

from array import array
from collections.abc import Iterator

NOWHERE = 0
"""No state has this number."""

_NO_TOKEN = -1


class Transitions:
    """Edges of states that are numbered from 1 on."""

    __slots__ = ("_first_states", "_first_tokens", "_more")

    def __init__(self) -> None:
        self._first_tokens = array("q", [_NO_TOKEN])
        self._first_states = array("i", [NOWHERE])
        self._more: dict[int, dict[int, int]] = {}

    def __len__(self) -> int:
        """The number that the next state gets."""
        return len(self._first_tokens)

    def add_state(self, like: int = NOWHERE) -> int:
        """Adds a state with the edges of another, or without any. Returns its number."""
        self._first_tokens.append(self._first_tokens[like])
        self._first_states.append(self._first_states[like])
        state = len(self._first_tokens) - 1
        if like in self._more:
            self._more[state] = self._more[like].copy()
        return state

    def follow(self, state: int, token_id: int) -> int:
        """Where an edge leads; NOWHERE if there is none."""
        if self._first_tokens[state] == token_id:
            return self._first_states[state]
        more = self._more.get(state)
        return NOWHERE if more is None else more.get(token_id, NOWHERE)

    def lead(self, state: int, token_id: int, following: int) -> None:
        """Makes an edge lead to `following`, whether it was there or not."""
        if self._first_tokens[state] in (token_id, _NO_TOKEN):
            self._first_tokens[state] = token_id
            self._first_states[state] = following
        else:
            self._more.setdefault(state, {})[token_id] = following

    def edges(self, state: int) -> Iterator[tuple[int, int]]:
        """Token and state of each edge."""
        if self._first_tokens[state] != _NO_TOKEN:
            yield self._first_tokens[state], self._first_states[state]
            yield from self._more.get(state, {}).items()
