"""Training: a recipe and a loop become a checkpoint, a history and a picture of the curves.

Read it from top to bottom: `train` prepares, `_run` is the loop, the rest are its steps. Everything random in an epoch is
drawn from (seed, epoch), so a run that was killed and resumed makes the same weights, bit for bit, as one that was not.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Sampler

from deploykit import architectures, checkpoint, datasets, files, training_record
from deploykit.architectures import Architecture, ImageInput, Recipe
from deploykit.augment import augment
from deploykit.datasets import Dataset
from deploykit.errors import DatasetError, DeviceUnavailable, InputError, TrainingDiverged
from deploykit.progress import SILENT, Progress
from deploykit.training_data import Batches

if TYPE_CHECKING:
    from accelerate import Accelerator

EVALUATION_BATCH = 256
CHECK_LOSS_EVERY = 25  # steps; reading the loss makes a GPU wait


@dataclass(frozen=True)
class TrainingResult:
    """What a run made. `metrics`: of train, validation and test, accuracies in 0..1 or mean squared errors, as `metric` says."""

    name: str
    checkpoint: Path
    epochs: int
    seconds: float
    metric: str
    metrics: Mapping[str, float]
    history: list[dict[str, float]] = field(repr=False)

    def document(self) -> dict[str, Any]:
        """The public JSON form."""
        return {**asdict(self), "checkpoint": str(self.checkpoint)}


def train(
    name: str,
    *,
    data: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "fp32",
    init: Path | None = None,
    resume: bool = False,
    patience: int | None = None,
    out: Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> TrainingResult:
    """Train an architecture by its recipe; write ``model.safetensors``, history, curves and a card into `out`.

    Anything left at `None` comes from the recipe. `limit`: at most so many training samples. `patience`: stop after so many
    epochs without a better validation metric. `init`: weights to start from (a head for another number of classes starts
    fresh). `resume`: go on where an interrupted run into the same folder stopped.

    Raises `UnknownName`, `InputError`, `DatasetError`, `CheckpointError` before anything is written, `OutputError` for a
    folder that cannot be written, `TrainingDiverged` when the loss is no longer finite, `DeviceUnavailable`.
    """
    architecture = architectures.get(name)
    chosen = {"dataset": data, "epochs": epochs, "batch_size": batch_size, "lr": lr}
    changes: dict[str, Any] = {k: v for k, v in chosen.items() if v is not None}
    recipe = replace(architecture.recipe, **changes)
    dataset = datasets.load(recipe.dataset, limit)
    arguments = _fit_arguments(architecture, dataset, arguments or {})
    folder = out or checkpoint.folder_of(name)
    plan = Plan(architecture, recipe, dataset, arguments, seed, precision, limit, patience, folder)
    plan.check()
    torch.manual_seed(seed)
    network = architecture.create(arguments)
    if min(len(dataset.train), recipe.batch_size) == 1 and any(isinstance(m, _BatchNorm) for m in network.modules()):
        raise DatasetError(
            f"{name} has BatchNorm, which cannot learn from a batch of one", "use 2 samples or more, and --batch-size 2 or more"
        )
    if init is not None:
        _initialize(network, init, plan)
    files.writable_folder(folder)
    state = _State.load(plan, network) if resume else _State()
    if state.finished is not None:
        return state.finished
    accelerator = _accelerator(device, precision, recipe)
    with _deterministic():
        return _run(plan, network, state, accelerator, progress)


@dataclass(frozen=True)
class Plan:
    """All that decides a run's result."""

    architecture: Architecture
    recipe: Recipe
    dataset: Dataset
    arguments: Mapping[str, Any]
    seed: int
    precision: str
    limit: int | None
    patience: int | None
    folder: Path

    @property
    def input(self) -> Any:
        """The preprocessing rules with the channels that the arguments ask for."""
        return self.architecture.input_for(self.arguments)

    @property
    def classification(self) -> bool:
        """Whether the loss is cross-entropy, and the metric accuracy."""
        return self.recipe.loss == "cross-entropy"

    def check(self) -> None:
        """Raise for numbers and data that cannot be trained with."""
        recipe = self.recipe
        if recipe.epochs < 0 or recipe.batch_size < 1 or not (math.isfinite(recipe.lr) and recipe.lr > 0):
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

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed."""
        return {
            "architecture": self.architecture.name,
            "arguments": dict(self.arguments),
            "recipe": asdict(self.recipe),
            "seed": self.seed,
            "precision": self.precision,
            "samples": len(self.dataset.train),
        }


def _run(plan: Plan, network: nn.Module, state: _State, accelerator: Accelerator, progress: Progress) -> TrainingResult:
    began = time.perf_counter() - state.seconds
    recipe, dataset = plan.recipe, plan.dataset
    progress.start(f"reading {dataset.name}")
    batches = {name: Batches(getattr(dataset, name), plan.input) for name in ("train", "validation", "test")}
    order = _Order(len(dataset.train), recipe.batch_size, plan.seed)
    loader = DataLoader(batches["train"], batch_sampler=order, collate_fn=_as_is)
    optimizer = _optimizer(network, recipe)
    scheduler = LambdaLR(optimizer, _schedule(recipe, len(order))) if optimizer else None
    state.restore(network, optimizer, scheduler)
    model, optimizer, loader = accelerator.prepare(network, optimizer, loader) if optimizer else (network, None, loader)
    if optimizer is not None:
        progress.start(f"training {plan.architecture.name}", recipe.epochs * len(order))
        progress.advance(state.epoch * len(order))
        for epoch in range(state.epoch, recipe.epochs):
            if plan.patience is not None and state.stale >= plan.patience:
                break
            order.epoch = epoch
            torch.manual_seed(_mix(plan.seed, epoch, accelerator.process_index))
            loss = _train_epoch(model, loader, optimizer, scheduler, plan, accelerator, progress)
            _agree(network, accelerator)
            validation = _evaluate(network, batches["validation"], plan, accelerator)
            state.record(epoch, loss, validation, network, time.perf_counter() - began, plan)
            if accelerator.is_main_process:
                state.save(plan, network, optimizer, scheduler)
            accelerator.wait_for_everyone()
    if state.best is not None:
        network.load_state_dict(state.best)
        _agree(network, accelerator)
    metrics = {name: _evaluate(network, batches[name], plan, accelerator) for name in ("train", "validation", "test")}
    return _finish(plan, network, state, metrics, time.perf_counter() - began, accelerator)


def _train_epoch(
    model: nn.Module,
    loader: Any,
    optimizer: Any,
    scheduler: Any,
    plan: Plan,
    accelerator: Accelerator,
    progress: Progress,
) -> float:
    """One pass over the training split; gives the mean loss. Raises `TrainingDiverged`."""
    model.train()
    fill = _background(plan.input)
    total, steps = torch.zeros((), device=accelerator.device), 0
    for inputs, targets in loader:
        if plan.recipe.augment != "none":
            inputs = augment(inputs, plan.recipe.augment, fill)
        with accelerator.autocast():
            loss = _loss(model(inputs), targets, plan)
        accelerator.backward(loss)
        if plan.recipe.clip_norm is not None:
            accelerator.clip_grad_norm_(model.parameters(), plan.recipe.clip_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        total += loss.detach()
        steps += 1
        progress.advance(note=f"loss {float(total) / steps:.4f}" if steps % CHECK_LOSS_EVERY == 0 else "")
        if steps % CHECK_LOSS_EVERY == 0:
            _require_finite(total, plan)
    _require_finite(total, plan)
    return float(total) / max(steps, 1)


def _require_finite(total: Tensor, plan: Plan) -> None:
    if not bool(torch.isfinite(total)):
        raise TrainingDiverged(
            f"training {plan.architecture.name}: the loss is no longer finite; the last good checkpoint stays",
            f"try a smaller --lr than {plan.recipe.lr:g}",
        )


def _loss(outputs: Tensor, targets: Tensor, plan: Plan) -> Tensor:
    if plan.classification:
        return F.cross_entropy(outputs.float(), targets)
    return F.mse_loss(outputs.float(), targets.reshape(outputs.shape))


def _agree(network: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the weights and BatchNorm statistics of the first one; each has seen other samples."""
    if accelerator.num_processes > 1:
        for tensor in network.state_dict().values():
            torch.distributed.broadcast(tensor, src=0)


