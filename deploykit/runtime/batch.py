"""`predict`: files, folders and patterns in, one answer each out; the twin of the command."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from deploykit.errors import InputError
from deploykit.progress import SILENT, Progress
from deploykit.runtime.contract import Contract, ImageInput
from deploykit.runtime.images import SUFFIXES
from deploykit.runtime.prediction import Prediction
from deploykit.runtime.predictor import Predictor

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

_ARRAYS = (".npy",)


def predict(
    file: str | os.PathLike[str] | Predictor,
    paths: Paths,
    *,
    top: int = 1,
    batch_size: int = 64,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress = SILENT,
) -> list[Prediction]:
    """One `Prediction` per input, in the order given; what cannot be read has `error` and spoils nothing else.

    `file`: an ONNX file with a contract, or an open `Predictor`. `paths`: files, folders (their images, subfolders too, in the
    order of their names) and patterns such as "digits/*.png". Raises what `Predictor` raises, and `InputError` for no paths.
    """
    if isinstance(file, Predictor):
        return _predict(file, paths, top, batch_size, progress)
    progress.start("loading")
    with Predictor(file, device, threads=threads) as model:
        return _predict(model, paths, top, batch_size, progress)


def expand(paths: Paths, contract: Contract | None = None) -> Iterator[str]:
    """The single files behind files, folders and patterns. What leads nowhere is given as it is: reading it says why."""
    several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    suffixes = SUFFIXES if contract is None or isinstance(contract.input, ImageInput) else _ARRAYS
    for path in several:
        text = os.fsdecode(path)
        if not os.path.lexists(text) and glob.has_magic(text):
            matches = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 (pathlib has no absolute patterns)
            for match in matches or [text]:
                yield from _files(match, suffixes)
        else:
            yield from _files(text, suffixes)


def _predict(model: Predictor, paths: Paths, top: int, batch_size: int, progress: Progress) -> list[Prediction]:
    files = list(expand(paths, model.contract))
    if not files:
        raise InputError("nothing to predict: no paths were given", "give files, folders or patterns such as 'digits/*.png'")
    found = []
    answers = model.predict_many(files, batch_size, top)
    progress.start("predicting", len(files))
    for answer in answers:
        found.append(answer)
        progress.advance()
    return found


def _files(path: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """The file itself, or the files with one of `suffixes` in a folder; an empty folder is given back, to be refused by name."""
    if not Path(path).is_dir():
        yield path
        return
    empty = True
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(suffixes) and not name.startswith("."):
                empty = False
                yield str(Path(folder) / name)
    if empty:
        yield path
