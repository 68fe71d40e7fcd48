"""The networks of the first chapters on real MNIST digits, beside what their owner reached: the runs, and the table of them.

Three ways to train: "owner" (1,000 training images, 5 epochs, batches of 64, plain SGD at the owner's learning rate, nothing
else), "recipe" (1,000 images, all else by the recipe that ships) and "all" (every training image, by the recipe). A tenth of the
training file is held out beside them, to choose the epoch whose weights are kept.

Expected before measuring, test accuracy:

========================  ==========  ===========  ===========  ===========
network                   its owner   owner        recipe       all
========================  ==========  ===========  ===========  ===========
lenet (sigmoid)           -           ~ 0.10       0.85 - 0.94  >= 0.96
lenet5                    0.87        0.80 - 0.92  >= 0.94      >= 0.98
resnet18-plain            0.81        0.50 - 0.88  >= 0.88      >= 0.97
resnet18                  0.88        0.80 - 0.93  >= 0.94      >= 0.985
========================  ==========  ===========  ===========  ===========

and resnet18 above resnet18-plain on the mean of the seeds in each of the three, and for each seed of the first two. (Known by
then from one trial: in 5 epochs its recipe brings lenet5 to 0.737 and lenet to 0.13. They are made for 25 and 40.)
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from deploykit import architectures
from deploykit.architectures import Recipe

# The learning rates of the owner's runs; lenet's is that of the owner's run on Fashion-MNIST.
RATES = {"lenet": 0.1, "lenet5": 0.1, "resnet18-plain": 0.005, "resnet18": 0.01}
NETWORKS = ("lenet", "lenet5", "resnet18-plain", "resnet18")
OWNER = {"lenet5": 0.87, "resnet18-plain": 0.81, "resnet18": 0.88}  # MNIST, 1,000 training images, 5 epochs, batches of 64
WAYS: dict[str, dict[str, Any]] = {
    "owner": {"limit": 1000},
    "recipe": {"limit": 1000},
    "all": {},
}
TITLES = {"owner": "1,000 images, owner's recipe", "recipe": "1,000 images, our recipe", "all": "all images, our recipe"}


@dataclass(frozen=True)
class Run:
    """One training: its place in the document is `key`."""

    network: str
    way: str
    seed: int

    @property
    def key(self) -> str:
        """Such as "lenet5, owner, seed 0"."""
        return f"{self.network}, {self.way}, seed {self.seed}"


def _as_owner(network: str) -> str:
    """The name under which a network is registered with its owner's recipe."""
    name = f"{network}-as-owner"
    if name not in architectures.names():
        kept = architectures.get(network)
        recipe = Recipe(optimizer="sgd", lr=RATES[network], momentum=0.0, schedule="constant", epochs=5, batch_size=64)
        architectures.register(name, input=kept.input, recipe=recipe)(kept.build)
    return name


def runs(seeds: int) -> Iterator[Run]:
    """Every run, the most telling ones first: a table that is stopped early should say something of each row."""
    yield from (Run(network, "recipe", seed) for seed in range(seeds) for network in NETWORKS)
    yield from (Run(network, "all", 0) for network in NETWORKS)
    yield from (Run(network, "owner", seed) for seed in range(seeds) for network in NETWORKS)
    yield from (Run(network, "all", seed) for seed in range(seeds) for network in NETWORKS)


def measure(
    found: dict[str, Any],
    data: str,
    seeds: int,
    only: tuple[str, ...],
    trained: Callable[..., dict[str, Any]],
    keep: Callable[[], None],
) -> None:
    """Do what `found` does not have yet; `keep` is called after each run, so that a run that is stopped loses one at most."""
    for run in runs(seeds):
        if run.key in found or (only and run.network not in only):
            continue
        name = _as_owner(run.network) if run.way == "owner" else run.network
        row = trained(name, data=data, seed=run.seed, **WAYS[run.way])
        found[run.key] = {"test": row["test"], "epochs": row["epochs"], "seconds": row["seconds"]}
        print(f"{run.key:36} {row['test']:.4f}  {row['seconds']:.0f} s", flush=True)
        keep()


def lines(found: dict[str, Any]) -> list[str]:
    """The table in Markdown: means over the seeds with their range, and the seeds on which shortcuts won."""
    head = ["network", "its owner", *TITLES.values()]
    rows = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for network in NETWORKS:
        owner = f"{OWNER[network]:.1%}" if network in OWNER else "-"
        cells = [_cell([value for _, value in _values(found, network, way)]) for way in WAYS]
        rows.append(f"| `{network}` | {owner} | {' | '.join(cells)} |")
    rows += ["", *(line for way in WAYS for line in _shortcuts(found, way))]
    return rows


def _values(found: dict[str, Any], network: str, way: str) -> list[tuple[int, float]]:
    numbered = ((seed, found.get(Run(network, way, seed).key)) for seed in range(100))
    return [(seed, row["test"]) for seed, row in numbered if row]


def _cell(values: list[float]) -> str:
    if not values:
        return "not measured"
    if len(values) == 1:
        return f"{values[0]:.1%} (1 seed)"
    return f"**{statistics.mean(values):.1%}** ({min(values):.1%} to {max(values):.1%}, {len(values)} seeds)"


def _shortcuts(found: dict[str, Any], way: str) -> Iterator[str]:
    plain, residual = dict(_values(found, "resnet18-plain", way)), dict(_values(found, "resnet18", way))
    both = sorted(plain.keys() & residual.keys())
    if both:
        wins = sum(residual[seed] > plain[seed] for seed in both)
        apart = statistics.mean(residual[seed] - plain[seed] for seed in both)
        yield f"- {TITLES[way]}: `resnet18` above `resnet18-plain` on {wins} of {len(both)} seeds, by {100 * apart:+.1f} points on average."
