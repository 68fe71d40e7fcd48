"""How much an application installs to run a deployed file: packages and megabytes, beside other tools' usual ways.

    python benchmarks/install_size.py [--most-megabytes 1000] [--out benchmarks/results/install_size.md]

Each way is resolved by ``pip install --dry-run --report`` as in an empty environment. Where the wheels together have at most
`--most-megabytes`, they are installed into a virtual environment of their own and counted on disk (without pip itself, and
before any .pyc is written). Above that only the download is known: the sizes of the wheels, which is less than what they
unpack to. Needs a package registry; sizes are those of this platform and Python.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
WAYS = {
    "deploykit[cpu]": "Predictor, `deploykit.predict`",
    "onnxruntime numpy Pillow": "a bare session, decoding and preprocessing by hand",
    "optimum[onnxruntime]": "ORTModelForImageClassification",
    "ultralytics onnxruntime": "YOLO('model.onnx')",
    "mmdeploy-runtime": "Classifier of its own SDK",
}


@dataclass(frozen=True)
class Row:
    """What one way brings; megabytes are 10^6 bytes. `installed` is `None` where it was not installed."""

    way: str
    version: str
    api: str
    packages: int
    download: float
    installed: float | None
    brings: str
    problem: str = ""


def main() -> None:
    """Measure every way and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--most-megabytes", type=float, default=1000, help="install for real up to this download")
    parser.add_argument("--out", type=Path, help="write the table as Markdown")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for way, api in WAYS.items():
            rows.append(measure(way, api, Path(folder), arguments.most_megabytes))
            print(rows[-1], file=sys.stderr, flush=True)
    text = table(rows)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")


def measure(way: str, api: str, folder: Path, most: float) -> Row:
    """Resolve, and install where that is bearable."""
    requirements = [f"{wheel_of(folder)}[cpu]" if part.startswith("deploykit") else part for part in way.split()]
    report = folder / "report.json"
    done = pip(sys.executable, "install", "--dry-run", "--ignore-installed", "--report", str(report), *requirements)
    if done.returncode:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR")), "pip failed")
        return Row(way, "", api, 0, 0.0, None, "", re.sub(r"^ERROR: ", "", reason)[:160])
    parts = json.loads(report.read_text())["install"]
    names = sorted(part["metadata"]["name"].lower() for part in parts)
    download = sum(size_of(part["download_info"]["url"]) for part in parts) / 1e6
    heavy = [name for name in ("torch", "transformers", "opencv-python", "onnx", "polars", "scipy") if name in names]
    installed = install(requirements, folder / re.sub(r"\W", "_", way)) if download <= most else None
    versions = {part["metadata"]["name"].lower(): part["metadata"]["version"] for part in parts}
    version = versions[re.split(r"[\[ ]", way)[0].lower()]
    return Row(way, version, api, len(parts), download, installed, ", ".join(heavy) or "neither torch nor onnx")


def wheel_of(folder: Path) -> Path:
    """The wheel of deploykit, built once."""
    found = next(folder.glob("deploykit-*.whl"), None)
    if found is None:
        source = folder / "source"  # a copy: setuptools leaves things behind in the folder that it builds
        shutil.copytree(ROOT / "deploykit", source / "deploykit", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
        subprocess.run(command, check=True, capture_output=True)
        found = next(folder.glob("deploykit-*.whl"))
    return found


def size_of(url: str) -> int:
    """The bytes of a wheel, asked for without fetching it."""
    if url.startswith("file:"):
        return Path(urllib.request.url2pathname(url.removeprefix("file://"))).stat().st_size
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=60) as answer:
        return int(answer.headers["Content-Length"])


def install(requirements: list[str], folder: Path) -> float:
    """Megabytes on disk that the requirements add to an empty environment."""
    venv.create(folder, with_pip=True)
    before = bytes_in(folder)
    done = pip(str(folder / "bin" / "python"), "install", "--quiet", "--no-compile", *requirements)
    done.check_returncode()
    return (bytes_in(folder) - before) / 1e6


def pip(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pip in an environment."""
    command = [python, "-m", "pip", arguments[0], "--disable-pip-version-check", *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})


def bytes_in(folder: Path) -> int:
    """The sizes of all files, links not followed; .pyc files left out, since pip itself writes some while it runs."""
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink() and p.suffix != ".pyc")


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = [
        "# What an application installs",
        "",
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}; made by `benchmarks/install_size.py`.",
        "Packages and download by `pip install --dry-run --report` in an empty environment; megabytes on disk by a real",
        'installation, where "-" means that the download alone was over the limit. MB are 10^6 bytes.',
        "",
        "| pip install | version | to use | packages | download, MB | on disk, MB | brings |",
        "|---|---|---|--:|--:|--:|---|",
    ]
    for row in rows:
        if row.problem:
            lines.append(f"| `{row.way}` | | {row.api} | | | | cannot be installed: {row.problem} |")
            continue
        disk = "-" if row.installed is None else f"{row.installed:,.0f}"
        lines.append(f"| `{row.way}` | {row.version} | {row.api} | {row.packages} | {row.download:,.0f} | {disk} | {row.brings} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
