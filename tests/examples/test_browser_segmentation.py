"""The page that shows what is where: a real browser, a photograph, and Python's mask of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from deploykit.runtime import Predictor, Segmentation
from deploykit.runtime.contract import KEY, Contract, ImageInput, SegmentationOutput

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "browser"
RULES = ImageInput(3, 48, 64, fit="letterbox", order="bgr", padding=(114,), mean=(0.4, 0.5, 0.6), std=(0.25,))


def segmentation(path: Path) -> Path:
    """Three labels by colour, at a quarter of the size."""
    info = helper.make_tensor_value_info
    weight = np.random.default_rng(0).normal(size=(3, 3, 5, 5)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight"], ["scores"], strides=[4, 4], pads=[2, 2, 2, 2])],
        "masks",
        [info("image", TensorProto.FLOAT, ["batch", 3, 48, 64])],
        [info("scores", TensorProto.FLOAT, ["batch", 3, 12, 16])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(model, {KEY: Contract(RULES, SegmentationOutput(labels=("ground", "sky", "tree"))).dumps()})
    onnx.save(model, path)
    return path


def test_the_mask_of_a_photograph_is_pythons(browser, tmp_path):
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    if not (EXAMPLE / "node_modules" / "playwright-core").is_dir():
        pytest.skip("the example's npm packages are not installed: npm ci --prefix examples/browser")
    from sklearn.datasets import load_sample_image

    Image.fromarray(load_sample_image("china.jpg")).save(tmp_path / "china.png")
    model = segmentation(tmp_path / "masks.onnx")
    command = [sys.executable, EXAMPLE / "serve.py", "--port", "0", "--model", model]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        said = next((line for line in server.stdout if line.startswith("open ")), "")
        assert said, "the server ended"
        executable, *flags = browser
        driver = Path(__file__).with_name("segment_photo.mjs")
        asked = ["node", driver, EXAMPLE, executable, json.dumps(flags), said.split()[1], tmp_path / "china.png"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    finally:
        server.terminate()
        server.wait(timeout=30)
        server.stdout.close()
    page = json.loads(done.stdout)
    assert page["errors"] == []
    found = Predictor(model, device="cpu").predict(tmp_path / "china.png")
    assert isinstance(found, Segmentation)
    assert page["labels"] == [area.label for area in found.areas]
    mask = np.array(page["answer"]["mask"], np.uint8).reshape(page["answer"]["height"], page["answer"]["width"])
    assert mask.shape == found.mask.shape == (427, 640)
    assert (mask == found.mask).mean() > 0.9999
