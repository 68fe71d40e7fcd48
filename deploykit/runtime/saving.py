"""Answers as files: a table, JSON lines, or a folder with what people look at. Every file is whole or not there."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit import files
from deploykit.errors import DeploykitError, InputError
from deploykit.runtime.images import MAX_PIXELS, open_image
from deploykit.runtime.prediction import Candidate, Prediction
from deploykit.runtime.reading import shown
from deploykit.runtime.results import Detections, MultiLabel, Regression, Segmentation

if TYPE_CHECKING:
    from PIL.Image import Image

TABLES = (".csv", ".jsonl", ".json")
# A spreadsheet would run a cell that begins with one of these; labels come from files of strangers.
_FORMULA = ("=", "+", "-", "@")
_COMMON = ("path", "error")


class Saver:
    """Takes answers one by one and writes them: `with Saver(out) as saver: saver.add(answer)`.

    `out`: a file that ends in .csv, .jsonl or .json, written at the end, or else a folder: ``predictions.jsonl`` and
    ``predictions.csv`` of all answers, and for each input, under the name of its file, a mask (``NAME.mask.png``) and its
    overlay (``NAME.overlay.png``), boxes drawn (``NAME.boxes.png``) and all of them in ``detections.json``, as COCO has them,
    or its numbers (``NAME.npy``). `written`: the files so far. Raises `OutputError`, at once where nothing can be written.
    """

    def __init__(self, out: Path, max_pixels: int = MAX_PIXELS) -> None:
        self.out = out
        self.written: list[Path] = []
        self._max_pixels = max_pixels
        self._documents: list[dict[str, Any]] = []
        self._rows: list[dict[str, Any]] = []
        self._coco = _Coco()
        self._names: set[str] = set()
        self._is_table = out.suffix.lower() in TABLES
        if self._is_table:
            files.writable_file(out)
        elif out.exists() and not out.is_dir():
            raise InputError(f"{out} is no folder", f"name a folder, or a file that ends in {', '.join(TABLES)}")
        else:
            files.writable_folder(out)

    def add(self, answer: Prediction, source: Any = None) -> None:
        """One answer; `source`: the image that it is about, as `open_image` takes it, where that can be opened again."""
        self._documents.append(answer.as_dict())
        self._rows += rows_of(answer)
        if self._is_table or not answer.ok:
            return
        name = self._name(answer)
        if isinstance(answer, Segmentation):
            self._segmentation(answer, name, source)
        elif isinstance(answer, Detections):
            self._coco.add(answer, shown(answer.path or name))
            image = self._image(source, answer.size)
            if image is not None:
                from deploykit.runtime.pictures import boxes_png

                self._write(f"{name}.boxes.png", boxes_png(answer, image))
        elif answer.values is not None:
            stream = io.BytesIO()
            np.save(stream, answer.values, allow_pickle=False)
            self._write(f"{name}.npy", stream.getvalue())

    def finish(self) -> None:
        """Write what stands at the end: the table, or the lists of the folder."""
        lines = "".join(json.dumps(each, ensure_ascii=False, allow_nan=False) + "\n" for each in self._documents)
        if self._is_table:
            kind = self.out.suffix.lower()
            whole = json.dumps(self._documents, ensure_ascii=False, allow_nan=False, indent=2) + "\n"
            files.write_text(self.out, {".csv": table(self._rows), ".jsonl": lines, ".json": whole}[kind])
            self.written.append(self.out)
            return
        self._write("predictions.jsonl", lines.encode(errors="backslashreplace"))
        self._write("predictions.csv", table(self._rows).encode(errors="backslashreplace"))
        if self._coco.images:
            self._write(
                "detections.json", (json.dumps(self._coco.document(), ensure_ascii=False) + "\n").encode(errors="backslashreplace")
            )

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()

    def _segmentation(self, answer: Segmentation, name: str, source: Any) -> None:
        from deploykit.runtime.pictures import mask_png, overlay_png

        if answer.mask.dtype == np.int32:  # more labels than a picture holds
            stream = io.BytesIO()
            np.save(stream, answer.mask, allow_pickle=False)
            self._write(f"{name}.mask.npy", stream.getvalue())
        else:
            self._write(f"{name}.mask.png", mask_png(answer))
        image = self._image(source, answer.mask.shape[::-1])
        if image is not None:
            self._write(f"{name}.overlay.png", overlay_png(answer, image))

    def _image(self, source: Any, size: Any) -> Image | None:
        """The image upright, if it is still the one that was asked about."""
        if source is None or size is None:
            return None
        from deploykit.runtime.preprocessing import flatten

        try:
            image = flatten(open_image(source, self._max_pixels), 3, 255)
        except DeploykitError:
            return None
        return image if image.size == tuple(size) else None

    def _name(self, answer: Prediction) -> str:
        """The stem of the file that was asked about, with a number where there were others of that name."""
        path = answer.path or "input"
        text = "input" if path == "-" else Path(path).name
        stem = text if text.endswith("]") else Path(text).stem
        plain = "".join(each if each.isprintable() and each not in '/\\:*?"<>|' else "_" for each in stem)[:150] or "input"
        name, count = plain, 1
        while name.lower() in self._names:
            count += 1
            name = f"{plain}-{count}"
        self._names.add(name.lower())
        return name

    def _write(self, name: str, data: bytes) -> None:
        path = self.out / name
        files.write_bytes(path, data)
        self.written.append(path)


class _Coco:
    """Boxes as COCO's format for results has them: [left, top, width, height] in pixels, labels by number."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories: dict[int, str] = {}

    def add(self, answer: Detections, name: str) -> None:
        width, height = answer.size or (None, None)
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": name, "width": width, "height": height})
        for each in answer.detections:
            left, top, right, bottom = each.box
            self._categories[each.index] = each.label
            box = [left, top, right - left, bottom - top]
            entry = {"id": len(self._annotations) + 1, "image_id": number, "category_id": each.index, "bbox": box}
            self._annotations.append({**entry, "area": box[2] * box[3], "iscrowd": 0, "score": each.score})

    def document(self) -> dict[str, Any]:
        categories = [{"id": index, "name": name} for index, name in sorted(self._categories.items())]
        return {"images": self.images, "annotations": self._annotations, "categories": categories}


