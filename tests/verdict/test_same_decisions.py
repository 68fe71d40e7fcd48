"""Answers of two files -> may the second stand for the first?"""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.runtime.contract import (
    DetectionOutput,
    EmbeddingOutput,
    MultiLabelOutput,
    Output,
    RegressionOutput,
    SegmentationOutput,
)
from deploykit.verdict import same_decisions as judging
from deploykit.verdict.same_decisions import Answers, Budget, Rule, judge


def logits(classes, count=10, margin=5.0):
    """Outputs that decide for `classes`."""
    return np.eye(count)[classes] * margin


def answers(classes, labels=None, **options):
    return Answers((logits(np.asarray(classes), **options),), labels)


LABELS = np.arange(2000) % 10


def with_wrong(count, seed=0):
    """The labels, of which `count` are changed."""
    found = LABELS.copy()
    places = np.random.default_rng(seed).choice(len(found), count, replace=False)
    found[places] = (found[places] + 1) % 10
    return found


def test_a_drop_within_the_budget_is_kept_by_the_bad_end_of_its_interval():
    kept = judge(answers(LABELS, LABELS), answers(with_wrong(2), LABELS), Budget(drop=0.005))
    assert kept.kept
    assert kept.drop == pytest.approx(0.001)
    assert kept.drop < kept.drop_high <= 0.005
    assert "at most" in kept.reason
    lost = judge(answers(LABELS, LABELS), answers(with_wrong(7), LABELS), Budget(drop=0.005))
    assert not lost.kept, "0.35 points were seen, but the bad end lies above 0.5"
    assert lost.drop < 0.005 < lost.drop_high
    assert "too few samples to prove it, it would need about" in lost.reason


def test_a_drop_that_is_surely_too_large_is_said_to_be_so():
    found = judge(answers(LABELS, LABELS), answers(with_wrong(200), LABELS), Budget(drop=0.005))
    assert not found.kept
    assert found.reason.endswith("the accuracy drops by more than 0.5")


def test_too_few_samples_say_how_many_it_would_need():
    few = slice(0, 100)
    expected, found = answers(LABELS[few], LABELS[few]), answers(LABELS[few], LABELS[few], margin=4.0)
    assert judge(expected, found, Budget()).reason.endswith("it would need about 765 instead of 100")


def test_without_labels_the_decisions_are_compared():
    same = judge(answers(LABELS), answers(with_wrong(3), margin=4.0), Budget(agreement=0.99))
    assert same.kept
    assert same.drop is None
    assert same.agreement == pytest.approx(0.9985)
    assert 0.99 <= same.agreement_low < same.agreement
    assert not judge(answers(LABELS), answers(with_wrong(15)), Budget(agreement=0.99)).kept


def test_outputs_that_are_no_decisions_are_compared_by_their_error():
    expected = np.random.default_rng(0).standard_normal((500, 4, 4))
    near, far = expected * 1.01, expected.copy()
    far[:20] *= 1.5
    assert judge(Answers((expected,)), Answers((near,)), Budget(error=0.05)).kept
    refused = judge(Answers((expected,)), Answers((far,)), Budget(error=0.05))
    assert not refused.kept
    assert refused.agreement == pytest.approx(0.96)


def test_numbers_of_a_regression_or_an_embedding_are_no_decisions():
    """The largest of a few measured values means nothing: what counts is how far they are off."""
    expected = np.random.default_rng(0).random((500, 4))
    far = expected + 0.5 * (expected == expected.max(axis=1, keepdims=True))
    assert judge(Answers((expected,)), Answers((far,)), Budget()).agreement == 1.0
    values = judge(Answers((expected,), rule=Rule("values")), Answers((far,), rule=Rule("values")), Budget())
    assert values.agreement < 0.5
    assert not values.kept


def test_every_label_of_a_multilabel_network_is_a_decision():
    expected = np.random.default_rng(0).standard_normal((2000, 3))
    other = expected.copy()
    other[:100, 2] = -other[:100, 2]
    rule = Rule("labels", (0.0, 0.0, 0.0))
    assert judge(Answers((expected,), rule=rule), Answers((expected * 3,), rule=rule), Budget()).kept
    found = judge(Answers((expected,), np.zeros(2000, np.int64), rule), Answers((other,), rule=rule), Budget())
    assert (found.agreement, found.drop) == (0.95, None)
    one = Answers((expected[:, :1],), rule=Rule("labels"))
    assert one.decides, "one label alone is a decision, too"
    assert not Answers((expected[:, :1],)).decides


@pytest.mark.parametrize(
    ("output", "rule"),
    [
        (None, Rule()), (Output(), Rule()), (Output("softmax", ("a", "b"), name="y"), Rule(name="y")),
        (MultiLabelOutput(), Rule("labels", 0.0)), (MultiLabelOutput("none", threshold=0.25), Rule("labels", 0.25)),
        (MultiLabelOutput(threshold=(0.5, 0.0, 1.0)), Rule("labels", (0.0, -np.inf, np.inf))),
        (RegressionOutput(), Rule("values")), (EmbeddingOutput(), Rule("values")), (SegmentationOutput(), Rule("values")),
        (DetectionOutput(boxes="b", scores="s"), Rule("values")),
    ],
)  # fmt: skip
def test_the_task_says_what_is_a_decision(output, rule):
    assert judging.rule_of(output) == rule


