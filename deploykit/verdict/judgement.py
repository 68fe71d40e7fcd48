"""The verdict on a model: every check in its order, each with its answer, and the word that they give together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from deploykit import onnx_file
from deploykit.datasets import Split
from deploykit.errors import ContractError
from deploykit.network.target import Network
from deploykit.onnx_file import sessions
from deploykit.runtime.contract import ArrayInput, ImageInput
from deploykit.verdict import blame, evidence, legal, preprocessing
from deploykit.verdict.case import Case, OutputComparison
from deploykit.verdict.decisions import decide
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.inputs import (
    BATCHES,
    Batch,
    absent_dataset,
    batches_for,
    batches_of_one_size,
    batches_of_other_sizes,
    labelled_split,
    photographs,
)
from deploykit.verdict.layers import LayerDifference, first_divergent
from deploykit.verdict.originals import Original, TorchOriginal
from deploykit.verdict.result import Check, Decisions, Verdict

MIN_TOP1_AGREEMENT = 0.99  # share of the labelled samples on which file and network decide alike, 0..1


def judge(
    model: onnx.ModelProto,
    network: Network | Original,
    *,
    file: str = "",
    folder: Path | None = None,
    steps: Sequence[tuple[str, onnx.ModelProto]] = (),
    data: str | None = None,
    sizes: Sequence[int] = BATCHES,
    rtol: float | None = None,
    atol: float | None = None,
    device: str = "cpu",
) -> Verdict:
    """Ask everything of the file and give the verdict.

    `network`: what the file is meant to be. `folder`: where weights lie that are not in `model`. `steps`: what made the model,
    one after the other, for the blame. `device`: where the file is run; raises `DeviceUnavailable` if that cannot be.
    """
    deployed = Deployed(model, folder)
    original = TorchOriginal(network, deployed.precision) if isinstance(network, Network) else network
    labelled = labelled_split(original, data) if original.trained or data else None
    ask = _Questions(file, steps, labelled, sizes, rtol, atol, sessions.working_device(device))
    apart = preprocessing.taken_apart(deployed)
    if apart is None:
        return _judged(deployed, original, ask)
    parts, check = apart
    if parts is None:
        return Verdict(file, original.name, "invalid", (check,), blamed_step="preprocessing")
    core = _judged(Deployed(parts.core, folder), original, ask)
    images = labelled[0] if labelled else photographs(original)
    return preprocessing.completed(core, deployed, parts, original, images)


@dataclass(frozen=True)
class _Questions:
    """How to ask. `labelled`: test samples, and whether their labels mean classes."""

    file: str
    steps: Sequence[tuple[str, onnx.ModelProto]]
    labelled: tuple[Split, bool] | None
    sizes: Sequence[int]
    rtol: float | None
    atol: float | None
    provider: str


def _judged(deployed: Deployed, original: Original, ask: _Questions) -> Verdict:
    """The verdict on a file that takes what the network takes.

    1. Is the file legal, and does it load? Else it is "invalid", and nothing more is asked.
    2. Does it take as many inputs as the network? Else it is "different", and nothing more is asked.
    3. Both get the same batches; every output is compared on each.
    4. Every layer's own output is compared on some; on all where the outputs differ and no layer was seen to.
    5. The stored weights, the contract, and whether all this proves anything.
    6. On labelled samples, whether both decide alike.
    7. "same" if every check passed; else the step is looked for that broke the file, and the first module that differs.
    """
    found = legal.checks(deployed)
    if not all(check.passed for check in found):
        return Verdict(ask.file, original.name, "invalid", tuple(found), blamed_step=_first_illegal(ask, deployed))
    found.append(_inputs(deployed, original))
    if not found[-1].passed:
        return Verdict(ask.file, original.name, "different", tuple(found), blamed_step="export")
    batches, untried = _batches(deployed, original, ask.labelled[0] if ask.labelled else None, ask.sizes)
    case = Case(deployed, original, batches, ask.rtol, ask.atol, ask.provider)
    outputs = case.outputs()
    layers = case.layers(outputs.check.passed)
    if not outputs.check.passed and first_divergent(layers) is None:
        layers = case.layers_on_all()
    right = {layer.path for layer in layers} - {layer.path for layer in layers if not layer.within}
    moved = {layer.path for layer in layers if layer.moved}
    layers = [layer for layer in layers if not layer.moved]
    weights, wrong_weight = original.weights(deployed, right - moved, moved)
    found += [outputs.check, _layers(layers), weights, _contract(deployed, original), _evidence(outputs, layers, case)]
    decisions = None
    if ask.labelled and ask.labelled[1] and original.rules is not None and len(original.inputs) == 1:
        decisions = decide(deployed, ask.provider, original.logits, original.rules, ask.labelled[0])
        found.append(_decisions(decisions))
    same = all(check.passed for check in found)
    first = first_divergent(layers)
    layer = original.culprit(deployed, first.path) if first else wrong_weight
    made_by = [(name, Deployed(part, deployed.folder)) for name, part in ask.steps] or [("export", deployed)]
    remarks = [original.note, untried, legal.traces(deployed.model), None if ask.labelled else absent_dataset(original)]
    return Verdict(
        file=ask.file,
        against=original.name,
        verdict="same" if same else "different",
        checks=tuple(found),
        errors=outputs.errors,
        decisions=decisions,
        layers_compared=len({layer.path for layer in layers}),
        blamed_step=None if same else blame.blamed_step(made_by, case.agrees, ask.provider),
        first_divergent_layer=None if same else layer,
        notes=tuple(filter(None, remarks)),
    )


def _first_illegal(ask: _Questions, deployed: Deployed) -> str | None:
    """The step that made the file illegal."""
    for name, model in ask.steps:
        if not all(check.passed for check in legal.checks(Deployed(model, deployed.folder))):
            return name
    return None


def _batches(deployed: Deployed, original: Original, split: Split | None, sizes: Sequence[int]) -> tuple[list[Batch], str]:
    """A file that takes one batch size is at fault where the network takes any, unless that size alone was asked for.

    With a remark where the file leaves an axis open for which no other size could be tried.
    """
    if split is None and original.trained:
        split = photographs(original)
    fixed = deployed.fixed_batch or original.fixed_batch
    if fixed is not None and (not isinstance(original, TorchOriginal) or tuple(sizes) == (fixed,)):
        return batches_of_one_size(original, fixed), ""
    found = batches_for(original, split, sizes)
    others = batches_of_other_sizes(original, deployed.inputs)
    taken = next((batch for batch in others if _takes(original, batch)), None)
    if taken is not None:
        return [*found, taken], ""
    return found, "the file leaves sizes open of which the network takes no other: they were not tried" if others else ""


def _takes(original: Original, batch: Batch) -> bool:
    """Whether the network itself takes such inputs: a graph may leave an axis open that the network does not."""
    try:
        original.observe([batch], ())
    except Exception:  # whatever a network raises of a size that it cannot take
        return False
    return True


def _inputs(deployed: Deployed, original: Original) -> Check:
    names = [value.name for value in deployed.inputs]
    if len(names) != len(original.inputs):
        return Check("inputs", False, f"the file takes {len(names)} inputs, the network {len(original.inputs)}")
    return Check("inputs", True, ", ".join(names))


def _contract(deployed: Deployed, original: Original) -> Check:
    """An application prepares its inputs by the contract: wrong numbers there are as wrong as wrong weights."""
    try:
        contract = onnx_file.get_contract(deployed.model)
    except ContractError as error:
        return Check("contract", False, error.problem)
    if contract is None:
        return Check("contract", True, "the file has none; an application must know the preprocessing by itself")
    if original.rules is None:
        return Check("contract", True, "the file has one, the other has none to compare it with")
    if not _agree(contract.input, original.rules):
        ours, theirs = vars(original.rules), vars(contract.input)
        apart = next(key for key in ours if ours[key] != theirs.get(key))
        return Check("contract", False, f"the file says {apart} {theirs.get(apart)}, the network was made for {ours[apart]}")
    labels = original.output.labels if original.output else None
    if labels is not None and contract.output.labels != labels:
        return Check("contract", False, "the file's labels are not those of the network")
    return Check("contract", True, "preprocessing and labels are those of the network")


def _agree(stated: ImageInput | ArrayInput, wanted: ImageInput | ArrayInput) -> bool:
    """Whether samples are prepared alike; a size that one of them leaves open is no difference."""
    if not (isinstance(stated, ArrayInput) and isinstance(wanted, ArrayInput)):
        return stated == wanted
    sizes = zip(stated.shape, wanted.shape, strict=False)
    fits = len(stated.shape) == len(wanted.shape) and all(None in (a, b) or a == b for a, b in sizes)
    return fits and stated.dtype == wanted.dtype


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


def _evidence(outputs: OutputComparison, layers: Sequence[LayerDifference], case: Case) -> Check:
    return evidence.check(
        case.comparable if outputs.errors else (),
        layers,
        is_repeatable=case.repeatable,
        tolerance=outputs.tolerance if case.tolerance_is_derived else None,
        precision=case.precision,
    )


def _decisions(decisions: Decisions) -> Check:
    detail = (
        f"{decisions.agreement:.1%} alike on {decisions.samples} test samples; "
        f"accuracy {decisions.torch_accuracy:.1%} in PyTorch, {decisions.onnx_accuracy:.1%} in onnxruntime"
    )
    return Check("decisions", decisions.agreement >= MIN_TOP1_AGREEMENT, detail)
