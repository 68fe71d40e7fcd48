"""The network that the page asks reads digits as people draw them: nine in ten of each, a plain 1 among them.

Polylines in 0..1 with y downwards, and the 8x8 pixels that `page.js` makes of them; not the outlines that the network learned from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deploykit.runtime import Predictor

MODEL = Path(__file__).parents[2] / "trained" / "lenet5" / "model.onnx"
EACH = 8  # drawings per way of drawing a digit
PENS = (0.12, 0.15, 0.18)  # the page's own, thinner and thicker

Point = tuple[float, float]
Strokes = list[list[Point]]

CELLS, SIDE = 8, 32  # pixels of the image; points per side at which the pen is looked at, a multiple of CELLS
FILL, PEN = 0.9, 0.15  # as in page.js


def arc(x: float, y: float, width: float, height: float, start: float, end: float, points: int = 20) -> list[Point]:
    """Part of an ellipse around (x, y) with half axes `width` and `height`; degrees clockwise from the right."""
    angles = [math.radians(start + (end - start) * i / points) for i in range(points + 1)]
    return [(x + width * math.cos(a), y + height * math.sin(a)) for a in angles]


# By digit, the ways in which it is commonly drawn.
STYLES: dict[int, list[Strokes]] = {
    0: [
        [arc(0.5, 0.5, 0.26, 0.38, -90, 270)],
        [arc(0.5, 0.5, 0.18, 0.4, -60, 300)],
        [arc(0.5, 0.5, 0.33, 0.36, -100, 250)],
    ],
    1: [
        [[(0.5, 0.1), (0.5, 0.9)]],
        [[(0.56, 0.1), (0.44, 0.9)]],
        [[(0.38, 0.28), (0.52, 0.12), (0.52, 0.88)]],
        [[(0.3, 0.35), (0.54, 0.12), (0.5, 0.88)]],
        [[(0.36, 0.3), (0.52, 0.12), (0.52, 0.88)], [(0.34, 0.88), (0.7, 0.88)]],
    ],
    2: [
        [[*arc(0.5, 0.32, 0.24, 0.2, -170, 30), (0.28, 0.86), (0.76, 0.86)]],
        [[*arc(0.48, 0.3, 0.2, 0.18, -150, 40), (0.45, 0.66), (0.24, 0.88), (0.78, 0.84)]],
        [[(0.28, 0.2), (0.5, 0.12), (0.68, 0.22), (0.66, 0.4), (0.28, 0.8), *arc(0.33, 0.8, 0.06, 0.06, 180, 330, 8), (0.76, 0.88)]],
    ],
    3: [
        [[*arc(0.47, 0.31, 0.22, 0.19, -150, 90), *arc(0.47, 0.69, 0.25, 0.19, -90, 150)]],
        [[*arc(0.46, 0.3, 0.2, 0.18, -130, 70), (0.46, 0.48), *arc(0.46, 0.68, 0.22, 0.2, -80, 130)]],
        [[(0.28, 0.14), (0.7, 0.14), (0.46, 0.44), *arc(0.46, 0.66, 0.24, 0.22, -80, 140)]],
    ],
    4: [
        [[(0.58, 0.12), (0.24, 0.62), (0.8, 0.62)], [(0.6, 0.4), (0.6, 0.9)]],
        [[(0.3, 0.14), (0.28, 0.52), (0.74, 0.52)], [(0.68, 0.12), (0.66, 0.9)]],
        [[(0.6, 0.9), (0.6, 0.12), (0.26, 0.62), (0.8, 0.62)]],
    ],
    5: [
        [[(0.72, 0.14), (0.34, 0.14), (0.31, 0.46), *arc(0.48, 0.65, 0.24, 0.22, -120, 140)]],
        [[(0.36, 0.14), (0.33, 0.45), *arc(0.47, 0.65, 0.23, 0.22, -110, 150)], [(0.36, 0.14), (0.72, 0.13)]],
        [[(0.7, 0.12), (0.36, 0.14), (0.34, 0.42), (0.56, 0.42), (0.7, 0.56), (0.68, 0.76), (0.5, 0.88), (0.28, 0.84)]],
    ],
    6: [
        [[(0.62, 0.12), (0.4, 0.38), *arc(0.5, 0.67, 0.23, 0.21, -160, 200)]],
        [[(0.58, 0.1), (0.36, 0.4), (0.3, 0.65), *arc(0.5, 0.68, 0.2, 0.2, 180, -180)]],
        [[*arc(0.66, 0.6, 0.36, 0.48, -100, -180, 10), *arc(0.48, 0.7, 0.19, 0.18, 180, -170)]],
    ],
    7: [
        [[(0.26, 0.15), (0.75, 0.15), (0.45, 0.88)]],
        [[(0.26, 0.16), (0.74, 0.14), (0.5, 0.5), (0.42, 0.88)]],
        [[(0.26, 0.15), (0.75, 0.15), (0.45, 0.88)], [(0.4, 0.5), (0.7, 0.5)]],
    ],
    8: [
        [[*arc(0.5, 0.31, 0.19, 0.19, 90, -270), *arc(0.5, 0.69, 0.23, 0.2, -90, 270)]],
        [arc(0.5, 0.3, 0.18, 0.18, -90, 270), arc(0.5, 0.69, 0.21, 0.2, -90, 270)],
        [[(0.66, 0.22), *arc(0.5, 0.3, 0.18, 0.17, -40, -230), (0.62, 0.58), *arc(0.5, 0.71, 0.2, 0.17, -30, 190), (0.66, 0.22)]],
    ],
    9: [
        [[*arc(0.5, 0.33, 0.2, 0.2, 0, -360), (0.7, 0.33), (0.66, 0.6), (0.56, 0.88)]],
        [[*arc(0.48, 0.32, 0.2, 0.2, -10, -370), (0.68, 0.3), (0.68, 0.9)]],
        [[*arc(0.48, 0.32, 0.19, 0.2, -20, -350), (0.68, 0.3), (0.68, 0.64), *arc(0.48, 0.68, 0.2, 0.2, 0, 130, 10)]],
    ],
}  # fmt: skip


def drawings(digit: int, rng: np.random.Generator, each: int) -> Iterator[Strokes]:
    """`each` drawings of every style: upright or slanted by up to 15 degrees, wider or narrower by a fifth, by a hand that shakes."""
    for style in STYLES[digit]:
        for _ in range(each):
            slant, width = math.tan(math.radians(rng.uniform(-8, 15))), rng.uniform(0.8, 1.2)
            turn = math.radians(rng.uniform(-6, 6))
            bend = rng.normal(0, 0.015, size=(2, 3))  # slow waves, as a hand has them; by the way along the stroke
            yield [_moved(stroke, slant, width, turn, bend) for stroke in style]


def _moved(stroke: Sequence[Point], slant: float, width: float, turn: float, bend: NDArray[np.float64]) -> list[Point]:
    points = np.asarray(_dense(stroke)) - 0.5
    along = np.linspace(0, math.pi, len(points))
    points += np.stack([sum(bend[axis, k] * np.sin((k + 1) * along) for k in range(3)) for axis in range(2)], axis=1)
    x = width * points[:, 0] - slant * points[:, 1]
    y = points[:, 1]
    cos, sin = math.cos(turn), math.sin(turn)
    return list(zip(0.5 + cos * x - sin * y, 0.5 + sin * x + cos * y, strict=True))


def _dense(stroke: Sequence[Point]) -> list[Point]:
    """More points on long straight lines, so that they can bend."""
    out = [stroke[0]]
    for (x0, y0), (x1, y1) in pairwise(stroke):
        steps = max(1, math.ceil(math.hypot(x1 - x0, y1 - y0) / 0.1))
        out += [(x0 + (x1 - x0) * k / steps, y0 + (y1 - y0) * k / steps) for k in range(1, steps + 1)]
    return out


def pixels(strokes: Strokes, pen: float = PEN, shift: Point = (0.0, 0.0)) -> NDArray[np.uint8]:
    """(8, 8) grey values, white on black: cut out, centred, drawn with a round pen, averaged per cell, as `page.js` does it.

    pen: thickness in 1 / side of the image. shift: of the centre, in the same unit.
    """
    everything = np.concatenate([np.asarray(stroke) for stroke in strokes])
    low, high = everything.min(axis=0), everything.max(axis=0)
    scale = (FILL - PEN) / max(*(high - low), 0.02)
    at = (np.arange(SIDE) + 0.5) / SIDE
    near = np.full((SIDE, SIDE), np.inf)
    for stroke in strokes:
        path = 0.5 + np.asarray(shift) + (np.asarray(stroke) - (low + high) / 2) * scale
        for start, end in pairwise(path):
            near = np.minimum(near, _distance(at[None, :], at[:, None], start, end))
    ink = np.clip((pen / 2 - near) * SIDE + 0.5, 0, 1)
    cell = SIDE // CELLS
    return np.floor(255 * ink.reshape(CELLS, cell, CELLS, cell).mean(axis=(1, 3)) + 0.5).astype(np.uint8)


def _distance(
    x: NDArray[np.float64], y: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """From every point (x, y) to the line from `start` to `end`."""
    dx, dy = end - start
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / max(dx * dx + dy * dy, 1e-12), 0, 1)
    return np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)


@pytest.fixture(scope="module")
def model():
    with Predictor(MODEL, device="cpu") as predictor:
        yield predictor


@pytest.mark.parametrize("digit", range(10))
def test_nine_of_ten_drawings_are_read(model, digit):
    rng = np.random.Generator(np.random.PCG64(digit))
    images = []
    for number, drawing in enumerate(drawings(digit, rng, EACH)):
        images.append(pixels(drawing, PENS[number % len(PENS)], tuple(rng.uniform(-0.04, 0.04, 2))))
    read = [model.predict(image).label for image in images]
    assert len(read) == EACH * len(STYLES[digit])
    assert read.count(str(digit)) >= 0.9 * len(read), read


@pytest.mark.parametrize("slant", [-6, 0, 6, 12])
def test_a_plain_one_is_a_one(model, slant):
    line = [[(0.5 + 0.4 * np.tan(np.radians(slant)), 0.1), (0.5 - 0.4 * np.tan(np.radians(slant)), 0.9)]]
    assert all(model.predict(pixels(line, pen)).label == "1" for pen in PENS)


def test_the_pixels_are_those_of_the_page():
    """A line of the pen's thickness down the middle: cells 3 and 4 of each row get half of it."""
    image = pixels([[(0.2, 0.1), (0.2, 0.6)]]).astype(int)
    width = PEN * CELLS / 2  # of it in each of the two cells
    assert np.abs(image[2:6, 3:5] - 255 * width).max() <= 40
    assert not image[:, [0, 1, 2, 5, 6, 7]].any()
    assert (image.sum(axis=1) > 0).all()
