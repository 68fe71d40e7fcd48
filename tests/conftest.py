"""Fixtures that several tests share: a network trained for a moment, its export, held-out digits as image files."""

from __future__ import annotations

import copy
import gc
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# One thread: the same sums in the same order on every machine, and a fifth less work where two processes share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Waiting threads sleep instead of spinning: a test that starts processes of its own would fight with itself.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Files of tests that take a minute or more, longest first. They are begun first: begun last, one process waits for the other.
LONGEST = (
    "architectures/test_conformance.py",
    "network/test_torchvision.py",
    "architectures/test_recipes.py",
    "training/test_torchrun.py",
    "profiler/test_latency.py",
    "verdict/test_traps.py",
    "examples/test_browser.py",
    "verdict/test_open_sizes.py",
    "cli/test_profile.py",
    "verdict/test_planted_faults.py",
    "faults/test_kills.py",
    "training/test_training_killed.py",
    "hostile/test_fuzz.py",
    "runtime/test_stream.py",
    "docs/test_pages.py",
    "examples/test_examples.py",
    "examples/test_notebook.py",
)


def pytest_collection_finish():
    """What is loaded by now stays to the end: the garbage collector need not walk through it again and again."""
    if "torch" in sys.modules:
        read_torchlib_once()
    gc.collect()
    gc.freeze()


def read_torchlib_once():
    """torch.onnx reads the source of each of its 500 operators anew for every export, a second each time; here, once per process.

    Every export gets a table of its own, so that one which adds an operator adds it for itself. Where torch keeps the table elsewhere,
    nothing is done, and the suite takes longer.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        read = ONNXRegistry.from_torchlib
    except (ImportError, AttributeError):
        return
    known = {}

    def from_torchlib(cls, *args, **kwargs):
        key = (args, tuple(kwargs.items()))
        if key not in known:
            known[key] = read(*args, **kwargs)
        registry = copy.copy(known[key])
        registry.functions = {target: list(ways) for target, ways in known[key].functions.items()}
        return registry

    ONNXRegistry.from_torchlib = classmethod(from_torchlib)


def pytest_sessionfinish():
    """At the end all is collected again, so that no library complains of leaks."""
    gc.unfreeze()


def pytest_collection_modifyitems(items):
    """The order of the files; within a file nothing is moved."""
    rank = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers, whichever tests ran before it in its process."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with lenet5 trained for two epochs on 400 digits: model.safetensors and the rest."""
    from deploykit.training import train

    folder = tmp_path_factory.mktemp("trained") / "lenet5"
    train("lenet5", epochs=2, limit=400, out=folder, device="cpu")
    return folder


@pytest.fixture(scope="session")
def exported(trained):
    """The ONNX file of that network."""
    from deploykit.exporter import export

    result = export(str(trained / "model.safetensors"))
    assert result.verdict.same, result.verdict
    return result.file


@pytest.fixture(scope="session")
def digit_files(tmp_path_factory):
    """Twenty digits of the test split as PNG files, and their labels."""
    from deploykit import datasets

    folder = tmp_path_factory.mktemp("digits")
    split = datasets.load("digits").test.take(20)
    paths = []
    for index, image in enumerate(split.images()):
        paths.append(folder / f"{index:02}.png")
        image.save(paths[-1])
    return paths, [str(label) for label in split.targets]


@pytest.fixture(scope="session")
def run_command():
    """Run `deploykit ARGS` in a process of its own, as a user would; gives the finished process with text output."""

    def run(
        *args: str | Path, cwd: Path, env: dict[str, str] | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "deploykit", *map(str, args)]
        return subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, built from a copy, because setuptools packs whatever an earlier build left in the source folder."""
    root = Path(__file__).parents[1]
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("deploykit", "tests", "examples", "benchmarks"):
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def browser() -> list[str]:
    """Chromium and the flags that keep it offline and quiet; a test that needs it is skipped where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    flags = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")
    return [found, *(f"--{flag}" for flag in (*flags, "disable-component-update", "disable-sync"))]


@pytest.fixture
def cli(workdir, monkeypatch):
    """Run the command line inside this process: `cli("export", "lenet5")` -> click's result, stdout and stderr apart.

    `profile` measures for a moment only: how long a network takes is nobody's question here.
    """
    from click.testing import CliRunner

    from deploykit.cli import cli as commands

    def run(*args: str | Path):
        if args[:1] == ("profile",):
            from deploykit.profiler import profiling

            monkeypatch.setitem(profiling.profile.__kwdefaults__, "seconds", 0.3)
        return CliRunner().invoke(commands, [str(a) for a in args], prog_name="deploykit")

    return run
