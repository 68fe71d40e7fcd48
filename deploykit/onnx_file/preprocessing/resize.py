"""Pillow's resize as ONNX operators, the same pixels to the last bit.

ONNX has an antialiased `Resize`, but onnxruntime's is not Pillow's: on random sizes bicubic pixels were up to 23 grey levels
apart. So the graph computes Pillow's own integer weights and applies them with exact integer arithmetic. The formulas are those
of Pillow's src/libImaging/Resample.c (`precompute_coeffs`, `normalize_coeffs_8bpc`, `ImagingResampleHorizontal_8bpc`) and
Geometry.c (`ImagingScaleAffine` for nearest).

Both round to 8 bits between the two passes, and which pass comes first shows; see `runtime.preprocessing.resize`. Only the
pixels that survive the crop are computed: a crop is an offset into the output positions, and positions outside of the image
have no weight and stay black.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploykit.onnx_file.preprocessing.builder import Builder

PRECISION_BITS = 22  # Resample.c: 32 - 8 bits of a pixel - 2 of head room
SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}


@dataclass(frozen=True)
class Axis:
    """One axis of a resize: names of scalar values, and how many output pixels are wanted.

    `have`: the image's pixels (int64); `resized`: how many they become (int64); `first`: the first that is wanted (int64);
    `count`: how many are wanted; `padded`: whether some of those may lie outside of the resized image.
    """

    have: str
    resized: str
    first: str
    count: int
    padded: bool


def resize(b: Builder, pixels: str, height: Axis, width: Axis, interpolation: str) -> str:
    """uint8 (batch, channels, height.have, width.have) -> uint8 (batch, channels, height.count, width.count)."""
    if interpolation == "nearest":
        rows = _nearest(b.within("width"), pixels, width, 3)
        return _nearest(b.within("height"), rows, height, 2)
    weights = {axis: _weights(b.within(name), axis, interpolation) for name, axis in (("height", height), ("width", width))}
    tables = {axis: _bytes(b, weights[axis]) for axis in weights}
    less_height, less_width = (b.op("Sub", axis.have, axis.resized) for axis in (height, width))
    none, twice = b.number(0, np.int64), b.number(2, np.int64)
    columns_first = b.op("And", b.op("Greater", less_height, none), b.op("Greater", less_height, b.op("Mul", less_width, twice)))
    bodies = []
    for name, first in (("columns_first", height), ("rows_first", width)):
        body = b.body(name)
        found = pixels
        for axis in (first, width if first is height else height):
            # A pass works on the last axis.
            turned = body.op("Transpose", found, perm=[0, 1, 3, 2]) if axis is height else found
            done = _apply(body, turned, tables[axis], axis.count)
            found = body.op("Transpose", done, perm=[0, 1, 3, 2]) if axis is height else done
        bodies.append((body, found))
    return b.branch(columns_first, bodies[0], bodies[1])


def _weights(b: Builder, axis: Axis, interpolation: str) -> str:
    """int64 (have, count): Pillow's weights in units of 2^-22."""
    have, wanted = b.cast(axis.have, np.float64), _wanted(b, axis)
    scale = b.op("Div", have, b.cast(axis.resized, np.float64))
    stretch = b.op("Max", scale, b.number(1.0))
    support = b.op("Mul", stretch, b.number(SUPPORT[interpolation]))
    half = b.number(0.5)
    center = b.op("Mul", b.op("Add", wanted, half), scale)
    low = b.op("Max", b.op("Floor", b.op("Add", b.op("Sub", center, support), half)), b.number(0.0))
    high = b.op("Min", b.op("Floor", b.op("Add", b.op("Add", center, support), half)), have)
    place = b.op("Unsqueeze", b.op("Range", b.number(0.0), have, b.number(1.0)), b.numbers(1))
    distance = b.op("Add", b.op("Sub", place, center), half)
    distance = b.op("Abs", b.op("Mul", distance, b.op("Div", b.number(1.0), stretch)))
    inside = b.op("And", b.op("GreaterOrEqual", place, low), b.op("Less", place, high))
    if axis.padded:
        inside = b.op("And", inside, _exists(b, wanted, b.cast(axis.resized, np.float64), 0.0))
    kernel = _triangle(b, distance) if interpolation == "bilinear" else _cubic(b, distance)
    kernel = b.op("Where", inside, kernel, b.number(0.0))
    total = b.op("ReduceSum", kernel, b.numbers(0), keepdims=1)
    total = b.op("Where", b.op("Equal", total, b.number(0.0)), b.number(1.0), total)
    share = b.op("Mul", b.op("Div", kernel, total), b.number(float(1 << PRECISION_BITS)))
    # Rounded half away from zero, as C does with (int)(0.5 + share) and (int)(-0.5 + share).
    rounded = b.op("Mul", b.op("Sign", share), b.op("Floor", b.op("Add", b.op("Abs", share), half)))
    return b.cast(rounded, np.int64)


