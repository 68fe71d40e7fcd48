"""What an app gets when it imports the runtime, seen from a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

HEAVY = {"torch", "onnx", "torchvision", "onnxscript", "onnxsim", "sklearn", "safetensors", "matplotlib"}
LOADED = "import sys; print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))"


def loaded(run_python, code: str) -> set[str]:
    return set(run_python(f"{code}\n{LOADED}").split())


@pytest.mark.parametrize("module", ["deploykit", "deploykit.runtime", "deploykit.runtime.contract", "deploykit.cli"])
def test_names_alone_load_no_engine(run_python, module: str) -> None:
    assert not loaded(run_python, f"import {module}") & {*HEAVY, "onnxruntime", "numpy", "PIL", "rich"}


def test_the_predictor_loads_numpy_and_onnxruntime_only(run_python) -> None:
    modules = loaded(run_python, "from deploykit.runtime import Predictor")
    assert {"numpy", "onnxruntime"} <= modules
    assert not modules & {*HEAVY, "PIL", "click", "rich"}


def test_answering_loads_pillow_and_nothing_more(run_python, digits_file: Path) -> None:
    answer = f"deploykit.Predictor({str(digits_file)!r}).predict(numpy.zeros((8, 8), 'uint8'))"
    modules = loaded(run_python, f"import numpy, deploykit\nassert {answer}.ok")
    assert "PIL" in modules
    assert not modules & {*HEAVY, "click", "rich"}


def test_answering_works_where_torch_and_onnx_are_not_installed(run_python, digits_file: Path, tmp_path: Path) -> None:
    """Both are blocked, as in an environment with the base package and onnxruntime alone."""
    code = f"""
import sys
for name in {sorted(HEAVY)!r}:
    sys.modules[name] = None
import numpy, deploykit
from PIL import Image
Image.new("L", (8, 8), 99).save({str(tmp_path / "x.png")!r})
answer = deploykit.predict({str(digits_file)!r}, [{str(tmp_path / "x.png")!r}])[0]
assert answer.ok, answer
deploykit.doctor()
from deploykit.cli import cli
cli(["predict", {str(digits_file)!r}, {str(tmp_path / "x.png")!r}, "--format", "json"], standalone_mode=False)
"""
    assert '"label"' in run_python(code)


def test_help_loads_nothing_heavy(run_python) -> None:
    code = """
import contextlib, io
from deploykit.cli import cli
with contextlib.redirect_stdout(io.StringIO()):
    cli(["predict", "--help"], standalone_mode=False)
"""
    assert not loaded(run_python, code) & {*HEAVY, "onnxruntime", "numpy", "PIL"}


def test_public_names_exist() -> None:
    import deploykit.runtime

    for name in deploykit.runtime.__all__:
        assert getattr(deploykit.runtime, name).__name__ == name
    assert dir(deploykit.runtime) == sorted(deploykit.runtime.__all__)
    with pytest.raises(AttributeError, match="no attribute 'predictt'"):
        deploykit.runtime.predictt  # noqa: B018
