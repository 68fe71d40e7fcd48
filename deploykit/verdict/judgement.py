"""The verdict on a model: every check in its order, each with its answer, and the word that they give together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch

from deploykit.datasets import Split
from deploykit.errors import InputError, counted
from deploykit.network.capturing import Guard
from deploykit.network.target import Network
from deploykit.onnx_file import sessions
from deploykit.verdict import (
    batches,
    blame,
    contracts,
    crossings,
    evidence,
    hints,
    legal,
    margins,
    open_sizes,
    preprocessing,
    rare_values,
    uniform,
    value_limits,
)
from deploykit.verdict.batches import BATCHES, Batch
from deploykit.verdict.case import Case
from deploykit.verdict.decisions import decide, kind_of
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.inputs import absent_dataset, fixed_batch, labelled_split, photographs
from deploykit.verdict.layers import LayerDifference, first_divergent
from deploykit.verdict.originals import Original, TorchOriginal
from deploykit.verdict.outputs import OutputComparison
from deploykit.verdict.result import Check, Decisions, Verdict, Word

MIN_TOP1_AGREEMENT = 0.99  # share of the labelled samples (labels, pixels) on which file and network decide alike, 0..1


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
    guards: Sequence[Guard] | None = None,
) -> Verdict:
    """Ask everything of the file and give the verdict.

    `network`: what the file is meant to be. `folder`: where weights lie that are not in `model`. `steps`: what made the model,
    one after the other, for the blame. `guards`: of the network on open sizes, where they are known already. `device`: where the
    file is run; raises `DeviceUnavailable` if that cannot be.
    """
    deployed = Deployed(model, folder)
    original = TorchOriginal(network, deployed.precision) if isinstance(network, Network) else network
    labelled = labelled_split(original, data) if original.trained or data else None
    ask = _Questions(file, steps, labelled, sizes, rtol, atol, sessions.working_device(device), guards, data)
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
    """How to ask. `labelled`: test samples, and whether their labels mean classes. `data`: what they were asked for as."""

    file: str
    steps: Sequence[tuple[str, onnx.ModelProto]]
    labelled: tuple[Split, bool] | None
    sizes: Sequence[int]
    rtol: float | None
    atol: float | None
    device: str
    guards: Sequence[Guard] | None
    data: str | None


def _judged(deployed: Deployed, original: Original, ask: _Questions) -> Verdict:
    """The verdict on a file that takes what the network takes.

    1. Is the file legal, and does it load? Else it is "invalid", and nothing more is asked.
    2. Does it take as many inputs as the network? Else it is "different", and nothing more is asked.
    3. Both get the same batches; every output is compared on each.
    4. Every layer's own output is compared on some; on all where the outputs differ and no layer was seen to.
    5. Other sizes of open axes, uniform masks, rare values, thresholds, the stored weights, the contract, and whether all this
       proves anything.
    6. On labelled samples, whether both decide alike.
    7. "same" if every check passed; else the step is looked for that broke the file, and the first module that differs.
    """
    found = legal.checks(deployed)
    if not all(check.passed for check in found):
        module = original.network.module if isinstance(original, TorchOriginal) else None
        told = tuple(hints.explained(check, module) for check in found)
        return Verdict(ask.file, original.name, "invalid", told, blamed_step=_first_illegal(ask, deployed))
    found.append(_inputs(deployed, original))
    if not found[-1].passed:
        return Verdict(ask.file, original.name, "different", tuple(found), blamed_step="export")
    planned, made_up = _batches(deployed, original, ask.labelled[0] if ask.labelled else None, ask.sizes)
    case, refused = _case(deployed, original, planned, ask)
    outputs = case.outputs()
    layers = case.layers(outputs.check.passed)
    if not outputs.check.passed and first_divergent(layers) is None:
        layers = case.layers_on_all()
    right = {layer.path for layer in layers} - {layer.path for layer in layers if not layer.within}
    moved = {layer.path for layer in layers if layer.moved}
    layers = [layer for layer in layers if not layer.moved]
    weights, wrong_weight = original.weights(deployed, right - moved, moved)
    sized, ranges, wrong_batch = _sizes(deployed, original, case, ask) if outputs.check.passed else (None, {}, outputs.batch)
    asked, odd_batch = _odd_values(original, case) if outputs.check.passed and case.repeatable else ([], None)
    extra = [*filter(None, [sized]), *asked]
    found += [outputs.check, _layers(layers), weights, *extra, contracts.check(deployed, original)]
    found.append(_evidence(outputs, layers, case))
    decisions = None
    kind = kind_of(original.output, *ask.labelled) if ask.labelled and len(original.inputs) == 1 else None
    if ask.labelled and kind is not None and original.rules is not None:
        decisions = decide(deployed, ask.device, original.logits, original.rules, ask.labelled[0], kind, original.output)
        found.append(_decisions(decisions))
    word = _word(found, outputs)
    witness = wrong_batch or odd_batch
    first = first_divergent(layers)
    layer = original.culprit(deployed, first.path) if first else wrong_weight
    made_by = [(name, Deployed(part, deployed.folder)) for name, part in ask.steps] or [("export", deployed)]
    absent = _not_compared(ask, original) if decisions is None else None
    remarks = [
        *original.weights_notes,
        original.note,
        made_up,
        refused,
        legal.traces(deployed.model),
        legal.own_operators(deployed.model),
        absent,
    ]
    return Verdict(
        file=ask.file,
        against=original.name,
        verdict=word,
        checks=tuple(found),
        errors=outputs.errors,
        decisions=decisions,
        layers_compared=len({layer.path for layer in layers}),
        blamed_step=_blamed(made_by, case, extra, ask) if word == "different" else None,
        first_divergent_layer=layer if word == "different" else None,
        notes=tuple(filter(None, remarks)),
        sizes=ranges,
        witness=case.witness(witness) if word == "different" and witness is not None else None,
    )


def _not_compared(ask: _Questions, original: Original) -> str | None:
    """Why decisions were not compared, where somebody may have thought that they are."""
    if ask.data is None:
        return None if ask.labelled else absent_dataset(original)
    return f"{original.name} does not say that it tells what the labels of {ask.data} are, so decisions were not compared"


def _word(checks: Sequence[Check], outputs: OutputComparison) -> Word:
    """The word for the checks: different where one saw a difference, not proven where there was nothing to see one by."""
    failed = {check.name for check in checks if not check.passed}
    if not failed:
        return "same"
    silent = {"evidence"} if outputs.told else {"evidence", "outputs"}
    return "not proven" if failed <= silent else "different"


def _blamed(steps: Sequence[tuple[str, Deployed]], case: Case, extra: Sequence[Check], ask: _Questions) -> str:
    """A branch on a size or a value is frozen by the export (`extra` failed); anything else is found by trying the steps, and last
    by their weights.
    """
    if not all(check.passed for check in extra):
        return steps[0][0]
    found = blame.blamed_step(steps, case.agrees, ask.device)
    if found != "unknown":
        return found
    return next((name for name, model in steps if not case.original.weights(model, (), frozenset())[0].passed), found)


def _first_illegal(ask: _Questions, deployed: Deployed) -> str | None:
    """The step that made the file illegal."""
    for name, model in ask.steps:
        if not all(check.passed for check in legal.checks(Deployed(model, deployed.folder))):
            return name
    return None


def _batches(deployed: Deployed, original: Original, split: Split | None, sizes: Sequence[int]) -> tuple[list[Batch], str]:
    """What both are asked: the examples, noise, corners and real samples at every batch size, or at the only one; and a remark.

    A file of one batch size is asked for that one.
    """
    if split is None and original.trained:
        split = photographs(original)
    specs = original.inputs
    fixed = fixed_batch(deployed.inputs, specs) or original.fixed_batch
    if fixed is not None or all(spec.batch_axis is None for spec in specs):
        sizes = (fixed or 1,)
    chosen, remark = batches.range_for(specs, original.again, max(sizes[:2]))
    generator = torch.Generator().manual_seed(0)
    found = batches.examples(specs, sizes)
    if len(sizes) > 1:
        found += [batches.noise(specs, chosen, size, generator) for size in sizes]
        found += batches.telling_corners(specs, chosen, generator, original.again)
    else:
        found += [batches.noise(specs, chosen, sizes[0], generator, f"noise {n}, batch {sizes[0]}") for n in ("A", "B")]
        found += batches.corners_apart(specs, chosen, generator, sizes[0])
    return [*found, *batches.real(original.rules, specs, split, fixed or batches.REAL)], remark


def _case(deployed: Deployed, original: Original, found: Sequence[Batch], ask: _Questions) -> tuple[Case, str]:
    """The network asked about every batch that it answers, and a remark that names those that it refuses."""
    rest = (ask.rtol, ask.atol, ask.device)
    try:
        return Case(deployed, original, list(found), *rest), ""
    except InputError:
        taken, refused = batches.answered(found, original.again)
        if not refused:
            raise
        remark = f"the network itself refuses {', '.join(refused)}, which is no evidence against the file"
        return Case(deployed, original, taken, *rest), remark


def _sizes(
    deployed: Deployed, original: Original, case: Case, ask: _Questions
) -> tuple[Check | None, open_sizes.Ranges, Batch | None]:
    """The file at other sizes of its open axes; see `open_sizes.check`."""
    rows = {
        tensor.shape[spec.batch_axis]
        for observation in case.comparable
        for spec, tensor in zip(original.inputs, observation.batch.tensors, strict=True)
        if spec.batch_axis is not None
    }
    return open_sizes.check(original, deployed.inputs, ask.guards, case.differs_on, rows, (deployed, *original.files))


def _odd_values(original: Original, case: Case) -> tuple[list[Check], Batch | None]:
    """The file where masks hold one number alone, at rare values, and beside thresholds; see the files of these names."""
    plain = [o for o in case.comparable if o.batch.name not in batches.WITH_LARGE_VALUES]
    if not plain:
        return [], None
    usual = plain[-1].batch
    masked, wrong_mask = uniform.check(original.inputs, usual, case.differs_on)
    is_float = all(array.dtype.kind == "f" for array in plain[-1].float32.outputs)
    few = min((o.batch for o in plain), key=lambda batch: sum(tensor.numel() for tensor in batch.tensors))
    constants = rare_values.to_ask([*rare_values.compared_with(case.deployed), *original.constants(few)])
    compare = rare_values.Compare(case.differs_on, case.differs_steadily_on, case.differs_attending_on)
    limits = value_limits.limits(case.deployed)
    limits = replace(limits, nan=limits.nan and is_float)
    rare, wrong_value = rare_values.check(original.inputs, usual, compare, constants, few=few, limits=limits)
    asks = [original.sides, *filter(None, [margins.of_file(case.deployed)])]
    # Far from usual a network may magnify rounding; whether it does, another file cannot tell.
    compared = case.differs_on if original.files else case.differs_steadily_on
    crossed, wrong_side = crossings.check(original.inputs, few, asks, compared, far=limits.far)
    return list(filter(None, [masked, rare, crossed])), wrong_mask or wrong_value or wrong_side


def _inputs(deployed: Deployed, original: Original) -> Check:
    names = [value.name for value in deployed.inputs]
    if len(names) != len(original.inputs):
        return Check("inputs", False, f"the file takes {len(names)} inputs, the network {len(original.inputs)}")
    return Check("inputs", True, ", ".join(names))


def _layers(layers: Sequence[LayerDifference]) -> Check:
    first = first_divergent(layers)
    count = len({layer.path for layer in layers})
    if not count:
        return Check("layers", True, "no value of the file has the name of a module; the outputs alone were compared")
    if first is None:
        largest = max((layer.difference.onnx_error for layer in layers), default=0.0)
        return Check("layers", True, f"{counted(count, 'layer')} compared, largest error {largest:.1e}")
    difference = first.difference
    detail = f"{first.path} differs by {difference.onnx_error:.1e} of a tolerated {difference.tolerance:.1e} ({first.batch})"
    return Check("layers", False, detail)


def _evidence(outputs: OutputComparison, layers: Sequence[LayerDifference], case: Case) -> Check:
    return evidence.check(
        case.comparable if outputs.errors else (),
        layers,
        is_repeatable=case.repeatable,
        changed=case.original.changed,
        tolerance=outputs.tolerance if case.tolerance_is_derived else None,
        precision=case.precision,
    )


def _decisions(decisions: Decisions) -> Check:
    counted_in = {"multilabel": " of the labels", "segmentation": " of the pixels"}.get(decisions.task, "")
    if decisions.task == "regression":
        figures = f"mean absolute error {_figure(decisions.torch_error, '.4g')} in PyTorch, {_figure(decisions.onnx_error, '.4g')}"
    else:
        called = "mean IoU" if decisions.task == "segmentation" else "accuracy"
        figures = f"{called} {_figure(decisions.torch_accuracy, '.1%')} in PyTorch, {_figure(decisions.onnx_accuracy, '.1%')}"
    detail = f"{decisions.agreement:.1%}{counted_in} alike on {decisions.samples} test samples; {figures} in onnxruntime"
    return Check("decisions", decisions.agreement >= MIN_TOP1_AGREEMENT, detail)


def _figure(value: float | None, how: str) -> str:
    return "unknown" if value is None else format(value, how)
