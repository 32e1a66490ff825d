"""Lookup finds what a search by brute force finds."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.lookup.ngram import continuation

# Few different tokens, so that everything repeats; or many, so that little does.
TEXTS = st.lists(st.integers(0, 2), max_size=30) | st.lists(st.integers(0, 2**32 - 1), max_size=8)


def look_up(
    tokens: Sequence[int], num_tokens: int, min_match: int = 1, max_match: int = 8
) -> list[int]:
    return continuation(np.array(tokens, dtype=np.uint32), num_tokens, min_match, max_match)


def by_brute_force(
    tokens: Sequence[int], num_tokens: int, min_match: int, max_match: int
) -> list[int]:
    """The longest suffix first, and its latest occurrence that is followed by something."""
    tokens = list(tokens)
    for length in range(min(max_match, len(tokens)), max(min_match, 1) - 1, -1):
        suffix = tokens[-length:]
        for start in range(len(tokens) - length - 1, -1, -1):
            if tokens[start : start + length] == suffix:
                # As if the text went on as it did there, token after token.
                extended = list(tokens)
                for offset in range(num_tokens):
                    extended.append(extended[start + length + offset])
                return extended[len(tokens) :]
    return []


@settings(max_examples=200)
@given(
    tokens=TEXTS,
    num_tokens=st.integers(0, 12),
    min_match=st.integers(1, 5),
    max_match=st.integers(1, 8),
)
@example(tokens=[], num_tokens=3, min_match=1, max_match=3)
@example(tokens=[1], num_tokens=3, min_match=1, max_match=3)
@example(tokens=[1, 1], num_tokens=3, min_match=1, max_match=3)
@example(tokens=[1, 1], num_tokens=3, min_match=2, max_match=3)
def test_lookup_equals_brute_force(tokens, num_tokens, min_match, max_match):
    expected = by_brute_force(tokens, num_tokens, min_match, max_match)
    assert look_up(tokens, num_tokens, min_match, max_match) == expected


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([1, 2, 3, 4, 1, 2], [3, 4, 1]),  # as it went on then
        ([1, 2, 7, 1, 2, 8, 1, 2], [8, 1, 2]),  # the latest of equals
        ([5, 1, 2, 7, 1, 2, 8, 5, 1, 2], [7, 1, 2]),  # the longest before the latest
        ([3, 1, 2, 1, 2], [1, 2, 1]),  # a period goes on
        ([4, 4], [4, 4, 4]),
        ([1, 2, 3], []),
    ],
)
def test_the_longest_match_wins_and_of_equals_the_latest(tokens, expected):
    assert look_up(tokens, 3) == expected


def test_a_match_may_be_as_short_as_min_match_and_not_shorter():
    tokens = [1, 2, 3, 9, 2, 3]
    assert look_up(tokens, 1, min_match=2) == [9]
    assert look_up(tokens, 1, min_match=3) == []


def test_longer_matches_than_max_match_count_as_that_long():
    tokens = [1, 2, 3, 4, 0, 9, 3, 4, 5, 1, 2, 3, 4]
    assert look_up(tokens, 1, max_match=4) == [0]
    assert look_up(tokens, 1, max_match=2) == [5]


@pytest.mark.parametrize("num_tokens", [1, 5, 100])
def test_ids_come_as_plain_numbers_and_as_many_as_asked(num_tokens):
    found = look_up([2**32 - 1, 0, 2**32 - 1], num_tokens)
    assert len(found) == num_tokens
    assert {type(token_id) for token_id in found} == {int}
