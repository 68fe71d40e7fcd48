"""Whether images are in colour is told from their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from deploykit.datasets import Split, in_colour

GREY = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
COLOUR = np.dstack([GREY, GREY.T, 255 - GREY])
SPOT = np.dstack([GREY] * 3)
SPOT[3:6, 3:6] = (200, 20, 20)


def image(pixels, mode):
    return Image.fromarray(pixels).convert(mode)


def from_jpeg(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "x.jpg", quality=60)
    return Image.open(tmp_path / "x.jpg")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "YCbCr", "HSV"])
def test_colours_are_found_however_they_are_stored(mode):
    assert in_colour(Split([image(COLOUR, mode)], np.zeros(1, np.int64)))


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I", "F", "RGB", "RGBA", "P"])
def test_grey_is_grey_also_in_three_channels(mode):
    assert not in_colour(Split([image(GREY, mode)], np.zeros(1, np.int64)))


def test_what_a_jpeg_does_to_grey_is_no_colour_and_a_red_spot_is_one(tmp_path):
    assert not in_colour(Split([from_jpeg(tmp_path, np.dstack([GREY] * 3))], np.zeros(1, np.int64)))
    assert in_colour(Split([SPOT], np.zeros(1, np.int64)))


def test_one_coloured_class_among_grey_ones_is_enough_and_few_samples_are_opened():
    opened = []

    class Watched(list):
        def __getitem__(self, index):
            opened.append(index)
            return super().__getitem__(index)

    samples = Watched([GREY] * 900 + [COLOUR] * 100)
    assert in_colour(Split(samples, np.zeros(1000, np.int64)))
    assert len(opened) <= 16
    assert not in_colour(Split([], np.zeros(0, np.int64)))
    assert not in_colour(Split([np.zeros(4, np.float32)], np.zeros(1, np.int64)))
