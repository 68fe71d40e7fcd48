"""A network of the user's own, or torchvision's, fitted to data: its size of images, colours, head, and a recipe for any network.

What is decided here is decided by the network and the data alone, so that a run that is resumed decides the same; all of it is
said, and recorded in the checkpoint.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from deploykit.architectures import Architecture, ArrayInput, ImageInput, Recipe
from deploykit.datasets import Dataset, Sample, Split, as_image, in_colour, mixed
from deploykit.errors import DatasetError, InputError
from deploykit.network import calling, checkpoint, checkpoint_kind, heads, own
from deploykit.network import torchvision as torchvision_zoo
from deploykit.network.factories import call, current_folder_importable
from deploykit.network.heads import Head
from deploykit.network.request import Target
from deploykit.network.running import seeded
from deploykit.runtime.preprocessing import to_pixels

# Parameters of constructors that say how many outputs, and how many channels of colour, a network has.
OUTPUTS = ("num_classes", "classes", "n_classes", "num_labels", "num_outputs", "n_outputs")
CHANNELS = ("in_channels", "in_chans", "n_channels", "num_channels", "input_channels")
SIDES = (224, 32, 28, 64, 96, 128, 256, 299, 227)  # pixels; tried in this order where neither network nor data say a size
LOOKED_AT = 64  # images whose sizes and colours are looked at
LARGEST = 224  # pixels of a side that is taken over from the data


@dataclass(frozen=True)
class Fitted:
    """A network that is ready to be trained: how it is built, with which `arguments`, and what is to be said of that.

    `head`: what was put in the place of its last layer, if anything; `last`: the path of that layer, "" where none can be told.
    """

    architecture: Architecture
    arguments: Mapping[str, Any]
    head: Head | None
    last: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Wanted:
    """What the data ask for. `outputs`: classes, or values to be told. `channels`: that the images have, 0 for arrays."""

    dataset: Dataset
    outputs: int
    channels: int


def fit(
    name: str,
    dataset: Dataset,
    source: str,
    arguments: Mapping[str, Any],
    image: tuple[int, int] | None = None,
    init: Path | None = None,
    seed: int = 0,
) -> Fitted:
    """Build the network that is called `name`, try it on samples of `dataset`, and decide what it needs to learn from them.

    `image`: (height, width) of its input, else what fits. `init`: weights that it will start from, which may know their input.
    Raises `InputError` for a network that cannot take the samples, or whose head cannot be found, `DatasetError`.
    """
    factory = own.factory_of(name)
    called = own.known_as(name, factory)
    wanted, said = _wanted(dataset, called, arguments)
    notes: list[str] = []
    arguments = {key: value for key, value in arguments.items() if key not in CHANNELS or _takes(factory, key, called)}
    given = {**_of_torchvision(called, init), **_arguments(factory, wanted, arguments), **arguments}
    with seeded(seed):
        with current_folder_importable():
            module = call(factory, given, called).eval()
        _require_one_input(module, called)
        rules, output, path = _tried(module, list(_candidates(called, module, given, wanted, said, image, init)), called, image)
        head, note = _head(module, output, path, wanted, called)
        if head is not None:
            heads.replace(module, head)
            _require_outputs(_shape_of(module.eval(), rules, called), wanted, called, head)
    if isinstance(rules, ImageInput):
        rules = _coloured(rules, wanted, called, notes)
        notes.append(f"images: {rules.height}x{rules.width} pixels, {'grey' if rules.channels == 1 else 'RGB'}")
    notes += [note] if note else []
    recipe = _recipe(dataset, source, init is not None, wanted)
    return Fitted(own.architecture(called, factory, rules, recipe, given, head), given, head, path, tuple(notes))


def _require_one_input(module: nn.Module, name: str) -> None:
    """Raise `InputError` for a `forward` that needs more than one tensor, or takes it by keyword alone."""
    needed = calling.required(module)
    if len(needed) > 1 or not set(needed) <= set(calling.parameters(module)):
        problem = f"forward() of {name} needs {', '.join(needed)[:120]}; what is learned from has one input, given by position"
        raise InputError(problem, "train it by code of your own, and export it with --checkpoint; or wrap it")


def _recipe(dataset: Dataset, source: str, begun: bool, wanted: _Wanted) -> Recipe:
    """Good enough for any network: AdamW, a rate that rises and falls, short gradients. Less of it for weights that have begun."""
    found = Recipe(
        dataset=source,
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.01,
        schedule="one-cycle",
        epochs=20,
        batch_size=_batch(len(dataset.train), 32),
        clip_norm=1.0,
    )
    if begun:
        found = replace(found, lr=5e-4, epochs=10)
    if dataset.task == "regression":
        return replace(found, loss="mse", epochs=found.epochs * 2)
    if not wanted.channels:
        return found
    if dataset.task == "segmentation":
        return replace(found, augment="crop-flip", batch_size=_batch(len(dataset.train), 8), epochs=found.epochs * 2)
    # A mirrored photograph is a photograph; a mirrored letter is not a letter, and those are grey.
    return replace(found, augment="crop-flip" if wanted.channels == 3 else "affine")


def _batch(samples: int, most: int) -> int:
    """The largest power of two, from 8 to `most`, that makes 16 steps of an epoch: few samples should make enough steps."""
    found = most
    while found > 8 and found * 16 > samples:
        found //= 2
    return found


def _wanted(dataset: Dataset, name: str, arguments: Mapping[str, Any]) -> tuple[_Wanted, bool]:
    """What the data ask for, and whether it was said how many channels they are to have."""
    first = dataset.train.samples[0]
    outputs = len(dataset.classes) if dataset.classes else int(np.prod(dataset.train.targets.shape[1:], dtype=int))
    if not _is_image(first):
        return _Wanted(dataset, outputs, 0), False
    said = next((arguments[key] for key in CHANNELS if key in arguments), None)
    if said in (1, 3):
        return _Wanted(dataset, outputs, said), True
    if mixed(dataset.train):
        raise DatasetError(
            f"{dataset.name} has images in grey and images in colour, from which {name} would learn the difference",
            f"convert them, or say what to make of them: --arg {CHANNELS[0]}=1 (grey) or --arg {CHANNELS[0]}=3",
        )
    return _Wanted(dataset, outputs, 3 if in_colour(dataset.train) else 1), any(key in arguments for key in CHANNELS)


def _is_image(sample: Sample) -> bool:
    return isinstance(sample, Image.Image) or sample.dtype == np.uint8


def _of_torchvision(name: str, init: Path | None) -> dict[str, Any]:
    """The keywords with which torchvision builds a network to be used."""
    target = Target.parse(name)
    if target.kind != "torchvision":
        return {}
    tensors = checkpoint.read_all(init) if init is not None else {}
    return torchvision_zoo.keywords(target.name, None, tensors)


def _takes(factory: Callable[..., Any], key: str, name: str) -> bool:
    """Whether a constructor takes an argument of that name, or may: one that says how to read the images need not go to it."""
    try:
        known = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return True
    any_name = Target.parse(name).kind != "torchvision" and any(each.kind is each.VAR_KEYWORD for each in known)
    return any_name or any(each.name == key for each in known)


def _arguments(factory: Callable[..., Any], wanted: _Wanted, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The number of outputs and channels, by the names under which a constructor takes them."""
    try:
        known = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return {}
    found: dict[str, Any] = {}
    for names, value in ((OUTPUTS, wanted.outputs), (CHANNELS, wanted.channels)):
        name = next((name for name in names if name in known), None)
        if name is not None and value and not any(each in arguments for each in names):
            found[name] = value
    return found


