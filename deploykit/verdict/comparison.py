"""How far apart two results are, and how far they may be. The tolerance is derived from float64, not typed.

Let e(x) be the largest absolute difference between x and the float64 result, relative to the scale of that result (its
largest absolute value in the sample). Both PyTorch in float32 and onnxruntime round; neither is right. A file is the same
function if onnxruntime's error is no larger than `RATIO` times PyTorch's own, with a floor of a few units in the last
place, because PyTorch's error can be zero by luck. Measured on 16 networks and 7 kinds of input, the ratio never exceeded 3.1.

A file in float16 is judged by the same rule: what PyTorch's own network loses when it is rounded to float16, times `RATIO`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.verdict.precision import Precision

RATIO = 8.0
# Units in the last place. Rounding to float16 dwarfs everything else, so there luck is rarer.
FLOOR = {"fp32": 16.0 * float(np.finfo(np.float32).eps), "fp16": 4.0 * float(np.finfo(np.float16).eps)}


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
    noise: NDArray[Any] | None = None,
    precision: Precision = "fp32",
) -> Difference:
    """Compare onnxruntime's result with PyTorch's in float64 and float32, (batch, ...) each.

    `noise`: the network's own result in the file's `precision`, whose error decides the tolerance; float32 without it.
    `rtol` and `atol` replace the derived tolerance: every element must then lie within atol + rtol x |reference|. `empty` says
    that the reference is all zero, and so proves nothing. Shapes that differ are infinitely far apart.
    """
    if reference.shape != onnx.shape:
        return Difference(0.0, float("inf"), float("inf"), 0.0, 0.0, (0, 0), False)
    if reference.size == 0:
        return Difference(0.0, 0.0, 0.0, 0.0, 1.0, (0, 0), True)
    ref, t32, ort = (_by_sample(a) for a in (reference, torch32, onnx))
    scale = np.max(np.abs(ref), axis=1, keepdims=True)
    whole = float(np.max(scale))
    # A sample that is all zero is judged on the scale of its batch.
    scale = np.where(scale > 0, scale, whole if whole > 0 else 1.0)
    torch_error = float(np.max(np.abs(t32 - ref) / scale))
    own_error = torch_error if noise is None or noise is torch32 else float(np.max(np.abs(_by_sample(noise) - ref) / scale))
    apart = np.abs(ort - ref) / scale
    worst = np.unravel_index(int(np.argmax(np.where(np.isnan(apart), np.inf, apart))), apart.shape)
    onnx_error = float(np.max(apart))
    tolerance = max(RATIO * own_error, FLOOR[precision]) if np.isfinite(own_error) else float("inf")
    if rtol is not None or atol is not None:
        excess = np.abs(ort - ref) / np.maximum((atol or 0.0) + (rtol or 0.0) * np.abs(ref), np.finfo(np.float64).tiny)
        onnx_error, tolerance = float(np.max(excess)), 1.0
    return Difference(
        torch_error=torch_error,
        onnx_error=onnx_error,
        onnx_vs_torch=float(np.max(np.abs(ort - t32) / scale)),
        tolerance=tolerance,
        cosine=_cosine(ref, ort),
        worst=(int(worst[0]), int(worst[1])),
        empty=whole == 0.0,
    )


def _by_sample(values: NDArray[Any]) -> NDArray[np.float64]:
    wide = np.asarray(values, np.float64)
    return wide.reshape(1, -1) if wide.ndim == 0 else wide.reshape(wide.shape[0], -1)


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Of the two as long vectors; 1 where both are zero."""
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(a, b) / norms) if norms else 1.0
