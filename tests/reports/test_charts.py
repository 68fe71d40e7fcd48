"""Where the bars of a chart on a page lie, how long they are, and what stands beside them."""

from __future__ import annotations

import re

import pytest

from deploykit.reports import _charts
from deploykit.reports._types import Bars, Spread


def rectangles(svg):
    """x, y, width, height, class of each bar, without those of the legend."""
    found = re.findall(r'<rect class="s(\d)" x="([-\d.]+)" y="([-\d.]+)" width="([-\d.]+)" height="([-\d.]+)">', svg)
    return [(*map(float, values), int(kind)) for kind, *values in found]


def test_bars_are_as_long_as_their_values():
    svg = _charts.bars(Bars("t", ["a", "b"], {"one": [4.0, None], "two": [1.0, 2.0]}, "number"))
    full = _charts.WIDTH - _charts.LABELS - _charts.VALUES
    found = rectangles(svg)
    assert [(x, width, kind) for x, _, width, _, kind in found] == [
        (150.0, full, 0),
        (150.0, pytest.approx(full / 4, abs=0.1), 1),
        (150.0, pytest.approx(full / 2, abs=0.1), 1),
    ]
    tops = [y for _, y, *_ in found]
    assert tops == [1.0, 14.0, 46.0], "one row each, with room for the value that is missing, and a gap between labels"
    assert 'viewBox="0 0 420 64"' in svg
    assert svg.count("<li>") == 2
    for word in ("one", "two", "<title>b, two: 2"):
        assert word in svg


def test_one_series_needs_no_legend_and_nothing_but_zeros_has_no_length():
    svg = _charts.bars(Bars("t", ["a"], {"one": [0.0]}, "number"))
    assert "<li>" not in svg
    assert [width for _, _, width, _, _ in rectangles(svg)] == [0.0]


def test_a_histogram_spans_the_width_and_its_highest_bar_the_height(monkeypatch):
    chart = Spread("t", {"one": [1.0] * 4 + [2.0] * 2, "none": [], "two": [1.5]}, "ms")
    monkeypatch.setattr(Spread, "shown", lambda _self: (1.0, 2.0))
    svg = _charts.spread(chart)
    step = (_charts.WIDTH - 2) / _charts.BINS
    assert [(x, y, width, height, kind) for x, y, width, height, kind in rectangles(svg)] == [
        (1.0, 4.0, pytest.approx(step - 1, abs=0.06), 50.0, 0),
        (pytest.approx(1 + 47 * step, abs=0.06), 29.0, pytest.approx(step - 1, abs=0.06), 25.0, 0),
        (pytest.approx(1 + 24 * step, abs=0.06), 66.0, pytest.approx(step - 1, abs=0.06), 50.0, 1),
    ]
    assert all(x + width <= _charts.WIDTH for x, _, width, *_ in rectangles(svg))
    assert re.findall(r'<line class="axis" x1="0" x2="420" y1="(\d+)" y2="\1"/>', svg) == ["54", "116"]
    assert 'y="134">1' in svg
    assert 'y="134" text-anchor="end">2' in svg
    assert svg.count(" ms<") == 2
    monkeypatch.setattr(Spread, "shown", lambda _self: None)
    assert _charts.spread(chart) == ""


def test_each_value_falls_into_one_bin():
    found = _charts._histogram([0.0, 0.9, 1.0, 47.0, 47.9, 48.0, 48.1], 0.0, 48.0)
    assert len(found) == 48
    assert (found[0], found[1], found[47], sum(found)) == (2, 1, 3, 6), "the last bin has its upper end, and nothing lies beyond"


@pytest.mark.parametrize(
    ("value", "short"),
    [
        (9_999, "9,999"),
        (10_000, "10 k"),
        (999_400, "999 k"),
        (999_600, "1 M"),
        (115_605_504, "116 M"),
        (2e9, "2 G"),
        (3e13, "30 T"),
    ],
)
def test_counts_beside_a_bar_are_short(value, short):
    assert _charts._short(value, "count") == short


def test_of_a_long_label_the_end_is_shown():
    assert _charts._label("a" * 22) == "a" * 22
    assert _charts._label("x" + "a" * 21 + "b") == "…" + "a" * 20 + "b"
    assert _charts._label("<&") == "&lt;&amp;"
