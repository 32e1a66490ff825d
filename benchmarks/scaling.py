"""A day of a simulated deployment under the autoscaler, as `docs/scaling.svg`.

python -m benchmarks.scaling docs/scaling.svg

Load is least at night; from 13 to 19 o'clock texts are such that no draft is accepted. An hour of
the day takes five minutes of simulated time; the times of the autoscaler are those of its defaults.
"""

import argparse
from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from statistics import fmean

from forethought.bench.plot import COLOURS, new_figure, save_figure
from tests.autoscaler.simulation import Moment, Scenario, Simulation, diurnal

HOUR_S = 300.0
USELESS = 13.0, 19.0


def scenario() -> Scenario:
    """Passes of half a second make a day of some hundred thousand rounds."""

    def acceptance(now_s: float) -> float:
        return 0.02 if USELESS[0] < now_s / HOUR_S < USELESS[1] else 0.75

    return Scenario(
        24 * HOUR_S,
        diurnal(24 * HOUR_S, 0.03, 0.9),
        acceptance,
        pass_s=lambda n: max(0.5, 0.5 * n / 96),
        draft_step_s=lambda n: 0.04 + 0.002 * n,
        sessions_a_target=8,
        remembered_s=2 * HOUR_S,
    )


def draw(day: Sequence[Moment], path: Path) -> None:
    """Load, replicas of each tier, and what sessions get, one below the other."""
    figure = new_figure("A day under the autoscaler", 2)
    figure.set_size_inches(11.0, 8.0)
    hours = [each.now_s / HOUR_S for each in day]
    panels = figure.subplots(4, 1, sharex=True)
    panels[0].plot(hours, [each.num_sessions for each in day], color=COLOURS[0], label="sessions")
    panels[0].plot(
        hours, [each.num_waiting for each in day], color=COLOURS[1], label="that wait for a target"
    )
    for axes, name, serving, wanted in (
        (panels[1], "targets", [e.targets for e in day], [e.targets_wanted for e in day]),
        (panels[2], "drafts", [e.drafts for e in day], [e.drafts_wanted for e in day]),
    ):
        axes.step(hours, serving, where="post", color=COLOURS[2], label=f"{name} that serve")
        axes.step(hours, wanted, "--", where="post", color=COLOURS[3], label=f"{name} wanted")
    panels[3].plot(hours, _smooth([each.mean_k for each in day]), color=COLOURS[4], label="K")
    for axes in panels:
        axes.axvspan(*USELESS, color="0.9", label="drafts are useless")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    panels[-1].set(xlabel="hour", xlim=(0, 24), xticks=range(0, 25, 3))
    save_figure(figure, path)


def _smooth(values: Sequence[float]) -> list[float]:
    """Means of two minutes; no session has no K."""
    spans = (values[max(end - 24, 0) : end + 1] for end in range(len(values)))
    known = ([value for value in span if not isnan(value)] for span in spans)
    return [fmean(span) if span else nan for span in known]


def main() -> None:
    """Plays the day, and draws it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="of the picture, such as docs/scaling.svg")
    path = parser.parse_args().path
    draw(Simulation(scenario()).play(), path)


if __name__ == "__main__":
    main()
