"""All that decides a training run's result, put together before it starts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from deploykit.architectures import Architecture, ImageInput, Recipe
from deploykit.datasets import Dataset, in_colour
from deploykit.errors import CheckpointError, DatasetError, InputError, counted
from deploykit.network import checkpoint, checkpoint_kind
from deploykit.network import torchvision as torchvision_zoo
from deploykit.network.heads import Head
from deploykit.training import record
from deploykit.training.tasks import Goal

UNBALANCED = 2  # times as many samples as in the smallest class
MOST_WEIGHT = 10.0  # of a class, beside the largest one's


@dataclass(frozen=True)
class Plan:
    """All that decides a run's result.

    `goal`: what is learned. `own`: the network is not one of deploykit's; `head`: of such a one, the layer that was put in the
    place of its last one, and `last` the path of that, where it can be told. `frozen`: in the first epoch nothing but the head
    learns.
    """

    architecture: Architecture
    recipe: Recipe
    dataset: Dataset
    arguments: Mapping[str, Any]
    seed: int
    precision: str
    limit: int | None
    patience: int | None
    folder: Path
    notes: tuple[str, ...] = ()
    init: Path | None = None
    goal: Goal = field(default_factory=lambda: Goal("classification"))
    own: bool = False
    head: Head | None = None
    last: str = ""
    frozen: bool = False

    @property
    def input(self) -> Any:
        """The preprocessing rules with the channels that the arguments ask for."""
        return self.architecture.input_for(self.arguments)

    @property
    def classification(self) -> bool:
        """Whether the loss is cross-entropy, per sample or per pixel."""
        return self.recipe.loss == "cross-entropy"

    @property
    def metric(self) -> str:
        """The name of what is measured on a split, see `Goal`."""
        return self.goal.metric

    def check(self) -> None:
        """Raise `InputError` or `DatasetError` for numbers and data that cannot be trained with, or not be recorded."""
        recipe = self.recipe
        whole = isinstance(recipe.epochs, int) and isinstance(recipe.batch_size, int)
        if not whole or recipe.epochs < 0 or recipe.batch_size < 1 or not (math.isfinite(recipe.lr) and recipe.lr > 0):
            raise InputError(
                f"cannot train {self.architecture.name} for {recipe.epochs} epochs, batch {recipe.batch_size}, lr {recipe.lr}",
                "choose epochs >= 0, batch size >= 1 and lr > 0",
            )
        if not len(self.dataset.train):
            raise DatasetError(f"the dataset {self.dataset.name} has no training samples", "choose another --data")
        if self.classification and self.dataset.classes is None:
            raise DatasetError(
                f"{self.architecture.name} is a classifier, the dataset {self.dataset.name} has no classes",
                "choose another --data",
            )
        self._check_records()

    def _check_records(self) -> None:
        """Raise for what the checkpoint and the history could not keep: better now than after the first epoch."""
        if isinstance(self.seed, bool) or not (isinstance(self.seed, int) and 0 <= self.seed < 1 << 64):
            raise InputError(f"cannot train with the seed {self.seed!r}", "choose a whole number from 0 to 2**64 - 1")
        for name, value in self.arguments.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                raise InputError(
                    f"cannot train {self.architecture.name} with {name}={value!r:.80}: a checkpoint cannot keep it",
                    "give finite numbers, texts, true or false, or lists of them",
                ) from error
        for label in self.dataset.classes or ():
            try:
                label.encode()
            except UnicodeError as error:
                raise DatasetError(f"the class {label!r} has a name that is not UTF-8", "rename it") from error

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed."""
        decided = {"input": asdict(self.input), "head": self.head and self.head.document()} if self.own else {}
        return {
            **decided,
            "architecture": self.architecture.name,
            "arguments": dict(self.arguments),
            "recipe": asdict(self.recipe),
            "seed": self.seed,
            "precision": self.precision,
            "samples": len(self.dataset.train),
        }


def plain(value: Any) -> Any:
    """`value` with Python's numbers in place of numpy's, also in lists, tuples and dicts; JSON knows no others."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, tuple):
        return tuple(plain(part) for part in value)
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    return value


def fit_arguments(architecture: Architecture, dataset: Dataset, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments to build with, complete; `classes` follows the dataset unless the user sets it."""
    fitted = {**architecture.defaults, **arguments}
    channels = fitted.get("in_channels")
    if isinstance(architecture.input, ImageInput) and channels not in (None, 1, 3):
        raise InputError(
            f"{architecture.name} cannot be trained with in_channels={channels}: images have 1 channel or 3",
            "use in_channels=1 (grey) or in_channels=3 (colours)",
        )
    count = len(dataset.classes) if dataset.classes else None
    if count and "classes" in architecture.defaults and "classes" not in arguments:
        fitted["classes"] = count
    if count and isinstance(fitted.get("classes"), int) and fitted["classes"] < count:
        raise InputError(
            f"{dataset.name} has {count} classes, --arg classes={fitted['classes']} is too few", f"use classes={count}"
        )
    return fitted


