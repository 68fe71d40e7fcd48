"""A tuned file is run as it says, as far as this machine can; its answers do not depend on it."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from deploykit.errors import ContractError, DeviceUnavailable, ModelFileError
from deploykit.runtime import Predictor, following, openvino
from deploykit.runtime import contract as contracts
from deploykit.runtime.contract import Tuned

onnx = pytest.importorskip("onnx")

SAMPLES = np.arange(6, dtype=np.float32).reshape(2, 3)
TUNED = Tuned("onnxruntime", 1, "int8", options={"level": "basic"}, source="a" * 64, figures={"ratio": 1.5})


def model(tuned=None):
    """The bytes of a file that doubles three numbers."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "x"], ["y"])], "g", [value("x", 1, ["n", 3])], [value("y", 1, ["n", 3])]
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    contract = contracts.Contract(contracts.ArrayInput((3,)), contracts.Output(), tuned=tuned)
    made.metadata_props.add(key=contracts.KEY, value=contract.dumps())
    return made.SerializeToString()


@pytest.fixture
def opened(monkeypatch):
    """The settings with which the session that answers was opened."""
    found = []
    real = following.open_session

    def record(data, name, folder, settings):
        found.append(settings)
        return real(data, name, folder, settings)

    monkeypatch.setattr(following, "open_session", record)
    return found


class Fake:
    """In place of OpenVINO: it doubles, and says what it was asked for."""

    asked = None
    inputs = (("x", None, None),)

    def __init__(self, model, name, threads=None, precision="f32", fixed_batch=None):
        Fake.asked = (threads, precision, fixed_batch)

    def run(self, names, feeds, options=None):
        return [feeds["x"] * 2]


def test_threads_and_level_are_those_that_the_file_was_tuned_with(opened):
    with Predictor(model(TUNED), "cpu") as predictor:
        np.testing.assert_array_equal(predictor.run(SAMPLES), 2 * SAMPLES)
        assert (predictor.engine, predictor.engine_note) == ("onnxruntime", "")
    assert [(settings.threads, settings.level) for settings in opened] == [(1, "basic")]


def test_threads_of_the_caller_are_kept(opened):
    Predictor(model(TUNED), "cpu", threads=2).close()
    assert opened[-1].threads == 2


def test_more_threads_than_there_are_cores_are_not_taken(opened):
    with Predictor(model(replace(TUNED, threads=4096)), "cpu") as predictor:
        assert "tuned for 4096 threads" in predictor.engine_note
    assert opened[-1].threads is None


def test_a_file_for_openvino_runs_there(monkeypatch):
    monkeypatch.setattr(openvino, "OpenVinoModel", Fake)
    options = {"precision": "bf16", "fixed_batch": "2"}
    with Predictor(model(replace(TUNED, engine="openvino", options=options)), "cpu") as predictor:
        np.testing.assert_array_equal(predictor.run(SAMPLES), 2 * SAMPLES)
        assert predictor.engine == "openvino"
    assert Fake.asked == (1, "bf16", 2)


def test_where_openvino_is_missing_it_answers_the_same_and_says_so_once(monkeypatch, caplog):
    monkeypatch.setattr(openvino, "installed", lambda: False)
    with caplog.at_level(logging.WARNING), Predictor(model(replace(TUNED, engine="openvino", options={})), "cpu") as predictor:
        for _ in range(3):
            np.testing.assert_array_equal(predictor.run(SAMPLES), 2 * SAMPLES)
        assert predictor.engine == "onnxruntime"
    said = [record.getMessage() for record in caplog.records if "OpenVINO" in record.getMessage()]
    assert len(said) == 1
    assert "not installed: it runs on onnxruntime, with the same answers" in said[0]


def test_where_openvino_cannot_run_it_onnxruntime_does(monkeypatch):
    def refuse(*_args):
        raise ModelFileError("OpenVINO cannot load the model: no such operator")

    monkeypatch.setattr(openvino, "installed", lambda: True)
    monkeypatch.setattr(openvino, "OpenVinoModel", refuse)
    with Predictor(model(replace(TUNED, engine="openvino", options={})), "cpu") as predictor:
        np.testing.assert_array_equal(predictor.run(SAMPLES), 2 * SAMPLES)
        assert "no such operator" in predictor.engine_note


def test_where_openvino_calls_an_input_otherwise_onnxruntime_runs_it(monkeypatch):
    monkeypatch.setattr(openvino, "installed", lambda: True)
    monkeypatch.setattr(openvino, "OpenVinoModel", Fake)
    monkeypatch.setattr(Fake, "inputs", (("made", None, None),))
    with Predictor(model(replace(TUNED, engine="openvino", options={})), "cpu") as predictor:
        np.testing.assert_array_equal(predictor.run(SAMPLES), 2 * SAMPLES)
        assert predictor.engine == "onnxruntime"
        assert "calls the input 'x' of" in predictor.engine_note


def test_another_machine_is_told_to_tune_again(monkeypatch):
    monkeypatch.setattr(following, "instruction_sets", lambda: ("avx2",))
    with Predictor(model(replace(TUNED, instructions=("avx2", "avx512_vnni"))), "cpu") as predictor:
        assert predictor.engine_note == "it was tuned on a machine with avx512_vnni, which this one lacks: tune it again here"


def test_a_file_that_was_not_tuned_is_opened_once(opened):
    with Predictor(model(), "cpu") as predictor:
        assert (predictor.engine, predictor.engine_note) == ("onnxruntime", "")
    assert not opened


