"""How likely a proof will hold: as often as it does where the truth is what was seen, and less where little was seen."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.verdict import guarantee, outlook
from deploykit.verdict.guarantee import Pairs
from deploykit.verdict.same_decisions import Answers, Budget, judge


def test_what_is_surely_proven_and_what_surely_is_not():
    assert outlook.of_drop(Pairs(0, 0, 1000), 2000, 0.005) > 0.9
    assert outlook.of_drop(Pairs(20, 0, 1000), 2000, 0.005) < 0.01
    assert outlook.of_agreement(1000, 1000, 2000, 0.99) > 0.95
    assert outlook.of_agreement(950, 1000, 2000, 0.99) < 0.01


def test_what_just_would_hold_if_all_went_on_so_holds_about_every_second_time():
    just = max(lost for lost in range(30) if guarantee.tango_upper(2.0 * lost, 4, 2000) <= 0.005)
    assert 0.25 < outlook.of_drop(Pairs(just, 2, 1000), 2000, 0.005) < 0.75


def test_more_samples_tell_more():
    few, many = outlook.of_agreement(100, 100, 2000, 0.99), outlook.of_agreement(3000, 3000, 2000, 0.99)
    assert few < many


@pytest.mark.parametrize(("lost", "won"), [(0.0005, 0.0005), (0.002, 0.001), (0.003, 0.003)])
def test_it_is_the_share_of_proofs_that_do_hold(lost, won):
    """Over many truths that the prior and the samples allow: what is foretold and what comes have the same mean."""
    random, planned = np.random.default_rng(1), 2000
    foretold, came = [], []
    for _ in range(60):
        seen = random.multinomial(1000, [lost, won, 1 - lost - won])
        foretold.append(outlook.of_drop(Pairs(int(seen[0]), int(seen[1]), 1000), planned, 0.005))
        new = random.multinomial(planned, [lost, won, 1 - lost - won])
        came.append(guarantee.tango_upper(float(new[0]), float(new[1]), planned) <= 0.005)
    assert abs(np.mean(foretold) - np.mean(came)) < 0.25


def test_the_selection_is_told_its_chance_and_the_proof_is_not():
    scores = np.random.default_rng(0).standard_normal((400, 5))
    other = scores + 0.05 * np.random.default_rng(1).standard_normal(scores.shape)
    for labels in (None, scores.argmax(axis=1)):
        expected, found = Answers((scores,), labels), Answers((other,), labels)
        assert 0 <= judge(expected, found, Budget(), 2000).chance <= 1
        assert judge(expected, found, Budget()).chance is None
        assert judge(expected, expected, Budget(), 2000).chance is None, "the same numbers need no proof"
