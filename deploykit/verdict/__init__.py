"""The verdict: is the deployed file still the same network? A word, the evidence, and the culprit."""

from __future__ import annotations

from deploykit.verdict.batches import BATCHES
from deploykit.verdict.inputs import sample_batches
from deploykit.verdict.judgement import judge
from deploykit.verdict.precision import Precision
from deploykit.verdict.result import Check, Decisions, Errors, Verdict
from deploykit.verdict.validation import validate

__all__ = ["BATCHES", "Check", "Decisions", "Errors", "Precision", "Verdict", "judge", "sample_batches", "validate"]