def _candidates(
    name: str,
    module: nn.Module,
    arguments: Mapping[str, Any],
    wanted: _Wanted,
    said: bool,
    image: tuple[int, int] | None,
    init: Path | None,
) -> Iterator[ImageInput | ArrayInput]:
    """Inputs to try, the most likely first."""
    split = wanted.dataset.train
    if not wanted.channels:
        yield ArrayInput(np.asarray(split.samples[0]).shape)
        return
    told = _told(name, module, arguments, init, image)
    if told is not None:
        yield told if image is None else _resized(told, *image)
        return
    sizes = [image] if image is not None else _sizes(split)
    for channels in (wanted.channels,) if said else (wanted.channels, 4 - wanted.channels):
        yield from (ImageInput(channels, height, width) for height, width in sizes)


def _told(
    name: str, module: nn.Module, arguments: Mapping[str, Any], init: Path | None, image: tuple[int, int] | None
) -> ImageInput | None:
    """The input that the weights, torchvision or the module itself knows."""
    kept = checkpoint.load_checkpoint_or_none(init) if init is not None and checkpoint_kind.is_safetensors(init) else None
    if kept is not None and kept.architecture == name and isinstance(kept.input, ImageInput):
        return kept.input
    target = Target.parse(name)
    if target.kind == "torchvision":
        entry = torchvision_zoo.published(target.name, init) or torchvision_zoo.usual(target.name, arguments)
        return torchvision_zoo.rules(entry, image[0] if image else arguments.get("image_size"))
    own_input = getattr(module, "image_input", None)
    return own_input if isinstance(own_input, ImageInput) else None


def _resized(rules: ImageInput, height: int, width: int) -> ImageInput:
    resize = max(height, width) if rules.fit == "center-crop" and (height, width) != (rules.height, rules.width) else rules.resize
    return replace(rules, height=height, width=width, resize=resize)


def _sizes(split: Split) -> list[tuple[int, int]]:
    """The size of the images where all have one, their usual side in steps of 32, and common sides."""
    last = len(split) - 1
    looked = sorted({round(last * i / (LOOKED_AT - 1)) for i in range(LOOKED_AT)})
    found = [as_image(split.samples[index]).size for index in looked]
    sides = [min(LARGEST, max(32, 32 * round(median(map(min, found)) / 32))), *SIDES]
    sizes = [(side, side) for side in sides]
    if len(set(found)) == 1 and max(found[0]) <= LARGEST:
        sizes.insert(0, (found[0][1], found[0][0]))
    return list(dict.fromkeys(sizes))


