"""Which ways to write a graph for onnxruntime's convolutions are tried, and what they are called."""

from __future__ import annotations

import math

import onnx
import pytest

from deploykit.tuner import blocked_layout, parts
from deploykit.tuner.layout import Layout, layouts, written

SMALL = blocked_layout.SMALL


@pytest.mark.parametrize(
    ("count", "small", "wide", "found"),
    [
        (0, 0, False, []),
        (3, 3, False, [Layout(math.inf)]),
        (3, 0, False, [Layout(math.inf)]),
        (3, 2, False, [Layout(SMALL), Layout(math.inf)]),
        (0, 0, True, [Layout(parts=True)]),
        (3, 3, True, [Layout(math.inf, True), Layout(0, True), Layout(math.inf)]),
        (3, 2, True, [Layout(SMALL, True), Layout(math.inf, True), Layout(0, True), Layout(SMALL)]),
    ],
)
def test_which_are_tried(monkeypatch, count, small, wide, found):
    monkeypatch.setattr(blocked_layout, "gates", lambda model, most=math.inf: count if most == math.inf else small)
    monkeypatch.setattr(parts, "wide", lambda model: ["something"] * wide)
    assert layouts(onnx.ModelProto()) == found
    assert len(found) <= 4, "as many as are timed at once"


def test_what_they_are_called():
    assert Layout().name == ""
    assert Layout(math.inf).name == "gates in blocks"
    assert Layout(SMALL, parts=True).name == "small gates in blocks, wide layers in parts"
    assert Layout(parts=True).name == "wide layers in parts"


def test_each_part_of_it_is_written(monkeypatch):
    monkeypatch.setattr(blocked_layout, "blocked", lambda model, most: (model, most))
    monkeypatch.setattr(parts, "in_parts", lambda model: (model, "parts"))
    assert written("model", Layout()) == "model"
    assert written("model", Layout(5)) == ("model", 5)
    assert written("model", Layout(5, parts=True)) == (("model", 5), "parts")
    assert written("model", Layout(parts=True)) == ("model", "parts")
