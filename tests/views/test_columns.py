"""Which columns a report has: those in which something stands."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.runtime.prediction import Candidate, Prediction
from deploykit.views import predictions, verdict

LABELLED = Prediction("cat", 0.9, 0, (Candidate("cat", 0.9, 0),), path="a.png")
RAW = Prediction(values=np.zeros((2, 3), np.float32), path="b.npy")
FAILED = Prediction(error="no image", path="c.png")


@pytest.mark.parametrize(
    ("results", "titles"),
    [
        ([LABELLED], ["input", "label", "score"]),
        ([RAW], ["input", "shape", "values"]),
        ([LABELLED, FAILED], ["input", "label", "score", "error"]),
        ([Prediction("cat", 0.9, 0, (Candidate("cat", 0.9, 0), Candidate("dog", 0.1, 1)))], ["label", "score", "then"]),
    ],
)
def test_predictions_have_the_columns_of_their_answers(results, titles):
    (table,) = predictions.report(results).tables
    assert [column.title for column in table.columns] == titles


def test_the_checks_of_a_verdict_say_what_was_found():
    assert [column.title for column in verdict._CHECKS] == ["", "check", "what was found"]
