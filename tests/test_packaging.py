"""What is installed on a user's machine: the package and nothing else, with extras that are what the design says."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"deploykit", next(t for t in tops if t.endswith(".dist-info"))}
    inside = {name.removeprefix("deploykit/") for name in names if name.startswith("deploykit/")}
    sources = {
        str(p.relative_to(ROOT / "deploykit"))
        for p in (ROOT / "deploykit").rglob("*")
        if p.suffix in (".py", ".css", ".js", ".html", ".typed")
    }
    assert inside == sources


def test_an_editable_install_is_a_plain_path_that_type_checkers_follow(tmp_path):
    """By setuptools' own hook, on a copy of what it looks at; an import hook, its usual way, is none that mypy would run."""
    for name in ("pyproject.toml", "README.md", "LICENSE", "deploykit/__init__.py", "deploykit/_version.py", "deploykit/py.typed"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "out").mkdir()
    code = "from setuptools import build_meta; print('made', build_meta.build_editable('out'))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    name = done.stdout.split("made ")[-1].strip()
    with zipfile.ZipFile(tmp_path / "out" / name) as archive:
        paths = [archive.read(n).decode().strip() for n in archive.namelist() if n.endswith(".pth")]
        assert not [n for n in archive.namelist() if n.endswith("_finder.py")]
    assert [Path(path) for path in paths] == [tmp_path]


def test_the_wheel_declares_the_command_and_the_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        read = {Path(n).name: archive.read(n).decode() for n in archive.namelist() if ".dist-info/" in n and not n.endswith(".png")}
    assert "deploykit = deploykit.__main__:main" in read["entry_points.txt"]
    assert "License-Expression: MIT" in read["METADATA"]


def test_apps_install_little_and_never_both_engines():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = {requirement.split(">")[0] for requirement in project["dependencies"]}
    assert base == {"numpy", "Pillow"}
    extras = project["optional-dependencies"]
    assert [r.split(">")[0] for r in extras["cpu"]] == ["onnxruntime"]
    assert {r.split(">")[0] for r in extras["cli"]} == {"click", "rich"}
    assert {"cpu", "gpu", "cli", "train", "export", "all", "dev"} <= set(extras)
    assert not any("deploykit[cpu" in r or r.startswith("onnxruntime>") for r in extras["all"])


@pytest.mark.parametrize(
    ("system", "machine", "engine"),
    [
        ("linux", "x86_64", "onnxruntime-gpu"),
        ("win32", "AMD64", "onnxruntime-gpu"),
        ("linux", "aarch64", "onnxruntime"),
        ("darwin", "arm64", "onnxruntime"),
        ("win32", "ARM64", "onnxruntime"),
    ],
)
def test_a_gpu_or_all_bring_the_one_engine_that_there_is_a_wheel_of(system, machine, engine):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    there = {"sys_platform": system, "platform_machine": machine}
    needed = [requirement for requirement in map(Requirement, extras["gpu"]) if requirement.marker.evaluate(there)]
    assert [requirement.name for requirement in needed] == [engine]
    assert extras["all"] == ["deploykit[gpu,export,serve,grpc]"]


def test_the_command_without_its_packages_says_in_one_line_what_to_install(tmp_path):
    """In a process that finds neither click nor rich, as where an application installed `deploykit[cpu]` alone."""
    for missing in ("click", "rich"):
        (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError('no {missing}', name='{missing}')")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "deploykit", "list"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: this needs the package 'click', which is not installed; pip install 'deploykit[cli]'\n"
    (tmp_path / "click.py").unlink()
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: this needs the package 'rich', which is not installed; pip install 'deploykit[cli]'\n"


def canonical(requirement):
    """`onnxruntime-gpu[cuda]>=1.22` -> "onnxruntime-gpu", as package indices spell it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def test_every_package_that_is_imported_is_declared():
    """Also those that come along with another one today."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    parts = ("cpu", "gpu", "openvino", "nncf", "cli", "export", "serve", "grpc", "ray")
    declared = {canonical(r) for r in (*project["dependencies"], *(r for part in parts for r in extras[part]))}
    of_module = metadata.packages_distributions()
    for path in (ROOT / "deploykit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for module in {name.split(".")[0] for name in names} - {"deploykit"} - set(sys.stdlib_module_names):
                found = {canonical(name) for name in of_module.get(module, [module])}
                assert found & declared, f"{path.name}:{node.lineno} imports {module}, which no extra brings"


def test_every_declared_package_has_a_version_that_ci_uses():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pinned = {canonical(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    parts = ("cpu", "gpu", "cli", "export", "serve", "grpc", "ray", "dev")
    declared = {canonical(r) for r in (*project["dependencies"], *(r for part in parts for r in extras[part]))}
    assert declared - pinned == {"deploykit", "setuptools"}


def test_constraints_are_names_and_versions_only():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, equals, version = line.partition("==")
        assert equals, line
        assert "/" not in line
        assert "+" not in version, line
        assert name


def test_ci_runs_the_readmes_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()
