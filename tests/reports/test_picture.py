"""The charts of a report as a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from deploykit import reports
from deploykit.errors import InputError, OutputError
from deploykit.reports import Bars, Lines, Report, Spread, _style
from deploykit.reports._style import COLOURS, INK, LINE, SOFT

LAYERS = Bars(
    "ms per layer", ["conv1", "cost$of$x", "bell\a"], {"PyTorch": [1.0, None, 3.0], "ONNX Runtime": [0.5, 0.2, None]}, "ms"
)
RUNS = Spread("latency", {"torch": [1.0, 1.1, 1.2], "onnxruntime": [0.5] * 3, "nothing": []}, "ms")
REPORT = Report("lenet5: 61,706 parameters", {}, charts=(LAYERS, RUNS))


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_every_format_is_written(tmp_path, suffix):
    file = tmp_path / f"picture.{suffix.upper()}"
    reports.draw(REPORT, file)
    assert file.read_bytes().startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix])


def test_bars_stand_side_by_side(tmp_path):
    one, two, none = (tmp_path / f"{name}.png" for name in ("one", "two", "none"))
    reports.draw(REPORT, one)
    reports.draw(Report("two", {}, charts=(LAYERS, RUNS, LAYERS)), two)
    reports.draw(Report("nothing to draw", {}), none)
    widths = []
    for file in (one, two, none):
        with Image.open(file) as picture:
            widths.append(picture.width)
    assert widths == [720, 1440, 720]


def test_a_picture_shows_the_charts_of_the_report(tmp_path):
    """In SVG matplotlib writes every text beside its outlines, as a comment."""
    file = tmp_path / "picture.svg"
    reports.draw(REPORT, file)
    text = file.read_text()
    for shown in (
        "lenet5: 61,706 parameters",
        "ms per layer",
        "conv1",
        "PyTorch",
        "ONNX Runtime",
        "latency",
        "torch: 1.1 ms",
        "0.2",  # on its bar
        "bell\\x07",
    ):
        assert shown in text, shown


def test_large_numbers_are_short_on_bars_and_axes(tmp_path):
    file = tmp_path / "picture.svg"
    reports.draw(Report("t", {}, charts=(Bars("MACs", ["a", "b"], {"MACs": [11_175_434, 5_120]}, "count"),)), file)
    texts = re.findall(r"<!-- (.*?) -->", file.read_text())
    assert {"11.2 M", "5,120", "0"} <= set(texts), texts
    assert sum(text.endswith(" M") for text in texts) >= 3, "the axis, too"
    assert not any("e" in text.replace("t", "") for text in texts if text[0].isdigit()), texts


def test_pictures_have_the_colours_of_the_page():
    page = (Path(reports.__file__).parent / "_page.css").read_text().split("@media")[0]
    for name, colour in zip(("one", "two", "three", "four", "ink", "soft", "line"), (*COLOURS, INK, SOFT, LINE), strict=True):
        assert f"--{name}: {colour};" in page


def axes_of(monkeypatch, panels, best):
    """What matplotlib was told to draw."""
    figures = []
    monkeypatch.setattr(_style, "written", lambda figure, form: figures.append(figure) or b"")
    reports.curves("net on data", panels, best)
    figures[0].draw_without_rendering()
    return figures[0].axes


def test_curves_have_whole_epochs_both_losses_and_the_best_epoch(monkeypatch):
    losses = Lines("loss", [1, 2, 3], {"training": [2.0, 1.0, 0.5], "validation": [None, 1.2, 0.9]}, from_zero=True)
    reached = Lines("validation accuracy", [1, 2, 3], {"validation": [0.1, 0.9, 0.8]}, "percent", first_colour=1)
    left, right = axes_of(monkeypatch, [losses, reached], 2)
    for axes in (left, right):
        ticks = [text.get_text() for text in axes.get_xticklabels()]
        assert set(ticks) <= {"", "0", "1", "2", "3", "4"}
        assert "2" in axes.get_xlabel()
        assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"] == [2], "the best epoch"
    drawn = {line.get_label(): list(line.get_ydata()) for line in left.lines if not line.get_label().startswith("_")}
    assert drawn == {"training": [2.0, 1.0, 0.5], "validation": [1.2, 0.9]}
    assert left.get_ylim()[0] == 0
    assert all(text.get_text().endswith(" %") for text in right.get_yticklabels())
    (one,) = axes_of(monkeypatch, [Lines("loss", [1], {"training": [0.0]}, from_zero=True)], 0)
    assert one.get_xlabel() == "epoch"
    assert {text.get_text() for text in one.get_xticklabels()} <= {"", "0", "1", "2"}


def test_the_axis_leaves_out_the_slowest_hundredth():
    assert Spread("", {"a": [*range(1, 101), 5000.0], "b": [0.5]}).shown() == (0.5, 100)
    assert Spread("", {"a": [2.0, 2.0]}).shown() == (2.0, 4.0)
    assert Spread("", {"a": [0.0]}).shown() == (0.0, 1.0)
    assert Spread("", {"a": []}).shown() is None


def test_what_cannot_be_written_is_said_before_the_work(tmp_path):
    with pytest.raises(InputError, match=r"picture.doc.*\.png, \.svg, \.pdf"):
        reports.check_picture(tmp_path / "picture.doc")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        reports.check_picture(tmp_path / "file" / "picture.png")


def test_the_picture_grows_with_the_bars_that_stand_under_one_label(tmp_path):
    labels, heights = [f"layer{n}" for n in range(20)], []
    for count in (1, 2):
        chart = Bars("ms", labels, {f"engine{n}": [1.0] * 20 for n in range(count)}, "ms")
        reports.draw(Report("bars", {}, charts=(chart,)), tmp_path / "bars.png")
        with Image.open(tmp_path / "bars.png") as picture:
            heights.append(picture.height)
    assert 1.2 < heights[1] / heights[0] < 1.6, "half as much again, beside title and axis"
