"""A network of torchvision's, fine-tuned on crops of two photographs, answers with the folder's names in an app without torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from deploykit.exporter import export
from deploykit.network.checkpoint import load_checkpoint
from deploykit.training import train

# Of each class the photograph, and the part of it (left, top, right, bottom) that shows nothing else.
PLACES = {"sky": (0, (0, 0, 640, 56)), "building": (0, (70, 165, 326, 340)), "petals": (1, (180, 80, 480, 330))}
SIDE, BAND = 48, 64
APP = """
import sys
sys.modules["torch"] = sys.modules["onnx"] = None  # importing them fails
from pathlib import Path
from deploykit.runtime import Predictor
with Predictor(sys.argv[1]) as model:
    paths = sorted(Path(sys.argv[2]).glob("*/*.png"))
    answers = [(path.parent.name, model.predict(path).label) for path in paths]
print(sum(truth == label for truth, label in answers), len(answers), sorted({label for _, label in answers}))
"""


def write_crops(folder, count, seed, half):
    """`count` crops of each class from one half of its place, every other band: no pixel of half 0 is in half 1."""
    photographs, draw = load_sample_images().images, np.random.default_rng(seed)
    for name, (index, (left, top, right, bottom)) in PLACES.items():
        (folder / name).mkdir(parents=True)
        bands = range(left + half * BAND, right - BAND + 1, 2 * BAND)
        for number in range(count):
            x, y = draw.choice(bands) + draw.integers(0, BAND - SIDE), draw.integers(top, bottom - SIDE)
            Image.fromarray(photographs[index][y : y + SIDE, x : x + SIDE]).save(folder / name / f"{number:02}.png")
    return folder


@pytest.mark.slow
def test_a_fine_tuned_network_of_torchvision_answers_with_the_names_of_the_folders(tmp_path):
    crops = write_crops(tmp_path / "crops", 40, seed=0, half=0)
    network, options = "torchvision:mobilenet_v3_small", {"data": crops, "image": 64, "device": "cpu"}
    first = train(network, epochs=8, out=tmp_path / "first", **options)
    # Weights as torchvision publishes them have 1000 classes.
    state = dict(load_checkpoint(first.checkpoint).tensors)
    state["classifier.3.weight"], state["classifier.3.bias"] = torch.zeros(1000, 1024), torch.zeros(1000)
    torch.save(state, tmp_path / "weights.pth")
    tuned = train(network, epochs=4, init=tmp_path / "weights.pth", out=tmp_path / "tuned", **options)
    assert "head: classifier.3 (Linear, 1024 -> 1000) was replaced by one of 3 outputs" in tuned.notes
    assert "in the first epoch classifier.3 learns alone" in tuned.notes

    found = export(tuned.checkpoint)
    assert found.verdict.same
    held_out = write_crops(tmp_path / "held_out", 20, seed=1, half=1)
    app = [sys.executable, "-c", APP, str(found.file), str(held_out)]
    said = subprocess.run(app, capture_output=True, text=True, timeout=120, check=True).stdout
    right, asked = map(int, said.split()[:2])
    assert right / asked >= 0.95, said
    assert said.endswith("['building', 'petals', 'sky']\n"), said
