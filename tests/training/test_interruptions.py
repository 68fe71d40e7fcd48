"""Ctrl-C between two steps, and settings of torch that come back after a run."""

from __future__ import annotations

import signal
import threading

import pytest
import torch

from deploykit.architectures import Recipe
from deploykit.errors import InputError
from deploykit.training.processes import NEW_MEMORY, Deterministic, Interruptible, processes_for


@pytest.fixture
def handler():
    """A handler of somebody else's for Ctrl-C; gives what it was called with."""
    calls = []
    before = signal.signal(signal.SIGINT, lambda *_: calls.append(1))
    yield calls
    signal.signal(signal.SIGINT, before)


def test_the_first_ctrl_c_is_kept_until_it_is_asked_for_and_the_second_is_not(handler):
    outer = signal.getsignal(signal.SIGINT)
    with Interruptible() as interruptible:
        interruptible.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interruptible.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is outer
    assert handler == []
    signal.raise_signal(signal.SIGINT)
    assert handler == [1]


def test_who_ignores_ctrl_c_goes_on_ignoring_it(handler):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruptible() as interruptible:
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.raise_signal(signal.SIGINT)
        interruptible.check()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_signals_are_left_alone_outside_the_main_thread(handler):
    outer, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with Interruptible() as interruptible:
            interruptible.check()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [outer]


@pytest.mark.parametrize(("algorithms", "warn_only", "benchmark", "fill"), [(False, False, True, True), (True, True, False, False)])
def test_the_settings_of_the_caller_come_back(algorithms, warn_only, benchmark, fill):
    def settings():
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.benchmark,
            NEW_MEMORY.fill_uninitialized_memory,
        )

    def set_to(algorithms, warn_only, benchmark, fill):
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        NEW_MEMORY.fill_uninitialized_memory = fill

    before = settings()
    set_to(algorithms, warn_only, benchmark, fill)
    asked = settings()
    try:
        with Deterministic():
            assert settings() == (True, True, False, False)
        assert settings() == asked
    finally:
        set_to(*before)


@pytest.mark.parametrize(
    ("device", "precision", "line"),
    [
        ("cpu", "int3", "unknown precision 'int3'; choose one of fp32, fp16, bf16"),
        ("tpu", "fp32", "unknown device 'tpu'; choose auto, cpu or cuda"),
    ],
)
def test_what_is_refused_says_first_what_is_wrong(device, precision, line):
    with pytest.raises(InputError) as caught:
        processes_for(device, precision, Recipe())
    assert str(caught.value) == line
