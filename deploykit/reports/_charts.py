"""Charts as SVG text for a page of HTML: the colours come from the page's style, and every bar tells its value under the pointer.

By hand, because a page is also made where matplotlib is not installed, and its charts follow the reader's light or dark setting.
`_picture.py` draws the same charts for a file of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from deploykit.reports._types import Bars, Kind, Spread
from deploykit.reports._values import printable, show

WIDTH = 420  # narrow, so that a phone shows the texts at a legible size
LABELS = 150
VALUES = 52
ROW, GAP = 13, 6
BINS = 48
COLOURS = 4
LONGEST_LABEL = 22


def bars(chart: Bars) -> str:
    """Horizontal bars, grouped by label, each with its value at the end."""
    names = list(chart.series)
    largest = max((value for values in chart.series.values() for value in values if value is not None), default=0.0) or 1.0
    parts, y = [], 0
    for index, label in enumerate(chart.labels):
        parts.append(f'<text x="{LABELS - 8}" y="{y + ROW - 2}" text-anchor="end">{_label(label)}</text>')
        for number, name in enumerate(names):
            value = chart.series[name][index]
            if value is not None:
                length = max(0.0, value) / largest * (WIDTH - LABELS - VALUES)
                tip = f"{_text(label)}, {_text(name)}: {_text(show(value, chart.kind))}"
                parts.append(_bar(number, LABELS, y + 1, length, ROW - 2, tip))
                parts.append(
                    f'<text class="soft" x="{LABELS + length + 5:.1f}" y="{y + ROW - 2}">{_short(value, chart.kind)}</text>'
                )
            y += ROW
        y += GAP
    return _legend(names) + _svg(parts, y, chart.title)


def spread(chart: Spread) -> str:
    """One histogram per series, below each other, on the axis that `Spread.shown` gives."""
    series = {name: values for name, values in chart.series.items() if values}
    shown = chart.shown()
    if shown is None:
        return ""
    low, high = shown
    height, parts, y = 54, [], 0
    for number, (name, values) in enumerate(series.items()):
        counts = _histogram(values, low, high)
        step = (WIDTH - 2) / BINS
        for index, count in enumerate(counts):
            if count:
                tall = count / max(counts) * (height - 4)
                parts.append(_bar(number, 1 + index * step, y + height - tall, step - 1, tall, f"{_text(name)}: {count}"))
        y += height
        parts.append(f'<line class="axis" x1="0" x2="{WIDTH}" y1="{y}" y2="{y}"/>')
        y += 8
    parts.append(f'<text class="soft" x="0" y="{y + 10}">{_text(_with_unit(low, chart.kind))}</text>')
    parts.append(f'<text class="soft" x="{WIDTH}" y="{y + 10}" text-anchor="end">{_text(_with_unit(high, chart.kind))}</text>')
    return _legend(list(series)) + _svg(parts, y + 16, chart.title)


def _short(value: float, kind: Kind) -> str:
    """What fits beside a bar: 115,605,504 as 116 M; the whole number is in the bar's tip."""
    if kind != "count" or abs(value) < 10_000:
        return _text(show(value, kind))
    power = min(4, int(math.log10(abs(value) * 1.0005) // 3))
    return f"{value / 1000**power:.3g} {' kMGT'[power]}"


def _bar(number: int, x: float, y: float, width: float, height: float, tip: str) -> str:
    box = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="s{number % COLOURS}" {box}><title>{tip}</title></rect>'


def _histogram(values: Sequence[float], low: float, high: float) -> list[int]:
    counts = [0] * BINS
    for value in values:
        if value <= high:
            counts[min(BINS - 1, int((value - low) / (high - low) * BINS))] += 1
    return counts


def _with_unit(value: float, kind: Kind) -> str:
    return f"{show(value, kind)} ms" if kind == "ms" else show(value, kind)


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    mark = '<svg viewBox="0 0 1 1" aria-hidden="true"><rect class="s{}" width="1" height="1"/></svg>'
    return '<ul class="legend">' + "".join(f"<li>{mark.format(i % COLOURS)}{_text(n)}</li>" for i, n in enumerate(names)) + "</ul>"


def _svg(parts: Sequence[str], height: int, title: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {max(1, height)}" role="img" aria-label="{_text(title)}">{"".join(parts)}</svg>'


def _label(text: str) -> str:
    """The end of a long path says more than its beginning."""
    short = text if len(text) <= LONGEST_LABEL else "…" + text[1 - LONGEST_LABEL :]
    return _text(short)


def _text(text: str) -> str:
    return escape(printable(text), quote=True)
