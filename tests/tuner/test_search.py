"""The search, asked of a world that is made up: times and answers are written down, and the clock is a number."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from deploykit.errors import InputError
from deploykit.progress import SILENT
from deploykit.tuner.candidates import Proposal, Task
from deploykit.tuner.result import Candidate, Timing
from deploykit.tuner.search import search
from deploykit.verdict.same_decisions import Judged

BASELINE = Candidate("base", "onnxruntime", "fp32", 2)


@dataclass
class World:
    """`speeds`: ratio by candidate, or one per time that it is asked; `answers`: whether it keeps, by (candidate, part).

    `chances`: how likely a proof will hold.
    """

    speeds: dict = field(default_factory=dict)
    answers: dict = field(default_factory=dict)
    chances: dict = field(default_factory=dict)
    sizes: dict = field(default_factory=dict)
    width: float = 0.02
    clock: float = 0.0
    step: float = 1.0
    cost: float = 20.0
    go: float = 0.0
    asked: list = field(default_factory=list)
    made: list = field(default_factory=list)

    def now(self):
        return self.clock

    def late(self, latest):
        return self.clock > latest

    def make(self, build, how):
        self.made.append(build)
        how()

    def size(self, build):
        return self.sizes.get(build, 100)

    def time(self, baseline, candidates, seconds):
        self.clock += self.step
        self.asked.append(("time", *(candidate.name for candidate in candidates)))
        found = [Timing(10.0, 1.0, 1.0, 1.0)]
        for candidate in candidates:
            ratio = self.speeds[candidate.name]
            ratio = ratio.pop(0) if isinstance(ratio, list) else ratio
            found.append(
                Timing(10.0 / ratio if ratio else 0.0, ratio, ratio - self.width, ratio + self.width)
                if ratio
                else Timing(0, 0, 0, 0)
            )
        return found

    def answering(self, part):
        return self.cost

    def going(self, candidates):
        return self.go * (candidates + 1)

    def judge(self, candidate, part):
        self.asked.append((part, candidate.name))
        kept = self.answers.get((candidate.name, part), True)
        same, chance = candidate.is_float, self.chances.get(candidate.name) if part == "selection" else None
        return Judged(100, 0.0, 1.0, 0.99, kept, "fine" if kept else "too many lost", same=same, chance=chance)


class Fixed:
    """A kind that proposes one list after the other, whatever is measured."""

    PRECISION = "int8"

    def __init__(self, *lists):
        self.lists, self.told = lists, []

    def propose(self, task):
        for candidates in self.lists:
            proposals = [Proposal(c, (lambda: None) if c.build != "fp32" else None) for c in candidates]
            self.told.append((yield proposals))


def int8(name, **changes):
    return Candidate(name, "onnxruntime", "int8", 2, build=name, **changes)


def run(world, *kinds, seconds=1000.0, goal="latency"):
    task = Task(None, None, None, BASELINE, ("onnxruntime", "openvino"), (2, 1), lambda _build: {}, lambda _build: {})
    return search(task, kinds, world, seconds, goal, SILENT), task


def test_the_fastest_that_keeps_the_decisions_is_chosen_and_proven_once():
    world = World({"a": 1.5, "b": 2.0, "c": 3.0}, {("c", "selection"): False})
    found, _ = run(world, Fixed([int8("a"), int8("b"), int8("c")]))
    assert found.chosen.candidate.name == "b"
    assert found.chosen.proven
    assert [entry for entry in world.asked if entry[0] == "proof"] == [("proof", "b")]
    reasons = {entry.candidate.name: entry.reason for entry in found.candidates}
    assert reasons["c"] == "too many lost"


def test_the_proof_is_asked_of_the_fastest_that_will_probably_hold_it():
    world = World({"a": 1.5, "b": 2.0, "c": 1.2}, chances={"a": 0.95, "b": 0.6, "c": 1.0})
    found = run(world, Fixed([int8("a"), int8("b"), int8("c")]))[0]
    assert found.chosen.candidate.name == "a"
    assert [entry for entry in world.asked if entry[0] == "proof"] == [("proof", "a")]
    (passed,) = (entry for entry in found.candidates if entry.candidate.name == "b")
    assert passed.reason == "fine; a proof would hold with a chance of 60 % only"


@pytest.mark.parametrize(
    ("width", "speed", "chance", "goal", "asked"),
    [
        (0.1, 1.95, 0.93, "latency", "b"),
        (0.04, 1.95, 0.93, "latency", "a"),
        (0.1, 1.95, 0.79, "latency", "a"),
        (0.9, 1.2, 0.99, "latency", "a"),
        (0.9, 2.0, 0.78, "latency", "a"),
        (0.1, 1.95, 0.93, "size", "a"),
    ],
    ids=["as fast", "slower", "hardly likelier", "not worth it", "equal", "smaller"],
)
def test_of_those_that_the_clock_cannot_tell_apart_the_proof_is_asked_of_the_one_that_promises_most(
    width, speed, chance, goal, asked
):
    world = World({"a": 2.0, "b": speed}, chances={"a": 0.78, "b": chance}, sizes={"a": 20, "b": 30}, width=width)
    found = run(world, Fixed([int8("a"), int8("b")]), goal=goal)[0]
    assert found.chosen.candidate.name == asked
    assert [entry for entry in world.asked if entry[0] == "proof"] == [("proof", asked)]
    (other,) = (entry for entry in found.candidates[1:] if entry.candidate.name != asked)
    assert ("a proof would hold with a chance of 78 % only" in other.reason) is (asked == "b")


def test_where_none_is_likely_the_likeliest_is_asked():
    world = World({"a": 1.5, "b": 2.0}, chances={"a": 0.7, "b": 0.6})
    assert run(world, Fixed([int8("a"), int8("b")]))[0].chosen.candidate.name == "a"


def test_one_that_is_likely_is_measured_again_however_slow_it_is():
    names = "abcde"
    world = World(dict(zip(names, (2.0, 1.9, 1.8, 1.7, 1.1), strict=True)), chances=dict.fromkeys("abcd", 0.5) | {"e": 0.9})
    assert run(world, Fixed([int8(name) for name in names]))[0].chosen.candidate.name == "e"
    assert ("time", "a", "b", "e") in world.asked


def test_a_faster_float_needs_no_proof_of_another():
    world = World({"float": 2.0, "a": 1.5})
    found = run(world, Fixed([Candidate("float", "openvino", "fp32", 2), int8("a")]))[0]
    assert found.chosen.candidate.name == "float"
    assert not [entry for entry in world.asked if entry[0] == "proof"]


def test_if_the_proof_fails_no_second_one_is_asked_and_the_answer_is_float():
    world = World({"a": 1.5, "b": 2.0}, {("b", "proof"): False})
    found, _ = run(world, Fixed([int8("a"), int8("b")]))
    assert found.chosen == found.baseline
    assert found.unproven.candidate.name == "b"
    assert len([entry for entry in world.asked if entry[0] == "proof"]) == 1


def test_if_the_proof_fails_a_faster_float_needs_none():
    world = World({"a": 2.0, "float": 1.2}, {("a", "proof"): False})
    found, _ = run(world, Fixed([int8("a"), Candidate("float", "openvino", "fp32", 2)]))
    assert found.chosen.candidate.name == "float"
    assert found.unproven.candidate.name == "a"


def test_a_float_whose_numbers_differ_is_proven_like_any_other():
    world = World({"float": 1.2})
    world.judge = lambda candidate, part: (
        world.asked.append((part, candidate.name)) or Judged(9, 0.5, 1.0, 0.9, part != "proof", "")
    )
    found, _ = run(world, Fixed([Candidate("float", "openvino", "fp32", 2)]))
    assert found.chosen == found.baseline
    assert ("proof", "float") in world.asked


def test_never_slower_what_does_not_win_the_second_time_is_not_chosen():
    world = World({"a": [1.05, 1.01]})
    found, _ = run(world, Fixed([int8("a")]))
    assert found.chosen == found.baseline
    assert ("proof", "a") not in world.asked, "what is not faster needs no proof"
    assert next(e for e in found.candidates if e.candidate.name == "a").reason.startswith("no faster")


def test_what_is_not_faster_is_never_asked_for_its_answers():
    world = World({"a": 0.9, "b": 1.0})
    found, _ = run(world, Fixed([int8("a"), int8("b")]))
    assert not [entry for entry in world.asked if entry[0] == "selection"]
    assert found.chosen == found.baseline


def test_what_is_not_faster_is_asked_where_that_takes_a_hundredth_of_the_time_and_is_not_chosen():
    world = World({"a": 0.5, "b": 0.4}, cost=5.0)
    found, _ = run(world, Fixed([int8("a"), int8("b")]))
    assert [entry for entry in world.asked if entry[0] == "selection"] == [("selection", "a")], "b would take 12.5 of 1000 s"
    assert {e.candidate.name: (e.judged is not None, e.kept, e.reason) for e in found.candidates[1:]} == {
        "a": (True, False, "not faster"), "b": (False, False, "not faster"),
    }  # fmt: skip


def test_the_seconds_end_the_search_and_are_said():
    world = World(dict.fromkeys("abcdef", 1.5), step=100.0)
    kind = Fixed(*([int8(name)] for name in "abcdef"))
    found, _ = run(world, kind, seconds=500.0)
    assert found.cut
    assert world.clock < 500 * 1.2
    assert len(world.made) < 6, "nothing new is made after the time is over"
    assert found.chosen.candidate.name in "abcdef"


def test_a_kind_is_told_what_was_measured_before_it_proposes_again():
    world = World({"a": 1.5, "b": 0.5})
    kind = Fixed([int8("a")], [int8("b")])
    run(world, kind)
    assert [[entry.candidate.name for entry in told] for told in kind.told] == [["a"], ["b"]]


def test_kinds_propose_side_by_side():
    """A short search has seen something of each; what they propose is timed together."""
    world = World(dict.fromkeys("abcxyz", 1.5))
    slow, fast = Fixed([int8("a")], [int8("b")], [int8("c")]), Fixed([int8("x")], [int8("y"), int8("z")])
    run(world, slow, fast)
    searched = [entry[1:] for entry in world.asked if entry[0] == "time"][:-1]
    assert searched == [("a", "x"), ("b", "y", "z"), ("c",)]
    assert [[entry.candidate.name for entry in told] for told in slow.told] == [["a"], ["b"], ["c"]]
    assert [[entry.candidate.name for entry in told] for told in fast.told] == [["x"], ["y", "z"]]


def test_a_go_of_a_large_network_takes_its_time():
    """Five files take 50 s more than a twentieth of 1000 s, and the last four 80; but half of the time is always searched."""
    for go, latest in ((20.0, 620 - 50 - 4), (110.0, 500 - 4)):
        for clock, begun in ((latest - 1.0, True), (latest + 1.0, False)):
            world = World({"a": 1.5}, go=go, clock=clock)
            run(world, Fixed([int8("a")]))
            assert bool(world.asked) is begun


@pytest.mark.parametrize(
    ("speed", "keeps", "step", "begun"),
    [(1.5, False, 100.0, True), (1.5, True, 100.0, False), (0.9, True, 100.0, False), (1.5, False, 250.0, False)],
)
def test_what_loses_decisions_leaves_more_time_for_what_does_not(speed, keeps, step, begun):
    """Else nothing new begins after 616 of 1000 s; here until 846, what the last measurement and the proof leave."""
    world = World({"a": speed, "b": 1.4}, {("a", "selection"): keeps}, clock=600.0, step=step)
    run(world, Fixed([int8("a")], [int8("b")]))
    assert ("time", "b") in world.asked if begun else ("b" not in world.made)


def test_a_late_search_makes_nothing_more():
    world = World(dict.fromkeys("abcdefgh", 1.5), step=700.0)
    found, _ = run(world, Fixed([int8(name) for name in "abcdef"], [int8("g")]), Fixed([int8("h")]))
    assert next(entry[1:] for entry in world.asked if entry[0] == "time") == ("a", "b", "c", "d")
    assert world.made == ["a", "b", "c", "d"], "files are made for the next go alone"
    assert found.cut


def test_what_cannot_be_made_or_run_is_a_note_and_the_others_go_on():
    class Broken(Fixed):
        def propose(self, task):
            def fail():
                raise InputError("the quantizer cannot read it", "tune with --precisions fp32")

            yield [Proposal(int8("broken"), fail), Proposal(int8("a"), lambda: None)]

    world = World({"a": 1.5, "lame": 0})
    found, task = run(world, Broken(), Fixed([int8("lame")]))
    assert task.notes == ["the quantizer cannot read it; tune with --precisions fp32"]
    assert found.chosen.candidate.name == "a"
    assert next(e for e in found.candidates if e.candidate.name == "lame").reason == "cannot run on onnxruntime"


def test_for_size_the_smallest_that_is_not_slower_is_chosen():
    world = World({"small": 1.0, "tiny": 0.5, "large": 2.0}, sizes={"small": 30, "tiny": 10, "large": 90})
    found, _ = run(world, Fixed([int8("small"), int8("tiny"), int8("large")]), goal="size")
    assert found.chosen.candidate.name == "small"


def test_candidates_are_timed_a_few_at_once_each_one_once():
    world = World({str(n): 1.0 + n / 100 for n in range(9)})
    run(world, Fixed([int8(str(n)) for n in range(9)], [int8("0")]))
    searched = [entry[1:] for entry in world.asked if entry[0] == "time"][:-1]
    assert [len(names) for names in searched] == [4, 4, 1]
    assert sorted(name for names in searched for name in names) == [str(n) for n in range(9)]


@pytest.mark.parametrize("seed", range(20))
def test_the_best_of_many_equals_is_hardly_ever_taken_for_faster(seed):
    """Ten candidates as fast as the baseline, with noise: what was lucky the first time is timed again."""
    import random

    draw = random.Random(seed)
    names = [str(n) for n in range(10)]
    world = World({name: [draw.gauss(1, 0.02), draw.gauss(1, 0.02)] for name in names}, width=0.05)
    found, _ = run(world, Fixed([int8(name) for name in names]))
    assert found.chosen == replace(found.baseline)


def test_engines_that_were_not_asked_for_are_not_tried():
    world = World({"a": 2.0, "b": 3.0})
    found, _ = run(world, Fixed([int8("a"), Candidate("b", "elsewhere", "int8", 2, build="b")]))
    assert found.chosen.candidate.name == "a"
    assert not [entry for entry in world.asked if "b" in entry]
