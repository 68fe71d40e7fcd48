"""What a tuning has found out so far, in a folder beside its result: a run that was killed goes on from there.

The search is the same for the same answers, so it is run again from the beginning, and gets from here what it asked before: also
what time it was, so that it does not find itself late at what it has long done.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploykit import files
from deploykit.errors import OutputError, first_line

NAME = "journal.json"
VERSION = 2


class Journal:
    """Answers by question, whole or not there. `run` tells this tuning from others: what is left of another one is removed.

    `resumed`: whether there are answers of a run that was killed; `other`: whether there were some of another tuning. As a
    context, it takes its folder with it where an error comes before the first answer: there is nothing to go on from.

    Raises `OutputError` for a folder that cannot be made, and for one with files in it that no tuning has begun.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self._folder, self._run = folder, dict(run)
        _require_own(folder)
        kept = _read(folder / NAME)
        self.other = False
        if kept is None or kept.get("version") != VERSION or kept.get("run") != json.loads(json.dumps(self._run)):
            remove(folder)
            self.other = bool(kept and kept.get("answers"))
            kept = {}
        self._answers: dict[str, list[Any]] = dict(kept.get("answers", {}))
        self.seconds: float = float(kept.get("seconds", 0.0))
        self.resumed = bool(self._answers)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make {folder}: {first_line(error)}", "choose another --out") from error
        if not self.resumed:
            self._write()  # before any other file: it is what tells this folder from one of the user's

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not self._answers:
            remove(self._folder)

    def get(self, question: Sequence[str]) -> tuple[Any, float] | None:
        """The answer that was kept, and how long the tuning had taken until then, or `None`."""
        found = self._answers.get(json.dumps(list(question)))
        return None if found is None else (found[0], float(found[1]))

    def put(self, question: Sequence[str], answer: Any, seconds: float) -> None:
        """Keep an answer; `seconds`: how long the tuning has taken until now. Raises `OutputError`."""
        self._answers[json.dumps(list(question))] = [answer, seconds]
        self.seconds = seconds
        self._write()

    def _write(self) -> None:
        document = {"version": VERSION, "run": self._run, "seconds": self.seconds, "answers": self._answers}
        files.write_text(self._folder / NAME, json.dumps(document))


def remove(folder: Path) -> None:
    """Remove the folder of a tuning that is over, as far as that can be: one with a journal, and nothing else than its files."""
    with contextlib.suppress(OSError):
        inside = list(folder.iterdir())
        if (folder / NAME).is_file() and all(_is_own(path) for path in inside):
            shutil.rmtree(folder)


def _is_own(path: Path) -> bool:
    """Whether a tuning may have written this: a regular file that is called so."""
    return path.is_file() and not path.is_symlink() and (path.name == NAME or path.suffix in (".onnx", ".data", ".tmp"))


def _require_own(folder: Path) -> None:
    """Raise `OutputError` for a folder that was not made by a tuning: it has files, and no journal among them."""
    try:
        inside = [path.name for path in folder.iterdir() if not path.name.startswith(f".{NAME}.")]
    except OSError:
        return  # none is there, or the folder cannot be read: making it or writing to it says so
    if inside and NAME not in inside:
        raise OutputError(f"{folder} is there, and is no folder of a tuning", "choose another --out, or move it away")


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
