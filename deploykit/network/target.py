"""What a `Request` asks for becomes a `Network`: built, with its weights, in eval mode.

An ONNX file is a TARGET too, but no PyTorch network: the stages that take one read it themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from deploykit import architectures, files
from deploykit.errors import CheckpointError, DependencyMissing, InputError, UnknownName, word
from deploykit.network import checkpoint, checkpoint_kind, declared, input_specs, own, ready_made
from deploykit.network import torchvision as torchvision_zoo
from deploykit.network.declared import Declared
from deploykit.network.factories import call, current_folder_importable, import_callable
from deploykit.network.input_specs import InputSpec
from deploykit.network.request import Request, Target
from deploykit.network.running import run, seeded
from deploykit.runtime import values
from deploykit.runtime.contract import ArrayInput, ImageInput, Output, RegressionOutput, SegmentationOutput

OWN_WEIGHTS = "weights: the callable's own, as no --checkpoint was given; are they the trained ones?"


@dataclass(frozen=True)
class Network:
    """A PyTorch network, ready to run: in eval mode, with its weights, and all that is known about its input and output.

    `dataset` names what it was trained on; `data` is where that was read from, as the user typed it, and stays on this machine.
    `arguments`: names of those given to its constructor, beside those that its checkpoint records. `notes`: what is to be said of
    its weights. `images`: the rules of further inputs that are images, by their place. `declared`: whether anybody says how samples
    become inputs, or the shapes of its inputs are all that is known. `meanings`: of outputs, by their names, in words. `remarks`:
    on what was said of its images.
    """

    target: str
    name: str
    module: nn.Module
    inputs: tuple[InputSpec, ...]
    rules: ImageInput | ArrayInput
    output: Output
    dataset: str | None = None
    checkpoint: Path | None = None
    seed: int | None = None
    data: str | None = None
    arguments: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    images: Mapping[int, ImageInput] = field(default_factory=dict)
    declared: bool = True
    meanings: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def rules_of_inputs(self) -> tuple[ImageInput | ArrayInput, ...]:
        """How a sample becomes each input; what is no image is an array of the input's shape and type."""
        arrays = (ArrayInput(spec.shape, str(spec.dtype).removeprefix("torch.")) for spec in self.inputs)
        found = [self.images.get(place, rules) for place, rules in enumerate(arrays)]
        return (self.rules, *found[1:])

    def described(self, said: Declared) -> Network:
        """The network with what its user says of its images and outputs. Raises `InputError`."""
        found = self
        if said.image is not None:
            rules = declared.rules_of(said.image, self.inputs, self.rules_of_inputs, self.target)
            images = {place: each for place, each in enumerate(rules) if isinstance(each, ImageInput)}
            shaped = {place: (each.channels, each.height, each.width) for place, each in images.items()}
            specs = tuple(replace(spec, shape=shaped.get(place, spec.shape)) for place, spec in enumerate(self.inputs))
            remarks = declared.left_out(said.image, specs, images)
            found = replace(found, inputs=specs, rules=rules[0], images=images, declared=True, remarks=remarks)
        if said.output is not None:
            found = replace(found, output=declared.output_of(said.output, self.output, self.target))
        return replace(found, meanings=said.meanings) if said.meanings else found

    @property
    def trained(self) -> bool:
        """False where the weights are fresh random numbers."""
        return self.checkpoint is not None

    def provenance(self) -> dict[str, Any]:
        """Where the weights came from, for the contract; no path of this machine, so no value of an argument either."""
        digest = files.sha256(self.checkpoint) if self.checkpoint else None
        return {
            "network": self.name,
            "arguments": list(self.arguments),
            "inputs": [spec.document() for spec in self.inputs],
            "checkpoint_sha256": digest,
            "seed": None if self.checkpoint else self.seed,
        }


