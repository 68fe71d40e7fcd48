"""`tune` and its command, on a clock that is made up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from deploykit import onnx_file
from deploykit.errors import DependencyMissing, DeploykitError, InputError, UnknownName
from deploykit.progress import Silent
from deploykit.runtime import Predictor, openvino
from deploykit.runtime.contract import Tuned
from deploykit.tuner import sources, tune
from deploykit.tuner.claim import claimed
from deploykit.verdict import tuned_files

QUICK = {"engines": "onnxruntime", "threads": 1, "max_drop": 10}


@pytest.fixture
def file(exported, tmp_path):
    """A file of a trained lenet5, whose contract names the dataset."""
    return shutil.copy(exported, tmp_path / "model.onnx")


def operators(path):
    return {node.op_type for node in onnx.load(str(path)).graph.node}


def test_a_faster_file_that_keeps_the_decisions_is_written_with_all_that_it_needs(file, clock):
    clock.speeds = {"int8": 2.0}
    found = tune(file, **QUICK)
    assert found.verdict == "faster"
    assert found.chosen.proven
    assert found.chosen.judged.drop_high <= 0.1
    assert found.file == file.with_name("model.tuned.onnx")
    assert "QuantizeLinear" in operators(found.file)
    assert onnx_file.get_contract(onnx_file.read(found.file)).provenance == onnx_file.get_contract(onnx_file.read(file)).provenance
    assert {layer.precision for layer in found.layers} == {"int8"}
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.onnx", "model.tuned.onnx", "model.tuned.tune.sh"]
    samples = np.random.default_rng(0).standard_normal((3, 1, 32, 32)).astype(np.float32)
    with Predictor(found.file, "cpu") as tuned, Predictor(file, "cpu") as given:
        np.testing.assert_allclose(tuned.run(samples), given.run(samples), atol=0.5)


def test_the_script_beside_it_repeats_the_run(file, clock):
    found = tune(file, data="digits", **QUICK)
    line = found.script.read_text().splitlines()[-1]
    assert line.startswith(f"deploykit tune {file} --data digits --max-drop 10")
    assert "--threads 1" in line
    assert found.script.stat().st_mode & 0o100


def test_where_nothing_is_faster_the_file_is_the_one_that_was_given(file, clock):
    found = tune(file, **QUICK)
    assert (found.verdict, found.chosen) == ("float32", found.baseline)
    assert operators(found.file) == operators(file)
    assert {layer.reason for layer in found.layers} == {"the file that was chosen is not quantized"}
    assert "nothing that could be proven" in str(found)


def test_a_budget_that_nothing_meets_gives_the_file_as_it_is_and_says_so(file, clock, cli):
    clock.speeds = {"int8": 2.0}
    done = cli("tune", file, "--max-drop", "0", "--engines", "onnxruntime", "--threads", "1")
    assert done.exit_code == 0, done.stderr
    assert "nothing that could be proven to keep the decisions was faster" in done.stdout.replace("\n", " ")
    assert "QuantizeLinear" not in operators(file.with_name("model.tuned.onnx"))


def test_the_document_has_the_keys_that_are_public(file, clock, cli):
    clock.speeds = {"int8": 2.0}
    done = cli("tune", file, "--max-drop", "10", "--engines", "onnxruntime", "--threads", "1", "--format", "json")
    document = json.loads(done.stdout)
    assert {"target", "file", "goal", "baseline", "chosen", "candidates", "speedup", "verdict"} <= set(document)
    keys = (
        "name engine precision threads batch bytes median_ms ratio low high agreement accuracy drop drop_low drop_high kept reason"
    )
    assert set(keys.split()) <= set(document["candidates"][1])
    schema = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "tune.json").read_text())["properties"]
    assert set(document) == set(schema)
    for name in ("baseline", "chosen"):
        assert set(document[name]) == set(schema[name]["properties"])
    assert set(document["layers"][0]) == set(schema["layers"]["items"]["properties"])
    assert document["chosen"]["ratio"] == document["speedup"]["ratio"] == 2.0


def test_a_run_that_was_killed_goes_on_where_it_was(file, clock):
    clock.speeds = {"int8": 2.0}
    tune(file, **QUICK, out=file.with_name("whole.onnx"))
    whole = len(clock.calls)
    clock.calls, clock.broken_at = [], 2
    with pytest.raises(KeyboardInterrupt):
        tune(file, **QUICK)
    assert not file.with_name("model.tuned.onnx").exists()
    work = file.with_name("model.tuned.onnx.work")
    assert (work / "journal.json").is_file()
    clock.calls, clock.broken_at = [], None
    tune(file, **QUICK)
    assert len(clock.calls) == whole - 2
    assert not work.exists()
    assert file.with_name("model.tuned.onnx").read_bytes() == file.with_name("whole.onnx").read_bytes()


def test_a_run_that_was_killed_near_its_end_ends_as_if_it_had_not_been(file, clock, monkeypatch):
    """It begins at its beginning, and must not find itself too late there."""
    now, clock.speeds = [1000.0], {"int8": 2.0}
    monkeypatch.setattr("deploykit.tuner.bench.time.monotonic", lambda: now[0])
    monkeypatch.setattr("deploykit.tuner.tuning.time.monotonic", lambda: now[0])
    clock.takes = lambda: now.__setitem__(0, now[0] + 100)
    whole = tune(file, **QUICK, out=file.with_name("whole.onnx"))
    assert any("the time was over" in note for note in whole.notes)
    assert whole.verdict == "faster"
    clock.broken_at, clock.calls = len(clock.calls) - 1, []
    with pytest.raises(KeyboardInterrupt):
        tune(file, **QUICK)
    clock.broken_at, clock.calls = None, []
    found = tune(file, **QUICK)
    assert len(clock.calls) == 1, "the last timing alone"
    assert (found.chosen, found.notes, found.verdict) == (whole.chosen, whole.notes, whole.verdict)


def test_what_is_left_of_another_run_is_no_answer_to_this_one(file, clock):
    clock.speeds, clock.broken_at = {"int8": 2.0}, 2
    with pytest.raises(KeyboardInterrupt):
        tune(file, **QUICK)
    clock.calls, clock.broken_at = [], None
    said = []

    class Heard(Silent):
        def say(self, text):
            said.append(text)

    tune(file, **QUICK | {"max_drop": 9}, progress=Heard())
    assert said == ["begun anew: what was left of a killed tuning is of other options, data or another machine"]
    assert clock.calls[0][0].startswith("fp32"), "asked from the beginning"


def test_without_data_it_says_what_to_give_and_noise_is_named(tmp_path, clock, exported):
    model = onnx_file.read(exported)
    del model.metadata_props[:]
    bare = tmp_path / "bare.onnx"
    onnx_file.write(model, bare)
    with pytest.raises(
        InputError, match=r"nothing to calibrate .*; give samples as they occur: --data NAME_OR_DIR_OR_NPZ; --data noise"
    ):
        tune(bare)
    found = tune(bare, data="noise", engines="onnxruntime", threads=1, precisions="fp32")
    assert any("random numbers" in note for note in found.notes)
    with pytest.raises(InputError, match="does not say how a sample becomes its input, so the dataset digits"):
        tune(bare, data="digits")
    assert not list(tmp_path.glob("*.work"))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"input": np.zeros((40, 1, 28, 28), np.float32)}, "float32 1x28x28, the input 'input' takes float32 1x32x32"),
        ({"input": np.zeros((40, 1, 32, 32), np.float64)}, "float64"),
        ({"x": np.zeros((40, 1, 32, 32), np.float32)}, "no input 'x'"),
        ({"input": np.zeros((40, 1, 32, 32), np.float32)}, "1 different samples, too few"),
        ({"input": np.random.default_rng(0).random((40, 1, 32, 32), np.float32), "labels": np.zeros(3, int)}, "different numbers"),
        ({"input": np.random.default_rng(0).random((40, 1, 32, 32), np.float32), "labels": np.zeros(40)}, "one whole number"),
    ],
)
def test_data_that_do_not_fit_are_one_line(file, tmp_path, arrays, words):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputError, match=words):
        tune(file, data=tmp_path / "data.npz")


def test_an_engine_or_precision_that_is_not_there_is_named(file, monkeypatch):
    monkeypatch.setattr(openvino, "installed", lambda: False)
    with pytest.raises(DependencyMissing, match=r"'openvino', which is not installed; pip install 'deploykit\[openvino\]'"):
        tune(file, engines="openvino")
    with pytest.raises(UnknownName, match="unknown engine 'tensorflow'"):
        tune(file, engines=["tensorflow"])
    with pytest.raises(UnknownName, match="unknown precision 'int4'"):
        tune(file, precisions="int4")
    with pytest.raises(InputError, match="is the file that is tuned"):
        tune(file, out=file)


def test_a_graph_that_the_quantizer_cannot_read_is_a_note(file, clock, monkeypatch):
    def fail(*_):
        raise InputError("onnxruntime's quantizer cannot read model.onnx: no", "tune with --precisions fp32")

    monkeypatch.setattr("deploykit.tuner.quantizing.calibrate", fail)
    found = tune(file, **QUICK)
    assert found.verdict == "float32"
    assert [note for note in found.notes if note.startswith("onnxruntime's quantizer cannot read")]


def test_what_was_written_is_validated_by_its_decisions_profiled_and_tuned_again(file, clock, cli):
    """Its own words, beside "same network": by its numbers it is another network."""
    clock.speeds = {"int8": 2.0}
    tuned = tune(file, **QUICK).file
    assert onnx_file.get_contract(onnx_file.read(tuned)).tuned.precision == "int8"
    done = cli("validate", tuned, "--against", file, "--data", "strokes")
    assert "same decisions" in done.stdout
    assert done.exit_code == (0 if "verdict: same decisions as" in done.stdout.replace("\n", " ") else 1)
    document = json.loads(cli("validate", tuned, "--against", file, "--format", "json").stdout)
    assert document["verdict"] != "same network"
    assert document["decisions"]["agreement"] >= 0.98, "the test split of digits is too small to prove half a point"
    assert document["checks"][-1]["name"] == "same decisions"
    clock.speeds = {}
    again = tune(tuned, **QUICK)
    assert again.file == file.with_name("model.tuned.tuned.onnx"), "the file that was named stays"
    assert "QuantizeLinear" in operators(tuned)
    assert "QuantizeLinear" not in operators(again.file), "tuned again from the file that it was made from"
    assert again.notes[0] == "model.tuned.onnx was tuned from model.onnx, which is tuned again: the file as it is, is model.onnx"
    with pytest.raises(InputError, match="is the file that is tuned"):
        tune(tuned, **QUICK, out=tuned)
    file.unlink()
    shutil.copy(again.file, file.with_name("other.tuned.onnx"))
    clock.speeds = {"int8": 2.0}
    before = file.with_name("other.tuned.onnx").read_bytes()
    again = tune(file.with_name("other.tuned.onnx"), **QUICK)
    assert again.verdict == "faster", "what is float32 inside is tuned itself"
    assert again.file.name == "other.tuned.tuned.onnx"
    assert file.with_name("other.tuned.onnx").read_bytes() == before, "its weights may be the only ones"


@pytest.mark.parametrize(
    ("precision", "options", "is_float"),
    [
        ("fp32", {}, True), ("tf32", {"tf32": "on"}, True), ("bf16", {"precision": "bf16"}, True), ("fp16", {"precision": "f16"}, True),
        ("fp16", {"provider": "tensorrt-fp16"}, True), ("fp16", {}, False), ("int8", {"level": "all"}, False),
        ("int8", {"precision": "bf16"}, False),
    ],
)  # fmt: skip
def test_what_is_float_inside_can_be_tuned_itself(precision, options, is_float):
    assert sources._is_float(Tuned("onnxruntime", 1, precision, options=options)) is is_float


def test_nodes_without_names_are_quantized_and_the_given_file_stays_as_it_is(file, clock, monkeypatch):
    model = onnx_file.read(file)
    for node in model.graph.node:
        node.ClearField("name")
    onnx_file.write(model, file)
    before, clock.speeds = file.read_bytes(), {"int8": 2.0}
    monkeypatch.setattr("deploykit.tuner.layer_measures.times.node_times", lambda *_: SimpleNamespace(charged={}))
    found = tune(file, **QUICK)
    assert found.verdict == "faster"
    assert "QuantizeLinear" in operators(found.file)
    assert {layer.precision for layer in found.layers} == {"int8"}
    names = [layer.path for layer in found.layers]
    assert len(set(names)) == len(names) == 5
    assert file.read_bytes() == before
    assert not list(file.parent.glob("*.work"))


def test_a_tuned_file_whose_origin_is_gone_says_so(file, clock):
    clock.speeds = {"int8": 2.0}
    tuned = tune(file, **QUICK).file
    file.unlink()
    with pytest.raises(InputError, match=r"was tuned from a file that is not beside it .*; put it there, or tune that one"):
        tune(tuned)


def test_what_is_no_file_beside_a_tuned_one_is_not_its_origin(file, clock):
    clock.speeds = {"int8": 2.0}
    tuned = tune(file, **QUICK).file
    file.with_name("a.onnx").symlink_to("nowhere")
    file.with_name("b.onnx").mkdir()
    assert tune(tuned, **QUICK).verdict == "faster"


def test_options_that_a_file_has_no_use_for_are_refused(file):
    for options, name in (({"untrained": True}, "--untrained"), ({"input_dtypes": "int64"}, "--input-dtype")):
        with pytest.raises(InputError, match=f"has its inputs and weights inside; {name} does not go with it; leave out {name}"):
            tune(file, **options)


def test_a_file_beside_that_the_quantizer_would_write_stays(file, clock):
    other = file.with_name("model-inferred.onnx")
    other.write_bytes(b"somebody's own")
    clock.speeds = {"int8": 2.0}
    assert tune(file, **QUICK).verdict == "faster"
    assert other.read_bytes() == b"somebody's own"


def test_a_file_of_two_inputs_without_a_contract_says_what_it_was_tuned_for(tmp_path, clock):
    random, value = np.random.default_rng(0), onnx.helper.make_tensor_value_info
    stored = [onnx.numpy_helper.from_array(random.standard_normal((8, 5)).astype(np.float32), name) for name in ("u", "v")]
    nodes = [
        onnx.helper.make_node("MatMul", ["a", "u"], ["p"]), onnx.helper.make_node("MatMul", ["b", "v"], ["q"]),
        onnx.helper.make_node("Add", ["p", "q"], ["y"]),
    ]  # fmt: skip
    graph = onnx.helper.make_graph(nodes, "g", [value(n, 1, ["n", 8]) for n in "ab"], [value("y", 1, ["n", 5])], stored)
    file = tmp_path / "two.onnx"
    onnx_file.write(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), file)
    np.savez(tmp_path / "data.npz", **{name: random.standard_normal((2000, 8)).astype(np.float32) for name in "ab"})
    clock.speeds = {"int8": 2.0}
    found = tune(file, data=tmp_path / "data.npz", engines="onnxruntime", threads=1, min_agreement=0.8)
    assert found.verdict == "faster", found.notes
    assert "QuantizeLinear" in operators(found.file)
    contract = onnx_file.get_contract(onnx_file.read(found.file))
    assert contract.tuned.precision == "int8"
    assert list(contract.inputs) == ["a", "b"]
    assert tuned_files.is_quantized(onnx_file.read(found.file)), "validate looks at its decisions"
    again = tune(found.file, data=tmp_path / "data.npz", engines="onnxruntime", threads=1, min_agreement=0.8, precisions="fp32")
    assert "QuantizeLinear" not in operators(again.file), "it goes back to the file that it was made from"


def test_weights_beside_the_file_are_quantized_like_those_inside(file, clock):
    """torch writes such files by itself."""
    beside = file.with_name("beside.onnx")
    onnx.save_model(onnx.load(file), beside, save_as_external_data=True, location="beside.data", size_threshold=256)
    clock.speeds = {"int8": 2.0}
    found = tune(beside, **QUICK)
    assert found.verdict == "faster"
    assert not [note for note in found.notes if "cannot read" in note]
    assert found.baseline.bytes == beside.stat().st_size + file.with_name("beside.data").stat().st_size
    assert found.chosen.bytes < found.baseline.bytes
    assert Predictor(found.file, "cpu").inputs[0].name == "input"


def samples_with(labels, tmp_path):
    path = tmp_path / "samples.npz"
    count = len(labels)
    np.savez(path, input=np.random.default_rng(0).standard_normal((count, 1, 32, 32)).astype(np.float32), labels=labels)
    return path


@pytest.mark.parametrize(("label", "said"), [(10, "a label of .* is 10, and 'logits' has 10 classes"), (-1, "a label of .* is -1")])
def test_a_label_that_is_no_class_is_refused(file, clock, tmp_path, label, said):
    labels = np.arange(400) % 10
    labels[7::9] = label
    with pytest.raises(InputError, match=said):
        tune(file, data=samples_with(labels, tmp_path), **QUICK)
    assert not file.with_name("model.tuned.onnx").exists()


def test_labels_that_are_not_those_of_the_network_are_not_used(file, clock, tmp_path):
    """With them no accuracy could drop, whatever became of the decisions."""
    clock.speeds = {"int8": 2.0}
    found = tune(file, data=samples_with(np.random.default_rng(1).integers(0, 10, 400), tmp_path), **QUICK)
    assert "so the labels are not used" in found.notes[0]
    assert not found.labelled
    assert "the decision stays on at least 99 %" in found.budget
    assert {entry.judged.drop for entry in found.candidates if entry.judged is not None} == {None}


def test_a_second_output_is_part_of_the_proof(file, clock, tmp_path):
    """Nobody but the application knows that it is read."""
    model = onnx.load(file)
    model.graph.node.append(onnx.helper.make_node("Sign", ["logits"], ["signs"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("signs", onnx.TensorProto.FLOAT, ["batch", 10]))
    onnx.save(model, file)
    clock.speeds = {"int8": 2.0}
    found = tune(file, **{**QUICK, "max_drop": 0.5})
    assert "a sample counts as lost where another output" in found.budget
    assert found.verdict == "float32"
    (whole,) = (entry for entry in found.candidates if entry.candidate.name == "int8 onnxruntime")
    assert whole.judged.drop > 0.005, "signs of numbers near 0 change"


def test_two_tunings_of_one_result(file, clock):
    with claimed(file.with_name("model.tuned.onnx")), pytest.raises(InputError, match="another process tunes for"):
        tune(file, **QUICK)
    assert tune(file, **QUICK).verdict == "float32"


def test_a_file_that_cannot_be_loaded_leaves_nothing(tmp_path):
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Unheard", ["x"], ["y"], domain="nowhere")
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, ["n", 2])], [value("y", 1, ["n", 2])])
    imports = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("nowhere", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=imports, ir_version=9), tmp_path / "strange.onnx")
    with pytest.raises(DeploykitError, match=r"does not know the operator nowhere:Unheard"):
        tune(tmp_path / "strange.onnx", data="noise", seconds=5)
    assert [path.name for path in tmp_path.iterdir()] == ["strange.onnx"]
