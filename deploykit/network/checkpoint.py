"""A checkpoint: weights as safetensors, and in its header all that is needed to rebuild the network.

Files of `torch.save` are read with ``weights_only=True`` and never otherwise: a pickle that carries code is refused.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save as serialize
from torch import Tensor, nn

from deploykit import architectures, files
from deploykit import arguments as read
from deploykit.architectures import Architecture
from deploykit.arguments import StrPath
from deploykit.errors import CheckpointError, ContractError, InputError, UnknownName, kind_of
from deploykit.network import checkpoint_fit, checkpoint_guard, checkpoint_kind, checkpoint_pickle, own
from deploykit.network.heads import Head
from deploykit.network.places import NAME as NAME
from deploykit.network.places import folder_of as folder_of
from deploykit.runtime.contract import ArrayInput, ImageInput, input_from_dict, input_to_dict

KEY = "deploykit"
FORMAT = 1
MAX_HEADER = 4 << 20
MAX_SAMPLE = 1 << 22  # elements of one input

Renamed = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Checkpoint:
    """Weights and where they came from. `tensors`: parameters and buffers by name, as `state_dict` gives them.

    `architecture`: one that is registered, `torchvision:NAME` or `package.module:callable`. `head`: of a network of the user's own,
    the layer that was put in the place of its last one, see `heads.Head`. `task`: what it learned: "classification",
    "segmentation" or "regression"; empty in files from before it was recorded.
    """

    architecture: str
    arguments: Mapping[str, Any]
    input: ImageInput | ArrayInput
    tensors: Mapping[str, Tensor] = field(repr=False)
    classes: tuple[str, ...] | None = None
    loss: str = "cross-entropy"
    dataset: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    head: Head | None = None
    task: str = ""

    def build(self, factory: Callable[..., Any] | None = None) -> nn.Module:
        """The network with these weights, in eval mode. Raises `CheckpointError` naming the first tensor that does not fit.

        `factory`: what makes the network, where that is not left to the file: a file may not choose what code runs, see `own`.
        """
        source = f"the checkpoint of {self.architecture}"
        architecture = self._architecture(source, factory)
        spare = self.head.spare(self.tensors) if self.head else 0
        with checkpoint_guard.building_within(self.tensors, source, spare):
            self._require_fit(architecture, source)
        with checkpoint_guard.building_within(self.tensors, source, spare):
            network = architecture.create(self.arguments)
        load_weights(network, self.tensors, source)
        return network.eval()

    def _architecture(self, source: str, factory: Callable[..., Any] | None) -> Architecture:
        if own.is_own(self.architecture):
            return own.rebuilt(self.architecture, self.input, self.arguments, self.head, factory)
        try:
            return architectures.get(self.architecture)
        except UnknownName as error:
            problem = f"{source}: {error.problem}"
            raise CheckpointError(problem, f"{error.hint}; of your own? name the file that registers it: --module FILE") from error

    def _require_fit(self, architecture: Architecture, source: str) -> None:
        """Compare the shapes before memory is asked for: on the meta device tensors have no values."""
        try:
            with torch.device("meta"):
                described = architecture.create(self.arguments)
        except CheckpointError:
            raise
        except (InputError, NotImplementedError):
            return  # it needs values to be built, or cannot be built at all; the real construction tells
        require_shapes(described.state_dict(), self.tensors, source)


def save_checkpoint(checkpoint: Checkpoint, path: StrPath) -> None:
    """Write it, whole or not at all. Raises `OutputError`."""
    if not isinstance(checkpoint, Checkpoint):
        raise InputError(f"a checkpoint cannot be {kind_of(checkpoint)}", "give a deploykit.Checkpoint")
    header = {k: v for k, v in vars(checkpoint).items() if k != "tensors"}
    header = {"format": FORMAT, **header, "input": input_to_dict(checkpoint.input)}
    # What shipped networks have no use for stays out of the header, as it was before.
    del header["head"]
    if checkpoint.head is not None:
        header["head"] = checkpoint.head.document()
    if not checkpoint.task:
        del header["task"]
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False)
    tensors = {name: _own_memory(tensor) for name, tensor in checkpoint.tensors.items()}
    files.write_bytes(read.path(path, "path"), serialize(tensors, metadata={KEY: text}))


def load_checkpoint(path: StrPath) -> Checkpoint:
    """Read a checkpoint that `save_checkpoint` wrote. Raises `CheckpointError` with the file's name and what is wrong."""
    path = read.path(path, "path")
    found = load_checkpoint_or_none(path)
    if found is None:
        raise CheckpointError(
            f"{path} has weights but not deploykit's header, so the network is not known",
            "name the architecture: deploykit export ARCH --checkpoint FILE",
        )
    return found


