"""Points in a plane: the front, and the chart on a page and in a picture."""

from __future__ import annotations

import pytest

from deploykit import reports
from deploykit.reports import Point, Points, Report

CHART = Points(
    "time & accuracy", "time", "drop",
    [Point("<base>", 1.0, 1.0, 1.0, 0.0, 0.0, 0.0), Point("fast", 0.5, 0.45, 0.55, 0.01, 0.0, 0.02, mark=True),
     Point("bad", 0.7, 0.6, 0.8, 0.02, 0.01, 0.03)], "percent", "percent",
)  # fmt: skip


def test_the_front_is_what_nothing_beats_on_both_axes():
    assert [point.label for point in CHART.front()] == ["fast", "<base>"]
    left, right, bottom, top = CHART.shown()
    assert left < 0.45
    assert right > 1.0
    assert bottom < 0.0
    assert top > 0.03


def test_a_page_has_a_circle_per_point_and_escapes_names():
    page = reports.render(Report("t", {}, charts=[CHART]), "html")
    assert page.count("<circle") == 3
    assert "&lt;base&gt;: 100.0 %" in page
    assert "<base>" not in page
    assert "the line is the front" in page


def test_without_points_there_is_no_chart():
    assert "<circle" not in reports.render(Report("t", {}, charts=[Points("none", "x", "y", [])]), "html")


def test_a_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    reports.draw(Report("t", {}, charts=[CHART]), tmp_path / "points.png")
    assert (tmp_path / "points.png").stat().st_size > 5000
