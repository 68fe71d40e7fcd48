"""int8 by onnxruntime's quantizer (QDQ): all of it, and without the layers where it loses time or decisions.

1. Everything is quantized, on each engine, and for onnxruntime with coarser scales, too.
2. The time of each layer in both precisions, with its conversions, says which layers win nothing: those are taken back. Another
   file keeps only the layers that win most.
3. Where the fastest of these does not keep the decisions, or its proof may well fail after what was lost, it is calibrated in
   other ways; if that does not help, the layers with the largest errors are taken back, one, two, four, and so on, as long as it
   stays faster than what keeps the decisions.
4. What is best then is tried with coarser scales, with the gates of what is left in float32 as onnxruntime's layout knows them,
   with fewer threads, and for throughput with other batches.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import onnx

from deploykit.runtime.instructions import BFLOAT16, BYTES
from deploykit.tuner import blocked_layout, quantizing
from deploykit.tuner.batches import fixed_batch
from deploykit.tuner.candidates._types import (
    Proposal,
    Steps,
    Task,
    fastest,
    in_blocks,
    options_of,
    with_batches,
    with_threads,
)
from deploykit.tuner.quantizing import Calibration, Scheme
from deploykit.tuner.result import Candidate, Measured

PRECISION = "int8"
OTHER_CALIBRATIONS: tuple[Calibration, ...] = ("percentile", "entropy")
MOST_OF_GAIN = 0.8  # of the time that quantizing saves: the layers that save so much alone are a candidate
SLOWER = "slower in int8, with its conversions"
LITTLE = "gains little in int8"
INEXACT = "its error in int8 costs decisions"
LEAST_GAIN = 0.02  # of the whole time: fewer layers in int8 than save so much are not tried
CALIBRATED_AT_ONCE = 8  # samples
HISTOGRAMS = 4  # times that many samples are enough for percentiles and entropy, which look at every number of every layer


def propose(task: Task) -> Steps:
    """Candidates in int8, step by step as the module lists them; none on a GPU, or without layers to quantize."""
    made = Quantized(task)
    if not made.layers or task.device != "cpu":
        return
    whole = _on_engines(task, made, "int8", {})
    coarse = [each for proposal in whole for each in made.coarser(task, proposal.candidate)]
    measured = yield [*whole, *(Proposal(each, made.how(each.build)) for each in coarse)]
    if not measured:
        return
    fewer = [proposal for title, floats in _without_losers(task, made) for proposal in _on_engines(task, made, title, floats)]
    if fewer:
        measured += yield fewer
    fast = [
        entry for entry in _by_speed(measured)
        if entry.timing and entry.timing.ratio > 1 and (entry.kept or not made.plans[entry.candidate.build].coarse)
    ]  # fmt: skip
    if not fast:
        return
    if not (fast[0].likely or fast[0].flawless):
        measured += yield from _more_exact(task, made, fast[0], measured)
    for other in (made.coarser, made.in_blocks, with_threads, with_batches):
        best = fastest(measured)
        more = other(task, best.candidate) if best is not None else []
        if more:
            measured += yield [Proposal(candidate, made.how(candidate.build)) for candidate in more]


class Plan(NamedTuple):
    """How a file is calibrated, and which layers stay in float32. `coarse`: see `Scheme`; `blocked`: the most numbers of the gates
    that are in blocks, see `blocked_layout`.
    """  # fmt: skip

    calibration: Calibration
    floats: frozenset[str]
    coarse: bool = False
    blocked: float = 0


@dataclass
class Quantized:
    """The graph in QDQ by calibration, made when it is first asked for. `plans`: what each build is."""

    task: Task
    plans: dict[str, Plan] = field(default_factory=dict)
    _ranges: dict[Calibration, Any] = field(default_factory=dict)
    _whole: dict[tuple[Calibration, bool], onnx.ModelProto] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        """See `quantizing.layers`."""
        return quantizing.layers(self.task.model)

    def plan(self, calibration: Calibration, floats: Set[str]) -> str:
        """The name of the build with these layers in float32."""
        return self._build(Plan(calibration, frozenset(floats)))

    def _build(self, wanted: Plan) -> str:
        known = next((build for build, plan in self.plans.items() if plan == wanted), None)
        build = known or f"int8-{wanted.calibration}-{len(self.plans)}"
        self.plans[build] = wanted
        return build

    def how(self, build: str) -> Callable[[], onnx.ModelProto]:
        """How that file is made."""
        plan = self.plans[build]

        def make() -> onnx.ModelProto:
            mixed = quantizing.taken_back(self.whole(plan.calibration, plan.coarse), self.task.model, plan.floats)
            return blocked_layout.blocked(mixed, plan.blocked) if plan.blocked else mixed

        return make

    def coarser(self, _task: Task, best: Candidate) -> list[Candidate]:
        """The same with fewer scales, of which onnxruntime makes use, unless that was tried."""
        plan = self.plans[best.build]._replace(coarse=True)
        if best.engine != "onnxruntime" or plan in self.plans.values():
            return []
        return [best.but(f"{best.name}, coarse", build=self._build(plan))]

    def in_blocks(self, task: Task, best: Candidate) -> list[Candidate]:
        """See `_types.in_blocks`, with the scales of the best and with coarser ones; nothing where all gates are in int8."""
        if not in_blocks(task, best, task.model):
            return []
        found, plan = [], self.plans[best.build]
        coarse = best.but(f"{best.name}, coarse", build=self._build(plan._replace(coarse=True)))
        for each in [best] if plan.coarse else [best, coarse]:
            for most, blocked in in_blocks(task, each, self.how(each.build)()).items():
                found.append(blocked.but(blocked.name, build=self._build(self.plans[each.build]._replace(blocked=most))))
        return found

    def whole(self, calibration: Calibration, coarse: bool = False) -> onnx.ModelProto:
        """Everything quantized. Raises `InputError` for a graph that the quantizer cannot read."""
        if (calibration, coarse) not in self._whole:
            ranges, scheme = self._ranges_by(calibration), replace(scheme_of(self.task), coarse=coarse)
            self._whole[calibration, coarse] = quantizing.quantized(self.task.file, ranges, scheme, self.task.name)
        return self._whole[calibration, coarse]

    def _ranges_by(self, calibration: Calibration) -> Any:
        if calibration not in self._ranges:
            part, file = self.task.parts.calibration, self.task.file
            size = fixed_batch(self.task.model) or CALIBRATED_AT_ONCE
            feeds = [part.rows(begin, begin + size) for begin in range(0, len(part) - size + 1, size)] or [_filled(part, size)]
            self._ranges[calibration] = quantizing.calibrate(
                file, feeds if calibration == "minmax" else feeds[:HISTOGRAMS], calibration, self.task.name
            )
        return self._ranges[calibration]


def scheme_of(task: Task) -> Scheme:
    """What onnxruntime advises for the machine: signed activations on ARM, weights of 7 bits on x86 without VNNI."""
    return Scheme(signed=task.arm, reduced=not task.arm and not BYTES.intersection(task.instructions))


def gains(model: onnx.ModelProto, fp32: Mapping[str, float], int8: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds that quantizing saves, by layer: all that belongs to it, with the conversions of what it makes."""
    owner = quantizing.following(model)
    makers = {output: node.name for node in model.graph.node for output in node.output}
    first = next(iter(quantizing.layers(model)), "")
    saved = dict.fromkeys(quantizing.layers(model), 0.0)
    for sign, times in ((1, fp32), (-1, int8)):
        for node, milliseconds in times.items():
            value = node.removesuffix("_DequantizeLinear").removesuffix("_QuantizeLinear")
            layer = owner.get(node) or owner.get(makers.get(value, "")) or first
            if layer in saved:
                saved[layer] += sign * milliseconds
    return saved