@torch.no_grad()
def _evaluate(network: nn.Module, batches: Batches, plan: Plan, accelerator: Accelerator) -> float:
    """Accuracy (0..1) or mean squared error over a split; every sample is counted once, in whatever process it lands."""
    network.eval()
    right = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    for indices in _shard(len(batches), accelerator.num_processes, accelerator.process_index):
        inputs, targets = (t.to(accelerator.device) for t in batches.__getitems__(indices))
        outputs = network(inputs).float()
        if plan.classification:
            right[0] += (outputs.argmax(dim=1) == targets).sum()
        else:
            right[0] += ((outputs - targets.reshape(outputs.shape)) ** 2).mean(dim=tuple(range(1, outputs.ndim))).sum()
        right[1] += len(targets)
    total = accelerator.reduce(right, reduction="sum")
    return float(total[0] / total[1].clamp(min=1))


def _finish(
    plan: Plan, network: nn.Module, state: _State, metrics: dict[str, float], seconds: float, accelerator: Accelerator
) -> TrainingResult:
    metric = "accuracy" if plan.classification else "mse"
    path = plan.folder / checkpoint.NAME
    result = TrainingResult(plan.architecture.name, path, state.epoch, seconds, metric, metrics, state.history)
    if accelerator.is_main_process:
        weights = _checkpoint(plan, network, {**metrics, "metric": metric, "epoch": state.best_epoch})
        checkpoint.save_checkpoint(weights, path)
        training_record.write(plan.folder, result.document(), plan.fingerprint(), weights.versions)
        (plan.folder / _State.FILE).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return result


