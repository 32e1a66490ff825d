"""The automaton finds what a search by brute force finds, whatever the text."""

from collections.abc import Sequence
from itertools import takewhile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.lookup.suffix_automaton import END_OF_TEXT, SuffixAutomaton
from tests.lookup.suffix_reference import by_brute_force, longest_match

# Few different tokens, so that everything repeats; or many, so that little does.
TEXTS = st.lists(st.integers(0, 1), max_size=40) | st.lists(st.integers(0, 3), max_size=40)
NO_LIMIT = 0.0


def automaton(text: Sequence[int], max_match: int = 8) -> SuffixAutomaton:
    built = SuffixAutomaton(max_match)
    built.extend(text)
    return built


def guess(
    text: Sequence[int], num_tokens: int, max_match: int = 8, min_prob: float = NO_LIMIT
) -> list[int]:
    built = automaton(text, max_match)
    match = built.match_end()
    return built.continuation(match, num_tokens, min_prob) if match.length else []


@settings(max_examples=400)
@given(
    text=TEXTS,
    num_tokens=st.integers(0, 12),
    max_match=st.integers(1, 8),
    min_prob=st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
)
@example(text=[0, 0], num_tokens=3, max_match=1, min_prob=0.0)
@example(text=[0] * 30, num_tokens=3, max_match=4, min_prob=0.0)
def test_the_end_of_a_text_is_continued_as_by_brute_force(text, num_tokens, max_match, min_prob):
    expected = by_brute_force(text, text, num_tokens, max_match, min_prob)
    assert guess(text, num_tokens, max_match, min_prob) == expected
    assert automaton(text, max_match).match_end().length == longest_match(text, text, max_match)


@settings(max_examples=200)
@given(
    text=TEXTS,
    tail=st.lists(st.integers(0, 3), max_size=10),
    max_match=st.integers(1, 8),
    min_prob=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_another_text_is_continued_as_by_brute_force(text, tail, max_match, min_prob):
    """As one that is remembered: its end is marked, so that every run has something after it."""
    text = [*text, END_OF_TEXT]
    built = automaton(text, max_match)
    match = built.match(tail)
    assert match.length == longest_match(tail, text, max_match)
    if match.length:
        expected = by_brute_force(tail, text, 6, max_match, min_prob)
        up_to_end = list(takewhile(lambda token_id: token_id != END_OF_TEXT, expected))
        assert built.continuation(match, 6, min_prob) == up_to_end


@settings(max_examples=100)
@given(text=TEXTS, split=st.integers(0, 40), max_match=st.integers(1, 8))
def test_text_that_came_in_pieces_is_text(text, split, max_match):
    built = automaton(text[:split], max_match)
    built.match_end()
    built.extend(text[split:])
    whole = automaton(text, max_match)
    assert built.match_end() == whole.match_end()
    assert len(built) == len(whole) == len(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ([1, 2, 3, 4, 1, 2], [3, 4, 1]),  # as it went on then
        ([1, 2, 7, 1, 2, 7, 1, 2, 8, 1, 2], [7, 1, 2]),  # the most frequent before the latest
        ([1, 2, 7, 1, 2, 8, 1, 2], [8, 1, 2]),  # the latest of equals
        ([3, 1, 2, 1, 2], [1, 2, 1]),  # a period goes on
        ([4, 4], [4, 4, 4]),
        ([1, 2, 3], []),
        ([], []),
    ],
)
def test_the_most_frequent_path_is_followed_and_of_equals_the_latest(text, expected):
    assert guess(text, 3) == expected


def test_drafting_stops_where_the_whole_draft_becomes_too_uncertain():
    # After 1: three times 2, so 1/2 for a match of one token. After 1 2: twice 3, once 4, so 2/3
    # of 2/3, and 2/9 for both guesses.
    text = [1, 2, 3, 9, 1, 2, 3, 8, 1, 2, 4, 7, 1]
    assert guess(text, 2, min_prob=0.51) == []
    assert guess(text, 2, min_prob=0.49) == [2]
    assert guess(text, 2, min_prob=0.23) == [2]
    assert guess(text, 2, min_prob=0.22) == [2, 3]


def test_a_long_match_is_followed_further_than_a_short_one():
    long, short = [9, *range(8), 9, *range(4)], [9, 3, 4, 5, 6, 7, 8, 3]
    assert guess(long, 4, min_prob=0.5) == [4, 5, 6, 7]
    assert guess(short, 4, min_prob=0.5) == [4]


def test_a_long_text_of_one_token_costs_no_more_than_any_other():
    """Occurrences are counted up to a length, else this would be quadratic."""
    built = automaton([5] * 20_000, max_match=4)
    visited = 0
    state = built._recent
    while state != 1:
        visited += 1
        state = built._links[state]
    assert visited == 5
    assert len(built._transitions) < 2 * 20_002
