"""What each kind proposes, and what it makes of what it is told: times and decisions are made up, nothing is quantized."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from deploykit.errors import UnknownName
from deploykit.runtime import providers
from deploykit.tuner import blocked_layout, candidates, mixing
from deploykit.tuner.batches import fixed_batch
from deploykit.tuner.candidates import Task, bf16, fp16, fp32, int8, int8_nncf, tf32
from deploykit.tuner.candidates._quantized import Plan, Quantized, scheme_of
from deploykit.tuner.layout import Layout
from deploykit.tuner.quantizing import Scheme
from deploykit.tuner.result import Candidate, Measured, Timing
from deploykit.tuner.samples import Part, Parts
from deploykit.verdict.same_decisions import Judged

BASELINE = Candidate("fp32 onnxruntime", "onnxruntime", "fp32", 4, 3)


def network(batch="n", layers="abc"):
    """Layers one after the other, with a Relu between each two."""
    weights = [numpy_helper.from_array(np.ones((2, 2), np.float32), f"w{name}") for name in layers]
    nodes, last = [], "x"
    for name in layers:
        end = "y" if name == layers[-1] else f"y{name}"
        nodes.append(helper.make_node("MatMul", [last, f"w{name}"], [end], name=name))
        if end != "y":
            last = f"r{name}"
            nodes.append(helper.make_node("Relu", [end], [last], name=last))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", 1, [batch, 2])], [value("y", 1, [batch, 2])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def part(count):
    return Part({"x": np.arange(2 * count, dtype=np.float32).reshape(count, 2)})


FP32 = {"a": 4.0, "ra": 1.0, "b": 2.0, "c": 1.0}
# What is saved: 3.25 by a, nothing by b (it loses 1), 0.5 by c. The conversion of the input is the first layer's.
INT8 = {"a": 1.0, "ra": 0.25, "x_QuantizeLinear": 0.25, "ra_DequantizeLinear": 0.25, "b": 3.0, "c": 0.5}


def task(**changes):
    times = {"fp32": FP32, "int8-minmax-0": INT8}
    made = Task(
        Path("m.onnx"), network(), Parts(part(20), part(4), part(4), "made up"), BASELINE, ("onnxruntime", "openvino"), (4, 2, 1),
        lambda build: times.get(build, {}), lambda _build: {"a": 0.1, "b": 0.3, "c": 0.2}, "cpu", ("avx_vnni",), False,
    )  # fmt: skip
    return replace(made, **changes)


def follow(kind, given, speeds=None, kept=(), unlikely=(), flawless=()):
    """The candidates that are proposed, step by step. `speeds`: ratio by name, else 0.9; `kept`: the names that may be chosen.

    `unlikely`: those of which a proof may well fail; `flawless`: those that have lost nothing.
    """
    steps, found = kind.propose(given), []
    try:
        proposals = next(steps)
        while True:
            found.append([proposal.candidate for proposal in proposals])
            ratios = {proposal.candidate.name: (speeds or {}).get(proposal.candidate.name, 0.9) for proposal in proposals}
            proposals = steps.send([
                Measured(
                    p.candidate, 1, Timing(1.0, r, 0.9 * r, 1.1 * r) if r else None,
                    Judged(100, 0.1, 1.0 if p.candidate.name in flawless else 0.99, 0.9, True, "", chance=0.6 if p.candidate.name in unlikely else 0.8),
                    p.candidate.name in kept,
                )
                for p, r in zip(proposals, ratios.values(), strict=True)
            ])  # fmt: skip
    except StopIteration:
        return found


def names(steps):
    return [[candidate.name for candidate in step] for step in steps]


WHOLE = ["int8 onnxruntime", "int8 openvino", "int8 onnxruntime, coarse"]
WITHOUT_B = ["int8 without 1 slow layers onnxruntime", "int8 without 1 slow layers openvino"]
ONLY_A = ["int8, 1 of 3 layers onnxruntime", "int8, 1 of 3 layers openvino"]


def test_gains_are_of_the_layer_that_a_node_belongs_to():
    assert int8.gains(network(), FP32, INT8) == {"a": 3.25, "b": -1.0, "c": 0.5}
    assert int8.gains(network(), {}, {"ya_QuantizeLinear": 2.0, "y_DequantizeLinear": 3.0, "unknown": 5.0}) == {
        "a": -7.0, "b": 0.0, "c": -3.0,
    }  # fmt: skip
    assert int8.gains(network(), FP32, {}) == {"a": 5.0, "b": 2.0, "c": 1.0}


def test_int8_takes_back_what_loses_and_keeps_what_wins_most():
    steps = follow(int8, task(), {"int8 onnxruntime": 1.5}, ["int8 onnxruntime"])
    assert names(steps) == [WHOLE, WITHOUT_B + ONLY_A, ["int8 onnxruntime, 2 threads", "int8 onnxruntime, 1 thread"]]
    assert [step[0].build for step in steps] == ["int8-minmax-0", "int8-minmax-2", "int8-minmax-0"]
    both = [("onnxruntime", "int8", 4, 3, {}), ("openvino", "int8", 4, 3, {"fixed_batch": "3"})]
    for step, expected in zip(steps[:2], (both + both[:1], both * 2), strict=True):
        assert [(each.engine, each.precision, each.threads, each.batch, dict(each.options)) for each in step] == expected
    assert [each.threads for each in steps[-1]] == [2, 1]


def test_which_layers_are_taken_back():
    def plans(int8_times):
        made = Quantized(task(layer_times=lambda build: FP32 if build == "fp32" else int8_times))
        return made, [(title, sorted(floats)) for title, floats in int8._without_losers(made.task, made)]

    made, found = plans(INT8)
    assert found == [("int8 without 1 slow layers", ["b"]), ("int8, 1 of 3 layers", ["b", "c"])]
    assert made.plans == {"int8-minmax-0": Plan("minmax", frozenset())}, "the times are those of the file in which nothing is"
    # a and b save 4 and 1: 0.8 of all is what a saves alone; c saves nothing, which is not enough.
    assert plans({"a": 1.0, "b": 1.0, "c": 1.0})[1] == [("int8 without 1 slow layers", ["c"]), ("int8, 1 of 3 layers", ["b", "c"])]
    assert plans({"a": 1.5, "b": 0.5, "c": 0.5})[1] == [("int8, 2 of 3 layers", ["c"])], "nothing loses"
    assert plans({"a": 9.0, "b": 9.0, "c": 9.0})[1] == [], "nothing wins"
    assert plans({"a": 9.0, "b": 9.0, "c": 0.85})[1] == [], "2 % of 8 ms is too little to be worth a file"
    assert plans({"a": 9.0, "b": 9.0, "c": 0.83})[1]
    assert int8._without_losers(task(model=onnx.ModelProto()), Quantized(task(model=onnx.ModelProto()))) == []


def test_what_is_not_in_int8_openvino_computes_in_bfloat16_where_it_can():
    (first, second, _), *_ = follow(int8, task(instructions=("avx_vnni", "avx512_bf16")))
    assert (dict(first.options), dict(second.options)) == ({}, {"fixed_batch": "3", "precision": "bf16"})


def test_a_candidate_says_which_layers_are_in_float_and_why():
    whole, fewer, *_ = follow(int8, task(), {"int8 onnxruntime": 1.5}, ["int8 onnxruntime"])
    assert [dict(each.floats) for each in whole] == [{}, {}, {}]
    slow, little = {"b": int8.SLOWER}, {"b": int8.SLOWER, "c": int8.LITTLE}
    assert [dict(each.floats) for each in fewer] == [slow, slow, little, little]
    names = ["int8 openvino, percentile", "int8 openvino, 1 inexact in fp32", "int8 openvino, 2 inexact in fp32"]
    fast = dict.fromkeys((*WHOLE, *WITHOUT_B), 1.2) | {"int8 openvino": 1.5} | dict.fromkeys(names, 1.3)
    found = {each.name: dict(each.floats) for step in follow(int8, task(), fast) for each in step}
    assert [found[name] for name in names] == [{}, {"b": int8.INEXACT}, {"b": int8.INEXACT, "c": int8.INEXACT}]


def test_what_keeps_the_decisions_and_may_fail_its_proof_is_made_more_exact():
    more = ["int8 openvino, percentile", "int8 openvino, entropy", "int8 openvino, 1 inexact in fp32"]
    speeds = {"int8 openvino": 1.5, "int8 onnxruntime": 1.2} | dict.fromkeys(more, 1.3)
    every = ["int8 openvino", "int8 onnxruntime", *more]
    steps = names(follow(int8, task(), speeds, every, every[:1]))
    assert steps[2:] == [more[:1], [f"{more[0]}, 2 threads", f"{more[0]}, 1 thread"]], "it goes on from what is likely"
    steps = names(follow(int8, task(), speeds, every, [every[0], *more[:2]]))
    assert steps[2:5] == [more[:1], more[1:2], more[2:]]
    steps = names(follow(int8, task(), speeds, every, every))
    assert steps[-1] == ["int8 openvino, 2 threads", "int8 openvino, 1 thread"], "the fastest, where nothing is likely"


def test_what_has_lost_nothing_is_not_made_more_exact_although_a_proof_may_fail():
    """Few samples of the selection never make the proof of many likely: nothing more exact could be told from it."""
    best = "int8 openvino"
    steps = names(follow(int8, task(), {best: 1.5}, [best], [best], [best]))
    assert steps[2:] == [[f"{best}, 2 threads", f"{best}, 1 thread"]]
    more = f"{best}, percentile"
    steps = names(follow(int8, task(), {best: 1.5, more: 1.4}, [best, more], [best, more], [more]))
    assert steps[2:] == [[more], [f"{best}, 2 threads", f"{best}, 1 thread"]], "calibrated otherwise it lost nothing"


def test_where_nothing_keeps_the_decisions_the_fastest_is_made_more_exact():
    speeds = dict.fromkeys((*WHOLE, *WITHOUT_B), 1.2) | {"int8 openvino": 1.5, "int8 onnxruntime, coarse": 1.6}
    more = [
        "int8 openvino, percentile",
        "int8 openvino, entropy",
        "int8 openvino, 1 inexact in fp32",
        "int8 openvino, 2 inexact in fp32",
    ]
    fast = speeds | dict.fromkeys(more, 1.3)
    assert names(follow(int8, task(), fast))[2:] == [[name] for name in more], "and no fewer threads, as nothing may be chosen"
    assert names(follow(int8, task(), fast, more[:1]))[2:] == [more[:1], [f"{more[0]}, 2 threads", f"{more[0]}, 1 thread"]]
    assert names(follow(int8, task(), fast, more[1:2]))[2:4] == [more[:1], more[1:2]]
    ended = names(follow(int8, task(), fast, more[2:3]))
    assert ended[2:] == [more[:1], more[1:2], more[2:3], [f"{more[2]}, 2 threads", f"{more[2]}, 1 thread"]]
    kept = names(follow(int8, task(), fast, [WHOLE[0]]))
    assert kept[2:6] == [[name] for name in more], "also where a slower one may be chosen"
    beaten = names(follow(int8, task(), fast | {more[2]: 1.15}, [WHOLE[0]]))
    assert beaten[2:5] == [more[:1], more[1:2], more[2:3]]
    assert beaten[5] == ["int8 onnxruntime, 2 threads", "int8 onnxruntime, 1 thread"], "but not for less than that one's speed"
    slow = names(follow(int8, task(), fast | {more[2]: 1.0}))
    assert slow[2:] == [more[:1], more[1:2], more[2:3]], "what is not faster is not made slower"
    steps = follow(int8, task(), fast)
    assert [step[0].build for step in steps[2:]] == [
        "int8-percentile-4", "int8-entropy-5", "int8-minmax-2", "int8-minmax-3",
    ], "b is the least exact, then c: those files are there"  # fmt: skip
    assert {step[0].engine for step in steps[2:]} == {"openvino"}


def test_layers_are_taken_back_one_two_four_at_a_time_the_least_exact_first():
    layers = "abcdefg"
    exact = task(
        model=network(layers=layers), engines=("onnxruntime",), layer_times=lambda build: dict.fromkeys(layers, 2.0 if build == "fp32" else 1.0),
        layer_errors=lambda _build: {layer: 0.1 * place for place, layer in enumerate("cabd", 1)},
    )  # fmt: skip
    made = []
    whole = Quantized.build

    def build(self, plan):
        made.append((plan.calibration, "".join(sorted(plan.floats))))
        return whole(self, plan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Quantized, "build", build)
        more = [f"int8 onnxruntime, {count} inexact in fp32" for count in (1, 2, 4)]
        steps = names(follow(int8, exact, {"int8 onnxruntime": 2.0} | dict.fromkeys(more, 1.1)))
    assert steps[-3:] == [[name] for name in more]
    assert made[-5:] == [("percentile", ""), ("entropy", ""), ("minmax", "d"), ("minmax", "bd"), ("minmax", "abcd")]


def test_what_is_slower_is_not_followed():
    assert names(follow(int8, task(), {"int8 onnxruntime": 1.0}, WHOLE)) == [WHOLE, WITHOUT_B + ONLY_A]
    assert names(follow(int8, task(), {"int8 onnxruntime": 0.0}, WHOLE)) == [WHOLE, WITHOUT_B + ONLY_A], "nor what cannot run"
    assert follow(int8, task(device="cuda")) == []
    assert follow(int8, task(model=onnx.ModelProto())) == []
    alone = task(threads=(4,))
    assert names(follow(int8, alone, {"int8 openvino": 1.5}, WHOLE)) == [WHOLE, WITHOUT_B + ONLY_A], "no other number of threads"


def test_a_little_faster_is_faster():
    found = names(follow(int8, task(), {"int8 openvino": 1.001}, WHOLE))
    assert found[-1] == ["int8 openvino, 2 threads", "int8 openvino, 1 thread"]


def test_where_int8_cannot_be_made_nothing_follows():
    steps = int8.propose(task())
    next(steps)
    with pytest.raises(StopIteration):
        steps.send([])


def test_a_plan_has_one_file():
    made = Quantized(task())
    first, second = made.plan("minmax", set()), made.plan("minmax", {"a"})
    assert (first, second, made.plan("minmax", set()), made.plan("entropy", set())) == (
        "int8-minmax-0", "int8-minmax-1", "int8-minmax-0", "int8-entropy-2",
    )  # fmt: skip
    assert made.plans["int8-minmax-1"] == Plan("minmax", frozenset({"a"}))


@pytest.mark.parametrize(
    ("samples", "batch", "rows"),
    [
        (20, "n", [[0, 7], [8, 15]]),
        (16, "n", [[0, 7], [8, 15]]),
        (8, "n", [[0, 7]]),
        (3, "n", [[0, 1]]),
        (7, 3, [[0, 2], [3, 5]]),
        (2, 3, [[0, 0]]),
    ],
)
def test_calibration_goes_by_whole_batches_and_is_done_once(monkeypatch, samples, batch, rows):
    """What is left over is not calibrated with; too few are filled up from the beginning."""
    asked = []
    monkeypatch.setattr(
        int8.quantizing, "calibrate", lambda file, feeds, method, name: asked.append((file, feeds, method)) or "ranges"
    )
    monkeypatch.setattr(int8.quantizing, "quantized", lambda model, ranges, scheme, name: (model, ranges, scheme))
    given = task(model=network(batch), parts=Parts(part(samples), part(4), part(4), ""))
    made = Quantized(given)
    assert made.whole("minmax") == (given.model, "ranges", Scheme())
    assert made.whole("minmax") is made.whole("minmax")
    ((file, feeds, method),) = asked
    assert (file, method) == (Path("m.onnx"), "minmax")
    assert [[int(feed["x"][0, 0]) // 2, int(feed["x"][-1, 0]) // 2] for feed in feeds] == rows
    assert {len(feed["x"]) for feed in feeds} == {8 if batch == "n" else batch}


@pytest.mark.parametrize(
    ("arm", "instructions", "scheme"),
    [
        (False, ("avx2",), Scheme(False, True)),
        (False, ("avx2", "avx512_vnni"), Scheme(False, False)),
        (True, (), Scheme(True, False)),
        (True, ("asimddp",), Scheme(True, False)),
    ],
)
def test_whole_numbers_by_the_machine(arm, instructions, scheme):
    assert scheme_of(task(arm=arm, instructions=instructions)) == scheme
    assert Scheme() == Scheme(signed=False, reduced=False, coarse=False)


@pytest.mark.parametrize(("batch", "fixed"), [("n", None), (4, 4), (1, 1)])
def test_the_batch_that_a_file_takes_alone(batch, fixed):
    assert fixed_batch(network(batch)) == fixed
    assert fixed_batch(onnx.ModelProto()) is None


@pytest.mark.parametrize(("batch", "fixed"), [("n", None), (-1, None), (4, 4)])
def test_a_weight_among_the_inputs_and_a_size_of_minus_one_are_no_batch(batch, fixed):
    model = network(batch)
    model.graph.input.insert(0, helper.make_tensor_value_info("wa", 1, [2, 2]))
    assert fixed_batch(model) == fixed


def test_fp32_tries_engines_and_levels_and_then_fewer_threads_of_the_best():
    first = ["fp32 openvino", "fp32 onnxruntime, level extended", "fp32 onnxruntime, level basic"]
    steps = follow(fp32, task(), {first[0]: 1.5, first[2]: 1.2}, first)
    assert names(steps) == [first, ["fp32 openvino, 2 threads", "fp32 openvino, 1 thread"]]
    assert [(each.engine, dict(each.options), each.threads) for each in steps[0]] == [
        ("openvino", {"fixed_batch": "3"}, 4), ("onnxruntime", {"level": "extended"}, 4), ("onnxruntime", {"level": "basic"}, 4),
    ]  # fmt: skip
    assert [(each.engine, each.threads) for each in steps[1]] == [("openvino", 2), ("openvino", 1)]
    speeds = {first[0]: 1.5, "fp32 openvino, 1 thread": 2.0}
    several = follow(fp32, task(batches=(3, 1, 64)), speeds, [*first, "fp32 openvino, 1 thread"])
    assert names(several)[2:] == [["fp32 openvino, 1 thread, batch 1", "fp32 openvino, 1 thread, batch 64"]]
    assert [dict(each.options) for each in several[2]] == [{"fixed_batch": "1"}, {"fixed_batch": "64"}]
    own = ["fp32 onnxruntime, 2 threads", "fp32 onnxruntime, 1 thread"]
    assert names(follow(fp32, task(), {first[0]: 1.1}, first))[1] == own, "its interval holds 1"
    assert names(follow(fp32, task(), {first[0]: 1.5, first[2]: 1.2}, first[2:]))[1][0] == f"{first[2]}, 2 threads", (
        "the other is not kept"
    )
    assert names(follow(fp32, task(), {first[0]: 1.5}))[1] == own
    assert names(follow(fp32, task(), dict.fromkeys(first, 0.0), first))[1] == own
    assert names(follow(fp32, task(engines=("onnxruntime",), threads=(4,)))) == [first[1:], []]
    elsewhere = replace(BASELINE, engine="openvino")
    assert names(follow(fp32, task(baseline=elsewhere)))[0] == ["fp32 onnxruntime"], "levels are onnxruntime's"


def gated(*sides):
    """The network of `task`, with gates of images of these sizes beside it, by default one of (3, 4)."""
    model = network()
    for place, each in enumerate(sides or ((3, 4),)):
        model.graph.node.append(helper.make_node("Mul", [f"image{place}", f"gate{place}"], [f"opened{place}"], name=f"gate{place}"))
        for name, size in ((f"image{place}", each), (f"gate{place}", (1, 1))):
            model.graph.input.append(helper.make_tensor_value_info(name, 1, ["n", 2, *size]))
    return model


def test_fp32_tries_gates_in_blocks_and_goes_on_from_there():
    name = "fp32 onnxruntime, gates in blocks"
    steps = follow(fp32, task(model=gated(), batches=(3, 1)), {name: 1.5}, [name])
    assert names(steps)[1:] == [[f"{name}, 2 threads", f"{name}, 1 thread"], [f"{name}, batch 1"]]
    assert {each.build for step in steps[1:] for each in step} | {steps[0][-1].build} == {"fp32-gates-in-blocks"}
    (proposal,) = (each for each in next(fp32.propose(task(model=gated()))) if each.candidate.name == name)
    assert [node.op_type for node in proposal.how().graph.node][-2:] == ["Resize", "Mul"]
    for changes in ({}, {"model": gated(), "device": "cuda"}, {"model": gated(), "baseline": replace(BASELINE, engine="openvino")}):
        assert name not in names(follow(fp32, task(**changes)))[0]


LARGE = (512, 512)  # of two channels: more than the numbers of a small gate
ALL_GATES, SMALL_GATES = "fp32 onnxruntime, gates in blocks", "fp32 onnxruntime, small gates in blocks"


@pytest.mark.parametrize(
    ("sides", "found"),
    [(((3, 4), LARGE), {ALL_GATES: 2, SMALL_GATES: 1}), ((LARGE,), {ALL_GATES: 1}), (((3, 4),), {ALL_GATES: 1})],
)
def test_small_gates_alone_are_tried_where_others_are_large(sides, found):
    proposals = {
        each.candidate.name: each for each in next(fp32.propose(task(model=gated(*sides)))) if "gates" in each.candidate.name
    }
    written = {name: sum(node.op_type == "Resize" for node in each.how().graph.node) for name, each in proposals.items()}
    assert written == found
    assert len({each.candidate.build for each in proposals.values()}) == len(found)


def test_int8_tries_gates_in_blocks_of_the_best(monkeypatch):
    monkeypatch.setattr(mixing, "taken_back", lambda whole, original, floats: original)
    monkeypatch.setattr(Quantized, "whole", lambda self, calibration, coarse, chosen: None)
    best, blocked = WITHOUT_B[0], f"{WITHOUT_B[0]}, gates in blocks"
    steps = follow(int8, task(model=gated()), {best: 1.5, blocked: 2.0}, [best, blocked])
    both = [blocked, f"{best}, coarse, gates in blocks"]
    assert names(steps)[2:] == [[f"{best}, coarse"], both, [f"{blocked}, 2 threads", f"{blocked}, 1 thread"]]
    each, _ = steps[3]
    assert dict(each.floats) == {"b": int8.SLOWER}
    assert {other.build for other in steps[4]} == {each.build}
    assert names(follow(int8, task(model=gated()), {WITHOUT_B[1]: 1.5}, WITHOUT_B[1:]))[2:] == [
        [f"{WITHOUT_B[1]}, 2 threads", f"{WITHOUT_B[1]}, 1 thread"]
    ], "openvino has a layout of its own"
    made = Quantized(task(model=gated()))
    given = BASELINE.but("int8 onnxruntime", build=made.plan("minmax", set()))
    each, coarse = made.laid_out(made.task, given)
    assert [made.plans[other.build].coarse for other in (each, coarse)] == [False, True]
    build = made.build(made.plans[given.build]._replace(coarse=True))
    (same,) = made.laid_out(made.task, given.but("int8 onnxruntime, coarse", build=build))
    assert same.build == coarse.build
    for build, written in ((given.build, False), (each.build, True)):
        assert ("Resize" in {node.op_type for node in made.how(build)().graph.node}) == written
    made = Quantized(task(model=gated((3, 4), LARGE)))
    given = BASELINE.but("int8 onnxruntime", build=made.plan("minmax", set()))
    both = {each.name.removeprefix("int8 onnxruntime, "): each.build for each in made.laid_out(made.task, given)}
    assert [made.plans[both[name]].layout.gates for name in ("gates in blocks", "small gates in blocks")] == [
        math.inf,
        blocked_layout.SMALL,
    ]


def test_int8_tries_coarser_scales_of_the_best(monkeypatch):
    asked = []
    monkeypatch.setattr(int8.quantizing, "calibrate", lambda file, feeds, method, name: asked.append(method) or "ranges")
    monkeypatch.setattr(int8.quantizing, "quantized", lambda model, ranges, scheme, name: scheme)
    monkeypatch.setattr(mixing, "taken_back", lambda whole, original, floats: (whole, sorted(floats)))
    best, coarse = WHOLE[0], WHOLE[2]
    steps = follow(int8, task(), {best: 1.5, coarse: 2.0}, [best, coarse])
    assert names(steps)[2:] == [[f"{coarse}, 2 threads", f"{coarse}, 1 thread"]]
    assert {each.build for each in steps[2]} == {steps[0][2].build} != {steps[0][0].build}
    steps = follow(int8, task(), {best: 1.5, coarse: 2.0}, [best])
    assert names(steps)[2:] == [[f"{best}, 2 threads", f"{best}, 1 thread"]], "where it costs decisions, the finer one is there"
    best, coarse = WITHOUT_B[0], f"{WITHOUT_B[0]}, coarse"
    steps = follow(int8, task(), {best: 1.5, coarse: 2.0}, [best, coarse])
    assert names(steps)[2:] == [[coarse], [f"{coarse}, 2 threads", f"{coarse}, 1 thread"]]
    assert dict(steps[2][0].floats) == {"b": int8.SLOWER}
    assert {each.build for each in steps[3]} == {steps[2][0].build}
    made = Quantized(task())
    given = BASELINE.but(best, build=made.plan("minmax", {"b"}))
    (each,) = made.coarser(made.task, given)
    assert made.how(given.build)() == (Scheme(), ["b"])
    assert made.how(each.build)() == (Scheme(coarse=True), ["b"])
    assert asked == ["minmax"], "the ranges are found once"
    assert made.coarser(made.task, given) == made.coarser(made.task, each) == [], "it was tried"
    other = given.but(best, engine="openvino", build=made.plan("minmax", {"c"}))
    assert made.coarser(made.task, other) == [], "it makes no use of it"


@pytest.mark.parametrize(
    ("kind", "changes", "found"),
    [
        (bf16, {"instructions": ("avx512_bf16",)}, [("bf16 openvino", "openvino", "bf16", "fp32", {"fixed_batch": "3", "precision": "bf16"})]),
        (bf16, {"instructions": ("bf16",)}, [("bf16 openvino", "openvino", "bf16", "fp32", {"fixed_batch": "3", "precision": "bf16"})]),
        (bf16, {"instructions": ("avx_vnni",)}, []),
        (bf16, {"instructions": ("bf16",), "engines": ("onnxruntime",)}, []),
        (bf16, {"instructions": ("bf16",), "device": "cuda"}, []),
        (fp16, {"device": "cuda"}, [
            ("fp16 onnxruntime", "onnxruntime", "fp16", "fp16", {}),
            ("fp16 onnxruntime, CUDA graph", "onnxruntime", "fp16", "fp16", {"cuda_graph": "on"}),
            ("fp16 onnxruntime, NHWC, CUDA graph", "onnxruntime", "fp16", "fp16", {"layout": "nhwc", "cuda_graph": "on"}),
        ]),
        (tf32, {"device": "cuda:1"}, [
            ("tf32 onnxruntime", "onnxruntime", "tf32", "fp32", {"tf32": "on"}),
            ("tf32 onnxruntime, CUDA graph", "onnxruntime", "tf32", "fp32", {"tf32": "on", "cuda_graph": "on"}),
            ("tf32 onnxruntime, NHWC, CUDA graph", "onnxruntime", "tf32", "fp32", {"tf32": "on", "layout": "nhwc", "cuda_graph": "on"}),
        ]),
        (tf32, {}, []),
        (fp16, {"instructions": ("fphp",)}, [("fp16 openvino", "openvino", "fp16", "fp32", {"fixed_batch": "3", "precision": "f16"})]),
        (fp16, {"instructions": ("fphp",), "engines": ("onnxruntime",)}, []),
        (fp16, {}, []),
        (int8_nncf, {"nncf": True}, [("int8 nncf openvino", "openvino", "int8", "int8-nncf", {"fixed_batch": "3"})]),
        (int8_nncf, {"nncf": True, "instructions": ("bf16",)}, [
            ("int8 nncf openvino", "openvino", "int8", "int8-nncf", {"fixed_batch": "3", "precision": "bf16"}),
        ]),
        (int8_nncf, {"nncf": True, "model": network(1)}, [("int8 nncf openvino", "openvino", "int8", "int8-nncf", {})]),
        (int8_nncf, {"nncf": True, "model": network(2)}, []),
        (int8_nncf, {"nncf": True, "device": "cuda"}, []),
        (int8_nncf, {"nncf": True, "engines": ("onnxruntime",)}, []),
        (int8_nncf, {"nncf": False}, []),
    ],
)  # fmt: skip
def test_kinds_of_one_candidate(monkeypatch, kind, changes, found):
    there = changes.get("nncf")
    monkeypatch.setattr(int8_nncf, "find_spec", lambda name: object() if name == "nncf" and there else None)
    steps = follow(kind, task(**{name: value for name, value in changes.items() if name != "nncf"}))
    told = [(each.name, each.engine, each.precision, each.build, dict(each.options)) for step in steps for each in step]
    assert told == found
    assert all((each.threads, each.batch) == (4, 3) for step in steps for each in step)


def test_tensorrt_is_a_candidate_where_its_provider_loads(monkeypatch):
    monkeypatch.setattr(providers, "tensorrt_obstacle", lambda: None)
    for kind, precision in ((tf32, "tf32"), (fp16, "fp16")):
        (last,) = follow(kind, task(device="cuda"))[-1]
        assert (last.name, last.precision, last.build) == (f"{precision} TensorRT", precision, "fp32")
        assert dict(last.options) == {"provider": f"tensorrt-{precision}"}
        assert follow(kind, task()) == [], "not on a CPU"


def test_fp32_on_a_gpu_tries_its_settings():
    steps = follow(fp32, task(device="cuda", engines=("onnxruntime",), threads=(4,)))
    assert [(each.name, dict(each.options), each.precision) for each in steps[0]] == [
        ("fp32 onnxruntime, IO binding", {"io_binding": "on"}, "fp32"),
        ("fp32 onnxruntime, CUDA graph", {"cuda_graph": "on"}, "fp32"),
        ("fp32 onnxruntime, NHWC", {"layout": "nhwc"}, "fp32"),
        ("fp32 onnxruntime, NHWC, CUDA graph", {"layout": "nhwc", "cuda_graph": "on"}, "fp32"),
    ]


def test_every_option_of_a_candidate_may_stand_in_a_file():
    """Else what was tuned could not be written."""
    from deploykit.runtime.contract import Tuned

    found = [c for kind in (fp32, fp16, tf32, bf16) for step in follow(kind, task(device="cuda")) for c in step]
    found += [c for kind in (fp32, bf16) for step in follow(kind, task(instructions=("bf16",))) for c in step]
    assert len(found) > 10
    for each in found:
        Tuned(each.engine, 1, each.precision, options=each.options)
    for name in ("tensorrt-tf32", "tensorrt-fp16"):
        Tuned("onnxruntime", 1, "tf32", options={"provider": name})


def test_the_kinds_and_what_precisions_they_have():
    assert candidates.names() == ("fp32", "bf16", "fp16", "int8", "int8-nncf", "tf32")
    assert candidates.precisions() == ("fp32", "bf16", "fp16", "int8", "tf32")
    with pytest.raises(UnknownName, match="unknown kind of candidate 'int4'"):
        candidates.load("int4")


def busy(monkeypatch, convolutions, matrices=None):
    """Layers that can be products of matrices, and those that are, by their multiplications for each number."""
    monkeypatch.setattr(int8.products, "cheap", lambda model: convolutions)
    monkeypatch.setattr(int8.products, "matrices", lambda model: matrices or {})


def test_large_products_of_matrices_alone_are_tried_in_int8_with_more_and_more_convolutions(monkeypatch):
    busy(monkeypatch, {"b": 90.0}, {"a": 500.0, "c": 10.0})
    steps = follow(int8, task(), {"int8 onnxruntime": 1.5}, ["int8 onnxruntime"])
    name = "int8, 2 of 3 layers as products onnxruntime"
    assert names(steps)[0] == [*WHOLE[:2], name, WHOLE[2]], "80 and 40 multiplications give the same layers"
    product = steps[0][2]
    assert (product.engine, product.precision, dict(product.floats)) == ("onnxruntime", "int8", {"c": int8.NO_PRODUCT})
    made = Quantized(task())
    (proposal,) = int8._as_products(made.task, made)
    assert made.plans[proposal.candidate.build] == Plan("minmax", frozenset("c"), products=frozenset("b"))
    busy(monkeypatch, {"a": 200.0, "b": 90.0, "c": 39.0})
    found = [each.candidate for each in int8._as_products(made.task, made)]
    assert [sorted(each.floats) for each in found] == [["b", "c"], ["c"]]
    assert int8._as_products(replace(made.task, engines=("openvino",)), made) == []
    busy(monkeypatch, {}, {"a": 500.0})
    assert int8._as_products(made.task, made) == [], "without such convolutions there is nothing new"


def test_products_have_the_rest_written_for_its_convolutions_at_once(monkeypatch):
    busy(monkeypatch, {"b": 90.0})
    made = Quantized(task(model=gated()))
    (proposal,) = int8._as_products(made.task, made)
    assert proposal.candidate.name == "int8, 1 of 3 layers as products onnxruntime, gates in blocks"
    assert made.plans[proposal.candidate.build].layout == Layout(math.inf)
    assert made.laid_out(made.task, proposal.candidate) == [], "it is"
    assert made.coarser(made.task, proposal.candidate) == [], "it gains nothing"


def test_what_is_not_exact_is_no_product_any_more(monkeypatch):
    """Another calibration keeps the products; a layer that goes back to float32 is a convolution again."""
    busy(monkeypatch, {"b": 90.0}, {"a": 500.0, "c": 500.0})
    name = "int8, 3 of 3 layers as products onnxruntime"
    built = []
    make = Quantized.build

    def build(self, plan):
        built.append(plan)
        return make(self, plan)

    monkeypatch.setattr(Quantized, "build", build)
    steps = follow(int8, task(engines=("onnxruntime",)), {name: 2.0, f"{name}, 1 inexact in fp32": 1.5})
    assert names(steps)[2:4] == [[f"{name}, percentile"], [f"{name}, entropy"]]
    assert [(plan.calibration, plan.products) for plan in built[-4:-1]] == [
        ("percentile", frozenset("b")), ("entropy", frozenset("b")), ("minmax", frozenset()),
    ]  # fmt: skip
    assert built[-2].floats == frozenset("b"), "it has the largest error"
