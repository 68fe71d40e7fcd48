"""Points in a plane: the front, and the chart on a page and in a picture."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from deploykit import reports
from deploykit.reports import Point, Points, Report, _picture, _style

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


def test_labels_stand_beside_their_points_on_the_side_that_has_room(monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.text import Annotation

    figures = []
    monkeypatch.setattr(_style, "save", lambda figure, *_: figures.append(figure))
    monkeypatch.setattr(_picture.files, "replacing", lambda path: contextlib.nullcontext(path))
    _picture.draw(Report("t", {}, charts=[CHART]), Path("points.png"))
    (axes,) = figures[0].axes
    labels = {each.get_text(): each for each in axes.texts if isinstance(each, Annotation)}
    told = {name: (each.xy, each.xyann, each.get_ha(), each.anncoords) for name, each in labels.items()}
    assert told == {
        "<base>": ((1.0, 0.0), (-6, 5), "right", "offset points"),
        "fast": ((0.5, 0.01), (6, 5), "left", "offset points"),
        "bad": ((0.7, 0.02), (6, 5), "left", "offset points"),
    }
    (left, right, bottom, top) = CHART.shown()
    assert (*axes.get_xlim(), *axes.get_ylim()) == pytest.approx((left, right, bottom, top))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time", "drop")
    line = axes.lines[0]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0.5, 1.0], [0.01, 0.0]), "the front"
    assert [(c.lines[0].get_markersize(), c.lines[0].get_color()) for c in axes.containers] == [
        (6, _style.COLOURS[0]), (9, _style.COLOURS[1]), (6, _style.COLOURS[0]),
    ]  # fmt: skip
    (sideways, upwards) = (bars.get_segments()[0] for bars in axes.containers[1].lines[2])
    assert sideways.tolist() == pytest.approx(np.array([[0.45, 0.01], [0.55, 0.01]]))
    assert upwards.tolist() == pytest.approx(np.array([[0.5, 0.0], [0.5, 0.02]]))
