"""CUDA, where there is one: really used, the same numbers, bound buffers, recorded graphs."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deploykit.errors import DeviceUnavailable
from deploykit.runtime import Predictor, doctor

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _cuda() -> None:
    found = doctor()
    if not found.usable("CUDAExecutionProvider"):
        reason = next(
            (p.reason for p in found.providers if p.name == "CUDAExecutionProvider"), "onnxruntime was built without CUDA"
        )
        pytest.skip(f"no CUDA: {reason}")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """An exported ResNet-18, a batch for it, and PyTorch's float64 answer."""
    import torch

    from deploykit.exporter import export
    from deploykit.network.target import resolve

    folder = tmp_path_factory.mktemp("resnet18")
    file = export("torchvision:resnet18", untrained=True, out=folder / "model.onnx").file
    network = resolve("torchvision:resnet18", untrained=True)
    x = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = network.module.double()(x.double()).numpy()
    return file, x.numpy(), wanted


def error(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def test_the_provider_is_really_used(digits_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Predictor(digits_file, device="cuda") as model, Predictor(digits_file, device="auto") as auto:
        assert model.device == auto.device == "cuda"
        assert model.providers[0] == "CUDAExecutionProvider"
        assert model.device_note == ""
        assert model.cpu_nodes == ()
        assert model.predict(np.zeros((8, 8), np.uint8)).ok
    assert capfd.readouterr() == ("", "")


def test_a_device_that_is_not_there(digits_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeviceUnavailable, match="cuda:99"):
        Predictor(digits_file, device="cuda:99")
    assert capfd.readouterr() == ("", "")


def test_parity_with_tf32_off_and_on(resnet: tuple[Path, np.ndarray, np.ndarray]) -> None:
    file, x, wanted = resnet
    exact = error(Predictor(file, device="cuda").run(x), wanted)
    rounded = error(Predictor(file, device="cuda", tf32=True).run(x), wanted)
    assert exact < 1e-5
    assert rounded < 1e-2


@pytest.mark.parametrize("options", [{"io_binding": True}, {"cuda_graph": True}])
def test_bound_buffers_and_recorded_graphs_give_the_same_numbers(
    resnet: tuple[Path, np.ndarray, np.ndarray], options: dict[str, bool]
) -> None:
    file, x, _ = resnet
    plain = Predictor(file, device="cuda")
    with Predictor(file, device="cuda", **options) as model:  # type: ignore[arg-type]
        for turn in range(4):  # plain, recorded, replayed, replayed
            for batch in (1, 4, 2):
                part = np.roll(x, turn, axis=2)[:batch]
                assert error(model.run(part), plain.run(part)) < 1e-5


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"io_binding": "on"}, 1e-5), ({"cuda_graph": "on"}, 1e-5), ({"layout": "nhwc"}, 1e-5), ({"tf32": "on"}, 1e-2),
        ({"layout": "nhwc", "cuda_graph": "on"}, 1e-5), ({"provider": "tensorrt-tf32"}, 1e-2), ({"provider": "tensorrt-fp16"}, 5e-2),
    ],
)  # fmt: skip
def test_the_settings_that_tune_tries_give_the_same_numbers(
    resnet: tuple[Path, np.ndarray, np.ndarray], options: dict[str, str], most: float
) -> None:
    from deploykit import backends
    from deploykit.runtime import providers

    if "provider" in options and (obstacle := providers.tensorrt_obstacle()) is not None:
        pytest.skip(f"no TensorRT: {obstacle}")
    file, x, wanted = resnet
    with backends.start("onnxruntime", file, device="cuda", options=options) as engine:
        for _ in range(3):
            assert error(np.asarray(engine.run([x])[0]), wanted) < most


def test_what_was_tuned_on_a_gpu_is_run_as_it_was_tuned(resnet: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    from deploykit import tune

    file, x, wanted = resnet
    found = tune(file, data="noise", device="cuda", precisions="fp32", seconds=40, out=tmp_path / "tuned.onnx")
    assert not any("cannot run" in entry.reason for entry in found.candidates), [entry.reason for entry in found.candidates]
    with Predictor(found.file, device="cuda") as model:
        assert (model.device, model.engine_note) == ("cuda", "")
        for _ in range(3):
            assert error(model.run(x), wanted) < 1e-5


def test_threads_share_a_predictor_with_buffers(digits_file: Path) -> None:
    arrays = [np.random.default_rng(seed).normal(size=(2, 1, 8, 8)).astype(np.float32) for seed in range(20)]
    with Predictor(digits_file, device="cuda", io_binding=True) as model:
        wanted = [model.run(array) for array in arrays]
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(lambda index: model.run(arrays[index % 20]), range(400)))
    for index, found in enumerate(got):
        np.testing.assert_allclose(found, wanted[index % 20], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "benchmarks" / "gpu.py", "--rounds", "2", "--out", tmp_path], check=True)
    (report,) = tmp_path.glob("*.md")
    assert "onnxruntime" in report.read_text()
