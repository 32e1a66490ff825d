"""The explorer itself: branch probabilities, shared draws, and the refusal to be inexact."""

import operator
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from forethought.sampling.randomness import Randomness, Stream
from tests.exactness.symbolic import explore

HALF, THIRD = Fraction(1, 2), Fraction(1, 3)


def distribution(run: Callable[[Any], Any]) -> dict[Any, Fraction]:
    totals: defaultdict[Any, Fraction] = defaultdict(Fraction)
    for result, probability in explore(run):
        totals[result] += probability
    return dict(totals)


def draft_draw(noise: Randomness, position: int = 0) -> Any:
    return noise.uniform(Stream.DRAFT, position)


def test_a_program_without_draws_has_one_path() -> None:
    assert list(explore(lambda noise: "done")) == [("done", Fraction(1))]


@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.gt, operator.ge])
def test_every_comparison_forks_with_the_exact_probability(compare: Any) -> None:
    true = THIRD if compare in (operator.lt, operator.le) else 1 - THIRD
    assert distribution(lambda noise: compare(draft_draw(noise), THIRD))[True] == true
    assert distribution(lambda noise: compare(THIRD, draft_draw(noise)))[True] == 1 - true


@pytest.mark.parametrize(
    "scaled", [lambda u: u * HALF, lambda u: HALF * u, lambda u: u * 2 * HALF**2]
)
def test_a_scaled_draw_moves_the_threshold(scaled: Any) -> None:
    assert distribution(lambda noise: scaled(draft_draw(noise)) < THIRD)[True] == Fraction(2, 3)


def test_an_element_of_an_object_array_scales_a_draw() -> None:
    q = np.array([HALF, THIRD], dtype=object)
    assert distribution(lambda noise: draft_draw(noise) * q[0] < q[1])[True] == Fraction(2, 3)


def test_a_threshold_outside_the_interval_does_not_fork() -> None:
    def run(noise: Randomness) -> Any:
        u = draft_draw(noise)
        return u < 1, u <= 1, u >= 0, u < 0, u > 1, u * 0 < 0, u * 0 <= 0, u * 0 > 0, u * 0 >= 0

    result = (True, True, True, False, False, False, True, False, True)
    assert list(explore(run)) == [(result, Fraction(1))]


def test_a_draw_remembers_what_earlier_comparisons_told() -> None:
    paths = distribution(lambda noise: (draft_draw(noise) < HALF, draft_draw(noise) < THIRD))
    assert paths == {(True, True): THIRD, (True, False): HALF - THIRD, (False, False): HALF}


def test_draws_of_other_streams_and_positions_are_independent() -> None:
    def run(noise: Any) -> tuple[bool, ...]:
        keys = [(Stream.DRAFT, 0), (Stream.DRAFT, 1), (Stream.TAIL, 0)]
        return tuple(noise.uniform(*key) < HALF for key in keys)

    assert distribution(run) == {
        (a, b, c): Fraction(1, 8)
        for a in (True, False)
        for b in (True, False)
        for c in (True, False)
    }


def test_the_probabilities_of_all_paths_sum_to_one() -> None:
    def run(noise: Randomness) -> int:
        position = 0
        while position < 5 and draft_draw(noise, position) < Fraction(position + 1, 7):
            position += 1
        return position

    paths = list(explore(run))
    assert len(paths) == 6
    assert sum(probability for _, probability in paths) == 1


@pytest.mark.parametrize("inexact", [0.5, np.float64(0.5), float("nan")])
def test_a_float_is_refused_on_either_side(inexact: Any) -> None:
    for run in (
        lambda noise: draft_draw(noise) < inexact,
        lambda noise: inexact <= draft_draw(noise),
        lambda noise: draft_draw(noise) * inexact,
        lambda noise: inexact * draft_draw(noise),
    ):
        with pytest.raises(TypeError):
            list(explore(run))


def test_a_negative_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="not negative"):
        list(explore(lambda noise: draft_draw(noise) * -1))
