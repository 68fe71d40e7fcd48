"""Training: a recipe and a loop become a checkpoint, a history and a picture of the curves.

Read it from top to bottom: `train` prepares, `_run` is the loop, the rest are its steps. Everything random in an epoch is
drawn from (seed, epoch), so a run that was killed and resumed makes the same weights, bit for bit, as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from deploykit import arguments as read
from deploykit import files
from deploykit.architectures import ImageInput
from deploykit.arguments import StrPath
from deploykit.errors import DatasetError, TrainingDiverged
from deploykit.network import checkpoint, heads
from deploykit.network.own import is_own
from deploykit.network.running import seeded
from deploykit.progress import Progress
from deploykit.training import record, score
from deploykit.training.augment import augment, augment_pair
from deploykit.training.batches import Batches
from deploykit.training.card import Background
from deploykit.training.optimization import Optimization, Order, mix, optimizer_of, schedule
from deploykit.training.plan import Plan, checkpoint_of, plain
from deploykit.training.preparing import begun, body_of, goal_of, name_of, of_architecture, of_own, require_pixels, size, unit
from deploykit.training.processes import Deterministic, Interruptible, Processes, processes_for, together, world_size
from deploykit.training.result import TrainingResult
from deploykit.training.score import Score
from deploykit.training.state import State
from deploykit.training.statistics import recount
from deploykit.training.tasks import score_of

CHECK_LOSS_EVERY = 25  # steps; reading the loss makes a GPU wait


def train(
    name: str,
    *,
    data: StrPath | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "fp32",
    init: StrPath | None = None,
    resume: bool = False,
    patience: int | None = None,
    out: StrPath | None = None,
    arguments: Mapping[str, Any] | None = None,
    image: int | str | Sequence[int] | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a network; write ``model.safetensors``, history, curves and a card into `out`.

    `name`: an architecture, which has a recipe; or `torchvision:NAME` or your own `package.module:callable`, which learn from
    `data` by a recipe for any network. Such a one gets a head for the classes or values of the data, and images of a size that it
    takes: `image`, pixels of a side or (height, width), where that is not found out. With `init` its body stays as it is in the
    first epoch.

    Anything left at `None` comes from the recipe. Where `data` has images in colour and `arguments` do not say `in_channels`, the
    network gets 3 of them if it can, and the result's `notes` say so.

    `limit`: at most so many training samples. `patience`: stop after so many epochs without a better validation metric. `init`:
    weights to start from (a head for another number of classes starts fresh). `resume`: go on where an interrupted run into the
    same folder stopped; where `torchrun` starts its processes again because one was lost, that happens by itself. Without it, what
    an earlier run left in `out` is kept: it moves to ``previous-1`` (or the next number) in there when the first epoch of this run
    is done.

    Raises `UnknownName`, `InputError`, `DatasetError`, `CheckpointError` before anything is written, `OutputError` for a
    folder that cannot be written, `TrainingDiverged` when the loss or a metric is no longer finite, `DeviceUnavailable`.
    """
    name = name_of(name)
    lr, limit, patience = read.real(lr, "lr", above=True), read.whole(limit, "limit", 1), read.whole(patience, "patience", 1)
    epochs, batch_size = read.whole(epochs, "epochs"), read.whole(batch_size, "batch_size", 1)
    init, home, told = read.path_or_none(init, "init"), read.path_or_none(out, "out"), read.progress(progress)
    device, precision = read.text(device, "device", "auto"), read.text(precision, "precision", "fp32")
    resume, arguments = read.flag(resume, "resume"), read.keywords(arguments, "arguments")
    source = None if data is None else str(read.path(data, "data"))
    chosen = {"dataset": source, "epochs": epochs, "batch_size": batch_size, "lr": lr}
    changes: dict[str, Any] = {k: plain(v) for k, v in chosen.items() if v is not None}
    asked = (name, source, plain(arguments or {}), init, plain(limit), changes, size(image), plain(seed))
    own = is_own(name)
    architecture, recipe, dataset, arguments, head, last, notes = of_own(*asked) if own else of_architecture(*asked)
    folder = home or checkpoint.folder_of(name)
    limits = (plain(limit), plain(patience))
    goal, remarks = goal_of(recipe, dataset, source is not None, head)
    plan = Plan(
        architecture, recipe, dataset, arguments, plain(seed), precision, *limits, folder, (*notes, *remarks), init, goal,
        own, head, last,
    )  # fmt: skip
    plan.check()
    with seeded(plan.seed):
        network = architecture.create(arguments)
        if min(len(dataset.train), recipe.batch_size) <= world_size() and any(isinstance(m, _BatchNorm) for m in network.modules()):
            raise DatasetError(
                f"{name} has BatchNorm, which cannot learn from a batch of one", "use 2 samples or more, and --batch-size 2 or more"
            )
        if goal.task == "segmentation" and not own:
            require_pixels(network, plan)
        if head is not None and head.scaled:
            heads.rescale(network, head, *unit(dataset))
        if init is not None:
            plan = begun(network, init, plan)
        files.writable_file(folder / checkpoint.NAME)
        state = State.load(plan, network) if resume else State()
        if state.finished is not None:
            return state.finished
        processes = processes_for(device, precision, recipe)
        with together(processes), Deterministic():
            if not resume:
                state = State.of_launch(plan, network, processes)
            processes.require_same(state.epoch, folder)
            return _run(plan, network.to(processes.device), state, processes, told)


