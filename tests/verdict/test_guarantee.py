"""The intervals hold what they promise: checked against all that can happen to few samples, and by drawing many."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from deploykit.verdict import guarantee
from deploykit.verdict.guarantee import Pairs


def test_no_discordant_sample_gives_the_ends_that_formulas_give():
    """The score interval is z^2 / (n + z^2) by hand; the exact one is a little narrower, and wider than no nuisance at all."""
    assert guarantee.tango_upper(0, 0, 738) == pytest.approx(1.959964**2 / (738 + 1.959964**2), rel=1e-5)
    low, high = Pairs(0, 0, 738).interval()
    assert -low == high
    assert 1 - guarantee.TAIL ** (1 / 738) < high < 1.03 * guarantee.tango_upper(0, 0, 738)


def test_both_ends_are_those_of_the_other_one_with_the_roles_exchanged():
    low, high = Pairs(7, 2, 120).interval()
    assert Pairs(2, 7, 120).interval() == (-high, -low)
    assert low < Pairs(7, 2, 120).drop < high


def test_the_bad_end_is_passed_in_one_of_forty_cases_at_most_whatever_the_truth_is():
    """All outcomes of ten samples, weighed by the exact probability of each, for a grid of truths."""
    samples = 10
    outcomes = [(a, b) for a, b in itertools.product(range(samples + 1), repeat=2) if a + b <= samples]
    ends = {outcome: Pairs(*outcome, samples).interval()[1] for outcome in outcomes}
    worst = 0.0
    for p, q in itertools.product((0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7), repeat=2):
        if p + q > 1:
            continue
        missed = 0.0
        for (a, b), end in ends.items():
            if p - q > end + 1e-9:
                rest = samples - a - b
                ways = math.factorial(samples) // (math.factorial(a) * math.factorial(b) * math.factorial(rest))
                missed += ways * p**a * q**b * (1 - p - q) ** rest
        worst = max(worst, missed)
    assert worst <= guarantee.TAIL
    assert worst > guarantee.TAIL / 4, "an interval that never misses says nothing"


@pytest.mark.parametrize(("lost", "won", "samples"), [(0.02, 0.005, 200), (0.1, 0.04, 800)])
def test_the_truth_is_covered_in_93_of_100_drawings(lost, won, samples):
    """Both kinds of interval: with few discordant samples the exact one, with many Tango's."""
    drawn = np.random.default_rng(0).multinomial(samples, [lost, won, 1 - lost - won], size=200)
    found = [Pairs(int(a), int(b), samples).interval() for a, b, _ in drawn]
    assert np.mean([low <= lost - won <= high for low, high in found]) >= 0.93


def test_more_of_the_same_narrows_the_interval():
    widths = [high - low for low, high in (Pairs(k, k, 50 * k).interval() for k in (1, 4, 16, 64))]
    assert widths == sorted(widths, reverse=True)


def test_the_number_of_samples_that_would_do_is_the_smallest_one_that_does():
    needed = guarantee.samples_for_drop(Pairs(0, 0, 200), 0.005)
    assert guarantee.tango_upper(0, 0, needed) <= 0.005 < guarantee.tango_upper(0, 0, needed - 1)
    assert guarantee.samples_for_drop(Pairs(2, 0, 100), 0.005) is None, "the drop itself is larger"
    assert guarantee.samples_for_agreement(200, 200, 0.99) == 368  # log(0.025) / log(0.99)
    assert guarantee.samples_for_agreement(98, 100, 0.99) is None


def test_agreement_is_clopper_and_pearsons():
    assert guarantee.agreement_interval(10, 10) == (pytest.approx(0.69150, abs=1e-5), 1.0)  # 0.025 ** (1 / 10)
    assert guarantee.agreement_interval(8, 10) == (pytest.approx(0.44390, abs=1e-5), pytest.approx(0.97479, abs=1e-5))
    assert guarantee.agreement_interval(0, 10)[0] == 0.0


def test_pairs_count_only_the_samples_on_which_one_is_right():
    first = np.array([True, True, True, False, False])
    second = np.array([True, False, True, True, False])
    assert guarantee.of_answers(first, second) == Pairs(1, 1, 5)
    assert Pairs(3, 1, 100).in_proportion(250) == Pairs(8, 2, 250)


@pytest.mark.parametrize("numbers", [(-1, 0, 5), (0, 6, 5), (3, 3, 5), (0, 0, 0)])
def test_impossible_numbers_are_refused(numbers):
    with pytest.raises(ValueError, match="cannot be"):
        Pairs(*numbers)


@pytest.mark.parametrize("numbers", [(-1, 5), (6, 5), (0, 0)])
def test_impossible_agreement_is_refused(numbers):
    with pytest.raises(ValueError, match="cannot agree"):
        guarantee.agreement_interval(*numbers)
