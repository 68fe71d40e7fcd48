"""Does deploykit's training loop cost anything beside a bare PyTorch loop? Same network, data, batch and optimizer.

    python benchmarks/training_throughput.py [--rounds 21] [--format json]

Each round trains a few epochs with both, one after the other and in turn first; the figure is the median over rounds of
(samples per second of deploykit) / (samples per second of the bare loop), with the smallest and the largest round beside it.
Preparing the data and the network is not part of either side, evaluation neither.

Expected before measuring: 0.95 to 1.0 for lenet5, whose steps take about a millisecond, and 1.0 for resnet18.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import replace
from typing import Any

import click
import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from deploykit import architectures, datasets
from deploykit.progress import SILENT
from deploykit.training.batches import Batches
from deploykit.training.loop import _as_is, _train_epoch
from deploykit.training.optimization import Optimization, Order, optimizer_of, schedule
from deploykit.training.plan import Plan
from deploykit.training.processes import Deterministic, Interruptible, processes_for

EPOCHS = {"lenet5": 5, "resnet18": 1}


def bare(plan: Plan, batches: Batches, epochs: int) -> float:
    """Samples per second of the loop that anybody would write: tensors in memory, a permutation, forward, backward, step."""
    torch.manual_seed(0)
    network = plan.architecture.create(plan.arguments).train()
    optimizer = optimizer_of(network, plan.recipe)
    scheduler = LambdaLR(optimizer, schedule(plan.recipe, len(batches) // plan.recipe.batch_size + 1))
    inputs, targets = batches.__getitems__(list(range(len(batches))))
    began = time.perf_counter()
    for _ in range(epochs):
        for indices in torch.randperm(len(inputs)).split(plan.recipe.batch_size):
            if len(indices) > 1:
                loss = F.cross_entropy(network(inputs[indices]), targets[indices])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
    return epochs * len(inputs) / (time.perf_counter() - began)


def ours(plan: Plan, batches: Batches, epochs: int) -> float:
    """Samples per second of deploykit's epochs, through its loader and its step."""
    torch.manual_seed(0)
    network = plan.architecture.create(plan.arguments)
    processes = processes_for("cpu", "fp32", plan.recipe)
    order = Order(len(batches), plan.recipe.batch_size, 0)
    loader = DataLoader(batches, batch_sampler=order, collate_fn=_as_is)
    optimizer = optimizer_of(network, plan.recipe)
    optimization = Optimization(optimizer, LambdaLR(optimizer, schedule(plan.recipe, len(order))), processes.scaler())
    began = time.perf_counter()
    with Deterministic(), Interruptible() as interrupt:
        for epoch in range(epochs):
            order.epoch = epoch
            _train_epoch(network, loader, optimization, plan, processes, SILENT, interrupt)
    return epochs * len(batches) / (time.perf_counter() - began)


def measure(name: str, rounds: int) -> dict[str, Any]:
    architecture = architectures.get(name)
    # Augmentation is work that the bare loop would have to do too; it is left out on both sides.
    recipe = replace(architecture.recipe, augment="none", epochs=EPOCHS[name])
    plan = Plan(architecture, recipe, datasets.load("digits"), architecture.defaults, 0, "fp32", None, None, None)  # type: ignore[arg-type]
    batches = Batches(plan.dataset.train, plan.input)
    ratios = []
    for index in range(rounds + 1):
        pair = {}
        for side in (bare, ours) if index % 2 else (ours, bare):
            pair[side.__name__] = side(plan, batches, EPOCHS[name])
        if index:  # the first round warms up
            ratios.append(pair["ours"] / pair["bare"])
    return {"network": name, "rounds": rounds, "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


@click.command()
@click.option("--rounds", default=21, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(EPOCHS)), help="Just this network; may be repeated.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
def main(rounds: int, only: tuple[str, ...], form: str) -> None:
    """Compare the loops on lenet5 and resnet18."""
    title = f"deploykit's training throughput / a bare loop's, {torch.get_num_threads()} threads, torch {torch.__version__}"
    click.echo(title, err=form == "json")
    rows = []
    for name in only or EPOCHS:
        row = measure(name, rounds)
        rows.append(row)
        line = f"{name:10} {row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}] over {rounds} rounds"
        click.echo(line, err=form == "json")  # as they come: a round of resnet18 can take a minute
    if form == "json":
        click.echo(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
