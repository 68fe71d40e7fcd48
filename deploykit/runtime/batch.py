"""`predict`: files, folders and patterns in, one answer each out; the twin of the command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path

from deploykit import arguments as read
from deploykit.errors import InputError
from deploykit.progress import Progress
from deploykit.runtime.images import MAX_BYTES
from deploykit.runtime.paths import Paths, expand
from deploykit.runtime.prediction import Predictions
from deploykit.runtime.predictor import Predictor
from deploykit.runtime.reading import read_stream
from deploykit.runtime.stream import Named

STANDARD_INPUT = "-"


def predict(
    file: str | os.PathLike[str] | Predictor,
    paths: Paths,
    *,
    top: int = 1,
    batch_size: int = 64,
    device: str = "auto",
    threads: int | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """One `Prediction` per input, in the order given; what cannot be read has `error` and spoils nothing else.

    `file`: an ONNX file with a contract, or an open `Predictor`. `paths`: files, folders (their images, subfolders too, in the
    order of their names) and patterns such as "digits/*.png"; "-" is one image or array from standard input. `out`: where the
    answers are written as well, a file that ends in .csv, .jsonl or .json, or a folder for masks, boxes and arrays; see
    `saving.Saver`. Raises what `Predictor` raises, `InputError` for no paths, and `OutputError`.
    """
    progress = read.progress(progress)
    target = read.path_or_none(out, "out")
    if isinstance(file, Predictor):
        return _predict(file, paths, top, batch_size, target, progress)
    progress.start("loading")
    with Predictor(file, device, threads=threads) as model:
        return _predict(model, paths, top, batch_size, target, progress)


def _predict(model: Predictor, paths: Paths, top: int, batch_size: int, out: Path | None, progress: Progress) -> Predictions:
    if not isinstance(paths, (str, os.PathLike)):
        paths = _several(paths)
    files = list(expand(paths, model.contract))
    if not files:
        raise InputError("nothing to predict: no paths were given", "give files, folders or patterns such as 'digits/*.png'")
    given = _standard_input() if STANDARD_INPUT in files and not Path(STANDARD_INPUT).exists() else None
    sources = [path if given is None or path != STANDARD_INPUT else Named(path, BytesIO(given)) for path in files]
    found = Predictions()
    answers = model.predict_many(sources, batch_size, top)
    progress.start("predicting", len(files))
    if out is None:
        for answer in answers:
            found.append(answer)
            progress.advance()
        return found
    from deploykit.runtime.saving import Saver  # what most answers have no need of

    with Saver(out) as saver:
        for answer in answers:
            found.append(answer)
            saver.add(answer, given if given is not None and answer.path == STANDARD_INPUT else answer.path)
            progress.advance()
    return found


def _standard_input() -> bytes:
    """What comes through standard input, read to its end."""
    return read_stream(sys.stdin.buffer, MAX_BYTES, InputError, "standard input")


def _several(paths: Paths) -> list[str | os.PathLike[str]]:
    found = list(paths) if isinstance(paths, Iterable) and not isinstance(paths, (bytes, Mapping)) else None
    wrong = paths if found is None else next((path for path in found if not isinstance(path, (str, os.PathLike))), None)
    if found is None or wrong is not None:
        raise InputError(f"the paths to predict cannot be {wrong!r:.80}", "give files; a Predictor takes arrays and images too")
    return found
