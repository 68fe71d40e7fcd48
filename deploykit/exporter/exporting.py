"""Export: a PyTorch network becomes one self-contained ONNX file, named by module path, proven, with its contract inside."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, get_args

import onnx

from deploykit import arguments as read
from deploykit import files, onnx_file, simplifier, verdict
from deploykit._version import __version__
from deploykit.arguments import Shapes, StrPath, Texts
from deploykit.errors import ContractError, ExportError, InputError
from deploykit.exporter import dynamic_axes
from deploykit.exporter.converting import convert
from deploykit.exporter.float16 import to_float16
from deploykit.network import calling
from deploykit.network import checkpoint as checkpoints
from deploykit.network import target as targets
from deploykit.network.declared import Declared, GivenImage, GivenOutput
from deploykit.network.input_specs import InputSpec
from deploykit.network.request import Asked, Inputs, Request
from deploykit.network.target import Network
from deploykit.onnx_file import external_data, sessions
from deploykit.onnx_file import inputs as graph_inputs
from deploykit.onnx_file import preprocessing as graph_preprocessing
from deploykit.progress import Progress
from deploykit.runtime.checks import check_contract
from deploykit.runtime.contract import ArrayInput, Contract, DetectionOutput, ImageInput, Output, SegmentationOutput
from deploykit.runtime.session import TensorSpec
from deploykit.shown import Shown
from deploykit.simplifier import Simplified
from deploykit.verdict import Precision, Verdict

OPSET = 20
OPSETS = range(18, onnx.defs.onnx_opset_version() + 1)


@dataclass(frozen=True, repr=False)
class ExportResult(Shown):
    """What an export made: `file` of `bytes` bytes, which ends in ``.rejected.onnx`` where the verdict was no.

    `seconds`: of the steps export, simplify and validate. `simplified`: what the simplifier did.
    """

    _view: ClassVar[str] = "export"

    target: str
    file: Path
    opset: int
    precision: Precision
    bytes: int
    nodes: int
    seconds: Mapping[str, float]
    simplified: Simplified
    verdict: Verdict
    contract: Contract = field(repr=False)

    def __repr__(self) -> str:
        return f"<ExportResult {self.target} -> {self.file}: {self.verdict.verdict}>"

    def document(self) -> dict[str, Any]:
        """The public JSON form."""
        return {
            "target": self.target,
            "file": str(self.file),
            "opset": self.opset,
            "precision": self.precision,
            "bytes": self.bytes,
            "nodes": self.nodes,
            "seconds": dict(self.seconds),
            "simplify": self.simplified.document(),
            "verdict": self.verdict.document(),
        }


def export(
    target: Asked,
    *,
    checkpoint: StrPath | None = None,
    untrained: bool = False,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
    input_shapes: Shapes | None = None,
    input_dtypes: Texts | None = None,
    inputs: Inputs | None = None,
    out: StrPath | None = None,
    opset: int = OPSET,
    dynamic: Texts = ("batch",),
    input_names: Texts | None = None,
    precision: Precision = "fp32",
    simplify: bool = True,
    with_preprocessing: bool = False,
    image: GivenImage | None = None,
    output: GivenOutput | None = None,
    meanings: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> ExportResult:
    """Export a network to ONNX, simplify it, prove it is the same network, and write it to `out`.

    `target`: a TARGET, the path of a checkpoint, or an `nn.Module`, of which a copy is exported in eval mode with the weights that
    it has. `out` defaults to ``trained/<name>/model.onnx``; a module has the name of its class. `input_shapes`: without the batch,
    one per input, such as ``[(3, 224, 224)]`` or "3x224x224". `inputs`: values as they occur, with a batch: an array or tensor,
    several by input, or the `.npz` file that holds them. `dynamic`: the axes that may vary, see `dynamic_axes`. `input_names`: of
    the file's inputs, in order, instead of `input` for a single one and the parameters of `forward` for several. `precision`: of
    the weights and the arithmetic; inputs and outputs stay float32. Weights above 2 GB lie beside it. A file that is not the same
    network does not replace `out`: it is written beside it as ``<stem>.rejected.onnx``, and the result's verdict says why.
    `with_preprocessing`: the file takes raw uint8 images (batch, height, width, channels) of any size, and resizes, crops and
    normalizes them itself.

    `image`: how an image becomes the input, an `ImageInput` or some of its fields, such as ``{"mean": 0.5}``, or either by the
    names of several inputs. `output`: what the network gives back, an `Output` of its task or a dict such as
    ``{"task": "segmentation", "labels": ["sky", "sea"]}``. `meanings`: of outputs, in words, by their names. Without them the
    module's attributes `image_input` and `output` say it.

    Raises `UnknownName`, `CheckpointError`, `InputError`, `ExportError`, `OutputError`; then nothing is written.
    """
    request = Request.of(
        target, checkpoint=checkpoint, untrained=untrained, seed=seed, arguments=arguments, input_shapes=input_shapes,
        input_dtypes=input_dtypes, inputs=inputs,
    )  # fmt: skip
    said = Declared.of(image, output, meanings)
    progress = read.progress(progress)
    wanted = _Wanted(
        out=read.path_or_none(out, "out"),
        opset=_opset(read.whole(opset, "opset")),
        dynamic=_axes(read.texts(dynamic, "dynamic", '["batch"]')),
        input_names=read.texts_or_none(input_names, "input_names", '["image"]'),
        precision=read.choice(precision, "precision", get_args(Precision)),
        simplify=read.flag(simplify, "simplify"),
        with_preprocessing=read.flag(with_preprocessing, "with_preprocessing"),
    )
    network = targets.resolve(request, fallback=() if said.shape is None else [InputSpec("input", said.shape)])
    return _export(network.described(said), wanted, progress)


@dataclass(frozen=True)
class _Wanted:
    """The keywords of `export` that are not about the network, checked."""

    out: Path | None
    opset: int
    dynamic: tuple[str, ...]
    input_names: tuple[str, ...] | None
    precision: Precision
    simplify: bool
    with_preprocessing: bool


def _opset(opset: int) -> int:
    if opset not in OPSETS:
        raise InputError(f"opset {opset} cannot be had", f"choose {OPSETS.start} to {OPSETS.stop - 1}")
    newest = sessions.newest_opset()
    if opset > newest:
        raise InputError(
            f"opset {opset} cannot be had: the installed onnxruntime runs up to {newest}", "choose that or a lower one"
        )
    return opset


def _axes(dynamic: tuple[str, ...]) -> tuple[str, ...]:
    """The axes; the word "none" alone, as on the command line, is none."""
    return () if dynamic == ("none",) else dynamic


def _export(network: Network, wanted: _Wanted, progress: Progress) -> ExportResult:
    target, opset, precision, dynamic = network.target, wanted.opset, wanted.precision, wanted.dynamic
    with_preprocessing = wanted.with_preprocessing
    if with_preprocessing and not isinstance(network.rules, ImageInput):
        raise InputError(
            f"{target} has no image preprocessing to put into the graph: its input is an array", "drop --with-preprocessing"
        )
    if with_preprocessing and len(network.inputs) > 1:
        problem = f"{target} has {len(network.inputs)} inputs; the preprocessing of several cannot be put into the graph"
        raise InputError(problem, "drop --with-preprocessing: Predictor and `deploykit predict` do the same outside of it")
    if len(network.inputs) == 1 and not network.inputs[0].open_shape:
        raise InputError(
            f"{target} takes a lone number, a tensor without axes, which is no batch of samples", "let it take (batch,)"
        )
    file = wanted.out or default_file(network)
    file = files.real_path(file) if file.is_symlink() else file  # weights beside the file lie where it lies
    files.writable_file(file)
    network = _with_inputs(network, dynamic_axes.with_batches(dynamic, called(network, wanted.input_names)))
    sizes = verdict.BATCHES if dynamic_axes.open_batch(dynamic, network.inputs) else (1,)
    seconds: dict[str, float] = {}
    progress.start(f"exporting {network.name}", 3)
    with contextlib.ExitStack() as stack:
        with _timed(seconds, "export"):
            converted = convert(network, opset, dynamic, lambda: stack.enter_context(files.temporary(file)))
            model = converted.model
        contract = contract_of(network, opset, precision, dynamic)
        require_fit(contract, model, target)
        weights = next((file.parent / name for name in external_data.locations(model)), None)
        folder = weights.parent if weights else None
        progress.advance(note="simplifying")
        with _timed(seconds, "simplify"):
            simplified = _simplified(model, network, folder is None, wanted.simplify, sizes)
        steps = [("export", model), ("simplify", simplified.model)]
        if precision == "fp16":
            steps.append(("precision", _halved(simplified.model, network, folder is None)))
        final = steps[-1][1]
        progress.advance(note="validating")
        if with_preprocessing and isinstance(network.rules, ImageInput):
            contract = replace(contract, preprocessing_in_graph=True)
            final = graph_preprocessing.embed(final, network.rules)
        onnx_file.set_contract(final, contract)
        with _timed(seconds, "validate"):
            judged = verdict.judge(final, network, folder=folder, steps=steps, sizes=sizes, guards=converted.captured.guards)
        contract = replace(contract, verdict=judged.summary())
        onnx_file.set_contract(final, contract)
        file = file if judged.same else file.with_name(f"{file.stem}.rejected.onnx")
        size = onnx_file.write(final, file, weights)
    nodes = sum(onnx_file.operators(final).values())
    return ExportResult(target, file, opset, precision, size, nodes, seconds, simplified, replace(judged, file=str(file)), contract)


def _with_inputs(network: Network, inputs: tuple[InputSpec, ...]) -> Network:
    """The network with other inputs; its rules for arrays follow the first one, whose batch may lie elsewhere now, or nowhere."""
    rules = network.rules
    if isinstance(rules, ArrayInput) and inputs[0].shape != network.inputs[0].shape:
        rules = replace(rules, shape=inputs[0].shape)
    return replace(network, inputs=inputs, rules=rules)


def called(network: Network, names: Sequence[str] | None) -> tuple[InputSpec, ...]:
    """The inputs of a network by other names, one per input in order. Raises `InputError` for names that cannot be theirs."""
    if names is None:
        return network.inputs
    if len(names) != len(network.inputs) or len(set(names)) < len(names) or not all(name.isidentifier() for name in names):
        own = ",".join(calling.parameters(network.module)[: len(network.inputs)])
        raise InputError(
            f"{', '.join(names)[:120]!r} cannot be the names of the {len(network.inputs)} inputs of {network.target}",
            f"give one different name for each, such as --input-names {own or 'x'}",
        )
    return tuple(replace(spec, name=name) for spec, name in zip(network.inputs, names, strict=True))


def _simplified(model: onnx.ModelProto, network: Network, whole: bool, wanted: bool, sizes: Sequence[int]) -> Simplified:
    if not wanted:
        return simplifier.untouched(model)
    if not whole:
        return simplifier.untouched(model, "the weights lie beside the file, where onnxsim cannot follow")
    return simplifier.simplified(model, verdict.sample_batches(network, (1, 3) if len(sizes) > 1 else (1, 1)))


def _halved(model: onnx.ModelProto, network: Network, whole: bool) -> onnx.ModelProto:
    if not whole:
        raise ExportError(
            f"{network.target} is too large for --precision fp16: its weights take more than {external_data.LIMIT / 1e9:.0f} GB",
            "export it in fp32",
        )
    return to_float16(model)


def default_file(network: Network) -> Path:
    """Beside the checkpoint it came from if that is a deploykit folder, else ``trained/<name>/model.onnx``."""
    if network.checkpoint is not None and network.checkpoint.name == checkpoints.NAME:
        return network.checkpoint.with_name("model.onnx")
    return checkpoints.folder_of(network.name) / "model.onnx"


def to_onnx(
    network: Network,
    opset: int = OPSET,
    dynamic: Sequence[str] = ("batch",),
    weights: Callable[[], Path] | None = None,
) -> onnx.ModelProto:
    """The network as an ONNX model; see `converting.convert`."""
    return convert(network, opset, dynamic, weights).model


def contract_of(network: Network, opset: int, precision: Precision = "fp32", dynamic: Sequence[str] = ("batch",)) -> Contract:
    """What the file is to say about itself, before it has a verdict."""
    free = dynamic_axes.of_inputs(dynamic, network.inputs)
    rules = [_opened(*each) for each in zip(network.rules_of_inputs, network.inputs, free, strict=True)]
    inputs = dict(zip([spec.name for spec in network.inputs], rules, strict=True)) if len(rules) > 1 else {}
    packages = ("torch", "onnx", "onnxscript", "onnxsim")
    versions = {"deploykit": __version__, **{name: metadata.version(name) for name in packages}}
    provenance = {**network.provenance(), "dataset": network.dataset, "opset": opset, "precision": precision, "versions": versions}
    return Contract(rules[0], network.output, provenance=provenance, inputs=inputs, meanings=network.meanings)


def _opened(rules: ImageInput | ArrayInput, spec: InputSpec, free: Container[int]) -> ImageInput | ArrayInput:
    """The rules of an array with `None` for the axes that may vary; `free` counts those of the whole tensor."""
    if isinstance(rules, ImageInput):
        return rules
    axes = [axis for axis in range(len(spec.open_shape)) if axis != spec.batch_axis]
    return replace(rules, shape=tuple(None if axis in free else size for axis, size in zip(axes, rules.shape, strict=True)))


def _spec_of(value: onnx.ValueInfoProto) -> TensorSpec:
    found = graph_inputs.described_value(value)
    shape = None if found.axes is None else tuple(axis if isinstance(axis, int) else None for axis in found.axes)
    return TensorSpec(found.name, shape, found.dtype, found.kind)


def require_fit(contract: Contract, model: onnx.ModelProto, target: str) -> None:
    """Raise `InputError` where what the user says of the network is not what its graph has."""
    inputs, outputs = (tuple(map(_spec_of, each)) for each in (graph_inputs.of_graph(model.graph), model.graph.output))
    try:
        check_contract(contract, inputs, outputs)
    except ContractError as error:
        problem = error.problem.replace(
            "the contract and the graph are at odds: the contract says", "what is said of it does not fit:"
        )
        hint = _apart(outputs[0].shape) if isinstance(contract.output, DetectionOutput) and len(outputs) == 1 else ""
        raise InputError(f"{target}: {problem}", hint or "say it otherwise, or change the network") from error
    _require_both_labels(contract.output, outputs, target)


def _require_both_labels(output: Output, outputs: Sequence[TensorSpec], target: str) -> None:
    """Raise `InputError` for one label of one number per pixel: every pixel would have it, whatever the number."""
    if not isinstance(output, SegmentationOutput) or output.class_axis is None or output.labels is None or len(output.labels) != 1:
        return
    spec = next((spec for spec in outputs if spec.name == output.name), outputs[0])
    if spec.shape is not None and spec.shape[output.class_axis] == 1:
        problem = f"{target} gives one number per pixel, which means two labels, and {output.labels[0]!r:.60} is one"
        raise InputError(problem, f"name that of the low numbers, too: --labels background,{output.labels[0]:.60}")


def _apart(shape: Sequence[int | None] | None) -> str:
    """What to do with boxes and scores in one tensor of that shape, with the batch: (batch, boxes, 4 + labels), or turned."""
    sizes = [size for size in (shape or ())[1:] if size is not None]
    turned = len(sizes) == 2 and sizes[0] < sizes[1]
    parts = ("x[:, :4].mT", "x[:, 4:].mT") if turned else ("x[..., :4]", "x[..., 4:]")
    return f'boxes and scores are two outputs: let forward() return {{"boxes": {parts[0]}, "scores": {parts[1]}}} of its tensor x'


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began
