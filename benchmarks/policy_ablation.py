"""What each constant of the policy is there for: scenarios in simulated time, with it and without.

python -m benchmarks.policy_ablation [--seeds 2] [--processes 2] > ablation.md

The first table has the policy as it is: its tokens a second over those of plain decoding, and over
those of the best fixed K, in each scenario. The second one has a row for each change of a constant,
with the scenario that loses most by it, as a share of the speed without the change.
"""

import argparse
import importlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import fmean

from tests.orchestrator.policy_scenarios import scenarios

CHANGES: Mapping[str, tuple[float, ...]] = {
    # Of each constant a smaller and a larger value; 0 or a huge one does without the rule.
    "acceptance.OPTIMISM": (0.4, 1.0),
    "acceptance.PRIOR_WEIGHT": (1.0, 16.0),
    "acceptance.DEPLOYMENT_MEMORY": (25.0, 400.0),
    "acceptance.MEMORY": (6.0, 96.0),
    "round_times.SURPRISE": (1.5, 1e9),
    "governor.ROUNDS_TO_HOLD": (2, 16),
    "governor.MAX_GAIN": (0.0, 1e9),
    "governor.EXPLORATION_SHARE": (0.0, 0.1),
    "governor.CLEARLY": (1.0, 1.2),
    "governor.MIN_TIMEOUT_S": (0.0, 0.2),
    "governor.DECISIONS_TO_TRIAL": (3, 1_000_000),
}
_SHARED = {"MEMORY": "round_times", "SURPRISE": "governor", "CLEARLY": "demand"}
"""Modules that have a constant of another one by name."""


def speeds(change: tuple[str, float] | None, seeds: int, name: str) -> float:
    """Tokens a second of the adaptive policy in a scenario."""
    if change is not None:
        where, value = change
        module, constant = where.split(".")
        also = (_SHARED[constant],) if constant in _SHARED else ()
        for each in (module, *also):
            setattr(importlib.import_module(f"orchestrator.policy.{each}"), constant, value)
    scenario = scenarios()[name]
    return fmean(scenario.tokens_per_s(None, seed) for seed in range(seeds))


def fixed_speeds(seeds: int, name: str) -> dict[int, float]:
    """The same for each fixed K."""
    scenario = scenarios()[name]
    runs = [scenario.fixed(100 + seed) for seed in range(seeds)]
    return {k: fmean(run[k] for run in runs) for k in runs[0]}


def table(rows: Iterable[Iterable[str]]) -> None:
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Ablation of the policy's constants.")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    names = list(scenarios())

    def measure(change: tuple[str, float] | None) -> dict[str, float]:
        # Processes of their own, since a change is made to the modules.
        with ProcessPoolExecutor(options.processes) as pool:
            return dict(
                zip(names, pool.map(partial(speeds, change, options.seeds), names), strict=True)
            )

    with ProcessPoolExecutor(options.processes) as pool:
        fixed = dict(zip(names, pool.map(partial(fixed_speeds, options.seeds), names), strict=True))
    as_it_is = measure(None)
    table([("scenario", "to plain", "to the best fixed K"), ("---", "---:", "---:")])
    for name, speed in as_it_is.items():
        best = max(fixed[name].values()) if len(fixed[name]) > 1 else 0.0
        to_best = f"{speed / best:.3f}" if best else ""
        table([(name, f"{speed / fixed[name][0]:.3f}", to_best)])
    print()
    table([("constant", "value", "loses most", "keeps"), ("---", "---:", "---", "---:")])
    for where, values in CHANGES.items():
        for value in values:
            changed = measure((where, value))
            keeps = {name: changed[name] / as_it_is[name] for name in names}
            worst = min(keeps, key=keeps.__getitem__)
            table([(f"`{where.split('.')[1]}`", f"{value:g}", worst, f"{keeps[worst]:.2f}")])


if __name__ == "__main__":
    main()
