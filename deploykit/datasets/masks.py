"""Your own pictures with a class for each pixel: ``images/street.jpg`` and ``masks/street.png``, say; given with ``--data DIR``.

An image and its mask have one name, up to the ending and a ``_mask``, and one size. A mask is grey or has a palette; its values
are the numbers of the classes from 0, and 255 where a pixel does not count. Masks of 0 and 255 alone are black and white: 255
is the second class. ``classes.txt`` may name the classes, one a line. A tenth of the pairs is held out for validation and a tenth
for the test, unless DIR has ``train``, ``validation`` and ``test`` with such folders in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from deploykit.datasets import folder as images
from deploykit.datasets._local import HELD_OUT, hold_out
from deploykit.datasets._types import IGNORED, Dataset, Split
from deploykit.errors import DatasetError, ImageError
from deploykit.runtime.images import image_size, open_image

IMAGES, MASKS = ("images", "image", "imgs"), ("masks", "mask", "segmentation")
NAMES = "classes.txt"
SEED = 2015
ENDING = "_mask"
WHOLE = ("1", "L", "P", "I", "I;16", "I;16B")  # Pillow's modes in which a pixel is one whole number


def recognizes(folder: Path) -> bool:
    """Whether `folder`, or its ``train``, has folders of images and of masks."""
    return _home(folder) is not None


def load(folder: Path | None = None) -> Dataset:
    """Pairs of files, decoded when they are needed; every mask is read once now, for its classes.

    Raises `DatasetError` for an image without a mask and the other way round, for sizes that differ, for masks that hold colours or
    no number of a class, for one class, and for too few pairs.
    """
    if folder is None:
        raise DatasetError("the dataset 'masks' is a folder of your own images and masks", "give its path: --data DIR")
    home = _home(folder)
    if home is None:
        raise DatasetError(f"{folder} has no folders {IMAGES[0]} and {MASKS[0]}", "put the pairs there, by the same names")
    given = {} if home == folder else {name: _split_folder(folder, names) for name, names in _OTHERS.items()}
    parts = {"train": _pairs(home), **{name: _pairs(place) for name, place in given.items() if place is not None}}
    values = sorted(set().union(*(_values(mask) for pairs in parts.values() for _, mask in pairs)))
    binary = values in ([0, IGNORED], [IGNORED])
    classes = _classes(folder, values, binary)
    for index, name in enumerate(_OTHERS):
        if name not in parts:
            parts["train"], parts[name] = _divided(parts["train"], HELD_OUT / (1 - index * HELD_OUT), SEED + index)
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(parts["train"]))
    parts["train"] = [parts["train"][index] for index in order]
    splits = {name: _split(pairs, binary) for name, pairs in parts.items()}
    return Dataset(images.title(folder), splits["train"], splits["validation"], splits["test"], classes)


@dataclass(frozen=True)
class MaskFiles(Sequence[NDArray[np.uint8]]):
    """Masks that are opened when they are asked for: uint8 (height, width). Raises `DatasetError` for one that is damaged."""

    paths: tuple[Path, ...]
    binary: bool

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> MaskFiles: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | MaskFiles:
        if isinstance(index, slice):
            return MaskFiles(self.paths[index], self.binary)
        found = _read(self.paths[index])
        return np.where(found == IGNORED, 1, found).astype(np.uint8) if self.binary else found.astype(np.uint8)


_OTHERS = {"validation": images.VALIDATION, "test": images.TEST}
Pairs = list[tuple[Path, Path]]


def _home(folder: Path) -> Path | None:
    """Where the folders of training images and masks lie."""
    candidates = (folder, *(sub for sub in images.folders(folder) if sub.name.lower() in images.TRAIN))
    return next((place for place in candidates if _named(place, IMAGES) and _named(place, MASKS)), None)


def _split_folder(folder: Path, names: tuple[str, ...]) -> Path | None:
    found = (sub for sub in images.folders(folder) if sub.name.lower() in names)
    return next((sub for sub in found if _named(sub, IMAGES) and _named(sub, MASKS)), None)


def _named(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((sub for sub in images.folders(folder) if sub.name.lower() in names and images.files(sub)), None)


def _pairs(folder: Path) -> Pairs:
    """Each image with its mask, sorted by name."""
    places = [_named(folder, IMAGES), _named(folder, MASKS)]
    found = [{} if place is None else _by_name(place) for place in places]
    for own, other, what in ((found[0], found[1], "mask"), (found[1], found[0], "image")):
        alone = next((path for name, path in own.items() if name not in other), None)
        if alone is not None:
            more = sum(name not in other for name in own) - 1
            also = f" (nor have {more} more)" if more else ""
            raise DatasetError(f"{alone} has no {what} of its name{also}", f"add it, or remove {alone.name}")
    pairs = [(path, found[1][name]) for name, path in found[0].items()]
    for image, mask in pairs:
        _require_same_size(image, mask)
    return pairs


def _by_name(place: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in images.files(place):
        name = str(path.relative_to(place).with_suffix("")).removesuffix(ENDING)
        if name in found:
            raise DatasetError(f"{path} and {found[name].name} have one name", "remove one of them")
        found[name] = path
    return found


def _require_same_size(image: Path, mask: Path) -> None:
    sizes = []
    for path in (image, mask):
        try:
            sizes.append(image_size(path))
        except ImageError as error:
            raise DatasetError(f"{path} is not a readable image ({error.problem})", "remove or replace it") from error
    if sizes[0] != sizes[1]:
        (width, height), (across, down) = sizes
        raise DatasetError(
            f"{mask} is {across}x{down} pixels, its image {image.name} is {width}x{height}", "a mask has a value for each pixel"
        )


def _read(path: Path) -> NDArray[np.int64]:
    """The numbers in a mask, (height, width)."""
    try:
        image = open_image(path)
    except ImageError as error:
        raise DatasetError(f"{path} is not a readable image ({error.problem})", "remove or replace it") from error
    if image.mode not in WHOLE:
        raise DatasetError(
            f"{path} has the channels {image.mode!r}: a mask has one whole number per pixel", "save it in grey, or with a palette"
        )
    return np.asarray(image).astype(np.int64)


def _values(path: Path) -> set[int]:
    found = np.unique(_read(path))
    if found[0] < 0 or found[-1] > IGNORED:
        raise DatasetError(
            f"{path} has the value {found[-1] if found[-1] > IGNORED else found[0]}", f"classes are 0 to {IGNORED - 1}"
        )
    return {int(value) for value in found}


def _classes(folder: Path, values: list[int], binary: bool) -> tuple[str, ...]:
    """The names of the classes: from the file, else their numbers. Raises `DatasetError` where they do not fit the masks."""
    used = [0, 1] if binary else [value for value in values if value != IGNORED]
    count = max(used, default=0) + 1
    if (folder / NAMES).is_file():
        try:
            lines = (folder / NAMES).read_text("utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise DatasetError(f"{folder / NAMES} cannot be read as UTF-8", "one name a line") from error
        names = tuple(line.strip() for line in lines if line.strip())
        if len(names) < count:
            raise DatasetError(f"{folder / NAMES} names {len(names)} classes, the masks go up to {count - 1}", "name each of them")
        count, found = len(names), names
    else:
        found = ("background", "foreground") if binary else tuple(map(str, range(count)))
    if count < 2:
        raise DatasetError(f"the masks in {folder} have one class ({found[0]!r})", "a segmentation needs two or more")
    return found


def _divided(pairs: Pairs, share: float, seed: int) -> tuple[Pairs, Pairs]:
    kept, held = hold_out(np.zeros(len(pairs), np.int64), share, seed)
    return [pairs[index] for index in kept], [pairs[index] for index in held]


def _split(pairs: Pairs, binary: bool) -> Split:
    masks = MaskFiles(tuple(mask for _, mask in pairs), binary)
    return Split(images.ImageFiles([image for image, _ in pairs]), np.zeros((len(pairs), 0), np.int64), masks)
