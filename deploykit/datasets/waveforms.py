"""Generated: the strengths of eight harmonics, and the wave of 128 points that they add up to.

Every harmonic goes through whole periods, so the mean of each wave is 0: what a layer that subtracts the mean can
only help.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploykit.datasets._generated import SAMPLES, as_dataset, random_numbers
from deploykit.datasets._types import Dataset

HARMONICS, POINTS = 8, 128


def load(folder: Path | None = None) -> Dataset:
    """2,000 / 500 / 500 samples of y[t] = sum over k = 1..8 of x[k] sin(2 pi k t / 128) + noise (deviation 0.05)."""
    draw = random_numbers(128)
    strengths = draw.standard_normal((SAMPLES, HARMONICS))
    phase = 2 * np.pi * np.arange(POINTS) / POINTS
    waves = strengths @ np.sin(np.arange(1, HARMONICS + 1)[:, None] * phase)
    return as_dataset("waveforms", strengths, waves + 0.05 * draw.standard_normal(waves.shape))
