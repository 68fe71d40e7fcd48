"""Data that a formula makes: drawn once with a fixed seed, the same for everybody, always."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.datasets._types import Dataset, Split

TRAIN, VALIDATION, TEST = 2000, 500, 500
SAMPLES = TRAIN + VALIDATION + TEST


def random_numbers(seed: int) -> np.random.Generator:
    """A generator whose numbers are the same on every machine."""
    return np.random.Generator(np.random.PCG64(seed))


def as_dataset(name: str, inputs: NDArray[Any], targets: NDArray[Any], classes: tuple[str, ...] | None = None) -> Dataset:
    """Independent samples, cut into 2,000 / 500 / 500 as they come.

    inputs: (3000, width). targets: (3000,) class numbers where `classes` names them, else (3000, outputs).
    """
    inputs = inputs.astype(np.float32)
    targets = targets.astype(np.float32 if classes is None else np.int64)

    def split(begin: int, end: int) -> Split:
        return Split(list(inputs[begin:end]), targets[begin:end])

    train, validation = split(0, TRAIN), split(TRAIN, TRAIN + VALIDATION)
    return Dataset(name, train, validation, split(TRAIN + VALIDATION, SAMPLES), classes)
