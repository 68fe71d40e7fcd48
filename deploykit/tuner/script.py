"""The script beside a result: one command that repeats the tuning, from the folder in which it was given."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploykit import files
from deploykit.network.request import Request
from deploykit.tuner.options import Options, engines, precisions

MISSING = "# The values of the inputs were arrays in memory, not a file: save them as .npz, and add --inputs FILE.npz.\n"


def beside(file: Path) -> Path:
    """Where the script of a tuned file lies."""
    return file.with_suffix(".tune.sh")


def write(file: Path, target: str, options: Mapping[str, Any], complete: bool = True) -> Path:
    """Write the script; gives its path. `options`: by their names on the command line, without those that were not given.

    `complete`: whether they say everything. The script goes to the folder of today, which it finds from where it lies itself.
    """
    words = ["deploykit", "tune", shlex.quote(target)]
    for name, value in options.items():
        several = value if isinstance(value, (list, tuple)) else [value]
        words += [f"--{name}" if each is True else f"--{name} {shlex.quote(str(each))}" for each in several]
    path = beside(file)
    there = shlex.quote(Path(os.path.relpath(Path.cwd(), path.resolve().parent)).as_posix())
    text = "#!/bin/sh\n# Tunes again: on another machine, another file may be the fastest.\n" + ("" if complete else MISSING)
    files.write_text(path, f'{text}cd "$(dirname "$0")"/{there} || exit\n{" ".join(words)}\n')
    path.chmod(path.stat().st_mode | 0o111)
    return path


def options_again(request: Request, options: Options, out: Path) -> dict[str, Any]:
    """The options of the command line that say the same."""
    found: dict[str, Any] = {"data": options.data, "checkpoint": request.checkpoint}
    found |= {"untrained": request.untrained or None, "seed": options.seed or None}
    found |= {"arg": [f"{name}={value}" for name, value in (request.arguments or {}).items()]}
    found |= {"input-shape": ["x".join(map(str, shape)) for shape in request.input_shapes or ()]}
    found |= {"input-dtype": list(request.input_dtypes or ())}
    found |= {"inputs": request.inputs if isinstance(request.inputs, Path) else None}
    budget = options.budget
    found |= {"max-drop": f"{100 * budget.drop:g}", "min-agreement": budget.agreement, "max-error": budget.error}
    found |= {"goal": options.goal, "batch": options.batch, "threads": options.threads}
    # All that are here are not named: on another machine there may be others.
    if options.device == "cpu" and options.engines != engines(None):
        found["engines"] = ",".join(options.engines)
    if options.precisions != precisions(None):
        found["precisions"] = ",".join(options.precisions)
    found |= {"device": options.device, "seconds": f"{options.seconds:g}", "out": out}
    return {name: value for name, value in found.items() if value is not None and value != []}
