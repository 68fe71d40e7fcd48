"""A quantized file is judged by its decisions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from deploykit import onnx_file
from deploykit.runtime.contract import Tuned
from deploykit.verdict import tuned_files, validate


@pytest.fixture
def tuned(exported, tmp_path):
    """A file that says that it was tuned and rounds its input: `make(scale)` by how much."""
    from dataclasses import replace

    def make(scale, marked=True):
        model = onnx_file.read(exported)
        first = model.graph.node[0]
        for name, value in (("scale", np.float32(scale)), ("zero", np.uint8(128))):
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        there = onnx.helper.make_node("QuantizeLinear", [first.input[0], "scale", "zero"], ["q"], "there")
        back = onnx.helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["rounded"], "back")
        first.input[0] = "rounded"
        model.graph.node.insert(0, back)
        model.graph.node.insert(0, there)
        contract = onnx_file.get_contract(model)
        mark = Tuned("onnxruntime", 1, "int8") if marked else None
        onnx_file.set_contract(model, replace(contract, tuned=mark))
        onnx_file.write(model, tmp_path / "tuned.onnx")
        return tmp_path / "tuned.onnx"

    return make


def test_decisions_that_stay_are_the_same_decisions_as_far_as_the_samples_prove(tuned, exported, monkeypatch):
    monkeypatch.setattr(tuned_files.Budget, "__init__", lambda self: self.__dict__.update(drop=0.1, agreement=0.9, error=0.05))
    found = validate(tuned(0.01), exported, data="digits")
    assert found.verdict == "same decisions", found
    assert found.passed
    assert not found.same
    assert found.decisions.agreement > 0.95
    assert "not the same network" in found.notes[0]


def test_few_samples_prove_nothing_and_say_how_many_would(tuned, exported):
    found = validate(tuned(0.01), exported, data="digits")
    assert found.verdict == "not proven"
    assert "it would need about" in found.checks[-1].detail


def test_what_is_a_decision_says_the_contract_of_the_file(tuned, exported):
    """The numbers of a regression are compared as such; the largest of them means nothing."""
    from dataclasses import replace

    from deploykit.runtime.contract import Output, RegressionOutput

    file = tuned(0.01)
    model = onnx_file.read(file)
    contract = onnx_file.get_contract(model)
    onnx_file.set_contract(model, replace(contract, output=RegressionOutput()))
    onnx_file.write(model, file)
    found = validate(file, exported, data="digits")
    assert found.decisions is None
    assert "outputs stay within 5 % of their scale" in found.notes[0]
    onnx_file.set_contract(model, replace(contract, output=Output("softmax", contract.output.labels, name="elsewhere")))
    onnx_file.write(model, file)
    found = validate(file, exported, data="digits")
    assert (found.verdict, found.checks[-1].detail.split(",")[0]) == (
        "not proven",
        "decisions are read from the output 'elsewhere'",
    )


def test_decisions_that_are_lost_are_different(tuned, exported):
    found = validate(tuned(100.0), exported, data="digits")
    assert found.verdict == "different"
    assert not found.passed


def test_a_quantized_file_that_does_not_say_it_was_tuned_is_asked_whether_it_is_the_same_network(tuned, exported):
    assert validate(tuned(0.01, marked=False), exported, data="digits").verdict == "different"
