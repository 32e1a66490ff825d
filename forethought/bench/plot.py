"""Lines over a common axis, as SVG. matplotlib is an extra, and is imported when it is needed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from forethought.errors import ForethoughtError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL_INCHES = (4.6, 3.4)
COLOURS = ("#3366cc", "#dd5522", "#228855", "#9944aa", "#888800")  # told apart in grey too
_MARKS = ("o", "s", "^", "D", "v")


class PlotError(ForethoughtError):
    """There is no way to draw here."""

    code = "FAILED_PRECONDITION"
    reason = "PLOT"


@dataclass(frozen=True, slots=True)
class Line:
    """Points. The same label has the same colour in all panels."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    variant: str = ""  # such as "p99": dashed, and named beside the label


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram of several that stand side by side."""

    title: str
    y_label: str
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Plot:
    """Panels over the same values of x, which are spaced by their logarithm and marked each."""

    title: str
    x_label: str
    panels: Sequence[Panel]
    is_curve: bool = False  # x is even, and there are too many values to mark them


def require_matplotlib() -> None:
    """Raises PlotError where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise PlotError("--plot needs matplotlib: pip install 'forethought[bench]'")


def require_plot(path: Path) -> None:
    """Call it before hours of measurement, not after.

    Raises:
        PlotError: matplotlib is not installed, or nothing can be drawn there.
    """
    require_matplotlib()
    from matplotlib.backend_bases import FigureCanvasBase  # noqa: PLC0415

    formats = FigureCanvasBase.get_supported_filetypes()
    suffix = path.suffix.lower().removeprefix(".")
    if suffix and suffix not in formats:
        raise PlotError(f"--plot {path}: there is no format {suffix}, but {', '.join(formats)}")
    if not path.parent.is_dir():
        raise PlotError(f"--plot {path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PlotError(f"--plot {path}: cannot be written")


def write_plot(path: Path, plot: Plot) -> None:
    """Draws to `path`, in the format of its suffix.

    Raises:
        PlotError: matplotlib is not installed, or it cannot write there.
    """
    figure = new_figure(plot.title, len(plot.panels))
    ticks = sorted({x for panel in plot.panels for line in panel.lines for x in line.x})
    styles = _styles(plot)
    for index, panel in enumerate(plot.panels):
        axes = figure.add_subplot(1, len(plot.panels), index + 1)
        for line in panel.lines:
            colour, mark = styles[line.label]
            if plot.is_curve:
                mark = ""
            dashes = "--" if line.variant else "-"
            name = f"{line.label} {line.variant}".rstrip()
            axes.plot(line.x, line.y, dashes, color=colour, marker=mark, label=name)
        axes.set(title=panel.title, xlabel=plot.x_label, ylabel=panel.y_label)
        if not plot.is_curve:
            axes.set_xscale("log", base=2)
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, path)


def new_figure(title: str, num_panels: int) -> "Figure":
    """Room for panels side by side.

    Raises:
        PlotError: matplotlib is not installed.
    """
    require_matplotlib()
    # Without pyplot: no display, no state that outlives it.
    from matplotlib.figure import Figure  # noqa: PLC0415

    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * num_panels, height), layout="constrained")
    figure.suptitle(title)
    return figure


def save_figure(figure: "Figure", path: Path) -> None:
    """Draws to `path`, in the format of its suffix.

    Raises:
        PlotError: it cannot write there.
    """
    from matplotlib import rc_context  # noqa: PLC0415

    try:
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": "forethought"}):
            figure.savefig(path, metadata=None)
    except (OSError, ValueError) as error:
        raise PlotError(f"cannot draw {path}: {error}") from error


def _styles(plot: Plot) -> dict[str, tuple[str, str]]:
    labels = dict.fromkeys(line.label for panel in plot.panels for line in panel.lines)
    return {
        label: (COLOURS[index % len(COLOURS)], _MARKS[index % len(_MARKS)])
        for index, label in enumerate(labels)
    }
