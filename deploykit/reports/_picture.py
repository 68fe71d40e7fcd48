"""The charts of a report as one PNG, SVG or PDF file, drawn by matplotlib.

Which charts there are, their labels and their values are the report's; a page of HTML draws the same ones (`_charts.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deploykit import files
from deploykit.errors import DependencyMissing, InputError
from deploykit.reports._types import Bars, Report, Spread
from deploykit.reports._values import printable, show

FORMATS = (".png", ".svg", ".pdf")
COLOURS = ("#2f6fb3", "#d0762a", "#4a9a5b", "#9a5bb0")
PANEL_INCHES = 6.0  # the width of one chart
ROW_INCHES = 0.22  # the height of one label of a bar chart
LONGEST_LABEL = 40  # characters; of a longer one the end is shown
BINS = 60


def check_picture(path: Path) -> None:
    """Raise before the long work what `draw` would raise after it: `InputError` for the suffix, `OutputError` for the file."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"a picture cannot be written as {path.name!r}", f"choose a name that ends in {', '.join(FORMATS)}")
    files.writable_file(path)


def draw(report: Report, path: Path) -> None:
    """Write the report's charts side by side, under its title.

    Raises `InputError` for the suffix, `OutputError`, and `DependencyMissing` without matplotlib.
    """
    check_picture(path)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyMissing.of("matplotlib", "export") from error

    charts = [chart for chart in report.charts if chart.series]
    rows = max((len(chart.labels) for chart in charts if isinstance(chart, Bars)), default=0)
    size = (PANEL_INCHES * max(1, len(charts)), max(3.0, ROW_INCHES * rows + 1.6))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_text(report.title))
    if charts:
        for axes, chart in zip(np.atleast_1d(figure.subplots(1, len(charts))), charts, strict=True):
            _bars(axes, chart) if isinstance(chart, Bars) else _spread(axes, chart)
            axes.set_title(_text(chart.title), fontsize=10)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=120)


def _bars(axes: Any, chart: Bars) -> None:
    """Horizontal bars, the first label on top; the bars of several series share the row of their label."""
    places, thickness = np.arange(len(chart.labels)), 0.8 / len(chart.series)
    for index, (name, values) in enumerate(chart.series.items()):
        offset = thickness * (index - (len(chart.series) - 1) / 2)
        colour = COLOURS[index % len(COLOURS)]
        axes.barh(places + offset, [value or 0.0 for value in values], thickness, label=_text(name), color=colour)
    axes.set_yticks(places, [_text(label[-LONGEST_LABEL:]) for label in chart.labels])
    axes.tick_params(axis="y", labelsize=8)
    axes.invert_yaxis()
    if len(chart.series) > 1:
        axes.legend()


def _spread(axes: Any, chart: Spread) -> None:
    """One histogram per series, over each other, on the axis that `Spread.shown` gives."""
    shown = chart.shown()
    for index, (name, values) in enumerate(chart.series.items()):
        middle = _text(f"{name}: {show(float(np.median(values)), chart.kind)}" if values else name)
        axes.hist(values, bins=BINS, range=shown, alpha=0.6, label=middle, color=COLOURS[index % len(COLOURS)])
    axes.legend()


def _text(text: str) -> str:
    """Without control characters, and with dollar signs that start no formula."""
    return printable(text).replace("$", r"\$")