def test_the_same_numbers_need_no_samples_to_prove_anything():
    found = judge(answers([1, 2, 3]), Answers((logits(np.array([1, 2, 3])) * (1 + 1e-6),)), Budget())
    assert found.kept
    assert found.same


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_passes(bad):
    spoiled = logits(LABELS)
    spoiled[::2, 3] = bad
    found = judge(answers(LABELS, LABELS), Answers((spoiled,), LABELS), Budget(drop=0.4, agreement=0.1))
    assert not found.kept
    assert found.error is None
    everywhere = judge(answers(LABELS), Answers((np.full((2000, 10), bad),)), Budget(agreement=0.1))
    assert everywhere.agreement == 0
    assert not everywhere.kept


def test_another_shape_never_passes():
    assert not judge(Answers((np.ones((50, 3, 2)),)), Answers((np.ones((50, 3, 3)),)), Budget(agreement=0.5)).kept


def test_selection_asks_whether_as_many_samples_as_are_planned_would_prove_it():
    few = slice(0, 300)
    expected, found = answers(LABELS[few], LABELS[few]), answers(LABELS[few], LABELS[few], margin=4.0)
    assert not judge(expected, found, Budget()).kept
    assert judge(expected, found, Budget(), planned=3000).kept
    assert not judge(expected, found, Budget(), planned=500).kept


def test_the_error_of_a_sample_near_zero_is_not_blown_up():
    expected = np.array([[0.0, 0.0], [1.0, -1.0]])
    assert judging.relative_errors([expected], [expected + 1e-6]).max() == pytest.approx(1e-3)


def test_a_class_that_a_mask_excludes_is_no_fault():
    """It is -inf in both files: what is equal agrees, and so does another file that decides alike."""
    masked, other = logits(LABELS), logits(LABELS, margin=4.0)
    for outputs in (masked, other):
        outputs[LABELS != 9, 9] = -np.inf
    for labels in (None, LABELS):
        expected = Answers((masked,), labels)
        equal, changed = (judge(expected, Answers((outputs,), labels), Budget()) for outputs in (masked.copy(), other))
        assert (equal.same, equal.agreement, equal.error) == (True, 1.0, 0.0)
        assert (changed.kept, changed.same, changed.agreement) == (True, False, 1.0)
    nothing = Answers((np.full((2000, 10), -np.inf),), np.zeros(2000, np.int64))
    assert not nothing.right(nothing).any(), "without a best class there is no decision"


def beside(first, *others, labels=None, whole=(), rule=None):
    return Answers((logits(first), *others), labels, rule or Rule(), whole)


def test_an_output_beside_the_first_has_to_stay_too():
    """Of two heads one kept every decision, and the other lost a fifth of its own: that was called the same."""
    first, second = LABELS, with_wrong(400)
    found = judge(beside(first, logits(LABELS, 30)), beside(first, logits(second, 30)), Budget())
    assert (found.kept, found.agreement) == (False, 0.8)
    with_labels = judge(
        beside(first, logits(LABELS, 30), labels=LABELS), beside(first, logits(second, 30), labels=LABELS), Budget()
    )
    assert (with_labels.kept, with_labels.drop) == (False, pytest.approx(0.2)), "a sample of which that is lost, is lost"
    assert judge(beside(first, logits(LABELS, 30)), beside(first, 0.99 * logits(LABELS, 30)), Budget()).kept


def test_a_near_tie_of_another_head_is_a_decision_unless_the_contract_says_what_is_meant():
    near, turned = np.tile([1.0, 0.999], (2000, 1)), np.tile([0.999, 1.0], (2000, 1))
    assert not judge(beside(LABELS, near), beside(LABELS, turned), Budget()).kept
    meant = Rule("best", name="logits")
    assert judge(beside(LABELS, near, rule=meant), beside(LABELS, turned, rule=meant), Budget()).kept
    far = 1.1 * near
    assert not judge(beside(LABELS, near, rule=meant), beside(LABELS, far, rule=meant), Budget()).kept, "a tenth of its scale"
    assert judge(beside(LABELS, near, rule=meant), beside(LABELS, far, rule=meant), Budget(error=0.2)).kept


def test_a_whole_number_near_the_right_one_is_another_one():
    """A file that decides by itself gives the class: 940 is no class 900, though it is within 5 %."""
    classes = 900.0 + (LABELS % 2)
    for whole in (True, False):
        given, other = (Answers((values,), None, Rule(), (whole,)) for values in (classes, classes + 40))
        assert judge(given, other, Budget()).kept is not whole
    given, other = (beside(LABELS, values, whole=(False, True)) for values in (1e6 * classes, 1e6 * classes + 1))
    found = judge(given, other, Budget())
    assert (found.kept, found.same) == (False, False)
    assert judge(given, given, Budget()).same
