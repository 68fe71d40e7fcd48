"""Digits as people draw them on a screen: 3,000 pen strokes made up from outlines, and the real ones of `digits` with them.

The real images are 8x8 pixels of pen on paper, their ones thick and their fours short. A drawn 1 is one thin line. So outlines of
each digit are drawn here by a hand that shakes, slants, squeezes, presses and misses the middle, into 8x8 pixels as the page of
`examples/browser` does it. Validation and test are real images only, those of `digits`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from deploykit.datasets import digits
from deploykit.datasets._types import Dataset, Split

EACH = 300  # made-up images per digit
CELLS, SIDE = 8, 128  # pixels per side; pixels per side of the drawing that they are averages of
SHAKE = 0.03  # standard deviation of a place on the outline, in 1 / height
PENS = (0.1, 0.22)  # thickness of the pen, in 1 / side of the image
SIZES = (0.82, 1.0)  # of the digit with its pen, in 1 / side
AWAY = 0.05  # of the middle, each way, in 1 / side
SLANTS, TURNS = (-12.0, 20.0), (-8.0, 8.0)  # degrees
WIDTHS = (0.65, 1.25)
STEPS = 6  # straight pieces per curve

Line = NDArray[np.float64]  # (points, 2): x, y

# By digit: outlines on a grid of 0 to 10, y downwards; strokes are parted by "/", a curve has a corner where a point stands twice.
OUTLINES = {
    0: ("5,0 1,3 1,7 5,10 9,7 9,3 5,0", "6,0 2,2 1,6 4,10 8,8 9,3 6,0 5,1", "3,1 1,5 3,9 6,10 8,5 6,0 3,1"),
    1: ("5,0 5,10", "6,0 5,10", "1,4 5,0 5,0 5,10", "2,2 5,0 5,0 5,10", "2,3 5,0 5,0 5,10 / 2,10 8,10"),
    2: ("1,3 2,0 7,0 9,3 6,6 1,10 1,10 9,10", "1,2 5,0 8,2 7,5 2,9 2,10 4,9 9,10", "1,1 7,0 8,4 1,10 1,10 9,9"),
    3: ("1,1 6,0 8,2 7,4 4,5 4,5 8,6 9,8 6,10 1,9", "1,0 1,0 8,0 8,0 4,4 4,4 8,5 9,8 5,10 1,9", "1,2 5,0 8,2 5,5 8,7 7,10 1,9"),
    4: ("6,0 6,0 1,7 1,7 9,7 / 6,3 6,10", "1,0 1,6 1,6 9,6 / 8,0 8,10", "2,0 1,5 2,6 8,6 / 8,0 7,10", "6,10 6,0 6,0 1,7 1,7 9,7",
        "3,0 1,5 1,5 9,5 / 7,2 6,10"),
    5: ("8,0 2,0 2,0 1,4 1,4 6,3 9,6 7,10 1,9", "2,0 1,5 1,5 6,4 8,7 6,10 1,9 / 2,0 8,0", "8,1 4,0 2,2 4,4 8,6 7,9 2,10"),
    6: ("7,0 3,3 1,7 4,10 8,8 6,5 1,7", "4,0 1,5 2,9 6,10 8,7 5,5 1,7", "8,1 4,1 1,5 2,9 6,10 9,7 6,5 2,7"),
    7: ("1,0 9,0 9,0 4,10", "1,1 9,0 9,0 5,5 4,10", "1,0 8,0 8,0 4,10 / 3,5 8,5", "1,2 1,0 1,0 9,0 9,0 5,10",
        "1,1 5,0 8,1 6,5 5,10"),
    8: ("5,5 2,3 5,0 8,3 5,5 1,8 5,10 9,8 5,5", "8,1 4,0 2,2 5,5 8,8 5,10 2,8 5,5 8,2 8,1",
        "5,0 2,2 5,5 8,2 5,0 / 5,5 1,8 5,10 9,8 5,5"),
    9: ("8,3 5,0 1,3 4,6 8,3 8,3 8,10", "8,2 4,0 1,3 5,5 8,2 7,6 5,10", "8,3 5,0 1,3 4,6 8,3 8,3 8,7 6,10 2,9",
        "8,1 3,0 1,3 4,5 8,1 8,1 8,10"),
}  # fmt: skip


def load(folder: Path | None = None) -> Dataset:
    """4,197 / 300 / 300 images of 8x8 grey pixels, made with a fixed seed."""
    real = digits.load()
    rng = np.random.Generator(np.random.PCG64(2026))
    made = [drawn(OUTLINES[digit][number % len(OUTLINES[digit])], rng) for digit in OUTLINES for number in range(EACH)]
    images = [*real.train.samples, *made]
    labels = np.concatenate([real.train.targets, np.repeat(np.arange(10), EACH)])
    order = rng.permutation(len(images))  # so that the first thousand have all digits, and both kinds
    train = Split([images[index] for index in order], labels[order])
    return Dataset("strokes", train, real.validation, real.test, real.classes)


def drawn(outline: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One drawing of an outline: (8, 8) grey values, white on black."""
    lines = [_curve(_places(stroke) + rng.normal(0, SHAKE, (len(stroke.split()), 2))) for stroke in outline.split("/")]
    turn, slant = math.radians(rng.uniform(*TURNS)), math.tan(math.radians(rng.uniform(*SLANTS)))
    cos, sin = math.cos(turn), math.sin(turn)
    hand = np.array([[cos, -sin], [sin, cos]]) @ np.array([[rng.uniform(*WIDTHS), -slant], [0, 1]])
    pen, size = rng.uniform(*PENS), rng.uniform(*SIZES)
    return pixels([line @ hand.T for line in lines], pen, size, rng.uniform(-AWAY, AWAY, 2))


def pixels(lines: Sequence[Line], pen: float, size: float, away: Line) -> NDArray[np.uint8]:
    """Lines cut out, centred and drawn with a round pen: (8, 8) grey values.

    pen: its thickness, size: of what is drawn, away: (2,), of its middle from the image's; all in 1 / side of the image.
    """
    everything = np.concatenate(lines)
    low, high = everything.min(axis=0), everything.max(axis=0)
    scale = (size - pen) / max(*(high - low), 0.02)
    image = Image.new("L", (SIDE, SIDE))
    pencil, thick = ImageDraw.Draw(image), pen * SIDE
    for line in lines:
        placed = (0.5 + away + (line - (low + high) / 2) * scale) * SIDE
        pencil.line([(x, y) for x, y in placed], 255, round(thick))
        for x, y in placed:  # round ends and joints
            pencil.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), 255)
    return np.asarray(image.resize((CELLS, CELLS), Image.Resampling.BOX))


def _places(stroke: str) -> Line:
    return np.array([[float(number) / 10 for number in place.split(",")] for place in stroke.split()])


def _curve(points: Line) -> Line:
    """A Catmull-Rom curve through the points; two points that nearly coincide make a corner."""
    if len(points) < 3:
        return points
    padded = np.concatenate([points[:1], points, points[-1:]])
    before, start, end, after = padded[:-3, None], padded[1:-2, None], padded[2:-1, None], padded[3:, None]
    t = np.linspace(0, 1, STEPS, endpoint=False)[None, :, None]
    bent = 2 * start + (end - before) * t + (2 * before - 5 * start + 4 * end - after) * t**2
    curves: Line = 0.5 * (bent + (3 * start - before - 3 * end + after) * t**3)
    return np.concatenate([curves.reshape(-1, 2), points[-1:]])