def _without_losers(task: Task, made: Quantized) -> list[tuple[str, dict[str, str]]]:
    """Layers to take back, and why, by their times in the file in which nothing is."""
    build = made.plan("minmax", set())
    before = task.layer_times("fp32")
    saved = gains(task.model, before, task.layer_times(build))
    if sum(milliseconds for milliseconds in saved.values() if milliseconds > 0) <= LEAST_GAIN * sum(before.values()):
        return []  # it could not win
    losers = {layer: SLOWER for layer, milliseconds in saved.items() if milliseconds <= 0}
    winners = sorted((layer for layer in saved if layer not in losers), key=lambda layer: -saved[layer])
    total, kept, found = sum(saved[layer] for layer in winners), 0.0, []
    for place, layer in enumerate(winners):
        kept += saved[layer]
        if kept >= MOST_OF_GAIN * total:
            little = dict.fromkeys(winners[place + 1 :], LITTLE)
            found.append((f"int8, {place + 1} of {len(saved)} layers", {**losers, **little}))
            break
    if losers and winners:
        found.insert(0, (f"int8 without {len(losers)} slow layers", losers))
    return found


def _more_exact(
    task: Task, made: Quantized, first: Measured, measured: list[Measured]
) -> Generator[list[Proposal], list[Measured], list[Measured]]:
    """Steps that give the fastest file another calibration, or fewer layers, until its decisions are those of the original."""
    found: list[Measured] = []
    kept = fastest([entry for entry in measured if entry.likely])
    enough = max(1.0, kept.timing.ratio if kept is not None and kept.timing is not None else 1.0)
    floats = made.plans[first.candidate.build].floats
    for calibration in OTHER_CALIBRATIONS:
        build = made.plan(calibration, floats)
        candidate = replace(first.candidate, name=f"{first.candidate.name}, {calibration}", build=build)
        found += yield [Proposal(candidate, made.how(build))]
        if found and (found[-1].likely or found[-1].flawless):
            return found
    errors = task.layer_errors(first.candidate.build)
    worst = sorted((layer for layer in made.layers if layer not in floats), key=lambda layer: -errors.get(layer, 0.0))
    count = 1
    while count < len(worst):
        inexact = {**first.candidate.floats, **dict.fromkeys(worst[:count], INEXACT)}
        build = made.plan("minmax", set(inexact))
        name = f"{first.candidate.name}, {count} inexact in fp32"
        tried = yield [Proposal(replace(first.candidate, name=name, build=build, floats=inexact), made.how(build))]
        found += tried
        if any(entry.likely or entry.flawless for entry in tried):
            break
        if all(entry.timing is None or entry.timing.ratio <= enough for entry in tried):
            break
        count *= 2
    return found


def _on_engines(task: Task, made: Quantized, title: str, floats: Mapping[str, str]) -> list[Proposal]:
    build = made.plan("minmax", set(floats))
    shared = {"precision": "int8", "build": build, "floats": floats}
    found = [
        task.like_baseline(f"{title} {engine}", engine=engine, options=mixed_options(task, engine), **shared)
        for engine in task.engines
    ]
    return [Proposal(candidate, made.how(build)) for candidate in found]


def mixed_options(task: Task, engine: str) -> dict[str, str]:
    """What is not in int8, OpenVINO computes in bfloat16 where the machine has instructions for it, as it does of its own."""
    rest = {"precision": "bf16"} if engine == "openvino" and BFLOAT16.intersection(task.instructions) else {}
    return {**options_of(task, engine), **rest}


def _by_speed(measured: list[Measured]) -> list[Measured]:
    return sorted(measured, key=lambda entry: -(entry.timing.ratio if entry.timing else 0.0))


def _filled(part: Any, size: int) -> dict[str, Any]:
    return dict(zip(part.inputs, part.cycled(size), strict=True))
