"""Your own images, one folder per class: ``cats/*.jpg`` and ``dogs/*.jpg``, say; given with ``--data DIR``.

The folders of the classes lie in DIR itself, and then a tenth of each class is held out for validation and a tenth
for the test; or in ``DIR/train``, with ``DIR/validation`` (or ``val``, ``valid``) and ``DIR/test`` beside it, and
then only what is missing is held out of ``train``. Hidden files, and files whose ending is not that of an image, are
left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploykit.datasets._local import HELD_OUT, hold_out
from deploykit.datasets._types import Dataset, Split
from deploykit.errors import DatasetError, ImageError, counted
from deploykit.runtime.images import SUFFIXES, image_mode, open_image
from deploykit.runtime.reading import shown

TRAIN, VALIDATION, TEST = ("train", "training"), ("validation", "val", "valid"), ("test", "testing")
SEED = 2012
# Pillow's names for channels that can become grey or RGB; LAB, say, cannot.
MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I", "I;16", "I;16B", "F"})


def recognizes(folder: Path) -> bool:
    """Whether `folder` has folders with images in them."""
    return any(files(sub) for sub in folders(folder))


def load(folder: Path | None = None) -> Dataset:
    """Images are decoded when they are needed; that each file is an image of usable channels is checked now.

    Raises `DatasetError` for a folder without images or with one class, a class without images or with too few to
    divide, a class that `train` does not have, and files that are no images.
    """
    if folder is None:
        raise DatasetError("the dataset 'folder' is a folder of your own images", "give its path: --data DIR")
    if not folder.is_dir():
        raise DatasetError(f"the dataset folder {folder} is not there", "check the path")
    top = _split_folder(folder, TRAIN)
    given = {names[0]: _split_folder(folder, names) for names in (VALIDATION, TEST)}
    if top is None and any(given.values()):
        present = next(place.name for place in given.values() if place)
        raise DatasetError(
            f"{folder} has the folder {present!r} of a divided dataset, but no 'train'", "add it, or undo the division"
        )
    home = top or folder
    classes = tuple(sub.name for sub in folders(home))
    if len(classes) < 2:
        found = f"one class ({classes[0]!r})" if classes else "no folders of classes"
        raise DatasetError(
            f"{home} has {found}; a classifier needs two or more", "put the images of each class in a folder of its own"
        )
    train = _read(home, classes)
    _require_enough(home, classes, train, 1 + list(given.values()).count(None))
    parts = {}
    for index, (name, place) in enumerate(given.items()):
        if place is None:
            share = HELD_OUT / (1 - index * HELD_OUT)  # the same number again of what is left
            train, parts[name] = train.divided(share, SEED + index)
        else:
            parts[name] = _read(place, classes)
    return Dataset(title(folder), train.mixed().split(), parts["validation"].split(), parts["test"].split(), classes)


def title(folder: Path) -> str:
    """What the folder is called, without where it lies: "folder crops". No dataset of deploykit has a name like that."""
    name = "".join(c if c.isprintable() else "?" for c in folder.resolve().name)
    return f"folder {name[:60]}".strip()


class ImageFiles(Sequence[Image.Image]):
    """Images that are opened when they are asked for. Raises `DatasetError` for one that cannot be decoded."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> ImageFiles: ...
    def __getitem__(self, index: int | slice) -> Image.Image | ImageFiles:
        if isinstance(index, slice):
            return ImageFiles(self.paths[index])
        path = self.paths[index]
        try:
            return open_image(path)
        except ImageError as error:
            reason = error.problem.removeprefix(f"{shown(path)} ")
            raise DatasetError(f"{path} is not a readable image ({reason})", "remove or replace it") from error


@dataclass(frozen=True)
class _Listing:
    """Files of images and the numbers of their classes."""

    paths: list[Path]
    labels: NDArray[np.int64]

    def split(self) -> Split:
        return Split(ImageFiles(self.paths), self.labels)

    def divided(self, share: float, seed: int) -> tuple[_Listing, _Listing]:
        kept, held = hold_out(self.labels, share, seed)
        return self._at(kept), self._at(held)

    def mixed(self) -> _Listing:
        """In a fixed order in which the classes alternate by chance, so that the first thousand have all of them."""
        return self._at(np.random.Generator(np.random.PCG64(SEED)).permutation(len(self.paths)))

    def _at(self, indices: NDArray[np.int64]) -> _Listing:
        return _Listing([self.paths[i] for i in indices], self.labels[indices])


def _read(home: Path, classes: tuple[str, ...]) -> _Listing:
    """Every image of the folders in `home`, class by class. Raises `DatasetError` naming the first one that is no image."""
    paths: list[Path] = []
    labels: list[int] = []
    for sub in folders(home):
        if sub.name not in classes:
            raise DatasetError(
                f"{home} has the class {sub.name!r}, which the training images do not have", f"known: {', '.join(classes[:12])}"
            )
        found = files(sub)
        paths += found
        labels += [classes.index(sub.name)] * len(found)
    problems = [(path, problem) for path in paths if (problem := _problem(path))]
    if problems:
        path, problem = problems[0]
        more = f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""
        raise DatasetError(f"{path} {problem}{more}", "remove or replace it")
    return _Listing(paths, np.asarray(labels, np.int64))


def _problem(path: Path) -> str | None:
    """What is wrong with a file, as far as its first bytes tell."""
    try:
        mode = image_mode(path)
    except ImageError as error:
        return f"is not a readable image ({error.problem.removeprefix(f'{shown(path)} ')})"
    return None if mode in MODES else f"has the channels {mode!r}, which are neither grey nor colours"


def _require_enough(home: Path, classes: tuple[str, ...], train: _Listing, needed: int) -> None:
    counts = np.bincount(train.labels, minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if count < needed:
            raise DatasetError(
                f"the class {name!r} in {home} has {counted(int(count), 'image')}; at least {needed} are needed",
                "add images, or remove the folder",
            )


def _split_folder(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The folder of a split by one of its names. A folder with images and no classes in it is itself a class."""
    return next((sub for sub in folders(folder) if sub.name.lower() in names and recognizes(sub)), None)


def folders(folder: Path) -> list[Path]:
    """The folders in a folder that are not hidden, sorted. Raises `DatasetError`."""
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))
    except OSError as error:
        raise DatasetError(f"the folder {folder} cannot be read ({error.strerror})", "check its permissions") from error


def files(folder: Path) -> list[Path]:
    """The images in a folder and the folders in it, by name, sorted."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and not p.is_dir())
    return sorted(found)
