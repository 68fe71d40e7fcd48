"""One judgement at work: the file, the network, and what both answered to the same inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from deploykit.errors import InputError, ModelFileError
from deploykit.onnx_file import sessions
from deploykit.verdict import evidence, moved_names
from deploykit.verdict.batches import WITH_LARGE_VALUES, Batch
from deploykit.verdict.channels import Channels
from deploykit.verdict.comparison import SIGMOID_SCALE, Difference, compare, distance, floor_of
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.layers import LayerDifference, compare_layers, first_divergent
from deploykit.verdict.magnified import Shaken, is_excused, is_steady, may_be_rounding
from deploykit.verdict.originals import Original
from deploykit.verdict.outputs import OutputComparison, by_channel, exchanged, incomparable, misfit, summed_up
from deploykit.verdict.precision import Precision
from deploykit.verdict.reference import Observation
from deploykit.verdict.result import Parting
from deploykit.verdict.scales import by_sample, finite_scale, of_samples


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
        self._shaken = Shaken(original, self.precision)
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
        apart = {layer.batch for layer in found if may_be_rounding(layer.difference)}
        if shaken := [again for o in observed if o.batch.name in apart and (again := self._shaken.of(o))]:
            excused = {(layer.path, layer.batch): layer for layer in compared(shaken) if is_excused(layer.difference)}
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
        if named := exchanged(labels, self.original.output_names):
            return incomparable(named)
        found: list[tuple[str, Difference, Batch]] = []
        tolerances: dict[str, float] = {}
        channels = [Channels() for _ in labels]
        for o in self.comparable if observations is None else observations:
            name = o.batch.name
            try:
                values = sessions.run(session, o.batch.feeds(names))
            except ModelFileError as error:
                return incomparable(f"{name}: {error.problem}", o.batch)
            expected = o.float64.outputs
            if len(values) != len(expected):
                return incomparable(f"{len(values)} outputs, the network has {len(expected)}")
            for place, label in enumerate(labels):
                if unlike := misfit(label, values[place], expected[place]):
                    return incomparable(f"{name}: {unlike}", o.batch)
                least = self._typical_scales[place] if at_least_usual else 0.0
                least = max(least, SIGMOID_SCALE) if label in deployed.sigmoids else least
                difference = self._difference(o, place, values[place], least)
                found.append((f"{label} on {name}", difference, o.batch))
                tolerances[label] = min(tolerances.get(label, np.inf), difference.tolerance)
                if name not in WITH_LARGE_VALUES:
                    channels[place].add(expected[place], o.tolerance_reference.outputs[place], values[place])
        result = summed_up(found, max(tolerances.values(), default=0.0), self.observations, self.precision)
        # One batch alone has too few samples to tell the scale of a channel by.
        is_told = observations is None and self.tolerance_is_derived and self.precision == "fp32"
        return by_channel(result, dict(zip(labels, channels, strict=True))) if is_told else result

    def _difference(self, o: Observation, place: int, value: NDArray[Any], least_scale: float) -> Difference:
        """One output compared; once more with the observation shaken where the difference may be magnified rounding."""
        found = self._compared(o, place, value, least_scale)
        again = self._shaken.of(o) if self.tolerance_is_derived and may_be_rounding(found) else None
        excused = found if again is None else self._compared(again, place, value, least_scale)
        return excused if is_excused(excused) else found

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

        That is where they jump with the last bit of the inputs, or follow it by more than rounding is magnified, see `magnified`.
        What is lost of answers that are far smaller than usual counts by the usual ones: exporters write log1p(x) as log(1 + x).
        """
        found = self.differs_on(batch, at_least_usual=True)
        if found is None:
            return None
        shaken = self.original.shaken(self.original.observe([batch], ())[0])
        if shaken is None or not is_steady(shaken):
            raise InputError(f"rounding alone moves the network's answers on {batch.name}")
        return found

    def differs_attending_on(self, batch: Batch) -> Parting | None:
        """As `differs_on`, for masks; raises `InputError` also where one hides everything from some row of an attention."""
        found = self.differs_on(batch)
        if found is not None and self.original.attends_to_nothing(batch):
            raise InputError(f"some attention of the network has nothing to attend to on {batch.name}")
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
        if misfit("", found, expected):
            return False
        if not expected.size:
            return True
        ref, ort = (by_sample(array).astype(np.float64) for array in (expected, found))
        scale = of_samples(ref.reshape(1, -1))
        apart = distance(ort, ref) / np.maximum(scale.of(ref), np.finfo(np.float64).tiny)
        return bool(np.max(apart) <= self._floor)


def _has_nan(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())
