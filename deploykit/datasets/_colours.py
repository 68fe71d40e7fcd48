"""Whether images are in colour, told from their pixels: a grey photograph is often stored as red, green and blue."""

from __future__ import annotations

import numpy as np
from PIL import Image

from deploykit.datasets._types import Sample, Split

LOOKED_AT = 16  # samples, spread over the split
GREY = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "F"})  # Pillow's names for images without colours
TINT = 16  # of 255: how far apart the channels of a coloured pixel are; less is the noise of a JPEG
SHARE = 0.001  # of the pixels that have to be coloured


def in_colour(split: Split) -> bool:
    """Whether any of sixteen samples is an image in colour. Raises `DatasetError` for one that cannot be read."""
    last = len(split) - 1
    if last < 0:
        return False
    return any(_coloured(split.samples[index]) for index in sorted({round(last * i / (LOOKED_AT - 1)) for i in range(LOOKED_AT)}))


def mixed(split: Split) -> bool:
    """Whether some of 64 samples are stored in grey, and others are in colour: whoever trains should say which it is to be."""
    last = len(split) - 1
    if last < 0:
        return False
    samples = [split.samples[index] for index in sorted({round(last * i / 63) for i in range(64)})]
    return any(_grey(sample) for sample in samples) and any(_coloured(sample) for sample in samples)


def _grey(sample: Sample) -> bool:
    return sample.mode in GREY if isinstance(sample, Image.Image) else sample.ndim == 2


def _coloured(sample: Sample) -> bool:
    if isinstance(sample, Image.Image):
        if sample.mode in GREY:
            return False
        sample = np.asarray(sample.convert("RGB"))
    if sample.dtype != np.uint8 or sample.ndim != 3 or sample.shape[2] != 3:
        return False
    apart = sample.max(axis=2).astype(np.int16) - sample.min(axis=2)
    return bool(np.mean(apart > TINT) > SHARE)
