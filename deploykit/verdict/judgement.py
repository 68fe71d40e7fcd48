"""From evidence to a word: the checks in their order, each with its answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from deploykit import onnx_file, ort
from deploykit.errors import ContractError, ModelFileError
from deploykit.target import Network
from deploykit.verdict import blame, legal
from deploykit.verdict._types import Check, Decisions, Errors, Verdict
from deploykit.verdict.comparison import Difference, compare
from deploykit.verdict.decisions import decide
from deploykit.verdict.folding import culprit
from deploykit.verdict.inputs import BATCHES, Batch, absent_dataset, batches_for, labelled_split, photographs
from deploykit.verdict.layers import LayerDifference, compare_layers, first_divergent
from deploykit.verdict.reference import Reference
from deploykit.verdict.weights import compare_weights

LEAST_AGREEMENT = 0.99


def judge(
    model: onnx.ModelProto,
    network: Network,
    *,
    file: str = "",
    steps: Sequence[tuple[str, onnx.ModelProto]] = (),
    data: str | None = None,
    sizes: Sequence[int] = BATCHES,
    rtol: float | None = None,
    atol: float | None = None,
) -> Verdict:
    """Ask everything of the file and give the verdict. `steps`: what made the model, one after the other, for the blame."""
    found = legal.checks(model)
    if not all(check.passed for check in found):
        return Verdict(file, network.target, "invalid", tuple(found), blamed_step=steps[0][0] if steps else None)
    labelled = labelled_split(network, data) if network.trained or data else None
    split = labelled[0] if labelled else (photographs(network) if network.trained else None)
    case = Case(network, batches_for(network, split, sizes), Reference(network), rtol, atol)
    found.append(_inputs(model, network))
    if not found[-1].passed:
        return Verdict(file, network.target, "different", tuple(found), blamed_step="export")
    outputs, errors = case.outputs(model, "all")
    layers = compare_layers(model, case.reference, case.layer_batches())
    if not outputs.passed and first_divergent(layers) is None:
        # A fault that only some inputs wake, such as a clipped activation: look at the layers on all of them.
        layers = compare_layers(model, case.reference, [batch for batch, _, _ in case.answers])
    weights, wrong_weight = compare_weights(model, network.module)
    found += [outputs, _layers(layers), weights, _contract(model, network), _evidence(errors, layers, case)]
    decisions = None
    if labelled and labelled[1]:
        decisions = decide(ort.open_session(onnx_file.to_bytes(model)), network, labelled[0])
        found.append(_decisions(decisions))
    same = all(check.passed for check in found)
    first = first_divergent(layers)
    layer = culprit(model, network.module, first.path) if first else wrong_weight
    return Verdict(
        file=file,
        against=network.target,
        verdict="same" if same else "different",
        checks=tuple(found),
        errors=errors,
        decisions=decisions,
        layers_compared=len({layer.path for layer in layers}),
        blamed_step=None if same else blame.blamed_step(steps or [("export", model)], case.agrees),
        first_divergent_layer=None if same else layer,
        notes=tuple(filter(None, [case.reference.note, legal.traces(model), None if labelled else absent_dataset(network)])),
    )


class Case:
    """What one judgement works with: the network, its inputs, its reference answers."""

    def __init__(
        self, network: Network, batches: list[Batch], reference: Reference, rtol: float | None, atol: float | None
    ) -> None:
        self.network = network
        self.batches = batches
        self.reference = reference
        self.rtol = rtol
        self.atol = atol
        answers = [reference.outputs(batch.tensors) for batch in batches]
        usable = [all(np.isfinite(a).all() for a in wide) for wide, _ in answers]
        self.skipped = [batch.name for batch, ok in zip(batches, usable, strict=True) if not ok]
        self.answers = [(b, *a) for b, a, ok in zip(batches, answers, usable, strict=True) if ok]

    def layer_batches(self) -> list[Batch]:
        """The layers are compared on noise, and on real samples where there are some."""
        real = [batch for batch in self.batches if batch.name == "real samples"]
        return [self.batches[min(1, len(self.batches) - 1)], *real]

    def agrees(self, model: onnx.ModelProto, level: ort.Level) -> bool:
        """Whether outputs and layers are within tolerance at an optimization level."""
        try:
            check, _ = self.outputs(model, level)
            return check.passed and first_divergent(compare_layers(model, self.reference, self.layer_batches(), level)) is None
        except ModelFileError:
            return False

    def outputs(self, model: onnx.ModelProto, level: ort.Level) -> tuple[Check, Errors | None]:
        """Compare every output on every batch."""
        session = ort.open_session(onnx_file.to_bytes(model), level)
        names = [value.name for value in session.get_inputs()]
        labels = [value.name for value in session.get_outputs()]
        worst: tuple[float, str, Difference] | None = None
        biggest = {"torch": 0.0, "onnx": 0.0, "between": 0.0}
        for batch, wide, narrow in self.answers:
            try:
                values = ort.run(session, batch.feeds(names))
            except ModelFileError as error:
                return Check("outputs", False, f"{batch.name}: {error.problem}"), None
            if len(values) != len(wide):
                return Check("outputs", False, f"{len(values)} outputs, the network has {len(wide)}"), None
            for label, reference, torch32, value in zip(labels, wide, narrow, values, strict=True):
                if reference.shape != value.shape:
                    shapes = f"{label} is {list(value.shape)}, the network gives {list(reference.shape)}"
                    return Check("outputs", False, f"{batch.name}: {shapes}"), None
                difference = compare(reference, torch32, value, self.rtol, self.atol)
                biggest["torch"] = max(biggest["torch"], difference.torch_error)
                biggest["onnx"] = max(biggest["onnx"], difference.onnx_error)
                biggest["between"] = max(biggest["between"], difference.onnx_vs_torch)
                ratio = float("inf") if np.isnan(difference.onnx_error) else difference.onnx_error / difference.tolerance
                where = f"{label} on {batch.name}, sample {difference.worst[0]}, element {difference.worst[1]}"
                if worst is None or ratio > worst[0]:
                    worst = (ratio, where, difference)
        if worst is None:
            return Check("outputs", False, "the network's own outputs are not finite on any input"), None
        difference = worst[2]
        errors = Errors(biggest["torch"], biggest["onnx"], biggest["between"], difference.tolerance, difference.cosine, worst[1])
        found = f"error {difference.onnx_error:.1e} of a tolerated {difference.tolerance:.1e}"
        detail = f"{found} ({worst[1]}), {len(self.answers)} batches"
        if self.skipped:
            detail += f"; PyTorch itself is not finite on: {', '.join(self.skipped)}"
        return Check("outputs", difference.within, detail), errors


def _inputs(model: onnx.ModelProto, network: Network) -> Check:
    stored = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in stored]
    if len(names) != len(network.inputs):
        return Check("inputs", False, f"the file takes {len(names)} inputs, the network {len(network.inputs)}")
    return Check("inputs", True, ", ".join(names))


def _contract(model: onnx.ModelProto, network: Network) -> Check:
    """An application prepares its inputs by the contract: wrong numbers there are as wrong as wrong weights."""
    try:
        contract = onnx_file.get_contract(model)
    except ContractError as error:
        return Check("contract", False, error.problem)
    if contract is None:
        return Check("contract", True, "the file has none; an application must know the preprocessing by itself")
    if contract.input != network.rules:
        ours, theirs = vars(network.rules), vars(contract.input)
        apart = next(key for key in ours if ours[key] != theirs.get(key))
        return Check("contract", False, f"the file says {apart} {theirs.get(apart)}, the network was made for {ours[apart]}")
    if network.output.labels is not None and contract.output.labels != network.output.labels:
        return Check("contract", False, "the file's labels are not those of the network")
    return Check("contract", True, "preprocessing and labels are those of the network")


def _layers(layers: Sequence[LayerDifference]) -> Check:
    first = first_divergent(layers)
    count = len({layer.path for layer in layers})
    if not count:
        return Check("layers", True, "no value of the file has the name of a module; the outputs alone were compared")
    if first is None:
        largest = max((layer.difference.onnx_error for layer in layers), default=0.0)
        return Check("layers", True, f"{count} layers compared, largest error {largest:.1e}")
    difference = first.difference
    detail = f"{first.path} differs by {difference.onnx_error:.1e} of a tolerated {difference.tolerance:.1e} ({first.batch})"
    return Check("layers", False, detail)


def _evidence(errors: Errors | None, layers: Sequence[LayerDifference], case: Case) -> Check:
    """Outputs that are all zero agree with anything; then only the layers can speak."""
    empty = all(not np.any(array) for _, wide, _ in case.answers for array in wide)
    telling = sum(not layer.difference.empty for layer in layers)
    if errors is None or not empty:
        return Check("evidence", True, "the outputs tell inputs apart")
    if telling:
        return Check("evidence", True, f"the outputs are all zero and prove nothing; {telling} layers do")
    return Check("evidence", False, "the outputs are all zero and no layer can be compared: nothing is proven")


def _decisions(decisions: Decisions) -> Check:
    detail = (
        f"{decisions.agreement:.1%} alike on {decisions.samples} test samples; "
        f"accuracy {decisions.torch_accuracy:.1%} in PyTorch, {decisions.onnx_accuracy:.1%} in onnxruntime"
    )
    return Check("decisions", decisions.agreement >= LEAST_AGREEMENT, detail)
