"""Every example, as its own first lines say to run it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.append(str(EXAMPLES.parent / "benchmarks"))

from serving_process import Server  # noqa: E402


def run(name: str, *arguments: object, cwd: Path) -> str:
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_embed(exported: Path, digit_files, tmp_path: Path) -> None:
    paths, _labels = digit_files
    lines = run("embed.py", exported, *paths[:5], "none.png", cwd=tmp_path).splitlines()
    assert len(lines) == 6
    for path, line in zip(paths[:5], lines, strict=False):
        assert line.startswith(f"{path}: ")
        assert line.count("%") == 3
    assert "there is no file none.png" in lines[5]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The fixed and the learned edge detector, exported for images of any size."""
    from deploykit.exporter import export
    from deploykit.training import train

    files = []
    for name in ("laplacian", "edge-kernel"):
        folder = tmp_path_factory.mktemp(name)
        train(name, out=folder, device="cpu")
        result = export(str(folder / "model.safetensors"), dynamic=("batch", "height", "width"))
        assert result.verdict.same, result.verdict
        files.append(result.file)
    return files[0], files[1]


def test_edges(kernels: tuple[Path, Path], tmp_path: Path) -> None:
    from sklearn.datasets import load_sample_image

    photo = load_sample_image("china.jpg")
    Image.fromarray(photo).save(tmp_path / "photo.png")
    fixed, learned = kernels
    said = run("edges.py", "photo.png", "edges.png", "--fixed", fixed, "--learned", learned, cwd=tmp_path)
    assert said == "wrote edges.png: 1920x427\n"
    picture = np.asarray(Image.open(tmp_path / "edges.png"))
    grey = np.asarray(Image.fromarray(photo).convert("L"), np.float64) / 255
    padded = sum(grey[1 + dy : 426 + dy, 1 + dx : 639 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1))
    by_hand = np.abs(9 * grey[1:426, 1:639] - padded)
    assert (
        np.corrcoef(picture[:425, 640 : 640 + 638].ravel(), np.minimum(by_hand, np.quantile(by_hand, 0.995)).ravel())[0, 1] > 0.999
    )
    across = np.abs(np.diff(grey, axis=1))
    assert np.corrcoef(picture[:, 1280 : 1280 + 639].ravel(), np.minimum(across, np.quantile(across, 0.995)).ravel())[0, 1] > 0.99


def test_own_network(tmp_path: Path) -> None:
    said = run("own_network.py", "own.onnx", cwd=tmp_path)
    assert "verdict: same" in said
    assert "logits (4, 5) on " in said
    assert (tmp_path / "own.onnx").is_file()


@pytest.mark.slow
def test_resnet18_with_a_weights_file(tmp_path: Path) -> None:
    """Fresh weights stand in for the downloaded ones: the same names, shapes and file format."""
    import torch
    from sklearn.datasets import load_sample_image
    from torchvision.models import ResNet18_Weights, resnet18

    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    Image.fromarray(load_sample_image("flower.jpg")).save(tmp_path / "photo.jpg")
    lines = run("resnet18_imagenet.py", "resnet18.pth", "photo.jpg", cwd=tmp_path).splitlines()
    assert lines[0] == "resnet18.onnx: verdict: same"
    assert len(lines) == 6
    assert {line.split("%  ")[1] for line in lines[1:]} <= set(ResNet18_Weights.DEFAULT.meta["categories"])


@pytest.fixture(scope="module")
def server(exported: Path) -> Iterator[Server]:
    """`deploykit serve` with that file, under the name that the examples use."""
    for package in ("starlette", "uvicorn", "python_multipart"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed")
    with Server([exported], "--name", "lenet5", "--threads", "1") as server:
        yield server


def said(command: list[object], cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def expected(exported: Path, paths: list[Path]) -> list[str]:
    from deploykit.runtime import Predictor

    with Predictor(exported, device="cpu") as model:
        return [str(model.predict(path).label) for path in paths]


def test_the_client_in_javascript(server: Server, exported: Path, digit_files, tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    paths, _labels = digit_files
    (tmp_path / "none.png").write_bytes(b"no image")
    client = EXAMPLES / "clients" / "images.mjs"
    lines = said(["node", client, f"http://127.0.0.1:{server.port}", "lenet5", *paths[:3], "none.png"], tmp_path).splitlines()
    for path, line, label in zip(paths[:3], lines, expected(exported, paths[:3]), strict=False):
        assert line.startswith(f"{path}: {label} ")
        assert line.count("%") == 3
    assert "image" in lines[3]


def test_the_client_with_curl(server: Server, exported: Path, digit_files, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    paths, _labels = digit_files
    client = EXAMPLES / "clients" / "image.sh"
    found = json.loads(said(["sh", client, f"http://127.0.0.1:{server.port}", "lenet5", paths[0]], tmp_path))
    assert [found["predictions"][0]["label"]] == expected(exported, paths[:1])
    assert len(found["predictions"][0]["top"]) == 3


def test_the_client_of_triton(server: Server, tmp_path: Path) -> None:
    own = EXAMPLES.parent / ".venv-tritonclient" / "bin" / "python"
    python = os.environ.get("TRITONCLIENT_PYTHON") or (own if own.exists() else sys.executable)
    if subprocess.run([python, "-c", "import tritonclient.http"], capture_output=True, check=False).returncode:
        pytest.skip("tritonclient is not installed: `make tritonclient` makes an environment for it")
    found = said([python, EXAMPLES / "clients" / "tensors.py", f"127.0.0.1:{server.port}", "lenet5"], tmp_path)
    assert found == "logits (4, 10) float32\n"