def fit_colours(
    architecture: Architecture, dataset: Dataset | None, arguments: Mapping[str, Any], init: Path | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The arguments with the channels of the data, and a remark on it; who says `in_channels` is not asked.

    `dataset`: the one that the user brought; the recipe's own is what the network was made for.

    With `init` the channels are those of its network: weights for one channel are none for three.
    """
    fitted, name = dict(arguments), architecture.name
    if dataset is None or not isinstance(architecture.input, ImageInput) or "in_channels" in arguments:
        return fitted, ()
    kept = checkpoint.load_checkpoint_or_none(init) if init is not None and checkpoint_kind.is_safetensors(init) else None
    channels = kept.arguments.get("in_channels") if kept is not None and "in_channels" in architecture.defaults else None
    if channels in (1, 3):
        fitted["in_channels"] = channels
    rules = architecture.input_for(fitted)
    if not isinstance(rules, ImageInput) or rules.channels == 3 or not in_colour(dataset.train):
        return fitted, ()
    if channels == 1:
        return fitted, (f"the images are in colour, the weights of {init} take grey ones: they are turned grey",)
    if "in_channels" not in architecture.defaults:
        return fitted, (f"the images are in colour, {name} takes grey ones: they are turned grey",)
    return {**fitted, "in_channels": 3}, (
        "the images are in colour: trained with in_channels=3 (--arg in_channels=1 turns them grey)",
    )


def initialize(network: nn.Module, path: Path, plan: Plan) -> tuple[str, ...]:
    """Weights to start from, and what of the file is left over, as remarks.

    Where the number of classes differs, the tensors that have one row per class start fresh.
    """

    def fitted(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if plan.own:
            return _with_own_head(torchvision_zoo.as_built_today(tensors, wanted), wanted, plan)
        return _with_fresh_head(tensors, wanted, path, plan.arguments.get("classes"))

    return checkpoint.load_part(network, checkpoint.read_all(path), str(path), fitted)


def _with_fresh_head(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path, classes: object) -> dict[str, Tensor]:
    """`tensors`, with the network's own in place of those that have one row per class where there are other `classes`."""
    given = dict(tensors)
    for name, tensor in wanted.items():
        found = given.get(name)
        if (
            found is not None
            and found.shape != tensor.shape
            and found.shape[1:] == tensor.shape[1:]
            and tensor.shape[:1] == (classes,)
        ):
            given[name] = tensor
        if found is not None and found.ndim == tensor.ndim == 4 and {found.shape[1], tensor.shape[1]} == {1, 3}:
            raise CheckpointError(
                f"{path} has {name!r} for {counted(found.shape[1], 'channel')}, the network takes {tensor.shape[1]}",
                f"add --arg in_channels={found.shape[1]}",
            )
    return given


def _with_own_head(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], plan: Plan) -> dict[str, Tensor]:
    """`tensors`, with the network's own in the place of its head's where the file has another head."""
    within = f"{plan.last}."
    head = {name: tensor for name, tensor in wanted.items() if plan.last and name.startswith(within)}
    if all(name in tensors and tensors[name].shape == tensor.shape for name, tensor in head.items()):
        return dict(tensors)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(within)} | head


def class_weights(dataset: Dataset) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    """How much each class counts in the loss where some are rare, so that no class is learned by leaving it out; and a remark.

    1 on average over the samples. `None` where the largest class has no more than twice the samples of the smallest.
    """
    if dataset.task != "classification" or dataset.classes is None:
        return None, ()
    counts = np.bincount(dataset.train.targets, minlength=len(dataset.classes))
    present = counts[counts > 0]
    if len(present) < 2 or present.max() <= UNBALANCED * present.min():
        return None, ()
    weights = np.where(counts > 0, np.minimum(present.max() / np.maximum(counts, 1), MOST_WEIGHT), 1.0)
    weights /= (weights * counts).sum() / counts.sum()
    largest, smallest = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max() + 1).argmin())
    shown = " and ".join(f"{counts[index]:,} {dataset.classes[index]}" for index in (largest, smallest))
    note = f"the classes are unbalanced ({shown}): the rare ones count more in the loss"
    return tuple(round(float(weight), 6) for weight in weights), (note,)


def checkpoint_of(plan: Plan, network: nn.Module, metrics: Mapping[str, Any]) -> checkpoint.Checkpoint:
    """The network as it stands, with all that is needed to rebuild it."""
    return checkpoint.Checkpoint(
        architecture=plan.architecture.name,
        arguments=plan.arguments,
        input=plan.input,
        tensors=network.state_dict(),
        classes=plan.dataset.classes if plan.classification else None,
        head=plan.head,
        task=plan.goal.task,
        loss=plan.recipe.loss,
        dataset=plan.dataset.name,
        recipe=asdict(plan.recipe),
        seed=plan.seed,
        metrics=metrics,
        versions=record.versions(),
    )
