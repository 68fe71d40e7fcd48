"""The whole way in one command: train, export, prove, profile, and ask the deployed file about digits it has not seen."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from deploykit import arguments as read
from deploykit import datasets, files
from deploykit.arguments import StrPath
from deploykit.errors import OutputError, first_line
from deploykit.exporter import ExportResult, export
from deploykit.network.checkpoint import NAME
from deploykit.profiler import Profile, profile
from deploykit.progress import Progress
from deploykit.runtime import Prediction, Predictor
from deploykit.shown import Shown
from deploykit.training import TrainingResult, train

NETWORK = "lenet5"
DIGITS = 10


@dataclass(frozen=True, repr=False)
class Demonstration(Shown):
    """What each step made. `predictions` are of the deployed file on image files, `truth` what the writers meant."""

    _view: ClassVar[str] = "demonstration"

    folder: Path
    images: Path
    training: TrainingResult
    export: ExportResult
    profile: Profile
    predictions: tuple[Prediction, ...]
    truth: tuple[str, ...]
    seconds: float

    def __repr__(self) -> str:
        return f"<Demonstration in {self.folder}: {self.export.verdict.verdict}>"

    def document(self) -> dict[str, Any]:
        """The public JSON form: one key per step."""
        return {
            "folder": str(self.folder),
            "seconds": self.seconds,
            "train": self.training.document(),
            "export": self.export.document(),
            "profile": self.profile.document(),
            "predict": [p.as_dict() | {"truth": t} for p, t in zip(self.predictions, self.truth, strict=True)],
        }


def demo(folder: StrPath = "demo", *, seed: int = 0, progress: Progress | None = None) -> Demonstration:
    """Train lenet5 on real handwritten digits and take it all the way to answers without PyTorch.

    Everything is written under `folder`. Raises `OutputError` where that cannot be written.
    """
    folder, progress = read.path(folder, "folder"), read.progress(progress)
    began = time.perf_counter()
    files.writable_folder(folder)
    home = folder / "trained" / NETWORK
    trained = train(NETWORK, seed=seed, out=home, progress=progress)
    exported = export(str(home / NAME), progress=progress)
    progress.start("profiling")
    profiled = profile(str(home / NAME))
    images, truth = _write_digits(folder / "digits")
    with Predictor(exported.file) as model:
        predictions = tuple(model.predict_many(images))
    return Demonstration(
        folder, folder / "digits", trained, exported, profiled, predictions, truth, time.perf_counter() - began
    )  # fmt: skip


def _write_digits(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The first held-out digit of each class as a PNG file, and what it is."""
    split = datasets.load("digits").test
    paths, truth = [], []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for digit in range(DIGITS):
            index = int((split.targets == digit).argmax())
            image = next(split.only(index).images())
            paths.append(folder / f"{index:03}.png")
            with files.replacing(paths[-1]) as temporary:
                image.save(temporary, format="png")
            truth.append(str(digit))
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {first_line(error)}", "choose another folder") from error
    return paths, tuple(truth)
