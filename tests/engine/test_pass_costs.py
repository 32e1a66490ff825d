"""What a tier measures of its passes when it starts, and how long that takes it."""

from collections.abc import Callable

import pytest
import torch

from forethought.engine.loading import pass_costs
from forethought.engine.loading.pass_costs import measure_pass_costs

MS = 1_000_000


class Timed:
    """A model, and the clock by which its passes take what they are said to take."""

    device_name = "cpu"

    def __init__(self, pass_ms: Callable[[int, int], float]) -> None:
        self.pass_ms = pass_ms  # of a size, and how many passes of it came before
        self.sizes: list[int] = []
        self.now_ns = 0

    def allocate(self, num_blocks: int) -> None:
        pass

    def forward(self, packed) -> torch.Tensor:
        size = len(packed.token_ids)
        self.now_ns += int(self.pass_ms(size, self.sizes.count(size)) * MS)
        self.sizes.append(size)
        return torch.zeros(1, 1)

    def perf_counter(self) -> float:
        return self.now_ns / 1e9

    def perf_counter_ns(self) -> int:
        return self.now_ns


@pytest.fixture
def measure(monkeypatch):
    def measured(pass_ms: Callable[[int, int], float], max_tokens: int = 512):
        model = Timed(pass_ms)
        monkeypatch.setattr(pass_costs, "time", model)
        costs = measure_pass_costs(model, max_tokens)
        return model, {cost.num_tokens: cost.forward_ns / MS for cost in costs}

    return measured


def test_two_turns_are_enough_where_times_are_steady(measure):
    model, costs = measure(lambda size, _: 1 + size / 100)
    assert costs == {size: pytest.approx(1 + size / 100) for size in costs}
    assert max(costs) == 256
    assert len(model.sizes) == 2 * len(costs)


def test_a_time_that_was_disturbed_once_is_measured_again(measure):
    model, costs = measure(lambda size, before: 40 if size == 8 and not before else 1 + size / 100)
    assert costs[8] == pytest.approx(1.08)
    assert model.sizes.count(8) == 3


def test_a_slow_model_is_measured_at_few_sizes_in_little_time(measure):
    model, costs = measure(lambda size, _: 100 + 10 * size)
    assert 2 <= len(costs) <= 4
    assert model.now_ns < 900 * MS


def test_no_size_is_larger_than_a_pass_may_be(measure):
    _, costs = measure(lambda size, _: 1 + size, max_tokens=8)
    assert [*costs] == [1, 2, 3, 4, 5, 6, 8]


def test_a_larger_pass_is_never_cheaper(measure):
    _, costs = measure(lambda size, _: 3 if size == 2 else 1)
    assert [*costs.values()] == sorted(costs.values())
