"""What onnxruntime is asked for, device by device, and what an error says where a device is not there. No GPU is needed."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from small_models import linear

from deploykit import backends
from deploykit.errors import DeviceUnavailable, InputError
from deploykit.network.running import torch_device
from deploykit.onnx_file import sessions
from deploykit.profiler.benchmark.device import require_device
from deploykit.profiler.onnx import run, times
from deploykit.runtime import Predictor, diagnosis, providers
from deploykit.runtime.session import working_device

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
ON_CUDA_1 = [(CUDA, {"device_id": 1, "use_tf32": 0, "enable_cuda_graph": 0}), CPU]


class Asked(list[Any]):
    """What `onnxruntime.InferenceSession` was called with; its sessions compute on the CPU and say that they do on CUDA."""

    def open(self, model: bytes, options: Any, providers: list[Any], **_: Any) -> onnxruntime.InferenceSession:
        self.append((options, providers))
        real = REAL(model, options, providers=[CPU])
        if providers != [CPU]:
            real.get_providers = lambda: [getattr(self, "first", CUDA), CPU]
            real.get_provider_graph_assignment_info = lambda: []
        return real


REAL = onnxruntime.InferenceSession


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A machine where CUDA seems to work."""
    found = Asked()
    monkeypatch.setattr(onnxruntime, "InferenceSession", found.open)
    monkeypatch.setattr(providers, "cuda_obstacle", lambda thorough: None)
    return found


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A machine without a driver."""
    found = Asked()
    monkeypatch.setattr(onnxruntime, "InferenceSession", found.open)
    monkeypatch.setattr(providers, "cuda_obstacle", lambda thorough: "there is no driver")
    return found


X = np.zeros((1, 1, 8, 8), np.float32)


def with_predictor(file: Path, device: str) -> None:
    Predictor(file, device).run(X)


def with_engine(file: Path, device: str) -> None:
    with backends.start("onnxruntime", file, device=device, threads=1) as engine:
        engine.run([X])


def with_layer_times(file: Path, device: str) -> None:
    assert times.node_times(file, [X], 1, 0.0, device).total_ms


def with_verdict(file: Path, device: str) -> None:
    sessions.open_session(file.read_bytes(), "all", sessions.working_device(device))


WAYS = [with_predictor, with_engine, with_layer_times, with_verdict]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_a_session_asks_for_the_same_provider_options(
    asked: Asked, digits_file: Path, way: Callable[[Path, str], None]
) -> None:
    way(digits_file, "cuda:1")
    assert asked
    assert all(wanted == ON_CUDA_1 for _, wanted in asked)


@pytest.mark.parametrize("way", WAYS)
def test_auto_does_not_ask_for_cuda_where_it_does_not_work(
    without_cuda: Asked, digits_file: Path, way: Callable[[Path, str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    way(digits_file, "auto")
    assert without_cuda
    assert all(wanted == [CPU] for _, wanted in without_cuda)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("way", WAYS)
def test_cuda_is_refused_with_a_reason_that_can_be_read_from_a_field(
    without_cuda: Asked, digits_file: Path, way: Callable[[Path, str], None]
) -> None:
    with pytest.raises(DeviceUnavailable) as error:
        way(digits_file, "cuda:1")
    assert (error.value.device, error.value.reason) == ("cuda:1", "there is no driver")
    assert str(error.value) == (
        "device 'cuda:1' was asked for, but CUDA cannot be used: there is no driver; `deploykit doctor` tells what to do"
    )
    again = pickle.loads(pickle.dumps(error.value))
    assert (str(again), again.device, again.reason) == (str(error.value), error.value.device, error.value.reason)


def test_layer_times_run_as_the_whole_network_does(asked: Asked, digits_file: Path) -> None:
    with_engine(digits_file, "cuda:1")
    with_layer_times(digits_file, "cuda:1")
    (whole, _), (layers, _) = asked
    assert (layers.enable_profiling, whole.enable_profiling) == (True, False)
    for name in ("intra_op_num_threads", "graph_optimization_level", "enable_cpu_mem_arena", "execution_mode"):
        assert getattr(layers, name) == getattr(whole, name), name
    for key in ("session.intra_op.spin_duration_us", "session.record_ep_graph_assignment_info"):
        assert layers.get_session_config_entry(key) == whole.get_session_config_entry(key), key


def test_options_that_an_application_may_set(asked: Asked, digits_file: Path) -> None:
    Predictor(digits_file, "cuda", tf32=True, cuda_graph=True)
    Predictor(digits_file, "cuda", tf32=True)
    assert [wanted[0][1] for _, wanted in asked] == [
        {"device_id": 0, "use_tf32": 1, "enable_cuda_graph": 1},
        {"device_id": 0, "use_tf32": 1, "enable_cuda_graph": 0},
    ]


@pytest.mark.parametrize(
    ("options", "cuda", "tensorrt"),
    [
        ({"tf32": "on"}, {"use_tf32": 1}, None),
        ({"cuda_graph": "on"}, {"enable_cuda_graph": 1}, None),
        ({"layout": "nhwc"}, {"prefer_nhwc": 1}, None),
        ({"io_binding": "on"}, {}, None),
        ({"layout": "nhwc", "cuda_graph": "on", "tf32": "on"}, {"prefer_nhwc": 1, "enable_cuda_graph": 1, "use_tf32": 1}, None),
        ({"provider": "tensorrt-tf32"}, {}, {"device_id": 1, "trt_fp16_enable": 0}),
        ({"provider": "tensorrt-fp16"}, {}, {"device_id": 1, "trt_fp16_enable": 1}),
    ],
)
def test_options_of_a_tuned_file_reach_the_providers(
    asked: Asked, digits_file: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], cuda: dict[str, int], tensorrt: Any
) -> None:
    """And IO binding, which a CUDA graph needs, the way in which the engine runs."""
    monkeypatch.setattr(providers, "tensorrt_obstacle", lambda: None)
    monkeypatch.setattr(asked, "first", providers.TENSORRT if tensorrt else CUDA, raising=False)
    with backends.start("onnxruntime", digits_file, device="cuda:1", threads=1, options=options) as engine:
        bound = engine._bound  # type: ignore[attr-defined]
        assert (bound is not None) is ("io_binding" in options or "cuda_graph" in options)
        assert bound is None or (bound._device, bound._number, bound._graph) == ("cuda", 1, "cuda_graph" in options)
        assert engine.settings["tf32"] == ("on" if "tf32" in options or tensorrt else "off")
    wanted = [(CUDA, {"device_id": 1, "use_tf32": 0, "enable_cuda_graph": 0, **cuda}), CPU]
    assert asked[0][1] == ([(providers.TENSORRT, tensorrt), *wanted] if tensorrt else wanted)


def test_io_binding_of_an_engine_gives_the_same_answers(digits_file: Path) -> None:
    x = np.random.default_rng(0).standard_normal(X.shape).astype(np.float32)
    answers = []
    for options in ({}, {"io_binding": "on"}):
        with backends.start("onnxruntime", digits_file, threads=1, options=options) as engine:
            answers += [engine.run([x])[0] for _ in range(3)]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


def test_tensorrt_is_asked_for_only_where_it_loads(asked: Asked, digits_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(said: str) -> None:
        with pytest.raises(DeviceUnavailable, match=said):
            backends.start("onnxruntime", digits_file, device="cuda", options={"provider": "tensorrt-tf32"})

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    refused("the installed onnxruntime has no TensorRT provider")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [providers.TENSORRT, CUDA, CPU])
    monkeypatch.setattr(providers, "missing_libraries", lambda _: ("libnvinfer.so.10", "libnvonnxparser.so.10"))
    refused("libnvinfer.so.10 and libnvonnxparser.so.10 cannot be loaded")
    assert not asked
    monkeypatch.setattr(providers, "missing_libraries", lambda _: ())
    refused("onnxruntime dropped its Tensorrt provider without a reason")


@pytest.mark.parametrize(("level", "expected"), [("disabled", 0), ("basic", 1), ("extended", 2), ("all", 99)])
def test_optimization_levels(asked: Asked, level: sessions.Level, expected: int) -> None:
    sessions.open_session(linear().SerializeToString(), level, threads=1)
    (options, wanted) = asked[0]
    assert int(options.graph_optimization_level) == expected
    assert wanted == [CPU]
    assert not options.enable_cpu_mem_arena
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_the_number_of_the_device_reaches_buffers_and_reports(asked: Asked, digits_file: Path) -> None:
    with backends.start("onnxruntime", digits_file, device="cuda:1", threads=1) as engine:
        assert engine.device == "cuda:1"
    assert working_device("cuda:1") == "cuda:1"
    assert working_device("auto") == "cuda"
    bound = Predictor(digits_file, "cuda:1", io_binding=True)
    assert bound._session_run.__self__._number == 1  # type: ignore[attr-defined]


def test_a_device_that_seems_to_work_and_is_lost_in_the_session(
    asked: Asked, digits_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a driver without a GPU: no library is missing, and onnxruntime drops its provider."""
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda model, options, **_: REAL(model, options, providers=[CPU]))
    assert working_device("auto") == "cpu"
    assert Predictor(digits_file).device == "cpu"
    for refuse in (working_device, lambda device: require_device(device, is_file=True)):
        with pytest.raises(DeviceUnavailable, match="without a reason"):
            refuse("cuda")


