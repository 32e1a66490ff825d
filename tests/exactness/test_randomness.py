"""Keyed randomness: pure, uniform, and without relation between any two keys in use."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from forethought.sampling.randomness import KeyedRandomness, Stream

NUM_DRAWS = 10_000
words = st.integers(0, 2**64 - 1)  # all that a key part can be
keys = st.tuples(words, words, st.sampled_from(Stream), words)
Key = tuple[int, int, Stream, int]  # seed, round, stream, position
Draws = npt.NDArray[np.float64]


def uniform(key: Key) -> float:
    seed, number, stream, position = key
    return KeyedRandomness(seed, number).uniform(stream, position)


def draws_along_positions(seed: int = 7, number: int = 3, stream: Stream = Stream.DRAFT) -> Draws:
    randomness = KeyedRandomness(seed, number)
    return np.array([randomness.uniform(stream, position) for position in range(NUM_DRAWS)])


def draws_along_rounds(seed: int = 7, position: int = 3, stream: Stream = Stream.DRAFT) -> Draws:
    return np.array(
        [KeyedRandomness(seed, number).uniform(stream, position) for number in range(NUM_DRAWS)]
    )


def draws_along_seeds(number: int = 3, position: int = 3, stream: Stream = Stream.DRAFT) -> Draws:
    return np.array(
        [KeyedRandomness(seed, number).uniform(stream, position) for seed in range(NUM_DRAWS)]
    )


def is_unrelated(first: Draws, second: Draws) -> bool:
    """Whether neither values nor their distances from the middle go together."""
    limit = 4 / len(first) ** 0.5  # four standard deviations of a correlation of nothing
    values = np.corrcoef(first, second)[0, 1]
    distances = np.corrcoef(abs(first - 0.5), abs(second - 0.5))[0, 1]
    return bool(abs(values) < limit and abs(distances) < limit)


@given(keys)
def test_a_draw_lies_from_zero_to_below_one(key: Key) -> None:
    assert 0 <= uniform(key) < 1


@given(words, words, st.lists(st.tuples(st.sampled_from(Stream), words), min_size=1))
def test_a_draw_depends_on_its_key_alone_and_not_on_what_was_drawn_before(
    seed: int, number: int, draws: list[tuple[Stream, int]]
) -> None:
    randomness = KeyedRandomness(seed, number)
    forward = [randomness.uniform(*key) for key in draws]
    backward = [KeyedRandomness(seed, number).uniform(*key) for key in reversed(draws)]
    assert forward == backward[::-1]


@given(keys, st.integers(0, 3), keys)
def test_a_draw_changes_with_every_part_of_its_key(key: Key, part: int, other: Key) -> None:
    changed: Any = (*key[:part], other[part], *key[part + 1 :])
    assume(key != changed)
    assert uniform(key) != uniform(changed)


@pytest.mark.parametrize("stream", Stream)
@pytest.mark.parametrize("along", [draws_along_positions, draws_along_rounds, draws_along_seeds])
def test_draws_are_uniform(along: Callable[..., Draws], stream: Stream) -> None:
    assert stats.kstest(along(stream=stream), "uniform").pvalue > 0.001


@pytest.mark.parametrize("along", [draws_along_positions, draws_along_rounds, draws_along_seeds])
def test_streams_are_unrelated(along: Callable[..., Draws]) -> None:
    columns = [along(stream=stream) for stream in Stream]
    assert all(is_unrelated(*pair) for pair in combinations(columns, 2))


@pytest.mark.parametrize("along", [draws_along_positions, draws_along_rounds, draws_along_seeds])
def test_neighbours_are_unrelated(along: Callable[..., Draws]) -> None:
    column = along()
    assert all(is_unrelated(column[:-distance], column[distance:]) for distance in range(1, 9))


def test_the_draws_of_sessions_that_run_today_never_change() -> None:
    """Another value here breaks every seed that a user has written down."""
    randomness = KeyedRandomness(seed=42, round=7)
    assert {stream.name: randomness.uniform(stream, 1234) for stream in Stream} == {
        "DRAFT": 0.40200996354575136,
        "ACCEPT": 0.383630438899357,
        "RESIDUAL": 0.9458867015130114,
        "TAIL": 0.9873139586195607,
        "COUPLING": 0.40273228528405836,
    }
