"""What a dataset is: three disjoint splits of samples and targets, before any preprocessing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploykit.errors import DatasetError
from deploykit.runtime.contract import ArrayInput, ImageInput
from deploykit.runtime.preprocessing import preprocess

Sample = NDArray[Any] | Image.Image
Task = Literal["classification", "segmentation", "regression"]
IGNORED = 255  # in a mask: a pixel that does not count


@dataclass(frozen=True)
class Split:
    """Samples and their targets, index by index.

    A sample is an image (Pillow, or uint8 (height, width) or (height, width, 3)) or a float32 array for networks that take
    arrays. `targets` is int64 (n,) for classes, float32 (n, *output) for regression, and int64 (n, 0) for segmentation, where
    `masks` has the class of each pixel instead: uint8 (height, width) as large as its image, `IGNORED` where it does not count.
    """

    samples: Sequence[Sample]
    targets: NDArray[Any]
    masks: Sequence[NDArray[np.uint8]] | None = None

    def __post_init__(self) -> None:
        if len(self.samples) != len(self.targets):
            raise DatasetError(f"a split has {len(self.samples)} samples but {len(self.targets)} targets")
        if self.masks is not None and len(self.masks) != len(self.samples):
            raise DatasetError(f"a split has {len(self.samples)} samples but {len(self.masks)} masks")

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, limit: int | None) -> Split:
        """The first `limit` samples (all of them for `None`)."""
        if limit is None or limit >= len(self):
            return self
        return Split(self.samples[:limit], self.targets[:limit], None if self.masks is None else self.masks[:limit])

    def only(self, *indices: int) -> Split:
        """Just these samples."""
        masks = None if self.masks is None else [self.masks[index] for index in indices]
        return Split([self.samples[index] for index in indices], self.targets[list(indices)], masks)

    def images(self) -> Iterator[Image.Image]:
        """The samples as Pillow images."""
        return (as_image(sample) for sample in self.samples)

    def array(self, index: int, rules: ImageInput | ArrayInput) -> NDArray[np.float32]:
        """One sample as the network's input, without the batch. Raises `DatasetError` if it does not fit."""
        sample = self.samples[index]
        if isinstance(rules, ImageInput):
            return preprocess(as_image(sample), rules)
        return _fit_array(np.asarray(sample, np.float32), rules.shape)

    def arrays(self, rules: ImageInput | ArrayInput) -> NDArray[np.float32]:
        """All samples as one batch."""
        if not len(self):
            raise DatasetError("the split is empty")
        return np.stack([self.array(index, rules) for index in range(len(self))])


@dataclass(frozen=True)
class Dataset:
    """Three splits with no sample in common; `classes` is `None` for regression. The order is fixed, for good.

    Raises `DatasetError` for a label that is none of the classes.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...] | None

    def __post_init__(self) -> None:
        if self.classes is None:
            return
        for name in ("train", "validation", "test"):
            targets = getattr(self, name).targets
            wrong = targets[(targets < 0) | (targets >= len(self.classes))]
            if wrong.size:
                raise DatasetError(
                    f"the {name} split of {self.name} has the label {wrong[0]}, but there are {len(self.classes)} classes",
                    f"labels are 0 to {len(self.classes) - 1}",
                )

    @property
    def task(self) -> Task:
        """What is to be learned from it."""
        if self.train.masks is not None:
            return "segmentation"
        return "regression" if self.classes is None else "classification"

    def limited(self, limit: int | None) -> Dataset:
        """The same with at most `limit` training samples; validation and test stay whole."""
        return replace(self, train=self.train.take(limit))


def as_image(sample: Sample) -> Image.Image:
    """A sample as a Pillow image. Raises `DatasetError` for an array that is no image."""
    if isinstance(sample, Image.Image):
        return sample
    if sample.dtype != np.uint8 or not (sample.ndim == 2 or (sample.ndim == 3 and sample.shape[2] == 3)):
        raise DatasetError(
            f"the network takes images, the dataset has {sample.dtype} arrays of shape {sample.shape}",
            "choose another --data",
        )
    return Image.fromarray(sample)


def _fit_array(values: NDArray[np.float32], shape: tuple[int | None, ...]) -> NDArray[np.float32]:
    fits = values.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, values.shape, strict=True))
    if not fits:
        raise DatasetError(f"the network takes arrays of shape {shape}, the dataset has {values.shape}", "choose another --data")
    return values
