"""Is a file right in a channel whose numbers are far smaller than those beside it?

Errors count by the largest number of a sample. Where an output holds coordinates in pixels beside scores, a score may be anything
before that shows. So each channel is held by its own scale, too: not as narrowly, for little is known of how its numbers were made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A channel is wrong where it is farther off than all of these: relative to its own largest number over all samples, times the
# network's own error there, and absolute: sigmoids are computed as 0.5 plus a polynomial, log1p(x) as log(1 + x).
RELATIVE, TIMES_OWN, ABSOLUTE = 1e-3, 32.0, 16.0 * float(np.finfo(np.float32).eps)

Float64 = NDArray[np.float64]


@dataclass
class Channels:
    """What was seen of one output on all samples so far, per channel: along its second and its last axis."""

    sizes: dict[int, Float64] = field(default_factory=dict)
    errors: dict[int, Float64] = field(default_factory=dict)
    own_errors: dict[int, Float64] = field(default_factory=dict)

    def add(self, truth: NDArray[Any], own: NDArray[Any], found: NDArray[Any]) -> None:
        """`truth`: the network in float64, `own`: in the file's precision, `found`: the file's answer, all of one shape.

        Numbers that are not finite in one of them have no part. Another number of channels than before is left out.
        """
        if truth.dtype.kind != "f" or truth.ndim < 2 or not truth.size or not truth.shape == own.shape == found.shape:
            return
        told = np.isfinite(truth) & np.isfinite(own) & np.isfinite(found)
        right, near, answer = (np.where(told, array, 0).astype(np.float64) for array in (truth, own, found))
        for axis in {1, truth.ndim - 1}:
            others = tuple(other for other in range(truth.ndim) if other != axis)
            for kept, values in ((self.sizes, right), (self.errors, answer - right), (self.own_errors, near - right)):
                largest = np.max(np.abs(values), axis=others)
                before = kept.get(axis)
                if before is not None and before.shape != largest.shape:
                    break
                kept[axis] = largest if before is None else np.maximum(before, largest)

    def worst(self) -> str:
        """The channel that is farthest off in words, empty where none is wrong."""
        for axis, sizes in self.sizes.items():
            allowed = np.maximum(np.maximum(RELATIVE * sizes, TIMES_OWN * self.own_errors[axis]), ABSOLUTE)
            excess = self.errors[axis] / allowed
            place = int(np.argmax(excess))
            if excess[place] > 1:
                off = self.errors[axis][place] / max(sizes[place], np.finfo(np.float64).tiny)
                return f"number {place} of axis {axis} is {off:.1e} of its own largest value off, {sizes[place]:.1e}"
        return ""