def load_checkpoint_or_none(path: Path) -> Checkpoint | None:
    """As `load_checkpoint`, but `None` for a safetensors file that somebody else wrote: weights without a header."""
    tensors, metadata = _read_safetensors(path)
    text = metadata.get(KEY)
    if text is None:
        return None
    header = _header(text, path)
    try:
        return Checkpoint(
            architecture=_text(header["architecture"]),
            arguments=dict(header["arguments"]),
            input=_input(header["input"]),
            tensors=tensors,
            classes=None if header["classes"] is None else tuple(_text(c) for c in header["classes"]),
            loss=_text(header["loss"]),
            dataset=_text(header["dataset"]),
            recipe=dict(header["recipe"]),
            seed=_seed(header["seed"]),
            metrics=dict(header["metrics"]),
            versions=dict(header["versions"]),
            head=Head.of(header["head"]) if header.get("head") is not None else None,
            task=_text(header.get("task", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ContractError) as error:
        raise CheckpointError(f"the header of {path} is damaged ({type(error).__name__}: {error})", "train it again") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by `torch.save` or safetensors, whoever wrote it and whatever its ending; its code is never run.

    Of a file with more than weights those under the usual keys ("state_dict", "model", ...). Raises `CheckpointError`.
    """
    tensors = _read_tensors(path, checkpoint_fit.unwrapped)
    for name, tensor in tensors.items():
        checkpoint_guard.require_dense(name, tensor, str(path))
    return tensors


def read_all(path: Path) -> dict[str, Tensor]:
    """Every tensor of such a file, those in dicts within dicts by dotted names. Raises `CheckpointError`."""
    return _read_tensors(path, lambda content: content)


def _read_tensors(path: Path, part: Callable[[object], object]) -> dict[str, Tensor]:
    if checkpoint_kind.kind_of(path) == "safetensors":
        return _read_safetensors(path)[0]
    return checkpoint_fit.flattened(part(_load_pickle(path)), str(path))


def read_resume(path: Path) -> dict[str, Any]:
    """The state of an interrupted training run, read with the same caution. Raises `CheckpointError`."""
    checkpoint_kind.kind_of(path)
    content = _load_pickle(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is no training state", "train without --resume")
    return content


def _load_pickle(path: Path) -> object:
    """What torch reads of a file whose kind was looked at: tensors in dicts and lists, and nothing that needs code."""
    try:
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("ignore")  # of pickle protocols; what cannot be read is refused below, in one line
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged archive or pickle makes torch raise is not for counting up
        raise checkpoint_pickle.refusal(path, error) from error


def load_file(network: nn.Module, path: Path) -> tuple[str, ...]:
    """Copy the weights of any checkpoint file into `network`; the notes say what of the file was left over.

    Raises `CheckpointError` naming the first tensor that is missing, of another shape, or of another network.
    """
    return load_part(network, read_all(path), str(path))


def load_part(network: nn.Module, tensors: Mapping[str, Tensor], source: str, renamed: Renamed | None = None) -> tuple[str, ...]:
    """As `load_file`, from tensors that were read. `renamed`: of those at the network's place, what they are called today."""
    wanted = network.state_dict()
    found = checkpoint_fit.fit(tensors, wanted)
    named = renamed(found.tensors, wanted) if renamed else found.tensors
    for name, tensor in named.items():
        if name in wanted:
            checkpoint_guard.require_dense(name, tensor, source)
    taken, notes = checkpoint_fit.settled(found, named, wanted)
    _load(network, taken, source)
    return notes


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy `tensors` into `network`. Raises `CheckpointError` naming the first one that is missing, extra or of another shape."""
    _load(network, spelled_like(tensors, network.state_dict()), source)


def _load(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    wanted = network.state_dict()
    # Files from before PyTorch 0.4.1 do not have this counter, and evaluation does not read it.
    counters = {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked")}
    complete = {**counters, **_twins(wanted, tensors), **tensors}
    require_shapes(wanted, complete, source)
    network.load_state_dict(complete)


def _twins(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a file leaves out because it is the same tensor under another name, as safetensors does: tied embeddings."""
    same: dict[tuple[object, ...], list[str]] = {}
    for name, tensor in wanted.items():
        if tensor.numel():
            same.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype), []).append(name)
    given = {name: next((tensors[twin] for twin in names if twin in tensors), None) for names in same.values() for name in names}
    return {name: tensor for name, tensor in given.items() if tensor is not None and name not in tensors}


