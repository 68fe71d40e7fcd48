"""Training: a recipe and a loop become a checkpoint, a history and a picture of the curves.

Read it from top to bottom: `train` prepares, `_run` is the loop, the rest are its steps. Everything random in an epoch is
drawn from (seed, epoch), so a run that was killed and resumed makes the same weights, bit for bit, as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from deploykit import architectures, datasets, files
from deploykit.architectures import ImageInput
from deploykit.errors import DatasetError, TrainingDiverged
from deploykit.network import checkpoint
from deploykit.progress import SILENT, Progress
from deploykit.training import record
from deploykit.training.augment import augment
from deploykit.training.batches import Batches
from deploykit.training.optimization import Order, mix, optimizer_of, schedule
from deploykit.training.plan import Plan, checkpoint_of, fit_arguments, initialize
from deploykit.training.processes import Deterministic, Interruptible, accelerator_for, agree, prepare, shard
from deploykit.training.result import TrainingResult
from deploykit.training.state import State

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECK_LOSS_EVERY = 25  # steps; reading the loss makes a GPU wait


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
    fresh). `resume`: go on where an interrupted run into the same folder stopped. Without it, what an earlier run left in
    `out` is kept: it moves to ``previous-1`` (or the next number) in there when the first epoch of this run is done.

    Raises `UnknownName`, `InputError`, `DatasetError`, `CheckpointError` before anything is written, `OutputError` for a
    folder that cannot be written, `TrainingDiverged` when the loss is no longer finite, `DeviceUnavailable`.
    """
    architecture = architectures.get(name)
    chosen = {"dataset": data, "epochs": epochs, "batch_size": batch_size, "lr": lr}
    changes: dict[str, Any] = {k: v for k, v in chosen.items() if v is not None}
    recipe = replace(architecture.recipe, **changes)
    dataset = datasets.load(recipe.dataset, limit)
    arguments = fit_arguments(architecture, dataset, arguments or {})
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
        initialize(network, init, plan)
    files.writable_file(folder / checkpoint.NAME)
    state = State.load(plan, network) if resume else State()
    if state.finished is not None:
        return state.finished
    accelerator = accelerator_for(device, precision, recipe)
    with Deterministic():
        return _run(plan, network, state, accelerator, progress)


def _run(plan: Plan, network: nn.Module, state: State, accelerator: Accelerator, progress: Progress) -> TrainingResult:
    began = time.perf_counter() - state.seconds
    recipe, dataset = plan.recipe, plan.dataset
    progress.start(f"reading {dataset.name}")
    batches = {name: Batches(getattr(dataset, name), plan.input) for name in ("train", "validation", "test")}
    order = Order(len(dataset.train), recipe.batch_size, plan.seed)
    loader = DataLoader(batches["train"], batch_sampler=order, collate_fn=_as_is)
    optimizer = optimizer_of(network, recipe)
    scheduler = LambdaLR(optimizer, schedule(recipe, len(order))) if optimizer else None
    state.restore(network, optimizer, scheduler)
    model: nn.Module = network
    if optimizer is not None:
        model, optimizer, loader = prepare(network, optimizer, loader, accelerator)
        progress.start(f"training {plan.architecture.name}", recipe.epochs * len(order))
        progress.advance(state.epoch * len(order))
        with Interruptible() as interrupt:
            for epoch in range(state.epoch, recipe.epochs):
                if plan.patience is not None and state.stale >= plan.patience:
                    break
                order.epoch = epoch
                torch.manual_seed(mix(plan.seed, epoch, accelerator.process_index))
                loss = _train_epoch(model, loader, optimizer, scheduler, plan, accelerator, progress, interrupt)
                agree(network, accelerator)
                validation = _evaluate(network, batches["validation"], plan, accelerator)
                state.record(epoch, loss, validation, network, time.perf_counter() - began, plan)
                if accelerator.is_main_process:
                    state.save(plan, network, optimizer, scheduler)
                accelerator.wait_for_everyone()
    if state.best is not None:
        network.load_state_dict(state.best)
        agree(network, accelerator)
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
    interrupt: Interruptible,
) -> float:
    """One pass over the training split; gives the mean loss. Raises `TrainingDiverged`."""
    model.train()
    fill = background(plan.input)
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
        interrupt.check()
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


@torch.no_grad()
def _evaluate(network: nn.Module, batches: Batches, plan: Plan, accelerator: Accelerator) -> float:
    """Accuracy (0..1) or mean squared error over a split; every sample is counted once, in whatever process it lands."""
    network.eval()
    right = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    for indices in shard(len(batches), accelerator.num_processes, accelerator.process_index):
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
    plan: Plan, network: nn.Module, state: State, metrics: dict[str, float], seconds: float, accelerator: Accelerator
) -> TrainingResult:
    metric = "accuracy" if plan.classification else "mse"
    path = plan.folder / checkpoint.NAME
    if accelerator.is_main_process:
        state.begin(plan.folder)
    previous = Path(state.previous) if state.previous else None
    result = TrainingResult(plan.architecture.name, path, state.epoch, seconds, metric, metrics, state.history, previous)
    if accelerator.is_main_process:
        weights = checkpoint_of(plan, network, {**metrics, "metric": metric, "epoch": state.best_epoch})
        checkpoint.save_checkpoint(weights, path)
        record.write(plan.folder, result.document(), plan.fingerprint(), weights.versions)
        (plan.folder / State.FILE).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return result


def background(rules: Any) -> Tensor:
    """The value that the background has after preprocessing, per channel."""
    if not isinstance(rules, ImageInput):
        return torch.zeros(1)
    return (rules.background * rules.scale - torch.tensor(rules.mean)) / torch.tensor(rules.std)


def _as_is(batch: Any) -> Any:
    return batch
