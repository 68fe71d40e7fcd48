"""The script beside a result: one command that repeats the tuning."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploykit import files


def beside(file: Path) -> Path:
    """Where the script of a tuned file lies."""
    return file.with_suffix(".tune.sh")


def write(file: Path, target: str, options: Mapping[str, Any]) -> Path:
    """Write the script; gives its path. `options`: by their names on the command line, without those that were not given."""
    words = ["deploykit", "tune", shlex.quote(target)]
    for name, value in options.items():
        several = value if isinstance(value, (list, tuple)) else [value]
        words += [f"--{name}" if each is True else f"--{name} {shlex.quote(str(each))}" for each in several]
    text = "#!/bin/sh\n# Tunes again: on another machine, another file may be the fastest.\n" + " ".join(words) + "\n"
    path = beside(file)
    files.write_text(path, text)
    path.chmod(path.stat().st_mode | 0o111)
    return path