def _checkpoint(plan: Plan, network: nn.Module, metrics: Mapping[str, Any]) -> checkpoint.Checkpoint:
    return checkpoint.Checkpoint(
        architecture=plan.architecture.name,
        arguments=plan.arguments,
        input=plan.input,
        tensors=network.state_dict(),
        classes=plan.dataset.classes if plan.classification else None,
        loss=plan.recipe.loss,
        dataset=plan.dataset.name,
        recipe=asdict(plan.recipe),
        seed=plan.seed,
        metrics=metrics,
        versions=training_record.versions(),
    )


@dataclass
class _State:
    """Where a run stands. It lies in the run's folder after every epoch, and is removed when the run is done."""

    epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    best_epoch: int = 0
    best_value: float = math.nan
    stale: int = 0
    tensors: Mapping[str, Any] = field(default_factory=dict)
    finished: TrainingResult | None = None

    FILE = "resume.pt"

    @classmethod
    def load(cls, plan: Plan, network: nn.Module) -> _State:
        """Raises `CheckpointError` where there is nothing to resume, or it belongs to another run."""
        path = plan.folder / cls.FILE
        if not path.is_file():
            done = training_record.finished(plan.folder, plan.fingerprint())
            if done is None:
                raise InputError(
                    f"nothing to resume in {plan.folder}: {path} is not there",
                    f"run `deploykit train {plan.architecture.name}`",
                )
            done["checkpoint"] = Path(done["checkpoint"])
            return cls(finished=TrainingResult(**done))
        content = checkpoint.read_resume(path)
        try:
            kept, tensors = content["state"], content["tensors"]
            if kept["fingerprint"] != plan.fingerprint():
                raise InputError(
                    f"{path} belongs to another run: {_difference(kept['fingerprint'], plan.fingerprint())}",
                    "use the options of that run, or another --out",
                )
            names = ("epoch", "seconds", "history", "best_epoch", "best_value", "stale")
            return cls(**{n: kept[n] for n in names}, best=tensors["best"], tensors=tensors)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is damaged ({type(error).__name__})", "train without --resume") from error

    def restore(self, network: nn.Module, optimizer: Any, scheduler: Any) -> None:
        """Put weights, optimizer and schedule back."""
        if self.tensors:
            network.load_state_dict(self.tensors["network"])
            optimizer.load_state_dict(self.tensors["optimizer"])
            scheduler.load_state_dict(self.tensors["scheduler"])

    def record(self, epoch: int, loss: float, validation: float, network: nn.Module, seconds: float, plan: Plan) -> None:
        """Take in an epoch's result; keep its weights if they are the best so far (on a tie the later ones: lower loss)."""
        self.epoch, self.seconds = epoch + 1, seconds
        metric = "validation_accuracy" if plan.classification else "validation_mse"
        self.history.append({"epoch": epoch + 1, "loss": loss, metric: validation, "seconds": seconds})
        better = math.isnan(self.best_value) or _no_worse(validation, self.best_value, plan.classification)
        self.stale = 0 if better and validation != self.best_value else self.stale + 1
        if better:
            self.best_value, self.best_epoch = validation, epoch + 1
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}

    def save(self, plan: Plan, network: nn.Module, optimizer: Any, scheduler: Any) -> None:
        """The best weights as a checkpoint of their own, then all that is needed to go on."""
        if self.best_epoch == self.epoch:
            name = "accuracy" if plan.classification else "mse"
            kept = _checkpoint(plan, network, {"validation": self.best_value, "metric": name, "epoch": self.best_epoch})
            checkpoint.save_checkpoint(kept, plan.folder / checkpoint.NAME)
        names = ("epoch", "seconds", "history", "best_epoch", "best_value", "stale")
        state = {**{n: getattr(self, n) for n in names}, "fingerprint": plan.fingerprint()}
        tensors = {"network": network.state_dict(), "best": self.best}
        tensors |= {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
        with files.replacing(plan.folder / self.FILE) as temporary:
            torch.save({"state": state, "tensors": tensors}, temporary)


class _Order(Sampler[list[int]]):
    """Batches of indices in an order that (seed, epoch) decides. A last batch of one is left out: BatchNorm needs two."""

    def __init__(self, samples: int, batch_size: int, seed: int) -> None:
        self.samples, self.batch_size, self.seed, self.epoch = samples, min(batch_size, samples), seed, 0
        self.drop_last = False

    def __len__(self) -> int:
        whole, rest = divmod(self.samples, self.batch_size)
        return whole + (1 if rest > 1 or (rest == 1 and self.batch_size == 1) else 0)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.Generator(np.random.PCG64([self.seed, self.epoch])).permutation(self.samples)
        for step in range(len(self)):
            yield order[step * self.batch_size : (step + 1) * self.batch_size].tolist()


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer | None:
    """`None` where there is nothing to learn."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        return None
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
        case "adam":
            return torch.optim.Adam(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    raise InputError(f"unknown optimizer {recipe.optimizer!r}", "choose sgd, adam or adamw")


def _schedule(recipe: Recipe, steps_per_epoch: int) -> Any:
    """The factor on the learning rate at each step; see `Recipe.schedule`."""
    total = max(1, recipe.epochs * steps_per_epoch)

    def factor(step: int) -> float:
        done = min(step / total, 1.0)
        if recipe.schedule == "constant":
            return 1.0
        if recipe.schedule == "one-cycle":
            if done < 0.3:
                return 0.04 + 0.96 * (1 - math.cos(math.pi * done / 0.3)) / 2
            done = (done - 0.3) / 0.7
        return (1 + math.cos(math.pi * done)) / 2

    return factor


def _fit_arguments(architecture: Architecture, dataset: Dataset, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments to build with, complete; `classes` follows the dataset unless the user sets it."""
    fitted = {**architecture.defaults, **arguments}
    count = len(dataset.classes) if dataset.classes else None
    if count and "classes" in architecture.defaults and "classes" not in arguments:
        fitted["classes"] = count
    if count and isinstance(fitted.get("classes"), int) and fitted["classes"] < count:
        raise InputError(
            f"{dataset.name} has {count} classes, --arg classes={fitted['classes']} is too few", f"use classes={count}"
        )
    return fitted


def _initialize(network: nn.Module, path: Path, plan: Plan) -> None:
    """Weights to start from; where the number of classes differs, the tensors that have one row per class start fresh."""
    given = checkpoint.read_weights(path)
    wanted = network.state_dict()
    classes = plan.arguments.get("classes")
    for name, tensor in wanted.items():
        found = given.get(name)
        if (
            found is not None
            and found.shape != tensor.shape
            and found.shape[1:] == tensor.shape[1:]
            and tensor.shape[:1] == (classes,)
        ):
            given[name] = tensor
    checkpoint.load_weights(network, given, str(path))


def is_main_process() -> bool:
    """Whether this process is the one of a `torchrun` that speaks and writes; true without torchrun."""
    return os.environ.get("RANK", "0") == "0"


def _accelerator(device: str, precision: str, recipe: Recipe) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DataLoaderConfiguration

    modes = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}
    if precision not in modes:
        raise InputError(f"unknown precision {precision!r}", f"choose one of {', '.join(modes)}")
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"unknown device {device!r}", "choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable(
            "training on cuda was asked for, but PyTorch sees no CUDA device",
            "run `deploykit doctor`, or use --device cpu",
        )
    if device != "cpu" and precision == "fp16" and not torch.cuda.is_available():
        raise InputError("fp16 training needs a CUDA device", "use --precision bf16 or fp32")
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)  # accelerate keeps the options of the first run in a process
    accelerator = Accelerator(
        # Said outright where there is no accelerator: only then does accelerate share the work of a `torchrun` between CPUs.
        cpu=device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available()),
        mixed_precision=modes[precision],
        # The recipe's batch is the whole batch, however many processes share it.
        dataloader_config=DataLoaderConfiguration(split_batches=True, even_batches=True),
    )
    if recipe.batch_size % accelerator.num_processes:
        raise InputError(
            f"a batch of {recipe.batch_size} cannot be shared evenly by {accelerator.num_processes} processes",
            "choose another --batch-size",
        )
    return accelerator


