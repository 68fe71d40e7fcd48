"""Percentiles, quartiles, and the trimmed mean of a sample of timings with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.99
TRIM = 0.2  # the fraction of the values that the trimmed mean leaves out at either end


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
    Raises `ValueError` for fewer than 5 values.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count = len(ordered)
    if count < 5:
        raise ValueError(f"an interval needs at least 5 values, not {count}")
    cut = int(TRIM * count)
    kept = ordered[cut : count - cut]
    winsorized = np.clip(ordered, kept[0], kept[-1])
    error = math.sqrt(float(np.sum((winsorized - winsorized.mean()) ** 2)) / (len(kept) * (len(kept) - 1)))
    half = student_quantile(0.5 + confidence / 2, len(kept) - 1) * error
    mean = float(kept.mean())
    return mean, mean - half, mean + half


def normal_half(deviation: float, confidence: float = CONFIDENCE) -> float:
    """Half the width of the interval of a normal variable with this standard deviation."""
    return NormalDist().inv_cdf(0.5 + confidence / 2) * deviation


def student_quantile(probability: float, freedom: int) -> float:
    """The `probability` quantile of Student's t with `freedom` degrees of freedom, as `scipy.stats.t.ppf` gives it."""
    from scipy.special import stdtrit  # what t.ppf calls; importing scipy.stats would take over a second

    return float(stdtrit(freedom, probability))
