"""Files in int8: what is asked for, calibrated once, made when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import onnx

from deploykit.runtime.instructions import BYTES
from deploykit.tuner import mixing, products, quantizing
from deploykit.tuner.batches import fixed_batch
from deploykit.tuner.candidates._types import Task, with_layouts
from deploykit.tuner.layout import Layout, written
from deploykit.tuner.quantizing import Calibration, Scheme
from deploykit.tuner.result import Candidate

CALIBRATED_AT_ONCE = 8  # samples
HISTOGRAMS = 4  # times that many samples are enough for percentiles and entropy, which look at every number of every layer


class Plan(NamedTuple):
    """How a file is calibrated, and which layers stay in float32. `coarse`: see `Scheme`; `layout`: of what is left in float32;
    `products`: the layers that are products of matrices, see `products`.
    """  # fmt: skip

    calibration: Calibration
    floats: frozenset[str]
    coarse: bool = False
    layout: Layout = Layout()
    products: frozenset[str] = frozenset()


@dataclass
class Quantized:
    """The graph in QDQ by calibration, made when it is first asked for. `plans`: what each build is."""

    task: Task
    plans: dict[str, Plan] = field(default_factory=dict)
    _ranges: dict[Calibration, Any] = field(default_factory=dict)
    _whole: dict[tuple[Calibration, bool, frozenset[str]], onnx.ModelProto] = field(default_factory=dict)
    _written: dict[frozenset[str], tuple[onnx.ModelProto, dict[str, str]]] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        """See `quantizing.layers`."""
        return quantizing.layers(self.task.model)

    def plan(self, calibration: Calibration, floats: Set[str]) -> str:
        """The name of the build with these layers in float32."""
        return self.build(Plan(calibration, frozenset(floats)))

    def build(self, wanted: Plan) -> str:
        """The name of the file that is made so."""
        known = next((build for build, plan in self.plans.items() if plan == wanted), None)
        build = known or f"int8-{wanted.calibration}-{len(self.plans)}"
        self.plans[build] = wanted
        return build

    def how(self, build: str) -> Callable[[], onnx.ModelProto]:
        """How that file is made."""
        plan = self.plans[build]

        def make() -> onnx.ModelProto:
            original, _ = self._original(plan.products)
            whole = self.whole(plan.calibration, plan.coarse, plan.products)
            mixed = mixing.taken_back(whole, original, plan.floats | _behind(original, plan.products))
            return written(mixed, plan.layout)

        return make

    def coarser(self, _task: Task, best: Candidate) -> list[Candidate]:
        """The same with fewer scales, of which onnxruntime makes use, unless that was tried."""
        plan = self.plans[best.build]._replace(coarse=True)
        if best.engine != "onnxruntime" or plan.products or plan in self.plans.values():
            return []
        return [best.but(f"{best.name}, coarse", build=self.build(plan))]

    def laid_out(self, task: Task, best: Candidate) -> list[Candidate]:
        """See `_types.with_layouts`, with the scales of the best; of the first one with coarser scales, too."""
        plan, found = self.plans[best.build], []
        if plan.layout.name or not with_layouts(task, best, task.model):
            return []
        for layout, each in with_layouts(task, best, self.how(best.build)()).items():
            found.append(each.but(each.name, build=self.build(plan._replace(layout=layout))))
            if len(found) == 1 and not plan.coarse and not plan.products:
                coarse = plan._replace(layout=layout, coarse=True)
                found.append(each.but(f"{best.name}, coarse, {layout.name}", build=self.build(coarse)))
        return found

    def whole(self, calibration: Calibration, coarse: bool = False, chosen: frozenset[str] = frozenset()) -> onnx.ModelProto:
        """Everything quantized. Raises `InputError` for a graph that the quantizer cannot read."""
        key = (calibration, coarse, chosen)
        if key not in self._whole:
            model, held = self._original(chosen)
            ranges = self._ranges_by(calibration)
            scheme = replace(scheme_of(self.task), coarse=coarse)
            self._whole[key] = quantizing.quantized(
                model, quantizing.with_ranges(ranges, held) if held else ranges, scheme, self.task.name
            )
        return self._whole[key]

    def _original(self, chosen: frozenset[str]) -> tuple[onnx.ModelProto, dict[str, str]]:
        """What is quantized: the given graph, with some layers as products of matrices; and see `products.as_products`."""
        if chosen not in self._written:
            self._written[chosen] = products.as_products(self.task.model, chosen) if chosen else (self.task.model, {})
        return self._written[chosen]

    def _ranges_by(self, calibration: Calibration) -> Any:
        if calibration not in self._ranges:
            part, file = self.task.parts.calibration, self.task.file
            size = fixed_batch(self.task.model) or CALIBRATED_AT_ONCE
            feeds = [part.rows(begin, begin + size) for begin in range(0, len(part) - size + 1, size)] or [_filled(part, size)]
            self._ranges[calibration] = quantizing.calibrate(
                file, feeds if calibration == "minmax" else feeds[:HISTOGRAMS], calibration, self.task.name
            )
        return self._ranges[calibration]


def _behind(model: onnx.ModelProto, chosen: Set[str]) -> set[str]:
    """The nodes behind products of matrices, which take float32 from them, and so need not be in int8."""
    return {node for node, layer in quantizing.following(model).items() if layer in chosen and node != layer}


def scheme_of(task: Task) -> Scheme:
    """What onnxruntime advises for the machine: signed activations on ARM, weights of 7 bits on x86 without VNNI."""
    return Scheme(signed=task.arm, reduced=not task.arm and not BYTES.intersection(task.instructions))


def _filled(part: Any, size: int) -> dict[str, Any]:
    return dict(zip(part.inputs, part.cycled(size), strict=True))
