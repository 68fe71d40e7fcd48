"""The scale of a sample: its largest value, without what a mask filled in."""

import numpy as np
import pytest

from deploykit.verdict.comparison import compare
from deploykit.verdict.scales import finite_scale, finite_size, of_samples

LEAST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize(
    ("row", "usual", "fill"),
    [
        ([1.0, -2.0, 0.5], 2.0, None),
        ([1.0, -1e9, -2.0], 2.0, 1e9),  # once, but a number that people fill with
        ([1.0, LEAST, 0.25], 1.0, -LEAST),
        ([1.0, -12345.0, -12345.0], 1.0, 12345.0),  # in two places
        ([1.0, -12345.0, 3.0], 12345.0, None),  # a large answer of its own
        ([5000.0, 5000.0, 4999.0], 5000.0, None),
        ([1e9 + 3, 1e9 - 5, 2.0], 2.0, 1e9),  # a mask that was added, equal in float32
        ([-np.inf, 3.0, np.nan], 3.0, None),
        ([0.0, -1e9, -1e9], 1e9, None),  # nothing is left to measure
    ],
)
def test_what_fills_a_mask_is_not_the_scale(row, usual, fill):
    found = of_samples(np.array([row]))
    assert found.usual[0, 0] == usual
    if fill is None:
        assert np.isnan(found.fill).all()
    else:
        assert found.fill[0, 0] == pytest.approx(fill, rel=1e-8)


def test_a_sample_of_which_everything_is_hidden_has_no_scale_of_its_own():
    hidden = np.array([[1.0, LEAST, 0.5], [LEAST, LEAST, LEAST]])
    found = of_samples(hidden)
    assert found.usual.tolist() == [[1.0], [0.0]]
    assert finite_scale(hidden) == 1.0


@pytest.mark.parametrize("fill", [-1e9, LEAST])
def test_a_wrong_value_beside_a_filled_one_is_seen_and_a_wrong_fill_too(fill):
    right = np.array([[0.5, 0.25, fill], [0.125, fill, fill]], np.float32)
    assert compare(right.astype(np.float64), right, right).within
    wrong = right.copy()
    wrong[0, 1] *= 1.01
    assert not compare(right.astype(np.float64), right, wrong, typical_scale=finite_scale(right)).within
    wrong = right.copy()
    wrong[1, 1] *= 0.5
    assert not compare(right.astype(np.float64), right, wrong).within


def test_what_is_not_finite_has_no_size():
    assert finite_size(np.array([np.inf, -np.inf, np.nan, -2.0, 3.0])).tolist() == [0, 0, 0, 2, 3]
