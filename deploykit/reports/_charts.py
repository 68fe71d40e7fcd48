"""Charts as HTML for a page: the colours come from the page's style, and every bar tells its value under the pointer.

By hand, because a page is also made where matplotlib is not installed, and its charts follow the reader's light or dark setting.
Texts are never scaled, so a chart may be as wide as the page or a phone. `_picture.py` draws the same charts for a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from deploykit.reports._types import Bars, Kind, Point, Points, Spread
from deploykit.reports._values import printable, short, show, with_unit

BINS = 60
COLOURS = 4
LONGEST_LABEL = 28
HEIGHT = 54  # of one histogram, in pixels
ROW = 0.95  # the height of one bar, in the size of the page's text


def bars(chart: Bars, series: int = 1) -> str:
    """Horizontal bars, grouped by label, each with its value at the end. `series`: for how many of them a label gets room."""
    names = list(chart.series)
    largest = max((value for values in chart.series.values() for value in values if value is not None), default=0.0) or 1.0
    rows = []
    for index, label in enumerate(chart.labels):
        values = [(number, name, chart.series[name][index]) for number, name in enumerate(names)]
        drawn = [_bar(number, value / largest, _tip(label, name, value, chart.kind), short(value, chart.kind))
                 for number, name, value in values if value is not None]  # fmt: skip
        rows.append(f'<span class="label" title="{_text(label)}">{_label(label)}</span><div>{"".join(drawn)}</div>')
    room = f' style="--room:{ROW * max(series, len(names)):.2f}em"'
    return f'{_legend(names, series)}<div class="bars" {_named(chart.title)}{room}>{"".join(rows)}</div>'


def spread(chart: Spread) -> str:
    """One histogram per series, below each other, on the axis that `Spread.shown` gives."""
    series = {name: values for name, values in chart.series.items() if values}
    shown = chart.shown()
    if shown is None:
        return ""
    low, high = shown
    drawn = [_histogram(number, name, _counts(values, low, high)) for number, (name, values) in enumerate(series.items())]
    ends = "".join(f"<span>{_text(with_unit(show(end, chart.kind), chart.kind))}</span>" for end in (low, high))
    return f'{_legend(list(series))}<div {_named(chart.title)}>{"".join(drawn)}</div><p class="ends">{ends}</p>'


def points(chart: Points) -> str:
    """Circles with their intervals as crosses, the front as a line, the marked point larger; each tells its values."""
    if not chart.points:
        return ""
    left, right, bottom, top = chart.shown()

    def at(x: float, y: float) -> tuple[str, str]:
        return f"{100 * (x - left) / (right - left):.2f}%", f"{100 - 100 * (y - bottom) / (top - bottom):.2f}%"

    front = chart.front()
    parts = [_line(at(a.x, a.y), at(b.x, b.y), "stroke-width:2") for a, b in pairwise(front)]
    for point in chart.points:
        parts.append(_line(at(point.x_low, point.y), at(point.x_high, point.y), "opacity:.5"))
        parts.append(_line(at(point.x, point.y_low), at(point.x, point.y_high), "opacity:.5"))
        x, y = at(point.x, point.y)
        size, colour = (7, "s1") if point.mark else (5, "s0")
        parts.append(f'<circle class="{colour}" cx="{x}" cy="{y}" r="{size}"><title>{_values(chart, point)}</title></circle>')
        beside = 'text-anchor="end" dx="-9"' if point.x > left + 0.7 * (right - left) else 'dx="9"'
        style = "font-size:12px;fill:currentColor"
        parts.append(f'<text x="{x}" y="{y}" {beside} dy="-7" style="{style}">{_label(point.label)}</text>')
    ends = "".join(f"<span>{_text(with_unit(show(end, chart.x_kind), chart.x_kind))}</span>" for end in (left, right))
    style = "display:block;width:100%;height:240px;border-bottom:1px solid var(--line);border-left:1px solid var(--line)"
    high = with_unit(show(top, chart.y_kind), chart.y_kind)
    return (
        f'<p class="soft">{_text(chart.y_title)}, up to {_text(high)}; the line is the front</p>'
        f'<svg {_named(chart.title)} style="{style}">{"".join(parts)}</svg><p class="ends">{ends}</p>'
        f'<p class="soft">{_text(chart.x_title)}</p>'
    )


def _line(begin: tuple[str, str], end: tuple[str, str], style: str) -> str:
    return f'<line x1="{begin[0]}" y1="{begin[1]}" x2="{end[0]}" y2="{end[1]}" style="stroke:var(--soft);{style}"></line>'


def _values(chart: Points, point: Point) -> str:
    x, y = (with_unit(show(v, kind), kind) for v, kind in ((point.x, chart.x_kind), (point.y, chart.y_kind)))
    return f"{_text(point.label)}: {_text(x)}, {_text(y)}"


def _named(title: str) -> str:
    return f'role="img" aria-label="{_text(title)}"'


def _bar(number: int, share: float, tip: str, value: str) -> str:
    """A bar of `share` of the width that is left beside its value."""
    style = f"width:calc((100% - var(--value)) * {max(0.0, share):.4f})"
    filled = f'<span class="bar s{number % COLOURS}" style="{style}"></span>'
    return f'<div class="row" title="{tip}">{filled}<span class="soft">{_text(value)}</span></div>'


def _tip(label: str, name: str, value: float, kind: Kind) -> str:
    return f"{_text(label)}, {_text(name)}: {_text(with_unit(show(value, kind), kind))}"


def _histogram(number: int, name: str, counts: Sequence[int]) -> str:
    parts = []
    for index, count in enumerate(counts):
        if count:
            tall = count / max(counts) * (HEIGHT - 4)
            box = f'x="{index + 0.06:.2f}" y="{HEIGHT - tall:.1f}" width="0.88" height="{tall:.1f}"'
            parts.append(f'<rect class="s{number % COLOURS}" {box}><title>{_text(name)}: {count}</title></rect>')
    return f'<svg class="histogram" viewBox="0 0 {BINS} {HEIGHT}" preserveAspectRatio="none">{"".join(parts)}</svg>'


def _counts(values: Sequence[float], low: float, high: float) -> list[int]:
    counts = [0] * BINS
    for value in values:
        if value <= high:
            counts[min(BINS - 1, int((value - low) / (high - low) * BINS))] += 1
    return counts


def _legend(names: Sequence[str], beside: int = 1) -> str:
    """What the colours are; also of a single one where charts beside it have `beside` of them, so that all begin at one height."""
    if max(len(names), beside) < 2:
        return ""
    marks = "".join(f'<li><span class="mark s{i % COLOURS}"></span>{_text(name)}</li>' for i, name in enumerate(names))
    return f'<ul class="legend">{marks}</ul>'


def _label(text: str) -> str:
    """The end of a long path says more than its beginning."""
    cut = text if len(text) <= LONGEST_LABEL else "…" + text[1 - LONGEST_LABEL :]
    return _text(cut)


def _text(text: str) -> str:
    return escape(printable(text), quote=True)
