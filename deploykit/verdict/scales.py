"""The scale of a result: what its errors are measured against, sample by sample.

It is the largest finite absolute value of the sample. Where that is the constant with which a mask fills what it hides (-1e9, the
least float32: one number in several places, or one that people use), it is left out: beside it every other value would be zero,
and any error in them as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

BLOCK_ELEMENTS = 1 << 20  # looked at or compared at once; an activation of a large network has hundreds of millions
FILL = 1e3  # a fill value is at least this, and at least this times every other value of the sample
# What people fill with: a value that stands once in a sample is taken for a fill where it is one of these.
USUAL_FILLS = (*(10.0**power for power in range(3, 39)), 65504.0, 65500.0, 3.3895313892515355e38, float(np.finfo(np.float32).max))


@dataclass(frozen=True)
class Scales:
    """Of samples (batch, elements): `usual`, (batch, 1), and the absolute value of the `fill`, (batch, 1), NaN for none."""

    usual: Float64
    fill: Float64

    def of(self, values: Float64) -> Float64:
        """The scale of every element of a block of columns (batch, columns); (batch, 1) where no sample has a fill value."""
        if np.isnan(self.fill).all():
            return self.usual
        return np.where(_equals(np.abs(values), self.fill), self.fill, self.usual)


def of_samples(values: NDArray[Any]) -> Scales:
    """The scales of samples (batch, elements), 0 for a sample without a finite number."""
    top = np.max([np.max(finite_size(block), axis=1) for (block,) in blocks(values)], axis=0)[:, None]
    fill = np.full_like(top, np.nan)
    if not (top >= FILL).any():
        return Scales(top, fill)
    count, rest = np.zeros_like(top), np.zeros_like(top)
    for (block,) in blocks(values):
        size = finite_size(block)
        is_top = _equals(size, top)
        count += np.sum(is_top, axis=1, keepdims=True)
        rest = np.maximum(rest, np.max(np.where(is_top, 0, size), axis=1, keepdims=True))
    repeated = (count + [[np.sum(top == each) - 1] for each in top[:, 0]]) > 1
    usual = np.isin(_rounded(top), np.array(USUAL_FILLS, np.float32))
    is_fill = (rest > 0) & (top >= FILL) & (top / FILL >= rest) & (repeated | usual)
    known = np.unique(top[is_fill])
    is_fill |= (rest == 0) & np.isin(top, known)  # a sample of which everything is hidden
    return Scales(np.where(is_fill, rest, top), np.where(is_fill, top, fill))


def finite_scale(array: NDArray[Any]) -> float:
    """The largest absolute value among the finite ones, without fill values; 0 for none."""
    if not array.size:
        return 0.0
    return float(np.max(of_samples(by_sample(array)).usual, initial=0))


def finite_size(array: NDArray[Any]) -> NDArray[Any]:
    """Absolute values, with 0 for what is not finite."""
    return np.abs(np.nan_to_num(array, nan=0, posinf=0, neginf=0))


def by_sample(values: NDArray[Any]) -> NDArray[Any]:
    """(batch, elements) of any array; a scalar is one sample of one element."""
    return values.reshape(1, -1) if values.ndim == 0 else values.reshape(values.shape[0], -1)


def blocks(*arrays: NDArray[Any]) -> Iterator[tuple[Float64, ...]]:
    """Columns of arrays (batch, elements) in float64, so many at once that the copies are small; equal arrays stay one."""
    step = max(1, BLOCK_ELEMENTS // arrays[0].shape[0])
    for start in range(0, arrays[0].shape[1], step):
        converted = {id(array): np.asarray(array[:, start : start + step], np.float64) for array in arrays}
        yield tuple(converted[id(array)] for array in arrays)


def _equals(left: Float64, right: Float64) -> NDArray[np.bool_]:
    """Whether two are one number in float32, which is as near as a fill value and a sum with it are."""
    equal: NDArray[np.bool_] = _rounded(left) == _rounded(right)
    return equal


def _rounded(values: Float64) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
