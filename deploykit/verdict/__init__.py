"""The verdict: is the deployed file still the same network? A word, the evidence, and the culprit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploykit.lazy import attach

if TYPE_CHECKING:
    from deploykit.verdict.batches import BATCHES as BATCHES
    from deploykit.verdict.inputs import sample_batches as sample_batches
    from deploykit.verdict.judgement import judge as judge
    from deploykit.verdict.precision import Precision as Precision
    from deploykit.verdict.result import Check as Check
    from deploykit.verdict.result import Decisions as Decisions
    from deploykit.verdict.result import Errors as Errors
    from deploykit.verdict.result import Verdict as Verdict
    from deploykit.verdict.validation import validate as validate

# A file is tuned by its decisions alone, without PyTorch.
__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "batches": ["BATCHES"],
        "inputs": ["sample_batches"],
        "judgement": ["judge"],
        "precision": ["Precision"],
        "result": ["Check", "Decisions", "Errors", "Verdict"],
        "validation": ["validate"],
    },
)
