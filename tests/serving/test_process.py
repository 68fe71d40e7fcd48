"""The process that serves: the signals that end it."""

from __future__ import annotations

import signal
import types

import pytest

from deploykit.serving import listening, process


def server():
    service = types.SimpleNamespace(stopping=False)
    return process.Server(process.config_of(None, listening.Options()), service, 0.0)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, signal.SIGINT)])
def test_the_first_signal_ends_it_and_a_second_one_is_the_systems(number, status):
    before = {each: signal.getsignal(each) for each in process.ENDING}
    found = server()
    with found.signals():
        signal.raise_signal(number)
        assert found.service.stopping
        assert found.should_exit
        assert found.ended_by == status
        assert {signal.getsignal(each) for each in process.ENDING} == {signal.SIG_DFL}
    assert {each: signal.getsignal(each) for each in process.ENDING} == before
