"""Predictions as a report: a row per input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deploykit.reports import Column, Report, Table, show
from deploykit.runtime.reading import shown

# For types only: this view must not cost the import of onnxruntime a second time, nor anything else before the first answer.
if TYPE_CHECKING:
    from deploykit.runtime import Prediction

_SHOWN_VALUES = 6
_SHOWN_ANSWERS = 5


def report(results: Sequence[Prediction]) -> Report:
    """The label and its score, the other candidates where more than one was asked for, the error where there is no answer."""
    documents = [result.as_dict() for result in results]
    rows = [_row(result, document) for result, document in zip(results, documents, strict=True)]
    columns = [Column("path", "input")] if any(result.path is not None for result in results) else []
    if any(result.label is not None for result in results):
        columns += [Column("label", "label"), Column("score", "score", "score")]
    if any(row["answer"] for row in rows):
        columns.append(Column("answer", "answer", "prose"))
    if any(len(result.top) > 1 for result in results):
        columns.append(Column("others", "then", "prose"))
    if any(result.values is not None for result in results):
        columns += [Column("shape", "shape", "shape"), Column("values", "values", "prose")]
    if not all(result.ok for result in results):
        columns.append(Column("error", "error", "prose"))
    return Report(title="", document=documents, tables=[Table("", columns, rows)])


def _row(result: Prediction, document: dict[str, Any]) -> dict[str, Any]:
    row = {**document, "error": result.error or "", "shape": None, "values": None, "answer": _answer(document)}
    # Labels come from the file: what would move the cursor of a terminal is escaped.
    row["label"] = None if result.label is None else shown(result.label)
    # Of several labels at once, those that were not given: the best may be one of them.
    given = getattr(result, "labels", ())
    others = result.top[1:] if result.label is not None else [candidate for candidate in result.top if candidate not in given]
    row["others"] = ", ".join(f"{shown(candidate.label)} {show(candidate.score, 'score')}" for candidate in others)
    if result.values is not None:
        flat = [f"{value:.5g}" for value in result.values.reshape(-1)[: _SHOWN_VALUES + 1].tolist()]
        row["shape"] = result.values.shape
        row["values"] = ", ".join(flat[:_SHOWN_VALUES]) + (", ..." if len(flat) > _SHOWN_VALUES else "")
    return row


def _answer(document: dict[str, Any]) -> str:
    """What a network of another task says, in a line; the results' own types would cost an import."""
    if "detections" in document:
        found = [f"{shown(each['label'])} {show(each['score'], 'score')}" for each in document["detections"]]
    elif "areas" in document:
        found = [f"{shown(each['label'])} {each['share']:.1%}" for each in document["areas"]]
    elif "labels" in document:
        found = [f"{shown(each['label'])} {show(each['score'], 'score')}" for each in document["labels"]]
    elif "quantities" in document:
        units = [f" {shown(each['unit'])}" if each["unit"] else "" for each in document["quantities"]]
        found = [
            f"{shown(each['name'])} {each['value']:.5g}{unit}" for each, unit in zip(document["quantities"], units, strict=True)
        ]
    else:
        return ""
    more = len(found) - _SHOWN_ANSWERS
    return (", ".join(found[:_SHOWN_ANSWERS]) or "nothing") + (f", {more:,} more" if more > 0 else "")