def _tried(
    module: nn.Module, candidates: Sequence[ImageInput | ArrayInput], name: str, image: tuple[int, int] | None
) -> tuple[ImageInput | ArrayInput, Tensor, str]:
    """The first input that the network takes, its answer, and the path of the layer that gives it."""
    refusal: InputError | None = None
    for rules in candidates:
        try:
            output, path = heads.watch(module, _example(rules), name)
        except InputError as error:
            refusal = refusal or error
            continue
        return rules, output, path
    problem = refusal.problem if refusal else f"{name} takes no input"
    hint = "give the size of its images: --image 96" if image is None else "choose another --image"
    if not isinstance(candidates[0], ImageInput):
        hint = "give arrays of the shape that it takes"
    own_hint = refusal.hint if refusal is not None and "--input-shape" not in refusal.hint else ""
    raise InputError(problem, own_hint or hint)


def _example(rules: ImageInput | ArrayInput) -> Tensor:
    """Two samples of noise."""
    shape = (rules.channels, rules.height, rules.width) if isinstance(rules, ImageInput) else tuple(s or 1 for s in rules.shape)
    return torch.randn((2, *shape), generator=torch.Generator().manual_seed(0))


def _shape_of(module: nn.Module, rules: ImageInput | ArrayInput, name: str) -> tuple[int, ...]:
    return tuple(heads.watch(module, _example(rules), name)[0].shape)


def _head(module: nn.Module, output: Tensor, path: str, wanted: _Wanted, name: str) -> tuple[Head | None, str]:
    """What the last layer has to be replaced by, and what is to be said of it; `None` where it may stay."""
    shape = tuple(output.shape)
    scaled = wanted.dataset.task == "regression" and bool(path) and isinstance(module.get_submodule(path), nn.Linear)
    if _width(shape) == wanted.outputs and not scaled:
        _require_outputs(shape, wanted, name, None)
        return None, ""
    if not path:
        raise InputError(
            f"the layer that makes the {_width(shape)} outputs of {name} cannot be found, and the data ask for {wanted.outputs}",
            f"let its constructor take {OUTPUTS[0]}, or end it in a Linear or a convolution",
        )
    layer = module.get_submodule(path)
    head = Head(path, wanted.outputs, heads.width(layer), scaled)
    if head.before == head.outputs:
        return head, f"head: {path} ({heads.describe(layer)}) is fresh, and scaled to the targets"
    also = ", scaled to the targets" if scaled else ""
    return head, f"head: {path} ({heads.describe(layer)}) was replaced by one of {wanted.outputs} outputs{also}"


def _width(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) > 1 else 1


def _require_outputs(shape: tuple[int, ...], wanted: _Wanted, name: str, head: Head | None) -> None:
    """Raise `InputError` for outputs of another shape than the task asks for."""
    task = wanted.dataset.task
    dimensions = 4 if task == "segmentation" else 2
    fits = len(shape) == dimensions or (task == "regression" and shape == (2,) and wanted.outputs == 1)
    if fits and _width(shape) == wanted.outputs:
        return
    asked = {
        "classification": f"a class for each sample needs 2x{wanted.outputs}",
        "segmentation": f"a class for each pixel needs 2x{wanted.outputs}xHxW",
        "regression": f"{wanted.outputs} values for each sample need 2x{wanted.outputs}",
    }[task]
    also = f", also with another {head.module}" if head is not None else ""
    raise InputError(
        f"{name} gives an output of {'x'.join(map(str, shape))} for two samples{also}; {asked}",
        "choose another network, or other --data",
    )


def _coloured(rules: ImageInput, wanted: _Wanted, name: str, notes: list[str]) -> ImageInput:
    """The rules with a mean and a standard deviation, where nobody told them: those of the training images."""
    if rules.channels != wanted.channels:
        have, takes = ("in colour", "grey ones") if wanted.channels == 3 else ("grey", "RGB")
        notes.append(f"the images are {have}, {name} takes {takes}: they are turned into those")
    if (rules.mean, rules.std) != ((0.0,), (1.0,)):
        return rules
    split = wanted.dataset.train
    last = len(split) - 1
    looked = sorted({round(last * i / (LOOKED_AT - 1)) for i in range(LOOKED_AT)})
    pixels = np.stack([to_pixels(as_image(split.samples[index]), rules) for index in looked]).astype(np.float64) / 255
    mean, std = pixels.mean(axis=(0, 1, 2)), pixels.std(axis=(0, 1, 2))
    return replace(
        rules,
        mean=tuple(round(float(value), 4) for value in mean),
        std=tuple(round(float(value), 4) if value > 0.01 else 1.0 for value in std),
    )
