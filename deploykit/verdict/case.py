"""One judgement at work: the file, the network, and what both answered to the same inputs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import ModelFileError
from deploykit.onnx_file import sessions
from deploykit.verdict.comparison import VANISHING, Difference, compare, finite_scale
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.inputs import WITH_LARGE_VALUES, Batch
from deploykit.verdict.layers import LayerDifference, compare_layers, first_divergent
from deploykit.verdict.naming import Naming
from deploykit.verdict.originals import Original
from deploykit.verdict.precision import Precision
from deploykit.verdict.reference import Observation, has_numbers
from deploykit.verdict.result import Check, Errors

STEADY = 1e-4


class Case:
    """The network is asked once per batch; files at any optimization level and provider are then held against its answers."""

    def __init__(
        self,
        deployed: Deployed,
        original: Original,
        batches: list[Batch],
        rtol: float | None,
        atol: float | None,
        provider: str,
    ) -> None:
        self.deployed = deployed
        self.original = original
        self.batches = batches
        self.rtol = rtol
        self.atol = atol
        self.provider = provider
        self.derived = rtol is None and atol is None  # the tolerance, from float64
        # Two files are no nearer to each other than the coarser one can be.
        self.precision: Precision = "fp16" if "fp16" in (deployed.precision, original.precision) else "fp32"
        self._layer_batches = {batches[min(1, len(batches) - 1)].name, "real samples"}
        self.seen = original.observe(batches, self._layer_batches)
        # Large values may make outputs so large that all others vanish beside them.
        self._usual = [max(map(finite_scale, arrays)) for arrays in zip(*_usual_outputs(self.seen), strict=False)]
        self.steady = _alike(original.again(batches[0]), original.again(batches[0]))
        self.loosest = 0.0  # of the outputs: the tolerance of the one of which least is known, on the batch that tells most
        self.usable = [o for o in self.seen if _usable(o)]

    def layers(
        self, deployed: Deployed | None = None, level: sessions.Level = "all", provider: str | None = None
    ) -> list[LayerDifference]:
        """The layers are compared on noise, and on real samples where there are some."""
        observed = [o for o in self.seen if o.batch.name in self._layer_batches]
        return compare_layers(*self._named(deployed or self.deployed), observed, self.precision, level, provider or self.provider)

    def layers_on_all(self) -> list[LayerDifference]:
        """A fault that only some inputs wake, such as a clipped activation, shows on those."""
        batches = [o.batch for o in self.usable]
        observed = self.original.observe(batches, {batch.name for batch in batches})
        return compare_layers(*self._named(self.deployed), observed, self.precision, "all", self.provider)

    def vanishing(self) -> bool:
        """Whether the outputs are zero but for rounding: nothing beside most of the values that they were computed from."""
        watched = [o for o in self.usable if len(o.wide.layers)]
        return bool(watched) and all(
            max(map(finite_scale, o.wide.outputs)) <= VANISHING * median(map(finite_scale, o.wide.layers.values())) for o in watched
        )

    def _named(self, deployed: Deployed) -> tuple[Deployed, Naming]:
        return deployed, self.original.naming(deployed)

    def agrees(self, deployed: Deployed, level: sessions.Level, provider: str) -> bool:
        """Whether outputs and layers are within tolerance at an optimization level, on a provider."""
        try:
            check, _ = self.outputs(deployed, level, provider)
            return check.passed and first_divergent(self.layers(deployed, level, provider)) is None
        except ModelFileError:
            return False

    def outputs(
        self, deployed: Deployed | None = None, level: sessions.Level = "all", provider: str | None = None
    ) -> tuple[Check, Errors | None]:
        """Compare every output on every batch."""
        deployed = deployed or self.deployed
        session = deployed.session(level, provider or self.provider)
        names, labels = [v.name for v in session.get_inputs()], [v.name for v in session.get_outputs()]
        found: list[tuple[str, Difference]] = []
        tolerances: dict[str, float] = {}
        for observation in self.usable:
            name = observation.batch.name
            try:
                values = sessions.run(session, observation.batch.feeds(names))
            except ModelFileError as error:
                return Check("outputs", False, f"{name}: {error.problem}"), None
            wide, narrow, noise = (a.outputs for a in (observation.wide, observation.narrow, observation.noise))
            if len(values) != len(wide):
                return Check("outputs", False, f"{len(values)} outputs, the network has {len(wide)}"), None
            for place, label in enumerate(labels):
                if wide[place].shape != values[place].shape:
                    shapes = f"{label} is {list(values[place].shape)}, the network gives {list(wide[place].shape)}"
                    return Check("outputs", False, f"{name}: {shapes}"), None
                rows = (wide[place], narrow[place], values[place])
                usual = self._usual[place]
                difference = compare(*rows, self.rtol, self.atol, noise=noise[place], precision=self.precision, usual=usual)
                found.append((f"{label} on {name}", difference))
                tolerances[label] = min(tolerances.get(label, np.inf), difference.tolerance)
        self.loosest = max(tolerances.values(), default=0.0)
        return self._summed_up(found)

    def _summed_up(self, found: Sequence[tuple[str, Difference]]) -> tuple[Check, Errors | None]:
        if not found:
            return Check("outputs", False, "the network's own outputs are not finite on any input"), None
        where, worst = max(found, key=lambda entry: _excess(entry[1]))
        where = f"{where}, sample {worst.worst[0]}, element {worst.worst[1]}"
        # All of one comparison: an error of one batch beside the tolerance of another would mean nothing.
        errors = Errors(worst.torch_error, worst.onnx_error, worst.onnx_vs_torch, worst.tolerance, worst.cosine, where)
        detail = f"error {worst.onnx_error:.1e} of a tolerated {worst.tolerance:.1e} ({where}), {len(self.usable)} batches"
        skipped = [o.batch.name for o in self.seen if o not in self.usable]
        if skipped:
            detail += f"; the network itself is not finite in {self.precision} on: {', '.join(skipped)}"
        if worst.within and not _all_tell(self.usable):
            return Check("outputs", False, "an output of the network itself is not finite on any usual input"), errors
        return Check("outputs", worst.within, detail), errors


def _excess(difference: Difference) -> float:
    """How many times the tolerance; NaN, and a tolerance that is none, are beyond everything."""
    if np.isnan(difference.onnx_error) or not np.isfinite(difference.tolerance):
        return float("inf")
    return difference.onnx_error / difference.tolerance if difference.tolerance else float(difference.onnx_error > 0) * np.inf


def _alike(first: Sequence[NDArray[Any]], second: Sequence[NDArray[Any]]) -> bool:
    """Whether two answers to one question are the same, but for the order in which threads add up."""
    return len(first) == len(second) and all(
        a.shape == b.shape and np.allclose(a, b, STEADY, STEADY * finite_scale(a), equal_nan=True)
        for a, b in zip(first, second, strict=True)
    )


def _usual_outputs(observations: Sequence[Observation]) -> list[list[NDArray[Any]]]:
    """The outputs in float64, per batch without large values."""
    return [o.wide.outputs for o in observations if o.batch.name not in WITH_LARGE_VALUES]


def _all_tell(observations: Sequence[Observation]) -> bool:
    """Whether each output holds a finite number on some usual batch: one of NaN alone agrees with NaN and proves nothing."""
    told = _usual_outputs(observations)
    return bool(told) and all(any(map(has_numbers, arrays)) for arrays in zip(*told, strict=False))


def _usable(seen: Observation) -> bool:
    """Whether a file can be held against the network's answers to a batch.

    Infinities and NaN at the same places in float64 and in the file's precision, as behind a mask of -inf, are part of the
    answer; the file must have them too. Not usable: no finite value at all; infinities or NaN that are others in float64; and
    large values that overflow in the file's precision. Overflow on any other batch is no excuse: the tolerance is infinite then.
    """
    return seen.tells and not seen.undefined and not (seen.overflows and seen.batch.name in WITH_LARGE_VALUES)