def spelled_like(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor | None]) -> Mapping[str, Tensor]:
    """All `tensors`, those at the place where the `wanted` ones lie by the network's names, the others by their own.

    `torch.compile` puts ``_orig_mod.`` wherever it was used; `DataParallel` (``module.``) and PyTorch Lightning (``model.``) put
    one prefix before all names, and may be put around each other.
    """
    found = checkpoint_fit.fit(tensors, wanted)
    return {**found.beside, **found.tensors}


def require_shapes(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> None:
    """Raise `CheckpointError` naming the first tensor that is missing, of another shape or kind, or that nobody wants."""
    for name, tensor in wanted.items():
        if name not in tensors:
            raise CheckpointError(f"{source} has no tensor {name!r}, which the network needs", "is it of another architecture?")
        found = tensors[name]
        if found.shape != tensor.shape:
            hint = "is it of another architecture, or were other arguments used?"
            if tensor.ndim in (1, 2) and found.shape[1:] == tensor.shape[1:]:
                rows = found.shape[0]
                hint += f" For {rows} classes: --arg num_classes={rows} (a network of deploykit's own: classes={rows})"
            problem = f"{source} has {name!r} of shape {list(found.shape)}, the network needs {list(tensor.shape)}"
            raise CheckpointError(problem, hint)
        checkpoint_guard.require_dense(name, found, source)
    extra = sorted(set(tensors) - set(wanted))
    if extra:
        raise CheckpointError(
            f"{source} has a tensor {extra[0][:80]!r} that the network does not know", "is it of another architecture?"
        )


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    checkpoint_kind.require_file(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({error})", "is the file whole?") from error


def _header(text: str, path: Path) -> dict[str, Any]:
    if len(text) > MAX_HEADER:
        raise CheckpointError(f"the header of {path} is larger than {MAX_HEADER} bytes", "was the file made by deploykit?")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the header of {path} is not valid JSON", "is the file whole?") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else None
        raise CheckpointError(f"{path} has header format {found!r}, this deploykit reads {FORMAT}", "update deploykit")
    return header


def _own_memory(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _input(value: Mapping[str, Any]) -> ImageInput | ArrayInput:
    """The input's rules; every command makes a few samples of that size, so the size is bounded."""
    rules = input_from_dict(value)
    shape = (rules.channels, rules.height, rules.width) if isinstance(rules, ImageInput) else rules.shape
    if prod(size or 1 for size in shape) > MAX_SAMPLE:
        raise ValueError(f"a sample of more than {MAX_SAMPLE:,} elements")
    return rules


def _seed(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64):
        return value
    raise ValueError(f"{str(value)[:40]!r} is no seed")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} is not a text")
    value.encode()  # JSON can smuggle in halves of surrogate pairs
    return value
