"""One suite that every registered architecture passes; a new file in deploykit/architectures is picked up by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deploykit import architectures, datasets, list_architectures
from deploykit.exporter import export
from deploykit.network.checkpoint import load_checkpoint
from deploykit.profiler import profile
from deploykit.runtime import Predictor
from deploykit.training import train
from deploykit.verdict import validate

NAMES = architectures.names()
# Multiply-accumulates per sample above which a network is slow on two cores.
LARGE = 10_000_000
MACS = {row["name"]: row["macs"] for row in list_architectures()}


def marked(name):
    return pytest.param(name, marks=pytest.mark.slow) if MACS[name] > LARGE else name


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name):
    architecture = architectures.get(name)
    assert len(architecture.summary) > 10
    assert architecture.recipe.dataset in datasets.names()
    assert all(size > 0 for size in architecture.input_shape)


@pytest.mark.parametrize("name", NAMES)
def test_its_classes_are_an_argument_and_its_output_follows(name):
    architecture = architectures.get(name)
    if "classes" not in architecture.defaults:
        assert architecture.recipe.loss == "mse", f"{name} is a classifier: its number of classes must be an argument"
        return
    with torch.device("meta"), torch.no_grad():  # shapes only: first weights for VGG-11 alone take seconds
        network = architecture.create({"classes": 3}).eval()
        assert network(torch.zeros(2, *architecture.input_shape)).shape == (2, 3)


@pytest.mark.parametrize("name", [marked(name) for name in NAMES])
def test_it_trains_exports_validates_profiles_and_predicts(name, workdir, monkeypatch):
    if MACS[name] > LARGE:
        # The way is the same with fewer samples to judge; 600 images through VGG-11 are minutes.
        monkeypatch.setattr("deploykit.datasets.digits.VALIDATION", 16)
        monkeypatch.setattr("deploykit.datasets.digits.TEST", 16)
    result = train(name, epochs=1, limit=8, batch_size=4, device="cpu")
    assert result.checkpoint.is_file()
    assert all(np.isfinite(value) for value in result.metrics.values())
    loaded = load_checkpoint(result.checkpoint)
    assert loaded.architecture == name

    exported = export(name)
    assert exported.verdict.same, exported.verdict
    assert exported.file.parent == result.checkpoint.parent
    assert validate(exported.file, batches=(1,) if MACS[name] > LARGE else (1, 3)).same

    report = profile(name, latency=False).document()
    own = sum(p.numel() for p in loaded.build().parameters() if p.requires_grad)
    assert report["totals"]["trainable_params"] == own
    assert sum(row["ops"] or 0 for row in report["layers"]) == report["totals"]["ops"]

    split = datasets.load(loaded.dataset).test.take(2)
    with Predictor(exported.file) as model:
        found = model.run(split.arrays(loaded.input))
    with torch.no_grad():
        expected = loaded.build()(torch.from_numpy(split.arrays(loaded.input))).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1e-6, float(np.abs(expected).max())))
