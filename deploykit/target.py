"""How a user names a network, everywhere: the TARGET of every command becomes a `Network` here.

`lenet5` · `torchvision:mobilenet_v3_small` · `package.module:callable` · a checkpoint (`.safetensors`, `.pt`, `.pth`).
An `.onnx` file is a TARGET too, but no PyTorch network: `is_onnx` tells, and the stages that take one read it themselves.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deploykit import architectures, checkpoint, files
from deploykit.errors import CheckpointError, DependencyMissing, InputError, UnknownName
from deploykit.runtime.contract import ArrayInput, ImageInput, Output

WEIGHTS = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class InputSpec:
    """One input of a network: `shape` without the batch, `dtype` as torch names it."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def random(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal values (small whole numbers for integer inputs), shape (batch, *shape)."""
        if self.dtype.is_floating_point:
            return torch.randn(batch, *self.shape, generator=generator, dtype=self.dtype)
        return torch.randint(0, 2, (batch, *self.shape), generator=generator).to(self.dtype)


@dataclass(frozen=True)
class Network:
    """A PyTorch network, ready to run: in eval mode, with its weights, and all that is known about its input and output.

    `dataset` names what it was trained on; `data` is where that was read from, as the user typed it, and stays on this machine.
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

    @property
    def trained(self) -> bool:
        """False where the weights are fresh random numbers."""
        return self.checkpoint is not None

    def provenance(self) -> dict[str, Any]:
        """Where the weights came from, for the contract; no path of this machine."""
        digest = files.sha256(self.checkpoint) if self.checkpoint else None
        return {"network": self.name, "checkpoint_sha256": digest, "seed": None if self.checkpoint else self.seed}


def is_onnx(target: str) -> bool:
    """Whether a TARGET names an ONNX file."""
    return target.lower().endswith(".onnx")


def resolve(
    target: str,
    *,
    weights: Path | None = None,
    untrained: bool = False,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
    input_shapes: Sequence[tuple[int, ...]] | None = None,
) -> Network:
    """Build the network that `target` names.

    `weights`: a checkpoint to load instead of the default one. `untrained`: fresh weights from `seed` are fine.
    `arguments`: for the network's constructor. `input_shapes`: per input, without the batch, over what is known.

    Raises `UnknownName` with the nearest names, `CheckpointError` for weights that are missing or do not fit, and
    `InputError` for a callable that cannot be used.
    """
    if is_onnx(target):
        raise InputError(f"{target} is an ONNX file; a PyTorch network is needed here", "name an architecture or a checkpoint")
    torch.manual_seed(seed)
    if target.endswith(WEIGHTS):
        network = _from_checkpoint(target, weights, arguments)
    elif target.startswith("torchvision:"):
        network = _from_torchvision(target, weights, untrained, arguments)
    elif ":" in target:
        network = _from_callable(target, weights, arguments, input_shapes)
    else:
        network = _from_architecture(target, weights, untrained, arguments)
    network.module.eval()
    return _with_shapes(network, input_shapes, seed)


def _from_architecture(name: str, weights: Path | None, untrained: bool, arguments: Mapping[str, Any] | None) -> Network:
    architecture = architectures.get(name) if name in architectures.names() else None
    if architecture is None:
        raise UnknownName.among("network", name, architectures.names(), "`deploykit list architectures` shows all")
    default = checkpoint.folder_of(name) / checkpoint.NAME
    if weights is None and not untrained:
        if not default.is_file():
            raise CheckpointError(
                f"{name} has no checkpoint: {default} is not there",
                f"run `deploykit train {name}`, or add --untrained for fresh weights",
            )
        weights = default
    if weights is not None and weights.suffix == ".safetensors":
        with_header = checkpoint.load_checkpoint_or_none(weights)
        if with_header is not None:
            return _rebuilt(with_header, weights, name, arguments)
    complete = {**architecture.defaults, **(arguments or {})}
    module = architecture.create(complete)
    if weights is not None:
        checkpoint.load_weights(module, checkpoint.read_weights(weights), str(weights))
    rules = architecture.input_for(complete)
    output = Output("softmax" if architecture.recipe.loss == "cross-entropy" else "none")
    return Network(name, name, module, _one_input(rules), rules, output, architecture.recipe.dataset, weights)


def _from_checkpoint(target: str, weights: Path | None, arguments: Mapping[str, Any] | None) -> Network:
    path = Path(target)
    if weights is not None:
        raise InputError(f"{target} is a checkpoint already; --checkpoint {weights} makes it two", "give one of them")
    if path.suffix != ".safetensors":
        checkpoint.read_weights(path)
        raise CheckpointError(
            f"{path} holds weights only, so the network is not known",
            f"name it: deploykit export ARCH --checkpoint {path}",
        )
    loaded = checkpoint.load_checkpoint(path)
    return _rebuilt(loaded, path, None, arguments, target)


def _rebuilt(
    loaded: checkpoint.Checkpoint,
    path: Path,
    wanted: str | None,
    arguments: Mapping[str, Any] | None,
    target: str | None = None,
) -> Network:
    if wanted is not None and loaded.architecture != wanted:
        raise CheckpointError(
            f"{path} is a checkpoint of {loaded.architecture[:80]!r}, not of {wanted!r}",
            f"run `deploykit train {wanted}`, or name the other network",
        )
    if arguments:
        raise InputError(f"the arguments of {path} are recorded in it; --arg cannot change them", "drop --arg")
    output = Output("softmax" if loaded.loss == "cross-entropy" else "none", loaded.classes)
    name, rules, data = loaded.architecture, loaded.input, loaded.recipe.get("dataset")
    return Network(
        target or name, name, loaded.build(), _one_input(rules), rules, output, loaded.dataset or None, path,
        data=data if isinstance(data, str) else None,
    )  # fmt: skip


def _one_input(rules: ImageInput | ArrayInput) -> tuple[InputSpec, ...]:
    """The single input of a shipped network, by its preprocessing rules (free sizes become 1)."""
    if isinstance(rules, ImageInput):
        return (InputSpec("input", (rules.channels, rules.height, rules.width)),)
    return (InputSpec("input", tuple(size or 1 for size in rules.shape)),)


def _from_torchvision(target: str, weights: Path | None, untrained: bool, arguments: Mapping[str, Any] | None) -> Network:
    try:
        from torchvision import models
    except ImportError as error:
        raise DependencyMissing.of("torchvision", "export") from error
    name = target.removeprefix("torchvision:")
    known = models.list_models(module=models)
    if name not in known:
        raise UnknownName.among("torchvision network", name, known)
    if weights is None and not untrained:
        raise CheckpointError(
            f"{target} needs weights, and nothing is downloaded",
            "give --checkpoint FILE, or add --untrained for fresh weights",
        )
    # The auxiliary heads exist for training alone; torchvision builds them by default.
    keywords = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    module = _call(models.get_model_builder(name), {**keywords, **(arguments or {})}, target)
    if weights is not None:
        checkpoint.load_weights(module, checkpoint.read_weights(weights), str(weights))
    best = models.get_model_weights(name).DEFAULT
    rules = _torchvision_rules(best.transforms())
    labels = tuple(best.meta["categories"]) if "num_classes" not in (arguments or {}) else None
    shape = (3, rules.height, rules.width)
    return Network(target, name, module, (InputSpec("input", shape),), rules, Output("softmax", labels), None, weights)


def _torchvision_rules(transforms: Any) -> ImageInput:
    side = transforms.crop_size[0]
    return ImageInput(
        channels=3,
        height=side,
        width=side,
        interpolation=transforms.interpolation.value,
        fit="center-crop",
        resize=transforms.resize_size[0],
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )


def _from_callable(
    target: str,
    weights: Path | None,
    arguments: Mapping[str, Any] | None,
    input_shapes: Sequence[tuple[int, ...]] | None,
) -> Network:
    module_name, _, attribute = target.partition(":")
    factory = _import(module_name, attribute, target)
    module = _call(factory, arguments or {}, target)
    # Without a checkpoint the callable's own weights are taken as they are: it may have loaded them itself.
    if weights is not None:
        checkpoint.load_weights(module, checkpoint.read_weights(weights), str(weights))
    specs = _specs(module, input_shapes, target)
    rules = ArrayInput(specs[0].shape, str(specs[0].dtype).removeprefix("torch."))
    return Network(target, attribute, module, specs, rules, Output("none"), None, weights)


def _specs(module: nn.Module, input_shapes: Sequence[tuple[int, ...]] | None, target: str) -> tuple[InputSpec, ...]:
    """From `--input-shape`, else from the module's own `example_inputs` (tensors with a batch, by name or in order)."""
    names = list(inspect.signature(module.forward).parameters)
    examples = getattr(module, "example_inputs", None)
    examples = examples() if callable(examples) else examples
    if input_shapes:
        if len(input_shapes) == 1:
            return (InputSpec("input", tuple(input_shapes[0])),)
        return tuple(InputSpec(name, tuple(shape)) for name, shape in zip(names, input_shapes, strict=False))
    if isinstance(examples, Mapping):
        return tuple(InputSpec(name, tuple(t.shape[1:]), t.dtype) for name, t in examples.items())
    if isinstance(examples, Sequence) and examples:
        return tuple(InputSpec(name, tuple(t.shape[1:]), t.dtype) for name, t in zip(names, examples, strict=False))
    raise InputError(
        f"the input of {target} is not known",
        "give --input-shape 3x224x224 (without the batch), or set `example_inputs` on the module",
    )


