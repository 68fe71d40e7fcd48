"""What is installed on a user's machine: the package and nothing else, with extras that are what the design says."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

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
        if p.suffix in (".py", ".css", ".js", ".typed")
    }
    assert inside == sources


def test_the_wheel_declares_the_command_and_the_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        read = {Path(n).name: archive.read(n).decode() for n in archive.namelist() if ".dist-info/" in n and not n.endswith(".png")}
    assert "deploykit = deploykit.cli:main" in read["entry_points.txt"]
    assert "License-Expression: MIT" in read["METADATA"]


def test_apps_install_little_and_never_both_engines():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = {requirement.split(">")[0] for requirement in project["dependencies"]}
    assert base == {"numpy", "click", "Pillow", "rich"}
    extras = project["optional-dependencies"]
    assert [r.split(">")[0] for r in extras["cpu"]] == ["onnxruntime"]
    assert extras["gpu"][0].startswith("onnxruntime-gpu")
    assert {"cpu", "gpu", "train", "export", "all", "dev"} <= set(extras)
    assert not any("deploykit[cpu" in r or r.startswith("onnxruntime>") for r in extras["all"])


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
