"""What a tuning says: the headline, the tables, the plane of time and loss, and the figures to see first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploykit.reports import Point, Tile
from deploykit.tuner.result import Candidate, LayerChoice, Measured, Timing, TuneResult
from deploykit.verdict.same_decisions import Judged
from deploykit.views import tune


def measured(name, timing=None, judged=None, **more):
    return Measured(Candidate(name, "onnxruntime", "int8", 2), 2000, timing and Timing(*timing), judged, **more)


BASE = Measured(Candidate("base", "onnxruntime", "fp32", 4), 4000, Timing(10.0, 1.0, 1.0, 1.0), None, True, "as it is")
LOST = {"accuracy": 0.9, "drop": 0.01, "drop_low": -0.01, "drop_high": 0.02}
FAST = measured(
    "fast", (5.0, 2.0, 1.6, 2.5), Judged(100, 0.5, 0.98, 0.96, True, "fine", **LOST), kept=True, reason="fine", proven=True
)
SLOW = measured("slow", (20.0, 0.5, 0.4, 0.8), Judged(100, 0.5, 0.75, 0.5, False, "too many lost"), reason="too many lost")
LAME = measured("lame", reason="cannot run on onnxruntime")
UNSURE = measured("unsure", (10.0, 1.0, 0.0, 9.0), Judged(100, 0.5, 0.75, 0.5, True, "fine"))
LAYERS = (
    LayerChoice("a", "Conv", 1.0, 0.5, 0.01, "int8", "faster in int8"),
    LayerChoice("b", "Conv", 3.0, 3.5, None, "fp32", "slower in int8, with its conversions"),
    LayerChoice("c", "Conv", None, 0.5, None, "int8", ""),
)
RESULT = TuneResult(
    "lenet5", Path("out.tuned.onnx"), "latency", "faster", BASE, FAST, (BASE, SLOW, LAME, FAST, UNSURE), LAYERS, "digits", True,
    "at most 0.5 points", "a test", ("a note",), {"cpu": "x"}, 12.34, Path("out.tune.sh"),
)  # fmt: skip


def test_a_faster_file():
    found = tune.report(RESULT)
    assert (found.title, found.heading, found.good) == ("tuned lenet5: 2.00x", "lenet5", True)
    assert found.headline == "fast is 2.00x faster [1.60, 2.50] than the file as it is; fine"
    assert [tuple(fact) for fact in found.facts] == [
        ("file", "out.tuned.onnx (2.0 kB)"), ("runs on", "onnxruntime, 2 threads, batch 1"), ("goal", "latency"),
        ("budget", "at most 0.5 points"), ("interval", "a test"), ("data", "digits"), ("time", "12 s"), ("again", "out.tune.sh"),
    ]  # fmt: skip
    assert found.notes == ("a note",)
    assert found.document == RESULT.document()
    assert found.tiles == (
        Tile(2.0, "ratio", "as fast as the file as it is"),
        Tile(5.0, "ms", "on onnxruntime"),
        Tile(2000, "bytes", "file"),
        Tile(0.02, "percent", "drop of the accuracy, at most"),
    )


def test_the_options_of_its_engine_are_told():
    candidate = replace(FAST.candidate, options={"layout": "nhwc", "cuda_graph": "on"})
    facts = dict(tuple(fact) for fact in tune.report(replace(RESULT, chosen=replace(FAST, candidate=candidate))).facts)
    assert facts["runs on"] == "onnxruntime, 2 threads, batch 1, cuda graph on, layout nhwc"


def test_a_file_that_stays_as_it_is():
    found = tune.report(replace(RESULT, chosen=BASE, verdict="float32", script=None, layers=()))
    assert (found.title, found.good) == ("tuned lenet5: as it is", None)
    assert found.headline == (
        "nothing that could be proven to keep the decisions was faster than the file as it is: out.tuned.onnx is that file"
    )
    assert [fact[0] for fact in found.facts][-1] == "time"
    assert [table.title for table in found.tables] == ["candidates"]
    assert [tile.label for tile in found.tiles] == ["as fast as the file as it is", "on onnxruntime", "file"]
    unlabelled = replace(FAST, judged=Judged(100, 0.5, 0.98, 0.96, True, "fine"))
    assert tune.report(replace(RESULT, chosen=unlabelled)).tiles[-1] == Tile(0.96, "percent", "of the decisions agree, at least")
    without = replace(FAST, judged=None)
    assert tune.report(replace(RESULT, chosen=without)).headline == "fast is 2.00x faster [1.60, 2.50] than the file as it is"


def test_candidates_stand_by_their_speed_and_the_chosen_one_is_marked():
    (table, _) = tune.report(RESULT).tables
    assert [(row["name"], row["reason"]) for row in table.rows] == [
        ("fast", "CHOSEN: fine"), ("base", "as it is"), ("unsure", ""), ("slow", "too many lost"), ("lame", "cannot run on onnxruntime"),
    ]  # fmt: skip
    assert [(column.key, column.title, column.kind, column.minor) for column in table.columns] == [
        ("name", "candidate", "text", False), ("threads", "threads", "count", True), ("bytes", "size", "bytes", True),
        ("median_ms", "ms", "ms", False), ("ratio", "speed", "ratio", False), ("low", "at least", "ratio", True),
        ("high", "at most", "ratio", True), ("accuracy", "accuracy", "percent", False), ("drop_high", "drop, at most", "percent", False),
        ("agreement", "agrees", "percent", False), ("reason", "what became of it", "prose", False),
    ]  # fmt: skip
    unlabelled = replace(RESULT, candidates=(BASE, SLOW), chosen=BASE)
    assert not {"accuracy", "drop_high"} & {column.key for column in tune.report(unlabelled).tables[0].columns}


def test_layers_and_their_bars():
    found = tune.report(RESULT)
    table = found.tables[1]
    assert table.title == "layers of out.tuned.onnx"
    assert [row["path"] for row in table.rows] == ["a", "b", "c"]
    assert [(column.key, column.title, column.kind) for column in table.columns] == [
        ("path", "layer", "text"), ("type", "type", "text"), ("precision", "left in", "text"), ("fp32_ms", "fp32 ms", "ms"),
        ("int8_ms", "int8 ms", "ms"), ("error", "error", "percent"), ("reason", "why", "prose"),
    ]  # fmt: skip
    bars = found.charts[1]
    assert (bars.title, bars.kind) == ("milliseconds per layer, in both precisions", "ms")
    assert (bars.labels, bars.series) == (["a", "b"], {"fp32": [1.0, 3.0], "int8": [0.5, 3.5]})
    gaps = tune.report(replace(RESULT, layers=(LayerChoice("c", "Conv", None, None, None, "int8", ""),)))
    assert [column.key for column in gaps.tables[1].columns] == ["path", "type", "precision"]
    assert len(gaps.charts) == 1


def test_the_24_slowest_layers_have_bars_in_the_order_of_the_graph():
    layers = tuple(LayerChoice(f"l{n}", "Conv", float(n % 13 + n / 100), 1.0, None, "int8", "") for n in range(30))
    bars = tune.report(replace(RESULT, layers=layers)).charts[1]
    slowest = sorted(range(30), key=lambda n: n % 13 + n / 100)[6:]
    assert bars.labels == [f"l{n}" for n in sorted(slowest)]


def test_the_plane_has_a_point_for_each_that_was_asked_for_its_answers():
    plane = tune.report(RESULT).charts[0]
    assert plane.points == [
        Point("base", 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, False),
        Point("slow", 2.0, 1.25, 2.5, 0.25, 0.25, 0.5, False),
        Point("fast", 0.5, 0.4, 0.625, 0.01, -0.01, 0.02, True),
    ]
    assert (plane.title, plane.x_kind, plane.y_kind) == ("time against drop of the accuracy", "percent", "percent")
    assert (plane.x_title, plane.y_title) == ("time, as a share of that of the file as it is", "drop of the accuracy")
    without = replace(RESULT, candidates=(BASE, SLOW), chosen=BASE)
    plane = tune.report(without).charts[0]
    assert (plane.title, plane.y_title) == ("time against decisions that change", "decisions that change")
    assert [point.mark for point in plane.points] == [True, False]
    assert len(tune.report(replace(without, layers=(), candidates=(BASE, LAME))).charts) == 0, "one point is no chart"


@pytest.mark.parametrize(("low", "shown"), [(0.0, False), (-0.5, False), (0.01, True), (1.0, True)])
def test_an_interval_that_reaches_0_is_no_point(low, shown):
    entry = measured("x", (5.0, 2.0, low, 2.5), Judged(100, 0.5, 0.98, 0.96, True, "fine"))
    plane = tune._plane(replace(RESULT, candidates=(BASE, entry)))
    assert ("x" in [point.label for point in plane.points]) is shown