def test_doctor_tells_the_reason_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "cuda_obstacle", lambda thorough: "x cannot be used: y")
    assert diagnosis.probe(CUDA) == diagnosis.Provider(CUDA, False, "x cannot be used: y")


def test_pytorch_says_it_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceUnavailable) as error:
        torch_device("cuda:3")
    assert (error.value.device, error.value.reason) == ("cuda:3", "PyTorch has no such device")
    with pytest.raises(DeviceUnavailable):
        require_device("cuda", is_file=False)
    require_device("auto", is_file=False)
    with pytest.raises(InputError, match="unknown device"):
        require_device("tpu", is_file=True)


def test_providers_have_one_home() -> None:
    """The names of providers, their options and `InferenceSession` stand in one module each."""
    package = Path(providers.__file__).parents[1]
    texts = {path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*.py")}
    del texts["serving/triton.py"]  # a program that Triton's own Python runs, where deploykit is not installed
    for word, home in (("use_tf32", "runtime/providers.py"), ("onnxruntime.InferenceSession(", "runtime/session.py")):
        assert [name for name, text in texts.items() if word in text] == [home], word
    assert [name for name, text in texts.items() if "but CUDA cannot be used" in text] == ["errors.py"]


def test_the_events_of_a_run_are_those_of_the_profiler(digits_file: Path) -> None:
    events = run.events(digits_file, [X], 0.0, runs=2)
    assert sum(event.get("name") == "model_run" for event in events) == 2
    json.dumps(events)


@pytest.mark.parametrize("has", [True, False])
def test_libraries_that_open_later_are_loaded_where_onnxruntime_offers_that(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    loaded: list[bool] = []
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(providers, "missing_libraries", lambda _: ())
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: loaded.append(True), raising=False)
    if not has:
        monkeypatch.delattr(onnxruntime, "preload_dlls")
    assert providers.cuda_obstacle(thorough=True) is None
    assert loaded == [True] * has


def test_a_run_that_was_not_made_has_no_calls() -> None:
    assert run.Run(failure="none").calls == {}
