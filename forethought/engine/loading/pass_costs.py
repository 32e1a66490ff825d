"""What a forward pass takes by its size, measured once, when a tier starts.

Whoever decides how much to speculate has to know what it costs before it has tried. So a tier
computes a few passes of each size, of the kind that verification makes, and tells what they took.
"""

import time
from itertools import accumulate

from forethought.engine.model.causal_model import CausalModel, device_of
from forethought.engine.model.packed import BLOCK_LEN, SequencePart, pack
from forethought.tier import PassCost

_SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)
_TOKENS_PER_SEQUENCE = 4
_MAX_REPEATS = 5
_STEADY = 0.97
"""Of a best time: what is above it is not news."""


def measure_pass_costs(
    model: CausalModel, max_tokens: int, budget_s: float = 0.6
) -> tuple[PassCost, ...]:
    """The best time of some passes of each size, smallest first.

    All sizes in turns, until a turn brings nothing new: two on a quiet machine.

    Args:
        model: warm. Its cache is made anew.
        max_tokens: in a pass.
        budget_s: how long to measure. Sizes that do not fit in are left out, all but the first two.
    """
    model.allocate(2)
    started = time.perf_counter()

    def spent() -> float:
        return (time.perf_counter() - started) / budget_s

    best: dict[int, int] = {}
    for size in _SIZES:
        if size > max_tokens or (len(best) >= 2 and spent() > 0.5):
            break
        best[size] = _time_pass(model, size)
    for _ in range(_MAX_REPEATS - 1):
        before = dict(best)
        for size, known in before.items():
            if spent() < 1:
                best[size] = min(known, _time_pass(model, size))
        if all(best[size] > _STEADY * known for size, known in before.items()):
            break
    # What disturbs a measurement makes it longer, and a larger pass is never cheaper.
    least = accumulate(reversed(best.values()), min)
    costs = zip(best, reversed(list(least)), strict=True)
    return tuple(PassCost(size, forward_ns) for size, forward_ns in costs)


def _time_pass(model: CausalModel, num_tokens: int) -> int:
    """Nanoseconds of a pass over sequences of some tokens each, all of them scored."""
    sizes = [_TOKENS_PER_SEQUENCE] * (num_tokens // _TOKENS_PER_SEQUENCE)
    if rest := num_tokens % _TOKENS_PER_SEQUENCE:
        sizes.append(rest)
    # They share their blocks: what is computed does not matter.
    packed = pack([SequencePart([0] * n, BLOCK_LEN, (0, 1), n) for n in sizes], device_of(model))
    started = time.perf_counter_ns()
    # Copied, so that a device has finished when the time is taken.
    model.forward(packed)[:1, :1].cpu()
    return time.perf_counter_ns() - started