def _bytes(b: Builder, weights: str) -> str:
    """int64 (have, count) -> uint8 (have, 3 count): three bytes of each weight, since bytes are what `MatMulInteger` takes.

    The first byte is signed, which is written as an unsigned one with the zero point 128: products of signed bytes are rounded
    by some CPUs.
    """
    whole = b.op("Add", weights, b.number(1 << 23, np.int64))
    byte = b.number(256, np.int64)
    rest = b.op("Div", whole, byte)
    return b.cast(b.op("Concat", b.op("Div", rest, byte), b.op("Mod", rest, byte), b.op("Mod", whole, byte), axis=1), np.uint8)


def _apply(b: Builder, pixels: str, table: str, count: int) -> str:
    """uint8 (batch, channels, n, have) -> uint8 (batch, channels, n, count): sums of pixels x weights, exact, then rounded."""
    zero_points = b.array(np.repeat(np.array([128, 0, 0], np.uint8), count), f"zero_points_{count}")
    sums = b.op("MatMulInteger", pixels, table, b.number(0, np.uint8), zero_points)
    apart = b.op("Reshape", b.cast(sums, np.int64), b.numbers(0, 0, 0, 3, count))
    values = b.op("Mul", apart, b.array(np.array([[1 << 16], [1 << 8], [1]], np.int64), "bytes"))
    total = b.op("ReduceSum", values, b.numbers(3), keepdims=0)
    rounded = b.op("Add", total, b.number(1 << (PRECISION_BITS - 1), np.int64))
    # What Div does to negative numbers does not matter: they become 0.
    level = b.op("Div", rounded, b.number(1 << PRECISION_BITS, np.int64))
    return b.cast(b.op("Clip", level, b.number(0, np.int64), b.number(255, np.int64)), np.uint8)


def _triangle(b: Builder, x: str) -> str:
    """max(1 - x, 0) for x >= 0."""
    return b.op("Max", b.op("Sub", b.number(1.0), x), b.number(0.0))


def _cubic(b: Builder, x: str) -> str:
    """Keys' kernel with a = -0.5, in the order of operations that Pillow has."""
    a = -0.5
    near = b.op("Sub", b.op("Mul", b.number(a + 2.0), x), b.number(a + 3.0))
    near = b.op("Add", b.op("Mul", b.op("Mul", near, x), x), b.number(1.0))
    far = b.op("Add", b.op("Mul", b.op("Sub", x, b.number(5.0)), x), b.number(8.0))
    far = b.op("Mul", b.op("Sub", b.op("Mul", far, x), b.number(4.0)), b.number(a))
    outer = b.op("Where", b.op("Less", x, b.number(2.0)), far, b.number(0.0))
    return b.op("Where", b.op("Less", x, b.number(1.0)), near, outer)


def _nearest(b: Builder, pixels: str, axis: Axis, place: int) -> str:
    """Pillow adds the step up from pixel to pixel, in float64; so does `CumSum`, and the sums are equal to the bit."""
    step = b.op("Div", b.cast(axis.have, np.float64), b.cast(axis.resized, np.float64))
    more = b.op("Sub", axis.resized, b.number(1, np.int64))
    steps = b.op("Expand", step, b.op("Unsqueeze", more, b.numbers(0)))
    start = b.op("Unsqueeze", b.op("Mul", step, b.number(0.5)), b.numbers(0))
    positions = b.op("CumSum", b.op("Concat", start, steps, axis=0), b.number(0, np.int64))
    wanted = b.op("Add", b.op("Range", b.number(0, np.int64), b.number(axis.count, np.int64), b.number(1, np.int64)), axis.first)
    last = b.op("Sub", axis.resized, b.number(1, np.int64))
    allowed = b.op("Min", b.op("Max", wanted, b.number(0, np.int64)), last) if axis.padded else wanted
    found = b.op("Gather", pixels, b.cast(b.op("Gather", positions, allowed), np.int64), axis=place)
    if not axis.padded:
        return found
    exists = _exists(b, wanted, axis.resized, 0, np.int64)
    if place == 2:
        exists = b.op("Unsqueeze", exists, b.numbers(1))
    return b.op("Where", exists, found, b.number(0, np.uint8))


def _wanted(b: Builder, axis: Axis) -> str:
    """float64 (count,): the positions in the resized image."""
    return b.op("Add", b.op("Range", b.number(0.0), b.number(float(axis.count)), b.number(1.0)), b.cast(axis.first, np.float64))


def exists(b: Builder, axis: Axis) -> str:
    """Which of the wanted output pixels lie in the resized image: bool (count,)."""
    wanted = b.op("Add", b.op("Range", b.number(0, np.int64), b.number(axis.count, np.int64), b.number(1, np.int64)), axis.first)
    return _exists(b, wanted, axis.resized, 0, np.int64)


def _exists(b: Builder, wanted: str, resized: str, zero: float, dtype: type = np.float64) -> str:
    """Which of the wanted positions lie in the resized image."""
    return b.op("And", b.op("GreaterOrEqual", wanted, b.number(zero, dtype)), b.op("Less", wanted, resized))
