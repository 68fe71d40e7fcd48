"""What timings say: percentiles, and a ratio with an interval that is honest on a noisy machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.99
TRIM = 0.2  # of the rounds at either end; another process that wakes up for a moment spoils a round, not the result


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0..1) of `values` do not exceed, interpolated."""
    return float(np.quantile(np.asarray(values, np.float64), share))


def middle_half(values: Sequence[float]) -> list[int]:
    """The indices of the values between the quartiles, at least one, in their order."""
    order = sorted(range(len(values)), key=values.__getitem__)
    cut = len(order) // 4
    return sorted(order[cut : len(order) - cut])


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """(mean, low, high): the trimmed mean of independent `values` and its interval.

    Yuen, "The two-sample trimmed t for unequal population variances", Biometrika 61 (1974): the spread is that of the
    winsorized values, so it is about as wide as Student's interval for clean values and does not explode for dirty ones.
    At least 5 values; the quantile of Student's t is approximated after Cornish and Fisher.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count = len(ordered)
    if count < 5:
        raise ValueError(f"an interval needs at least 5 values, not {count}")
    cut = int(TRIM * count)
    kept = ordered[cut : count - cut]
    winsorized = np.clip(ordered, kept[0], kept[-1])
    error = math.sqrt(float(np.sum((winsorized - winsorized.mean()) ** 2)) / (len(kept) * (len(kept) - 1)))
    half = _student(0.5 + confidence / 2, len(kept) - 1) * error
    mean = float(kept.mean())
    return mean, mean - half, mean + half


def normal_half(deviation: float, confidence: float = CONFIDENCE) -> float:
    """Half the width of the interval of a normal variable with this standard deviation."""
    return NormalDist().inv_cdf(0.5 + confidence / 2) * deviation


def _student(share: float, freedom: int) -> float:
    """The quantile of Student's t: exact for 1 and 2 degrees of freedom, else within 1 % for shares up to 0.995."""
    if freedom == 1:
        return math.tan(math.pi * (share - 0.5))
    if freedom == 2:
        a = 4 * share * (1 - share)
        return 2 * (share - 0.5) * math.sqrt(2 / a)
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))
