"""A fault in each step is put on that step: export, simplify, precision, onnxruntime's optimizer, provider."""

from __future__ import annotations

import onnx
import pytest
from onnx import numpy_helper

from deploykit.exporter import to_onnx
from deploykit.exporter.float16 import to_float16
from deploykit.network import target as targets
from deploykit.onnx_file import sessions
from deploykit.verdict import judge


def broken(model, name="blocks.0.0.weight"):
    """A copy with one weight off by a fifth of its scale: more than float16 rounds."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensor = next(t for t in copy.graph.initializer if t.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[1] += values.dtype.type(0.2) * abs(values).max()
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    return copy


@pytest.fixture(scope="module")
def network():
    return targets.resolve("cnn2", untrained=True, seed=2)


@pytest.fixture(scope="module")
def good(network):
    return to_onnx(network)


@pytest.mark.parametrize("step", ["export", "simplify", "precision"])
def test_a_step_that_changes_the_model(network, good, step):
    half = to_float16(good)
    chain = {
        "export": [("export", broken(good)), ("simplify", broken(good)), ("precision", to_float16(broken(good)))],
        "simplify": [("export", good), ("simplify", broken(good)), ("precision", to_float16(broken(good)))],
        "precision": [("export", good), ("simplify", good), ("precision", broken(half))],
    }[step]
    verdict = judge(chain[-1][1], network, steps=chain)
    assert verdict.verdict == "different"
    assert verdict.blamed_step == step
    assert verdict.first_divergent_layer == "blocks.0.0"
    assert judge(half, network, steps=[("export", good), ("precision", half)]).same


@pytest.mark.parametrize("level", ["basic", "extended", "all"])
def test_an_optimization_that_breaks_the_network(network, good, level, monkeypatch):
    real = sessions.open_session

    def optimizing(model, asked="all", *args, **options):
        if sessions.LEVELS.index(asked) >= sessions.LEVELS.index(level):
            model = broken(onnx.ModelProto.FromString(model)).SerializeToString()
        return real(model, asked, *args, **options)

    monkeypatch.setattr(sessions, "open_session", optimizing)
    verdict = judge(good, network)
    assert verdict.verdict == "different"
    assert verdict.blamed_step == f"optimizer:{level}"
    assert verdict.first_divergent_layer == "blocks.0.0"


def test_a_provider_that_breaks_the_network(network, good, monkeypatch):
    real = sessions.open_session

    def on_cuda(model, level="all", device=sessions.CPU, *args, **options):
        if device == sessions.CUDA:
            model = broken(onnx.ModelProto.FromString(model)).SerializeToString()
        return real(model, level, sessions.CPU, *args, **options)

    monkeypatch.setattr(sessions, "open_session", on_cuda)
    monkeypatch.setattr(sessions, "working_device", lambda _device: sessions.CUDA)
    verdict = judge(good, network, device="cuda")
    assert verdict.verdict == "different"
    assert verdict.blamed_step == "provider:CUDAExecutionProvider"
