"""Does the verdict cry wolf? Clean exports of many networks with many seeds, each of which must be called the same network.

    python benchmarks/false_alarms.py               # 20 networks x 10 seeds
    python benchmarks/false_alarms.py --seeds 3 --only lenet5

Fresh weights, and BatchNorm statistics as a trained network has them, are drawn from each seed; the network is exported,
simplified and judged. Expected before measuring: 0 false alarms in 200 runs.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

from deploykit import architectures, simplifier, verdict
from deploykit.exporter import to_onnx
from deploykit.files import write_text
from deploykit.network import target as targets

RESULTS = Path(__file__).parent / "results" / "false_alarms.json"
# Too large to be exported ten times; the sweep over torchvision's networks has larger ones.
LEFT_OUT = ("alexnet", "googlenet", "nin", "vgg11")


def clean(name: str, seed: int) -> verdict.Verdict:
    """The verdict on an honest export."""
    network = targets.resolve(name, untrained=True, seed=seed)
    torch.manual_seed(seed)
    for module in network.module.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    model = to_onnx(network)
    simplified = simplifier.simplified(model, verdict.sample_batches(network))
    return verdict.judge(simplified.model, network, steps=[("export", model), ("simplify", simplified.model)])


@click.command()
@click.option("--seeds", type=click.IntRange(1, 1000), default=10, show_default=True, help="Seeds per network.")
@click.option("--only", multiple=True, type=click.Choice(architectures.names()), help="Just this network; the other rows stay.")
def main(seeds: int, only: tuple[str, ...]) -> None:
    """Run, keep one row per network, count. Exit status 1 for a false alarm."""
    document: dict[str, Any] = json.loads(RESULTS.read_text()) if only and RESULTS.exists() else {"networks": {}}
    for name in only or [name for name in architectures.names() if name not in LEFT_OUT]:
        alarms: list[dict[str, Any]] = []
        largest = 0.0
        for seed in range(seeds):
            found = clean(name, seed)
            if found.errors:
                largest = max(largest, found.errors.onnx_vs_64 / found.errors.tolerance)
            if not found.same:
                alarms.append({"seed": seed, "checks": [c.detail for c in found.checks if not c.passed]})
        document["networks"][name] = {"runs": seeds, "alarms": alarms, "largest_share_of_the_tolerance": round(largest, 3)}
        click.echo(f"{name:24} {len(alarms)} alarms, outputs at most {largest:.2f} of the tolerance", err=True)
    rows = document["networks"].values()
    document["runs"] = sum(row["runs"] for row in rows)
    document["false_alarms"] = sum(len(row["alarms"]) for row in rows)
    document["date"] = date.today().isoformat()
    write_text(RESULTS, json.dumps(document, indent=1) + "\n")
    click.echo(f"{document['false_alarms']} false alarms in {document['runs']} runs")
    raise SystemExit(1 if document["false_alarms"] else 0)


if __name__ == "__main__":
    main()
