"""The interval on which every claim about speed rests."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.profiler import statistics


# Quantiles of Student's t from the usual tables.
@pytest.mark.parametrize(
    ("share", "freedom", "expected"),
    [(0.975, 1, 12.706), (0.995, 1, 63.657), (0.975, 2, 4.303), (0.995, 4, 4.604), (0.975, 10, 2.228), (0.995, 30, 2.750)],
)
def test_quantiles_of_student(share, freedom, expected):
    assert statistics.student_quantile(share, freedom) == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("dirty", [False, True])
def test_the_interval_covers_the_truth_as_often_as_it_says(dirty):
    """Also where one value in ten comes from a machine that was busy with something else."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        values = generator.normal(0.05, 0.02, 20)
        if dirty:
            values[generator.random(20) < 0.1] += generator.normal(0, 0.5)
        _, low, high = statistics.mean_interval(values, 0.95)
        covered += low <= 0.05 <= high
    assert covered / 2000 > 0.925


def test_one_wild_value_does_not_decide():
    values = [0.0, 0.01, -0.01, 0.02, -0.02, 0.0, 0.01, -0.01, 0.0, 5.0]
    mean, low, high = statistics.mean_interval(values)
    assert abs(mean) < 0.01
    assert high - low < 0.1


def test_too_few_values_are_refused():
    with pytest.raises(ValueError, match="at least 5"):
        statistics.mean_interval([1.0] * 4)


def test_percentiles():
    assert statistics.percentile([3, 1, 2], 0.5) == 2
    assert statistics.percentile(range(101), 0.95) == 95


def test_the_interval_of_a_sample_worked_out_by_hand():
    """0 .. 9: two are cut off at either end; 2 2 2 3 4 5 6 7 7 7 are the winsorized values, 42.5 the sum of their squared deviations."""
    mean, low, high = statistics.mean_interval([float(i) for i in range(10)], 0.99)
    half = 4.032 * (42.5 / (6 * 5)) ** 0.5  # 4.032: Student's t, 99.5 %, 5 degrees of freedom
    assert (mean, low, high) == (4.5, pytest.approx(4.5 - half, rel=1e-3), pytest.approx(4.5 + half, rel=1e-3))


@pytest.mark.parametrize(("count", "kept"), [(16, range(4, 12)), (1, [0]), (3, range(3)), (5, range(1, 4))])
def test_the_middle_half_leaves_out_a_quarter_at_each_end(count, kept):
    assert statistics.middle_half([float(n) for n in range(count)]) == list(kept)
    assert statistics.middle_half([float(-n) for n in range(count)]) == [count - 1 - n for n in reversed(kept)]
