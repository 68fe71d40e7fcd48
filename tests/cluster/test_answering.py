"""The loop over actors, on a Ray that is played: what it does where workers do not come, end, or are too old."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from deploykit.cluster import answering
from deploykit.cluster.answering import answer
from deploykit.cluster.connecting import versions
from deploykit.cluster.planning import Part
from deploykit.cluster.pool import Pool
from deploykit.cluster.work import Work
from deploykit.cluster.worker import Asked, Done
from deploykit.errors import InputError, Unavailable

ASKED = Asked("cpu", 1, 1, 64, 1, "classification", "jsonl")


class Lost(Exception):
    """What Ray raises for an actor that ended."""


class OwnError(Lost):
    """What Ray raises for an exception in the actor's code."""


class Ray:
    """`answers(actor, part)`: what an actor gives or raises for a part, `part` None for whether it is there; None: nothing yet."""

    exceptions = SimpleNamespace(RayError=Lost, RayTaskError=OwnError, GetTimeoutError=TimeoutError)

    def __init__(self, answers):
        self.answers, self.numbers, self.killed, self.asked = answers, itertools.count(1), [], []
        self.connected = True

    def is_initialized(self):
        return self.connected

    def remote(self, **_options):
        return lambda _kind: SimpleNamespace(remote=lambda *_given: self._actor(next(self.numbers)))

    def _actor(self, number):
        def asking(packed=None):
            part = None if packed is None else Part.unpacked(packed).number
            self.asked.append((number, part))
            return (number, part, object())

        method = SimpleNamespace(remote=asking)
        return SimpleNamespace(ready=method, ask=method, number=number)

    def wait(self, references, num_returns, timeout):
        done = [each for each in references if self.answers(*each[:2]) is not None]
        return done[: max(1, num_returns)], []

    def get(self, reference, timeout):
        found = self.answers(*reference[:2])
        if isinstance(found, Exception):
            raise found
        return found

    def kill(self, handle):
        self.killed.append(handle.number)


class Said:
    lines = ()

    def start(self, task, total=None): ...

    def advance(self, steps=1, note=""): ...

    def say(self, line):
        self.lines = (*self.lines, line)


@pytest.fixture
def work(four_parts):
    """Four parts of two rows, none of them answered."""
    return Work(four_parts, "jsonl", 4)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(answering, "LOOKING", 0.02)
    monkeypatch.setattr(answering, "ALONE", 0.1)
    monkeypatch.setattr("deploykit.cluster.actors.time", SimpleNamespace(sleep=lambda _seconds: None))


def run(ray, work, pool=lambda: Pool(2, 1, 0), said=None):
    return answer(ray, work, b"", ASKED, pool, 8, said or Said())


def there(part):
    return ("host", versions()) if part is None else Done(part, 2, 0, b"{}\n{}\n")


def test_an_actor_that_does_not_come_holds_nothing_up_and_all_are_killed_at_the_end(work):
    ray = Ray(lambda actor, part: there(part) if actor == 2 else None)
    ran = run(ray, work)
    assert (work.missing, ran.lost, ran.actors) == (0, 0, 2)
    assert {actor for actor, part in ray.asked if part is not None} == {2}
    assert ray.killed == [1, 2]


def test_what_a_lost_actor_was_at_is_asked_again_alone(work):
    ray = Ray(lambda actor, part: Lost("the actor died") if actor == 1 and part == 0 else there(part))
    said = Said()
    ran = run(ray, work, lambda: Pool(1, 1, 0), said)
    assert (work.missing, ran.lost) == (0, 1)
    assert [pair for pair in ray.asked if pair[1] is not None] == [(1, 0), (1, 1), (2, 2), (2, 3), (2, 0), (2, 1)]
    assert said.lines == ("1 worker failed (the actor died): what is missing is asked again",)


def test_an_actor_whose_own_code_fails_goes_on(work):
    ray = Ray(lambda actor, part: OwnError("a fault of its own") if part == 1 else there(part))
    with pytest.raises(Unavailable, match=r"^workers end with the same inputs each time \(a fault of its own\); 1 part missing"):
        run(ray, work, lambda: Pool(1, 1, 0))
    assert ray.killed == [1]
    assert [part for _, part in ray.asked].count(1) == 3


def test_where_no_worker_begins_it_is_said_once(work):
    looks = itertools.count()
    ray = Ray(lambda actor, part: there(part) if part is not None or next(looks) > 20_000 else None)
    said = Said()
    run(ray, work, said=said)
    assert [line for line in said.lines if "no room now" in line] == [
        "no worker has begun yet: the cluster may have no room now; `ray status` tells"
    ]


def test_a_cluster_without_machines_is_waited_for_and_then_given_up(work):
    looks = itertools.count()

    def pool():
        if next(looks):
            raise InputError("no machine of the cluster has 1 CPUs")
        return Pool(1, 1, 0)

    with pytest.raises(
        Unavailable, match=r"^the cluster has no machine left \(they ended\); 4 parts missing; what is answered stays"
    ):
        run(Ray(lambda actor, part: there(part)), work, pool)


def test_a_connection_that_is_closed_is_one_line(work):
    ray = Ray(lambda actor, part: there(part))
    ray.connected = False
    with pytest.raises(Unavailable, match="^the connection to the cluster is closed; 4 parts missing"):
        run(ray, work)


def test_a_machine_that_comes_later_must_have_the_same_versions(work):
    ray = Ray(lambda actor, part: ("late", {**versions(), "deploykit": "0.0.1"}) if part is None else there(part))
    with pytest.raises(InputError, match=r"deploykit is \S+ here and 0\.0\.1 on the worker late: the answers could differ"):
        run(ray, work)
