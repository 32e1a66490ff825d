"""The noise of coupled sessions: the same for all tiers, exponential, and without relation between
any two places in use."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from forethought.engine.rows.coupling import draw_coupled, measure_coupled
from forethought.engine.rows.torch_noise import exponentials
from forethought.errors import InvalidArgumentError
from forethought.sampling.randomness import KeyedRandomness, _splitmix64, coupling_key
from tests.exactness.test_randomness import is_unrelated

NUM_DRAWS = 20_000
CPU = torch.device("cpu")
ONE_ULP = 2.0**-51
"""Logarithms of two libraries may differ in the last bit of a double."""
words = st.integers(0, 2**64 - 1) | st.sampled_from([0, 2**63 - 1, 2**63, 2**64 - 1])
positions = st.integers(0, 2**32 - 1)
Draws = npt.NDArray[np.float64]


def along_tokens(seed: int = 7, position: int = 3) -> Draws:
    return exponentials([coupling_key(seed, position)], NUM_DRAWS, CPU)[0].numpy()


def along_positions(seed: int = 7, token_id: int = 3) -> Draws:
    randomness = KeyedRandomness(seed, 0)
    return np.array([randomness.exponential(place, token_id) for place in range(NUM_DRAWS)])


def along_seeds(position: int = 3, token_id: int = 3) -> Draws:
    return np.array(
        [KeyedRandomness(seed, 0).exponential(position, token_id) for seed in range(NUM_DRAWS)]
    )


EVERY_WAY = pytest.mark.parametrize("along", [along_tokens, along_positions, along_seeds])


@given(words, positions, st.sampled_from([1, 2, 3, 255, 256, 257, 32_000, 50_000]), st.data())
def test_rows_hold_what_each_tier_computes_for_one_token(
    seed: int, position: int, vocab_size: int, data: st.DataObject
) -> None:
    (row,) = exponentials([coupling_key(seed, position)], vocab_size, CPU).tolist()
    token_ids = st.sampled_from([0, vocab_size - 1]) | st.integers(0, vocab_size - 1)
    randomness = KeyedRandomness(seed, data.draw(words))
    for token_id in data.draw(st.lists(token_ids, min_size=1, max_size=20)):
        assert randomness.exponential(position, token_id) == pytest.approx(
            row[token_id], rel=ONE_ULP, abs=0
        )


@given(st.lists(words, min_size=1, max_size=5), st.integers(1, 300))
def test_a_row_is_the_same_beside_others_as_alone(keys: list[int], vocab_size: int) -> None:
    together = exponentials(keys, vocab_size, CPU)
    for key, row in zip(keys, together, strict=True):
        assert torch.equal(exponentials([key], vocab_size, CPU)[0], row)
        assert bool((row > 0).all())


@given(words, words, words, positions, st.integers(0, 50_000))
def test_the_noise_is_the_same_in_each_round(
    seed: int, one: int, other: int, position: int, token_id: int
) -> None:
    noises = {KeyedRandomness(seed, each).exponential(position, token_id) for each in (one, other)}
    assert len(noises) == 1


@EVERY_WAY
def test_the_noise_is_exponential(along: Callable[..., Draws]) -> None:
    assert stats.kstest(along(), "expon").pvalue > 0.001


@EVERY_WAY
def test_neighbours_are_unrelated(along: Callable[..., Draws]) -> None:
    uniforms = np.exp(-along())
    assert all(is_unrelated(uniforms[:-distance], uniforms[distance:]) for distance in range(1, 9))


def test_tokens_positions_and_seeds_are_unrelated() -> None:
    rows = [along_tokens(seed, position) for seed in (7, 8) for position in (3, 4)]
    columns = [along_positions(token_id=token_id) for token_id in (0, 1, 49_151)]
    for group in (rows, columns):
        for index, one in enumerate(group):
            for other in group[:index]:
                assert is_unrelated(np.exp(-one), np.exp(-other))


def choices(p: list[float], keys: list[int]) -> npt.NDArray[np.int64]:
    """What is chosen from the same distribution for each key."""
    guesses = draw_coupled(torch.tensor(p).expand(len(keys), -1), keys)
    return np.array([guess.token_id for guess in guesses])


P = [0.4, 0.3, 0.2, 0.0, 0.09, 0.01]


@pytest.mark.parametrize("along", ["positions", "seeds"])
def test_choices_are_as_frequent_as_they_are_likely_and_neighbours_independent(along: str) -> None:
    pairs = [(7, i) if along == "positions" else (i, 3) for i in range(NUM_DRAWS)]
    chosen = choices(P, [coupling_key(*pair) for pair in pairs])
    likely = np.flatnonzero(P)
    counts = np.bincount(chosen, minlength=len(P))
    assert counts.sum() == counts[likely].sum()
    expected = np.array(P)[likely] * NUM_DRAWS
    assert stats.chisquare(counts[likely], expected).pvalue > 0.001
    table = np.zeros((3, 3))  # of the three likeliest
    for one, other in zip(chosen[:-1:2], chosen[1::2], strict=True):
        if max(one, other) < 3:
            table[one, other] += 1
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_evidence_holds_p_as_it_is_and_the_best_of_the_outside() -> None:
    generator = torch.Generator().manual_seed(0)
    probs = torch.randn(4, 300, generator=generator).mul_(2).softmax(dim=-1)
    supports = [[4], [7, 299, 0], list(range(256)), []]
    keys = [coupling_key(1, position) for position in range(4)]
    noise = exponentials(keys, 300, CPU)
    for row, support, checked, drawn in zip(
        probs, supports, measure_coupled(probs, supports, keys), noise, strict=True
    ):
        outside = row.clone()
        outside[support] = 0
        assert checked.target_probs.tolist() == row[support].tolist()
        assert checked.tail_mass == pytest.approx(float(outside.double().sum()), rel=1e-12)
        assert checked.tail_token_id == int((drawn / outside).argmin())
        assert checked.tail_token_prob == float(row[checked.tail_token_id])
        assert checked.greedy_token_id == int(row.argmax())


def test_a_support_that_holds_all_of_p_leaves_exactly_nothing() -> None:
    probs = torch.zeros(1, 300)
    probs[0, [0, 290]] = torch.tensor([0.25, 0.75])
    (checked,) = measure_coupled(probs, [[290, 0]], [5])
    assert (checked.tail_mass, checked.tail_token_id, checked.tail_token_prob) == (0.0, 0, 0.0)


@pytest.mark.parametrize("token_id", [-1, 10])
def test_a_support_outside_the_vocabulary_is_refused(token_id: int) -> None:
    with pytest.raises(InvalidArgumentError):
        measure_coupled(torch.full((1, 10), 0.1), [[token_id]], [5])


def test_the_largest_draw_is_below_1_and_the_smallest_noise_above_0(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No seed in reach hashes to 64 ones, so the hash is replaced."""
    monkeypatch.setattr(
        "forethought.sampling.randomness._splitmix64", lambda seed, index: 2**64 - 1
    )
    assert KeyedRandomness(0, 0).exponential(0, 0) == 2.0**-53


def test_the_noise_of_sessions_that_run_today_never_changes() -> None:
    """Another value here breaks every seed that a user of the coupled mode has written down."""
    assert coupling_key(42, 1234) == 13997859832035977971
    for seed, position, token_id, expected in [
        (0, 0, 0, 1.2222921954177923),
        (42, 1234, 0, 0.8019202405497441),
        (42, 1234, 49_151, 0.029404116511394),
        (2**64 - 1, 2**32 - 1, 7, 2.826330837357821),
    ]:
        noise = KeyedRandomness(seed, 9).exponential(position, token_id)
        assert noise == pytest.approx(expected, rel=ONE_ULP, abs=0)


def test_the_numbers_behind_the_noise_are_those_of_splitmix64() -> None:
    """As its authors' C program prints them."""
    assert _splitmix64(0, 0) == 0xE220A8397B1DCDAF
    assert [_splitmix64(1234567, index) for index in range(2)] == [
        6457827717110365317,
        3203168211198807973,
    ]
