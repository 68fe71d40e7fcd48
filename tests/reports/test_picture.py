"""The charts of a report as a file."""

from __future__ import annotations

import pytest
from PIL import Image

from deploykit import reports
from deploykit.errors import InputError, OutputError
from deploykit.reports import Bars, Report, Spread

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


def test_charts_stand_side_by_side(tmp_path):
    one, two, none = (tmp_path / f"{name}.png" for name in ("one", "two", "none"))
    reports.draw(Report("one", {}, charts=(LAYERS,)), one)
    reports.draw(REPORT, two)
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
        "torch: 1.1",
        "bell\\x07",
    ):
        assert shown in text, shown


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
