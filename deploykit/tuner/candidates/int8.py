"""int8 by onnxruntime's quantizer (QDQ): all of it, and without the layers where it loses time or decisions.

1. Everything is quantized, on each engine, and for onnxruntime with coarser scales, too; of networks with gates nothing but large
   products of matrices, and convolutions written as such.
2. The time of each layer in both precisions, with its conversions, says which layers win nothing: those are taken back. Another
   file keeps only the layers that win most.
3. Where the fastest of these does not keep the decisions, or its proof may well fail after what was lost, it is calibrated in
   other ways; if that does not help, the layers with the largest errors are taken back, one, two, four, and so on, as long as it
   stays faster than what keeps the decisions.
4. What is best then is tried with coarser scales, with what is left in float32 in other layouts, with fewer threads, and for
   throughput with other batches.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace

import onnx

from deploykit.runtime.instructions import BFLOAT16
from deploykit.tuner import products, quantizing
from deploykit.tuner.candidates._quantized import Plan, Quantized
from deploykit.tuner.candidates._types import (
    Proposal,
    Steps,
    Task,
    fastest,
    options_of,
    with_batches,
    with_threads,
)
from deploykit.tuner.layout import Layout, layouts
from deploykit.tuner.quantizing import Calibration
from deploykit.tuner.result import Measured

PRECISION = "int8"
OTHER_CALIBRATIONS: tuple[Calibration, ...] = ("percentile", "entropy")
MOST_OF_GAIN = 0.8  # of the time that quantizing saves: the layers that save so much alone are a candidate
SLOWER = "slower in int8, with its conversions"
LITTLE = "gains little in int8"
INEXACT = "its error in int8 costs decisions"
NO_PRODUCT = "only large products of matrices are in int8, and convolutions that can be written as such"
BUSY = (160, 80, 40)  # multiplications for each number in or out, from which on a product is one of them
LEAST_GAIN = 0.02  # of the whole time: fewer layers in int8 than save so much are not tried


def propose(task: Task) -> Steps:
    """Candidates in int8, step by step as the module lists them; none on a GPU, or without layers to quantize."""
    made = Quantized(task)
    if not made.layers or task.device != "cpu":
        return
    whole = _on_engines(task, made, "int8", {})
    coarse = [each for proposal in whole for each in made.coarser(task, proposal.candidate)]
    measured = yield [*whole, *_as_products(task, made), *(Proposal(each, made.how(each.build)) for each in coarse)]
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
    for other in (made.coarser, made.laid_out, with_threads, with_batches):
        best = fastest(measured)
        more = other(task, best.candidate) if best is not None else []
        if more:
            measured += yield [Proposal(candidate, made.how(candidate.build)) for candidate in more]


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


def _as_products(task: Task, made: Quantized) -> list[Proposal]:
    """Nothing but products of matrices in int8, with more and more of the convolutions that can be such; for onnxruntime.

    The rest stays in float32, and is written for its convolutions at once.
    """
    busy, matrices = products.cheap(task.model), products.matrices(task.model)
    if not busy or "onnxruntime" not in task.engines:
        return []
    layout = next(iter(layouts(task.model)), Layout())
    found: dict[frozenset[str], Proposal] = {}
    for least in BUSY:
        chosen = frozenset(layer for layer in made.layers if busy.get(layer, 0.0) >= least)
        if chosen and chosen not in found:
            among = chosen.union(layer for layer in made.layers if matrices.get(layer, 0.0) >= least)
            floats = {layer: NO_PRODUCT for layer in made.layers if layer not in among}
            build = made.build(Plan("minmax", frozenset(floats), layout=layout, products=chosen))
            title = f"int8, {len(among)} of {len(made.layers)} layers as products onnxruntime"
            name = f"{title}, {layout.name}" if layout.name else title
            shared = {"engine": "onnxruntime", "precision": "int8", "build": build, "floats": floats}
            found[chosen] = Proposal(task.like_baseline(name, **shared), made.how(build))
    return list(found.values())


def _more_exact(
    task: Task, made: Quantized, first: Measured, measured: list[Measured]
) -> Generator[list[Proposal], list[Measured], list[Measured]]:
    """Steps that give the fastest file another calibration, or fewer layers, until its decisions are those of the original."""
    found: list[Measured] = []
    kept = fastest([entry for entry in measured if entry.likely])
    enough = max(1.0, kept.timing.ratio if kept is not None and kept.timing is not None else 1.0)
    plan = made.plans[first.candidate.build]._replace(coarse=False)
    for calibration in OTHER_CALIBRATIONS:
        build = made.build(plan._replace(calibration=calibration))
        candidate = replace(first.candidate, name=f"{first.candidate.name}, {calibration}", build=build)
        found += yield [Proposal(candidate, made.how(build))]
        if found and (found[-1].likely or found[-1].flawless):
            return found
    errors = task.layer_errors(first.candidate.build)
    worst = sorted((layer for layer in made.layers if layer not in plan.floats), key=lambda layer: -errors.get(layer, 0.0))
    count = 1
    while count < len(worst):
        inexact = {**first.candidate.floats, **dict.fromkeys(worst[:count], INEXACT)}
        build = made.build(plan._replace(floats=frozenset(inexact), products=plan.products.difference(inexact)))
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
