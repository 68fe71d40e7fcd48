"""Answers -> the file of a part: Parquet with a column for each thing that the task says, or a line of JSON per row."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from deploykit.runtime.prediction import Prediction
from deploykit.runtime.reading import shown
from deploykit.runtime.results import Detections, MultiLabel, Regression, Segmentation

KINDS = ("parquet", "jsonl")


def file_of(answers: Sequence[Prediction], first: int, task: str, kind: str) -> bytes:
    """Answers of rows `first`, `first` + 1, ... of a file for `task` -> the bytes of a part, the same every time."""
    if kind == "jsonl":
        lines = ({"row": first + place, **answer.as_dict()} for place, answer in enumerate(answers))
        return "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines).encode(
            errors="backslashreplace"
        )
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {"row": list(range(first, first + len(answers)))}
    columns["path"] = [None if answer.path is None else shown(answer.path) for answer in answers]
    said = [_SAID[task](answer) if answer.ok else None for answer in answers]
    schema = _schema(task)
    for field in schema:
        if field.name not in ("row", "path", "error"):
            columns[field.name] = [None if each is None else each[field.name] for each in said]
    columns["error"] = [answer.error for answer in answers]
    out = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), out, compression="zstd")
    return out.getvalue()


def counts_in(stream: Any, kind: str) -> tuple[int, int]:
    """An open part -> its rows, and how many of them have an error."""
    if kind == "jsonl":
        lines = [line for line in stream.read().decode().split("\n") if line]
        return len(lines), sum(json.loads(line)["error"] is not None for line in lines)
    import pyarrow.parquet as pq

    column = pq.read_table(stream, columns=["error"]).column("error")
    return len(column), len(column) - int(column.null_count)


def _schema(task: str) -> Any:
    import pyarrow as pa

    text, real, whole = pa.string(), pa.float64(), pa.int64()
    candidate = pa.struct([("label", text), ("score", real), ("index", whole)])
    of_task: dict[str, list[tuple[str, Any]]] = {
        "classification": [("label", text), ("score", real), ("index", whole), ("top", pa.list_(candidate))],
        "multilabel": [("labels", pa.list_(candidate)), ("scores", pa.list_(real))],
        "segmentation": [
            ("areas", pa.list_(pa.struct([("label", text), ("index", whole), ("share", real)]))),
            ("height", whole), ("width", whole), ("unseen", whole), ("runs", pa.list_(pa.list_(whole))),
        ],
        "detection": [
            ("detections", pa.list_(pa.struct([*candidate, ("box", pa.list_(real))]))), ("width", whole), ("height", whole),
        ],
        "embedding": [("values", pa.list_(real))],
        "regression": [("quantities", pa.list_(pa.struct([("name", text), ("value", real), ("unit", text)])))],
        "raw": [("values", pa.list_(real)), ("shape", pa.list_(whole))],
    }  # fmt: skip
    return pa.schema([("row", pa.int64()), ("path", text), *of_task[task], ("error", text)])


def _classification(answer: Prediction) -> Mapping[str, Any]:
    return {"label": answer.label, "score": answer.score, "index": answer.index, "top": _candidates(answer.top)}


def _multilabel(answer: Prediction) -> Mapping[str, Any]:
    found = cast(MultiLabel, answer)
    return {"labels": _candidates(found.labels), "scores": found.scores}


def _segmentation(answer: Prediction) -> Mapping[str, Any]:
    found = cast(Segmentation, answer)
    areas = [{"label": each.label, "index": each.index, "share": each.share} for each in found.areas]
    height, width = found.mask.shape
    return {"areas": areas, "height": height, "width": width, "unseen": found.unseen, "runs": found.runs()}


def _detection(answer: Prediction) -> Mapping[str, Any]:
    boxes = cast(Detections, answer)
    width, height = boxes.size or (None, None)
    found = [{"label": d.label, "score": d.score, "index": d.index, "box": list(d.box)} for d in boxes.detections]
    return {"detections": found, "width": width, "height": height}


def _regression(answer: Prediction) -> Mapping[str, Any]:
    found = cast(Regression, answer).quantities
    return {"quantities": [{"name": each.name, "value": each.value, "unit": each.unit} for each in found]}


def _values(answer: Prediction) -> Mapping[str, Any]:
    array = np.asarray(answer.values)
    return {"values": array.reshape(-1).astype(np.float64), "shape": list(array.shape)}


def _candidates(found: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"label": each.label, "score": each.score, "index": each.index} for each in found]


_SAID: dict[str, Callable[[Prediction], Mapping[str, Any]]] = {
    "classification": _classification,
    "multilabel": _multilabel,
    "segmentation": _segmentation,
    "detection": _detection,
    "embedding": _values,
    "regression": _regression,
    "raw": _values,
}
