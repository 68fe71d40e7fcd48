"""How many cores a process may use, from what the machine and its container say."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit.runtime import cores as module
from deploykit.runtime.cores import Cores, cores


@pytest.mark.parametrize(
    ("machine", "pinned", "quota", "usable", "limited"),
    [
        (8, 8, None, 8, False),
        (8, 4, None, 4, False),
        (8, 8, 2.0, 2, True),
        (8, 8, 2.9, 2, True),
        (8, 8, 0.5, 1, True),
        (8, 2, 2.0, 2, False),
        (8, 2, 4.0, 2, False),
        (1, 1, 0.5, 1, False),
    ],
)
def test_as_many_as_all_of_them_allow(machine: int, pinned: int, quota: float | None, usable: int, limited: bool) -> None:
    found = Cores(machine, pinned, quota)
    assert found.usable == usable
    assert found.limited is limited


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "150000 0"}, None),
        ({"cpu.max": ""}, None),
        ({"cpu.max": "max 100000", "cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "0", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "1", "cpu/cpu.cfs_period_us": "0"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000"}, None),
    ],
)
def test_the_quota_of_a_container(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert module._quota(tmp_path) == quota


def test_a_system_that_pins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(module.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 6)
    monkeypatch.setattr(module, "_quota", lambda _groups: 3.0)
    assert cores() == Cores(6, 6, 3.0)
    monkeypatch.setattr(module.os, "cpu_count", lambda: None)
    assert cores().machine == 1
