"""What the reports of a simplification, a package, a server, a machine, an export, a training and of predictions say, on made-up results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deploykit.runtime import Prediction
from deploykit.verdict.result import Check, Verdict
from deploykit.views import demonstration, diagnosis, export, latency, listing, package, predictions, serving, simplification


def columns(table):
    return [(column.key, column.title, column.kind) for column in table.columns]


def test_a_simplification():
    given = SimpleNamespace(
        file=Path("a.onnx"), out=Path("b.onnx"), applied=True, reason="3 nodes fewer", before=Counter(Conv=2, Relu=4, Identity=1),
        after=Counter(Conv=3, Relu=1), document=lambda: {"applied": True},
    )  # fmt: skip
    found = simplification.report(given)
    assert (found.title, found.headline) == ("simplified a.onnx", "simplified: 3 nodes fewer")
    assert found.document == {"file": "a.onnx", "out": "b.onnx", "applied": True}
    assert found.facts == [("written to", "b.onnx")]
    (table,) = found.tables
    assert columns(table) == [
        ("operator", "operator", "text"), ("before", "before", "count"), ("after", "after", "count"), ("change", "change", "count"),
    ]  # fmt: skip
    assert [tuple(row.values()) for row in table.rows] == [("Conv", 2, 3, 1), ("Identity", 1, 0, -1), ("Relu", 4, 1, -3)]
    assert tuple(table.totals.values()) == ("total", 7, 4, -3)
    bare = simplification.report(SimpleNamespace(**vars(given) | {"file": None, "out": None, "applied": False}))
    assert (bare.title, bare.headline, bare.facts) == ("simplified a model", "left as it was: 3 nodes fewer", [])
    assert (bare.document["file"], bare.document["out"]) == (None, None)


def test_a_package():
    models = [
        SimpleNamespace(name="a", files=("x", "y"), max_batch_size=8, note=""),
        SimpleNamespace(name="b", files=("x",), max_batch_size=0, note="its batch is fixed"),
    ]
    found = package.report(
        SimpleNamespace(kind="kserve", out=Path("out"), models=models, manifests=(Path("m.yaml"),), document=dict)
    )
    assert (found.title, found.headline, found.facts) == ("packaged for kserve", "2 models in out", [("manifest", "m.yaml")])
    assert columns(found.tables[0]) == [
        ("name", "model", "text"), ("files", "files", "count"), ("rows", "rows of a run", "count"), ("note", "remark", "text"),
    ]  # fmt: skip
    assert [tuple(row.values()) for row in found.tables[0].rows] == [("a", 2, 8, ""), ("b", 1, 1, "its batch is fixed")]


@pytest.mark.parametrize(("port", "facts"), [(None, []), (9, [("gRPC", "port 9")])])
def test_a_server(port, facts):
    model = {"name": "a", "version": "1", "device": "cpu", "verdict": "same", "max_batch_size": 0, "note": "n"}
    found = serving.report("http://x", port, [model | {"labels": []}, model | {"name": "b", "max_batch_size": 4}])
    assert (found.title, found.headline, found.facts) == ("serving on http://x", "2 models on http://x", facts)
    assert found.document == {
        "address": "http://x",
        "grpc_port": port,
        "models": [model, model | {"name": "b", "max_batch_size": 4}],
    }
    assert columns(found.tables[0]) == [
        ("name", "model", "text"), ("version", "version", "text"), ("device", "device", "text"), ("verdict", "verdict", "text"),
        ("rows", "rows of a run", "count"), ("note", "remark", "text"),
    ]  # fmt: skip
    assert [(row["name"], row["rows"]) for row in found.tables[0].rows] == [("a", 1), ("b", 4)]


def test_a_machine():
    providers = [
        SimpleNamespace(name="CPU", usable=True, reason=""),
        SimpleNamespace(name="CUDA", usable=False, reason="no driver"),
    ]
    given = SimpleNamespace(providers=providers, versions={"numpy": "2"}, threads=3, cores=4, advice=("install it",), document=dict)
    found = diagnosis.report(given)
    assert (found.title, found.headline, found.notes) == ("this machine", "", ["- install it"])
    assert found.facts == [("numpy", "2"), ("threads", "3 on 4 cores")]
    assert columns(found.tables[0]) == [("name", "provider", "text"), ("usable", "works", "text"), ("reason", "why not", "prose")]
    assert [tuple(row.values()) for row in found.tables[0].rows] == [("CPU", "yes", ""), ("CUDA", "no", "no driver")]
    assert diagnosis.report(SimpleNamespace(**vars(given) | {"advice": ()})).headline == "nothing to do"


def exported(good=True, **changes):
    verdict = Verdict("m.onnx", "net", "same" if good else "different", (Check("outputs", good, "fine"),))
    simplified = SimpleNamespace(before=Counter(Conv=5), after=Counter(Conv=3), applied=True, reason="2 fewer")
    contract = SimpleNamespace(inputs={}, input=SimpleNamespace())
    values = {
        "target": "lenet5", "file": Path("m.onnx"), "bytes": 2500, "nodes": 1, "opset": 20, "precision": "fp32", "verdict": verdict,
        "simplified": simplified, "seconds": {"export": 1.25, "verdict": 2.0}, "contract": contract, "document": dict,
    }  # fmt: skip
    return SimpleNamespace(**values | changes)


def test_an_export():
    found = export.report(exported())
    assert (found.title, found.good) == ("exported lenet5", True)
    assert found.facts == [
        ("file", "m.onnx"), ("size", "2.5 kB, 1 node, opset 20, fp32"), ("simplify", "5 -> 3 nodes; 2 fewer"),
        ("time", "export 1.2 s, verdict 2.0 s"),
    ]  # fmt: skip
    assert found.notes[-1] == "next: deploykit profile lenet5, or deploykit predict m.onnx ARRAY.npy..."
    several = exported(target="Own", contract=SimpleNamespace(inputs={"a": 1, "b": 2}, input=None))
    assert export.report(several).notes[-1] == "next: deploykit profile m.onnx, or deploykit predict m.onnx INPUTS.npz..."
    bad = export.report(exported(False, simplified=SimpleNamespace(applied=False, reason="left")))
    assert bad.good is False
    assert bad.facts[2] == ("simplify", "left")
    assert bad.notes[-1] == "the file was set aside under this name, so that nobody deploys it by mistake"


def test_answers_in_columns():
    values = np.arange(8, dtype=np.float32) / 4
    given = [
        Prediction(path="a.png", label="cat\x07", score=0.75, top=()),
        Prediction(path="b.png", error="is no image"),
        Prediction(path="c", values=values[:6]),
        Prediction(path="d", values=values.reshape(1, 8)),
    ]
    found = predictions.report(given)
    assert (found.title, found.document) == ("", [each.as_dict() for each in given])
    (table,) = found.tables
    assert columns(table) == [
        ("path", "input", "text"), ("label", "label", "text"), ("score", "score", "score"), ("shape", "shape", "shape"),
        ("values", "values", "prose"), ("error", "error", "prose"),
    ]  # fmt: skip
    assert [row["label"] for row in table.rows] == ["'cat\\x07'", None, None, None]
    assert [row["error"] for row in table.rows] == ["", "is no image", "", ""]
    assert [(row["shape"], row["values"]) for row in table.rows[2:]] == [
        ((6,), "0, 0.25, 0.5, 0.75, 1, 1.25"),
        ((1, 8), "0, 0.25, 0.5, 0.75, 1, 1.25, ..."),
    ]
    assert [column.key for column in predictions.report([Prediction(label="x", score=1.0)]).tables[0].columns] == ["label", "score"]


@pytest.mark.parametrize(
    ("document", "answer"),
    [
        ({}, ""),
        ({"detections": []}, "nothing"),
        ({"detections": [{"label": "a", "score": 0.5}] * 5}, ", ".join(["a 0.5000"] * 5)),
        ({"detections": [{"label": "a", "score": 0.5}] * 6}, ", ".join(["a 0.5000"] * 5) + ", 1 more"),
        ({"areas": [{"label": "a", "share": 0.125}, {"label": "b", "share": 0.875}]}, "a 12.5%, b 87.5%"),
        ({"labels": [{"label": "a", "score": 0.25}]}, "a 0.2500"),
        (
            {"quantities": [{"name": "x", "value": 1.234567, "unit": "m"}, {"name": "y", "value": 2, "unit": None}]},
            "x 1.2346 m, y 2",
        ),
    ],
)
def test_answers_of_other_tasks_in_a_line(document, answer):
    assert predictions._answer(document) == answer


def test_lists_and_latencies():
    assert [column.kind for column in listing._ARCHITECTURES] == ["text", "shape", "count", "count", "text", "text", "prose"]
    assert [(column.key, column.title) for column in listing._OTHERS] == [("name", "name"), ("summary", "what it is")]
    found = listing.report("formats")
    assert [row["name"] for row in found.document] == ["csv", "html", "json", "markdown", "table"]
    assert all(row["summary"] for row in found.document)
    assert {row["trained"] for row in found.tables[0].rows} == {""}
    made = SimpleNamespace(latencies=(), comparisons=("a is faster", "b is slower"), conditions={"cpu": "x"}, document=dict)
    shown = latency.report(made)
    assert (shown.title, shown.headline, shown.facts) == ("", "a is faster; b is slower", [("cpu", "x")])


def test_right_and_wrong_answers_of_the_demonstration():
    made = SimpleNamespace(predictions=[SimpleNamespace(label=label) for label in "0182"], truth="0132")
    assert demonstration._answers(made) == "0 1 8 (really 3) 2"
