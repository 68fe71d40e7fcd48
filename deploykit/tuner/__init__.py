"""`tune`: the fastest file that still makes the same decisions, on this machine.

A search over files and engines (`search`, `candidates`), an honest clock and a comparison of answers (`bench`, `judging`), and a
guarantee that holds after the selection (`guarantee`, `samples`).
"""

from __future__ import annotations

from deploykit.tuner.result import TuneResult
from deploykit.tuner.tuning import tune

__all__ = ["TuneResult", "tune"]