def rows_of(answer: Prediction) -> Iterator[dict[str, Any]]:
    """An answer as rows of a table: one, or one per box or area; always with `path` and `error`."""
    start = {"path": None if answer.path is None else shown(answer.path), "error": answer.error}
    if isinstance(answer, Detections):
        for each in answer.detections:
            box = dict(zip(("left", "top", "right", "bottom"), each.box, strict=True))
            yield {**start, "label": each.label, "score": each.score, **box}
    elif isinstance(answer, Segmentation):
        for area in answer.areas:
            yield {**start, "label": area.label, "index": area.index, "share": area.share}
    elif isinstance(answer, MultiLabel):
        best = {each.label: each.score for each in answer.labels}
        yield {**start, "labels": ";".join(best), **{f"score {each.label}": each.score for each in answer.top}, **_prefixed(best)}
    elif isinstance(answer, Regression):
        yield {
            **start,
            **{each.name if each.unit is None else f"{each.name} [{each.unit}]": each.value for each in answer.quantities},
        }
    elif answer.values is not None:
        yield {**start, "values": json.dumps(answer.values.tolist())}
    else:
        yield {**start, "label": answer.label, "score": answer.score, **_others(answer.top[1:])}


def _prefixed(scores: dict[str, float]) -> dict[str, float]:
    return {f"score {label}": score for label, score in scores.items()}


def _others(candidates: tuple[Candidate, ...]) -> dict[str, Any]:
    """The second best candidate as `label 2` and `score 2`, and so on."""
    found: dict[str, Any] = {}
    for place, each in enumerate(candidates, 2):
        found |= {f"label {place}": each.label, f"score {place}": each.score}
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """CSV with a column for every key that occurs, in the order in which they do; `error` last, where there is one."""
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in _COMMON]
    columns = ["path", *keys, *(["error"] if any(row["error"] for row in rows) else [])]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(column) for column in columns])
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return repr(value)
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(value))
    return f"'{text}" if text.startswith(_FORMULA) and len(text) > 1 else text
