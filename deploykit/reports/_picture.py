"""The charts of a report as one PNG, SVG or PDF file, drawn by matplotlib.

Which charts there are, their labels and their values are the report's; a page of HTML draws the same ones (`_charts.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deploykit import files
from deploykit.errors import InputError
from deploykit.reports import _style
from deploykit.reports._types import Bars, Points, Report, Spread
from deploykit.reports._values import short, show, with_unit

FORMATS = (".png", ".svg", ".pdf")
PANEL_INCHES = 6.0  # the width of one chart
SPREAD_INCHES = 2.0  # the height of a histogram
POINTS_INCHES = 3.4  # the height of points in a plane
ROW_INCHES = 0.2  # the height of one label of a bar chart with one series
LONGEST_LABEL = 40  # characters; of a longer one the end is shown
BINS = 60


def check_picture(path: Path) -> None:
    """Raise before the long work what `draw` would raise after it: `InputError` for the suffix, `OutputError` for the file."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"a picture cannot be written as {path.name!r}", f"choose a name that ends in {', '.join(FORMATS)}")
    files.writable_file(path)


def draw(report: Report, path: Path) -> None:
    """Write the report's charts under its title: histograms in its whole width, bars side by side below them.

    Raises `InputError` for the suffix, `OutputError`, and `DependencyMissing` without matplotlib.
    """
    check_picture(path)
    charts = [chart for chart in report.charts if chart.series]
    spreads = [chart for chart in charts if isinstance(chart, (Spread, Points))]
    bars = [chart for chart in charts if isinstance(chart, Bars)]
    rows = max((len(chart.labels) for chart in bars), default=0)
    series = max((len(chart.series) for chart in bars), default=1)
    heights = [POINTS_INCHES if isinstance(chart, Points) else SPREAD_INCHES for chart in spreads]
    heights += [max(1.5, ROW_INCHES * rows * (0.5 + series / 2) + 0.7)] * bool(bars)
    figure = _style.figure(PANEL_INCHES * max(1, len(bars)), max(1.5, sum(heights) + 0.6), report.title)
    if heights:
        grid = figure.add_gridspec(len(heights), max(1, len(bars)), height_ratios=heights)
        for row, chart in enumerate(spreads):
            axes = figure.add_subplot(grid[row, :])
            if isinstance(chart, Points):
                _points(axes, chart)
            else:
                _spread(axes, chart)
        for column, bar in enumerate(bars):
            _bars(figure.add_subplot(grid[-1, column]), bar)
    with files.replacing(path) as temporary:
        _style.save(figure, temporary, path.suffix[1:].lower())


def _bars(axes: Any, chart: Bars) -> None:
    """Horizontal bars with their values, the first label on top; the bars of several series share the row of their label."""
    _style.tidy(axes, chart.title)
    places, thickness = np.arange(len(chart.labels)), 0.8 / len(chart.series)
    for index, (name, values) in enumerate(chart.series.items()):
        offset = thickness * (index - (len(chart.series) - 1) / 2)
        drawn = axes.barh(
            places + offset, [value or 0.0 for value in values], thickness, label=_style.text(name), color=_colour(index)
        )
        texts = ["" if value is None else short(value, chart.kind) for value in values]
        axes.bar_label(drawn, texts, padding=3, fontsize=_style.SMALL - 1, color=_style.SOFT)
    axes.set_yticks(places, [_style.text(label[-LONGEST_LABEL:]) for label in chart.labels], color=_style.INK)
    axes.set_ylim(len(chart.labels) - 0.4, -0.6)
    axes.margins(x=0.14)  # room for the values
    _style.readable(axes.xaxis, chart.kind)
    if len(chart.series) > 1:
        _style.legend(axes)


def _spread(axes: Any, chart: Spread) -> None:
    """One histogram per series, over each other, on the axis that `Spread.shown` gives."""
    _style.tidy(axes, chart.title)
    shown = chart.shown()
    for index, (name, values) in enumerate(chart.series.items()):
        middle = with_unit(show(float(np.median(values)), chart.kind), chart.kind) if values else ""
        label = _style.text(f"{name}: {middle}" if values else name)
        axes.hist(values, bins=BINS, range=shown, alpha=0.75, label=label, color=_colour(index))
    _style.readable(axes.xaxis, chart.kind)
    axes.set_yticks([])
    _style.legend(axes, title="median", title_fontsize=_style.SMALL, alignment="left")


def _points(axes: Any, chart: Points) -> None:
    """Points with their intervals and their names, the front as a line, the marked point larger."""
    _style.tidy(axes, chart.title, "both")
    front = chart.front()
    left, right, bottom, top = chart.shown()
    axes.plot([point.x for point in front], [point.y for point in front], color=_style.SOFT, linewidth=1.6, zorder=1)
    for point in chart.points:
        colour = _colour(1 if point.mark else 0)
        sideways = [[max(0.0, point.x - point.x_low)], [max(0.0, point.x_high - point.x)]]
        upwards = [[max(0.0, point.y - point.y_low)], [max(0.0, point.y_high - point.y)]]
        size = 9 if point.mark else 6
        axes.errorbar([point.x], [point.y], upwards, sideways, fmt="o", color=colour, elinewidth=0.8, markersize=size)
        text = _style.text(point.label[-LONGEST_LABEL:])
        side, by = ("right", -6) if point.x > left + 0.7 * (right - left) else ("left", 6)
        place = {"xytext": (by, 5), "textcoords": "offset points", "ha": side}
        axes.annotate(text, (point.x, point.y), fontsize=_style.SMALL, color=_style.INK, **place)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_xlabel(_style.text(chart.x_title), fontsize=_style.SMALL, color=_style.SOFT)
    axes.set_ylabel(_style.text(chart.y_title), fontsize=_style.SMALL, color=_style.SOFT)
    _style.readable(axes.xaxis, chart.x_kind)
    _style.readable(axes.yaxis, chart.y_kind)


def _colour(index: int) -> str:
    return _style.COLOURS[index % len(_style.COLOURS)]
