"""What a tuning is made of besides the search: defaults, documents, the script, budgets in words, the notes, what a file says of it."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import helper

from deploykit.errors import InputError, UnknownName
from deploykit.network.request import Request
from deploykit.progress import SILENT
from deploykit.runtime.contract import ArrayInput, Output
from deploykit.tuner import marking, options, outcome, samples, script, search, settings, tune
from deploykit.tuner.result import Candidate, Measured, Timing, TuneResult
from deploykit.tuner.samples import Part, Parts
from deploykit.tuner.search import Found
from deploykit.verdict import guarantee
from deploykit.verdict.same_decisions import Budget, Judged, Rule

BASE = Measured(Candidate("base", "onnxruntime", "fp32", 4), 400, Timing(10.0, 1.0, 1.0, 1.0), None, True, "as it is")
JUDGED = Judged(100, 0.5, 0.98765432, 0.96, True, "fine", accuracy=0.9, drop=0.0123456, drop_low=-0.01, drop_high=0.02)
FAST = Measured(
    Candidate("fast", "openvino", "int8", 2, 3, "int8-0", {"level": "basic"}),
    100,
    Timing(5.0, 2.0, 1.6, 2.5),
    JUDGED,
    True,
    "fine",
    True,
)
OPTIONS = options.Options(
    "digits", Budget(), "latency", None, None, ("onnxruntime", "openvino"), ("fp32", "int8"), "cpu", 150.0, 0, None, SILENT
)


def model(*axes):
    value = helper.make_tensor_value_info
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value("x", 1, axes)], [value("y", 1, axes)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def test_defaults():
    defaults = {
        "checkpoint": None, "untrained": False, "seed": 0, "arguments": None, "input_shapes": None, "input_dtypes": None, "inputs": None,
        "data": None, "max_drop": 0.5, "min_agreement": 0.99, "max_error": 0.05, "goal": "latency", "batch": None, "threads": None,
        "engines": None, "precisions": None, "device": "cpu", "seconds": 150.0, "out": None, "progress": None,
    }  # fmt: skip
    parameters = inspect.signature(tune).parameters
    assert {name: each.default for name, each in parameters.items() if name != "target"} == defaults
    assert Budget() == Budget(drop=0.005, agreement=0.99, error=0.05)
    assert Candidate("a", "b", "fp32", 1) == Candidate("a", "b", "fp32", 1, 1, "fp32", {}, {})
    assert Measured(BASE.candidate) == Measured(BASE.candidate, 0, None, None, False, "", False)
    assert Found(BASE, BASE, ()) == Found(BASE, BASE, (), None, None, False)
    assert (samples.CALIBRATION, samples.SELECTION, samples.PROOF, samples.LEAST, samples.SHARES) == (
        256,
        1000,
        4000,
        12,
        (0.25, 0.25),
    )
    assert samples.MOST_BYTES == 256 * 1024**2
    assert BASE.candidate.is_float
    assert not FAST.candidate.is_float
    found = TuneResult("t", Path("f"), "latency", "float32", BASE, BASE, ())
    assert (found.layers, found.data, found.labelled, found.budget, found.test, found.notes, found.conditions) == (
        (), "", False, "", "", (), {},
    )  # fmt: skip
    assert (found.seconds, found.script, found.speedup) == (0.0, None, BASE.timing)
    assert repr(found) == "<TuneResult t -> f: float32, base>"


def test_documents():
    assert FAST.document() == {
        "name": "fast", "engine": "openvino", "precision": "int8", "threads": 2, "batch": 3, "options": {"level": "basic"}, "bytes": 100,
        "median_ms": 5.0, "ratio": 2.0, "low": 1.6, "high": 2.5, "samples": 100, "error": 0.5, "agreement": 0.98765432,
        "agreement_low": 0.96, "accuracy": 0.9, "drop": 0.0123456, "drop_low": -0.01, "drop_high": 0.02, "kept": True, "proven": True,
        "reason": "fine",
    }  # fmt: skip
    bare = Measured(BASE.candidate).document()
    assert [bare[key] for key in ("median_ms", "ratio", "samples", "error", "drop_high", "kept", "proven")] == [None] * 5 + [
        False
    ] * 2
    found = TuneResult(
        "t", Path("f"), "size", "faster", BASE, FAST, (BASE, FAST), (), "d", True, "b", "t", ("n",), {"cpu": "x"}, 12.345, Path("s")
    ).document()  # fmt: skip
    assert {key: value for key, value in found.items() if key not in ("baseline", "chosen", "candidates")} == {
        "target": "t", "file": "f", "goal": "size", "verdict": "faster", "speedup": {"ratio": 2.0, "low": 1.6, "high": 2.5},
        "layers": [], "data": "d", "labelled": True, "budget": "b", "test": "t", "notes": ["n"], "conditions": {"cpu": "x"}, "seconds": 12.3,
        "script": "s",
    }  # fmt: skip
    assert (found["baseline"], found["chosen"]) == (BASE.document(), FAST.document())
    assert found["candidates"] == [BASE.document(), FAST.document()]
    untimed = TuneResult("t", Path("f"), "size", "faster", BASE, Measured(BASE.candidate), ()).document()
    assert (untimed["speedup"], untimed["script"]) == (None, None)


def test_a_script_has_every_option_quoted_and_goes_to_the_folder_of_today(tmp_path, monkeypatch):
    (tmp_path / "a b").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "a b")
    given = {"data": "a b", "untrained": True, "arg": ["x=1", "y=$2"], "seconds": "5"}
    path = script.write(Path("../out/m.tuned.onnx"), "my net", given)
    assert path == Path("../out/m.tuned.tune.sh")
    assert path.read_text() == (
        "#!/bin/sh\n# Tunes again: on another machine, another file may be the fastest.\n"
        """cd "$(dirname "$0")"/'../a b' || exit\n"""
        "deploykit tune 'my net' --data 'a b' --untrained --arg x=1 --arg 'y=$2' --seconds 5\n"
    )
    assert path.stat().st_mode & 0o111 == 0o111
    incomplete = script.write(Path("m.onnx"), "net", {}, False).read_text().splitlines()
    assert incomplete[2].startswith("# The values of the inputs were arrays in memory")
    assert incomplete[3:] == ['cd "$(dirname "$0")"/. || exit', "deploykit tune net"]


def test_the_options_that_say_the_same(monkeypatch):
    monkeypatch.setattr(options.openvino, "installed", lambda: False)
    request = Request.of(
        "lenet5", untrained=True, seed=3, arguments={"width": 2}, input_shapes=[(1, 32, 32)], input_dtypes=["float32"]
    )
    found = script.options_again(
        request, replace(OPTIONS, seed=3, batch=4, threads=2, budget=Budget(0.0125, 0.9, 0.1)), Path("o.onnx")
    )
    assert found == {
        "data": "digits", "untrained": True, "seed": 3, "arg": ["width=2"], "input-shape": ["1x32x32"], "input-dtype": ["float32"],
        "max-drop": "1.25", "min-agreement": 0.9, "max-error": 0.1, "goal": "latency", "batch": 4, "threads": 2,
        "engines": "onnxruntime,openvino", "precisions": "fp32,int8", "device": "cpu", "seconds": "150",
        "out": Path("o.onnx"),
    }  # fmt: skip
    short = script.options_again(Request.of("lenet5"), replace(OPTIONS, data=None), Path("o"))
    everywhere = {"max-drop", "min-agreement", "max-error", "goal", "device", "seconds", "out"}
    assert set(short) == {*everywhere, "engines", "precisions"}
    all_that_are_here = replace(OPTIONS, data=None, engines=("onnxruntime",), precisions=options.precisions(None))
    assert set(script.options_again(Request.of("lenet5"), all_that_are_here, Path("o"))) == everywhere, (
        "elsewhere there may be others"
    )
    on_a_gpu = replace(all_that_are_here, device="cuda", engines=("openvino",))
    assert set(script.options_again(Request.of("lenet5"), on_a_gpu, Path("o"))) == everywhere


@pytest.mark.parametrize(
    ("axes", "changes", "found"),
    [
        (("n", 3), {}, 1), (("n", 3), {"batch": 5}, 5), (("n", 3), {"goal": "throughput"}, 16), (("n", 3), {"goal": "size"}, 1),
        ((4, 3), {}, 4), ((4, 3), {"goal": "throughput"}, 4), ((4, 3), {"batch": 4}, 4),
        (("n", 3), {"goal": "throughput", "batch": 2}, 2),
    ],
)  # fmt: skip
def test_the_baseline_is_the_file_on_the_batch_that_is_asked_for(axes, changes, found):
    baseline = settings.baseline(model(*axes), replace(OPTIONS, threads=7, **changes))
    assert baseline == Candidate("fp32 onnxruntime", "onnxruntime", "fp32", 7, found)
    assert settings.baseline(model(*axes), replace(OPTIONS, **changes)).threads == settings.cores().usable


def test_a_batch_that_the_file_does_not_take():
    with pytest.raises(InputError, match="the file takes batches of 4 alone, not 5; give --batch 4"):
        settings.baseline(model(4, 3), replace(OPTIONS, batch=5))


@pytest.mark.parametrize(
    ("threads", "own", "found"),
    [(3, 3, (3,)), (None, 8, (8, 4, 2, 1)), (None, 64, (64, 32, 16, 8)), (None, 2, (2, 1)), (None, 1, (1,)), (None, 3, (3, 1))],
)
def test_numbers_of_threads_to_choose_from(threads, own, found):
    assert settings.threads(replace(OPTIONS, threads=threads), replace(BASE.candidate, threads=own)) == found


@pytest.mark.parametrize(("axes", "decides"), [(("n", 3), True), (("n",), False), (("n", 3, 4), False)])
def test_what_decides_has_a_number_per_class(axes, decides):
    assert outcome._decides(model(*axes), Rule()) is decides
    assert outcome._decides(model(*axes), Rule("labels", name="elsewhere")) is decides
    assert not outcome._decides(model(*axes), Rule("values"))


def test_the_output_that_is_meant_decides():
    two = model("n", 3)
    two.graph.output.insert(0, helper.make_tensor_value_info("first", 1, ["n", 3, 4]))
    assert not outcome._decides(two, Rule())
    assert outcome._decides(two, Rule(name="y"))


def test_batches_to_choose_from():
    def found(axes, **changes):
        given = replace(OPTIONS, **changes)
        return settings.batches(model(*axes), given, settings.baseline(model(*axes), given))

    assert found(("n", 3)) == (1,)
    assert found(("n", 3), goal="throughput") == (16, 1, 4, 64)
    assert found(("n", 3), goal="throughput", batch=2) == (2,), "somebody chose"
    assert found((4, 3), goal="throughput") == (4,)


def task(noise=False, labels=True, given=None):
    parts = [Part({"x": np.zeros((count, 2), np.float32)}, np.zeros(count, np.int64) if labels else None) for count in (1, 2, 3000)]
    return SimpleNamespace(
        notes=["first"], parts=Parts(*parts, "made up", noise), instructions=("avx2", "avx_vnni"), model=model("n", 3), given=given
    )


def test_notes_say_what_is_to_be_known():
    assert outcome._notes(task(), Found(BASE, BASE, ())) == ["first"]
    found = outcome._notes(task(noise=True), Found(BASE, BASE, (), JUDGED, replace(FAST, reason="too few"), True))
    assert found == [
        "first",
        "calibrated and proven on random numbers, not on samples: on real ones the decisions may differ",
        "the time was over before everything was tried; --seconds gives more",
        "fast was faster and could not be proven to keep the decisions: too few",
    ]
    assert outcome._notes(task(given=4000), Found(BASE, BASE, ())) == [
        "first", "the proof has 3,000 of 4,000 samples, for which the time is enough; --seconds gives more",
    ]  # fmt: skip
    assert outcome._notes(task(given=3000), Found(BASE, BASE, ())) == ["first"]
    given = task()
    outcome._notes(given, Found(BASE, BASE, (), cut=True))
    assert given.notes == ["first"], "what the task has noted stays as it is"


@pytest.mark.parametrize(
    ("chosen", "unproven", "verdict"),
    [(BASE, None, "float32"), (FAST, None, "faster"), (BASE, FAST, "not proven"), (FAST, FAST, "not proven")],
)
def test_the_verdict_of_a_tuning(chosen, unproven, verdict):
    found = Found(BASE, chosen, (BASE, FAST), JUDGED, unproven)
    result = outcome.result(Request.of("lenet5"), OPTIONS, task(), found, (), Path("out.onnx"), 12.5, Rule())
    assert (result.verdict, result.target, result.file, result.goal, result.seconds) == (
        verdict,
        "lenet5",
        Path("out.onnx"),
        "latency",
        12.5,
    )
    assert (result.baseline, result.chosen, result.candidates) == (BASE, chosen, (BASE, FAST))
    assert result.conditions["instructions"] == "avx2 avx_vnni"
    assert result.labelled
    assert result.data == "made up: 1 samples to calibrate, 2 to select, 3,000 to prove, with labels"
    assert result.budget == "the accuracy drops by at most 0.5 points, at 95 % confidence"
    assert result.test == guarantee.DROP_TEST
    undecided = replace(found, candidates=(BASE, replace(FAST, judged=replace(JUDGED, drop=None))))
    words = "the decision stays on at least 99 % of all samples, at 95 % confidence"
    assert outcome.result(Request.of("lenet5"), OPTIONS, task(), undecided, (), Path("o"), 1.0, Rule()).budget == words
    unlabelled = outcome.result(Request.of("lenet5"), OPTIONS, task(labels=False), found, (), Path("o"), 1.0, Rule())
    assert (unlabelled.budget, unlabelled.labelled, unlabelled.test) == (words, False, guarantee.AGREEMENT_TEST)
    assert unlabelled.data.endswith("to prove, without labels")
    assert (
        Budget().words(False, False)
        == "the outputs stay within 5 % of their scale on at least 99 % of all samples, at 95 % confidence"
    )


def test_what_a_tuned_file_says_of_itself():
    found = marking.tuned_for(task(), Found(BASE, FAST, ()), "f" * 64, "cpu")
    assert found.document() == {
        "engine": "openvino", "threads": 2, "precision": "int8", "batch": 3, "device": "cpu", "options": {"level": "basic"},
        "instructions": ["avx2", "avx_vnni"], "source": "f" * 64,
        "figures": {
            "name": "fast", "median_ms": 5.0, "ratio": 2.0, "low": 1.6, "high": 2.5, "samples": 100.0, "agreement": 0.9877,
            "agreement_low": 0.96, "drop": 0.01235, "drop_high": 0.02,
        },
    }  # fmt: skip
    assert marking.tuned_for(task(), Found(BASE, FAST, ()), "", "cuda:1").device == "cuda"
    bare = marking.tuned_for(task(), Found(BASE, Measured(BASE.candidate), ()), "", "cpu")
    assert bare.figures == {"name": "base"}
    undecided = replace(FAST, judged=replace(JUDGED, drop=None, drop_high=None))
    assert "drop" not in marking.tuned_for(task(), Found(BASE, undecided, ()), "", "cpu").figures


@pytest.mark.parametrize(("axes", "shape"), [(("n", 3, "t"), (3, None)), ((4, 3), (3,)), (("n", 0), (None,)), (("n",), ())])
def test_a_file_without_a_contract_gets_the_least_one(axes, shape):
    found = marking.contract_of(model(*axes))
    assert (found.input, found.output, found.inputs) == (ArrayInput(shape, "float32"), Output(), {})


def test_a_file_of_several_inputs_gets_one_of_arrays_and_that_of_a_scalar_none():
    two = model("n", 3)
    two.graph.input.append(helper.make_tensor_value_info("z", 7, ["n", "t"]))
    found = marking.contract_of(two)
    assert found.inputs == {"x": ArrayInput((3,), "float32"), "z": ArrayInput((None,), "int64")}
    assert found.input == found.inputs["x"]
    assert marking.contract_of(model()) is None
    untyped = model("n", 3)
    untyped.graph.input[0].ClearField("type")
    assert marking.contract_of(untyped) is None


def test_engines_and_precisions_to_choose_from(monkeypatch):
    for installed, found in ((True, ("onnxruntime", "openvino")), (False, ("onnxruntime",))):
        monkeypatch.setattr(options.openvino, "installed", lambda installed=installed: installed)
        assert options.engines(None) == found
        assert options.engines(["onnxruntime", "onnxruntime"]) == ("onnxruntime",)
    monkeypatch.setattr(options.openvino, "installed", lambda: True)
    assert options.engines(["openvino", "onnxruntime"]) == ("onnxruntime", "openvino")
    with pytest.raises(InputError, match="no engine was chosen; choose from onnxruntime, openvino"):
        options.engines([])
    with pytest.raises(UnknownName, match="unknown engine 'torch'"):
        options.engines(["torch"])
    assert options.precisions(None) == ("fp32", "bf16", "fp16", "int8", "tf32")
    assert options.precisions(["int8", "fp32", "int8"]) == ("int8", "fp32")
    with pytest.raises(InputError, match="no precision was chosen; choose from fp32, bf16, fp16, int8, tf32"):
        options.precisions([])


@pytest.mark.parametrize(("value", "fits"), [(0, True), (0.5, True), (1, True), (1.0001, False), (-0.1, False)])
def test_shares_are_from_0_to_1(value, fits):
    if fits:
        assert options.share(value, "max_error") == value
    else:
        with pytest.raises(InputError, match="max_error"):
            options.share(value, "max_error")


def test_how_long_things_are_timed():
    """A go takes a twentieth of the time, at least a second; the last one three fifths of what is left."""

    class World:
        def __init__(self, proving):
            self.asked, self.notes, self.clock, self.proving = [], [], 10.0, proving

        def now(self):
            return self.clock

        def late(self, latest):
            return self.clock > latest

        def size(self, _build):
            return 100

        def time(self, baseline, candidates, seconds):
            self.asked.append((baseline.name, [each.name for each in candidates], seconds))
            return [Timing(10.0, 1.0, 1.0, 1.0), *(Timing(5.0, 2.0 + n / 10, 1.9, 2.5) for n, _ in enumerate(candidates))]

        def judge(self, _candidate, _part):
            return replace(JUDGED, same=False)

        def going(self, _candidates):
            return 0.0

        def answering(self, part):
            return {"selection": 1e9, "proof": self.proving}[part]

        def advance(self, _steps, note):
            self.notes.append(note)

    class Kind:
        def propose(self, _task):
            yield [search.Proposal(replace(FAST.candidate, name=name)) for name in "abcde"]

    def searched(seconds, proving=0.0):
        world = World(proving)
        given = SimpleNamespace(baseline=BASE.candidate, notes=[], engines=("onnxruntime", "openvino"))
        return world, search.search(given, [Kind()], world, seconds, "latency", world)

    world, found = searched(200.0)
    assert [(name, names) for name, names, _ in world.asked] == [
        ("base", ["a", "b", "c", "d"]), ("base", ["e"]), ("base, once more", ["d", "c", "b"]),
    ]  # fmt: skip
    assert [seconds for _, _, seconds in world.asked] == pytest.approx([10.0, 10.0, 0.6 * (200 - 10 - 4)])
    assert world.notes == ["a, b, c, d", "e", "the best ones once more"]
    assert found.chosen.candidate.name == "b", "the best one of the second time"
    assert not found.cut
    assert [seconds for _, _, seconds in searched(23.0)[0].asked] == pytest.approx([1.15, 1.15, 5.4])
    world, found = searched(22.0)
    assert (found.cut, world.asked) == (True, []), "0.62 of 22 s is over after 10 s and the 4 s that a go costs"
    world, _ = searched(200.0, proving=30.0)
    assert world.asked[-1][2] == pytest.approx(0.6 * (200 - 10 - 4 - 45)), (
        "a file that is twice as fast is asked for the proof, too"
    )
    assert searched(27.0, proving=6.0)[0].asked, "88 % of the time without the proof are over after 14.76 s"
    assert not searched(27.0, proving=7.0)[0].asked
    assert searched(28.1, proving=99.0)[0].asked, "half of the time is always searched"


def test_of_equally_fast_ones_the_smaller_is_first_and_of_equally_small_ones_the_faster():
    made = search._Search(SimpleNamespace(baseline=BASE.candidate), SimpleNamespace(size=lambda _: 100), 1.0, "latency", SILENT)
    small, fast = replace(FAST, bytes=10, timing=Timing(1, 2.0, 2, 2)), replace(FAST, bytes=20, timing=Timing(1, 3.0, 3, 3))
    assert made._order(small) == (-2.0, 10.0)
    assert made._order(replace(small, timing=None)) == (0.0, 10.0)
    assert sorted([small, fast, replace(fast, bytes=5)], key=made._order)[0].bytes == 5
    made.goal = "size"
    assert made._order(small) == (10.0, -2.0)
    assert sorted([fast, small, replace(small, timing=fast.timing)], key=made._order)[0].timing.ratio == 3.0


def test_samples_are_cycled_chosen_and_told_in_words():
    part = Part({"x": np.arange(6, dtype=np.float32).reshape(3, 2), "z": np.arange(3)}, np.array([7, 8, 9]))
    assert len(part) == 3
    assert {name: rows.tolist() for name, rows in part.rows(1, 3).items()} == {"x": [[2, 3], [4, 5]], "z": [1, 2]}
    assert [array.tolist() for array in part.cycled(4)] == [[[0, 1], [2, 3], [4, 5], [0, 1]], [0, 1, 2, 0]]
    assert all(array.flags.c_contiguous for array in part.cycled(2))
    only = part.only(np.array([2, 0]))
    assert (only.labels.tolist(), only.inputs["z"].tolist()) == ([9, 7], [2, 0])
    assert Part({"x": np.zeros(2)}).only(np.array([1])).labels is None
    parts = Parts(part, part, part, "s")
    assert parts.labelled
    assert not replace(parts, selection=Part(part.inputs)).labelled
    assert not replace(parts, proof=Part(part.inputs)).labelled
    assert replace(parts, calibration=Part(part.inputs)).labelled


def test_samples_that_a_graph_takes():
    rows = np.zeros((40, 3), np.float32)

    def refused(arrays, said, given=None):
        with pytest.raises(InputError, match=said):
            samples._fitting(given or model("n", 3), arrays, "f.npz")

    refused({"x": rows.astype(np.float64)}, "the samples of f.npz are float64 3, the input 'x' takes float32 3; give samples as")
    refused({"x": rows[:, :2]}, "are float32 2, the input 'x' takes float32 3")
    refused({"x": rows[:, 0]}, "are float32 a scalar, the input 'x' takes float32 3")
    refused({"x": np.zeros((4, 5, 3), np.float32)}, "are float32 5x3, the input 'x' takes float32 3x4", model("n", 3, 4))
    refused({"x": rows}, "takes float32 anyx3", model("n", "t", 3))
    refused(
        {"x": rows, "labels": np.zeros(39, int)}, "the arrays of f.npz have different numbers of samples; give one sample per row"
    )
    refused(
        {"x": rows, "labels": np.zeros((40, 1), int)}, "the labels of f.npz are int64 of 2 axes; give one whole number per sample"
    )
    refused({"x": rows, "labels": np.zeros(40)}, "the labels of f.npz are float64 of 1 axes")
    found = samples._fitting(model("n", 3), {"x": rows, "labels": np.ones(40, np.uint8)}, "f.npz")
    assert (found.labels.dtype, list(found.inputs)) == (np.int64, ["x"])
    with pytest.raises(InputError, match="f.npz has 11 different samples, too few for three parts; give at least 12"):
        samples._in_three(Part({"x": np.arange(11)}), "f.npz", 0)
    assert [
        len(part) for part in vars(samples._in_three(Part({"x": np.arange(12)}), "", 0)).values() if isinstance(part, Part)
    ] == [3, 3, 6]


def test_no_sample_is_lost():
    """One in 256 has a digest that ends in a zero byte, which numpy's own texts do not keep."""
    part = Part({"x": np.arange(3000)})
    assert any(key.endswith(b"\0") for key in samples._keys(part))
    found = samples._in_three(part, "", 0)
    assert [len(each) for each in (found.calibration, found.selection, found.proof)] == [256, 750, 1500]
    everything = np.concatenate([each.inputs["x"] for each in (found.selection, found.proof)])
    assert len(np.unique(everything)) == 2250