def _run(plan: Plan, network: nn.Module, state: State, processes: Processes, progress: Progress) -> TrainingResult:
    began = time.perf_counter() - state.seconds
    recipe, dataset = plan.recipe, plan.dataset
    progress.start(f"reading {dataset.name}")
    batches = {name: Batches(getattr(dataset, name), plan.input) for name in ("train", "validation", "test")}
    order = Order(len(dataset.train), recipe.batch_size, plan.seed, processes.rank, processes.world_size)
    loader = DataLoader(batches["train"], batch_sampler=order, collate_fn=_as_is)
    optimizer = optimizer_of(network, recipe)
    if optimizer is not None:
        optimization = Optimization(optimizer, LambdaLR(optimizer, schedule(recipe, len(order))), processes.scaler())
        state.restore(network, optimization)
        progress.start(f"training {plan.architecture.name}", recipe.epochs * len(order))
        progress.advance(state.epoch * len(order))
        with Interruptible() as interrupt:
            for epoch in range(state.epoch, recipe.epochs):
                if plan.patience is not None and state.stale >= plan.patience:
                    break
                order.epoch = epoch
                torch.manual_seed(mix(plan.seed, epoch, processes.rank))
                body = body_of(network, plan) if plan.frozen and epoch == 0 else ([], [])
                model = processes.sharing_gradients(network)
                loss = _train_epoch(model, loader, optimization, plan, processes, progress, interrupt, body)
                del model
                if plan.own and not body[0]:
                    recount(network, batches["train"], processes.device)
                processes.agree(network)
                validation = _evaluate(network, batches["validation"], "validation", plan, processes)
                seconds = time.perf_counter() - began
                state.record(epoch, loss, validation.value, network, seconds, plan, validation.loss)
                if processes.is_main:
                    state.save(plan, network, optimization)
                processes.wait()
    if state.best is not None:
        network.load_state_dict(state.best)
    processes.agree(network)
    scores = {name: _evaluate(network, batches[name], name, plan, processes) for name in ("train", "validation", "test")}
    return _finish(plan, network, state, scores, time.perf_counter() - began, processes)


