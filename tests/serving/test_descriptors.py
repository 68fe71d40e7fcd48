"""How many connections fit into what the system allows."""

from __future__ import annotations

import pytest

from deploykit.serving import descriptors

resource = pytest.importorskip("resource", reason="only POSIX has limits of this kind")


@pytest.fixture
def limits(monkeypatch):
    """(soft, hard), changed by what is set."""
    found = [1024, 1 << 20]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(found))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: found.__setitem__(slice(2), wanted))
    return found


@pytest.mark.parametrize(
    ("soft", "room"), [(200, 136), (1024, 960), (4160, 4096), (1 << 20, 4096), (resource.RLIM_INFINITY, 4096), (50, 16)]
)
def test_as_many_as_there_are_descriptors_for(limits, soft, room):
    limits[0] = soft
    assert descriptors.room_for(4096) == room


@pytest.mark.parametrize(
    ("soft", "hard", "after"),
    [(1024, 1 << 20, 8256), (1024, 4096, 4096), (1024, resource.RLIM_INFINITY, 8256), (9000, 9000, 9000), (200, 200, 200)],
)
def test_the_limit_is_raised_as_far_as_the_system_lets_it(limits, soft, hard, after):
    limits[:] = soft, hard
    descriptors.raise_limit(4096)
    assert limits == [after, hard]
