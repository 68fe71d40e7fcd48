"""What every backend promises, asked of every backend; a new file in deploykit/backends is tested without a new test."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from deploykit import backends, exporter, onnx_file
from deploykit.backends import Engine
from deploykit.backends import onnxruntime as backend
from deploykit.errors import DeviceUnavailable, InputError, UnknownName
from deploykit.network import target
from deploykit.network.input_specs import InputSpec
from deploykit.runtime import openvino
from deploykit.runtime.identity import IDENTITY_MODEL

MARKS = {
    "torch-compile": [pytest.mark.slow, pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler")],
    "openvino": [pytest.mark.skipif(not openvino.installed(), reason="OpenVINO is not installed")],
}
NAMES = [pytest.param(name, marks=MARKS.get(name, [])) for name in backends.names()]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """What each kind of backend runs: the same network twice."""
    file = tmp_path_factory.mktemp("onnx") / "lenet5.onnx"
    network = target.resolve("lenet5", untrained=True)
    onnx_file.write(exporter.to_onnx(network), file)
    return {"network": network, "onnx": file}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def start(name, sources):
    def start(**options):
        return backends.start(name, sources[backends.source_of(name)], **options)

    return start


def batch(size, seed=0):
    return [np.random.default_rng(seed).standard_normal((size, 1, 32, 32)).astype(np.float32)]


def test_gives_pytorchs_answers_at_several_batch_sizes(start, sources):
    with start(threads=1) as engine:
        assert isinstance(engine, Engine)
        for size in (1, 3):
            (found,) = engine.run(batch(size))
            with torch.no_grad():
                expected = sources["network"].module(torch.from_numpy(batch(size)[0])).numpy()
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_tells_what_it_takes_and_where_it_runs(start):
    with start(threads=1) as engine:
        (spec,) = engine.inputs
        assert (spec.name, spec.shape, spec.dtype) == ("input", (None, 1, 32, 32), np.float32)
        assert (engine.device, engine.threads) == ("cpu", 1)
        assert engine.settings["version"]


def test_outputs_survive_the_next_run_and_inputs_are_left_alone(start):
    with start(threads=1) as engine:
        given = batch(1)
        before = given[0].copy()
        first = engine.run(given)[0]
        kept = first.copy()
        engine.run(batch(1, seed=1))
        np.testing.assert_array_equal(first, kept)
        np.testing.assert_array_equal(given[0], before)
        np.testing.assert_array_equal(engine.run(given)[0], kept)


def test_takes_arrays_that_are_read_only_or_not_contiguous(start):
    with start(threads=1) as engine:
        array = batch(2)[0]
        expected = engine.run([array])[0]
        frozen = array.copy()
        frozen.flags.writeable = False
        np.testing.assert_array_equal(engine.run([frozen])[0], expected)
        strided = np.repeat(array, 2, axis=0)[::2]
        np.testing.assert_array_equal(engine.run([strided])[0], expected)


def test_refuses_shapes_and_numbers_of_inputs_that_do_not_fit(start):
    with start(threads=1) as engine:
        with pytest.raises(InputError, match="1x1x8x8"):
            engine.run([np.zeros((1, 1, 8, 8), np.float32)])
        with pytest.raises(InputError, match="1 inputs, 2 arrays"):
            engine.run(batch(1) * 2)


def test_a_closed_engine_does_not_run_and_closes_again(start):
    engine = start(threads=1)
    engine.close()
    engine.close()
    with pytest.raises(InputError, match="closed"):
        engine.run(batch(1))


def test_gives_back_the_threads_of_the_process(start):
    before = torch.get_num_threads()
    with start(threads=1):
        pass
    assert torch.get_num_threads() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused_and_auto_takes_what_there_is(start):
    with pytest.raises(DeviceUnavailable, match="cuda"):
        start(device="cuda")
    with start(device="auto", threads=1) as engine:
        assert engine.device == "cpu"


def test_an_unknown_device_is_refused(start):
    with pytest.raises(InputError, match="abacus"):
        start(device="abacus")


def test_the_wrong_kind_of_source_is_refused(name, sources):
    wrong = sources["network"] if backends.source_of(name) == "onnx" else sources["onnx"]
    with pytest.raises(InputError, match="runs"):
        backends.start(name, wrong)


def test_an_unknown_backend_names_the_nearest():
    with pytest.raises(UnknownName, match="onnxruntime"):
        backends.source_of("onnx-runtime")


def test_an_output_that_is_the_input_is_copied():
    class Same(torch.nn.Module):
        def forward(self, x):
            return x

    network = target.resolve("lenet5", untrained=True)
    network = type(network)("same", "same", Same(), (InputSpec("x", (3,)),), network.rules, network.output)
    with backends.start("torch", network, threads=1) as engine:
        array = np.ones((1, 3), np.float32)
        (found,) = engine.run([array])
        array[:] = 2
        assert (found == 1).all()


def test_on_a_gpu_onnxruntime_computes_without_tf32_and_says_so(tmp_path, monkeypatch):
    """The session is the CPU's here; what is asked is what the engine says of itself."""
    opened = backend.open_session
    monkeypatch.setattr(backend, "open_session", lambda *given: replace(opened(*given), device="cuda", number=1))
    engine = backend.OnnxRuntimeEngine(IDENTITY_MODEL, tmp_path / "model.onnx", "cpu", 1)
    try:
        assert (engine.settings["tf32"], engine.device) == ("off", "cuda:1")
    finally:
        engine.close()
