"""Half the size, the same inputs and outputs, and a verdict with a tolerance of its own."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from deploykit.errors import ExportError, InputError
from deploykit.exporter import export
from deploykit.runtime import Predictor


@pytest.fixture(scope="module")
def half(trained, tmp_path_factory):
    return export(str(trained / "model.safetensors"), precision="fp16", out=tmp_path_factory.mktemp("half") / "model.onnx")


def test_half_the_size_and_the_same_decisions(half, exported):
    assert half.verdict.same, half.verdict.checks
    assert half.bytes < 0.55 * exported.stat().st_size
    assert half.verdict.decisions.agreement >= 0.99
    assert half.verdict.errors.onnx_vs_64 > 1e-5, "float16 cannot be as exact as float32"
    assert half.document()["precision"] == half.contract.provenance["precision"] == "fp16"


def test_inputs_and_outputs_stay_float32(half, exported, digit_files):
    model = onnx.load(half.file)
    onnx.checker.check_model(model, full_check=True)
    assert {t.data_type for t in model.graph.initializer} >= {onnx.TensorProto.FLOAT16}
    session = onnxruntime.InferenceSession(half.file, providers=["CPUExecutionProvider"])
    assert session.run(None, {"input": np.zeros((3, 1, 32, 32), np.float32)})[0].dtype == np.float32
    paths, _ = digit_files
    with Predictor(half.file, device="cpu") as small, Predictor(exported, device="cpu") as full:
        assert [a.label for a in small.predict_many(paths)] == [a.label for a in full.predict_many(paths)]


def test_a_loop_and_shared_weights_survive(tmp_path):
    for name in ("fixed-hidden-mlp", "shared-mlp"):
        assert export(name, untrained=True, precision="fp16", out=tmp_path / f"{name}.onnx").verdict.same


def test_what_has_no_weights_or_no_such_precision_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown precision 'fp8'"):
        export("lenet5", untrained=True, precision="fp8", out=tmp_path / "m.onnx")
    model = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    from deploykit.exporter.float16 import to_float16

    with pytest.raises(ExportError, match="no float32 weights"):
        to_float16(model)
    assert not list(tmp_path.iterdir())
