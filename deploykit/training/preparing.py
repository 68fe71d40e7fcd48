"""What a run trains, from what was asked for: the network with its data, what it learns, the weights that it starts from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deploykit import architectures, datasets
from deploykit.architectures import Architecture, ImageInput, Recipe
from deploykit.datasets import Dataset
from deploykit.errors import DatasetError, InputError, kind_of
from deploykit.network import own as own_networks
from deploykit.network.heads import Head, first
from deploykit.network.request import Target
from deploykit.network.running import run
from deploykit.training import own
from deploykit.training.plan import Plan, class_weights, fit_arguments, fit_colours, initialize
from deploykit.training.tasks import Goal

MOST_SIDE = 4096  # pixels of an input's side


def name_of(name: object) -> str:
    """The name of what is trained. Raises `InputError` for a module or file: a checkpoint has to say how its network is made."""
    if isinstance(name, str):
        return name
    kind = f"the path of a file ({name})" if isinstance(name, os.PathLike) else kind_of(name)
    hint = 'give "lenet5", "torchvision:resnet18" or "module:callable"'
    raise InputError(f"what is trained has a name, and cannot be {kind}", hint)


Asked = tuple[Architecture, Recipe, Dataset, Mapping[str, Any], Head | None, str, tuple[str, ...]]


def of_architecture(
    name: str, source: str | None, arguments: Mapping[str, Any], init: Path | None, limit: int | None, changes: dict[str, Any],
    image: tuple[int, int] | None, _seed: int,
) -> Asked:  # fmt: skip
    """A registered network with its own recipe."""
    if Target.parse(name).kind in ("checkpoint", "onnx"):
        raise InputError(
            f"{name} is a file, and what is trained is a network", f"name it, and start from the file with --init {name}"
        )
    architecture = architectures.get(name)
    if image is not None:
        raise InputError(f"{name} has an input of its own; --image does not go with it", "leave it out")
    recipe = replace(architecture.recipe, **changes)
    dataset = datasets.load(recipe.dataset, limit)
    given, notes = fit_colours(architecture, dataset if source is not None else None, arguments, init)
    return architecture, recipe, dataset, fit_arguments(architecture, dataset, given), None, "", notes


def of_own(
    name: str, source: str | None, arguments: Mapping[str, Any], init: Path | None, limit: int | None, changes: dict[str, Any],
    image: tuple[int, int] | None, seed: int,
) -> Asked:  # fmt: skip
    """A network of the user's own or torchvision's, fitted to the data."""
    own_networks.factory_of(name)  # what is mistyped is said before what is missing
    if source is None:
        raise InputError(f"{name} has no data of its own to learn from", "give yours: --data FOLDER (or FILE.npz)")
    dataset = datasets.load(source, limit)
    fitted = own.fit(name, dataset, source, arguments, image, init, seed)
    recipe = replace(fitted.architecture.recipe, **changes)
    return fitted.architecture, recipe, dataset, fitted.arguments, fitted.head, fitted.last, fitted.notes


def goal_of(recipe: Recipe, dataset: Dataset, brought: bool, head: Head | None) -> tuple[Goal, tuple[str, ...]]:
    """What is learned, and a remark where some classes are rare in data that the user `brought`."""
    if recipe.loss == "mse":
        spread = unit(dataset)[0].tolist() if head is not None and head.scaled else None
        return Goal("regression", spread=None if spread is None else tuple(spread)), ()
    if dataset.task == "segmentation":
        return Goal("segmentation"), ()
    weights, notes = class_weights(dataset) if brought else (None, ())
    return Goal("classification", weights), notes


def unit(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """The standard deviation (1 for what is always the same) and the mean of each target of a regression: (outputs,) each."""
    targets = torch.from_numpy(dataset.train.targets).double()
    spread = targets.std(dim=0, correction=0)
    return torch.where(spread > 0, spread, torch.ones_like(spread)).float(), targets.mean(dim=0).float()


def require_pixels(network: nn.Module, plan: Plan) -> None:
    """Raise `DatasetError` for a registered network that gives no answer for each pixel, where the data are masks."""
    name, rules = plan.architecture.name, plan.input
    shape = (rules.channels, rules.height, rules.width) if isinstance(rules, ImageInput) else plan.architecture.input_shape
    sizes = tuple(first(run(network.eval(), [torch.zeros((1, *shape))], name)).shape)
    if len(sizes) != 4:
        found = "x".join(map(str, sizes))
        raise DatasetError(
            f"{plan.dataset.name} has masks, and {name} gives no class for each pixel but {found}", "choose another --data"
        )


def begun(network: nn.Module, init: Path, plan: Plan) -> Plan:
    """Give the network the weights of `init`; its head, where that is fresh, then learns alone in the first epoch."""
    fresh = {name: tensor.clone() for name, tensor in head_of(network, plan).items()}
    notes = initialize(network, init, plan)
    frozen = bool(fresh) and all(torch.equal(fresh[name], tensor) for name, tensor in head_of(network, plan).items())
    if frozen:
        notes = (*notes, f"in the first epoch {plan.last} learns alone")
    return replace(plan, notes=(*plan.notes, *notes), frozen=frozen)


def head_of(network: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """The tensors of the last layer."""
    return {name: tensor for name, tensor in network.state_dict().items() if plan.last and name.startswith(f"{plan.last}.")}


def body_of(network: nn.Module, plan: Plan) -> tuple[list[nn.Parameter], list[nn.Module]]:
    """The parameters and the modules beside the head."""
    within = f"{plan.last}."
    parameters = [p for name, p in network.named_parameters() if not name.startswith(within)]
    return parameters, [m for name, m in network.named_modules() if not f"{name}.".startswith(within)]


def size(image: int | str | Sequence[int] | None) -> tuple[int, int] | None:
    """(height, width) of 96, "96", "96x128" or (96, 128). Raises `InputError`."""
    if image is None:
        return None
    parts = str(image).lower().split("x") if isinstance(image, (int, str)) else [str(part) for part in image]
    numbers = [int(part) if part.isdecimal() and len(part) < 6 else 0 for part in parts]
    if len(numbers) not in (1, 2) or not all(1 <= number <= MOST_SIDE for number in numbers):
        raise InputError(f"the size of images cannot be {image!r:.60}", f"give a side, 96, or HxW, 96x128, up to {MOST_SIDE}")
    return numbers[0], numbers[-1]