def _train_epoch(
    model: nn.Module,
    loader: Any,
    optimization: Optimization,
    plan: Plan,
    processes: Processes,
    progress: Progress,
    interrupt: Interruptible,
    frozen: tuple[Sequence[nn.Parameter], Sequence[nn.Module]] = ((), ()),
) -> float:
    """One pass over the training split; gives the mean loss. Raises `TrainingDiverged`.

    `frozen`: parameters that do not learn, and modules of which those that count statistics do not either.
    """
    model.train()
    for module in frozen[1]:
        if isinstance(module, _BatchNorm):
            module.eval()
    fill = background(plan.input)
    total, steps = torch.zeros((), device=processes.device), 0
    for batch in loader:
        inputs, targets = (tensor.to(processes.device) for tensor in batch)
        if plan.goal.task == "segmentation":
            inputs, targets = augment_pair(inputs, targets, plan.recipe.augment, fill)
        elif plan.recipe.augment != "none":
            inputs = augment(inputs, plan.recipe.augment, fill)
        with processes.autocast():
            loss = plan.goal.loss(heads.first(model(inputs)), targets)
        optimization.step(loss, plan.recipe.clip_norm, frozen[0])
        total += loss.detach()
        steps += 1
        interrupt.check()
        progress.advance(note=f"loss {float(total) / steps:.4f}" if steps % CHECK_LOSS_EVERY == 0 else "")
        if steps % CHECK_LOSS_EVERY == 0:
            _require_finite(float(total), "loss", plan)
    _require_finite(float(total), "loss", plan)
    return float(total) / max(steps, 1)


def _require_finite(value: float, what: str, plan: Plan) -> None:
    if not math.isfinite(value):
        raise TrainingDiverged(
            f"training {plan.architecture.name}: the {what} is no longer finite; the last good checkpoint stays",
            f"try a smaller --lr than {plan.recipe.lr:g}",
        )


@torch.no_grad()
def _evaluate(network: nn.Module, batches: Batches, split: str, plan: Plan, processes: Processes) -> Score:
    """Accuracy or mean squared error over a split; every sample is counted once, in whatever process it lands.

    In float32, which is how the weights are kept and exported. Raises `TrainingDiverged` where an output is NaN, which
    `argmax` would take for a class, or the error is not finite.
    """
    network.eval()
    goal = plan.goal
    counted = goal.task == "segmentation" or (goal.task == "classification" and split == "test")
    sums: list[Tensor] = []
    pairs: list[Tensor] = []
    classes = 0
    for indices in processes.shard(len(batches)):
        inputs, targets = (tensor.to(processes.device) for tensor in batches.__getitems__(indices))
        outputs = heads.first(network(inputs)).float()
        sums.append(goal.sums(outputs, targets))
        if counted:
            classes = outputs.shape[1]
            pairs.append(goal.pairs(outputs, targets))
    mine = torch.stack(sums).double().sum(dim=0).tolist() if sums else [0.0, 0.0]
    total, loss, samples = processes.total(*mine, len(batches) / processes.world_size)
    found: score.Confusion = ()
    if counted:
        known, by = processes.total(classes, bool(classes))  # a process without samples does not know how many classes there are
        classes = round(known / max(by, 1))
        found = score.confusion(
            processes.total(*(torch.stack(pairs).sum(dim=0).tolist() if pairs else [0.0] * classes**2)), classes
        )
    result = score_of(goal, (total, loss), round(samples), found)
    _require_finite(result.value, f"{split} {plan.metric}", plan)
    return result


def _finish(
    plan: Plan, network: nn.Module, state: State, scores: dict[str, Score], seconds: float, processes: Processes
) -> TrainingResult:
    path = plan.folder / checkpoint.NAME
    metrics = {name: found.value for name, found in scores.items()}
    if processes.is_main:
        state.begin(plan.folder)
    previous = Path(state.previous) if state.previous else None
    result = TrainingResult(
        plan.architecture.name, path, state.epoch, seconds, plan.metric, metrics, state.history, previous, plan.notes
    )
    if processes.is_main:
        weights = checkpoint_of(plan, network, {**metrics, "metric": plan.metric, "epoch": state.best_epoch})
        checkpoint.save_checkpoint(weights, path)
        told = Background(plan.dataset.name, plan.dataset.classes or (), plan.init, state.best_epoch, scores["test"].confusion)
        record.write(plan.folder, result.document(), plan.fingerprint(), weights.versions, told)
        (plan.folder / State.FILE).unlink(missing_ok=True)
    processes.wait()
    return result


def background(rules: Any) -> Tensor:
    """The value that the background has after preprocessing, per channel."""
    if not isinstance(rules, ImageInput):
        return torch.zeros(1)
    return (rules.background * rules.scale - torch.tensor(rules.mean)) / torch.tensor(rules.std)


def _as_is(batch: Any) -> Any:
    return batch