def resolve(asked: Request | str, *, fallback: Sequence[InputSpec] = (), **keywords: Any) -> Network:
    """Build the network that a `Request` asks for, or a TARGET with the `keywords` of a `Request`.

    `fallback`: the inputs of a network that does not tell its own, as a file that was exported from it has them.

    Raises `UnknownName` with the nearest names, `CheckpointError` for weights that are missing or do not fit, and
    `InputError` for a callable that cannot be used.
    """
    request = Request(asked, **keywords) if isinstance(asked, str) else asked
    seed = request.seed or 0
    with seeded(seed), current_folder_importable():
        network = _found(request, fallback)
    network.module.eval()
    specs = input_specs.changed(network.inputs, request.input_shapes, request.input_dtypes, request.target)
    if request.inputs is not None and request.kind not in ("callable", "module"):
        specs = input_specs.with_values(specs, values.of_inputs(request.inputs) or {}, request.target)
    rules = network.rules if specs == network.inputs else _rules_for(network.rules, specs[0])
    made = None if request.module is not None else seed  # a module's weights were not made here
    return replace(network, inputs=specs, rules=rules, seed=made, arguments=tuple(sorted(request.arguments or {})))


def _found(request: Request, fallback: Sequence[InputSpec]) -> Network:
    """With its weights, and inputs that nobody changed; the callable's alone are those that were asked for."""
    target = Target.parse(request.target)
    if request.module is not None:
        return _from_module(request, request.module, fallback)
    if target.kind == "callable":
        return _from_callable(request, import_callable(target, request.target), target.name, fallback)
    if target.kind == "checkpoint":
        return _from_checkpoint(request)
    if target.kind == "torchvision":
        return _from_torchvision(request, target.name)
    if target.kind == "architecture":
        return _from_architecture(request)
    raise InputError(f"{request.target} is an ONNX file; a PyTorch network is needed here", "name an architecture or a checkpoint")


def _from_architecture(request: Request) -> Network:
    name, weights, arguments = request.target, request.checkpoint, request.arguments
    architecture = architectures.get(name) if name in architectures.names() else None
    if architecture is None:
        raise _no_network(name)
    default = checkpoint.folder_of(name) / checkpoint.NAME
    if weights is None and not request.untrained:
        if not default.is_file():
            raise CheckpointError(
                f"{name} has no checkpoint: {default} is not there",
                f"run `deploykit train {name}`, or add --untrained for fresh weights",
            )
        weights = default
    if weights is not None and checkpoint_kind.is_safetensors(weights):
        with_header = checkpoint.load_checkpoint_or_none(weights)
        if with_header is not None:
            return _rebuilt(with_header, weights, name, arguments)
    complete = {**architecture.defaults, **(arguments or {})}
    module = architecture.create(complete)
    notes = checkpoint.load_file(module, weights) if weights is not None else ()
    rules = architecture.input_for(complete)
    output = Output("softmax" if architecture.recipe.loss == "cross-entropy" else "none")
    return Network(name, name, module, _one_input(rules), rules, output, architecture.recipe.dataset, weights, notes=notes)


def _no_network(name: str) -> InputError:
    """What was probably meant: the checkpoint in a folder, a class in a module; else the architectures of similar names."""
    path = Path(name)
    if len(name) < 256 and path.is_dir():  # the system may refuse to look for longer ones
        checkpoint_kind.require_file(path)
    if len(name) < 256 and path.is_file():
        return InputError(f"{name} is neither a checkpoint nor an ONNX file, by its ending", "see `deploykit list architectures`")
    error = UnknownName.among("network", name, architectures.names(), "`deploykit list architectures` shows all")
    package, dot, attribute = name.rpartition(".")
    if dot and all(part.isidentifier() for part in name.split(".")):
        return UnknownName(error.problem, f"a class of your own is named with a colon: {package}:{attribute}")
    return error


def _from_checkpoint(request: Request) -> Network:
    path = Path(request.target)
    if request.checkpoint is not None:
        problem = f"{request.target} is a checkpoint already; --checkpoint {request.checkpoint} makes it two"
        raise InputError(problem, "give one of them")
    if not checkpoint_kind.is_safetensors(path):
        checkpoint.read_weights(path)
        raise CheckpointError(
            f"{path} holds weights only, so the network is not known",
            f"name it: deploykit export ARCH --checkpoint {word(path)}",
        )
    loaded = checkpoint.load_checkpoint(path)
    return _rebuilt(loaded, path, None, request.arguments, request.target)


