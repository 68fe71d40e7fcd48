"""One judgement at work: the file, the network, and what both answered to the same inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from deploykit.errors import InputError, ModelFileError, counted
from deploykit.onnx_file import sessions
from deploykit.verdict import evidence, moved_names
from deploykit.verdict.batches import Batch
from deploykit.verdict.comparison import SIGMOID_SCALE, TOLERANCE_FACTOR, Difference, compare, distance, floor_of
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.layers import LayerDifference, compare_layers, first_divergent
from deploykit.verdict.originals import Original
from deploykit.verdict.precision import Precision
from deploykit.verdict.reference import Observation
from deploykit.verdict.result import Check, Errors, Parting
from deploykit.verdict.scales import by_sample, finite_scale, of_samples

# The most that rounding may be magnified to, relative to the scale of a sample; what moves farther took another branch, as a number
# that is rounded at .5 does.
MOST_MAGNIFIED = 1e-2


@dataclass(frozen=True)
class OutputComparison:
    """The outputs of one file on every batch.

    `errors`: of the batch and output that came closest to the tolerance; `None` where the file could not be compared.
    `tolerance`: relative to the scale of the outputs; per output the smallest over the batches, of these the largest; 0 where the
    file could not be compared. `batch`: the one on which the file is farthest off. `told`: whether the network itself said
    something that a file could be held against.
    """

    check: Check
    errors: Errors | None = None
    tolerance: float = 0.0
    told: bool = True
    batch: Batch | None = None


class Case:
    """The network is asked once per batch; files at any optimization level and device are then held against its answers."""

    def __init__(
        self,
        deployed: Deployed,
        original: Original,
        batches: list[Batch],
        rtol: float | None,
        atol: float | None,
        device: str,
    ) -> None:
        self.deployed = deployed
        self.original = original
        self.rtol = rtol
        self.atol = atol
        self.device = device
        # Two files are no nearer to each other than the coarser one can be.
        self.precision: Precision = "fp16" if "fp16" in (deployed.precision, original.precision) else "fp32"
        self._floor = floor_of(self.precision, deployed.operators)
        self._shaken: dict[int, tuple[Observation, Observation | None]] = {}  # by identity of the first, which is kept for it
        self._layer_batches = {batches[min(1, len(batches) - 1)].name, "real samples"}
        self.observations = original.observe(batches, self._layer_batches)
        self.comparable = [o for o in self.observations if evidence.comparable(o)]
        # On the batch with most numbers in its answer: two draws of dropout over four numbers are alike one time in nine.
        largest = max(self.observations, key=lambda o: sum(array.size for array in o.float32.outputs))
        self.repeatable = evidence.repeatable(original.again(largest.batch), original.again(largest.batch))
        usual = evidence.usual_outputs(self.observations)
        self._typical_scales = [max(map(finite_scale, arrays)) for arrays in zip(*usual, strict=False)]  # one per output

    @property
    def tolerance_is_derived(self) -> bool:
        """From float64, and not given by the user."""
        return self.rtol is None and self.atol is None

    def layers(
        self, outputs_agree: bool, deployed: Deployed | None = None, level: sessions.Level = "all", device: str | None = None
    ) -> list[LayerDifference]:
        """The layers, compared on one batch of noise, and on real samples where there are some."""
        observed = [o for o in self.observations if o.batch.name in self._layer_batches]
        return self._layers(observed, outputs_agree, deployed or self.deployed, level, device or self.device)

    def layers_on_all(self) -> list[LayerDifference]:
        """The layers of a file whose outputs differ, compared on every comparable batch.

        A clipped activation, for one, is wrong on large values only.
        """
        batches = [o.batch for o in self.comparable]
        observed = self.original.observe(batches, {batch.name for batch in batches})
        return self._layers(observed, False, self.deployed, "all", self.device)

    def _layers(
        self, observed: Sequence[Observation], outputs_agree: bool, deployed: Deployed, level: sessions.Level, device: str
    ) -> list[LayerDifference]:
        naming = self.original.naming(deployed)
        compared = partial(compare_layers, deployed, naming, precision=self.precision, level=level, device=device)
        found = compared(observed)
        apart = {layer.batch for layer in found if _may_be_rounding(layer.difference)}
        if shaken := [again for o in observed if o.batch.name in apart and (again := self._again(o))]:
            excused = {(layer.path, layer.batch): layer for layer in compared(shaken) if _is_excused(layer.difference)}
            found = [layer if layer.difference.within else excused.get((layer.path, layer.batch), layer) for layer in found]
        return moved_names.marked(found, deployed.model.graph, naming.suspects, outputs_agree)

    def agrees(self, deployed: Deployed, level: sessions.Level, device: str) -> bool:
        """Whether outputs and layers are within tolerance at an optimization level, on a device."""
        try:
            agree = self.outputs(deployed, level, device).check.passed
            return agree and first_divergent(self.layers(agree, deployed, level, device)) is None
        except ModelFileError:
            return False

    def outputs(
        self,
        deployed: Deployed | None = None,
        level: sessions.Level = "all",
        device: str | None = None,
        observations: Sequence[Observation] | None = None,
        at_least_usual: bool = False,
    ) -> OutputComparison:
        """Every output, compared on every comparable batch, or on `observations` alone.

        `at_least_usual`: errors are relative to no less than the scale of the output on usual inputs.
        """
        deployed = deployed or self.deployed
        device = device or self.device
        is_own = deployed is self.deployed and level == "all"
        session = deployed.answering(device) if is_own else deployed.session(level, device)
        names, labels = [v.name for v in session.get_inputs()], [v.name for v in session.get_outputs()]
        if exchanged := _exchanged(labels, self.original.output_names):
            return OutputComparison(Check("outputs", False, exchanged))
        found: list[tuple[str, Difference, Batch]] = []
        tolerances: dict[str, float] = {}
        for o in self.comparable if observations is None else observations:
            name = o.batch.name
            try:
                values = sessions.run(session, o.batch.feeds(names))
            except ModelFileError as error:
                return OutputComparison(Check("outputs", False, f"{name}: {error.problem}"), batch=o.batch)
            expected = o.float64.outputs
            if len(values) != len(expected):
                return OutputComparison(Check("outputs", False, f"{len(values)} outputs, the network has {len(expected)}"))
            for place, label in enumerate(labels):
                if misfit := _misfit(label, values[place], expected[place]):
                    return OutputComparison(Check("outputs", False, f"{name}: {misfit}"), batch=o.batch)
                least = self._typical_scales[place] if at_least_usual else 0.0
                least = max(least, SIGMOID_SCALE) if label in deployed.sigmoids else least
                difference = self._difference(o, place, values[place], least)
                found.append((f"{label} on {name}", difference, o.batch))
                tolerances[label] = min(tolerances.get(label, np.inf), difference.tolerance)
        return self._summed_up(found, max(tolerances.values(), default=0.0))

    def _difference(self, o: Observation, place: int, value: NDArray[Any], least_scale: float) -> Difference:
        """One output compared; once more with the observation shaken where the difference may be magnified rounding."""
        found = self._compared(o, place, value, least_scale)
        again = self._again(o) if self.tolerance_is_derived and _may_be_rounding(found) else None
        excused = found if again is None else self._compared(again, place, value, least_scale)
        return excused if _is_excused(excused) else found

    def _compared(self, o: Observation, place: int, value: NDArray[Any], least_scale: float) -> Difference:
        float64, float32, reference = (answers.outputs[place] for answers in (o.float64, o.float32, o.tolerance_reference))
        return compare(
            float64,
            float32,
            value,
            self.rtol,
            self.atol,
            tolerance_reference=reference,
            precision=self.precision,
            floor=self._floor,
            typical_scale=self._typical_scales[place],
            least_scale=least_scale,
        )

    def _again(self, o: Observation) -> Observation | None:
        """An observation shaken, see `Reference.shaken`; `None` where that excuses nothing, or the network refuses."""
        if self.precision != "fp32":
            return None
        if id(o) not in self._shaken:
            try:
                self._shaken[id(o)] = o, self.original.shaken(o)
            except InputError:
                self._shaken[id(o)] = o, None
        return self._shaken[id(o)][1]

    def differs_on(self, batch: Batch, at_least_usual: bool = False) -> Parting | None:
        """How the file's answers differ on one more batch, if they do. Raises `InputError` where the network refuses.

        Answers that are nearer than the narrowest tolerance to float32 need no float64. `at_least_usual`: see `outputs`.
        """
        expected = self.original.again(batch)
        if any(map(_has_nan, expected)):
            raise InputError(f"the network answers with NaN on {batch.name}")
        try:
            values = sessions.run(self._session, batch.feeds([entry.name for entry in self._session.get_inputs()]))
        except ModelFileError as error:
            return Parting(error.problem)
        if len(values) == len(expected) and all(map(self._near, expected, values)):
            return None
        compared = self.outputs(observations=self.original.observe([batch], ()), at_least_usual=at_least_usual)
        if compared.errors is not None and not np.isfinite(compared.errors.tolerance):
            raise InputError(f"the network itself overflows on {batch.name}")
        return None if compared.check.passed else Parting(compared.check.detail, any(map(_has_nan, values)))

    def differs_steadily_on(self, batch: Batch) -> Parting | None:
        """As `differs_on`, for inputs far from usual; raises `InputError` also where rounding alone may move the answers as far.

        That is where they jump with the last bit of the inputs, or follow it by more than `MOST_MAGNIFIED`. What is lost of answers
        that are far smaller than usual counts by the usual ones: exporters write log1p(x) as log(1 + x).
        """
        found = self.differs_on(batch, at_least_usual=True)
        if found is None:
            return None
        shaken = self.original.shaken(self.original.observe([batch], ())[0])
        if shaken is None or not _is_steady(shaken):
            raise InputError(f"rounding alone moves the network's answers on {batch.name}")
        return found

    @property
    def _session(self) -> onnxruntime.InferenceSession:
        return self.deployed.answering(self.device)

    def witness(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """The inputs of a batch by name, and what network and file answer to them, as far as they do."""
        names, labels = ([value.name for value in values] for values in (self._session.get_inputs(), self._session.get_outputs()))
        found: dict[str, NDArray[Any]] = batch.feeds(names)
        found |= {f"network/{label}": array for label, array in zip(labels, self.original.again(batch), strict=False)}
        with contextlib.suppress(ModelFileError):
            values = sessions.run(self._session, batch.feeds(names))
            found |= {f"file/{label}": array for label, array in zip(labels, values, strict=True)}
        return found

    def _near(self, expected: NDArray[Any], found: NDArray[Any]) -> bool:
        if _misfit("", found, expected):
            return False
        if not expected.size:
            return True
        ref, ort = (by_sample(array).astype(np.float64) for array in (expected, found))
        scale = of_samples(ref.reshape(1, -1))
        apart = distance(ort, ref) / np.maximum(scale.of(ref), np.finfo(np.float64).tiny)
        return bool(np.max(apart) <= self._floor)

    def _summed_up(self, found: Sequence[tuple[str, Difference, Batch]], tolerance: float) -> OutputComparison:
        if not found:
            answer = "the network's own outputs are not finite on any input; give examples of its inputs"
            return OutputComparison(Check("outputs", False, answer), told=False)
        where, worst, batch = max(found, key=lambda entry: _excess(entry[1]))
        where = f"{where}, sample {worst.worst[0]}, element {worst.worst[1]}"
        # All of one comparison: an error of one batch beside the tolerance of another would mean nothing.
        errors = Errors(worst.torch_error, worst.onnx_error, worst.onnx_vs_torch, worst.tolerance, worst.cosine, where)
        detail = (
            f"error {worst.onnx_error:.1e} of a tolerated {worst.tolerance:.1e} ({where}), {counted(len(self.comparable), 'batch')}"
        )
        left_out = [o.batch.name for o in self.observations if not evidence.comparable(o)]
        if left_out:
            detail += f"; the network itself is not finite in {self.precision} on: {', '.join(left_out)}"
        if worst.within and not evidence.all_outputs_finite_somewhere(self.comparable):
            answer = "an output of the network itself is not finite on any usual input"
            return OutputComparison(Check("outputs", False, answer), errors, tolerance, told=False)
        return OutputComparison(Check("outputs", worst.within, detail), errors, tolerance, batch=batch)


def _is_steady(shaken: Observation) -> bool:
    """Whether no output of the network moves by more than rounding may be magnified to."""
    pairs = zip(shaken.float64.outputs, shaken.tolerance_reference.outputs, strict=True)
    return all(compare(truth, own, own).torch_error <= MOST_MAGNIFIED / TOLERANCE_FACTOR for truth, own in pairs)


def _may_be_rounding(difference: Difference) -> bool:
    """Whether a difference is beyond its tolerance, and yet no more than a network may magnify rounding to."""
    return not difference.within and difference.onnx_error <= MOST_MAGNIFIED


def _is_excused(difference: Difference) -> bool:
    """Whether a difference is within what a shaken network shows, and that little enough to be rounding, not another branch."""
    return difference.within and difference.tolerance <= MOST_MAGNIFIED


def _exchanged(labels: Sequence[str], own: Sequence[str]) -> str:
    """Where the file has the network's own names of outputs in another order, empty where it has not.

    An application asks for outputs by name or by place, and would get another one.
    """
    if set(labels) != set(own) or list(labels) == list(own):
        return ""
    place = next(place for place, (label, name) in enumerate(zip(labels, own, strict=True)) if label != name)
    return f"output {place} is called {labels[place]!r}, the network gives {own[place]!r} there"


def _misfit(label: str, found: NDArray[Any], expected: NDArray[Any]) -> str:
    """Why two outputs cannot be compared number by number, empty where they can.

    How wide a number is, is no difference in kind: the file may hold int32 for int64, float16 for float32.
    """
    if expected.shape != found.shape:
        return f"{label} is {list(found.shape)}, the network gives {list(expected.shape)}"
    if _kind(expected) != _kind(found):
        return f"{label} holds {found.dtype}, the network gives {expected.dtype}"
    return ""


def _kind(array: NDArray[Any]) -> str:
    """Whether an output holds whole numbers, truth values or others."""
    return {"i": "whole", "u": "whole", "b": "truth"}.get(array.dtype.kind, "number")


def _has_nan(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def _excess(difference: Difference) -> float:
    """Error / tolerance; infinite for NaN and for a tolerance that is infinite."""
    if np.isnan(difference.onnx_error) or not np.isfinite(difference.tolerance):
        return float("inf")
    return difference.onnx_error / difference.tolerance if difference.tolerance else float(difference.onnx_error > 0) * np.inf
