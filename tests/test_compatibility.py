"""What deploykit wrote and printed before its house was redrawn (tests/data/before/README.md) is still read, answered and printed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from deploykit import Predictor, load_checkpoint, validate

BEFORE = Path(__file__).parent / "data" / "before"
ANSWERS = json.loads((BEFORE / "answers.json").read_text())
KEYS = json.loads((BEFORE / "keys.json").read_text())
WEIGHTS = str(BEFORE / "cnn2" / "model.safetensors")
COMMANDS = {
    "train": ("train", "cnn2", "--arg", "width=4", "--epochs", "1", "--limit", "200", "--device", "cpu", "--out", "."),
    "export": ("export", "cnn2", "--checkpoint", WEIGHTS, "--out", "model.onnx"),
    "export --with-preprocessing": ("export", "cnn2", "--checkpoint", WEIGHTS, "--out", "model.onnx", "--with-preprocessing"),
    "validate": ("validate", str(BEFORE / "cnn2" / "model.onnx")),
    "predict": ("predict", str(BEFORE / "cnn2" / "model.onnx"), str(BEFORE / "cnn2" / "three.png")),
    "profile": ("profile", "cnn2", "--checkpoint", WEIGHTS),
    "doctor": ("doctor",),
    "list architectures": ("list", "architectures"),
    "list datasets": ("list", "datasets"),
    "list backends": ("list", "backends"),
    "simplify": ("simplify", str(BEFORE / "cnn2" / "model.onnx"), "--out", "simple.onnx"),
}
LONG = ("train", "export", "export --with-preprocessing", "profile")


def paths(value, path=""):
    """The keys of a document, as ``a.b`` and, inside of lists, ``a[].b``."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}".lstrip(".")
            yield from paths(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{path}[]")


@pytest.mark.parametrize(("name", "arguments"), [("cnn2", {"classes": 10, "in_channels": 1, "width": 4}), ("rgnet", {})])
def test_a_checkpoint_loads_and_becomes_its_network(name, arguments):
    loaded = load_checkpoint(BEFORE / name / "model.safetensors")
    assert (loaded.architecture, loaded.seed) == (name, 0)
    assert {key: loaded.arguments[key] for key in arguments} == arguments
    assert loaded.versions["deploykit"] == "0.1.0"
    state = loaded.build().state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in loaded.tensors.items())


@pytest.mark.parametrize("file", ANSWERS)
def test_a_file_is_still_the_network_of_its_checkpoint(file):
    verdict = validate(BEFORE / file)
    assert verdict.same, verdict
    assert not validate(BEFORE / file, against=file.split("/")[0], untrained=True, arguments=_arguments(file), seed=9).same


def _arguments(file):
    return {"width": 4} if file.startswith("cnn2") else None


@pytest.mark.parametrize("file", ["cnn2/model.onnx", "cnn2/images.onnx"])
def test_a_classifier_gives_the_answers_that_it_gave(file):
    with Predictor(BEFORE / file, "cpu") as model:
        found = model.predict(BEFORE / "cnn2" / "three.png", top=10)
    assert found.label == "3"
    assert [candidate.label for candidate in found.top] == list(ANSWERS[file])
    np.testing.assert_allclose([candidate.score for candidate in found.top], list(ANSWERS[file].values()), atol=1e-5)


def test_a_regression_gives_the_answer_that_it_gave():
    with Predictor(BEFORE / "rgnet" / "model.onnx", "cpu") as model:
        found = model.predict(np.float32([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(found.values, ANSWERS["rgnet/model.onnx"], rtol=1e-5)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in KEYS])
def test_every_key_of_a_commands_json_is_still_there(cli, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    result = cli(*COMMANDS[name], "--format", "json")
    assert result.exit_code == 0, result.output
    assert not set(KEYS[name]) - set(paths(json.loads(result.stdout)))


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in BEFORE.rglob("*") if path.is_file()) < 300_000
