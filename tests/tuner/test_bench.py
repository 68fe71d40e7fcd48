"""The instruments of the search: what is asked of engines and the clock, which here are made up, and what is kept in the journal."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from deploykit.backends import Engine, TensorSpec
from deploykit.errors import InputError, OutputError
from deploykit.progress import Silent
from deploykit.tuner import bench as benches
from deploykit.tuner import journal as journals
from deploykit.tuner.answers import answers_of, are_apart
from deploykit.tuner.bench import Bench
from deploykit.tuner.journal import Journal
from deploykit.tuner.result import Candidate, Timing
from deploykit.tuner.samples import Part, Parts
from deploykit.verdict.same_decisions import Budget, Judged, Rule

BASELINE = Candidate("base", "onnxruntime", "fp32", 2, 3)
OTHER = Candidate("other", "openvino", "int8", 1, 6, "int8-0", {"level": "basic"})


class Doubling(Engine):
    """Gives its input twice, and as a whole number once; notes the sizes of its runs."""

    def __init__(self, batch=None, wrong=None):
        super().__init__([TensorSpec("x", (batch, 2), np.dtype(np.float32), "tensor(float)")], "cpu", 1, {})
        self.sizes, self.wrong = [], wrong

    def _run(self, arrays):
        if self.wrong is not None:
            raise self.wrong
        self.sizes.append(len(arrays[0]))
        return arrays[0] * 2, arrays[0][:, :1].astype(np.int64)

    def _close(self):
        self.closed = True


class Heard(Silent):
    """What was told."""

    def __init__(self):
        self.notes = []

    def advance(self, steps=1, note=""):
        self.notes.append((steps, note))


def part(count, labels=False):
    return Part({"x": np.arange(2 * count, dtype=np.float32).reshape(count, 2)}, np.zeros(count, np.int64) if labels else None)


def doubling():
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Mul", ["x", "two"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])],
        [onnx.numpy_helper.from_array(np.full(200, 2, np.float32)[:1], "two")],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """(bench, the engines that were started as (name, file, device, threads, options))."""
    started, engines = [], {}

    def start(name, file, *, device, threads, options):
        started.append((name, file.name, device, threads, dict(options)))
        engine = engines.get(name, Doubling)()
        started[-1] = (*started[-1], engine)
        return engine

    monkeypatch.setattr(benches.backends, "start", start)
    parts = Parts(part(4), part(5), part(7), "made up")
    file = tmp_path / "model.onnx"
    file.write_bytes(doubling().SerializeToString())
    journal = Journal(tmp_path / "work", {})
    found = Bench(file, tmp_path / "work", parts, BASELINE, Budget(), journal, "cpu", Heard())
    return SimpleNamespace(bench=found, started=started, engines=engines, parts=parts, journal=journal, folder=tmp_path)


@pytest.mark.parametrize(
    ("count", "batch", "sizes"),
    [(70, None, [32, 32, 6]), (32, None, [32]), (1, None, [1]), (7, 3, [3, 3, 3]), (6, 3, [3, 3]), (2, 5, [5])],
)
def test_answers_come_in_chunks_and_what_fills_up_a_batch_is_left_out(count, batch, sizes):
    engine = Doubling(batch)
    samples = part(count)
    doubled, whole = answers_of(engine, samples)
    assert engine.sizes == sizes
    np.testing.assert_array_equal(doubled, samples.inputs["x"] * 2)
    np.testing.assert_array_equal(whole, samples.inputs["x"][:, :1])
    assert doubled.dtype == whole.dtype == np.float64


class Centred(Doubling):
    """Rows change each other; and one value comes for all samples of a run."""

    def _run(self, arrays):
        self.sizes.append(len(arrays[0]))
        return arrays[0] - arrays[0].mean(axis=0), arrays[0].sum(axis=0)


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_a_candidate_for_a_fixed_batch_is_compared_on_the_same_batches(made, rows):
    """Of two columns: with two rows at once the value for all samples looks like one for each."""
    made.engines |= {"onnxruntime": Centred, "openvino": Centred}
    (made.folder / "work").mkdir(exist_ok=True)
    fixed = OTHER.but("fixed", options={"fixed_batch": str(rows)}, build="fp32")
    judged = made.bench.judge(fixed, "selection")
    assert judged.error == 0
    assert judged.samples == 5
    looked, a, b = (engine.sizes for *_, engine in made.started)
    assert a == b
    assert looked == [1, 1, 1, 1, 4]
    made.bench.judge(OTHER.but("any", build="fp32"), "selection")
    assert made.started[-1][-1].sizes == made.started[-2][-1].sizes != a, "one for any batch is asked as ever"


@pytest.mark.parametrize(("engine", "found"), [(Doubling, True), (Centred, False)])
def test_whose_rows_are_their_own(engine, found):
    assert are_apart(engine(), part(6)) is found


def test_where_rows_are_their_own_the_given_file_is_asked_once_for_all_batches(made):
    (made.folder / "work").mkdir(exist_ok=True)
    for options in ({}, {"fixed_batch": "1"}, {"fixed_batch": "2"}):
        made.bench.judge(OTHER.but(f"one {options}", options=options, build="fp32"), "selection")
    sizes = [engine.sizes for *_, engine in made.started]
    assert sizes == [[5], [5], [1, 1, 1, 1, 4, 3], [1, 1, 1, 1, 1], [2, 2, 2]], (
        "given, any, a look at its rows, and two for fixed batches"
    )


def test_what_fills_up_a_batch_is_the_last_sample_again():
    seen = []

    class Watched(Doubling):
        def _run(self, arrays):
            seen.append(arrays[0][:, 0].tolist())
            return super()._run(arrays)

    answers_of(Watched(3), part(4))
    assert seen == [[0, 2, 4], [6, 6, 6]]


def test_after_a_kill_the_time_is_that_of_the_last_answer_and_goes_on_with_the_first_new_one(tmp_path, monkeypatch):
    """Else a search that was killed near its end would find itself late at its beginning, and choose among nothing."""
    now = [1000.0]
    monkeypatch.setattr(benches.time, "monotonic", lambda: now[0])

    def bench():
        journal = Journal(tmp_path / "work", {})
        return Bench(tmp_path / "m", tmp_path / "work", None, BASELINE, Budget(), journal, "cpu", Heard(), began=now[0] - 1.0)

    first = bench()
    assert first.now() == 1.0
    now[0] += 20
    assert not first.late(21.0)
    assert first.remember(["a"], lambda: 5) == 5
    now[0] += 30
    assert first.late(50.0)
    now[0] += 7777  # nothing was found in this time, and the killed one is started again
    again = bench()
    assert again.now() == 0.0
    assert not again.late(0.0), "as it was then"
    assert again.now() == 21.0
    assert again.remember(["a"], lambda: pytest.fail("asked again")) == 5
    now[0] += 7
    assert again.now() == 21.0, "what is known takes no time"
    assert again.late(9999.0)
    assert again.now() == 51.0
    assert again.remember(["b"], lambda: now.__setitem__(0, now[0] + 4)) is None
    assert again.now() == 55.0
    assert again.remember(["b"], lambda: pytest.fail("asked again")) is None


def test_a_file_is_made_once_and_the_given_one_never(made):
    model = doubling()
    made.bench.make("fp32", pytest.fail)
    assert made.bench.path("fp32") == made.folder / "model.onnx"
    assert made.bench.size("fp32") == len(model.SerializeToString())
    made.bench.make("int8-0", lambda: model)
    assert made.bench.path("int8-0") == made.folder / "work" / "int8-0.onnx"
    assert onnx.load(made.bench.path("int8-0")).ir_version == 9
    assert made.bench.size("int8-0") == len(model.SerializeToString())
    made.bench.make("int8-0", pytest.fail)
    assert made.bench._progress.notes == [(0, "making int8-0")]


def clock(asked, **ratios):
    """In place of `measure_latency`."""

    def measure(subjects, arrays, **options):
        asked.append((subjects, arrays, options))
        found = [ratios[subject.label] for subject in subjects[1:]]
        return SimpleNamespace(
            latencies=[SimpleNamespace(median_ms=10.0), *(SimpleNamespace(median_ms=10 / ratio) for ratio in found)],
            comparisons=[SimpleNamespace(ratio=ratio, low=ratio - 0.25, high=ratio + 0.5) for ratio in found],
        )

    return measure


def test_all_are_timed_together_with_the_settings_of_each(made, monkeypatch):
    asked = []
    monkeypatch.setattr(benches, "measure_latency", clock(asked, other=2.0))
    found = made.bench.time(BASELINE, [OTHER], 7.5)
    assert found == [Timing(10.0, 1.0, 1.0, 1.0), Timing(5.0, 4.0, 3.5, 5.0)], "twice as fast for twice as many samples"
    ((subjects, arrays, options),) = asked
    assert [(s.target, s.backend, s.label, s.threads, dict(s.options), s.rows) for s in subjects] == [
        (str(made.folder / "model.onnx"), "onnxruntime", "base", 2, {}, 3),
        (str(made.folder / "work" / "int8-0.onnx"), "openvino", "other", 1, {"level": "basic"}, 6),
    ]
    assert [array.shape for array in arrays] == [(6, 2)], "the largest batch"
    assert options == {"device": "cpu", "threads": 2, "seconds": 7.5, "progress": made.bench._progress}
    assert [entry[:5] for entry in made.started] == [("openvino", "int8-0.onnx", "cpu", 1, {"level": "basic"})]
    assert made.started[0][5].sizes == [6], "it was run once, on its own batch"
    assert made.started[0][5].closed
    assert made.bench.time(BASELINE, [OTHER], 7.5) == found
    assert len(asked) == 1, "what was timed is in the journal"
    made.bench.time(replace(BASELINE, name="base, once more"), [OTHER], 7.5)
    assert len(asked) == 2
    again = Journal(made.folder / "work", {})
    assert again.get(["time", "base", "other"])[0] == [vars(timing) for timing in found]
    assert again.seconds > 0


def test_what_cannot_run_has_a_ratio_of_0_and_the_others_are_timed(made, monkeypatch):
    asked = []
    monkeypatch.setattr(benches, "measure_latency", clock(asked, good=1.5, best=3.0))
    made.engines["openvino"] = lambda: Doubling(wrong=InputError("no", "not so"))
    good, best = (Candidate(name, "onnxruntime", "int8", 1, 3) for name in ("good", "best"))
    found = made.bench.time(BASELINE, [good, OTHER, best], 1.0)
    assert [(timing.median_ms, timing.ratio, timing.low, timing.high) for timing in found] == [
        (10.0, 1.0, 1.0, 1.0), (10 / 1.5, 1.5, 1.25, 2.0), (0.0, 0.0, 0.0, 0.0), (10 / 3, 3.0, 2.75, 3.5),
    ]  # fmt: skip
    assert [subject.label for subject in asked[0][0]] == ["base", "good", "best"]
    made.engines["openvino"] = lambda: Doubling(wrong=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        made.bench.time(BASELINE, [OTHER], 1.0)


def test_samples_for_which_the_time_is_not_enough_are_left_out_and_as_many_after_a_kill(made, monkeypatch):
    """The shortest run of four takes two seconds, so a sample half a second; 64 and 640 seconds."""
    monkeypatch.setattr(benches.time, "perf_counter", iter([10.0, 15.0, 20.0, 22.0, 30.0, 33.0]).__next__)
    monkeypatch.setattr(benches, "SHARES", {"calibration": (0.03125, 3), "selection": (0.03125, 3), "proof": (0.03125, 3)})
    made.bench.fit(64.0)
    assert [len(part) for part in (made.bench.parts.calibration, made.bench.parts.selection, made.bench.parts.proof)] == [4, 4, 4]
    assert made.started[0][5].sizes == [4, 4, 4, 4], "the first run does not count"
    assert (made.bench.answering("proof"), made.bench.answering("selection")) == (2.0, 2.0)
    assert made.bench.going(4) == 24 * 0.5 * 3 * 5, "six rounds of four runs, of three samples each, of five files"
    np.testing.assert_array_equal(made.bench.parts.proof.inputs["x"], made.parts.proof.inputs["x"][:4])
    again = Bench(made.folder / "model.onnx", made.folder / "work", made.parts, BASELINE, Budget(), made.journal, "cpu", Heard())
    again.fit(640.0)
    assert again.parts == made.parts, "everything has its time; how long a sample takes is known"
    again.fit(1.0)
    assert [len(part) for part in (again.parts.calibration, again.parts.selection, again.parts.proof)] == [3, 3, 3]
    assert len(made.started) == 1


def test_the_output_that_is_meant_is_compared_first(made, monkeypatch):
    value = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("Relu", ["x"], [name]) for name in ("doubled", "whole")]
    graph = onnx.helper.make_graph(
        nodes, "g", [value("x", 1, ["n", 2])], [value("doubled", 1, ["n", 2]), value("whole", 1, ["n", 1])]
    )
    file = made.folder / "two.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]), file)
    seen = []
    monkeypatch.setattr(benches, "judge", lambda expected, *_: seen.append(expected) or Judged(1, 0.0, 1.0, 1.0, True, ""))
    for name, first in (("whole", 1), ("doubled", 2), (None, 2), ("elsewhere", 2)):
        rule = Rule("values", name=name)
        bench = Bench(
            file,
            made.folder / "work",
            made.parts,
            BASELINE,
            Budget(),
            Journal(made.folder / "new", {"n": name}),
            "cpu",
            Heard(),
            rule,
        )
        bench.judge(BASELINE, "proof")
        assert seen[-1].rule == rule
        assert [output.shape[1] for output in seen[-1].outputs] == [first, 3 - first]


def test_answers_are_compared_with_those_of_the_given_file(made, monkeypatch):
    asked = []

    def judge(expected, found, budget, planned):
        asked.append((expected.samples, found.samples, budget, planned))
        return Judged(found.samples, 0.5, 1.0, 0.75, True, "fine")

    monkeypatch.setattr(benches, "judge", judge)
    made.bench.make("int8-0", onnx.ModelProto)
    assert made.bench.judge(OTHER, "selection") == Judged(5, 0.5, 1.0, 0.75, True, "fine")
    assert [entry[0] for entry in made.started] == ["onnxruntime", "openvino"]
    made.bench.judge(replace(OTHER, name="third"), "selection")
    assert [entry[0] for entry in made.started] == ["onnxruntime", "openvino", "openvino"], "the given file is asked once"
    made.bench.judge(OTHER, "proof")
    assert asked == [(5, 5, Budget(), 7), (5, 5, Budget(), 7), (7, 7, Budget(), None)]
    made.bench.judge(OTHER, "proof")
    assert len(asked) == 3
    assert [note for _, note in made.bench._progress.notes[1:]] == ["answers of other", "answers of third", "answers of other"]
    assert {steps for steps, _ in made.bench._progress.notes} == {0}


def test_a_journal_is_of_one_run(tmp_path):
    folder = tmp_path / "work"
    first = Journal(folder, {"seed": 0, "names": ("a",)})
    assert (first.resumed, first.seconds, first.get(["time", "a"])) == (False, 0.0, None)
    first.put(["time", "a"], [1.5], 2.5)
    again = Journal(folder, {"seed": 0, "names": ("a",)})
    assert (again.resumed, again.seconds, again.get(["time", "a"])) == (True, 2.5, ([1.5], 2.5))
    again.put(["judge"], None, 3.5)
    assert again.seconds == 3.5
    (folder / "int8-0.onnx").write_bytes(b"")
    other = Journal(folder, {"seed": 1, "names": ("a",)})
    assert (other.resumed, other.other, other.seconds, other.get(["time", "a"])) == (False, True, 0.0, None)
    assert not Journal(folder, {"seed": 1, "names": ("a",)}).other
    assert [path.name for path in folder.iterdir()] == ["journal.json"], "what was made for another run is gone"


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"version": 3, "run": {}, "answers": {"[]": 1}}', '{"run": {}, "answers": {"[]": 1}}', "[" * 100_000]
)
def test_a_journal_that_is_none_is_begun_anew(tmp_path, text):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "journal.json").write_text(text)
    found = Journal(tmp_path / "work", {})
    assert (found.resumed, found.seconds) == (False, 0.0)
    found.put(["x"], 1, 1.0)
    kept = json.loads((tmp_path / "work" / "journal.json").read_text())
    assert kept == {"version": 2, "run": {}, "seconds": 1.0, "answers": {'["x"]': [1, 1.0]}}


def test_a_folder_that_holds_anything_else_is_not_removed(tmp_path):
    (tmp_path / "own").mkdir()
    for name in ("journal.json", "a.onnx", "a.data", "a.tmp"):
        (tmp_path / "own" / name).write_text("")
    journals.remove(tmp_path / "own")
    assert not (tmp_path / "own").exists()
    journals.remove(tmp_path / "own")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.onnx").write_text("")
    (tmp_path / "mine" / "notes.txt").write_text("")
    journals.remove(tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["a.onnx", "notes.txt"]
    (tmp_path / "mine" / "journal.json").write_text("")
    journals.remove(tmp_path / "mine")
    (tmp_path / "mine" / "notes.txt").unlink()
    (tmp_path / "mine" / "more.onnx").mkdir()
    journals.remove(tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["a.onnx", "journal.json", "more.onnx"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot make .*; choose another --out"):
        Journal(tmp_path / "file" / "work", {})


def test_a_folder_that_no_tuning_has_begun_is_refused_and_stays(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "best.onnx").write_text("mine")
    with pytest.raises(OutputError, match=r"is there, and is no folder of a tuning; choose another --out"):
        Journal(tmp_path / "work", {})
    journals.remove(tmp_path / "work")
    assert (tmp_path / "work" / "best.onnx").read_text() == "mine"


def test_a_run_that_was_killed_before_its_first_answer_goes_on(tmp_path):
    Journal(tmp_path / "work", {})
    (tmp_path / "work" / "int8-0.onnx").write_bytes(b"")
    assert not Journal(tmp_path / "work", {}).resumed
    left = tmp_path / "other" / ".journal.json.deploykit-0123456789abcdef.tmp"
    left.parent.mkdir()
    left.write_text("")
    assert not Journal(left.parent, {}).resumed
    assert [path.name for path in left.parent.iterdir()] == ["journal.json"]


@pytest.mark.parametrize("known", [False, True])
def test_a_tuning_that_is_refused_leaves_a_folder_only_where_something_is_known(tmp_path, known):
    folder = tmp_path / "work"
    with pytest.raises(InputError), Journal(folder, {}) as journal:
        (folder / "readable.onnx").write_bytes(b"")
        if known:
            journal.put(["question"], 1, 0.5)
        raise InputError("this file", "another one")
    assert folder.exists() is known
