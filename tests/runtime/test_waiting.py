"""Which requests share a run, by a clock that only the test moves."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.errors import Unavailable
from deploykit.runtime.waiting import Line, Waiting


def request(rows=1, key="a", arrived=0.0, deadline=None):
    return Waiting({"x": np.zeros((rows, 2))}, rows, None if key is None else (key,), arrived, deadline)


def line_of(*requests, limit=128, max_rows=4, delay=0.0):
    line = Line(limit, max_rows, delay)
    for one in requests:
        line.add(one, one.arrived)
    return line


def runs(line, now=0.0):
    """The rows of every run that a free worker would get, one after the other."""
    found = []
    while batch := line.take(now).batch:
        found.append([one.rows for one in batch])
    return found


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([1], [[1]]),
        ([1, 1, 1, 1, 1], [[1, 1, 1, 1], [1]]),
        ([3, 2, 1, 1], [[3], [2, 1, 1]]),  # what comes after the 2 does not overtake it
        ([4, 4], [[4], [4]]),
        ([2, 3, 2], [[2], [3], [2]]),
    ],
)
def test_rows_are_counted_not_requests_and_nobody_overtakes(rows, expected):
    assert runs(line_of(*(request(n) for n in rows))) == expected


def test_other_shapes_go_into_other_runs_in_the_order_of_the_oldest():
    a1, b1, a2, b2 = request(key="a"), request(key="b"), request(key="a"), request(key="b")
    line = line_of(a1, b1, a2, b2)
    assert line.take(0).batch == [a1, a2]
    assert line.take(0).batch == [b1, b2]


def test_what_has_no_key_runs_alone():
    assert runs(line_of(request(9, None), request(1, None))) == [[9], [1]]


def test_without_a_delay_a_lone_request_runs_at_once():
    line = line_of(request(arrived=5.0))
    assert line.due(5.0) == 0.0
    assert len(line.take(5.0).batch) == 1


def test_with_a_delay_the_oldest_waits_for_company_and_no_longer():
    line = line_of(request(arrived=1.0), request(arrived=1.5), delay=1.0)
    assert line.take(1.5).batch == []
    assert line.due(1.5) == 0.5
    assert len(line.take(2.0).batch) == 2


def test_a_run_that_cannot_get_fuller_does_not_wait():
    line = line_of(request(3), request(2), delay=1.0)  # the 2 does not fit beside the 3
    assert [one.rows for one in line.take(0.0).batch] == [3]
    assert line.take(0.0).batch == []
    assert [one.rows for one in line_of(request(4), delay=1.0).take(0.0).batch] == [4]
    assert [one.rows for one in line_of(request(1, None), delay=1.0).take(0.0).batch] == [1]
    assert [one.rows for one in line_of(request(1), delay=1.0).take(0.0, closing=True).batch] == [1]


def test_a_full_run_of_one_shape_is_not_held_up_by_another_that_waits():
    line = line_of(request(1, "a"), request(4, "b"), delay=1.0)
    assert [one.rows for one in line.take(0.0).batch] == [4]
    assert line.take(0.0).batch == []


def test_what_nobody_waits_for_is_not_run():
    gone, late, good = request(), request(deadline=2.0), request(deadline=9.0)
    line = line_of(gone, late, good)
    assert line.due(1.0) == 0.0
    gone.future.cancel()
    taken = line.take(2.0)
    assert (taken.batch, taken.late, taken.cancelled) == ([good], [late], 1)
    assert len(line) == 0


def test_a_full_line_refuses_and_the_dead_take_no_place():
    first, second = request(), request()
    line = line_of(first, second, limit=2)
    with pytest.raises(Unavailable) as refused:
        line.add(request(), 0.0)
    assert refused.value.reason == "full"
    first.future.cancel()
    line.add(request(), 0.0)
    assert len(line) == 2
    assert not line.has_room(0.0)


def test_places_come_back_with_each_deadline_and_for_who_gave_up_before_it_waited():
    early, late, gone = request(deadline=1.0), request(deadline=2.0), request()
    gone.future.cancel()
    line = line_of(gone, late, early, limit=3)
    assert [line.has_room(now) for now in (0.0, 0.5, 1.0, 1.5, 2.0)] == [True] * 5  # the place of who gave up
    line.add(request(), 0.5)
    line = line_of(late, early, limit=2)
    assert [line.has_room(now) for now in (0.0, 0.5, 1.0)] == [False, False, True]
    line.add(request(deadline=5.0), 1.0)
    assert [line.has_room(now) for now in (1.5, 2.0)] == [False, True]
    assert [late in taken.late and early in taken.late for taken in [line.take(2.0)]] == [True]


def test_the_oldest_run_takes_what_is_its_own_and_what_came_behind_stays():
    a1, b1, a2, a3 = request(2, "a"), request(1, "b"), request(3, "a"), request(1, "a")
    line = line_of(a1, b1, a2, a3)
    assert line.take(0.0).batch == [a1]  # the 2 and the 3 are too many, and the last does not overtake
    assert line.take(0.0).batch == [b1]
    assert line.take(0.0).batch == [a2, a3]
    assert line.take(0.0).batch == []


def test_a_deadline_is_due_before_the_delay_is_over():
    assert line_of(request(deadline=0.5), delay=5.0).due(0.0) == 0.5
    assert Line(1, 1, 0).due(0.0) is None