def _import(module_name: str, attribute: str, target: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if missing == module_name or module_name.startswith(f"{missing}."):
            raise InputError(f"cannot import {module_name!r} for {target}", "is the file in this folder or installed?") from error
        raise InputError(f"{target} needs the package {missing!r}, which is not installed", f"pip install {missing}") from error
    except Exception as error:
        raise InputError(f"importing {module_name!r} for {target} raised {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        public = [n for n in vars(module) if not n.startswith("_")]
        near = difflib.get_close_matches(attribute, public, n=3)
        raise InputError(f"{module_name!r} has no {attribute!r}", f"did you mean {', '.join(near)}?" if near else "")
    return getattr(module, attribute)


def _call(factory: Any, arguments: Mapping[str, Any], target: str) -> nn.Module:
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise InputError(
            f"{target} is no callable but a {type(factory).__name__}", "name a class or function that returns a module"
        )
    try:
        module = factory(**arguments)
    except Exception as error:
        raise InputError(
            f"calling {target} raised {type(error).__name__}: {error}", "pass arguments with --arg key=value"
        ) from error
    if not isinstance(module, nn.Module):
        raise InputError(f"{target} returned a {type(module).__name__}, not a torch.nn.Module")
    return module


def _with_shapes(network: Network, input_shapes: Sequence[tuple[int, ...]] | None, seed: int) -> Network:
    if not input_shapes:
        return replace(network, seed=seed)
    if len(input_shapes) != len(network.inputs):
        raise InputError(f"{network.target} has {len(network.inputs)} inputs, {len(input_shapes)} shapes were given")
    specs = tuple(replace(spec, shape=tuple(shape)) for spec, shape in zip(network.inputs, input_shapes, strict=True))
    return replace(network, inputs=specs, rules=_rules_for(network.rules, specs[0]), seed=seed)


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
