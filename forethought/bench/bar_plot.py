"""Bars in groups, as SVG: what has no order, such as kinds of prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forethought.bench.plot import COLOURS, new_figure, save_figure

_GROUP_WIDTH = 0.8  # of the distance between groups


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar in each group, in the same colour."""

    label: str
    heights: Sequence[float]  # a group each
    notes: Sequence[str] = ()  # written above the bars


@dataclass(frozen=True, slots=True)
class BarPanel:
    """One diagram of several that stand side by side."""

    title: str
    y_label: str
    groups: Sequence[str]
    bars: Sequence[Bars]


@dataclass(frozen=True, slots=True)
class BarPlot:
    """Panels with a common title."""

    title: str
    panels: Sequence[BarPanel]


def write_bar_plot(path: Path, plot: BarPlot) -> None:
    """Draws to `path`, in the format of its suffix.

    Raises:
        PlotError: matplotlib is not installed, or it cannot write there.
    """
    figure = new_figure(plot.title, len(plot.panels))
    for index, panel in enumerate(plot.panels):
        axes = figure.add_subplot(1, len(plot.panels), index + 1)
        width = _GROUP_WIDTH / max(len(panel.bars), 1)
        for place, bars in enumerate(panel.bars):
            x = [
                group - _GROUP_WIDTH / 2 + (place + 0.5) * width
                for group in range(len(bars.heights))
            ]
            drawn = axes.bar(x, bars.heights, width, color=COLOURS[place], label=bars.label)
            if bars.notes:
                axes.bar_label(drawn, bars.notes, fontsize="small")
        axes.set(title=panel.title, ylabel=panel.y_label)
        axes.set_xticks(range(len(panel.groups)), panel.groups, rotation=30, ha="right")
        axes.margins(y=0.15)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend()
    save_figure(figure, path)
