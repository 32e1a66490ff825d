"""Holds back text that may turn out to be part of a stop text.

Tokens go in one at a time, so what comes out does not depend on how rounds cut them. A token is
let through when none of its text can belong to a stop text any more.

Of several stop texts the one that is complete first ends the output, of two that are complete at
once the longer. So the text alone decides, not how tokens cut it, and nothing waits for a longer
stop text that began earlier and may never be complete: `cd` ends `abcde` although `abcdef` is one
too. Nothing that is shown contains a stop text, since it would have been complete before.

Special tokens such as `<|im_end|>` have a name and no text, so the text goes on over them. A stop
text that holds the name of one is also searched for with the token itself in the name's place.
"""

import re
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from forethought.generation import Token

_UNLIMITED = sys.maxsize

_Symbol = str | int
"""A character, or the id of a special token."""


class StopMatcher:
    """Finds which of several texts is complete first in a stream of tokens.

    Each stop text is searched for by Knuth, Morris and Pratt (1977): what is kept is how much of
    its beginning the text so far ends with, so a character costs O(1) on average, however long
    stop texts are and however much is held back.

    Args:
        stops: the stop texts.
        special_token_ids: the tokens without text, by their names.
    """

    def __init__(
        self, stops: Sequence[str], special_token_ids: Mapping[str, int] | None = None
    ) -> None:
        self._searches = [_Search(stop, tuple(stop)) for stop in stops]
        with_tokens = [(stop, _with_tokens(stop, special_token_ids or {})) for stop in stops]
        self._token_searches = [
            _Search(stop, symbols) for stop, symbols in with_tokens if symbols != tuple(stop)
        ]
        self._held: deque[tuple[Token, int]] = deque()  # and how many symbols it is
        self._num_held_chars = 0
        self._num_held_symbols = 0
        self.matched = ""
        """The stop text that was found, or empty."""

    def push(self, token: Token, *, is_special: bool = False) -> list[Token]:
        """Takes a token and returns those that are safe to show.

        Once a stop text is found, the tokens before it come out, the last of them cut where it
        begins, and nothing after.
        """
        if not self._searches:
            return [token]
        symbols: Sequence[_Symbol] = (*token.text, token.token_id) if is_special else token.text
        num_chars, num_symbols = self._num_held_chars, self._num_held_symbols
        self._held.append((token, len(symbols)))
        self._num_held_chars += len(token.text)
        self._num_held_symbols += len(symbols)
        for symbol in symbols:
            num_symbols += 1
            if isinstance(symbol, str):
                num_chars += 1
                in_text = [search.stop for search in self._searches if search.take(symbol)]
            else:
                in_text = []
            with_tokens = [each for each in self._token_searches if each.take(symbol)]
            if in_text:
                self.matched = max(in_text, key=len)
                return self._release(num_chars - len(self.matched), _UNLIMITED, cut=True)
            if with_tokens:
                search = max(with_tokens, key=lambda each: len(each.stop))
                self.matched = search.stop
                return self._release(_UNLIMITED, num_symbols - len(search.symbols), cut=True)
        return self._release(
            self._num_held_chars - self._num_at_risk(),
            self._num_held_symbols - _most_matched(self._token_searches),
            cut=False,
        )

    def flush(self) -> list[Token]:
        """The tokens still held back, when no more will come."""
        return self._release(_UNLIMITED, _UNLIMITED, cut=False)

    def _num_at_risk(self) -> int:
        """Characters at the end that are the beginning of a stop text."""
        return _most_matched(self._searches)

    def _release(self, num_chars: int, num_symbols: int, *, cut: bool) -> list[Token]:
        """Lets go of the tokens that fit into both; with `cut`, of the next one's part."""
        released: list[Token] = []
        while self._held:
            token, length = self._held[0]
            if len(token.text) > num_chars or length > num_symbols:
                break
            self._held.popleft()
            num_chars -= len(token.text)
            num_symbols -= length
            self._num_held_chars -= len(token.text)
            self._num_held_symbols -= length
            released.append(token)
        num_shown = min(num_chars, num_symbols)
        if cut and num_shown:
            token, _length = self._held[0]
            released.append(replace(token, text=token.text[:num_shown]))
        return released


def _with_tokens(stop: str, special_token_ids: Mapping[str, int]) -> tuple[_Symbol, ...]:
    """The symbols of `stop`, each name of a special token in it replaced, the longest first."""
    names = sorted((name for name in special_token_ids if name and name in stop), key=len)
    if not names:
        return tuple(stop)
    symbols: list[_Symbol] = []
    for part in re.split("(" + "|".join(re.escape(name) for name in reversed(names)) + ")", stop):
        symbols += [special_token_ids[part]] if part in special_token_ids else part
    return tuple(symbols)


def _most_matched(searches: "Sequence[_Search]") -> int:
    return max((search.num_matched for search in searches), default=0)


class _Search:
    """The search for one stop text."""

    def __init__(self, stop: str, symbols: tuple[_Symbol, ...]) -> None:
        self.stop = stop
        self.symbols = symbols
        self.num_matched = 0
        """Symbols at the end of the stream that are the beginning of the stop text, the most."""
        self._borders = _borders(symbols)

    def take(self, symbol: _Symbol) -> bool:
        """Takes the next symbol; returns whether it completes the stop text."""
        while self.num_matched and self.symbols[self.num_matched] != symbol:
            self.num_matched = self._borders[self.num_matched - 1]
        if self.symbols[self.num_matched] == symbol:
            self.num_matched += 1
        return self.num_matched == len(self.symbols)


def _borders(symbols: tuple[_Symbol, ...]) -> list[int]:
    """[len] For each beginning: how much of its end, less than all, is a beginning too.

    The prefix function of Knuth, Morris and Pratt.
    """
    borders = [0] * len(symbols)
    length = 0
    for index in range(1, len(symbols)):
        while length and symbols[index] != symbols[length]:
            length = borders[length - 1]
        length += symbols[index] == symbols[length]
        borders[index] = length
    return borders
