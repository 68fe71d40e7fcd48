"""Small deployed files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves helpers beside the tests unfound

from small_models import DIGITS, LABELS, build, linear, with_contract

from deploykit.runtime.contract import ArrayInput, Contract, Output


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(model: onnx.ModelProto, contract: Contract | str | None = None, name: str = "model.onnx") -> Path:
        path = tmp_path / name
        path.write_bytes(with_contract(model, contract).SerializeToString())
        return path

    return write


@pytest.fixture(scope="session")
def digits_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8x8 grey images -> 10 labels, softmax."""
    path = tmp_path_factory.mktemp("digits") / "model.onnx"
    path.write_bytes(with_contract(linear(), Contract(DIGITS, Output("softmax", LABELS))).SerializeToString())
    return path


@pytest.fixture(scope="session")
def weight_of(digits_file: Path) -> np.ndarray:
    return numpy_helper.to_array(onnx.load(digits_file).graph.initializer[0])


@pytest.fixture
def regression_file(save: Callable[..., Path]) -> Path:
    """(batch, 3) -> (batch, 2): twice the first two numbers."""
    model = build(
        [helper.make_node("MatMul", ["input", "w"], ["out"])],
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 2])],
        {"w": np.array([[2, 0], [0, 2], [0, 0]], np.float32)},
    )
    return save(model, Contract(ArrayInput((3,)), Output("none")), "regression.onnx")


@pytest.fixture(scope="session")
def run_python() -> Callable[[str], str]:
    """Run code in a Python of its own; gives its stdout, and fails with its stderr."""

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
