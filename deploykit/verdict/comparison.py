"""How far apart two results are, and how far they may be. The tolerance is derived from float64, not typed.

Let e(x) be the largest absolute difference between x and the float64 result, relative to the scale of that result (its
largest absolute value in the sample). Both PyTorch in float32 and onnxruntime round; neither is right. A file is the same
function if onnxruntime's error is no larger than `TOLERANCE_FACTOR` times PyTorch's own, with a floor of a few units in the last
place, because PyTorch's error can be zero by luck. Measured on 16 networks and 7 kinds of input, the ratio never exceeded 3.1.

A file in float16 is judged by the same rule: `TOLERANCE_FACTOR` times what PyTorch's own network loses when it is rounded to
float16.

Values that are not finite: the same infinity on both sides, and NaN on both sides, are zero apart and have no part in the scale,
as behind a mask of -inf. The other infinity, or a finite number beside an infinite one, is infinitely far apart; NaN beside a
number is NaN apart, which is never within a tolerance, whichever side it is on (onnxruntime hands NaN on as PyTorch does).
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.verdict.precision import Precision
from deploykit.verdict.scales import Float64, blocks, by_sample, finite_size, of_samples

TOLERANCE_FACTOR = 8.0  # tolerance / PyTorch's own error
# The least tolerance, relative to the scale of a sample: so many units in the last place. Rounding to float16 dwarfs everything
# else, so that an error of zero by luck is rarer there.
TOLERANCE_FLOOR = {"fp32": 16.0 * float(np.finfo(np.float32).eps), "fp16": 4.0 * float(np.finfo(np.float16).eps)}
# onnxruntime's kernels of recurrent operators compute sigmoid and tanh by polynomials, a few 1e-7 off at every step.
RECURRENT = ("LSTM", "GRU", "RNN")
RECURRENT_FACTOR = 4.0
# The least scale of what a sigmoid makes: onnxruntime computes 0.5 plus a polynomial, which is as exact near 0 as it is near 1, and
# takes numbers below -18 for -18. So the least tolerance is one unit in the last place of 1.
SIGMOID_SCALE = 1 / 16
# Scale of a sample / typical scale of the output: below it the sample is a sum that cancels to zero. float64 leaves 1e-16 of such
# a sum, float32 1e-7.
NEGLIGIBLE_SCALE = 1e-10


@dataclass(frozen=True)
class Difference:
    """One comparison. Errors are relative to the scale of the float64 result, per sample; `worst` is (sample, flat element)."""

    torch_error: float
    onnx_error: float
    onnx_vs_torch: float
    tolerance: float
    cosine: float
    worst: tuple[int, int]
    empty: bool

    @property
    def within(self) -> bool:
        """NaN is never within, nor is anything where the tolerance itself is not a number."""
        return self.onnx_error <= self.tolerance < np.inf


def compare(
    reference: NDArray[Any],
    torch32: NDArray[Any],
    onnx: NDArray[Any],
    rtol: float | None = None,
    atol: float | None = None,
    *,
    tolerance_reference: NDArray[Any] | None = None,
    precision: Precision = "fp32",
    typical_scale: float = 0.0,
    floor: float | None = None,
    least_scale: float = 0.0,
) -> Difference:
    """Compare onnxruntime's result with PyTorch's in float64 and float32, (batch, ...) each.

    1. Shapes: other ones are infinitely far apart; no elements prove nothing.
    2. The scale of every sample, see `scales`: the largest finite absolute value of its reference; that of the batch, or
       `typical_scale`, where the sample is zero but for rounding. What a mask filled in is measured against itself.
    3. Block by block, the largest distance from the reference relative to that scale, for each of the results.
    4. The tolerance: `TOLERANCE_FACTOR` times the distance of `tolerance_reference`, no less than `floor`; by default that of
       `precision`.

    `tolerance_reference`: the network's own result in the file's `precision`; `torch32` without it. `typical_scale`: the largest
    absolute value of this output over other inputs. `least_scale`: of any sample, such as `SIGMOID_SCALE`. `rtol` and `atol`
    replace the derived tolerance: every element must then lie within atol + rtol x |reference|. `empty` says that no value of the
    reference is finite and other than zero, so that it proves nothing.
    """
    if reference.shape != onnx.shape:
        return Difference(0.0, float("inf"), float("inf"), 0.0, 0.0, (0, 0), False)
    if reference.size == 0:
        return Difference(0.0, 0.0, 0.0, 0.0, 1.0, (0, 0), True)
    ref, t32, ort = (by_sample(a) for a in (reference, torch32, onnx))
    own = t32 if tolerance_reference is None or tolerance_reference is torch32 else by_sample(tolerance_reference)
    scales = of_samples(ref)
    whole = float(np.max(scales.usual))
    usual = np.where(scales.usual > NEGLIGIBLE_SCALE * typical_scale, scales.usual, max(whole, typical_scale) or 1.0)
    scales = replace(scales, usual=np.maximum(usual, least_scale))
    seen = _Seen()
    for r, t, o, n in blocks(ref, t32, ort, own):
        allowed = None if rtol is None and atol is None else (atol or 0.0) + (rtol or 0.0) * finite_size(r)
        seen.add(r, t, o, n, scales.of(r), allowed)
    least = TOLERANCE_FLOOR[precision] if floor is None else floor
    derived = max(TOLERANCE_FACTOR * seen.own_error, least) if np.isfinite(seen.own_error) else float("inf")
    given = rtol is not None or atol is not None
    return Difference(
        torch_error=seen.torch_error,
        onnx_error=seen.excess if given else seen.onnx_error,
        onnx_vs_torch=seen.onnx_vs_torch,
        tolerance=1.0 if given else derived,
        cosine=seen.cosine,
        worst=seen.worst,
        empty=whole == 0.0,
    )


def floor_of(precision: Precision, operators: Container[str]) -> float:
    """The least tolerance for a file in a precision with these operators."""
    recurrent = any(operator in operators for operator in RECURRENT)
    return TOLERANCE_FLOOR[precision] * (RECURRENT_FACTOR if recurrent else 1.0)


def distance(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """|left - right| element by element: 0 for the same infinity or NaN on both sides, NaN for NaN beside a number."""
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf
        apart = np.asarray(np.abs(left - right))  # of two numbers numpy makes a number, which takes no assignment
    odd = np.isnan(apart)
    if odd.any():
        apart[odd & ((left == right) | (np.isnan(left) & np.isnan(right)))] = 0
    return apart


class _Seen:
    """Largest errors and sums over the blocks so far; NaN stays NaN, as in numpy."""

    def __init__(self) -> None:
        self.torch_error = self.own_error = self.onnx_error = self.onnx_vs_torch = self.excess = 0.0
        self.worst = (0, 0)
        self._farthest = -1.0
        self._columns = 0
        self._dot = self._left = self._right = 0.0

    def add(self, ref: Float64, torch32: Float64, onnx: Float64, own: Float64, scale: Float64, allowed: Float64 | None) -> None:
        apart = distance(onnx, ref)
        self._add_to_cosine(ref, onnx, apart)
        if allowed is not None:
            with np.errstate(over="ignore"):
                self.excess = _larger(self.excess, apart / np.maximum(allowed, np.finfo(np.float64).tiny))
        apart /= scale
        self.onnx_error = _larger(self.onnx_error, apart)
        self._place(np.where(np.isnan(apart), np.inf, apart))
        self.torch_error = _larger(self.torch_error, distance(torch32, ref) / scale)
        self.own_error = self.torch_error if own is torch32 else _larger(self.own_error, distance(own, ref) / scale)
        self.onnx_vs_torch = _larger(self.onnx_vs_torch, distance(onnx, torch32) / scale)

    def _add_to_cosine(self, ref: Float64, onnx: Float64, apart: Float64) -> None:
        shared = ~np.isfinite(ref) & (apart == 0)
        if shared.any():
            ref, onnx = np.where(shared, 0.0, ref), np.where(shared, 0.0, onnx)
        with np.errstate(invalid="ignore", over="ignore"):
            self._dot += float(np.vdot(ref, onnx))
            self._left += float(np.vdot(ref, ref))
            self._right += float(np.vdot(onnx, onnx))

    @property
    def cosine(self) -> float:
        """Of the two as long vectors, without the infinities and NaN that they share; 1 where both are zero."""
        norms = math.sqrt(self._left) * math.sqrt(self._right)
        return self._dot / norms if norms else 1.0

    def _place(self, apart: Float64) -> None:
        sample, column = np.unravel_index(int(np.argmax(apart)), apart.shape)
        if apart[sample, column] > self._farthest:
            self._farthest = float(apart[sample, column])
            self.worst = (int(sample), self._columns + int(column))
        self._columns += apart.shape[1]


def _larger(so_far: float, values: Float64) -> float:
    return float(np.maximum(so_far, np.max(values)))