@pytest.fixture
def cuda(monkeypatch):
    """A machine where CUDA seems to work; gives the settings that sessions were opened with. `lost`: options that it does not have."""
    from deploykit.runtime import predictor, session

    found, lost = [], set()

    def play(data, name, folder, settings):
        if settings.cuda_graph and "cuda_graph" in lost:
            raise DeviceUnavailable("cuda", "a node has no kernel there")
        real = session.open_session(data, name, folder, replace(settings, device="cpu", cuda_graph=False, tensorrt=""))
        found.append(settings)
        return replace(real, device="cuda", number=1)

    monkeypatch.setattr(following, "open_session", play)
    monkeypatch.setattr(predictor, "open_session", play)
    monkeypatch.setattr("deploykit.runtime.binding.BoundRunner", Bound)
    found.append(lost)
    return found


class Bound:
    """In place of the real one, which needs the device."""

    made = None

    def __init__(self, session, device, number, graph):
        Bound.made, self.session = (device, number, graph), session

    def run(self, names, feeds, options=None):
        return self.session.run(names, feeds, options)


ON_CUDA = replace(TUNED, device="cuda", precision="tf32", options={"tf32": "on", "layout": "nhwc"})


def test_the_settings_of_cuda_are_those_that_the_file_was_tuned_with(cuda):
    Bound.made = None
    with Predictor(model(ON_CUDA), "auto") as predictor:
        np.testing.assert_array_equal(predictor.run(SAMPLES), 2 * SAMPLES)
        assert (predictor.device, predictor.engine_note) == ("cuda", "")
    assert (cuda[-1].device, cuda[-1].tf32, cuda[-1].nhwc, cuda[-1].cuda_graph) == ("cuda:1", True, True, False)
    assert Bound.made is None
    for options, graph in (({"io_binding": "on"}, False), ({"cuda_graph": "on"}, True)):
        with Predictor(model(replace(ON_CUDA, options=options)), "cuda:1") as predictor:
            np.testing.assert_array_equal(predictor.run(SAMPLES), 2 * SAMPLES)
        assert Bound.made == ("cuda", 1, graph)
        assert cuda[-1].cuda_graph is graph
    with Predictor(model(replace(ON_CUDA, options={"cuda_graph": "on"})), "cuda", io_binding=True):
        assert Bound.made == ("cuda", 1, False), "the caller's own way of running is kept"
        assert not cuda[-1].cuda_graph


def test_where_cuda_does_not_have_them_it_answers_the_same_and_says_so(cuda):
    cuda[0].add("cuda_graph")
    with Predictor(model(replace(ON_CUDA, options={"cuda_graph": "on", "tf32": "on"})), "cuda") as predictor:
        np.testing.assert_array_equal(predictor.run(SAMPLES), 2 * SAMPLES)
        assert predictor.engine_note == (
            "it was tuned with cuda_graph on, tf32 on, which cannot be had here (device 'cuda' was asked for, but CUDA cannot be "
            "used: a node has no kernel there): it runs without, with the same answers"
        )
    assert (cuda[-1].tf32, cuda[-1].cuda_graph) == (False, False)


def test_a_file_for_cuda_runs_on_a_cpu_without_a_word_of_its_options():
    with Predictor(model(replace(ON_CUDA, options={"cuda_graph": "on", "provider": "tensorrt-fp16"})), "cpu") as predictor:
        np.testing.assert_array_equal(predictor.run(SAMPLES), 2 * SAMPLES)
        assert predictor.engine_note == "it was tuned for cuda and runs on cpu"
    with Predictor(model(replace(ON_CUDA, device="cpu")), "cpu") as predictor:
        assert predictor.engine_note == "", "what says cpu and has options of CUDA is run as any file"


def test_the_section_is_read_as_it_was_written_and_needs_no_newer_version():
    contract = contracts.Contract(contracts.ArrayInput((3,)), contracts.Output(), tuned=TUNED)
    assert contract.version == 1
    assert contracts.loads(contract.dumps()) == contract
    document = json.loads(contract.dumps())
    document["tuned"]["of_tomorrow"] = 1
    assert contracts.loads(json.dumps(document)).tuned == TUNED


@pytest.mark.parametrize(
    "change",
    [
        {"engine": "tensorrt"}, {"engine": ["x"]}, {"threads": 0}, {"threads": True}, {"threads": 1 << 40}, {"batch": -1},
        {"device": "disk"}, {"options": {"level": "../x"}}, {"options": {"tf32": "yes"}}, {"options": {"provider": "x.so"}}, {"options": {"log": "basic"}}, {"options": []}, {"options": {"level": {}}},
        {"instructions": [1]}, {"instructions": "avx2"}, {"instructions": ["a"] * 100}, {"precision": 8}, {"source": "x" * 100},
        {"figures": []},
    ],
)  # fmt: skip
def test_a_forged_section_is_refused(change):
    document = json.loads(contracts.Contract(contracts.ArrayInput((3,)), contracts.Output(), tuned=TUNED).dumps())
    document["tuned"] |= change
    with pytest.raises(ContractError):
        contracts.loads(json.dumps(document))


def test_a_section_without_its_engine_is_refused():
    document = json.loads(contracts.Contract(contracts.ArrayInput((3,)), contracts.Output(), tuned=TUNED).dumps())
    for broken in ({"threads": 1}, [], 5, "x"):
        with pytest.raises(ContractError):
            contracts.loads(json.dumps(document | {"tuned": broken}))
