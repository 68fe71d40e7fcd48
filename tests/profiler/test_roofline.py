"""What a machine can do at best, from durations that are made up."""

from __future__ import annotations

import pytest
import torch

from deploykit.profiler.benchmark import roofline


def test_a_peak_is_work_over_seconds(monkeypatch):
    """A product of two 16 x 16 matrices is 16^3 multiply-accumulates of 2 operations; a copy reads and writes every byte."""
    done = []
    seconds = iter([0.5, 0.25])

    def best(work, device):
        done.append((work(), device))
        return next(seconds)

    monkeypatch.setattr(roofline, "SIDE", 16)
    monkeypatch.setattr(roofline, "COPY_BYTES", 4096)
    monkeypatch.setattr(roofline, "_best", best)
    threads, numbers = torch.get_num_threads(), torch.random.get_rng_state()
    found = roofline.peak.__wrapped__("cpu", 1)
    assert torch.equal(torch.random.get_rng_state(), numbers), "the caller's random numbers go on"
    assert torch.get_num_threads() == threads
    assert found.gflops == pytest.approx(2 * 16**3 / 0.5 / 1e9)
    assert found.gigabytes == pytest.approx((4096 + 4096) / 0.25 / 1e9)
    (product, _), (copied, device) = done
    assert (product.shape, device) == ((16, 16), "cpu")
    assert copied.numel() * copied.element_size() == 4096


def test_the_fastest_of_a_few_runs_counts(monkeypatch):
    clock = iter([0.0, 3.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(roofline, "REPEATS", 3)
    monkeypatch.setattr(roofline.time, "perf_counter", lambda: next(clock))
    assert roofline._best(lambda: None, "cpu") == 1.0
