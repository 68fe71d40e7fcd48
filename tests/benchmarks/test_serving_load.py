"""The client and the limits of the serving benchmark: what they count, without a server."""

from __future__ import annotations

import itertools

import _serving_limits as limits
import _serving_load as load
import pytest
import serving


def test_an_answer_counts_from_the_moment_at_which_it_was_meant_to_begin():
    seen = load.Seen()
    # Three requests of one stall: due at 0, 0.1 and 0.2 seconds, all answered at 1.0; a fourth after the end of the window.
    for intended, done in ((0.0, 1.0), (0.1, 1.0), (0.2, 1.0), (1.9, 2.5)):
        seen.add(200, intended, done, end=2.0)
    seen.add(503, 1.0, 1.01, end=2.0)
    found = seen.document(seconds=2.0)
    assert found["p99_ms"] == pytest.approx(1000)
    assert found["median_ms"] == pytest.approx(800)
    assert found["goodput"] == 1.5
    assert (found["answered"], found["refused"]) == (4, 1)
    assert found["refusal_p99_ms"] == pytest.approx(10)


def test_who_is_behind_whom_is_counted_in_answers():
    seen = load.Seen()
    # The host stands still from 1 to 5: the one that waits longest is behind one answer, and a refusal behind two.
    for intended, done in ((0.0, 0.5), (0.1, 0.6), (0.7, 5.0), (0.8, 5.1), (5.2, 5.3)):
        seen.add(200, intended, done, end=6.0)
    seen.add(503, 0.4, 0.65, end=6.0)
    seen.add(503, 0.9, 1.0, end=6.0)
    found = seen.document(seconds=6.0)
    assert found["p99_ms"] == pytest.approx(4300)
    assert (found["p99_behind"], found["refusal_p99_behind"]) == (1, 2)


def test_twice_the_capacity_is_judged_by_the_closed_loops_beside_it():
    speeds = iter([100.0, 180.0, 60.0, 55.0, 50.0, 45.0, 40.0, 38.0, 36.0])  # of a host that becomes slower and slower
    asked: list[float | None] = []

    def under(name, rate, **more):
        asked.append(rate)
        return {"load": name, "goodput": next(speeds), **more}

    rows = serving.in_turns(under, 32, 1.5, seed=8)
    opened = [each for each in rows if each["load"] == "open 2"]
    assert [each["peak"] for each in opened] == [80.0, 55.0, 45.0, 38.0]
    assert [each["seed"] for each in opened] == [8, 9, 10, 11]
    assert asked == [None, 200.0, None, 120.0, None, 100.0, None, 80.0, None]


def test_arrivals_are_a_poisson_process():
    found = load.arrivals(1000, 10, seed=1)
    assert found == load.arrivals(1000, 10, seed=1) != load.arrivals(1000, 10, seed=2)
    assert found == sorted(found)
    assert found[0] > 0
    assert found[-1] < 10
    assert len(found) == pytest.approx(10_000, rel=0.05)
    gaps = sorted(b - a for a, b in itertools.pairwise(found))
    assert gaps[len(gaps) // 2] == pytest.approx(0.000693, rel=0.05)  # ln 2 / rate: exponential, not evenly spaced


@pytest.mark.parametrize(("share", "expected"), [(0.5, 5), (0.99, 10), (0.1, 1), (0.11, 2), (1.0, 10)])
def test_a_percentile_is_a_value_that_was_measured(share, expected):
    assert load.percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], share) == expected
    assert load.percentile([], share) is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", None),
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", 503),
        (b"HTTP/1.1 200 OK\r\nContent-Le", None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200),
    ],
)
def test_a_response_is_whole_or_it_is_not(data, expected):
    assert load.status_of(data) == expected


def row(server, name, turn, **values):
    return {
        "server": server, "load": name, "round": turn, "rate": None, "goodput": 100.0, "peak": 100.0, "median_ms": 1.0, "p99_ms": 2.0,
        "p99_behind": 10, "refusal_p99_behind": None, "refusal_p99_ms": None, "unanswered": 0, "answered": 1, "refused": 0, "client_cpu": 0.1, "cpu_ms": 0.2, **values,
    }  # fmt: skip


def test_a_limit_is_judged_within_a_round():
    # The machine is half as fast in the second round: the ratio within each is 1.5, across them it would be 0.75.
    rows = [row("deploykit", "closed 32", 0, goodput=300.0), row("other", "closed 32", 0, goodput=200.0)]
    rows += [row("deploykit", "closed 32", 1, goodput=150.0), row("other", "closed 32", 1, goodput=100.0)]
    assert limits.ratios(rows, "other", "closed 32") == [1.5, 1.5]
    found = {each["limit"]: each["holds"] for each in limits.limits(rows)}
    assert found["goodput at 32 beside other, times as much"] is True


@pytest.mark.parametrize(
    ("values", "missed"),
    [
        ({"goodput": 95.0, "refusal_p99_ms": 40.0, "p99_behind": 192}, 0),
        ({"goodput": 89.0, "refusal_p99_ms": 40.0, "p99_behind": 192}, 1),
        ({"goodput": 95.0, "refusal_p99_ms": 51.0, "p99_behind": 192}, 1),
        ({"goodput": 95.0, "refusal_p99_ms": 40.0, "p99_behind": 193}, 1),  # 128 in the line, 64 in runs
        ({"goodput": 95.0, "refusal_p99_ms": 40.0, "p99_behind": 193, "refusal_p99_behind": 1}, 0),  # it waited to be read
        ({"goodput": 95.0, "refusal_p99_ms": 40.0, "p99_behind": 192, "unanswered": 1}, 1),
    ],
)
def test_the_limits_at_twice_the_capacity(values, missed):
    found = limits.limits([row("deploykit", "open 2", 0, **values)])
    assert sum(each["holds"] is False for each in found) == missed


def test_what_was_not_measured_is_no_verdict():
    assert {each["holds"] for each in limits.limits([])} == {None}


@pytest.mark.parametrize(("served", "holds"), [(1.5, [False, False]), (1.3, [False, True]), (1.1, [True, True])])
def test_one_caller_is_compared_with_runs_one_after_the_other_and_with_pauses(served, holds):
    rows = [row("deploykit", "one caller", 0, median_ms=served, paused_ms=0.4, back_to_back_ms=0.2)]
    assert [each["holds"] for each in limits.limits(rows) if "Predictor" in each["limit"]] == holds