def _rebuilt(
    loaded: checkpoint.Checkpoint,
    path: Path,
    wanted: str | None,
    arguments: Mapping[str, Any] | None,
    target: str | None = None,
    factory: Any = None,
) -> Network:
    """`factory`: what makes the network, where the user named it."""
    if wanted is not None and loaded.architecture != wanted:
        raise CheckpointError(
            f"{path} is a checkpoint of {loaded.architecture[:80]!r}, not of {wanted!r}",
            f"run `deploykit train {wanted}`, or name the other network",
        )
    if arguments:
        raise InputError(f"the arguments of {path} are recorded in it; --arg cannot change them", "drop --arg")
    output = _learned(loaded)
    name, rules, data = loaded.architecture, loaded.input, loaded.recipe.get("dataset")
    module = loaded.build(factory)
    return Network(
        target or name, _short(name), module, _one_input(rules), rules, output, loaded.dataset or None, path,
        data=data if isinstance(data, str) else None,
    )  # fmt: skip


def _learned(loaded: checkpoint.Checkpoint) -> Output:
    """What the outputs of a trained network mean. Registered networks whose numbers are no classes say nothing of them."""
    if loaded.task == "segmentation":
        return SegmentationOutput("softmax", loaded.classes)
    if loaded.task == "regression" and own.is_own(loaded.architecture):
        return RegressionOutput()
    return Output("softmax" if loaded.loss == "cross-entropy" else "none", loaded.classes)


def _short(architecture: str) -> str:
    """What a trained network is called in its file and folder: without its package, where that is not another one's name."""
    found = Target.parse(architecture)
    clear = found.kind == "architecture" or found.name not in architectures.names()
    return found.name if clear else f"{found.package or found.kind}.{found.name}"


def _one_input(rules: ImageInput | ArrayInput) -> tuple[InputSpec, ...]:
    """The single input of a shipped network, by its preprocessing rules (free sizes become 1)."""
    if isinstance(rules, ImageInput):
        return (InputSpec("input", (rules.channels, rules.height, rules.width)),)
    return (InputSpec("input", tuple(size or 1 for size in rules.shape)),)


def _from_torchvision(request: Request, name: str) -> Network:
    target, weights, arguments = request.target, request.checkpoint, request.arguments
    try:
        known = torchvision_zoo.names()
    except ImportError as error:
        raise DependencyMissing.of("torchvision", "export") from error
    if name not in known:
        raise UnknownName.among("torchvision network", name, known)
    kept = _trained_as(target, weights or (None if request.untrained else checkpoint.folder_of(target) / checkpoint.NAME))
    if kept is not None:
        return _rebuilt(*kept, target, arguments)
    if weights is None and not request.untrained:
        raise CheckpointError(
            f"{target} needs weights, and nothing is downloaded",
            f"give --checkpoint FILE, add --untrained for fresh weights, or run `deploykit train {target} --data FOLDER`",
        )
    tensors = checkpoint.read_all(weights) if weights is not None else {}
    entry = torchvision_zoo.published(name, weights)
    given = {**torchvision_zoo.keywords(name, entry, tensors), **(arguments or {})}
    module = call(torchvision_zoo.builder(name), given, target)
    notes = checkpoint.load_part(module, tensors, str(weights), torchvision_zoo.as_built_today) if weights is not None else ()
    entry = entry or torchvision_zoo.usual(name, given)
    rules = torchvision_zoo.rules(entry, given.get("image_size"))
    labels = tuple(entry.meta["categories"]) if "num_classes" not in (arguments or {}) else None
    specs = (InputSpec("input", (3, rules.height, rules.width)),)
    notes = (*notes, *torchvision_zoo.left_out(given))
    return Network(target, name, module, specs, rules, Output("softmax", labels), None, weights, notes=notes)