class _deterministic:  # noqa: N801
    """The same sums in the same order inside the block; the caller's settings come back after it."""

    def __enter__(self) -> None:
        self._algorithms = torch.are_deterministic_algorithms_enabled()
        self._warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        self._benchmark = torch.backends.cudnn.benchmark
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False

    def __exit__(self, *_: object) -> None:
        torch.use_deterministic_algorithms(self._algorithms, warn_only=self._warn_only)
        torch.backends.cudnn.benchmark = self._benchmark


def _background(rules: Any) -> Tensor:
    """The value that the background has after preprocessing, per channel."""
    if not isinstance(rules, ImageInput):
        return torch.zeros(1)
    return (rules.background * rules.scale - torch.tensor(rules.mean)) / torch.tensor(rules.std)


def _shard(samples: int, processes: int, process: int) -> Iterator[list[int]]:
    indices = list(range(process, samples, processes))
    for start in range(0, len(indices), EVALUATION_BATCH):
        yield indices[start : start + EVALUATION_BATCH]


def _mix(*parts: int) -> int:
    """One seed out of several numbers, far apart for neighbours."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _no_worse(value: float, best: float, higher_is_better: bool) -> bool:
    return value >= best if higher_is_better else value <= best


def _as_is(batch: Any) -> Any:
    return batch


def _difference(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    for key, value in wanted.items():
        if kept.get(key) != value:
            if isinstance(value, dict) and isinstance(kept.get(key), dict):
                return f"{key}, {_difference(kept[key], value)}"
            return f"its {key} is {kept.get(key)!r}, not {value!r}"
    return "it has more options"
