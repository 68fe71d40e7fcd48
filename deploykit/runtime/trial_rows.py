"""Made-up rows on which it is tried whether a network answers one row as if the others were not there.

They differ in scale and sign: one that is divided by the largest number of all, or brought to 0..1 where one of them is above 1,
changes only beside a row that is larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deploykit.errors import DeploykitError, InputError
from deploykit.runtime import bfloat16, open_axes
from deploykit.runtime.session import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deploykit.runtime.predictor import Predictor

Kind = Literal["plain", "loud", "small", "equal"]
Row = Mapping[str, "NDArray[Any]"]
Range = tuple[int, int]

# Numbers may be places in a table, counts or sizes: what is refused is tried smaller, and what is taken must not fill the memory.
MOST = (4095, 255, 15, 3)
WORDS = ("apple", "Zebra", "hello world", "über", "a", "no", "yes", "one two three")


def made(model: Predictor) -> dict[Kind, Row]:
    """One row of each kind, every input by name. Raises `InputError` for an input of which none can be made.

    "plain": normal numbers, whole ones of 0 and 1, texts of two digits. "small": 0..1, zeros, words. "equal": -1, ones, no text.
    "loud": a thousand times as large, whole numbers over as much of their type as the network takes, long texts.
    """
    shapes = open_axes.sizes(model.axes, 2, contract=model.contract)
    rows = {spec.name: (1, *shapes[spec.name][1:]) for spec in model.inputs}
    for spec in model.inputs:
        if spec.dtype is None and spec.type not in (bfloat16.TYPE, "tensor(string)"):
            raise InputError(f"no values of the input {spec} can be made up")
    random = np.random.default_rng(0)

    def row(kind: Kind, ranges: Mapping[str, Range]) -> Row:
        return {spec.name: _values(spec, kind, rows[spec.name], random, ranges.get(spec.name, (0, 1))) for spec in model.inputs}

    plain = row("plain", {})
    ranges = {
        spec.name: _range_of(model, spec.name, spec.dtype, plain, random)
        for spec in model.inputs
        if spec.dtype is not None and spec.dtype.kind in "iu"
    }
    return {"plain": plain, "loud": row("loud", ranges), "small": row("small", {}), "equal": row("equal", {})}


def answer(model: Predictor, row: Row) -> dict[str, Any] | None:
    """Every output by name, bfloat16 as float32; `None` where the network takes no such row."""
    try:
        found = model.run_all(dict(row))
    except DeploykitError:
        return None
    bits = {spec.name for spec in model.outputs if spec.type == bfloat16.TYPE}
    return {name: bfloat16.floats_of(array) if name in bits else array for name, array in found.items()}


def _range_of(model: Predictor, name: str, dtype: np.dtype[Any], plain: Row, random: np.random.Generator) -> Range:
    """The widest of some ranges of whole numbers that the network takes for this input, the others being plain."""
    for low, high in _ranges(dtype, may_refuse=model.device == "cpu" and model.engine == "onnxruntime"):
        if answer(model, {**plain, name: _whole(dtype, plain[name].shape, random, low, high)}) is not None:
            return low, high
    return 0, 1


def _ranges(dtype: np.dtype[Any], may_refuse: bool) -> list[Range]:
    """From wide to narrow. Only onnxruntime on the CPU refuses places beyond a table; elsewhere a long number may be one."""
    limits = np.iinfo(dtype)
    found = [(int(limits.min), int(limits.max))] if limits.bits <= 16 else []
    if not may_refuse:
        return found
    lowest = (-1, 0) if limits.min < 0 else (0,)
    return found + [(sign * most, most) for most in MOST if most <= limits.max for sign in lowest]


def _values(spec: TensorSpec, kind: Kind, shape: tuple[int, ...], random: np.random.Generator, wide: Range) -> NDArray[Any]:
    if spec.type == "tensor(string)":
        return _texts(kind, shape, random)
    if spec.dtype is None:
        return bfloat16.bits_of(_floats(kind, shape, random).astype(np.float32))
    if spec.dtype.kind == "f":
        return _floats(kind, shape, random).astype(spec.dtype)
    if kind == "loud" and spec.dtype.kind != "b":
        return _whole(spec.dtype, shape, random, *wide)
    if kind in ("plain", "loud"):
        return random.integers(0, 2, size=shape).astype(spec.dtype)
    return np.full(shape, 1 if kind == "equal" else 0, spec.dtype)


def _floats(kind: Kind, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[Any]:
    if kind == "equal":
        return np.full(shape, -1.0)
    if kind == "small":
        return random.random(shape)
    return random.normal(size=shape) * (1000.0 if kind == "loud" else 1.0)


def _whole(dtype: np.dtype[Any], shape: tuple[int, ...], random: np.random.Generator, low: int, high: int) -> NDArray[Any]:
    """Whole numbers from `low` to `high`, both of which occur where there is room."""
    found = random.integers(low, high, size=shape, dtype=dtype, endpoint=True)
    if found.size:
        found.flat[-1] = low
        found.flat[0] = high
    return found


def _texts(kind: Kind, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[Any]:
    """Texts of numbers for "plain" and "loud": networks that read numbers take no others."""
    count = int(np.prod(shape))
    if kind == "equal":
        texts = [""] * count
    elif kind == "small":
        texts = [WORDS[place] for place in random.integers(0, len(WORDS), count)]
    else:
        low, high = (10, 99) if kind == "plain" else (-9_999_999, -1_000_000)
        texts = [str(number) for number in random.integers(low, high, count, endpoint=True)]
    found = np.empty(count, object)
    found[:] = texts
    return found.reshape(shape)
