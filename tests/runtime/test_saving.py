"""Answers as files: tables, and a folder of pictures; every file whole, and no name or label more than text."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploykit.errors import InputError, OutputError
from deploykit.runtime import (
    Area,
    Candidate,
    Classification,
    Detection,
    Detections,
    Embedding,
    MultiLabel,
    Prediction,
    Quantity,
    Regression,
    Segmentation,
)
from deploykit.runtime.pictures import boxes_png, overlay_png, palette
from deploykit.runtime.saving import Saver

MASK = np.zeros((20, 30), np.uint8)
MASK[:, 15:] = 1
MASK[:2] = 255
FOUND = Segmentation(mask=MASK, areas=(Area("a", 0, 0.45), Area("b", 1, 0.45)), path="x/photo.png")
BOXES = Detections(detections=(Detection("=cat", 0.9, 1, (2.0, 3.0, 12.5, 9.0)),), size=(30, 20), path="x/photo.png")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (30, 20), (200, 100, 50)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def save(out: Path, *answers: Prediction, source: Any = None) -> list[str]:
    with Saver(out) as saver:
        for answer in answers:
            saver.add(answer, source)
    return sorted(path.name for path in saver.written)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_a_mask_and_its_overlay(tmp_path: Path, photo: Path) -> None:
    names = save(tmp_path / "out", FOUND, FOUND, source=photo)
    assert names == [
        "photo-2.mask.png", "photo-2.overlay.png", "photo.mask.png", "photo.overlay.png", "predictions.csv", "predictions.jsonl",
    ]  # fmt: skip
    with Image.open(tmp_path / "out" / "photo.mask.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), MASK)
    with Image.open(tmp_path / "out" / "photo.overlay.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (20, 30, 3)
    assert pixels[1, 5].tolist() == [60, 30, 15]  # not seen: dark
    assert pixels[5, 5].tolist() == [100, 50, 25]  # half of it black
    assert np.abs(pixels[5, 25] - (np.array([200, 100, 50]) + palette(2)[1]) / 2).max() <= 1
    assert [row["share"] for row in rows(tmp_path / "out" / "predictions.csv")] == ["0.45"] * 4
    first = json.loads((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()[0])
    assert first["mask"]["runs"][0] == [255, 60]


def test_an_image_that_is_gone_or_another_leaves_the_mask(tmp_path: Path, photo: Path) -> None:
    Image.new("RGB", (31, 20)).save(photo)
    for source in (photo, tmp_path / "none.png", None):
        assert "photo.overlay.png" not in save(tmp_path / "out", FOUND, source=source)


@pytest.mark.parametrize(("dtype", "name"), [(np.uint16, "photo.mask.png"), (np.int32, "photo.mask.npy")])
def test_a_mask_of_many_labels(tmp_path: Path, dtype: Any, name: str) -> None:
    mask = np.full((4, 5), 700, dtype)
    save(tmp_path / "out", Segmentation(mask=mask, path="photo.png"))
    written = tmp_path / "out" / name
    if name.endswith(".npy"):
        assert np.array_equal(np.load(written), mask)
    else:
        with Image.open(written) as image:
            assert np.array_equal(np.asarray(image), mask)
    assert overlay_png(Segmentation(mask=mask), Image.new("RGB", (5, 4)))


def test_boxes_are_drawn_and_stand_in_coco(tmp_path: Path, photo: Path) -> None:
    names = save(tmp_path / "out", BOXES, Prediction(path="bad.png", error="no"), source=photo)
    assert names == ["detections.json", "photo.boxes.png", "predictions.csv", "predictions.jsonl"]
    coco = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert coco["images"] == [{"id": 1, "file_name": "x/photo.png", "width": 30, "height": 20}]
    assert coco["categories"] == [{"id": 1, "name": "=cat"}]
    (only,) = coco["annotations"]
    assert (only["bbox"], only["area"], only["category_id"], only["image_id"], only["score"]) == ([2, 3, 10.5, 6], 63, 1, 1, 0.9)
    table = rows(tmp_path / "out" / "predictions.csv")
    assert [row["label"] for row in table] == ["'=cat", ""]
    assert [row["error"] for row in table] == ["", "no"]
    plain = Detections(detections=(Detection("cat", 0.9, 1, (2.0, 30.0, 52.0, 60.0)),), size=(200, 100))
    with Image.open(io.BytesIO(boxes_png(plain, Image.new("RGB", (200, 100))))) as image:
        pixels = np.asarray(image)
    colour = palette(3)[2]
    assert (pixels[45, 2] == colour).all()
    assert (pixels[58:60, 30] == colour).all()
    assert (pixels[45, 20] == 0).all()


def test_boxes_at_the_edges_and_without_a_size(tmp_path: Path) -> None:
    odd = [(0.0, 0.0, 1.0, 1.0), (5.0, 5.0, 5.0, 5.0), (0.0, 0.0, 8.0, 8.0)]
    found = Detections(detections=tuple(Detection("a\x1b[2J\n" * 30, 0.5, 300, box) for box in odd), size=(8, 8))
    assert boxes_png(found, Image.new("L", (8, 8)))
    assert save(tmp_path / "out", Detections(path="a.npy")) == ["detections.json", "predictions.csv", "predictions.jsonl"]


def test_numbers(tmp_path: Path) -> None:
    vector = np.array([1.5, 2], np.float32)
    several = Regression(values=vector, quantities=(Quantity("width", 1.5, "mm"), Quantity("height", 2.0)), path="b.npy")
    save(tmp_path / "out", Embedding(values=vector, path="a.png"), Prediction(values=vector, path="pair.npz[1]"))
    assert np.array_equal(np.load(tmp_path / "out" / "a.npy"), vector)
    assert np.array_equal(np.load(tmp_path / "out" / "pair.npz[1].npy"), vector)
    save(tmp_path / "out.csv", several)
    assert rows(tmp_path / "out.csv") == [{"path": "b.npy", "width [mm]": "1.5", "height": "2.0"}]
    save(tmp_path / "raw.csv", Embedding(values=vector, path="a.png"))
    assert rows(tmp_path / "raw.csv")[0]["values"] == "[1.5, 2.0]"


def test_labels_as_a_table_and_as_json(tmp_path: Path) -> None:
    top = (Candidate("a", 0.75, 0), Candidate("b", 0.25, 1))
    one = Classification("a", 0.75, 0, top, path="a.png")
    many = MultiLabel(labels=top, top=top[:1], scores=np.array([0.75, 0.25]), path="b.png")
    save(tmp_path / "a.csv", one, Prediction(path="c.png", error="gone"))
    assert rows(tmp_path / "a.csv") == [
        {"path": "a.png", "label": "a", "score": "0.75", "label 2": "b", "score 2": "0.25", "error": ""},
        {"path": "c.png", "label": "", "score": "", "label 2": "", "score 2": "", "error": "gone"},
    ]
    save(tmp_path / "b.csv", many)
    assert rows(tmp_path / "b.csv") == [{"path": "b.png", "labels": "a;b", "score a": "0.75", "score b": "0.25"}]
    save(tmp_path / "a.jsonl", one, many)
    save(tmp_path / "a.json", one, many)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines == json.loads((tmp_path / "a.json").read_text()) == [one.as_dict(), many.as_dict()]


def test_what_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is no folder"):
        Saver(tmp_path / "file")
    with pytest.raises(OutputError, match="not a directory"):
        Saver(tmp_path / "file" / "out.csv")


def test_names_stay_in_the_folder(tmp_path: Path) -> None:
    vector = np.zeros(2, np.float32)
    paths = ["../up.npy", "/abs/x.npy", 'a:b*"c.npy', "", "-", "x" * 300 + ".npy", "X.npy", "\x1b[2J.npy"]
    save(tmp_path / "out", *(Embedding(values=vector, path=path) for path in paths))
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(found) == len(paths) + 2
    assert {"up.npy", "x.npy", "a_b__c.npy", "input.npy", "input-2.npy", "X-2.npy", "_[2J.npy"} <= set(found)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_an_exception_leaves_no_table(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Saver(tmp_path / "a.csv") as saver:
        saver.add(Classification("a", 0.5, 0))
        raise KeyError
    assert not list(tmp_path.iterdir())