def _trained_as(name: str, weights: Path | None) -> tuple[checkpoint.Checkpoint, Path] | None:
    """The checkpoint that `train` wrote of a network of that name, if `weights` is one: it knows its head, classes and input."""
    if weights is None or not weights.is_file() or not checkpoint_kind.is_safetensors(weights):
        return None
    kept = checkpoint.load_checkpoint_or_none(weights)
    return (kept, weights) if kept is not None and kept.architecture == name else None


def _from_module(request: Request, module: nn.Module, fallback: Sequence[InputSpec]) -> Network:
    """A network that the caller has in memory; a copy of it is worked on."""
    if request.arguments:
        raise InputError(f"{request.target} is a network already: arguments have nothing to go to", "leave out arguments")
    return _ready_made(request, module, request.target, ready_made.OWN_WEIGHTS, fallback)


def _ready_made(request: Request, module: nn.Module, name: str, note: str, fallback: Sequence[InputSpec]) -> Network:
    """A copy of `module`, with float32 in place of narrower weights; in its own types where it runs in those alone."""
    own, notes = ready_made.apart(module, request.target)
    try:
        network = _of_users(request, own, name, (note, *notes), fallback)
        if notes:
            require_runs(network)
    except InputError:
        if not notes:
            raise
        with contextlib.suppress(InputError):
            own, _ = ready_made.apart(module, request.target, own_types=True)
            network = _of_users(request, own, name, (note,), fallback)
            require_runs(network)
            return network
        raise
    return network


def require_runs(network: Network) -> None:
    """Raise `InputError` where the network does not take its own inputs: its examples, zeros for those that have none."""
    run(network.module.eval(), input_specs.examples_or_zeros(network.inputs), network.target)


def _from_callable(request: Request, factory: Any, name: str, fallback: Sequence[InputSpec]) -> Network:
    """`factory`: what makes the network. Without a checkpoint its own weights are taken as they are: it may have loaded them."""
    if isinstance(factory, nn.Module):
        if request.arguments:
            raise InputError(f"{request.target} is a network already: --arg has nothing to go to", "drop --arg")
        return _ready_made(request, factory, name, OWN_WEIGHTS, fallback)
    kept = _trained_as(own.known_as(request.target, factory), request.checkpoint)
    if kept is not None:
        return _rebuilt(*kept, None, request.arguments, request.target, factory)
    module = call(factory, request.arguments or {}, request.target)
    return _of_users(request, module, name, (OWN_WEIGHTS,), fallback)


def _of_users(request: Request, module: nn.Module, name: str, notes: tuple[str, ...], fallback: Sequence[InputSpec]) -> Network:
    """A network of the user's own; `notes` are what is to be said of the weights that it came with."""
    target, weights = request.target, request.checkpoint
    if name in architectures.names():  # a file of that name would be taken for deploykit's own
        name = f"{type(module).__module__}.{name}"
    if weights is not None:
        notes = checkpoint.load_file(module, weights)
    ready_made.require_values(module, target)
    given = values.of_inputs(request.inputs)
    said = Declared.by_module(module)
    if said.shape is not None and not fallback:
        fallback = (InputSpec("input", said.shape),)
    specs = input_specs.of_module(module.eval(), request.input_shapes, request.input_dtypes, fallback, target, given)
    rules = ArrayInput(specs[0].shape, str(specs[0].dtype).removeprefix("torch."))
    network = Network(target, name, module, specs, rules, Output("none"), None, weights, notes=notes, declared=False)
    return network.described(said)


def _rules_for(rules: ImageInput | ArrayInput, spec: InputSpec) -> ImageInput | ArrayInput:
    """The preprocessing for another input shape: other sizes keep the rules, other channels or ranks do not."""
    if isinstance(rules, ImageInput) and len(spec.shape) == 3 and spec.shape[0] == rules.channels:
        channels, height, width = spec.shape
        if (channels, height, width) == (rules.channels, rules.height, rules.width):
            return rules
        if rules.fit == "center-crop":
            return replace(rules, height=height, width=width, resize=max(rules.resize or 0, height, width))
        return replace(rules, height=height, width=width)
    return ArrayInput(spec.shape, str(spec.dtype).removeprefix("torch."))
