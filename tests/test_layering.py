"""Who may import whom, and what must stay light. The order is that of the design: each layer knows only those below it."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import deploykit
from deploykit import plugins

PACKAGE = Path(deploykit.__file__).parent

# From the bottom to the top: folders of `deploykit/`, and the modules that lie at its root. Each may import its own layer and those below.
LAYERS = (
    {"_version", "errors"},
    {"arguments", "files", "lazy", "plugins", "progress", "shown"},
    {"runtime"},
    {"architectures", "datasets", "reports"},
    {"network", "onnx_file"},
    {"backends", "simplifier"},
    {"training", "verdict", "serving", "cluster"},
    {"exporter"},
    {"profiler"},
    {"tuner"},
    {"demonstration"},
    {"views"},
    {"cli"},
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def module_name(path):
    """`deploykit/network/target.py` -> "deploykit.network.target"."""
    parts = ("deploykit", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def own_imports(path):
    """(module of deploykit that is imported, line), imports inside functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not getattr(node, "level", 0), f"{path}:{node.lineno} imports relatively, which nothing here would see"
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "deploykit":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module, node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "deploykit":
                    yield alias.name, node.lineno


def room(module):
    """The folder of `deploykit/`, or the module at its root, in which a module lies."""
    return module.split(".")[1]


def circles(edges):
    """The groups of names that lead back to each other, by Tarjan's algorithm (1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in edges.get(name, ()):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in list(edges):
        if name not in index:
            visit(name)
    return found


INSIDE = {name: path for name, path in MODULES.items() if name not in ("deploykit", "deploykit.__main__")}


@pytest.mark.parametrize("module", INSIDE)
def test_a_module_imports_only_its_own_layer_and_those_below(module):
    own = room(module)
    assert own in RANK, f"{own} has no layer: add it to LAYERS, and to the picture in CONTRIBUTING.md"
    for name, line in own_imports(INSIDE[module]):
        assert name != "deploykit", f"{module}:{line} imports the package itself, which lies above all"
        assert RANK[room(name)] <= RANK[own], f"{module}:{line} imports {name}, which lies above {own}"


def test_no_module_and_no_folder_leads_back_to_itself():
    imports = {module: {name for name, _ in own_imports(path) if name != module} for module, path in INSIDE.items()}
    assert not circles(imports)
    folders: dict[str, set[str]] = {}
    for module, names in imports.items():
        folders.setdefault(room(module), set()).update(room(name) for name in names if room(name) != room(module))
    assert not circles(folders)


def test_a_circle_is_found():
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c"]]
    assert not circles({"a": ["b", "c"], "b": ["c"], "c": []})


@pytest.mark.parametrize("module", INSIDE)
def test_an_underscore_is_private_to_its_folder(module):
    """Plumbing of a plug-in package is called `_name.py`; nobody outside of that package imports it."""
    for name, line in own_imports(INSIDE[module]):
        folder, _, last = name.rpartition(".")
        private = last.startswith("_") and name != "deploykit._version"
        assert not private or module.startswith(folder), f"{module}:{line} imports {name}, which is private to {folder}"


def test_no_loose_module_lies_at_the_root():
    loose = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert loose == {
        "_version",
        "arguments",
        "demonstration",
        "errors",
        "files",
        "lazy",
        "plugins",
        "progress",
        "shown",
        "simplifier",
    }


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_the_files_that_a_page_names_are_there(page):
    root = PACKAGE.parent
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", (root / page).read_text()))
    assert len(named) > 5
    assert not [path for path in named if not (PACKAGE / path).is_file() and not (root / path).is_file()]


@pytest.mark.parametrize("path", sorted((PACKAGE / "runtime").glob("*.py")), ids=lambda p: p.name)
def test_the_runtime_needs_numpy_onnxruntime_and_pillow_only(path):
    allowed = (
        {"numpy", "onnxruntime", "PIL", "deploykit"}
        | ({"openvino"} if path.name == "openvino.py" else set())
        | set(sys.stdlib_module_names)
    )
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


HEAVY = {"ray", "pyarrow", "torch", "torchvision", "onnx", "onnxscript", "onnxsim", "sklearn", "matplotlib", "scipy", "safetensors"}
HELP = "import contextlib, io, deploykit.cli as c\nwith contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): c.cli(['{}'])"


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import deploykit", HEAVY | {"onnxruntime", "numpy", "PIL", "click", "rich"}),
        ("import deploykit.cli", HEAVY | {"onnxruntime", "numpy", "PIL", "rich"}),
        (HELP.format("--help"), HEAVY | {"onnxruntime", "numpy", "PIL", "rich"}),
        ("import deploykit.runtime", HEAVY | {"click", "rich"}),
        ("from deploykit import Predictor", HEAVY | {"click", "rich"}),
        ("from deploykit.cluster import predict", HEAVY | {"click", "rich"}),
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


@pytest.mark.parametrize("package", ["deploykit", "deploykit.profiler", "deploykit.runtime"])
def test_what_type_checkers_see_is_what_a_package_has(package):
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.asname: (line.module, alias.name) for line in block.body for alias in line.names}
    assert all(name == exported for exported, (_, name) in seen.items()), "`as`, or type checkers take it for private"
    assert set(seen) == set(module.__all__) - {"__version__"} == set(dir(module)) - {"__version__"}
    for name, (home, _) in seen.items():
        assert getattr(module, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match=rf"module '{package}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_public_verbs_are_functions_even_after_their_modules_were_imported():
    for name in ("demo", "export", "predict", "profile", "simplify", "train", "validate"):
        assert callable(getattr(deploykit, name)), name
    for name in ("exporter", "verdict", "simplifier", "training", "profiler"):
        importlib.import_module(f"deploykit.{name}")
    assert callable(deploykit.export)
    assert callable(deploykit.validate)
