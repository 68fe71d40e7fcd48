"""Kills at random moments; `benchmarks/kills.py` does two hundred, here are a few."""

from __future__ import annotations

import pytest
from kills import kill_many
from tunings import kill_tunings

pytestmark = pytest.mark.slow


def test_twelve_kills_leave_old_files_or_new_ones_and_nothing_else(warm, tmp_path):
    found = kill_many(12, tmp_path, warm, seed=4)
    assert found.wrong == []
    assert found.killed.total() >= 3, "hardly anything was killed: the moments are wrong"


def test_a_tuning_that_is_killed_goes_on_where_it_was(warm, tmp_path):
    found = kill_tunings(3, tmp_path, warm, seed=1, seconds=10)
    assert found.wrong == []
    assert found.answers, "nothing was killed: the moments are wrong"
