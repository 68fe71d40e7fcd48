"""The page in which one draws a digit: a real browser, real strokes, and Python's numbers on the same pixels."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "browser"
DRIVER = Path(__file__).with_name("draw_digits.mjs")


def arc(x, y, width, height, start, end, points=24):
    """Part of an ellipse; degrees clockwise from the right, as y grows downwards."""
    angles = [math.radians(start + (end - start) * i / points) for i in range(points + 1)]
    return [(x + width * math.cos(a), y + height * math.sin(a)) for a in angles]


DIGITS = [
    [arc(0.5, 0.5, 0.26, 0.38, -90, 270)],
    [[(0.38, 0.28), (0.52, 0.12), (0.52, 0.88)]],
    [[*arc(0.5, 0.32, 0.24, 0.2, -170, 30), (0.28, 0.86), (0.76, 0.86)]],
    [[*arc(0.47, 0.31, 0.22, 0.19, -150, 90), *arc(0.47, 0.69, 0.25, 0.19, -90, 150)]],
    [[(0.58, 0.12), (0.24, 0.62), (0.8, 0.62)], [(0.6, 0.4), (0.6, 0.9)]],
    [[(0.72, 0.14), (0.34, 0.14), (0.31, 0.46), *arc(0.48, 0.65, 0.24, 0.22, -120, 140)]],
    [[(0.62, 0.12), (0.4, 0.38), *arc(0.5, 0.67, 0.23, 0.21, -160, 200)]],
    [[(0.26, 0.15), (0.75, 0.15), (0.45, 0.88)]],
    [[*arc(0.5, 0.31, 0.19, 0.19, 90, -270), *arc(0.5, 0.69, 0.23, 0.2, -90, 270)]],
    [[*arc(0.5, 0.33, 0.2, 0.2, 0, -360), (0.7, 0.33), (0.66, 0.6), (0.56, 0.88)]],
]


PLAIN_ONE = [[(0.5, 0.12), (0.5, 0.88)]]


def small_in_a_corner(strokes):
    return [[(0.05 + 0.4 * x, 0.5 + 0.4 * y) for x, y in stroke] for stroke in strokes]


@pytest.fixture(scope="module")
def drawn(browser, tmp_path_factory):
    """What the page said about every digit, drawn large and drawn small, and the file that answered."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    if not (EXAMPLE / "node_modules" / "playwright-core").is_dir():
        pytest.skip("the example's npm packages are not installed: npm ci --prefix examples/browser")
    model = tmp_path_factory.mktemp("browser") / "model.onnx"
    command = [sys.executable, EXAMPLE / "serve.py", "--port", "0", "--model", model]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=model.parent)
    try:
        said = next((line for line in server.stdout if line.startswith("open ")), "")
        assert said, "the server ended"
        executable, *flags = browser
        drive = ["node", DRIVER, EXAMPLE, executable, json.dumps(flags), said.split()[1]]
        strokes = json.dumps([*DIGITS, *map(small_in_a_corner, DIGITS), PLAIN_ONE])
        done = subprocess.run(drive, input=strokes, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout), model
    finally:
        server.terminate()
        server.wait(timeout=30)
        server.stdout.close()


def test_it_reads_the_digits(drawn):
    said, _ = drawn
    read = [answer["label"] for answer in said["answers"]]
    for size, labels in (("large", read[:10]), ("small", read[10:20])):
        right = sum(label == str(digit) for digit, label in enumerate(labels))
        assert right >= 9, f"{size}: {labels}"
    assert read[20] == "1", "one plain line"


def test_the_pages_logits_are_those_of_python(drawn):
    said, model = drawn
    session = onnxruntime.InferenceSession(model)
    images = np.array([answer["pixels"] for answer in said["answers"]], np.uint8).reshape(-1, 8, 8, 1)
    expected = session.run(None, {"input": images})[0]
    assert np.abs(expected).max() > 1
    assert np.abs(expected - [answer["logits"] for answer in said["answers"]]).max() < 1e-4


def test_the_page_shows_the_answer_and_asks_nobody_else(drawn):
    said, _ = drawn
    assert said["problems"] == []
    assert said["strangers"] == []
    assert said["overflow"] <= 0  # on a phone nothing sticks out
    for answer in said["answers"]:
        assert answer["shown"] == answer["label"]
        assert sum(answer["widths"]) == pytest.approx(100, abs=0.1)
        assert int(np.argmax(answer["widths"])) == int(np.argmax(answer["logits"]))
    heights = {height for answer in said["answers"] for height in answer["heights"]}
    assert len(heights) == 1, "no row jumps, whatever stands in it"


def test_the_lock_file_names_no_host():
    lock = json.loads((EXAMPLE / "package-lock.json").read_text())
    assert all("resolved" not in package for package in lock["packages"].values())
    assert all(package.get("integrity") for name, package in lock["packages"].items() if name)
