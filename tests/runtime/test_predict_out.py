"""`predict` with `out`: what it writes beside its answers, from files and from standard input; and what it prints of each task."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image
from small_models import build

from deploykit.errors import InputError
from deploykit.runtime import Candidate, Detection, Detections, MultiLabel, Predictions, Quantity, Regression, Segmentation, predict
from deploykit.runtime.contract import Contract, ImageInput, SegmentationOutput


@pytest.fixture
def colours(save: Callable[..., Path]) -> Path:
    """The input itself as scores of three labels."""
    shape = ["batch", 3, 8, 8]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("input", "scores")]
    model = build([helper.make_node("Identity", ["input"], ["scores"])], values[:1], values[1:])
    return save(model, Contract(ImageInput(3, 8, 8, fit="letterbox"), SegmentationOutput(labels=("red", "green", "blue"))))


def png(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (12, 9), colour).save(stream, "PNG")
    return stream.getvalue()


def test_files_and_standard_input(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "red.png").write_bytes(png((255, 0, 0)))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(png((0, 255, 0)))))
    found = predict(colours, ["red.png", "-", "none.png"], device="cpu", out="found")
    assert [answer.path for answer in found] == ["red.png", "-", "none.png"]
    assert [answer.ok for answer in found] == [True, True, False]
    assert isinstance(found[1], Segmentation)
    assert [area.label for area in found[1].areas] == ["green"]
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == [
        "input.mask.png", "input.overlay.png", "predictions.csv", "predictions.jsonl", "red.mask.png", "red.overlay.png",
    ]  # fmt: skip
    with Image.open(tmp_path / "found" / "input.mask.png") as image:
        assert image.size == (12, 9)
        assert (np.asarray(image) == 1).all()


def test_standard_input_that_holds_nothing(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO()))
    with pytest.raises(InputError, match="standard input has no bytes left"):
        predict(colours, "-", device="cpu")


def test_a_file_of_that_name_is_a_file(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").write_bytes(png((0, 0, 255)))
    (found,) = predict(colours, "-", device="cpu", out="a.csv")
    assert isinstance(found, Segmentation)
    assert [area.label for area in found.areas] == ["blue"]
    assert (tmp_path / "a.csv").read_text() == "path,label,index,share\n-,blue,2,1.0\n"


def test_what_is_printed_of_each_task() -> None:
    pytest.importorskip("rich")
    boxes = tuple(Detection("c\x1b[2J", 0.9, 0, (0.0, 0.0, 1.0, 1.0)) for _ in range(7))
    candidate = Candidate("a", 0.75, 0)
    text = str(
        Predictions(
            [
                MultiLabel(labels=(candidate,), top=(candidate,)),
                Detections(detections=boxes, size=(2, 2)),
                Detections(size=(2, 2)),
                Regression(values=np.ones(1, np.float32), quantities=(Quantity("width", 1.0, "mm"),)),
            ]
        )
    )
    assert "a 0.7500" in text
    assert "2 more" in text
    assert "nothing" in text
    assert "width 1 mm" in text
    assert "\x1b" not in text
