"""`predict`: files, folders and patterns in, one answer each out; the twin of the command."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from deploykit import arguments as read
from deploykit.errors import InputError
from deploykit.progress import Progress
from deploykit.runtime.paths import Paths, expand
from deploykit.runtime.prediction import Predictions
from deploykit.runtime.predictor import Predictor


def predict(
    file: str | os.PathLike[str] | Predictor,
    paths: Paths,
    *,
    top: int = 1,
    batch_size: int = 64,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """One `Prediction` per input, in the order given; what cannot be read has `error` and spoils nothing else.

    `file`: an ONNX file with a contract, or an open `Predictor`. `paths`: files, folders (their images, subfolders too, in the
    order of their names) and patterns such as "digits/*.png". Raises what `Predictor` raises, and `InputError` for no paths.
    """
    progress = read.progress(progress)
    if isinstance(file, Predictor):
        return _predict(file, paths, top, batch_size, progress)
    progress.start("loading")
    with Predictor(file, device, threads=threads) as model:
        return _predict(model, paths, top, batch_size, progress)


def _predict(model: Predictor, paths: Paths, top: int, batch_size: int, progress: Progress) -> Predictions:
    if not isinstance(paths, (str, os.PathLike)):
        paths = _several(paths)
    files = list(expand(paths, model.contract))
    if not files:
        raise InputError("nothing to predict: no paths were given", "give files, folders or patterns such as 'digits/*.png'")
    found = Predictions()
    answers = model.predict_many(files, batch_size, top)
    progress.start("predicting", len(files))
    for answer in answers:
        found.append(answer)
        progress.advance()
    return found


def _several(paths: Paths) -> list[str | os.PathLike[str]]:
    found = list(paths) if isinstance(paths, Iterable) and not isinstance(paths, (bytes, Mapping)) else None
    wrong = paths if found is None else next((path for path in found if not isinstance(path, (str, os.PathLike))), None)
    if found is None or wrong is not None:
        raise InputError(f"the paths to predict cannot be {wrong!r:.80}", "give files; a Predictor takes arrays and images too")
    return found