def test_of_a_file_that_is_sorted_by_class_every_part_has_all_classes(monkeypatch):
    for name in ("CALIBRATION", "SELECTION", "PROOF"):
        monkeypatch.setattr(samples, name, 120)
    found = samples._in_three(Part({"x": np.arange(1000)}, np.arange(1000) // 100), "", 0)
    for part in (found.calibration, found.selection, found.proof):
        assert len(part) == 120
        assert set(part.labels) == set(range(10))


def test_each_part_has_its_most_samples(monkeypatch):
    monkeypatch.setattr(samples, "CALIBRATION", 3)
    monkeypatch.setattr(samples, "SELECTION", 4)
    monkeypatch.setattr(samples, "PROOF", 5)

    def sizes():
        found = samples._in_three(Part({"x": np.arange(100)}), "", 0)
        return len(found.calibration), len(found.selection), len(found.proof)

    assert sizes() == (3, 4, 5)
    monkeypatch.setattr(samples, "MOST_BYTES", 4 * 8)
    assert sizes() == (3, 4, 4), "of 8 bytes each"
    monkeypatch.setattr(samples, "MOST_BYTES", 1)
    assert sizes() == (1, 1, 1)


def test_noise_has_as_many_samples_as_are_needed_and_says_what_it_is(monkeypatch):
    def sizes(*axes):
        found = samples._noise(model(*axes), 0)
        assert found.noise
        assert found.source == "random numbers, not samples"
        return len(found.calibration), len(found.selection), len(found.proof)

    assert sizes("n", 3) == (64, 128, 448), "if all of 448 agree, that proves 99 %"
    assert guarantee.agreement_interval(448, 448)[0] > 0.99
    assert sizes(5, 3) == (64, 128, 448), "whole batches, of which the last one is not used up"
    monkeypatch.setattr(samples, "MOST_BYTES", 100 * 12)
    assert sizes("n", 3) == (64, 100, 100)
    monkeypatch.setattr(samples, "MOST_BYTES", 1)
    assert sizes("n", 3) == (4, 4, 4)
