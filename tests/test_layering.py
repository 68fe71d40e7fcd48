"""Who may import whom, and what must stay light. The order is that of the design: each layer knows only those below it."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import deploykit
from deploykit import plugins

PACKAGE = Path(deploykit.__file__).parent

# From the bottom to the top; a module may import its own layer and everything below.
LAYERS = (
    {"errors"},
    {"files", "progress", "plugins"},
    {"runtime"},
    {"architectures", "datasets", "reports"},
    {
        "checkpoint",
        "checkpoint_guard",
        "dynamic_axes",
        "external_data",
        "float16",
        "graph_preprocessing",
        "input_specs",
        "network_outputs",
        "onnx_file",
        "onnx_guard",
        "onnx_names",
        "ort",
        "torchvision_zoo",
    },
    {"target"},
    {"backends", "export_errors", "simplifier"},
    {"verdict", "training"},
    {"exporter"},
    {"profiler"},
    {"demonstration"},
    {"views"},
    {"cli"},
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def sources():
    return sorted(PACKAGE.rglob("*.py"))


def own_imports(path: Path):
    """(top-level module of deploykit that is imported, line), nested imports included, TYPE_CHECKING blocks excluded."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "deploykit":
            parts = node.module.split(".")
            for name in [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]:
                yield name, node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("deploykit."):
                    yield alias.name.split(".")[1], node.lineno


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_its_own_layer_and_those_below(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):
        return
    assert own in RANK, f"{own} has no layer: add it to LAYERS, and to the picture in the README"
    for name, line in own_imports(path):
        if name.startswith("__"):
            continue
        assert RANK[name] <= RANK[own], f"{path}:{line} imports {name}, which lies above {own}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "runtime").glob("*.py")), ids=lambda p: p.name)
def test_the_runtime_needs_numpy_onnxruntime_and_pillow_only(path):
    allowed = {"numpy", "onnxruntime", "PIL", "deploykit"} | set(sys.stdlib_module_names)
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            assert name.split(".")[0] in allowed, f"{path.name} imports {name}"


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after running `code`."""
    script = f"import sys\n{code}\nprint('\\n'.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = {"torch", "torchvision", "onnx", "onnxscript", "onnxsim", "sklearn", "matplotlib", "accelerate", "scipy", "safetensors"}
HELP = "import contextlib, io, deploykit.cli as c\nwith contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): c.cli(['{}'])"


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import deploykit", HEAVY | {"onnxruntime", "numpy", "PIL", "click", "rich"}),
        ("import deploykit.cli", HEAVY | {"onnxruntime", "numpy", "PIL", "rich"}),
        (HELP.format("--help"), HEAVY | {"onnxruntime", "numpy", "PIL", "rich"}),
        ("import deploykit.runtime", HEAVY | {"click", "rich"}),
        ("from deploykit import Predictor", HEAVY | {"click", "rich"}),
        ("import deploykit.errors, deploykit.files, deploykit.plugins", HEAVY | {"onnxruntime", "numpy", "PIL", "click"}),
    ],
)
def test_light_imports_stay_light(code, forbidden):
    assert not loaded_by(code) & forbidden


@pytest.mark.parametrize("command", plugins.names("deploykit.cli"))
def test_the_help_of_every_command_is_light(command):
    code = (
        "import contextlib, io, deploykit.cli as c\n"
        f"with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): c.cli(['{command}', '--help'])"
    )
    assert not loaded_by(code) & (HEAVY | {"onnxruntime", "numpy"})


def test_every_public_name_resolves_and_is_listed():
    for name in deploykit.__all__:
        assert getattr(deploykit, name) is not None
    assert set(deploykit._HOME) | {"__version__"} == set(deploykit.__all__)


def test_public_verbs_are_functions_even_after_their_modules_were_imported():
    for name in ("demo", "export", "predict", "profile", "simplify", "train", "validate"):
        assert callable(getattr(deploykit, name)), name
    for name in ("exporter", "verdict", "simplifier", "training", "profiler"):
        importlib.import_module(f"deploykit.{name}")
    assert callable(deploykit.export)
    assert callable(deploykit.validate)
