"""Every example, as its own first lines say to run it."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"


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


@pytest.fixture
def address(exported: Path, tmp_path: Path) -> Iterator[str]:
    """The web service, in a process of its own."""
    for package in ("starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, EXAMPLES / "web_service.py", exported, "--port", str(port)], cwd=tmp_path)
    try:
        for _ in range(300):
            assert server.poll() is None, "the service ended"
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def ask(url: str, body: bytes | None = None) -> tuple[int, dict[str, object]]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, data=body), timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_web_service(address: str, exported: Path, digit_files) -> None:
    from deploykit.runtime import Predictor

    paths, _labels = digit_files
    assert ask(f"{address}/")[1]["device"] in ("cpu", "cuda")
    with Predictor(exported, device="cpu") as model:
        for path in paths[:5]:
            status, answer = ask(f"{address}/predict?top=2", path.read_bytes())
            assert status == 200
            assert answer["label"] == model.predict(path).label
            assert len(answer["top"]) == 2  # type: ignore[arg-type]
    for url, body in (
        (f"{address}/predict", b"no image"),
        (f"{address}/predict?top=x", paths[0].read_bytes()),
        (f"{address}/predict", b""),
    ):
        status, answer = ask(url, body)
        assert status == 400
        assert answer["error"]
    assert ask(f"{address}/predict", b"\0" * (21 << 20))[0] == 413
    assert ask(f"{address}/predict", paths[0].read_bytes())[0] == 200
